"""What a pool sets aside, and which of two pools yields."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.core.ipam.pools import Overlap, conflicts
from tests.builders import block, ip, pool, wants, whole


@pytest.mark.parametrize(
    ("text", "set_aside"),
    [
        ("10.0.0.0/24", ("10.0.0.0", "10.0.0.255")),
        ("10.0.0.0/30", ("10.0.0.0", "10.0.0.3")),
        ("10.0.0.0/31", ()),
        ("10.0.0.0/32", ()),
        ("fd00::/126", ("fd00::", "fd00::3")),
        ("fd00::/127", ()),
        ("fd00::/128", ()),
        ("10.0.0.0-10.0.0.255", ()),
    ],
)
def test_first_and_last_are_set_aside_of_cidrs_with_more_than_two(
    text: str, set_aside: tuple[str, ...]
) -> None:
    ends = tuple(ip(one) for one in set_aside)
    assert block(text).ends(allow_first_last=False) == ends
    assert block(text).ends(allow_first_last=True) == ()
    usable = block(text).usable(allow_first_last=False)
    assert usable.size == block(text).range.size - len(ends)


def test_a_pool_whose_selector_does_not_compile_selects_nobody() -> None:
    broken = pool("p", selector=None)
    assert not broken.selects({})
    assert broken.why_not_selected({}) == "its selector is not valid"


def test_a_pool_tells_which_requirement_a_service_fails() -> None:
    red = pool("p", selector=wants(color="red"))
    assert red.why_not_selected({"color": "blue"}) == "it wants color=red, but it is 'blue'"
    assert red.why_not_selected({"color": "red"}) is None


def test_pools_are_tried_by_priority_then_age_then_name() -> None:
    pools = [
        pool("b", created="2026-01-01T00:00:00Z"),
        pool("a", created="2026-01-02T00:00:00Z"),
        pool("first", created="2026-01-09T00:00:00Z", priority=1),
        pool("last", priority=-1),
        pool("aa", created="2026-01-01T00:00:00Z"),
    ]
    assert [one.name for one in sorted(pools, key=lambda one: one.rank)] == ["first", "aa", "b", "a", "last"]


def test_d04_the_younger_of_two_that_overlap_is_marked() -> None:
    old = pool("z", "10.0.0.0/24", created="2026-01-01T00:00:00Z")
    young = pool("a", "10.9.0.0/24", "10.0.0.128/25", created="2026-01-02T00:00:00Z")
    assert conflicts([young, old]) == {
        "a": Overlap(range=whole("10.0.0.128/25"), other=whole("10.0.0.0/24"), pool="z")
    }


def test_d04_equal_ages_are_settled_by_name() -> None:
    assert set(conflicts([pool("b", "10.0.0.0/24"), pool("a", "10.0.0.0/25")])) == {"b"}


def test_d04_a_marked_pool_stands_in_nobodys_way() -> None:
    a = pool("a", "10.0.0.0/24")
    b = pool("b", "10.0.0.0/23")
    c = pool("c", "10.0.1.0/24")
    assert set(conflicts([a, b, c])) == {"b"}


def test_a_pool_that_overlaps_itself_is_marked() -> None:
    twice = pool("twice", "10.0.0.0/24", "10.0.0.7")
    assert conflicts([twice]) == {
        "twice": Overlap(range=whole("10.0.0.0/24"), other=whole("10.0.0.7"), pool="twice")
    }


def test_ranges_that_touch_do_not_conflict() -> None:
    assert conflicts([pool("a", "10.0.0.0/25"), pool("b", "10.0.0.128/25", "fd00::/64")]) == {}


texts = st.tuples(st.integers(0, 20), st.integers(0, 4)).map(
    lambda pair: f"10.0.0.{pair[0]}-10.0.0.{pair[0] + pair[1]}"
)


@given(st.lists(st.lists(texts, max_size=3), max_size=4))
def test_conflicts_are_a_function_of_the_pools_and_leave_disjoint_ones(blocks: list[list[str]]) -> None:
    pools = [pool(name, *texts) for name, texts in zip("dbca", blocks, strict=False)]
    marked = conflicts(pools)
    for order in permutations(pools):
        assert conflicts(order) == marked
    accepted = [one.range for made in pools if made.name not in marked for one in made.blocks]
    assert not any(one.overlaps(two) for index, one in enumerate(accepted) for two in accepted[index + 1 :])
