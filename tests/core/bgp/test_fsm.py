"""The table of states, row by row."""

from collections import deque

import pytest

from lbipam.core.bgp.fsm import TABLE, Action, Event, State

NOT_CONNECTED = (State.IDLE, State.CONNECT, State.ACTIVE)
CONNECTED = (State.OPEN_SENT, State.OPEN_CONFIRM, State.ESTABLISHED)

EXPECTED = {
    (State.IDLE, Event.START): State.CONNECT,
    (State.IDLE, Event.START_PASSIVELY): State.ACTIVE,
    (State.CONNECT, Event.TCP_UP): State.OPEN_SENT,
    (State.CONNECT, Event.RETRY_TIMER): State.CONNECT,
    (State.ACTIVE, Event.TCP_UP): State.OPEN_SENT,
    (State.ACTIVE, Event.RETRY_TIMER): State.CONNECT,
    (State.OPEN_SENT, Event.OPEN): State.OPEN_CONFIRM,
    (State.OPEN_SENT, Event.TCP_FAILS): State.ACTIVE,
    (State.OPEN_CONFIRM, Event.KEEPALIVE): State.ESTABLISHED,
    (State.OPEN_CONFIRM, Event.KEEPALIVE_TIMER): State.OPEN_CONFIRM,
    (State.ESTABLISHED, Event.KEEPALIVE): State.ESTABLISHED,
    (State.ESTABLISHED, Event.KEEPALIVE_TIMER): State.ESTABLISHED,
    (State.ESTABLISHED, Event.UPDATE): State.ESTABLISHED,
    (State.ESTABLISHED, Event.REFRESH): State.ESTABLISHED,
}
"""Every pair that does not lead to Idle, but for starts of what is already started."""


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_pair_of_state_and_event_has_its_row(state: State, event: Event) -> None:
    if event in (Event.START, Event.START_PASSIVELY) and state is not State.IDLE:
        assert TABLE[state, event].state is state
        assert not TABLE[state, event].actions
    else:
        assert TABLE[state, event].state is EXPECTED.get((state, event), State.IDLE)


def test_whatever_ends_a_connection_closes_it() -> None:
    for (state, _), transition in TABLE.items():
        if state in CONNECTED and transition.state in NOT_CONNECTED:
            assert Action.DROP in transition.actions


def test_routes_are_exchanged_in_established_only() -> None:
    for (state, _), transition in TABLE.items():
        if {Action.TAKE_ROUTES, Action.RESEND} & set(transition.actions):
            assert state is State.ESTABLISHED
        assert (Action.BEGIN in transition.actions) == (
            transition.state is State.ESTABLISHED and state is not State.ESTABLISHED
        )


@pytest.mark.parametrize("event", [Event.NOTIFICATION, Event.TCP_FAILS, Event.LEAVE_SILENTLY])
def test_nothing_is_said_to_a_peer_that_is_gone_or_is_not_to_know(event: Event) -> None:
    for state in State:
        assert not {Action.NOTIFY, Action.REJECT} & set(TABLE[state, event].actions)


def test_every_state_can_be_reached_and_left() -> None:
    reached, queue = {State.IDLE}, deque([State.IDLE])
    while queue:
        here = queue.popleft()
        for event in Event:
            there = TABLE[here, event].state
            if there not in reached:
                reached.add(there)
                queue.append(there)
    assert reached == set(State)
    assert all(TABLE[state, Event.STOP].state is State.IDLE for state in State)
