from typing import Any

import pytest

from lbipam.localapi import jsonpath

VALUE = {
    "metadata": {"annotations": {"example.com/a": "x"}},
    "list": [{"type": "A", "n": 1}, {"type": "B", "n": 2}],
    "dotted.key": 3,
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".metadata", [VALUE["metadata"]]),
        ("{.list[0].n}", [1]),
        (".list[-1].n", [2]),
        (".list[*].n", [1, 2]),
        ('.list[?(@.type=="B")].n', [2]),
        (".list[?(@.type!='B')].n", [1]),
        (".list[?(@.n==2)].type", ["B"]),
        (r".metadata.annotations.example\.com/a", ["x"]),
        (".metadata.annotations['example.com/a']", ["x"]),
        (r".dotted\.key", [3]),
        (".absent.deep", []),
        (".list[7]", []),
        ("$.list[0].type", ["A"]),
    ],
)
def test_paths(path: str, found: list[Any]) -> None:
    assert jsonpath.parse(path).find(VALUE) == found


@pytest.mark.parametrize("path", [".a[", ".a[?(x)]", ".a b", "..a"])
def test_what_cannot_be_followed_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is not a JSONPath"):
        jsonpath.parse(path)
