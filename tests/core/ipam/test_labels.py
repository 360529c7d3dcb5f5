"""Selectors match as Kubernetes' do, and say what failed."""

import pytest

from lbipam.core.ipam.labels import EVERYTHING, Operator, Requirement, Selector

RED = {"color": "red", "tier": "", "rank": "7"}


@pytest.mark.parametrize(
    ("requirement", "matches"),
    [
        (Requirement("color", Operator.IN, ("red", "blue")), True),
        (Requirement("color", Operator.IN, ("blue",)), False),
        (Requirement("size", Operator.IN, ("big",)), False),
        (Requirement("color", Operator.NOT_IN, ("red",)), False),
        (Requirement("color", Operator.NOT_IN, ("blue",)), True),
        (Requirement("size", Operator.NOT_IN, ("big",)), True),
        (Requirement("tier", Operator.EXISTS), True),
        (Requirement("size", Operator.EXISTS), False),
        (Requirement("tier", Operator.DOES_NOT_EXIST), False),
        (Requirement("size", Operator.DOES_NOT_EXIST), True),
        (Requirement("rank", Operator.GREATER, ("6",)), True),
        (Requirement("rank", Operator.GREATER, ("7",)), False),
        (Requirement("rank", Operator.LESS, ("10",)), True),
        (Requirement("rank", Operator.LESS, ("-1",)), False),
        (Requirement("color", Operator.LESS, ("10",)), False),
        (Requirement("size", Operator.GREATER, ("0",)), False),
    ],
)
def test_each_operator(requirement: Requirement, matches: bool) -> None:
    selector = Selector((requirement,))
    assert selector.matches(RED) is matches
    assert (selector.why_not(RED) is None) is matches


def test_all_requirements_must_hold() -> None:
    selector = Selector(
        (Requirement("color", Operator.IN, ("red",)), Requirement("size", Operator.IN, ("big",)))
    )
    assert not selector.matches(RED)
    assert selector.matches(RED | {"size": "big"})


def test_an_empty_selector_matches_everything() -> None:
    assert EVERYTHING.matches({})
    assert str(EVERYTHING) == "everything"


@pytest.mark.parametrize(
    ("key", "operator", "values"),
    [
        ("", Operator.EXISTS, ()),
        ("color", Operator.IN, ()),
        ("color", Operator.NOT_IN, ()),
        ("color", Operator.EXISTS, ("red",)),
        ("color", Operator.DOES_NOT_EXIST, ("red",)),
        ("rank", Operator.GREATER, ()),
        ("rank", Operator.GREATER, ("1", "2")),
        ("rank", Operator.LESS, ("ten",)),
        ("rank", Operator.LESS, ("1" * 5000,)),
    ],
)
def test_a_requirement_that_does_not_compile_is_refused(
    key: str, operator: Operator, values: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=r"."):
        Requirement(key, operator, values)


@pytest.mark.parametrize(
    ("requirement", "text"),
    [
        (Requirement("color", Operator.IN, ("blue",)), "it wants color=blue, but it is 'red'"),
        (Requirement("color", Operator.IN, ("a", "b")), "it wants color in (a,b), but it is 'red'"),
        (Requirement("color", Operator.NOT_IN, ("red",)), "it wants color notin (red), but it is 'red'"),
        (Requirement("size", Operator.EXISTS), "it wants size, but there is no such label"),
        (Requirement("rank", Operator.GREATER, ("7",)), "it wants rank>7, but it is '7'"),
        (Requirement("rank", Operator.LESS, ("7",)), "it wants rank<7, but it is '7'"),
        (Requirement("color", Operator.DOES_NOT_EXIST), "it wants !color, but it is 'red'"),
    ],
)
def test_the_requirement_that_fails_is_told(requirement: Requirement, text: str) -> None:
    assert Selector((requirement,)).why_not(RED) == text
