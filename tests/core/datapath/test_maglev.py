"""Maglev tables: even, the same everywhere, and steady."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from lbipam.core.datapath import maglev

identities = st.lists(
    st.builds(lambda a, b: f"10.{a}.0.{b} 8080", st.integers(0, 255), st.integers(0, 255)),
    min_size=1,
    max_size=40,
    unique=True,
)


def owners(endpoints: list[str]) -> list[str]:
    return [endpoints[index] for index in maglev.table(tuple(endpoints))]


@given(endpoints=identities, seed=st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_every_order_of_the_endpoints_makes_the_same_table(endpoints: list[str], seed: object) -> None:
    shuffled = sorted(endpoints, key=lambda e: hash((e, repr(seed))))
    assert owners(shuffled) == owners(endpoints)


@given(endpoints=identities)
@settings(max_examples=50, deadline=None)
def test_shares_differ_by_one_slot_at_most(endpoints: list[str]) -> None:
    shares = Counter(owners(endpoints))
    assert shares.keys() == set(endpoints)
    assert max(shares.values()) - min(shares.values()) <= 1


@given(endpoints=identities.filter(lambda e: 2 <= len(e) <= 16), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_removed_endpoint_moves_at_most_its_share_of_the_others_clients(
    endpoints: list[str], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(endpoints))
    before, after = owners(endpoints), owners([e for e in endpoints if e != gone])
    others = [(was, now) for was, now in zip(before, after, strict=True) if was != gone]
    moved = sum(was != now for was, now in others)
    assert moved <= len(others) / len(endpoints)
