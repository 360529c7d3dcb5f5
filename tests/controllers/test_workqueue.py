"""No key is lost, none is in two hands, and who fails comes back later."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lbipam.controllers.ports import (
    Conflict,
    ConflictCause,
    Fenced,
    Gone,
    Refused,
    WriteResult,
    Written,
)
from lbipam.controllers.workqueue import WorkQueue


def test_keys_come_in_order_and_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_all(["a", "b", "a"])
    assert len(queue) == 2
    assert [queue.take(0.0), queue.take(0.0), queue.take(0.0)] == ["a", "b", None]


def test_a_key_added_while_in_hand_waits_until_it_is_put_down() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert queue.take(0.0) == "a"
    queue.add("a")
    assert queue.take(0.0) is None
    assert not queue.idle
    queue.put_down("a")
    assert queue.take(0.0) == "a"
    queue.put_down("a")
    assert queue.idle


def test_the_queue_tells_which_keys_are_wanted_now() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_at("a", 1.0)
    assert "a" not in queue
    queue.add("a")
    assert "a" in queue
    assert queue.take(0.0) == "a"
    assert "a" not in queue
    queue.add("a")
    assert "a" in queue


def test_a_clock_that_is_set_back_delays_no_key() -> None:
    queue: WorkQueue[str] = WorkQueue()
    assert queue.take(1e9) is None
    queue.add_at("a", 1e9 + 1)
    assert queue.take(1e9 + 0.5) is None
    assert queue.take(1000.0) == "a"
    queue.put_down("a")
    assert queue.take(2e9) is None


def test_a_key_comes_at_its_time_and_earlier_if_wanted_earlier() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_at("a", 10.0)
    queue.add_at("a", 20.0)
    assert queue.wake_at() == 10.0
    queue.add_at("a", 5.0)
    assert queue.wake_at() == 5.0
    assert queue.take(4.9) is None
    assert queue.take(5.0) == "a"
    queue.put_down("a")
    assert queue.wake_at() is None
    assert queue.take(100.0) is None


def test_a_key_that_is_wanted_now_is_not_wanted_later_too() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_at("a", 10.0)
    queue.add("a")
    queue.add_at("a", 10.0)
    assert queue.take(0.0) == "a"
    queue.put_down("a")
    assert queue.wake_at() is None


@pytest.mark.parametrize(
    ("result", "seconds"),
    [
        (Written(object=None), None),
        (Fenced(), None),
        (Conflict(cause=ConflictCause.STALE), 1.0),
        (Gone(), 1.0),
        (Refused(code=422, reason="Invalid", message=""), 0.25),
    ],
)
def test_a_key_whose_write_was_not_done_comes_again(result: WriteResult, seconds: float | None) -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.answered("a", result, 100.0)
    assert queue.wake_at() == (100.0 + seconds if seconds is not None else None)


def test_failures_back_off_twice_as_long_each_time_up_to_five_minutes() -> None:
    queue: WorkQueue[str] = WorkQueue()
    delays = []
    for _ in range(12):
        queue.add("a")
        assert queue.take(0.0) == "a"
        delays.append(queue.back_off("a", 0.0))
        queue.put_down("a", succeeded=False)
    assert delays == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0]


def test_a_key_may_fail_for_years() -> None:
    queue: WorkQueue[str] = WorkQueue()
    assert {queue.back_off("a", 0.0) for _ in range(2000)} >= {300.0}
    assert queue.back_off("a", 0.0) == 300.0


def test_a_success_ends_the_backing_off() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.back_off("a", 0.0)
    queue.back_off("a", 0.0)
    queue.add("a")
    assert queue.take(0.0) == "a"
    queue.put_down("a")
    assert queue.back_off("a", 0.0) == 0.25


def test_clearing_forgets_all_but_what_is_in_hand() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_all(["held", "a"])
    assert queue.take(0.0) == "held"
    queue.add("held")
    queue.add_at("later", 1.0)
    queue.clear()
    assert len(queue) == 0
    assert queue.wake_at() is None
    queue.put_down("held")
    assert queue.idle
    assert queue.take(9.0) is None


def test_clearing_forgets_who_has_failed() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.back_off("a", 0.0)
    queue.clear()
    assert queue.back_off("a", 0.0) == 0.25


keys = st.sampled_from("abcd")


class Work(RuleBasedStateMachine):
    """The queue beside plain sets: what is wanted now, what later, what is in hand."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: WorkQueue[str] = WorkQueue()
        self.now = 0.0
        self.wanted: set[str] = set()
        self.again: set[str] = set()
        self.later: dict[str, float] = {}
        self.in_hand: set[str] = set()

    def want(self, key: str) -> None:
        self.later.pop(key, None)
        (self.again if key in self.in_hand else self.wanted).add(key)

    def want_later(self, key: str, at: float) -> None:
        if key not in self.wanted:
            self.later[key] = min(at, self.later.get(key, at))

    @rule(key=keys)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.want(key)

    @rule(some=st.lists(keys))
    def add_all(self, some: list[str]) -> None:
        self.queue.add_all(some)
        for key in some:
            self.want(key)

    @rule()
    def clear(self) -> None:
        self.queue.clear()
        for one in (self.wanted, self.again, self.later):
            one.clear()

    @rule(key=keys, delay=st.integers(1, 5))
    def add_at(self, key: str, delay: int) -> None:
        self.queue.add_at(key, self.now + delay)
        self.want_later(key, self.now + delay)

    @rule(key=keys)
    def back_off(self, key: str) -> None:
        at = self.queue.back_off(key, self.now)
        assert at > self.now
        self.want_later(key, at)

    @rule(passed=st.integers(1, 10))
    def take(self, passed: int) -> None:
        self.now += passed
        for key in [key for key, at in self.later.items() if at <= self.now]:
            self.want(key)
        taken = self.queue.take(self.now)
        assert (taken is None) is (not self.wanted)
        if taken is not None:
            assert taken not in self.in_hand, "in two hands"
            self.wanted.remove(taken)
            self.in_hand.add(taken)

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data(), succeeded=st.booleans())
    def put_down(self, data: st.DataObject, succeeded: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.in_hand)))
        self.queue.put_down(key, succeeded=succeeded)
        self.in_hand.remove(key)
        if key in self.again:
            self.again.remove(key)
            self.want(key)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.queue) == len(self.wanted)
        assert self.queue.idle is (not self.wanted and not self.in_hand)
        assert self.queue.wake_at() == min(self.later.values(), default=None)


TestWork = Work.TestCase
TestWork.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
