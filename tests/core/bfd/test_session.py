"""Two BFD sessions and the path between them."""

import itertools
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from lbipam.core.bfd.packets import Diagnostic, Packet, State
from lbipam.core.bfd.session import Change, Session, Timing

FAST, SLOWER = Timing(interval_seconds=0.1, multiplier=3), Timing(interval_seconds=0.3, multiplier=5)
STEP_SECONDS = 0.01


@dataclass
class Path:
    """Carries packets between two sessions at once, or loses them."""

    one: Session
    other: Session
    now: float = 0.0
    sent: list[tuple[float, Packet]] = field(default_factory=list)

    def run(self, seconds: float, *, is_cut: bool = False) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += STEP_SECONDS
            for session, far in ((self.one, self.other), (self.other, self.one)):
                session.tick(self.now)
                for packet in session.take_output():
                    if session is self.one:
                        self.sent.append((self.now, packet))
                    if not is_cut:
                        far.receive(packet, self.now)


def path(one: Timing = FAST, other: Timing = FAST) -> Path:
    return Path(
        Session(one, discriminator=1, dice=lambda: 0.5, now=0.0),
        Session(other, discriminator=2, dice=lambda: 0.5, now=0.0),
    )


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([FAST, SLOWER]), st.sampled_from([FAST, SLOWER]))
def test_both_come_up_and_agree_on_the_slower_pace(one: Timing, other: Timing) -> None:
    both = path(one, other)
    both.run(10)
    slower = max(one.interval_seconds, other.interval_seconds)
    for session, far in ((both.one, other), (both.other, one)):
        status = session.status()
        assert status.state is State.UP
        assert status.transmit_seconds == slower
        assert round(status.detection_seconds, 6) == round(slower * far.multiplier, 6)
        assert session.take_changes() == [Change(state=State.UP, diagnostic=Diagnostic.NONE)]


def test_before_it_is_up_a_session_sends_once_a_second_at_most() -> None:
    both = path()
    both.run(5, is_cut=True)
    times = [at for at, _ in both.sent]
    assert all(0.75 <= later - earlier <= 1.01 for earlier, later in itertools.pairwise(times))


def test_a_poll_tells_the_new_pace_and_ends_with_its_answer() -> None:
    both = path()
    both.run(10)
    assert any(packet.poll and packet.state is State.UP for _, packet in both.sent)
    assert not both.sent[-1][1].poll
    assert both.sent[-1][1].desired_transmit == 100_000


def test_silence_for_the_detection_time_is_a_failure() -> None:
    both = path()
    both.run(10)
    both.one.take_changes()
    begun = both.now
    both.run(1, is_cut=True)
    (change,) = both.one.take_changes()
    assert change == Change(state=State.DOWN, diagnostic=Diagnostic.CONTROL_DETECTION_TIME_EXPIRED)
    assert both.one.status().since - begun <= 0.3 + 2 * STEP_SECONDS
    assert both.one.status().downs == 1
    both.run(10)
    assert both.one.state is both.other.state is State.UP


def test_a_stop_on_purpose_is_told_apart_from_a_failure() -> None:
    both = path()
    both.run(10)
    both.other.take_changes()
    both.one.stop(both.now)
    assert both.one.wake_at() == float("inf")
    for packet in both.one.take_output():
        assert (packet.state, packet.diagnostic) == (State.ADMIN_DOWN, Diagnostic.ADMINISTRATIVELY_DOWN)
        both.other.receive(packet, both.now)
    assert both.other.take_changes() == [
        Change(state=State.DOWN, diagnostic=Diagnostic.NEIGHBOR_SIGNALED_SESSION_DOWN, is_on_purpose=True)
    ]
    both.one.receive(both.sent[-1][1], both.now)
    assert both.one.state is State.ADMIN_DOWN


def test_a_neighbour_that_restarts_is_noticed() -> None:
    both = path()
    both.run(10)
    both.one.take_changes()
    both.other = Session(FAST, discriminator=3, dice=lambda: 0.5, now=both.now)
    both.run(5)
    first, second = both.one.take_changes()
    assert (first.state, first.diagnostic) == (State.DOWN, Diagnostic.NEIGHBOR_SIGNALED_SESSION_DOWN)
    assert second.state is State.UP


def test_a_neighbour_that_wants_no_packets_gets_none() -> None:
    session = Session(FAST, discriminator=1, dice=lambda: 0.5, now=0.0)
    quiet = Packet(state=State.DOWN, multiplier=3, mine=2, yours=0, desired_transmit=1, required_receive=0)
    session.receive(quiet, 0.0)
    session.tick(5.0)
    assert session.take_output() == []
    session.receive(
        Packet(
            state=State.DOWN, poll=True, multiplier=3, mine=2, yours=1, desired_transmit=1, required_receive=0
        ),
        6.0,
    )
    (answer,) = session.take_output()
    assert answer.final
