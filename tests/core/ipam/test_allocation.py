"""Stories of Services and pools: who keeps, gets and is refused what, and why."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbipam.core.ipam.addresses import format_address
from lbipam.core.ipam.allocation import (
    ChangeAmongSharers,
    ChangeAt,
    Decision,
    FreeAddressIn,
    Reason,
    RoomInQuota,
    decide,
    why_unlawful,
)
from lbipam.core.ipam.ledger import Ledger
from lbipam.core.ipam.pools import Pool
from lbipam.core.ipam.services import ALONE, Service
from lbipam.core.ipam.sharing import Group
from tests.builders import V4, V6, ip, key, ledger, pool, reservation, service, shares, wants


def serve(made: Ledger, one: Service) -> Decision:
    """Decide and write it down, as if the status were written at once."""
    made.refresh(one.key, one.sharing)
    decision = decide(one, made)
    for address in decision.granted:
        made.claim(one.key, address, one.sharing)
    for address in (*(dropped.address for dropped in decision.dropped), *decision.superseded):
        made.release(one.key, address)
    return decision


def has(made: Ledger, one: Service) -> list[str]:
    """What the Service has after being served."""
    serve(made, one)
    return [format_address(address) for address in made.claims_of(one.key)]


def refused(made: Ledger, one: Service) -> list[Reason]:
    return [refusal.reason for refusal in serve(made, one).refusals]


# --- generic requests --------------------------------------------------------------------------------------


def test_the_lowest_address_is_given_and_kept() -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    assert has(made, service("a")) == ["10.0.0.0"]
    assert has(made, service("b")) == ["10.0.0.1"]
    assert has(made, service("a")) == ["10.0.0.0"]


def test_each_family_gets_an_address_maybe_of_different_pools() -> None:
    made = ledger(pool("v4", "10.0.0.0/30"), pool("v6", "fd00::/64"))
    assert has(made, service("a", families=(V4, V6))) == ["10.0.0.0", "fd00::"]


def test_a_family_that_cannot_be_had_is_refused_and_the_other_given() -> None:
    made = ledger(pool("v4", "10.0.0.0/30"))
    decision = serve(made, service("a", families=(V4, V6)))
    assert [format_address(one) for one in decision.granted] == ["10.0.0.0"]
    assert [(one.reason, one.family) for one in decision.refusals] == [(Reason.NO_POOL, V6)]


def test_d06_every_failing_family_is_told() -> None:
    decision = serve(ledger(), service("a", families=(V4, V6)))
    assert [(one.reason, one.family) for one in decision.refusals] == [
        (Reason.NO_POOL, V4),
        (Reason.NO_POOL, V6),
    ]


def test_a_full_pool_says_so_and_what_would_help() -> None:
    made = ledger(pool("p", "10.0.0.0/32"), pool("q", "fd00::/64"))
    serve(made, service("a"))
    decision = serve(made, service("b", sharing=shares("k", 80)))
    assert decision.refusals[0].reason is Reason.OUT_OF_IPS
    assert decision.refusals[0].remedies == (FreeAddressIn("p", V4), ChangeAmongSharers("k"))


@pytest.mark.parametrize(
    "unfit",
    [
        pool("p", "10.0.0.0/24", disabled=True),
        pool("p", "10.0.0.0/24", selector=wants(color="red")),
        pool("p", "10.0.0.0/24", selector=None),
        pool("p", "10.0.0.0/24", "10.0.0.1"),
        pool("p", "fd00::/64"),
        pool("p", "10.0.0.0/24", auto=False),
        pool("p"),
    ],
)
def test_a_pool_that_does_not_serve_it_is_no_pool(unfit: Pool) -> None:
    assert refused(ledger(unfit), service("a")) == [Reason.NO_POOL]


def test_d03_pools_are_asked_by_priority_then_age_and_blocks_in_order() -> None:
    made = ledger(
        pool("young", "10.0.1.0/32", created="2026-01-02T00:00:00Z"),
        pool("old", "10.0.3.0/32", "10.0.2.0/32", created="2026-01-01T00:00:00Z"),
        pool("first", "10.0.4.0/32", created="2026-01-03T00:00:00Z", priority=5),
    )
    assert [has(made, service(name))[0] for name in "abcd"] == [
        "10.0.4.0",
        "10.0.3.0",
        "10.0.2.0",
        "10.0.1.0",
    ]


def test_a_service_may_name_its_pools_and_their_order() -> None:
    made = ledger(pool("a", "10.0.0.0/32"), pool("b", "10.0.1.0/32"), pool("c", "10.0.2.0/24", auto=False))
    assert has(made, service("s", pools=["b", "a"])) == ["10.0.1.0"]
    assert has(made, service("t", pools=["b", "a"])) == ["10.0.0.0"]
    assert refused(made, service("u", pools=["b", "a"])) == [Reason.OUT_OF_IPS]
    assert has(made, service("v", pools=["c", "none"])) == ["10.0.2.0"]


def test_a_named_pool_must_still_select() -> None:
    made = ledger(pool("a", "10.0.0.0/24", selector=wants(color="red")))
    assert refused(made, service("s", pools=["a"])) == [Reason.NO_POOL]


# --- specific requests -------------------------------------------------------------------------------------


def test_named_addresses_are_given_in_their_order_whatever_the_families() -> None:
    made = ledger(pool("p", "10.0.0.0/24", "fd00::/64"))
    assert has(made, service("a", "fd00::7", "10.0.0.9", "fd00::7")) == ["fd00::7", "10.0.0.9"]


@pytest.mark.parametrize(
    ("pools", "request_", "reason", "detail"),
    [
        ([pool("p", "10.0.0.0/24")], service("a", "10.0.1.0"), Reason.NO_POOL, ""),
        ([pool("p", "10.0.0.0/24", disabled=True)], service("a", "10.0.0.1"), Reason.NO_POOL, ""),
        (
            [pool("p", "10.0.0.0/24", selector=wants(color="red"))],
            service("a", "10.0.0.1"),
            Reason.SELECTOR_MISMATCH,
            "it wants color=red, but there is no such label",
        ),
        ([pool("p", "10.0.0.0/24")], service("a", "10.0.0.1", pools=["q"]), Reason.NOT_NAMED, ""),
        (
            [pool("p", "10.0.0.0/24", ends=False)],
            service("a", "10.0.0.255"),
            Reason.ALREADY_ALLOCATED,
            "it is the first or last address of its block",
        ),
        (
            [pool("p", "10.0.0.0/24", ends=False)],
            service("a", "10.0.0.0", sharing=shares("k", 80)),
            Reason.ALREADY_ALLOCATED,
            "it is the first or last address of its block",
        ),
    ],
)
def test_a_named_address_is_refused_with_the_reason(
    pools: list[Pool], request_: Service, reason: Reason, detail: str
) -> None:
    decision = serve(ledger(*pools), request_)
    assert [(one.reason, one.detail) for one in decision.refusals] == [(reason, detail)]


def test_an_address_that_is_taken_is_refused_until_its_holder_goes() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    serve(made, service("a", "10.0.0.7"))
    wanting = service("b", "10.0.0.7")
    decision = serve(made, wanting)
    assert decision.refusals[0].reason is Reason.ALREADY_ALLOCATED
    assert decision.refusals[0].remedies == (ChangeAt(ip("10.0.0.7")),)
    made.release(key("a"), ip("10.0.0.7"))
    assert has(made, wanting) == ["10.0.0.7"]


def test_an_address_of_a_pool_that_must_be_named_can_be_named() -> None:
    made = ledger(pool("p", "10.0.0.0/24", auto=False))
    assert has(made, service("a", "10.0.0.7")) == ["10.0.0.7"]


def test_some_named_addresses_are_given_and_the_rest_refused() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    decision = serve(made, service("a", "10.0.0.1", "192.0.2.1"))
    assert decision.granted == (ip("10.0.0.1"),)
    assert [one.reason for one in decision.refusals] == [Reason.NO_POOL]


# --- sharing -----------------------------------------------------------------------------------------------


def test_services_of_one_key_share_an_address_as_long_as_their_ports_differ() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    assert has(made, service("a", sharing=shares("k", 80))) == ["10.0.0.0"]
    assert has(made, service("b", sharing=shares("k", 443))) == ["10.0.0.0"]
    assert has(made, service("c", sharing=shares("k", 80))) == ["10.0.0.1"]
    assert has(made, service("d", sharing=shares("k", "udp/80"))) == ["10.0.0.0"]
    assert has(made, service("e", sharing=shares("other", 8080))) == ["10.0.0.2"]


def test_d09_a_service_does_not_join_an_address_whose_pool_does_not_select_it() -> None:
    made = ledger(
        pool("red", "10.0.0.0/24", selector=wants(color="red")), pool("any", "10.0.1.0/24", priority=-1)
    )
    assert has(made, service("a", sharing=shares("k", 80), color="red")) == ["10.0.0.0"]
    assert has(made, service("b", sharing=shares("k", 443), color="blue")) == ["10.0.1.0"]
    assert has(made, service("b", sharing=shares("k", 443), color="blue")) == ["10.0.1.0"]


def test_a_named_address_is_shared_or_refused_with_the_incompatibility() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    serve(made, service("a", "10.0.0.5", sharing=shares("k", 80)))
    assert has(made, service("b", "10.0.0.5", sharing=shares("k", 443))) == ["10.0.0.5"]
    decision = serve(made, service("c", "10.0.0.5", sharing=shares("k", 80)))
    assert [(one.reason, one.detail) for one in decision.refusals] == [
        (Reason.INCOMPATIBLE, "same port and protocol")
    ]
    assert refused(made, service("d", "10.0.0.5")) == [Reason.ALREADY_ALLOCATED]


def test_a_sharer_that_becomes_incompatible_moves_and_the_others_stay() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    serve(made, service("a", sharing=shares("k", 80)))
    serve(made, service("b", sharing=shares("k", 443)))
    assert has(made, service("a", sharing=shares("k", 443))) == ["10.0.0.1"]
    assert has(made, service("b", sharing=shares("k", 443))) == ["10.0.0.0"]


def test_who_leaves_and_returns_joins_the_same_address() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    serve(made, service("a", sharing=shares("k", 80)))
    serve(made, service("b", sharing=shares("k", 443)))
    made.release(key("b"), ip("10.0.0.0"))
    assert has(made, service("b", sharing=shares("k", 443))) == ["10.0.0.0"]


# --- what is kept ------------------------------------------------------------------------------------------


def test_d01_holders_keep_addresses_of_disabled_and_conflicting_pools() -> None:
    made = ledger(pool("p", "10.0.0.0/24", created="2"))
    serve(made, service("a"))
    made.space.place(pool("p", "10.0.0.0/24", created="2", disabled=True))
    assert has(made, service("a")) == ["10.0.0.0"]
    made.space.place(pool("p", "10.0.0.0/24", created="2"))
    made.space.place(pool("older", "10.0.0.0/8", created="1", selector=wants(color="red")))
    assert made.space.pools["p"].overlap is not None
    assert has(made, service("a")) == ["10.0.0.0"]
    assert refused(made, service("b")) == [Reason.NO_POOL]


def test_d02_the_old_address_stays_until_the_new_wish_can_be_met() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    serve(made, service("other", "10.0.0.9"))
    serve(made, service("a"))
    decision = serve(made, service("a", "10.0.0.9"))
    assert decision.stale == (ip("10.0.0.0"),)
    assert [one.reason for one in decision.refusals] == [Reason.ALREADY_ALLOCATED]
    assert has(made, service("a", "10.0.0.9")) == ["10.0.0.0"]
    made.release(key("other"), ip("10.0.0.9"))
    assert has(made, service("a", "10.0.0.9")) == ["10.0.0.9"]


def test_d02_a_family_that_is_served_gives_up_its_old_address() -> None:
    made = ledger(pool("p", "10.0.0.0/24", "fd00::/64"))
    serve(made, service("a", families=(V4, V6)))
    serve(made, service("other", "fd00::9"))
    assert has(made, service("a", "10.0.0.5", "fd00::9")) == ["fd00::", "10.0.0.5"]


def test_d07_a_holder_of_an_end_keeps_it_through_every_toggle() -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    serve(made, service("a"))
    for ends in (False, True, False):
        made.space.place(pool("p", "10.0.0.0/30", ends=ends))
        assert has(made, service("a")) == ["10.0.0.0"]
        assert refused(made, service("thief", "10.0.0.0")) == [Reason.ALREADY_ALLOCATED]


def test_a_holder_whose_pool_no_longer_selects_it_moves_at_once() -> None:
    made = ledger(
        pool("red", "10.0.0.0/24", selector=wants(color="red")), pool("any", "10.0.1.0/24", priority=-1)
    )
    assert has(made, service("a", color="red")) == ["10.0.0.0"]
    decision = serve(made, service("a", color="blue"))
    assert [one.why for one in decision.dropped] == [
        "pool red does not select the Service: it wants color=red, but it is 'blue'"
    ]
    assert has(made, service("a", color="blue")) == ["10.0.1.0"]


def test_a_holder_keeps_its_address_when_another_pool_appears() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    serve(made, service("a"))
    made.space.place(pool("better", "10.0.1.0/24", priority=9))
    assert has(made, service("a")) == ["10.0.0.0"]


def test_a_holder_whose_block_is_gone_moves_or_is_told_so() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    serve(made, service("a"))
    assert why_unlawful(service("a"), ip("10.0.0.0"), made) is None
    made.space.place(pool("p", "10.0.1.0/24"))
    assert why_unlawful(service("a"), ip("10.0.0.0"), made) == "no pool contains it"
    assert has(made, service("a")) == ["10.0.1.0"]


def test_a_widened_block_changes_nothing() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    serve(made, service("a"))
    made.space.place(pool("p", "10.0.0.0/16"))
    assert has(made, service("a")) == ["10.0.0.0"]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (service("a", families=(V4,)), ["10.0.0.0"]),
        (service("a", families=(V6,)), ["fd00::"]),
        (service("a", "10.0.0.0"), ["10.0.0.0"]),
        (service("a", "fd00::"), ["fd00::"]),
        (service("a", "10.0.0.7", "fd00::"), ["fd00::", "10.0.0.7"]),
        (service("a", families=()), []),
    ],
)
def test_what_is_no_longer_asked_for_is_given_up(now: Service, expected: list[str]) -> None:
    made = ledger(pool("p", "10.0.0.0/24", "fd00::/64"))
    serve(made, service("a", families=(V4, V6)))
    assert has(made, now) == expected


def test_all_named_addresses_stay_when_the_request_becomes_generic() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    serve(made, service("a", "10.0.0.4", "10.0.0.7"))
    assert has(made, service("a")) == ["10.0.0.4", "10.0.0.7"]


def test_a_service_that_names_another_pool_moves_there_when_it_can() -> None:
    made = ledger(pool("a", "10.0.0.0/24"), pool("b", "10.0.1.0/32"))
    serve(made, service("s"))
    serve(made, service("other", pools=["b"]))
    assert has(made, service("s", pools=["b"])) == ["10.0.0.0"]
    made.release(key("other"), ip("10.0.1.0"))
    assert has(made, service("s", pools=["b"])) == ["10.0.1.0"]


# --- reservations ------------------------------------------------------------------------------------------


def test_a_reserved_address_goes_to_its_service_first_and_to_nobody_else() -> None:
    made = ledger(
        pool("p", "10.0.0.0/24"),
        reservations=[reservation("r", "10.0.0.7", to="mine"), reservation("gateway", "10.0.0.0")],
    )
    assert has(made, service("other")) == ["10.0.0.1"]
    assert has(made, service("mine")) == ["10.0.0.7"]
    decision = serve(made, service("thief", "10.0.0.7"))
    assert [(one.reason, one.detail) for one in decision.refusals] == [
        (Reason.RESERVED, "for default/mine by IPReservation r")
    ]
    assert refused(made, service("thief", "10.0.0.0")) == [Reason.RESERVED]


def test_a_reserved_range_serves_its_service_once_and_on_request() -> None:
    made = ledger(pool("p", "10.0.0.0/24"), reservations=[reservation("r", "10.0.0.8/30", to="mine")])
    assert has(made, service("mine")) == ["10.0.0.8"]
    assert has(made, service("mine", "10.0.0.8", "10.0.0.9")) == ["10.0.0.8", "10.0.0.9"]
    assert refused(made, service("thief", "10.0.0.10")) == [Reason.RESERVED]


def test_a_reservation_takes_nothing_from_a_holder() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    serve(made, service("a"))
    made.space.reserve(reservation("r", "10.0.0.0", to="other"))
    assert has(made, service("a")) == ["10.0.0.0"]
    assert has(made, service("other")) == ["10.0.0.1"]


def test_a_reserved_address_is_not_joined_by_others() -> None:
    made = ledger(pool("p", "10.0.0.0/24"), reservations=[reservation("r", "10.0.0.7", to="mine")])
    assert has(made, service("mine", sharing=shares("k", 80))) == ["10.0.0.7"]
    assert has(made, service("other", sharing=shares("k", 443))) == ["10.0.0.0"]


def test_a_reservation_needs_a_pool_that_selects_and_gives() -> None:
    made = ledger(
        pool("red", "10.0.0.0/24", selector=wants(color="red")),
        reservations=[reservation("r", "10.0.0.7", to="s")],
    )
    assert refused(made, service("s")) == [Reason.NO_POOL]
    assert has(made, service("s", color="red")) == ["10.0.0.7"]


# --- quotas ------------------------------------------------------------------------------------------------


def test_a_namespace_holds_no_more_than_its_quota() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    made.quotas["ns"] = 2
    assert has(made, service("ns/a")) == ["10.0.0.0"]
    assert has(made, service("ns/b")) == ["10.0.0.1"]
    decision = serve(made, service("ns/c"))
    assert [(one.reason, one.detail) for one in decision.refusals] == [(Reason.QUOTA_EXCEEDED, "2 of 2")]
    assert decision.refusals[0].remedies == (RoomInQuota("ns"),)
    assert refused(made, service("ns/d", "10.0.0.9")) == [Reason.QUOTA_EXCEEDED]
    assert has(made, service("free/c")) == ["10.0.0.2"]


def test_a_shared_address_counts_once() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    made.quotas["ns"] = 1
    serve(made, service("ns/a", sharing=shares("k", 80)))
    assert has(made, service("ns/b", sharing=shares("k", 443))) == ["10.0.0.0"]


def test_whom_the_quota_keeps_from_an_address_of_its_own_waits_for_one_to_join() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    made.quotas["ns"] = 1
    serve(made, service("ns/a", sharing=shares("k", 80)))
    decision = decide(service("ns/b", sharing=shares("k", 80)), made)
    assert decision.refusals[0].remedies == (RoomInQuota("ns"), ChangeAmongSharers("k"))
    named = decide(service("ns/b", "10.0.0.9", sharing=shares("k", 80)), made)
    assert named.refusals[0].remedies == (RoomInQuota("ns"),)


def test_a_lowered_quota_takes_nothing_away_and_lets_a_holder_move() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    serve(made, service("ns/a"))
    serve(made, service("ns/b"))
    made.quotas["ns"] = 1
    assert has(made, service("ns/a")) == ["10.0.0.0"]
    assert has(made, service("ns/a", "10.0.0.9")) == ["10.0.0.9"]
    assert refused(made, service("ns/b", "10.0.0.1", "10.0.0.2")) == [Reason.QUOTA_EXCEEDED]


def test_both_families_count() -> None:
    made = ledger(pool("p", "10.0.0.0/24", "fd00::/64"))
    made.quotas["ns"] = 1
    decision = serve(made, service("ns/a", families=(V4, V6)))
    assert decision.granted == (ip("10.0.0.0"),)
    assert [one.reason for one in decision.refusals] == [Reason.QUOTA_EXCEEDED]


def test_a_service_may_change_its_family_with_the_quota_full() -> None:
    made = ledger(pool("p", "10.0.0.0/24", "fd00::/64"))
    made.quotas["ns"] = 1
    serve(made, service("ns/a", families=(V4,)))
    assert has(made, service("ns/a", families=(V6,))) == ["fd00::"]


def test_an_address_that_stays_for_want_of_a_better_one_counts() -> None:
    made = ledger(pool("p", "10.0.0.0/24", "fd00::/64"))
    made.quotas["ns"] = 1
    serve(made, service("other", "10.0.0.9"))
    serve(made, service("ns/a", families=(V4,)))
    decision = serve(made, service("ns/a", "fd00::5", "10.0.0.9"))
    assert decision.granted == ()
    assert decision.stale == (ip("10.0.0.0"),)
    assert [one.reason for one in decision.refusals] == [Reason.QUOTA_EXCEEDED, Reason.ALREADY_ALLOCATED]


def test_with_a_quota_an_address_that_the_namespace_has_is_joined_first() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    made.quotas["y"] = 1
    serve(made, service("x/a", sharing=shares("k", 80, namespaces=["*"])))
    serve(made, service("y/b", "10.0.0.7", sharing=shares("k", 80, namespaces=["*"])))
    assert has(made, service("y/c", sharing=shares("k", 443, namespaces=["*"]))) == ["10.0.0.7"]
    assert has(made, service("x/d", sharing=shares("k", 8080, namespaces=["*"]))) == ["10.0.0.0"]


# --- properties --------------------------------------------------------------------------------------------

names = st.sampled_from(["x/a", "x/b", "y/c", "y/d", "y/e"])
colors = st.sampled_from(["red", "blue"])
sharing = st.just(ALONE) | st.builds(
    lambda key_, port, spaces: shares(key_, port, namespaces=spaces),
    st.sampled_from(["k", "l"]),
    st.integers(1, 3),
    st.sampled_from([[], ["*"]]),
)
services = st.builds(
    lambda name, addresses, families, sharing, color: service(
        name, *addresses, families=families, sharing=sharing, color=color
    ),
    names,
    st.lists(st.integers(0, 9).map(lambda number: f"10.0.0.{number}"), max_size=2),
    st.sampled_from([(V4,), (V4, V6), ()]),
    sharing,
    colors,
)
pools = st.builds(
    lambda name, blocks, color, disabled, ends: pool(
        name, *blocks, selector=wants(color=color), disabled=disabled, ends=ends
    ),
    st.sampled_from(["p", "q"]),
    st.lists(
        st.sampled_from(["10.0.0.0/30", "10.0.0.4/31", "10.0.0.2-10.0.0.6", "10.0.0.8/30", "fd00::/126"]),
        max_size=2,
    ),
    colors,
    st.booleans(),
    st.booleans(),
)
reservations = st.builds(
    lambda name, ranges, to: reservation(name, *ranges, to=to),
    st.sampled_from(["r1", "r2"]),
    st.lists(st.sampled_from(["10.0.0.1", "10.0.0.4-10.0.0.5", "fd00::1"]), min_size=1, max_size=2),
    st.sampled_from(["", "x/a"]),
)
worlds = st.lists(
    st.tuples(st.just("service"), services)
    | st.tuples(st.just("gone"), names)
    | st.tuples(st.just("pool"), pools)
    | st.tuples(st.just("reserve"), reservations),
    max_size=20,
)


def happen(made: Ledger, verb: str, what: Any) -> None:
    """A step of a world, as far as it needs no decision."""
    match verb:
        case "pool":
            made.space.place(what)
        case "reserve":
            made.space.reserve(what)
        case "gone":
            for address in made.claims_of(key(what)):
                made.release(key(what), address)


@settings(max_examples=300)
@given(worlds)
def test_whatever_happens_nobody_holds_what_it_should_not(steps: list[tuple[str, Any]]) -> None:
    made = ledger()
    known: dict[Any, Service] = {}
    for verb, what in steps:
        before = {one: made.claims_of(one) for one in known}
        happen(made, verb, what)
        if verb == "gone":
            known.pop(key(what), None)
        elif verb == "service":
            known[what.key] = what
            decision = serve(made, what)
            assert_right(made, what, decision)
            for other, claims in before.items():
                assert other == what.key or made.claims_of(other) == claims, "others are not touched"
            again = decide(what, made)
            assert not (again.granted or again.superseded or again.dropped), "a second look changes nothing"
            assert set(again.addresses) == set(made.claims_of(what.key))
    for address, holders in made.holdings():
        group = Group()
        for holder in holders:
            apart = group.why_apart(holder, known[holder].sharing)
            assert apart is None, f"{holder} shares {format_address(address)} without leave: {apart}"
            group.join(holder, known[holder].sharing)


def concerns(verb: str, what: Any, one: Service, was: Pool | None, made: Ledger) -> bool:
    """Whether an event may take an address from a Service: its own, or its pool's losing or deselecting it."""
    if verb != "pool":
        return verb != "reserve" and (what if verb == "gone" else str(what.key)) == str(one.key)
    return was is not None and any(
        was.contains(address) and not (what.contains(address) and what.selects(one.labels))
        for address in made.claims_of(one.key)
    )


def is_at_rest(one: Service, made: Ledger) -> bool:
    """Whether a Service has all that it asks for, and lost nothing of it by what happened before."""
    decision = decide(one, made)
    return decision == Decision(kept=decision.kept)


@settings(max_examples=300)
@given(worlds)
def test_a_satisfied_service_keeps_its_address_through_what_does_not_concern_it(
    steps: list[tuple[str, Any]],
) -> None:
    made = ledger()
    known: dict[Any, Service] = {}
    for verb, what in steps:
        former = made.space.pools.get(what.name) if verb == "pool" else None
        was = former.pool if former is not None else None
        at_rest = [one for one in known.values() if is_at_rest(one, made)]
        safe = [one for one in at_rest if not concerns(verb, what, one, was, made)]
        happen(made, verb, what)
        if verb == "gone":
            known.pop(key(what), None)
        elif verb == "service":
            known[what.key] = what
            serve(made, what)
        for one in safe:
            before = made.claims_of(one.key)
            if before and not decide(one, made).refusals:
                serve(made, one)
                assert set(before) <= set(made.claims_of(one.key)), f"{verb} {what} took from {one.key}"


@settings(max_examples=200)
@given(worlds, st.randoms(use_true_random=False))
def test_decisions_are_those_of_a_fresh_start_whatever_the_order_of_import(
    steps: list[tuple[str, Any]], dice: Any
) -> None:
    made, known = ledger(), dict[Any, Service]()
    for verb, what in steps:
        if verb != "gone":
            happen(made, verb, what)
        if verb == "service":
            known[what.key] = what
            serve(made, what)
    fresh = Ledger()
    pools = [one.pool for one in made.space.pools.values()]
    set_aside = list(made.space.reservations)
    claims = [(one, address) for one in known.values() for address in made.claims_of(one.key)]
    for some in (pools, set_aside):
        dice.shuffle(some)
    fresh.space.place_all(pools, set_aside)
    for one, address in claims:
        fresh.claim(one.key, address, one.sharing)
    for one in known.values():
        if not one.sharing.key:
            assert decide(one, fresh) == decide(one, made)


def assert_right(made: Ledger, one: Service, decision: Decision) -> None:
    for address in decision.granted:
        spaces = [space for space in made.space.pools_of(address) if space.pool.selects(one.labels)]
        assert any(not space.pool.disabled and space.overlap is None for space in spaces)
        reserved = made.space.reservation_of(address)
        assert reserved is None or reserved.service == one.key
    for address in made.claims_of(one.key):
        assert why_unlawful(one, address, made) is None
    asked = set(one.addresses)
    satisfied = asked <= set(made.claims_of(one.key)) if asked else True
    assert bool(decision.refusals) or satisfied
