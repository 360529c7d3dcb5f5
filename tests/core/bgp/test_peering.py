"""Two speakers and a bad wire between them; and one peering by hand."""

from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbipam.core.bgp import errors, messages
from lbipam.core.bgp.attributes import Context
from lbipam.core.bgp.codes import Cease, Family
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.messages import (
    KEEPALIVE,
    FourOctetAsn,
    GracefulRestart,
    Multiprotocol,
    Open,
    Splitter,
)
from lbipam.core.bgp.nlri import Nlri
from lbipam.core.bgp.peering import Peering
from lbipam.core.bgp.peers import Ending, Identity, LocalAddresses, Peer, PeerDown, PeerUp
from lbipam.core.bgp.routes import PLAIN, RouteAttributes, RouteSet
from lbipam.core.bgp.session import Session
from tests.core.bgp.wires import Side, World, world

OURS = Identity(asn=64512, router_id=IPv4Address("192.0.2.1"))
PEER = Peer(address=ip_address("192.0.2.2"), asn=64513)
LOCAL = LocalAddresses(address=IPv4Address("192.0.2.1"), ipv4=IPv4Address("192.0.2.1"))
MARKED = RouteAttributes(communities=frozenset({1}))
SHUTDOWN = errors.shutdown(Cease.ADMINISTRATIVE_SHUTDOWN, "bye")


def hosts(*numbers: int, said: RouteAttributes = PLAIN) -> RouteSet:
    return RouteSet({Nlri(b"\x20" + number.to_bytes(4, "big")): said for number in numbers})


def said(session: Session) -> list[messages.Message]:
    """All output, read."""
    splitter = Splitter()
    splitter.feed(session.take_output())
    return [messages.decode(type_, body, Context()) for type_, body in splitter]


def greet(peering: Peering, session: Session, now: float) -> None:
    """A peer that restarts gracefully answers, and the session is up."""
    offers = (
        Multiprotocol(family=(1, 1)),
        FourOctetAsn(asn=64513),
        GracefulRestart(restarted=False, seconds=120, families=(((1, 1), True),)),
    )
    theirs = Open(asn=64513, hold_seconds=9, router_id=IPv4Address("192.0.2.2"), capabilities=offers)
    for message in (theirs, KEEPALIVE):
        peering.receive(session, messages.encode(message, Context()), now)


def established(side: Side) -> list[State]:
    return [one.state for one in side.peering.sessions if one.state is State.ESTABLISHED]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.1, 0.5]),
    wants=st.lists(st.tuples(st.integers(0, 1), st.sets(st.integers(0, 999), max_size=300)), max_size=4),
)
def test_over_a_bad_wire_both_sides_end_up_with_what_the_other_wants(
    seed: int, loss: float, wants: list[tuple[int, set[int]]]
) -> None:
    both = world(seed, loss=loss)
    final = [hosts(), hosts()]
    for side in both.sides:
        side.peering.start(0.0)
    for which, numbers in wants:
        both.run(3)
        final[which] = hosts(*numbers, said=MARKED if len(numbers) % 2 else PLAIN)
        both.sides[which].peering.want({Family.IPV4: final[which]})
    both.run(200, loss=0.0)
    one, other = both.sides
    assert established(one) == established(other) == [State.ESTABLISHED]
    assert other.table == final[0].routes
    assert one.table == final[1].routes
    for side in both.sides:
        ups = [isinstance(event, PeerUp) for event in side.events]
        assert ups == [number % 2 == 0 for number in range(len(ups))], "ups and downs take turns"
        assert side.peering.status().flaps == ups.count(False)


@given(st.integers(0, 2**32))
def test_when_both_connect_at_once_one_connection_is_left(seed: int) -> None:
    both = world(seed)
    for side in both.sides:
        side.peering.start(0.0)
    both.run(30)
    for side in both.sides:
        assert established(side) == [State.ESTABLISHED]
        assert len(side.peering.sessions) == 1


def joined(**options: int) -> World:
    both = world(7, **options)
    for side in both.sides:
        side.peering.start(0.0)
    both.run(20)
    return both


def test_a_stop_is_told_to_the_peer_and_lasts() -> None:
    both = joined()
    one, other = both.sides
    one.peering.stop(SHUTDOWN, both.now)
    both.run(120)
    assert one.peering.sessions == []
    ending = other.peering.status().last_ending
    down = [event for event in other.events if isinstance(event, PeerDown)]
    assert [str(event.ending) for event in down] == ['received Cease/Administrative Shutdown (6/2): "bye"']
    assert ending is not None
    assert established(other) == []


def test_the_last_notification_is_kept_until_the_session_is_up_again() -> None:
    both = joined()
    one, other = both.sides
    one.peering.stop(SHUTDOWN, both.now)
    both.run(1)
    told = 'received Cease/Administrative Shutdown (6/2): "bye"'
    assert str(other.peering.status().last_notification) == told
    both.run(120)
    status = other.peering.status()
    assert (str(status.last_notification), str(status.last_ending) == told) == (told, False)
    one.peering.start(both.now)
    both.run(120)
    assert len(established(other)) == 1
    assert other.peering.status().last_notification is None


def test_a_pause_is_silent_where_the_peer_keeps_our_routes() -> None:
    for restart_seconds, why in ((120, "the peer closed the connection"), (None, f"received {SHUTDOWN}")):
        both = world(7, restart_seconds=restart_seconds)
        for side in both.sides:
            side.peering.start(0.0)
        both.run(20)
        one, other = both.sides
        one.peering.pause(SHUTDOWN, both.now, why="restart")
        both.run(1)
        (down,) = [event for event in other.events if isinstance(event, PeerDown)]
        assert str(down.ending) == why
        assert one.peering.sessions == []


def test_only_a_session_that_is_up_goes_on_while_the_wait_for_the_next_one_changes() -> None:
    both = world(7)
    one = both.sides[0].peering
    shorter = replace(one.peer, connect_retry_seconds=1)
    assert not one.goes_on_as(shorter), "who waits is to wait no longer than that"
    for side in both.sides:
        side.peering.start(0.0)
    both.run(20)
    assert one.goes_on_as(shorter)
    assert one.peer == shorter
    assert not one.goes_on_as(replace(shorter, hold_seconds=12))


def test_only_the_first_sessions_after_a_start_are_said_to_follow_a_restart() -> None:
    peering = Peering("tor", replace(PEER, restart_seconds=120), OURS, dice=lambda: 0.0)
    peering.start(0.0)
    bits = []
    for ends, now in ((False, 1.0), (True, 2.0), (True, 3.0)):
        session = peering.accept(LOCAL, now)
        assert session is not None
        (ours,) = said(session)
        assert isinstance(ours, Open)
        bits += [one.restarted for one in ours.capabilities if isinstance(one, GracefulRestart)]
        if ends:
            greet(peering, session, now)
            assert peering.status().state is State.ESTABLISHED
            peering.closed(session, "lost", now)
    assert bits == [True, True, False]


def test_a_peer_that_has_restarted_gets_a_new_session_and_hears_nothing_in_the_old_one() -> None:
    peering = Peering("tor", PEER, OURS, dice=lambda: 0.0)
    peering.start(0.0)
    old = peering.accept(LOCAL, 1.0)
    assert old is not None
    greet(peering, old, 1.0)
    said(old)
    new = peering.accept(LOCAL, 2.0)
    assert new is not None
    greet(peering, new, 2.0)
    assert peering.sessions == [new]
    assert old in peering.take_wishes().disconnect
    assert said(old) == []
    restarted = Ending(why="the peer has restarted")
    assert peering.take_events() == [
        PeerUp(peer="tor"),
        PeerDown(peer="tor", ending=restarted),
        PeerUp(peer="tor"),
    ]


def test_a_reset_is_followed_by_a_new_session() -> None:
    both = joined()
    one, other = both.sides
    one.peering.reset(errors.shutdown(Cease.BFD_DOWN), both.now)
    both.run(30)
    assert established(one) == established(other) == [State.ESTABLISHED]
    assert one.peering.status().flaps == 1


def test_attempts_grow_apart_up_to_the_retry_time() -> None:
    peering = Peering(
        "tor", Peer(address=PEER.address, asn=64513, connect_retry_seconds=10), OURS, dice=lambda: 1.0
    )
    now, waits = 0.0, []
    peering.start(now)
    for _ in range(6):
        (session,) = peering.take_wishes().connect
        peering.closed(session, "connecting: refused", now)
        waits.append(peering.wake_at() - now)
        now = peering.wake_at()
        peering.tick(now)
    assert waits == [1, 2, 4, 8, 10, 10]


def test_who_connects_and_says_nothing_does_not_put_our_attempts_off() -> None:
    peering = Peering("tor", PEER, OURS, dice=lambda: 1.0)
    peering.start(0.0)
    (session,) = peering.take_wishes().connect
    assert peering.accept(LOCAL, 1.0) is not None
    peering.closed(session, "connecting: refused", 2.0)
    peering.tick(3.0)
    assert len(peering.take_wishes().connect) == 1


def test_who_connects_and_leaves_again_does_not_put_our_attempts_off() -> None:
    peering = Peering("tor", PEER, OURS, dice=lambda: 1.0)
    peering.start(0.0)
    (session,) = peering.take_wishes().connect
    peering.closed(session, "connecting: refused", 0.0)
    for now in (0.3, 0.6, 0.9):
        probe = peering.accept(LOCAL, now)
        assert probe is not None
        peering.closed(probe, "the peer closed the connection", now)
    peering.tick(1.0)
    assert len(peering.take_wishes().connect) == 1


def test_jitter_shortens_the_wait_by_a_quarter_at_most() -> None:
    for roll, wait in ((0.0, 0.75), (1.0, 1.0)):
        peering = Peering("tor", PEER, OURS, dice=lambda roll=roll: roll)  # type: ignore[misc]
        peering.start(0.0)
        (session,) = peering.take_wishes().connect
        peering.closed(session, "connecting: refused", 0.0)
        assert peering.wake_at() == wait
        assert str(peering.status().last_ending) == "connecting: refused"


@pytest.mark.parametrize(("lasted", "wait"), [(9, 8), (10, 1)])
def test_only_a_session_that_has_lasted_lets_attempts_begin_anew(lasted: int, wait: int) -> None:
    peering = Peering("tor", PEER, OURS, dice=lambda: 1.0)
    now = 0.0
    peering.start(now)
    for _ in range(3):
        (session,) = peering.take_wishes().connect
        peering.closed(session, "connecting: refused", now)
        now = peering.wake_at()
        peering.tick(now)
    (session,) = peering.take_wishes().connect
    peering.connected(session, LOCAL, now)
    greet(peering, session, now)
    peering.closed(session, "lost", now + lasted)
    assert peering.wake_at() == now + lasted + wait


def test_a_stopped_peering_accepts_nobody() -> None:
    peering = Peering("tor", PEER, OURS, dice=lambda: 0.0)
    assert peering.accept(LOCAL, 0.0) is None
    peering.start(0.0)
    assert peering.accept(LOCAL, 0.0) is not None
    peering.stop(SHUTDOWN, 1.0)
    assert peering.accept(LOCAL, 2.0) is None


def test_a_peer_that_connects_once_more_has_given_up_its_last_connection() -> None:
    peering = Peering("tor", PEER, OURS, dice=lambda: 0.0)
    peering.start(0.0)
    first = peering.accept(LOCAL, 1.0)
    second = peering.accept(LOCAL, 2.0)
    assert first is not None
    assert peering.take_wishes().disconnect == [first]
    assert second in peering.sessions


def test_the_status_is_that_of_the_session_that_got_farthest() -> None:
    both = joined()
    status = both.sides[0].peering.status()
    assert (status.state, status.asn, status.hold_seconds, status.keepalive_seconds) == (
        State.ESTABLISHED,
        64512,
        9,
        3,
    )
    assert status.families == {Family.IPV4, Family.IPV6}
    assert set(status.unspeakable) == {Family.IPV6}
    idle = Peering("tor", PEER, OURS, dice=lambda: 0.0).status()
    assert (idle.state, idle.asn, idle.last_ending) == (State.IDLE, None, None)
