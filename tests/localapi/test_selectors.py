import pytest

from lbipam.localapi import selectors
from lbipam.localapi.refusals import ApiError

LABELS = {"color": "red", "tier": "front", "rank": "7"}


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("color=red", True),
        ("color==red", True),
        ("color!=red", False),
        ("size!=big", True),
        ("color", True),
        ("!color", False),
        ("!size", True),
        ("color in (red, blue)", True),
        ("color in (blue)", False),
        ("color notin (blue),tier", True),
        ("size notin (big)", True),
        ("size in (big)", False),
        ("color=red,tier=back", False),
        ("color = red , tier = front", True),
        ("size=", False),
        ("rank>6", True),
        ("rank > 7", False),
        ("rank<8,rank>0", True),
        ("rank<7", False),
        ("color>1", False),
        ("size<1", False),
        ("", True),
    ],
)
def test_label_selectors(text: str, chosen: bool) -> None:
    assert selectors.label_selector(text).matches(LABELS) is chosen


@pytest.mark.parametrize(
    "text",
    [
        "=a",
        "a in b",
        "a in (b",
        "a b",
        "!",
        "a,",
        "a,,b",
        "in (a)",
        "a=(b)",
        "a>",
        "a>b",
        "a>-1",
        "-a=b",
        "a/b/c",
        "a=b_",
        "a in (b,-c)",
        "a=" + "b" * 64,
    ],
)
def test_what_is_no_label_selector_is_refused(text: str) -> None:
    with pytest.raises(ApiError) as refused:
        selectors.label_selector(text)
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("metadata.name=a", True),
        ("metadata.name==a,type!=B", True),
        ("type=B", False),
        ("absent=", True),
        ("", True),
    ],
)
def test_field_selectors(text: str, chosen: bool) -> None:
    assert selectors.field_selector(text).matches({"metadata.name": "a", "type": "A"}) is chosen


def test_what_is_no_field_selector_is_refused() -> None:
    with pytest.raises(ApiError):
        selectors.field_selector("metadata.name")
