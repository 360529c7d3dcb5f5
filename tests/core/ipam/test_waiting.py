"""The oldest of those that wait for a thing is next."""

from hypothesis import given
from hypothesis import strategies as st

from lbipam.core.ipam.allocation import ChangeAt, FreeAddressIn, RoomInQuota
from lbipam.core.ipam.waiting import Waiting
from tests.builders import V4, ip, service

FREE = FreeAddressIn("p", V4)
ROOM = RoomInQuota("default")


def wait(
    waiting: Waiting, name: str, created: str, *remedies: FreeAddressIn | ChangeAt | RoomInQuota
) -> None:
    one = service(name, created=created)
    waiting.wait(one.key, one.age, remedies)


def test_the_oldest_come_first_and_equal_ones_by_name() -> None:
    waiting = Waiting()
    wait(waiting, "c", "2026-01-01T00:00:00Z", FREE)
    wait(waiting, "a", "2026-01-02T00:00:00Z", FREE)
    wait(waiting, "b", "2026-01-01T00:00:00Z", FREE)
    assert [one.name for one in waiting.next(FREE)] == ["b", "c", "a"]
    assert [one.name for one in waiting.next(FREE, 1)] == ["b"]
    assert waiting.next(FREE, 0) == []
    assert waiting.next(ChangeAt(ip("10.0.0.1"))) == []


def test_the_older_ones_are_counted() -> None:
    waiting = Waiting()
    wait(waiting, "b", "2026-01-01T00:00:00Z", FREE)
    wait(waiting, "d", "2026-01-01T00:00:00Z", FREE, ROOM)
    created = "2026-01-01T00:00:00Z"
    assert [waiting.older(FREE, service(name, created=created).age) for name in "abcd"] == [0, 0, 1, 1]
    assert waiting.older(ROOM, service("a", created="2026-01-02T00:00:00Z").age) == 1
    assert waiting.older(ChangeAt(ip("10.0.0.1")), service("a").age) == 0


def test_a_service_waits_for_what_it_said_last() -> None:
    waiting = Waiting()
    wait(waiting, "a", "", FREE, ROOM, FREE)
    wait(waiting, "a", "", ROOM)
    assert waiting.next(FREE) == []
    assert [one.name for one in waiting.next(ROOM)] == ["a"]
    assert waiting.remedies_of(service("a").key) == (ROOM,)


def test_who_leaves_waits_for_nothing() -> None:
    waiting = Waiting()
    wait(waiting, "a", "", FREE)
    wait(waiting, "b", "")
    assert list(waiting) == [service("a").key, service("b").key]
    waiting.leave(service("a").key)
    waiting.leave(service("a").key)
    assert waiting.next(FREE) == []
    assert list(waiting) == [service("b").key]
    assert waiting.remedies_of(service("a").key) == ()


def test_remedies_of_different_kinds_with_equal_content_are_not_confused() -> None:
    waiting = Waiting()
    wait(waiting, "a", "", RoomInQuota("p"))
    assert waiting.next(FreeAddressIn("p", V4)) == []


def test_waiting_for_the_same_again_changes_nothing() -> None:
    waiting = Waiting()
    wait(waiting, "a", "", FREE)
    wait(waiting, "a", "", FREE)
    assert len(waiting.next(FREE)) == 1


def test_nobody_is_woken_twice_before_waiting_anew() -> None:
    waiting = Waiting()
    for name in "abcd":
        wait(waiting, name, "", FREE)
    assert [one.name for one in waiting.wake(FREE, 2)] == ["a", "b"]
    assert [one.name for one in waiting.wake(FREE, 3)] == ["c"]
    assert waiting.wake(FREE, 0) == []
    wait(waiting, "b", "", FREE)
    waiting.leave(service("a").key)
    assert [one.name for one in waiting.wake(FREE)] == ["b", "d"]
    assert [one.name for one in waiting.next(FREE)] == ["b", "c", "d"]


def test_who_was_woken_for_one_thing_is_woken_for_another_too() -> None:
    waiting = Waiting()
    wait(waiting, "a", "", FREE, ROOM)
    assert [one.name for one in waiting.wake(FREE)] == ["a"]
    assert [one.name for one in waiting.wake(ROOM)] == ["a"]
    assert waiting.wake(FREE) == waiting.wake(ROOM) == []
    waiting.leave(service("a").key)
    assert waiting.wake(FREE) == []


remedies = st.lists(
    st.sampled_from([FREE, ROOM, ChangeAt(ip("10.0.0.1")), FreeAddressIn("q", V4)]), max_size=3
).map(tuple)
moves = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "1", "2"]), st.none() | remedies))


@given(moves)
def test_each_queue_is_those_who_wait_for_its_remedy_sorted_by_age(
    steps: list[tuple[str, str, tuple[FreeAddressIn | ChangeAt | RoomInQuota, ...] | None]],
) -> None:
    waiting = Waiting()
    model: dict[str, tuple[str, tuple[FreeAddressIn | ChangeAt | RoomInQuota, ...]]] = {}
    for name, created, wanted in steps:
        if wanted is None:
            waiting.leave(service(name).key)
            model.pop(name, None)
        else:
            wait(waiting, name, created, *wanted)
            model[name] = (created, wanted)
    oldest_first = sorted((created, name) for name, (created, _) in model.items())
    assert [one.name for one in waiting] == [name for _, name in oldest_first]
    for remedy in (FREE, ROOM, ChangeAt(ip("10.0.0.1")), FreeAddressIn("q", V4)):
        expected = sorted((created, name) for name, (created, wanted) in model.items() if remedy in wanted)
        assert [one.name for one in waiting.next(remedy)] == [name for _, name in expected]
        assert len(waiting.next(remedy, 1)) == min(len(expected), 1)
        assert waiting.wake(remedy, 1) == waiting.next(remedy, 1)
        assert waiting.wake(remedy) == waiting.next(remedy)[1:]
