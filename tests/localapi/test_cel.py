from typing import Any

import pytest

from lbipam.localapi import cel

SELF: dict[str, Any] = {
    "n": 3,
    "m": 5,
    "text": "fe80::1",
    "list": [1, 2, 3],
    "words": ["a", "b"],
    "inner": {"x": True},
    "items": [{"k": "a", "v": 1}, {"k": "b", "v": 2}],
}


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("self.n <= self.m", True),
        ("self.n + 2 * 3 == 9", True),
        ("(self.n + 2) * 3 == 15", True),
        ("-self.n < 0 && !(self.n > 4)", True),
        ("self.m / 2 == 2 && self.m % 2 == 1", True),
        ("has(self.inner) && has(self.inner.x) && !has(self.inner.y)", True),
        ("!has(self.absent) || self.absent.startsWith('x')", True),
        ("has(self.absent) && self.absent == 1", False),
        ("self.text.startsWith('fe80:') || self.text.startsWith('FE80:')", True),
        ("self.text.endsWith('::1') && self.text.contains('80') && self.text.matches('^fe[89ab]')", True),
        ("size(self.list) == 3 && self.list.size() == 3", True),
        ("self.list.all(x, x > 0)", True),
        ("self.list.exists(x, x == 2) && !self.list.exists(x, x == 9)", True),
        ("self.list.exists_one(x, x > 2)", True),
        ("self.list.filter(x, x > 1).map(x, x * 10) == [20, 30]", True),
        ("self.items.all(i, self.items.exists_one(j, j.k == i.k))", True),
        ("2 in self.list && !('c' in self.words)", True),
        ("'n' in self", True),
        ("self.list[0] == 1 && self['n'] == 3", True),
        ("self.n > 2 ? self.inner.x : false", True),
        ('self.words[0] == "a" && r"\\d" != "d"', True),
        ("self.absent == 1 || true", True),
        ("true || self.absent == 1", True),
        ("string(self.n) == '3' && int('4') == 4", True),
        ("null == null", True),
    ],
)
def test_expressions(rule: str, wanted: bool) -> None:
    assert cel.compiled(rule)({"self": SELF}) is wanted


@pytest.mark.parametrize(
    "rule",
    ["self.absent == 1", "self.n < 'a'", "self.list[9] == 1", "!self.n", "self.n / 0 == 1", "other == 1"],
)
def test_an_expression_without_a_value_here_is_told_apart(rule: str) -> None:
    with pytest.raises(cel.EvaluationError):
        cel.compiled(rule)({"self": SELF})


@pytest.mark.parametrize(
    "rule", ["quantity(self.n)", "self.n ==", "self.text.find('x')", "self.(n)", "a b", "@", "(self"]
)
def test_what_is_not_known_is_refused(rule: str) -> None:
    with pytest.raises(cel.UnknownError):
        cel.compiled(rule)
