"""Is the path to one neighbour alive?

            DOWN received                     INIT or UP received
      DOWN ───────────────▶ INIT ─────────────────────────────────▶ UP
        │   INIT received                                           ▲ │
        ├───────────────────────────────────────────────────────────┘ │
        ◀──── nothing heard for the detection time, DOWN received ────┘

One session of RFC 5880 in asynchronous mode: packets and time in; packets, changes of state and a
wake-up time out. Time is a number of seconds that never goes back. It does not know how packets travel.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from lbipam.core.bfd.packets import Diagnostic, Packet, State

SLOW_SECONDS = 1.0
"""RFC 5880 §6.8.3: the least interval while a session is not up."""
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How often packets are sent and wanted, and how many may be missed."""

    interval_seconds: float
    multiplier: int
    """1–255."""


def strictest(timings: Iterable[Timing]) -> Timing:
    """Of the wishes of several for one session the one by which a failure is found first."""
    return min(timings, key=lambda one: (one.interval_seconds * one.multiplier, one.interval_seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The session has come up or gone down."""

    state: State
    diagnostic: Diagnostic
    is_on_purpose: bool = False
    """The neighbour has switched BFD off: that says nothing about the path (RFC 5882 §3.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a session stands."""

    state: State
    since: float
    diagnostic: Diagnostic
    """Why it last went down."""
    transmit_seconds: float
    """Interval agreed on."""
    detection_seconds: float
    """0 as long as nothing has been heard."""
    downs: int
    """How often it went down after it had been up."""


class Session:
    """Watches one neighbour."""

    def __init__(self, timing: Timing, *, discriminator: int, dice: Callable[[], float], now: float) -> None:
        """`discriminator` is not 0 and no other session's here; `dice` gives numbers between 0 and 1."""
        self.discriminator = discriminator
        self.state = State.DOWN
        self._since = now
        self._wanted = timing
        self._timing = timing
        """What the neighbour is told."""
        self._before = timing
        """What it was told before; until it has answered a poll it may count on that."""
        self._dice = dice
        self._diagnostic = Diagnostic.NONE
        self._theirs = 0
        self._their_transmit = 0.0
        self._their_receive = 1e-6
        """RFC 5880 §6.8.1: one microsecond until the neighbour says otherwise."""
        self._their_multiplier = 0
        self._their_demand = False
        self._is_polling = False
        self._downs = 0
        self._send_at = now
        self._detect_at = inf
        self._output: list[Packet] = []
        self._changes: list[Change] = []

    # --- what drives it -----------------------------------------------------------------------------------

    def receive(self, packet: Packet, now: float) -> None:
        """RFC 5880 §6.8.6, after the packet has been found to be for this session."""
        if self.state is State.ADMIN_DOWN:
            return
        before = self._transmit_interval
        self._theirs = packet.mine
        self._their_multiplier = packet.multiplier
        self._their_transmit = packet.desired_transmit / _MICROSECONDS
        self._their_receive = packet.required_receive / _MICROSECONDS
        self._their_demand = packet.demand and packet.state is State.UP
        if packet.final and self._is_polling:
            self._take_up()
        self._follow(packet, now)
        self._detect_at = now + self._detection_seconds
        if packet.poll:
            self._output.append(self._packet(final=True))
        if self._transmit_interval < before or self._send_at == inf:
            self._send_at = min(self._send_at, now + self._jittered())

    def tick(self, now: float) -> None:
        """Do what is due."""
        if now >= self._detect_at:
            self._detect_at = inf
            self._theirs = 0
            if self.state in (State.INIT, State.UP):
                self._change(State.DOWN, Diagnostic.CONTROL_DETECTION_TIME_EXPIRED, now)
        if now >= self._send_at and self._is_silent:
            self._send_at = inf
        elif now >= self._send_at:
            self._output.append(self._packet())
            self._send_at = now + self._jittered()

    def retime(self, timing: Timing, now: float) -> None:
        """Go on by another timing; what is told by a poll that is under way comes first."""
        detection = self._detection_seconds
        self._wanted = timing
        if not self._is_polling:
            self._take_up()
        self._detect_at += self._detection_seconds - detection
        self._send_at = min(self._send_at, now + self._jittered())

    def stop(self, now: float) -> None:
        """Watch no longer, and say that this is on purpose; the neighbour must not take it for a failure."""
        self.state, self._since = State.ADMIN_DOWN, now
        self._diagnostic = Diagnostic.ADMINISTRATIVELY_DOWN
        self._output.append(self._packet())
        self._send_at = self._detect_at = inf

    # --- what it is asked ---------------------------------------------------------------------------------

    def take_output(self) -> list[Packet]:
        """Packets to be sent now."""
        output, self._output = self._output, []
        return output

    def take_changes(self) -> list[Change]:
        """What has happened since last asked."""
        changes, self._changes = self._changes, []
        return changes

    def wake_at(self) -> float:
        """When `tick` is due; infinity: not before something is received."""
        return min(self._send_at, self._detect_at)

    def status(self) -> Status:
        """How the session stands."""
        return Status(
            state=self.state,
            since=self._since,
            diagnostic=self._diagnostic,
            transmit_seconds=self._transmit_interval,
            detection_seconds=self._detection_seconds,
            downs=self._downs,
        )

    # --- inside -------------------------------------------------------------------------------------------

    def _follow(self, packet: Packet, now: float) -> None:
        match self.state, packet.state:
            case ((State.INIT | State.UP), State.ADMIN_DOWN):
                self._change(State.DOWN, Diagnostic.NEIGHBOR_SIGNALED_SESSION_DOWN, now, is_on_purpose=True)
            case State.DOWN, State.DOWN:
                self._change(State.INIT, self._diagnostic, now)
            case (State.DOWN, State.INIT) | (State.INIT, State.INIT | State.UP):
                self._change(State.UP, Diagnostic.NONE, now)
            case State.UP, State.DOWN:
                self._change(State.DOWN, Diagnostic.NEIGHBOR_SIGNALED_SESSION_DOWN, now)
            case _:
                pass

    def _change(
        self, state: State, diagnostic: Diagnostic, now: float, *, is_on_purpose: bool = False
    ) -> None:
        before, self.state, self._since = self.state, state, now
        self._diagnostic = diagnostic
        self._timing = self._before = self._wanted
        # RFC 5880 §6.8.3: the interval changes with the state, which the neighbour is told by a poll.
        self._is_polling = state is State.UP
        self._send_at = now
        if State.UP in (before, state):
            self._downs += before is State.UP
            self._changes.append(Change(state=state, diagnostic=diagnostic, is_on_purpose=is_on_purpose))

    def _take_up(self) -> None:
        """Tell the timing that is wanted, by a poll where it is another one (RFC 5880 §6.8.3)."""
        is_up = self.state is State.UP
        self._before, self._timing = self._timing if is_up else self._wanted, self._wanted
        self._is_polling = self._before != self._timing

    def _packet(self, *, final: bool = False) -> Packet:
        return Packet(
            state=self.state,
            diagnostic=self._diagnostic,
            poll=self._is_polling and not final,
            final=final,
            multiplier=self._timing.multiplier,
            mine=self.discriminator,
            yours=self._theirs,
            desired_transmit=round(self._desired_transmit(self._timing) * _MICROSECONDS),
            required_receive=round(self._timing.interval_seconds * _MICROSECONDS),
        )

    def _desired_transmit(self, timing: Timing) -> float:
        interval = timing.interval_seconds
        return interval if self.state is State.UP else max(interval, SLOW_SECONDS)

    @property
    def _transmit_interval(self) -> float:
        """RFC 5880 §6.8.7; no slower than the neighbour can know (§6.8.3)."""
        return max(min(map(self._desired_transmit, (self._before, self._timing))), self._their_receive)

    @property
    def _is_silent(self) -> bool:
        """RFC 5880 §6.8.7: the neighbour wants no periodic packets."""
        return self._their_receive == 0 or (
            self._their_demand and self.state is State.UP and not self._is_polling
        )

    @property
    def _detection_seconds(self) -> float:
        """RFC 5880 §6.8.4; as long as the neighbour may go by what it was told before (§6.8.3)."""
        ours = max(self._before.interval_seconds, self._timing.interval_seconds)
        return self._their_multiplier * max(ours, self._their_transmit)

    def _jittered(self) -> float:
        """RFC 5880 §6.8.7: 75–100 % of the interval, and at most 90 % where none may be missed."""
        span = 0.15 if self._timing.multiplier == 1 else 0.25
        return self._transmit_interval * (0.75 + span * self._dice())
