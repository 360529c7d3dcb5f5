"""Two BFD sessions and the path between them."""

import itertools
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from lbipam.core.bfd.packets import Diagnostic, Packet, State
from lbipam.core.bfd.session import Change, Session, Timing, strictest

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


@given(st.permutations([FAST, SLOWER, Timing(interval_seconds=1.0, multiplier=1)]), st.integers(0, 25))
def test_other_timings_are_agreed_on_while_the_session_stays_up(timings: list[Timing], lost_for: int) -> None:
    first, *others = timings
    both = path(first, first)
    both.run(10)
    both.one.take_changes()
    for timing in others:
        both.one.retime(timing, both.now)
    both.run(min(lost_for * STEP_SECONDS, first.interval_seconds * (first.multiplier - 1)), is_cut=True)
    both.run(20)
    slower = max(first.interval_seconds, others[-1].interval_seconds)
    assert both.one.take_changes() == []
    assert round(both.one.status().transmit_seconds, 6) == round(slower, 6)
    detection = both.other.status().detection_seconds
    assert round(detection, 6) == round(slower * others[-1].multiplier, 6)


def test_until_the_neighbour_knows_of_a_slower_pace_packets_come_at_the_old_one() -> None:
    both = path(SLOWER, SLOWER)
    both.run(10)
    both.one.retime(Timing(interval_seconds=2.0, multiplier=5), both.now)
    begun = both.now
    both.run(1.1, is_cut=True)
    polls = [at for at, packet in both.sent if packet.poll and at > begun]
    assert len(polls) >= 3
    assert both.one.status().transmit_seconds == SLOWER.interval_seconds
    both.run(5)
    assert both.one.status().transmit_seconds == 2.0
    assert both.one.status().downs == both.other.status().downs == 0


def test_until_the_neighbour_knows_of_a_faster_pace_it_has_the_time_that_it_had() -> None:
    both = path(SLOWER, FAST)
    both.run(10)
    both.one.retime(FAST, both.now)
    both.run(0.5, is_cut=True)
    assert round(both.one.status().detection_seconds, 6) == 0.9
    both.run(1)
    assert round(both.one.status().detection_seconds, 6) == 0.3
    assert both.one.status().downs == 0


def test_what_is_wanted_while_a_poll_is_under_way_is_told_by_the_next() -> None:
    both = path()
    both.run(10)
    begun = both.now
    both.one.retime(SLOWER, both.now)
    both.one.retime(FAST, both.now)
    both.run(2)
    told = [packet.required_receive for at, packet in both.sent if packet.poll and at > begun]
    assert list(dict.fromkeys(told)) == [300_000, 100_000]


def test_a_session_that_is_not_up_takes_another_timing_at_once() -> None:
    both = path()
    both.one.retime(Timing(interval_seconds=5.0, multiplier=3), both.now)
    both.run(12, is_cut=True)
    times = [at for at, _ in both.sent]
    assert all(later - earlier > 3.7 for earlier, later in itertools.pairwise(times))
    assert both.one.status().transmit_seconds == 5.0


def test_a_neighbour_on_demand_is_sent_polls_and_their_answers_only() -> None:
    both = path()
    both.run(10)
    both.one.receive(said(demand=True), both.now)
    begun = both.now
    both.run(0.25, is_cut=True)
    assert not [packet for at, packet in both.sent if at > begun]
    both.one.retime(SLOWER, both.now)
    both.run(0.25, is_cut=True)
    assert [packet.poll for at, packet in both.sent if at > begun] == [True, True]
    both.one.receive(said(demand=True, final=True), both.now)
    begun = both.now
    both.run(0.25, is_cut=True)
    assert not [packet for at, packet in both.sent if at > begun]


def said(*, demand: bool, final: bool = False) -> Packet:
    return Packet(
        state=State.UP,
        demand=demand,
        final=final,
        multiplier=3,
        mine=2,
        yours=1,
        desired_transmit=100_000,
        required_receive=100_000,
    )


def test_of_several_timings_the_one_counts_that_finds_a_failure_first() -> None:
    slow_start = Timing(interval_seconds=0.1, multiplier=20)
    assert strictest([SLOWER, slow_start]) == SLOWER
    assert strictest([SLOWER, slow_start, FAST]) == FAST
