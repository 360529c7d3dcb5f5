"""One session, driven by hand: bytes and time in, bytes and events out."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from lbipam.core.bgp import errors, messages
from lbipam.core.bgp.attributes import Context
from lbipam.core.bgp.codes import Cease, Family, MessageType
from lbipam.core.bgp.errors import Notification
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.messages import (
    KEEPALIVE,
    ExtendedMessage,
    FourOctetAsn,
    GracefulRestart,
    Multiprotocol,
    Open,
    RouteRefresh,
    Splitter,
    Update,
)
from lbipam.core.bgp.nlri import Nlri
from lbipam.core.bgp.peers import Ending, Identity, LocalAddresses, Peer, Refusal
from lbipam.core.bgp.routes import PLAIN, RouteAttributes, RouteSet
from lbipam.core.bgp.session import OUTPUT_LIMIT, Connect, Disconnect, Ended, Established, Opened, Session

OURS = Identity(asn=64512, router_id=IPv4Address("192.0.2.1"))
PEER = Peer(address=ip_address("192.0.2.2"), asn=64513, restart_seconds=120)
LOCAL = LocalAddresses(address=IPv4Address("192.0.2.1"), ipv4=IPv4Address("192.0.2.1"))
CONTEXT = Context()
OPEN = Open(
    asn=64513,
    hold_seconds=9,
    router_id=IPv4Address("192.0.2.2"),
    capabilities=(
        Multiprotocol(family=(1, 1)),
        GracefulRestart(restarted=False, seconds=120, families=()),
        FourOctetAsn(asn=64513),
    ),
)


def session_of(peer: Peer = PEER, *, roll: float = 1.0) -> Session:
    return Session(peer, OURS, is_incoming=False, restarted=True, dice=lambda: roll)


def said(session: Session) -> list[messages.Message]:
    """All output, read."""
    splitter = Splitter()
    while output := session.take_output():
        splitter.feed(output)
    return [messages.decode(type_, body, CONTEXT) for type_, body in splitter]


def say(session: Session, now: float, *told: messages.Message) -> None:
    session.receive(b"".join(messages.encode(one, CONTEXT) for one in told), now)


def established(peer: Peer = PEER, *, opened: Open = OPEN, roll: float = 1.0) -> Session:
    session = session_of(peer, roll=roll)
    session.start(0)
    session.connected(LOCAL, 1)
    say(session, 2, opened, KEEPALIVE)
    said(session)
    session.take_events()
    return session


def hosts(count: int) -> RouteSet:
    return RouteSet({Nlri(b"\x20" + number.to_bytes(4, "big")): PLAIN for number in range(count)})


def test_a_session_comes_up() -> None:
    session = session_of()
    session.start(0)
    assert session.take_events() == [Connect()]
    session.connected(LOCAL, 1)
    (ours,) = said(session)
    assert isinstance(ours, Open)
    assert (ours.asn, ours.hold_seconds) == (64512, 90)
    say(session, 2, OPEN)
    assert session.take_events() == [Opened()]
    assert said(session) == [KEEPALIVE]
    say(session, 3, KEEPALIVE)
    assert session.take_events() == [Established()]
    assert session.state is State.ESTABLISHED


def test_keepalives_go_out_in_time_and_silence_ends_the_session() -> None:
    session = established()
    assert session.wake_at() == 5
    session.tick(5)
    assert said(session) == [KEEPALIVE]
    assert session.wake_at() == 8
    session.tick(11)
    assert Notification(code=4) in said(session)
    *_, disconnect, ended = session.take_events()
    assert disconnect == Disconnect()
    assert ended == Ended(
        ending=Ending(
            why="nothing was heard for the hold time", notification=Notification(code=4), is_ours=True
        )
    )


def test_keepalives_of_many_sessions_spread_over_a_quarter_of_their_interval() -> None:
    assert [established(roll=roll).wake_at() for roll in (0.0, 0.5, 1.0)] == [4.25, 4.625, 5.0]


def test_a_route_that_no_message_holds_is_refused_and_all_else_is_said() -> None:
    session = established()
    long = RouteAttributes(communities=frozenset(range(1100)))
    wanted = {**hosts(2).routes, Nlri(b"\x20\x0a\0\0\1"): long}
    session.want({Family.IPV4: RouteSet(wanted)})
    session.tick(5)
    keepalive, update = said(session)
    assert keepalive == KEEPALIVE
    assert isinstance(update, Update)
    assert set(update.nlri) == set(hosts(2).routes)
    why = "their communities leave no room for a route in a message of 4096 octets"
    assert session.refused() == {Family.IPV4: Refusal(count=1, why=why)}


def test_whatever_the_peer_says_keeps_the_session_up() -> None:
    for one in (KEEPALIVE, Update(), RouteRefresh(family=(1, 1))):
        session = established()
        say(session, 10, one)
        session.tick(12)
        assert session.state is State.ESTABLISHED


def test_a_keepalive_that_the_peer_does_not_read_is_not_followed_by_more() -> None:
    session = established()
    for now in (5, 6, 9, 10):
        session.tick(now)
    assert len(said(session)) == 1


def test_a_peer_that_talks_but_reads_nothing_is_left() -> None:
    session = established()
    for now in range(5, 500):
        say(session, now, KEEPALIVE)
        session.tick(now)
        if session.state is State.IDLE:
            break
    assert now == 5 + 480
    assert said(session) == [Notification(code=8)]
    *_, ended = session.take_events()
    assert ended == Ended(
        ending=Ending(why="the peer reads nothing", notification=Notification(code=8), is_ours=True)
    )


def test_a_peer_that_reads_slowly_is_not_left() -> None:
    session = established()
    for now in range(5, 1500):
        say(session, now, KEEPALIVE)
        session.tick(now)
        if now % 400 == 0:
            said(session)
    assert session.state is State.ESTABLISHED


def test_with_a_hold_time_of_zero_no_time_ends_the_session() -> None:
    session = established(opened=replace(OPEN, hold_seconds=0))
    assert session.wake_at() == float("inf")


def test_routes_are_announced_and_the_end_is_marked_once_all_is_known() -> None:
    session = session_of()
    session.want({Family.IPV4: hosts(2)})
    session.start(0)
    session.connected(LOCAL, 1)
    say(session, 2, OPEN, KEEPALIVE)
    told = said(session)
    assert [len(one.nlri) for one in told if isinstance(one, Update)] == [2]
    session.want({Family.IPV4: hosts(3)})
    session.complete()
    first, last = said(session)
    assert isinstance(first, Update)
    assert len(first.nlri) == 1
    assert last == messages.end_of_rib(Family.IPV4)
    assert said(session) == []
    assert session.advertised() == {Family.IPV4: 3}


def test_a_peer_that_knows_no_end_of_rib_is_sent_none() -> None:
    plain = replace(OPEN, capabilities=(Multiprotocol(family=(1, 1)), FourOctetAsn(asn=64513)))
    session = established(opened=plain)
    session.complete()
    assert said(session) == []


def test_output_comes_in_batches() -> None:
    session = established()
    session.want({Family.IPV4: hosts(50_000)})
    batches = []
    while output := session.take_output():
        batches.append(len(output))
    assert len(batches) > 3
    assert max(batches) < OUTPUT_LIMIT + 4096
    assert session.pending == 0


def test_a_refresh_brings_everything_again() -> None:
    session = established()
    session.want({Family.IPV4: hosts(3)})
    said(session)
    say(session, 3, RouteRefresh(family=(25, 70)), RouteRefresh(family=(1, 1), subtype=1))
    assert said(session) == []
    say(session, 3, RouteRefresh(family=(1, 1)))
    (update,) = said(session)
    assert isinstance(update, Update)
    assert len(update.nlri) == 3


def test_received_routes_are_counted() -> None:
    session = established()
    say(session, 3, Update(withdrawn=tuple(hosts(3).routes)))
    assert session.heard.count(Family.IPV4) == 0


def test_a_family_without_next_hop_is_told_of_and_not_announced() -> None:
    both = (*OPEN.capabilities, Multiprotocol(family=(2, 1)))
    session = established(opened=replace(OPEN, capabilities=both))
    session.want({Family.IPV6: RouteSet({Nlri(b"\x80" + bytes(16)): PLAIN})})
    assert said(session) == []
    assert session.unspeakable == {Family.IPV6: "the interface of the session has no global IPv6 address"}


def test_routes_lead_to_addresses_that_came_later_and_say_so_once() -> None:
    def hops(session: Session) -> list[bytes]:
        updates = [one for one in said(session) if isinstance(one, Update)]
        return [reach.next_hop for one in updates if (reach := one.attributes.reach) is not None]

    both = (*OPEN.capabilities, Multiprotocol(family=(2, 1)))
    session = established(opened=replace(OPEN, capabilities=both))
    session.want({Family.IPV6: RouteSet({Nlri(b"\x80" + bytes(16)): PLAIN}), Family.IPV4: hosts(1)})
    said(session)
    late, other = IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")
    for moved in (late, other):
        session.located(replace(LOCAL, ipv6=moved))
        assert hops(session) == [moved.packed]
        assert session.unspeakable == {}
        for same in (moved, None):
            session.located(replace(LOCAL, ipv6=same))
            assert said(session) == []
    assert session.advertised() == {Family.IPV4: 1, Family.IPV6: 1}


def test_stopping_says_why_and_leaving_silently_says_nothing() -> None:
    session = established()
    farewell = errors.shutdown(Cease.ADMINISTRATIVE_SHUTDOWN, "maintenance")
    session.stop(farewell, 3)
    assert said(session) == [farewell]
    assert session.take_events() == [
        Disconnect(),
        Ended(ending=Ending(why="", notification=farewell, is_ours=True)),
    ]
    session = established()
    session.leave_silently("restart", 3)
    assert said(session) == []
    assert session.take_events() == [Disconnect(), Ended(ending=Ending(why="restart"))]


def test_routes_that_were_not_sent_are_not_sent_after_the_end() -> None:
    session = established()
    session.want({Family.IPV4: hosts(3)})
    farewell = errors.shutdown(Cease.PEER_DE_CONFIGURED)
    session.stop(farewell, 3)
    assert said(session) == [farewell]


@pytest.mark.parametrize(
    ("told", "answer"),
    [
        (b"rubbish that is longer than a header", Notification(code=1, subcode=1)),
        (messages.encode(KEEPALIVE, CONTEXT), Notification(code=5, subcode=1)),
        (messages.encode(Update(), CONTEXT), Notification(code=5, subcode=1)),
        (messages.encode(replace(OPEN, hold_seconds=1), CONTEXT), Notification(code=2, subcode=6)),
        (messages.encode(OPEN, CONTEXT) * 2, Notification(code=5, subcode=2)),
    ],
)
def test_a_peer_that_breaks_the_protocol_is_told_how(told: bytes, answer: Notification) -> None:
    session = session_of()
    session.start(0)
    session.connected(LOCAL, 1)
    said(session)
    session.receive(told, 2)
    assert answer in said(session)
    assert session.state is State.IDLE


def test_a_refresh_as_long_as_a_message_can_be_ends_the_session_like_any_of_a_wrong_length() -> None:
    opened = replace(OPEN, capabilities=(*OPEN.capabilities, ExtendedMessage()))
    session = established(opened=opened)
    session.receive(messages.frame(MessageType.ROUTE_REFRESH, bytes(65535 - 19)), 3)
    (answer,) = said(session)
    assert isinstance(answer, Notification)
    assert (answer.code, answer.subcode) == (7, 1)
    assert session.state is State.IDLE


def test_a_notification_is_not_answered() -> None:
    session = established()
    farewell = errors.shutdown(Cease.ADMINISTRATIVE_RESET, "again")
    say(session, 3, farewell, KEEPALIVE)
    assert said(session) == []
    assert session.take_events() == [Disconnect(), Ended(ending=Ending(why="", notification=farewell))]


def test_a_connection_that_takes_too_long_is_tried_again() -> None:
    session = session_of()
    session.start(0)
    session.take_events()
    assert session.wake_at() == 20
    session.tick(20)
    assert session.take_events() == [Disconnect(), Connect()]
    session.closed("refused", 21)
    assert session.take_events() == [Disconnect(), Ended(ending=Ending(why="refused"))]


def test_an_update_fault_is_survived_or_not_as_rfc_7606_says() -> None:
    session = established()
    session.receive(messages.frame(MessageType.UPDATE, bytes.fromhex("0000 0004 400101 09 20c0000201")), 3)
    assert session.state is State.ESTABLISHED
    session.receive(messages.frame(MessageType.UPDATE, bytes.fromhex("0000 0000 21c0000201")), 3)
    assert said(session) == [Notification(code=3, subcode=10)]


def test_bytes_after_the_end_are_ignored() -> None:
    session = established()
    session.closed("the peer closed the connection", 3)
    state = session.state
    session.receive(b"rubbish that is longer than a header", 4)
    assert session.state is state
