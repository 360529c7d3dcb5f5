"""Answer this frame or say why not; when to announce unasked.

    WAITING ──link up──▶ PROBING ──three probes, no answer──▶ ANNOUNCED ──after 0, 1, 2 s──▶ announced again
       │                  │  ▲                                    ▲
       │             claimed │ after 60 s                         │
       │                  ▼  │                                    │
       │                CONFLICT                                  │
       └──link up, one of our own nodes had the address before────┘

A `Responder` answers for one interface. Time is a number of seconds passed in; what is to be sent and
told waits until taken. It opens no socket and does not know which addresses should be announced here.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from math import inf

from lbipam.core.l2 import frames
from lbipam.core.l2.announcements import Address, Announced, Conflict, Event, Stage
from lbipam.core.l2.frames import (
    Arp,
    Echo,
    Ignored,
    Message,
    NeighbourAdvertisement,
    NeighbourSolicitation,
    Operation,
)

PROBES = 3
PROBE_INTERVAL_SECONDS = 0.2
"""RFC 5227 waits for seconds, RFC 4862 for one; 0.6 s in all is long for a LAN and short for a Service."""
ANNOUNCEMENTS = 3
ANNOUNCE_INTERVAL_SECONDS = 1.0
STEPS_PER_TICK = 256
"""So that ten thousand new addresses do not keep questions for others waiting."""
CONFLICT_RETRY_SECONDS = 60.0
DEFEND_DELAY_SECONDS = 0.5
"""Time for an address that moves between our own nodes to be taken from us before we defend it."""
DEFEND_INTERVAL_SECONDS = 10.0
"""RFC 5227 §1.1, DEFEND_INTERVAL."""

_PLAIN_ARP = bytes.fromhex("0806 0001 0800 06 04 0001")
"""An untagged request for IPv4 over Ethernet, from the frame's type to ARP's operation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mine:
    """What is answered for on one interface."""

    hardware: bytes
    """The interface's link-layer address."""
    addresses: Collection[bytes]
    """Packed, of both families."""
    answers_echo: bool
    """Whether ping is answered here; not, where the node's own packet processing does."""


def reply(message: Message, mine: Mine) -> bytes | Ignored:
    """The frame that answers `message`, or why there is none."""
    if mine.hardware in (message.source, _speaker(message)):
        return Ignored.OWN_FRAME
    match message:
        case Arp():
            return _reply_to_arp(message, mine)
        case NeighbourSolicitation():
            return _reply_to_solicitation(message, mine)
        case NeighbourAdvertisement():
            return Ignored.CONFLICT if message.target in mine.addresses else Ignored.NOT_A_REQUEST
        case _:
            return _reply_to_echo(message, mine)


def _reply_to_arp(message: Arp, mine: Mine) -> bytes | Ignored:
    if message.sender in mine.addresses:
        return Ignored.CONFLICT
    if message.operation is not Operation.REQUEST:
        return Ignored.NOT_A_REQUEST
    if message.destination not in (frames.BROADCAST, mine.hardware):
        return Ignored.OTHER_HOST
    if message.target not in mine.addresses:
        return Ignored.NOT_ANNOUNCED
    if _is_group(message.sender_hardware):
        return Ignored.MALFORMED
    return frames.encode(
        Arp(
            destination=message.sender_hardware,
            source=mine.hardware,
            operation=Operation.REPLY,
            sender_hardware=mine.hardware,
            sender=message.target,
            target_hardware=message.sender_hardware,
            target=message.sender,
        )
    )


def _reply_to_solicitation(message: NeighbourSolicitation, mine: Mine) -> bytes | Ignored:
    """The advertisement that RFC 4861 §7.2.4 asks for; in duplicate address detection it goes to all nodes."""
    asker = message.link_layer or message.source
    if not _is_group(message.destination) and message.destination != mine.hardware:
        return Ignored.OTHER_HOST
    if message.target not in mine.addresses:
        return Ignored.NOT_ANNOUNCED
    if _is_group(asker) or message.sender[0] == 0xFF:
        return Ignored.MALFORMED
    if message.sender == frames.UNSPECIFIED_6:
        return _advertisement(message.target, mine.hardware)
    return frames.encode(
        NeighbourAdvertisement(
            destination=asker,
            source=mine.hardware,
            sender=message.target,
            receiver=message.sender,
            target=message.target,
            router=False,
            solicited=True,
            override=True,
            link_layer=mine.hardware,
        )
    )


def _reply_to_echo(message: Echo, mine: Mine) -> bytes | Ignored:
    if message.operation is not Operation.REQUEST:
        return Ignored.NOT_A_REQUEST
    if message.receiver not in mine.addresses:
        return Ignored.NOT_ANNOUNCED
    if message.destination != mine.hardware:
        return Ignored.OTHER_HOST
    if not mine.answers_echo:
        return Ignored.ECHO_OFF
    if _is_group(message.source) or message.sender in mine.addresses or not _is_unicast(message.sender):
        return Ignored.MALFORMED
    return frames.encode(
        Echo(
            destination=message.source,
            source=mine.hardware,
            operation=Operation.REPLY,
            sender=message.receiver,
            receiver=message.sender,
            body=message.body,
        )
    )


def _speaker(message: Message) -> bytes:
    """Whose link-layer address a message gives; a repeater's frames carry its own around another's words."""
    match message:
        case Arp():
            return message.sender_hardware
        case NeighbourAdvertisement() | NeighbourSolicitation():
            return message.link_layer or message.source
        case _:
            return message.source


def _is_group(hardware: bytes) -> bool:
    return bool(hardware[0] & 1)


def _is_unicast(address: bytes) -> bool:
    """Whether an echo may come from here: RFC 1122 §3.2.1.3, RFC 4443 §2.4 (e)."""
    if len(address) == 4:
        return 0 < address[0] < 0xE0
    return address != frames.UNSPECIFIED_6 and address[0] != 0xFF


def probe(address: bytes, hardware: bytes) -> bytes:
    """The question whether anybody has the address: RFC 5227 §2.1.1, RFC 4862 §5.4.2."""
    if len(address) == 4:
        return frames.encode(
            Arp(
                destination=frames.BROADCAST,
                source=hardware,
                operation=Operation.REQUEST,
                sender_hardware=hardware,
                sender=frames.UNSPECIFIED_4,
                target_hardware=frames.NO_HARDWARE,
                target=address,
            )
        )
    group = frames.solicited_node(address)
    return frames.encode(
        NeighbourSolicitation(
            destination=frames.multicast_hardware(group),
            source=hardware,
            sender=frames.UNSPECIFIED_6,
            receiver=group,
            target=address,
            link_layer=None,
        )
    )


def announcement(address: bytes, hardware: bytes) -> tuple[bytes, ...]:
    """What moves the address in every neighbour's table to `hardware`.

    For IPv4 both forms of gratuitous ARP, since some hosts heed only one of them (RFC 5227 §3); for IPv6
    an unsolicited advertisement that overrides (RFC 4861 §7.2.6).
    """
    if len(address) == 16:
        return (_advertisement(address, hardware),)
    request = Arp(
        destination=frames.BROADCAST,
        source=hardware,
        operation=Operation.REQUEST,
        sender_hardware=hardware,
        sender=address,
        target_hardware=frames.NO_HARDWARE,
        target=address,
    )
    answered = replace(request, operation=Operation.REPLY, target_hardware=hardware)
    return frames.encode(request), frames.encode(answered)


def _advertisement(address: bytes, hardware: bytes) -> bytes:
    return frames.encode(
        NeighbourAdvertisement(
            destination=frames.ALL_NODES_HARDWARE,
            source=hardware,
            sender=address,
            receiver=frames.ALL_NODES,
            target=address,
            router=False,
            solicited=False,
            override=True,
            link_layer=hardware,
        )
    )


@dataclass(slots=True, kw_only=True)
class _Wish:
    """One wanted address and how far it has come; mutated by its `Responder` alone."""

    address: Address
    stage: Stage
    step: int = 0
    """Probes or announcements sent in this stage."""
    wake_at: float = inf
    is_ours: bool = False
    """Whether one of our nodes answered for it before, so that nobody else can have it."""
    rival: bytes | None = None
    reported: bool = True
    """Whether `rival` has been told as an event."""
    defended_at: float = -inf


class Responder:
    """Answers for a changing set of addresses on one interface, until the fence `valid_until`.

    It begins without a link.
    """

    def __init__(self, *, interface: str, answers_echo: bool) -> None:
        self._interface = interface
        self._is_linked = False
        self._wishes: dict[bytes, _Wish] = {}
        self._mine = Mine(hardware=frames.NO_HARDWARE, addresses=frozenset(), answers_echo=answers_echo)
        self._arp_reply = b""
        self.valid_until = -inf
        """Nothing is to be sent or answered at or after this time."""
        self._due: list[tuple[float, bytes]] = []
        self._output: list[bytes] = []
        self._events: list[Event] = []

    def want(
        self,
        addresses: Iterable[Address],
        *,
        handed_over: Collection[Address],
        valid_until: float,
        now: float,
    ) -> None:
        """Answer from now on for exactly these addresses, and not at or after `valid_until`.

        Those in `handed_over` were answered for by one of our own nodes before: they are announced at once.
        The others are probed for first.
        """
        wanted = {address.packed: address for address in addresses}
        for gone in self._wishes.keys() - wanted.keys():
            del self._wishes[gone]
        self._move_fence(valid_until, now)
        for packed in wanted.keys() - self._wishes.keys():
            address = wanted[packed]
            ours = address in handed_over
            self._wishes[packed] = _Wish(address=address, stage=Stage.WAITING, is_ours=ours)
            self._begin(packed, now)
        self._settle()
        self.tick(now)

    def extend(self, valid_until: float, now: float) -> None:
        """Move the fence, which had not been reached when this was said, though it may be when this is heard."""
        self._move_fence(valid_until, now)

    def link_up(self, hardware: bytes, now: float) -> None:
        """The interface can be used, and has this link-layer address: tell the LAN."""
        self._is_linked = True
        self._mine = replace(self._mine, hardware=hardware)
        self._arp_reply = hardware + _PLAIN_ARP[:-1] + b"\x02" + hardware
        for packed in self._wishes:
            self._begin(packed, now)
        self._settle()

    def link_down(self) -> None:
        """The interface cannot be used."""
        self._is_linked = False
        self._output.clear()
        for wish in self._wishes.values():
            wish.stage, wish.wake_at = Stage.WAITING, inf
        self._settle()

    def receive(self, frame: bytes, now: float) -> bytes | Ignored:
        """The answer to a frame, or why there is none; claims of others are noted."""
        if now >= self.valid_until:
            return Ignored.FENCED
        plain = self._reply_to_plain_arp(frame)
        if plain is not None:
            return plain
        message = frames.decode(frame)
        if isinstance(message, Ignored):
            return message
        speaker = _speaker(message)
        if self._mine.hardware not in (message.source, speaker):
            claimed = self._claimed(message)
            if claimed is not None:
                self._contest(claimed, speaker, now)
                return Ignored.CONFLICT
        outcome = reply(message, self._mine)
        if outcome is Ignored.NOT_ANNOUNCED and _asked_for(message) in self._wishes:
            return Ignored.NOT_YET_ANNOUNCED
        return outcome

    def tick(self, now: float) -> None:
        """Do what is due, or the first `STEPS_PER_TICK` of it; then `wake_at` stays in the past."""
        changed = False
        for _ in range(STEPS_PER_TICK):
            if not self._due or self._due[0][0] > now:
                break
            at, packed = heappop(self._due)
            wish = self._wishes.get(packed)
            if wish is None or wish.wake_at != at or now >= self.valid_until:
                continue
            changed |= self._advance(packed, wish, now)
        if changed:
            self._settle()

    def wake_at(self) -> float | None:
        """When `tick` is to be called next; None: not before something happens."""
        while self._due:
            at, packed = self._due[0]
            wish = self._wishes.get(packed)
            if wish is not None and wish.wake_at == at:
                return at
            heappop(self._due)
        return None

    def take_output(self) -> list[bytes]:
        """The frames to be sent, oldest first."""
        output, self._output = self._output, []
        return output

    def take_events(self) -> list[Event]:
        """What has happened since the last call."""
        events, self._events = self._events, []
        return events

    def stages(self) -> Mapping[Stage, int]:
        """How many addresses are in each stage."""
        return Counter(wish.stage for wish in self._wishes.values())

    def _reply_to_plain_arp(self, frame: bytes) -> bytes | None:
        """What `reply` says to a broadcast ARP request of the plainest kind; None for any other frame.

        That is nearly every frame that matters, and done on the bytes as they are it takes a third of the time.
        """
        asker = frame[6:12]
        if (
            frame[:6] != frames.BROADCAST
            or frame[12:22] != _PLAIN_ARP
            or frame[22:28] != asker
            or frame[38:42] not in self._mine.addresses
            or frame[28:32] in self._wishes
            or asker[0] & 1
            or asker == self._mine.hardware
        ):
            return None
        return asker + self._arp_reply + frame[38:42] + asker + frame[28:32]

    def _settle(self) -> None:
        """Answer for what is announced, and for nothing else."""
        announced = frozenset(
            packed for packed, wish in self._wishes.items() if wish.stage is Stage.ANNOUNCED
        )
        self._mine = replace(self._mine, addresses=announced)

    def _move_fence(self, valid_until: float, now: float) -> None:
        """Move it; what was not said behind it is said now."""
        if now >= self.valid_until and self._is_linked:
            for packed, wish in self._wishes.items():
                self._schedule(packed, wish, step=0, at=now)
        self.valid_until = valid_until

    def _schedule(self, packed: bytes, wish: _Wish, *, step: int, at: float) -> None:
        wish.step, wish.wake_at = step, at
        if at < inf:
            heappush(self._due, (at, packed))

    def _begin(self, packed: bytes, now: float) -> None:
        if self._is_linked:
            ours = self._wishes[packed].is_ours
            self._enter(packed, Stage.ANNOUNCED if ours else Stage.PROBING, now)

    def _enter(self, packed: bytes, stage: Stage, now: float) -> None:
        wish = self._wishes[packed]
        wish.stage, wish.is_ours = stage, stage is Stage.ANNOUNCED
        if stage is Stage.ANNOUNCED:
            self._events.append(Announced(interface=self._interface, address=wish.address))
        self._schedule(
            packed, wish, step=0, at=now + CONFLICT_RETRY_SECONDS if stage is Stage.CONFLICT else now
        )

    def _advance(self, packed: bytes, wish: _Wish, now: float) -> bool:
        """Take the step that is due; returns whether the stage has changed."""
        if wish.stage is Stage.CONFLICT:
            self._enter(packed, Stage.PROBING, now)
            return True
        if wish.stage is Stage.PROBING and wish.step == PROBES:
            self._enter(packed, Stage.ANNOUNCED, now)
            return True
        if wish.stage is Stage.PROBING:
            self._output.append(probe(packed, self._mine.hardware))
            self._schedule(packed, wish, step=wish.step + 1, at=now + PROBE_INTERVAL_SECONDS)
            return False
        if not wish.reported:
            self._report(wish)
            wish.defended_at = now
        self._output += announcement(packed, self._mine.hardware)
        step = wish.step + 1
        self._schedule(
            packed, wish, step=step, at=now + ANNOUNCE_INTERVAL_SECONDS if step < ANNOUNCEMENTS else inf
        )
        return False

    def _claimed(self, message: Message) -> bytes | None:
        """Which wanted address the sender says is its own (RFC 5227 §2.1.1, §2.4; RFC 4862 §5.4.3, §5.4.4)."""
        match message:
            case Arp(sender=frames.UNSPECIFIED_4):
                claimed, probes = message.target, True
            case Arp():
                claimed, probes = message.sender, False
            case NeighbourAdvertisement():
                claimed, probes = message.target, False
            case NeighbourSolicitation(sender=frames.UNSPECIFIED_6):
                claimed, probes = message.target, True
            case _:
                return None
        wish = self._wishes.get(claimed)
        if wish is None or (probes and wish.stage is Stage.ANNOUNCED):
            return None
        return claimed

    def _contest(self, packed: bytes, rival: bytes, now: float) -> None:
        """Give way before the address is announced; afterwards defend it, once in `DEFEND_INTERVAL_SECONDS`."""
        wish = self._wishes[packed]
        wish.rival = rival
        if wish.stage is Stage.PROBING:
            self._enter(packed, Stage.CONFLICT, now)
            self._report(wish)
        elif (
            wish.stage is Stage.ANNOUNCED
            and wish.reported
            and now >= wish.defended_at + DEFEND_INTERVAL_SECONDS
        ):
            wish.reported = False
            last = min(wish.step, ANNOUNCEMENTS - 1)
            self._schedule(packed, wish, step=last, at=now + DEFEND_DELAY_SECONDS)

    def _report(self, wish: _Wish) -> None:
        assert wish.rival is not None, "a conflict has two sides"
        wish.reported = True
        self._events.append(
            Conflict(interface=self._interface, address=wish.address, rival=wish.rival, stage=wish.stage)
        )


def _asked_for(message: Message) -> bytes:
    return message.receiver if isinstance(message, Echo) else message.target
