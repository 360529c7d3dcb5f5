"""The table of legal state changes, and nothing else.

        ┌──────── any fault, stop, NOTIFICATION, hold timer ────────┬─────────────────┐
        ▼                                                           │                 │
      IDLE ──start──▶ CONNECT ──TCP up──▶ OPEN_SENT ──OPEN──▶ OPEN_CONFIRM ──KEEPALIVE──▶ ESTABLISHED
        └─passive──▶ ACTIVE ───TCP up──────▲  │
                        ▲─────TCP fails───────┘

The events and the table follow RFC 4271 §8; every pair of state and event has its row. Two things differ
from the letter: a NOTIFICATION is never answered with another, and there is a stop that says nothing, for
the restart that RFC 4724 §4.1 describes. What an action does, and when timers are due, is not told here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """RFC 4271 §8.2.2."""

    IDLE = "Idle"
    CONNECT = "Connect"
    ACTIVE = "Active"
    OPEN_SENT = "OpenSent"
    OPEN_CONFIRM = "OpenConfirm"
    ESTABLISHED = "Established"


class Event(Enum):
    """RFC 4271 §8.1, by its numbers; those that lbipam cannot meet are left out."""

    START = "1 ManualStart"
    STOP = "2 ManualStop"
    START_PASSIVELY = "4 ManualStart_with_PassiveTcpEstablishment"
    RETRY_TIMER = "9 ConnectRetryTimer_Expires"
    HOLD_TIMER = "10 HoldTimer_Expires"
    KEEPALIVE_TIMER = "11 KeepaliveTimer_Expires"
    TCP_UP = "16 Tcp_CR_Acked, 17 TcpConnectionConfirmed"
    TCP_FAILS = "18 TcpConnectionFails"
    OPEN = "19 BGPOpen"
    HEADER_ERROR = "21 BGPHeaderErr"
    OPEN_ERROR = "22 BGPOpenMsgErr"
    COLLISION = "23 OpenCollisionDump"
    NOTIFICATION = "24 NotifMsgVerErr, 25 NotifMsg"
    KEEPALIVE = "26 KeepAliveMsg"
    UPDATE = "27 UpdateMsg"
    UPDATE_ERROR = "28 UpdateMsgErr"
    SEND_HOLD_TIMER = "29 SendHoldTimer_Expires (RFC 9687)"
    REFRESH = "ROUTE-REFRESH (RFC 2918)"
    LEAVE_SILENTLY = "restart (RFC 4724 §4.1)"


class Action(Enum):
    """What goes with a change of state, in order."""

    CONNECT = "open a TCP connection"
    DROP = "close the TCP connection"
    START_RETRY = "start the ConnectRetryTimer"
    STOP_RETRY = "stop the ConnectRetryTimer"
    SEND_OPEN = "send an OPEN and start the HoldTimer with a large value"
    CONFIRM = "send a KEEPALIVE and start the timers that were agreed on"
    SEND_KEEPALIVE = "send a KEEPALIVE and start the KeepaliveTimer"
    RESTART_HOLD = "start the HoldTimer"
    NOTIFY = "send the NOTIFICATION that the fault deserves"
    REJECT = "send a NOTIFICATION: Finite State Machine Error"
    BEGIN = "announce everything that is wanted"
    RESEND = "announce a family again"
    TAKE_ROUTES = "count the routes received"


@dataclass(frozen=True, slots=True)
class Transition:
    """A row of the table."""

    state: State
    actions: tuple[Action, ...] = ()


_END = Transition(State.IDLE, (Action.STOP_RETRY, Action.DROP))
_NOTIFY_AND_END = Transition(State.IDLE, (Action.NOTIFY, Action.DROP))
_REJECT_AND_END = Transition(State.IDLE, (Action.REJECT, Action.DROP))
_CONNECT = Transition(State.CONNECT, (Action.START_RETRY, Action.CONNECT))
_GREET = Transition(State.OPEN_SENT, (Action.STOP_RETRY, Action.SEND_OPEN))

_WITHOUT_TCP = dict.fromkeys(Event, _END)
_WITH_TCP = {
    **dict.fromkeys(Event, _REJECT_AND_END),
    Event.STOP: _NOTIFY_AND_END,
    Event.HOLD_TIMER: _NOTIFY_AND_END,
    Event.SEND_HOLD_TIMER: _NOTIFY_AND_END,
    Event.HEADER_ERROR: _NOTIFY_AND_END,
    Event.OPEN_ERROR: _NOTIFY_AND_END,
    Event.COLLISION: _NOTIFY_AND_END,
    Event.TCP_FAILS: _END,
    Event.NOTIFICATION: _END,
    Event.LEAVE_SILENTLY: _END,
}
_ROWS: Mapping[State, Mapping[Event, Transition]] = {
    State.IDLE: {
        **dict.fromkeys(Event, Transition(State.IDLE)),
        Event.START: _CONNECT,
        Event.START_PASSIVELY: Transition(State.ACTIVE),
    },
    State.CONNECT: {
        **_WITHOUT_TCP,
        **dict.fromkeys((Event.START, Event.START_PASSIVELY), Transition(State.CONNECT)),
        Event.RETRY_TIMER: Transition(State.CONNECT, (Action.DROP, Action.START_RETRY, Action.CONNECT)),
        Event.TCP_UP: _GREET,
    },
    State.ACTIVE: {
        **_WITHOUT_TCP,
        **dict.fromkeys((Event.START, Event.START_PASSIVELY), Transition(State.ACTIVE)),
        Event.RETRY_TIMER: _CONNECT,
        Event.TCP_UP: _GREET,
    },
    State.OPEN_SENT: {
        **_WITH_TCP,
        **dict.fromkeys((Event.START, Event.START_PASSIVELY), Transition(State.OPEN_SENT)),
        Event.TCP_FAILS: Transition(State.ACTIVE, (Action.DROP, Action.START_RETRY)),
        Event.OPEN: Transition(State.OPEN_CONFIRM, (Action.CONFIRM,)),
    },
    State.OPEN_CONFIRM: {
        **_WITH_TCP,
        **dict.fromkeys((Event.START, Event.START_PASSIVELY), Transition(State.OPEN_CONFIRM)),
        Event.KEEPALIVE_TIMER: Transition(State.OPEN_CONFIRM, (Action.SEND_KEEPALIVE,)),
        Event.KEEPALIVE: Transition(State.ESTABLISHED, (Action.RESTART_HOLD, Action.BEGIN)),
    },
    State.ESTABLISHED: {
        **_WITH_TCP,
        **dict.fromkeys((Event.START, Event.START_PASSIVELY), Transition(State.ESTABLISHED)),
        Event.KEEPALIVE_TIMER: Transition(State.ESTABLISHED, (Action.SEND_KEEPALIVE,)),
        Event.KEEPALIVE: Transition(State.ESTABLISHED, (Action.RESTART_HOLD,)),
        Event.UPDATE: Transition(State.ESTABLISHED, (Action.RESTART_HOLD, Action.TAKE_ROUTES)),
        Event.UPDATE_ERROR: _NOTIFY_AND_END,
        Event.REFRESH: Transition(State.ESTABLISHED, (Action.RESTART_HOLD, Action.RESEND)),
    },
}

TABLE: Mapping[tuple[State, Event], Transition] = {
    (state, event): transition for state, row in _ROWS.items() for event, transition in row.items()
}
