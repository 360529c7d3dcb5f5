"""Two connections with one peer: both sides must close the same one."""

from ipaddress import IPv4Address

import pytest

from lbipam.core.bgp.collision import Rival, does_newer_survive
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.peers import Identity

SMALL = Identity(asn=64512, router_id=IPv4Address("192.0.2.1"))
LARGE = Identity(asn=64513, router_id=IPv4Address("192.0.2.2"))
SMALL_TOO = Identity(asn=64999, router_id=IPv4Address("192.0.2.1"))


def rival(*, is_incoming: bool, state: State = State.OPEN_CONFIRM, outlives_restarts: bool = False) -> Rival:
    return Rival(state=state, is_incoming=is_incoming, outlives_restarts=outlives_restarts)


@pytest.mark.parametrize("is_newer_ours", [False, True])
@pytest.mark.parametrize(("one", "other"), [(SMALL, LARGE), (LARGE, SMALL), (SMALL, SMALL_TOO)])
def test_both_sides_keep_the_connection_of_the_larger_identifier(
    one: Identity, other: Identity, is_newer_ours: bool
) -> None:
    here = does_newer_survive(
        rival(is_incoming=is_newer_ours), rival(is_incoming=not is_newer_ours), ours=one, theirs=other
    )
    there = does_newer_survive(
        rival(is_incoming=not is_newer_ours), rival(is_incoming=is_newer_ours), ours=other, theirs=one
    )
    assert here is there
    larger_is_ours = (int(one.router_id), one.asn) > (int(other.router_id), other.asn)
    assert here is (larger_is_ours is is_newer_ours)


def test_an_established_session_is_not_given_up_for_a_newer_one() -> None:
    older = rival(is_incoming=False, state=State.ESTABLISHED)
    assert not does_newer_survive(older, rival(is_incoming=True), ours=SMALL, theirs=LARGE)


def test_a_peer_that_restarts_gracefully_has_lost_its_established_session_when_it_connects_again() -> None:
    older = rival(is_incoming=True, state=State.ESTABLISHED, outlives_restarts=True)
    assert does_newer_survive(older, rival(is_incoming=True), ours=LARGE, theirs=SMALL)


def test_of_two_connections_that_the_peer_made_the_newer_counts() -> None:
    assert does_newer_survive(rival(is_incoming=True), rival(is_incoming=True), ours=LARGE, theirs=SMALL)
