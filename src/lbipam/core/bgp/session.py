"""One session: bytes, routes and time in; bytes, events and a wake-up time out.

    start ─────▶ ┌─────────┐ ─▶ take_events(): Connect, Disconnect, Opened, Established, Ended
    connected ─▶ │         │
    receive ───▶ │ Session │ ─▶ take_output(): at most some kilobytes at a time, made when asked for
    closed ────▶ │         │
    want ──────▶ │         │ ─▶ wake_at(): when tick() is due
    tick ──────▶ └─────────┘

A session is driven by its user, by the network, and by time. Time is a number of seconds that never goes
back. UPDATEs come into being as fast as they are taken, so a peer that does not read costs nothing.
The session knows one connection; what becomes of the peer after it, and of a second connection with the
same peer, is decided by `peering`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from lbipam.core.bgp import messages, negotiation
from lbipam.core.bgp.attributes import Context
from lbipam.core.bgp.codes import FAMILIES, ErrorCode, Family, MessageType, StateError
from lbipam.core.bgp.errors import Notification, ProtocolError
from lbipam.core.bgp.fsm import TABLE, Action, Event, State
from lbipam.core.bgp.heard import Heard
from lbipam.core.bgp.messages import KEEPALIVE, Keepalive, Message, Open, RouteRefresh, Splitter, Update
from lbipam.core.bgp.negotiation import Agreement
from lbipam.core.bgp.peers import Ending, Identity, LocalAddresses, Peer, Refusal
from lbipam.core.bgp.routes import Gap, RouteSet, Voice

CONNECT_SECONDS = 20.0
"""How long a connection may take to come up before another is tried."""
LONG_HOLD_SECONDS = 240.0
"""RFC 4271 §8.2.2: until the hold time is agreed on."""
SEND_HOLD_SECONDS = 480.0
"""RFC 9687: how long a peer may take nothing of what it is told, or twice the hold time where that is longer."""
OUTPUT_LIMIT = 65536
"""Octets of UPDATEs made at a time, a last one not counted."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a TCP connection to the peer."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the TCP connection, after what output there still is."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer's OPEN is accepted."""


@dataclass(frozen=True, slots=True)
class Established:
    """Routes are exchanged from here on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The session is over; this object is of no further use."""

    ending: Ending


SessionEvent: TypeAlias = Connect | Disconnect | Opened | Established | Ended

_MESSAGE_EVENTS: Mapping[type[Message], Event] = {
    Open: Event.OPEN,
    Update: Event.UPDATE,
    Notification: Event.NOTIFICATION,
    Keepalive: Event.KEEPALIVE,
    RouteRefresh: Event.REFRESH,
}
_ERROR_EVENTS: Mapping[int, Event] = {
    ErrorCode.MESSAGE_HEADER: Event.HEADER_ERROR,
    ErrorCode.OPEN_MESSAGE: Event.OPEN_ERROR,
    ErrorCode.UPDATE_MESSAGE: Event.UPDATE_ERROR,
    ErrorCode.ROUTE_REFRESH_MESSAGE: Event.UPDATE_ERROR,
}
_STATE_ERRORS: Mapping[State, StateError] = {
    State.OPEN_SENT: StateError.OPEN_SENT,
    State.OPEN_CONFIRM: StateError.OPEN_CONFIRM,
    State.ESTABLISHED: StateError.ESTABLISHED,
}
_NOT_CONNECTED = (State.IDLE, State.CONNECT, State.ACTIVE)


class Session:
    """One connection with a peer, from the wish for it to its end."""

    def __init__(
        self,
        peer: Peer,
        ours: Identity,
        *,
        is_incoming: bool,
        restarted: bool,
        dice: Callable[[], float],
    ) -> None:
        """`restarted`: there has been no session with the peer since we started.

        `dice` gives numbers between 0 and 1, for the jitter of RFC 4271 §10.
        """
        self.is_incoming = is_incoming
        self.state = State.IDLE
        self.agreement: Agreement | None = None
        self.local: LocalAddresses | None = None
        self.heard = Heard()
        self._peer = peer
        self._ours = ours
        self._restarted = restarted
        self._dice = dice
        self._context = Context()
        self._splitter = Splitter()
        self._control = bytearray()
        self._owes_keepalive = False
        self._events: list[SessionEvent] = []
        self._gaps: dict[Family, Gap] = {family: Gap() for family in Family}
        self._voices: dict[Family, Voice] = {}
        self._unspeakable: dict[Family, str] = {}
        self._unmarked: list[Family] = []
        """Families whose End-of-RIB is still to be sent."""
        self._is_complete = False
        self._retry_at = self._hold_at = self._keepalive_at = self._send_hold_at = inf
        self._ending = Ending(why="")
        self._message: Message = KEEPALIVE
        """The newest of the peer's."""
        self._now = -inf

    # --- what drives it -----------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Connect to the peer or, for an incoming connection, wait for it to be handed over."""
        self._step(Event.START_PASSIVELY if self.is_incoming else Event.START, now)

    def connected(self, local: LocalAddresses, now: float) -> None:
        """The connection is up."""
        self.local = local
        self._step(Event.TCP_UP, now)

    def receive(self, data: bytes, now: float) -> None:
        """Bytes have come; any are survived."""
        if self.state in _NOT_CONNECTED:
            return
        self._splitter.feed(data)
        try:
            for type_, body in self._splitter:
                self._take(type_, body, now)
                if self.state in _NOT_CONNECTED:
                    return
        except ProtocolError as error:
            event = _ERROR_EVENTS[error.notification.code]
            self._end(event, now, str(error), error.notification)

    def closed(self, why: str, now: float) -> None:
        """The connection is lost, or could not be made."""
        self._end(Event.TCP_FAILS, now, why)

    def tick(self, now: float) -> None:
        """Do what is due."""
        if now >= self._retry_at:
            self._step(Event.RETRY_TIMER, now)
        if now >= self._hold_at:
            notification = Notification(code=ErrorCode.HOLD_TIMER_EXPIRED)
            self._end(Event.HOLD_TIMER, now, "nothing was heard for the hold time", notification)
        if now >= self._send_hold_at:
            notification = Notification(code=ErrorCode.SEND_HOLD_TIMER_EXPIRED)
            self._end(Event.SEND_HOLD_TIMER, now, "the peer reads nothing", notification)
        if now >= self._keepalive_at:
            self._step(Event.KEEPALIVE_TIMER, now)

    def located(self, local: LocalAddresses) -> None:
        """Other addresses are ours now. A next hop that is gone stays until there is another."""
        self.local = local
        if self.state is State.ESTABLISHED:
            self._find_voices()

    def want(self, routes: Mapping[Family, RouteSet]) -> None:
        """All routes that the peer should have; a family that is not named stays as it is."""
        for family, wanted in routes.items():
            self._gaps[family].want(wanted)

    def complete(self) -> None:
        """What is wanted is known in full, and End-of-RIB may follow it (RFC 4724 §4.1)."""
        self._is_complete = True

    def stop(self, notification: Notification, now: float) -> None:
        """End the session and tell the peer why; its routes go."""
        self._end(Event.STOP, now, "", notification)

    def yield_to_other(self, notification: Notification, now: float) -> None:
        """End this connection in favour of another with the same peer."""
        self._end(Event.COLLISION, now, "another connection goes on", notification)

    def leave_silently(self, why: str, now: float) -> None:
        """End the session without a word, so that the peer keeps routes for our return (RFC 4724)."""
        self._end(Event.LEAVE_SILENTLY, now, why)

    # --- what it is asked ---------------------------------------------------------------------------------

    def take_events(self) -> list[SessionEvent]:
        """What has happened since last asked."""
        events, self._events = self._events, []
        return events

    def take_output(self) -> bytes:
        """The next bytes for the peer, empty when there is nothing to be said now.

        To be asked for only when the connection takes some: a peer for which it is never asked reads nothing.
        """
        self._send_hold_at = inf
        parts: list[bytes] = [bytes(self._control)]
        self._control.clear()
        if self._owes_keepalive:
            self._owes_keepalive = False
            parts.append(messages.encode(KEEPALIVE, self._context))
        size = 0
        if self.state is State.ESTABLISHED:
            while size < OUTPUT_LIMIT and (update := self._next_update()) is not None:
                parts.append(update)
                size += len(update)
        return b"".join(parts)

    def wake_at(self) -> float:
        """When `tick` is due; infinity: not before something else happens."""
        return min(self._retry_at, self._hold_at, self._keepalive_at, self._send_hold_at)

    @property
    def pending(self) -> int:
        """Routes still to be announced or withdrawn."""
        return sum(self._gaps[family].pending for family in self._voices)

    def advertised(self) -> Mapping[Family, int]:
        """Routes of each family that the peer has from us."""
        return {family: self._gaps[family].advertised for family in self._voices}

    @property
    def unspeakable(self) -> Mapping[Family, str]:
        """Families agreed on whose routes cannot be announced, and why."""
        return self._unspeakable

    def refused(self) -> Mapping[Family, Refusal]:
        """Routes that cannot be announced though their family can."""
        return {
            family: Refusal(
                count=count,
                why=f"their communities leave no room for a route in a message of {voice.maximum} octets",
            )
            for family, voice in self._voices.items()
            if (count := self._gaps[family].refused)
        }

    # --- inside -------------------------------------------------------------------------------------------

    def _next_update(self) -> bytes | None:
        for family, voice in self._voices.items():
            update = self._gaps[family].next_update(voice)
            if update is not None:
                return update
        if self._is_complete and self._unmarked:
            return messages.encode(messages.end_of_rib(self._unmarked.pop()), self._context)
        return None

    def _take(self, type_: MessageType, body: bytes, now: float) -> None:
        self._message = messages.decode(type_, body, self._context)
        match self._message:
            case Open() if self.state is State.OPEN_SENT:
                self.agreement = negotiation.agree(self._peer, self._ours, self._message)
                self._context = self.agreement.context
                self._splitter.maximum = self.agreement.maximum
                self._events.append(Opened())
            case Notification():
                self._ending = Ending(why="", notification=self._message)
            case _:
                pass
        self._step(_MESSAGE_EVENTS[type(self._message)], now)

    def _end(self, event: Event, now: float, why: str, notification: Notification | None = None) -> None:
        """Go through an event that ends the session, or the attempt at one; a notification is ours."""
        self._ending = Ending(why=why, notification=notification, is_ours=notification is not None)
        self._step(event, now)

    def _step(self, event: Event, now: float) -> None:
        """The only place where the state changes."""
        before = self.state
        transition = TABLE[before, event]
        self.state, self._now = transition.state, now
        for action in transition.actions:
            if action is Action.REJECT:
                self._reject(event, before)
            else:
                self._actions[action](self)
        if transition.state is State.IDLE and before is not State.IDLE:
            self._retry_at = self._hold_at = self._keepalive_at = self._send_hold_at = inf
            self._events.append(Ended(ending=self._ending))

    def _connect(self) -> None:
        self._events.append(Connect())

    def _drop(self) -> None:
        self._hold_at = self._keepalive_at = self._send_hold_at = inf
        self._owes_keepalive = False
        self._events.append(Disconnect())

    def _start_retry(self) -> None:
        self._retry_at = self._now + min(CONNECT_SECONDS, self._peer.connect_retry_seconds)

    def _stop_retry(self) -> None:
        self._retry_at = inf

    def _send_open(self) -> None:
        proposal = negotiation.propose(self._peer, self._ours, restarted=self._restarted)
        self._control += messages.encode(proposal, self._context)
        self._hold_at = self._now + LONG_HOLD_SECONDS

    def _confirm(self) -> None:
        self._restart_hold()
        self._send_keepalive()

    def _send_keepalive(self) -> None:
        """RFC 4271 §4.4: with a hold time of 0, only the one that confirms the OPEN."""
        assert self.agreement is not None
        self._owes_keepalive = True
        periodic = self.agreement.hold_seconds > 0
        if periodic and self._send_hold_at == inf:
            self._send_hold_at = self._now + max(SEND_HOLD_SECONDS, 2.0 * self.agreement.hold_seconds)
        interval = self.agreement.keepalive_seconds * (0.75 + 0.25 * self._dice())
        self._keepalive_at = self._now + interval if periodic else inf

    def _restart_hold(self) -> None:
        assert self.agreement is not None
        self._hold_at = self._now + (self.agreement.hold_seconds or inf)

    def _notify(self) -> None:
        if self._ending.notification is not None:
            self._control += messages.encode(self._ending.notification, self._context)

    def _reject(self, event: Event, state: State) -> None:
        """RFC 6608; the fault that came with a message is not told where the message was not due at all."""
        code = ErrorCode.FINITE_STATE_MACHINE
        notification = Notification(code=code, subcode=_STATE_ERRORS[state])
        self._ending = Ending(why=f"{event.value} in {state.value}", notification=notification, is_ours=True)
        self._notify()

    def _begin(self) -> None:
        assert self.agreement is not None
        self._events.append(Established())
        self._find_voices()
        if self.agreement.marks_end:
            self._unmarked = sorted(self.agreement.families, key=_by_number, reverse=True)

    def _find_voices(self) -> None:
        """Say the routes of each family that has a next hop, and again where that is another than before."""
        assert self.agreement is not None
        assert self.local is not None
        for family, hop in negotiation.next_hops(self.agreement, self.local).items():
            known = self._voices.get(family)
            if isinstance(hop, str):
                if known is None:
                    self._unspeakable[family] = hop
            elif known is None or known.next_hop != hop:
                self._unspeakable.pop(family, None)
                self._voices[family] = Voice(
                    context=self._context,
                    local_asn=self._ours.asn,
                    family=family,
                    next_hop=hop,
                    maximum=self.agreement.maximum,
                )
                gap = self._gaps[family]
                (gap.start_over if known is None else gap.say_again)()

    def _resend(self) -> None:
        """RFC 2918 §4; what RFC 7313 adds is not offered, so that its marks are passed over."""
        assert isinstance(self._message, RouteRefresh)
        family = FAMILIES.get(self._message.family)
        if family in self._voices and self._message.subtype == 0:
            self._gaps[family].say_again()

    def _take_routes(self) -> None:
        assert isinstance(self._message, Update)
        self.heard.take(self._message)

    _actions: Mapping[Action, Callable[["Session"], None]] = {
        Action.CONNECT: _connect,
        Action.DROP: _drop,
        Action.START_RETRY: _start_retry,
        Action.STOP_RETRY: _stop_retry,
        Action.SEND_OPEN: _send_open,
        Action.CONFIRM: _confirm,
        Action.SEND_KEEPALIVE: _send_keepalive,
        Action.RESTART_HOLD: _restart_hold,
        Action.NOTIFY: _notify,
        Action.BEGIN: _begin,
        Action.RESEND: _resend,
        Action.TAKE_ROUTES: _take_routes,
    }


def _by_number(family: Family) -> tuple[int, int]:
    return family.value
