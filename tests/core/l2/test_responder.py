"""What a LAN hears from a node that answers for addresses: replies, probes, announcements, and silence."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address, ip_address
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.core.l2 import frames, responder
from lbipam.core.l2.announcements import Address, Announced, Conflict, Event, Stage
from lbipam.core.l2.frames import (
    BROADCAST,
    NO_HARDWARE,
    UNSPECIFIED_4,
    UNSPECIFIED_6,
    Arp,
    Echo,
    Ignored,
    Message,
    NeighbourAdvertisement,
    NeighbourSolicitation,
    Operation,
)
from lbipam.core.l2.responder import Mine, Responder

NODE, CLIENT, RIVAL = (bytes.fromhex(mac) for mac in ("02000000000a", "02000000000c", "02000000000e"))
FOUR, SIX = ip_address("192.0.2.80"), ip_address("2001:db8::80")
OTHER_FOUR, OTHER_SIX = ip_address("192.0.2.81"), ip_address("2001:db8::81")
CLIENT_FOUR, CLIENT_SIX = ip_address("192.0.2.9").packed, ip_address("2001:db8::9").packed
MINE = Mine(hardware=NODE, addresses={FOUR.packed, SIX.packed}, answers_echo=True)


def who_has(
    target: Address, *, sender: bytes | None = None, hardware: bytes = CLIENT
) -> Arp | NeighbourSolicitation:
    """What a client asks the LAN; `sender` unspecified: a probe for duplicates."""
    if target.version == 4:
        return Arp(
            destination=BROADCAST,
            source=hardware,
            operation=Operation.REQUEST,
            sender_hardware=hardware,
            sender=CLIENT_FOUR if sender is None else sender,
            target_hardware=NO_HARDWARE,
            target=target.packed,
        )
    group = frames.solicited_node(target.packed)
    return NeighbourSolicitation(
        destination=frames.multicast_hardware(group),
        source=hardware,
        sender=CLIENT_SIX if sender is None else sender,
        receiver=group,
        target=target.packed,
        link_layer=None if sender == UNSPECIFIED_6 else hardware,
    )


def probe_for(target: Address, hardware: bytes = CLIENT) -> Message:
    return who_has(target, sender=UNSPECIFIED_4 if target.version == 4 else UNSPECIFIED_6, hardware=hardware)


def claim_of(address: Address, hardware: bytes = RIVAL) -> Message:
    """What somebody says who has the address."""
    if isinstance(address, IPv6Address):
        return NeighbourAdvertisement(
            destination=frames.ALL_NODES_HARDWARE,
            source=hardware,
            sender=address.packed,
            receiver=frames.ALL_NODES,
            target=address.packed,
            router=False,
            solicited=False,
            override=True,
            link_layer=hardware,
        )
    return Arp(
        destination=BROADCAST,
        source=hardware,
        operation=Operation.REPLY,
        sender_hardware=hardware,
        sender=address.packed,
        target_hardware=hardware,
        target=address.packed,
    )


def ping(address: Address) -> Echo:
    return Echo(
        destination=NODE,
        source=CLIENT,
        operation=Operation.REQUEST,
        sender=CLIENT_FOUR if address.version == 4 else CLIENT_SIX,
        receiver=address.packed,
        body=b"id\x00\x01data",
    )


def answer(frame: bytes, mine: Mine) -> bytes | Ignored:
    message = frames.decode(frame)
    return message if isinstance(message, Ignored) else responder.reply(message, mine)


def answered(message: Message, mine: Mine = MINE) -> Message | Ignored:
    outcome = answer(frames.encode(message), mine)
    return outcome if isinstance(outcome, Ignored) else frames.decode(outcome)


# --- Answers -----------------------------------------------------------------------------------------


def test_an_arp_request_is_answered_to_who_asks() -> None:
    assert answered(who_has(FOUR)) == Arp(
        destination=CLIENT,
        source=NODE,
        operation=Operation.REPLY,
        sender_hardware=NODE,
        sender=FOUR.packed,
        target_hardware=CLIENT,
        target=CLIENT_FOUR,
    )


def test_an_arp_probe_is_answered_so_that_nobody_else_takes_the_address() -> None:
    reply = answered(probe_for(FOUR))
    assert isinstance(reply, Arp)
    assert (reply.destination, reply.sender, reply.target) == (CLIENT, FOUR.packed, UNSPECIFIED_4)


def test_a_solicitation_is_answered_to_who_asks() -> None:
    assert answered(who_has(SIX)) == NeighbourAdvertisement(
        destination=CLIENT,
        source=NODE,
        sender=SIX.packed,
        receiver=CLIENT_SIX,
        target=SIX.packed,
        router=False,
        solicited=True,
        override=True,
        link_layer=NODE,
    )


def test_a_solicitation_without_a_link_layer_address_is_answered_to_its_frames_source() -> None:
    question = who_has(SIX)
    assert isinstance(question, NeighbourSolicitation)
    unicast = replace(question, destination=NODE, receiver=SIX.packed, link_layer=None)
    assert answered(unicast) == answered(question)


def test_duplicate_address_detection_is_answered_to_everybody() -> None:
    reply = answered(probe_for(SIX))
    assert isinstance(reply, NeighbourAdvertisement)
    assert (reply.destination, reply.receiver) == (frames.ALL_NODES_HARDWARE, frames.ALL_NODES)
    assert not reply.solicited
    assert reply.override


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_ping_is_answered_with_what_it_brought(address: Address) -> None:
    question = ping(address)
    assert answered(question) == Echo(
        destination=CLIENT,
        source=NODE,
        operation=Operation.REPLY,
        sender=question.receiver,
        receiver=question.sender,
        body=question.body,
    )


ARP, NS = who_has(FOUR), who_has(SIX)
assert isinstance(ARP, Arp)
assert isinstance(NS, NeighbourSolicitation)
UNANSWERED: dict[str, tuple[Message, Ignored]] = {
    "ARP for another address": (who_has(OTHER_FOUR), Ignored.NOT_ANNOUNCED),
    "ARP to another host": (replace(ARP, destination=RIVAL), Ignored.OTHER_HOST),
    "ARP that would be answered to a group": (replace(ARP, sender_hardware=BROADCAST), Ignored.MALFORMED),
    "an ARP reply": (replace(ARP, operation=Operation.REPLY), Ignored.NOT_A_REQUEST),
    "ARP of our own": (who_has(FOUR, hardware=NODE), Ignored.OWN_FRAME),
    "ARP of our own, repeated by another": (replace(ARP, sender_hardware=NODE), Ignored.OWN_FRAME),
    "ARP from who claims the address": (who_has(OTHER_FOUR, sender=FOUR.packed), Ignored.CONFLICT),
    "gratuitous ARP of another": (claim_of(FOUR), Ignored.CONFLICT),
    "NS for another address": (who_has(OTHER_SIX), Ignored.NOT_ANNOUNCED),
    "NS to another host": (replace(NS, destination=RIVAL), Ignored.OTHER_HOST),
    "NS that would be answered to a group": (replace(NS, link_layer=BROADCAST), Ignored.MALFORMED),
    "NS from a group": (replace(NS, sender=frames.ALL_NODES), Ignored.MALFORMED),
    "NS of our own": (who_has(SIX, hardware=NODE), Ignored.OWN_FRAME),
    "NA of a neighbour": (claim_of(OTHER_SIX), Ignored.NOT_A_REQUEST),
    "NA of a rival": (claim_of(SIX), Ignored.CONFLICT),
    "ping for another address": (ping(OTHER_FOUR), Ignored.NOT_ANNOUNCED),
    "ping to another host": (replace(ping(FOUR), destination=RIVAL), Ignored.OTHER_HOST),
    "a ping's reply": (replace(ping(FOUR), operation=Operation.REPLY), Ignored.NOT_A_REQUEST),
    "ping from nobody": (replace(ping(FOUR), sender=UNSPECIFIED_4), Ignored.MALFORMED),
    "ping from a group": (replace(ping(FOUR), sender=b"\xe0\x00\x00\x01"), Ignored.MALFORMED),
    "ping from everybody": (replace(ping(FOUR), sender=b"\xff" * 4), Ignored.MALFORMED),
    "ping from the address itself": (replace(ping(FOUR), sender=FOUR.packed), Ignored.MALFORMED),
    "ping in a frame from a group": (replace(ping(FOUR), source=BROADCAST), Ignored.MALFORMED),
    "ping -6 from nobody": (replace(ping(SIX), sender=UNSPECIFIED_6), Ignored.MALFORMED),
    "ping -6 from a group": (replace(ping(SIX), sender=frames.ALL_NODES), Ignored.MALFORMED),
}


@pytest.mark.parametrize(("message", "reason"), UNANSWERED.values(), ids=UNANSWERED.keys())
def test_what_is_not_answered_is_ignored_for_a_reason(message: Message, reason: Ignored) -> None:
    assert answered(message) is reason


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_ping_is_left_alone_where_it_is_not_ours_to_answer(address: Address) -> None:
    assert answered(ping(address), replace(MINE, answers_echo=False)) is Ignored.ECHO_OFF


@given(st.binary(max_size=120))
def test_any_bytes_are_answered_or_ignored(junk: bytes) -> None:
    assert isinstance(answer(junk, MINE), bytes | Ignored)


# --- Stories -----------------------------------------------------------------------------------------


def told(frame: bytes) -> str:
    """One frame that the node sends unasked, in words."""
    message = frames.decode(frame)
    match message:
        case Arp(sender=frames.UNSPECIFIED_4, operation=Operation.REQUEST):
            return f"probe {ip_address(message.target)}"
        case Arp() if message.sender == message.target and message.destination == BROADCAST:
            return f"{message.operation.name.lower()} {ip_address(message.target)}"
        case NeighbourSolicitation(sender=frames.UNSPECIFIED_6):
            return f"probe {ip_address(message.target)}"
        case NeighbourAdvertisement(receiver=frames.ALL_NODES):
            return f"advertise {ip_address(message.target)}"
        case _:
            raise AssertionError(message)


@dataclass
class Story:
    """A responder driven by its own alarm clock; `heard` is what the LAN heard and when."""

    subject: Responder = field(default_factory=lambda: Responder(interface="eth0", answers_echo=True))
    now: float = 100.0
    heard: list[tuple[float, str]] = field(default_factory=list)
    events: list[tuple[float, Event]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.link_up(NODE)

    def want(
        self, *addresses: Address, handed_over: Iterable[Address] = (), valid_until: float = inf
    ) -> None:
        self._do(
            lambda: self.subject.want(
                addresses, handed_over=frozenset(handed_over), valid_until=valid_until, now=self.now
            )
        )

    def extend(self, valid_until: float = inf) -> None:
        self._do(lambda: self.subject.extend(valid_until, self.now))

    def receive(self, message: Message) -> Message | Ignored:
        outcome = self.subject.receive(frames.encode(message), self.now)
        self._listen()
        return outcome if isinstance(outcome, Ignored) else frames.decode(outcome)

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (at := self.subject.wake_at()) is not None and at <= until:
            self.now = max(self.now, at)
            self._do(lambda: self.subject.tick(self.now))
        self.now = until
        self._do(lambda: self.subject.tick(self.now))

    def link_up(self, hardware: bytes) -> None:
        self._do(lambda: self.subject.link_up(hardware, self.now))

    def link_down(self) -> None:
        self._do(self.subject.link_down)

    def stage(self) -> Stage:
        (stage,) = self.subject.stages()
        return stage

    def take_heard(self) -> list[tuple[float, str]]:
        heard, self.heard = self.heard, []
        return heard

    def take_events(self) -> list[tuple[float, Event]]:
        events, self.events = self.events, []
        return events

    def _do(self, act: Callable[[], None]) -> None:
        act()
        self._listen()

    def _listen(self) -> None:
        self.heard += [(round(self.now - 100, 3), told(frame)) for frame in self.subject.take_output()]
        self.events += [(round(self.now - 100, 3), event) for event in self.subject.take_events()]


def announced_at(address: Address, *times: float) -> list[tuple[float, str]]:
    if address.version == 4:
        return [(at, f"{word} {address}") for at in times for word in ("request", "reply")]
    return [(at, f"advertise {address}") for at in times]


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_an_address_handed_over_is_announced_at_once_and_twice_more(address: Address) -> None:
    story = Story()
    story.want(address, handed_over=[address])
    assert not isinstance(story.receive(who_has(address)), Ignored)
    story.wait(60)
    assert story.heard == announced_at(address, 0, 1, 2)
    assert story.events == [(0, Announced(interface="eth0", address=address))]
    assert story.subject.wake_at() is None


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_a_new_address_is_probed_for_before_it_is_announced(address: Address) -> None:
    story = Story()
    story.want(address)
    assert story.receive(who_has(address)) is Ignored.NOT_YET_ANNOUNCED
    assert story.receive(ping(address)) is Ignored.NOT_YET_ANNOUNCED
    assert story.stage() is Stage.PROBING
    story.wait(60)
    assert story.heard == [(at, f"probe {address}") for at in (0, 0.2, 0.4)] + announced_at(
        address, 0.6, 1.6, 2.6
    )
    assert story.events == [(0.6, Announced(interface="eth0", address=address))]
    assert not isinstance(story.receive(who_has(address)), Ignored)


@pytest.mark.parametrize("address", [FOUR, SIX])
@pytest.mark.parametrize(
    "spoken", [claim_of, lambda address: probe_for(address, RIVAL)], ids=["claim", "probe"]
)
def test_an_address_somebody_else_has_or_wants_is_not_announced(
    address: Address, spoken: Callable[[Address], Message]
) -> None:
    story = Story()
    story.want(address)
    story.wait(0.3)
    assert story.receive(spoken(address)) is Ignored.CONFLICT
    story.wait(30)
    assert story.receive(who_has(address)) is Ignored.NOT_YET_ANNOUNCED
    assert story.heard == [(0, f"probe {address}"), (0.2, f"probe {address}")]
    assert story.events == [
        (0.3, Conflict(interface="eth0", address=address, rival=RIVAL, stage=Stage.CONFLICT))
    ]


def test_a_conflict_is_told_once_while_it_lasts_for_one_probe() -> None:
    story = Story()
    story.want(FOUR)
    for _ in range(3):
        assert story.receive(claim_of(FOUR)) is Ignored.CONFLICT
    assert len(story.events) == 1


def test_an_address_the_rival_has_left_is_announced_after_the_next_probes() -> None:
    story = Story()
    story.want(FOUR)
    story.receive(claim_of(FOUR))
    story.wait(59)
    assert story.stage() is Stage.CONFLICT
    story.wait(2)
    assert story.stage() is Stage.ANNOUNCED


def test_our_own_probe_coming_back_is_no_conflict() -> None:
    story = Story()
    story.want(FOUR, SIX)
    assert story.receive(probe_for(FOUR, NODE)) is Ignored.OWN_FRAME
    assert story.receive(probe_for(SIX, NODE)) is Ignored.OWN_FRAME
    assert story.events == []


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_an_announced_address_is_defended_once_in_ten_seconds(address: Address) -> None:
    story = Story()
    story.want(address, handed_over=[address])
    story.wait(10)
    story.take_heard()
    story.take_events()
    for _ in range(19):
        assert story.receive(claim_of(address)) is Ignored.CONFLICT
        story.wait(1)
    assert story.heard == announced_at(address, 10.5, 21.5)
    conflict = Conflict(interface="eth0", address=address, rival=RIVAL, stage=Stage.ANNOUNCED)
    assert story.events == [(10.5, conflict), (21.5, conflict)]
    assert not isinstance(story.receive(who_has(address)), Ignored)


def test_an_address_that_moves_between_nodes_is_not_fought_over() -> None:
    story = Story()
    story.want(FOUR, handed_over=[FOUR])
    story.wait(10)
    story.take_heard()
    story.take_events()
    story.receive(claim_of(FOUR))
    story.wait(0.1)
    story.want()
    story.wait(10)
    assert story.heard == []
    assert story.events == []
    assert story.receive(who_has(FOUR)) is Ignored.NOT_ANNOUNCED


def test_a_claim_during_the_announcements_is_told_with_the_next_one() -> None:
    story = Story()
    story.want(FOUR, handed_over=[FOUR])
    story.wait(0.1)
    story.receive(claim_of(FOUR))
    story.wait(10)
    assert story.heard == announced_at(FOUR, 0, 0.6, 1.6)
    assert [at for at, event in story.events if isinstance(event, Conflict)] == [0.6]


def test_whole_sets_are_handed_in_and_only_the_difference_is_told() -> None:
    story = Story()
    story.want(FOUR, SIX, handed_over=[FOUR, SIX])
    story.wait(10)
    story.take_heard()
    story.want(FOUR, OTHER_FOUR, handed_over=[FOUR, OTHER_FOUR])
    assert story.heard == announced_at(OTHER_FOUR, 10)
    assert story.receive(who_has(SIX)) is Ignored.NOT_ANNOUNCED
    assert not isinstance(story.receive(who_has(FOUR)), Ignored)


def test_nothing_is_answered_or_sent_at_or_after_the_fence() -> None:
    story = Story()
    story.want(FOUR, handed_over=[FOUR], valid_until=100.5)
    story.wait(0.4)
    assert not isinstance(story.receive(who_has(FOUR)), Ignored)
    story.wait(0.1)
    assert story.receive(who_has(FOUR)) is Ignored.FENCED
    story.wait(10)
    assert story.heard == announced_at(FOUR, 0)


def test_a_fence_moved_in_time_changes_nothing() -> None:
    story = Story()
    story.want(FOUR, handed_over=[FOUR], valid_until=101)
    story.wait(0.9)
    story.extend(105)
    story.wait(3)
    assert not isinstance(story.receive(who_has(FOUR)), Ignored)
    assert story.heard == announced_at(FOUR, 0, 1, 2)


@pytest.mark.parametrize("move", [Story.extend, lambda story: story.want(FOUR, SIX)], ids=["extend", "want"])
def test_once_a_fence_that_was_reached_is_moved_the_lan_is_told_again(move: Callable[[Story], None]) -> None:
    story = Story()
    story.want(FOUR, SIX, handed_over=[FOUR], valid_until=100.1)
    story.wait(5)
    story.take_heard()
    move(story)
    story.wait(3)
    assert not isinstance(story.receive(who_has(FOUR)), Ignored)
    assert sorted(story.heard) == sorted(
        announced_at(FOUR, 5, 6, 7)
        + [(at, f"probe {SIX}") for at in (5, 5.2, 5.4)]
        + announced_at(SIX, 5.6, 6.6, 7.6)
    )


def test_a_link_that_returns_is_told_what_was_announced_under_its_new_address() -> None:
    story = Story()
    story.want(FOUR, handed_over=[FOUR])
    story.wait(0.1)
    story.take_heard()
    story.link_down()
    assert story.receive(who_has(FOUR)) is Ignored.NOT_YET_ANNOUNCED
    story.wait(9.9)
    assert story.stage() is Stage.WAITING
    assert story.heard == []
    story.link_up(CLIENT)
    story.wait(5)
    assert story.heard == announced_at(FOUR, 10, 11, 12)
    reply = story.receive(who_has(FOUR, hardware=RIVAL))
    assert isinstance(reply, Arp)
    assert (reply.source, reply.sender_hardware) == (CLIENT, CLIENT)


def test_what_waits_to_be_sent_is_not_sent_on_a_link_that_returns() -> None:
    subject = Responder(interface="eth0", answers_echo=True)
    subject.link_up(NODE, 0)
    subject.want([FOUR], handed_over=[FOUR], valid_until=inf, now=0)
    subject.link_down()
    assert subject.take_output() == []


def test_a_link_that_returns_is_asked_anew_for_what_was_not_announced() -> None:
    story = Story()
    story.want(FOUR, SIX)
    story.receive(claim_of(FOUR))
    story.wait(0.3)
    story.take_heard()
    story.link_down()
    story.wait(0.7)
    story.link_up(NODE)
    story.wait(0.5)
    assert sorted(story.heard) == sorted(
        (at, f"probe {address}") for at in (1, 1.2, 1.4) for address in (FOUR, SIX)
    )


@pytest.mark.parametrize("ours", [True, False])
def test_what_is_wanted_on_a_link_that_is_not_there_waits_for_it(ours: bool) -> None:
    story = Story()
    story.link_down()
    story.want(FOUR, handed_over=[FOUR] if ours else [])
    story.wait(5)
    assert (story.heard, story.events, story.subject.wake_at()) == ([], [], None)
    story.link_up(NODE)
    assert story.stage() is (Stage.ANNOUNCED if ours else Stage.PROBING)


def test_a_fence_that_is_moved_tells_nothing_to_a_link_that_is_not_there() -> None:
    story = Story()
    story.link_down()
    story.want(FOUR, handed_over=[FOUR], valid_until=100.1)
    story.wait(5)
    story.extend()
    story.wait(5)
    assert story.heard == []


def test_a_tick_for_an_address_given_up_does_nothing() -> None:
    story = Story()
    story.want(FOUR)
    story.want()
    story.subject.tick(story.now + 10)
    assert story.subject.wake_at() is None
    story.want(FOUR)
    story.want()
    assert story.subject.wake_at() is None
    story.wait(10)
    assert [word for _, word in story.heard] == [f"probe {FOUR}"] * 2


@given(st.binary(max_size=60))
def test_any_bytes_received_are_ignored(junk: bytes) -> None:
    story = Story()
    story.want(FOUR, SIX, handed_over=[FOUR])
    assert isinstance(story.subject.receive(junk, story.now), Ignored)


def test_many_addresses_are_announced_a_part_at_a_time() -> None:
    story = Story()
    many = [ip_address(f"198.18.{index // 256}.{index % 256}") for index in range(1000)]
    story.want(*many, handed_over=many)
    assert not isinstance(story.receive(who_has(many[-1])), Ignored)
    assert len(story.heard) == 2 * responder.STEPS_PER_TICK
    assert story.subject.wake_at() == story.now
    story.wait(0)
    assert len(story.heard) == 2 * len(many)


def test_what_is_due_at_the_fence_is_said_only_once_it_is_moved() -> None:
    story = Story()
    story.want(FOUR, handed_over=[FOUR], valid_until=101)
    story.wait(1)
    assert story.take_heard() == announced_at(FOUR, 0)
    story.extend()
    story.wait(0)
    assert story.heard == announced_at(FOUR, 1)


macs = st.sampled_from([NODE, CLIENT, RIVAL, BROADCAST, NO_HARDWARE])
ips = st.sampled_from([address.packed for address in (FOUR, OTHER_FOUR)] + [CLIENT_FOUR, UNSPECIFIED_4])
others = {
    "destination": macs,
    "source": macs,
    "operation": st.just(Operation.REPLY),
    "sender_hardware": macs,
    "sender": ips,
    "target_hardware": macs,
    "target": ips,
}
few = st.lists(st.sampled_from(sorted(others)), max_size=2, unique=True)
otherwise = few.flatmap(lambda names: st.fixed_dictionaries({name: others[name] for name in names}))


def plain_but_for(hardware: bytes, fields: dict[str, Any]) -> Message:
    """A plain request, or what differs from one in this or that."""
    return replace(who_has(FOUR, hardware=hardware), **fields)


@given(st.builds(plain_but_for, macs, otherwise), st.sampled_from([b"", bytes(18)]))
def test_the_short_way_of_plain_requests_leads_where_the_long_one_does(
    message: Message, padding: bytes
) -> None:
    story = Story()
    story.want(FOUR, handed_over=[FOUR])
    frame = frames.encode(message) + padding
    mine = Mine(hardware=NODE, addresses={FOUR.packed}, answers_echo=True)
    assert story.subject.receive(frame, story.now) == answer(frame, mine)
