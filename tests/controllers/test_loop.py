"""Events to items, items to writes, answers back: whatever reconcilers do."""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.loop import Loop
from lbipam.controllers.ports import (
    Action,
    Deleted,
    EmitEvent,
    Gone,
    Item,
    MergePatch,
    Missing,
    Refused,
    Severity,
    Synced,
    Upserted,
    Write,
    WriteResult,
    Written,
)
from lbipam.controllers.workqueue import WorkQueue
from lbipam.kube.forms import NAMESPACE, Metadata, Namespace
from lbipam.kube.kinds import Key, Kind
from tests.patience import running, until


def namespace(name: str, version: int = 1, uid: str = "") -> Namespace:
    return Namespace(metadata=Metadata(name=name, uid=uid or name, resource_version=str(version)))


def item(name: str) -> Item:
    return NAMESPACE, Key("", name)


def patch(name: str, color: str = "") -> MergePatch:
    return MergePatch(kind=NAMESPACE, key=Key("", name), body={"color": color})


def nothing(*_: object) -> Sequence[Action]:
    return ()


@dataclass
class Stub:
    """A reconciler that looks at each namespace that changes, and does what the test says."""

    look: Callable[[Item], Sequence[Action]] = nothing
    hear: Callable[[Item, WriteResult], Sequence[Action]] = nothing
    note: Callable[[Change], object] = nothing
    queue: WorkQueue[Item] = field(default_factory=WorkQueue)
    kinds: Sequence[Kind] = (NAMESPACE,)
    looked: list[str] = field(default_factory=list)
    heard: list[WriteResult] = field(default_factory=list)
    seen: list[Change] = field(default_factory=list)
    syncs: int = 0

    def synced(self) -> None:
        self.syncs += 1

    def observe(self, change: Change) -> None:
        self.seen.append(change)
        self.queue.add((change.kind, change.key))
        self.note(change)

    def reconcile(self, item: Item, now: float) -> Sequence[Action]:
        self.looked.append(item[1].name)
        return self.look(item)

    def answered(self, item: Item, result: WriteResult, now: float) -> Sequence[Action]:
        self.heard.append(result)
        return self.hear(item, result)


@dataclass
class World:
    """What lies around the loop: a writer that answers when the test says so, users, metrics."""

    open: deque[tuple[Write, Callable[[WriteResult], None]]] = field(default_factory=deque)
    told: list[EmitEvent] = field(default_factory=list)
    failures: int = 0
    room: int = 100

    @property
    def full(self) -> bool:
        return len(self.open) >= self.room

    def submit(self, write: Write, done: Callable[[WriteResult], None]) -> None:
        self.open.append((write, done))

    def answer(self, result: WriteResult | None = None) -> Write:
        """Answer the oldest write; the write."""
        write, done = self.open.popleft()
        done(result or Written(object=None))
        return write

    def emit(self, event: EmitEvent) -> None:
        self.told.append(event)

    def reconciled(self, kind: Kind, seconds: float) -> None:
        pass

    def written(self, write: Write, result: WriteResult) -> None:
        pass

    def failed(self, kind: Kind) -> None:
        self.failures += 1


@asynccontextmanager
async def looping(
    *stubs: Stub, clock: Callable[[], float] | None = None
) -> AsyncIterator[tuple[Loop, Cache, World]]:
    world, cache = World(), Cache()
    clock = clock or asyncio.get_running_loop().time
    loop = Loop(cache=cache, reconcilers=stubs, writer=world, recorder=world, observer=world, clock=clock)
    async with running(loop.run()):
        yield loop, cache, world


async def test_what_changes_is_looked_at_and_what_is_wished_is_done() -> None:
    event = EmitEvent(
        kind=NAMESPACE, key=Key("", "a"), uid="a", severity=Severity.NORMAL, reason="R", message="m"
    )
    stub = Stub(look=lambda _: [event, patch("a")])
    async with looping(stub) as (loop, _, world):
        loop.post(Upserted(kind=NAMESPACE, object=namespace("a")))
        loop.post(Synced(kind=NAMESPACE))
        await until(lambda: world.open)
        assert world.told == [event]
        assert world.answer() == patch("a")
        assert (stub.looked, stub.heard, stub.syncs) == (["a"], [Written(object=None)], 1)
        assert loop.idle


async def test_a_loop_that_has_nothing_to_do_hears_of_what_comes() -> None:
    stub = Stub()
    async with looping(stub) as (loop, _, _world):
        loop.post(Upserted(kind=NAMESPACE, object=namespace("a")))
        await until(lambda: stub.looked == ["a"])
        loop.post(Upserted(kind=NAMESPACE, object=namespace("b")))
        await until(lambda: stub.looked == ["a", "b"])


async def test_a_kind_that_is_not_installed_is_waited_for_by_nobody() -> None:
    stub = Stub()
    async with looping(stub) as (loop, cache, _):
        loop.post(Missing(kind=NAMESPACE))
        assert cache.has_synced(NAMESPACE)
        assert stub.syncs == 1


@pytest.mark.parametrize("step", [pytest.param(1, id="slow"), pytest.param(-1, id="set-back")])
async def test_others_get_their_turn_while_there_is_much_to_do(step: int) -> None:
    stub, ticks = Stub(), itertools.count(0, step)
    turns: list[int] = []

    async def take_turns() -> None:
        while True:
            turns.append(len(stub.looked))
            await asyncio.sleep(0)

    async with (
        looping(stub, clock=lambda: float(next(ticks))) as (loop, _, _world),
        running(take_turns()),
    ):
        for name in "abc":
            loop.post(Upserted(kind=NAMESPACE, object=namespace(name)))
        await until(lambda: stub.looked == ["a", "b", "c"])
        assert {1, 2} <= set(turns)


async def test_no_time_is_spent_while_no_more_can_be_written() -> None:
    asked = 0

    def clock() -> float:
        nonlocal asked
        asked += 1
        return 0.0

    stub = Stub(look=lambda item: [patch(item[1].name)])
    async with looping(stub, clock=clock) as (loop, _, world):
        world.room = 1
        loop.post(Upserted(kind=NAMESPACE, object=namespace("a")))
        await until(lambda: world.full)
        stub.queue.add_at(item("due"), -1.0)
        loop.wake()
        asked = 0
        for _ in range(50):
            await asyncio.sleep(0)
        assert asked < 10


async def test_no_more_is_decided_than_can_be_written() -> None:
    stub = Stub(look=lambda item: [patch(item[1].name)])
    async with looping(stub) as (loop, _, world):
        world.room = 2
        stub.queue.add_at((NAMESPACE, Key("", "due")), 0.0)
        for name in "abcd":
            loop.post(Upserted(kind=NAMESPACE, object=namespace(name)))
        await until(lambda: world.open)
        for answered in range(3):
            await until(lambda: world.full)
            assert len(stub.looked) == 2 + answered
            world.answer()
        await until(lambda: len(stub.looked) == 5)
        assert sorted(stub.looked) == ["a", "b", "c", "d", "due"]


async def test_an_object_that_does_not_change_is_not_looked_at_again() -> None:
    stub = Stub()
    async with looping(stub) as (loop, _, _world):
        for version in (2, 2, 1):
            loop.post(Upserted(kind=NAMESPACE, object=namespace("a", version)))
        loop.post(Upserted(kind=NAMESPACE, object=namespace("b")))
        await until(lambda: "b" in stub.looked)
        assert stub.looked == ["a", "b"]


@pytest.mark.looptime
async def test_a_bug_met_by_one_item_stops_no_other_and_it_is_tried_again() -> None:
    bugs = ["once", "twice"]

    def look(item: Item) -> Sequence[Action]:
        if item[1].name == "bad" and bugs:
            raise ValueError(bugs.pop())
        return ()

    stub, other = Stub(look=look), Stub()
    async with looping(stub, other) as (loop, _, world):
        for name in ("bad", "good"):
            loop.post(Upserted(kind=NAMESPACE, object=namespace(name)))
        await until(lambda: stub.looked.count("bad") == 3)
        assert stub.looked == ["bad", "good", "bad", "bad"]
        assert other.looked == ["bad", "good"]
        assert world.failures == 2
        assert loop.idle


@pytest.mark.looptime
async def test_a_bug_met_by_an_answer_stops_nothing_and_the_item_is_tried_again() -> None:
    bugs = [ValueError("once")]

    def hear(item: Item, result: WriteResult) -> Sequence[Action]:
        if bugs:
            raise bugs.pop()
        return ()

    stub = Stub(look=lambda item: [patch(item[1].name)], hear=hear)
    async with looping(stub) as (loop, _, world):
        loop.post(Upserted(kind=NAMESPACE, object=namespace("a")))
        await until(lambda: world.open)
        world.answer()
        await until(lambda: world.open)
        world.answer()
        assert (stub.looked, world.failures) == (["a", "a"], 1)
        assert loop.idle


async def test_a_bug_met_by_a_change_stops_nobody_who_takes_note() -> None:
    def note(change: Change) -> None:
        raise ValueError(change.key.name)

    stub, other = Stub(note=note), Stub()
    async with looping(stub, other) as (loop, cache, world):
        loop.post(Upserted(kind=NAMESPACE, object=namespace("a")))
        await until(lambda: other.looked == ["a"])
        assert cache.objects(NAMESPACE)[Key("", "a")] == namespace("a")
        assert world.failures == 1


async def test_an_item_is_in_one_hand_until_all_its_writes_are_answered() -> None:
    writes = [[patch("a", "red"), patch("b", "red")], []]
    stub = Stub(look=lambda item: writes.pop(0) if item[1].name == "a" else [])
    async with looping(stub) as (loop, _, world):
        loop.post(Upserted(kind=NAMESPACE, object=namespace("a")))
        await until(lambda: len(world.open) == 2)
        # It changes meanwhile, and another item is looked at: it is not.
        loop.post(Upserted(kind=NAMESPACE, object=namespace("a", 2)))
        world.answer()
        loop.post(Upserted(kind=NAMESPACE, object=namespace("other")))
        await until(lambda: "other" in stub.looked)
        assert stub.looked == ["a", "other"]
        assert not loop.idle
        world.answer()
        await until(lambda: stub.looked == ["a", "other", "a"])
        assert loop.idle


async def test_what_an_answer_makes_necessary_keeps_the_item_in_hand() -> None:
    more = [patch("a", "blue")]
    stub = Stub(look=lambda _: [patch("a", "red")], hear=lambda *_: [more.pop()] if more else [])
    async with looping(stub) as (loop, _, world):
        loop.post(Upserted(kind=NAMESPACE, object=namespace("a")))
        await until(lambda: world.open)
        assert world.answer(Gone()) == patch("a", "red")
        assert not loop.idle
        assert world.answer() == patch("a", "blue")
        assert loop.idle


async def test_what_was_written_is_known_before_the_next_look_and_no_older_event_undoes_it() -> None:
    known: list[Any] = []
    stub = Stub(look=lambda item: [patch("a")] if not known else [])
    async with looping(stub) as (loop, cache, world):
        loop.post(Upserted(kind=NAMESPACE, object=namespace("a", 1)))
        await until(lambda: world.open)
        known.append(True)
        world.answer(Written(object=namespace("a", 7)))
        loop.post(Upserted(kind=NAMESPACE, object=namespace("a", 6)))
        assert cache.objects(NAMESPACE)[Key("", "a")].metadata.resource_version == "7"
        await until(lambda: stub.looked == ["a", "a"])
        assert [change.after.metadata.resource_version for change in stub.seen] == ["1", "7"]


@pytest.mark.parametrize(
    "meanwhile",
    [
        Deleted(kind=NAMESPACE, key=Key("", "a")),
        Upserted(kind=NAMESPACE, object=namespace("a", 2, uid="another")),
    ],
)
async def test_an_answer_about_an_object_that_is_gone_does_not_bring_it_back(
    meanwhile: Deleted | Upserted,
) -> None:
    stub = Stub(look=lambda _: [patch("a")] if len(stub.looked) == 1 else [])
    async with looping(stub) as (loop, cache, world):
        loop.post(Upserted(kind=NAMESPACE, object=namespace("a", 1)))
        await until(lambda: world.open)
        loop.post(meanwhile)
        after = dict(cache.objects(NAMESPACE))
        world.answer(Written(object=namespace("a", 7)))
        assert dict(cache.objects(NAMESPACE)) == after


@pytest.mark.looptime
async def test_an_item_whose_write_is_refused_is_looked_at_later_each_time() -> None:
    clock = asyncio.get_running_loop().time
    times: list[float] = []

    def look(item: Item) -> Sequence[Action]:
        times.append(clock())
        return [patch("a")]

    def hear(item: Item, result: WriteResult) -> Sequence[Action]:
        stub.queue.answered(item, result, clock())
        return ()

    stub = Stub(look=look, hear=hear)
    async with looping(stub) as (loop, _, world):
        loop.post(Upserted(kind=NAMESPACE, object=namespace("a")))
        for _ in range(3):
            await until(lambda: world.open)
            world.answer(Refused(code=422, reason="Invalid", message="no"))
        await until(lambda: len(times) == 4)
        first, second, third = (after - before for before, after in itertools.pairwise(times))
        assert first < second < third


@pytest.mark.looptime
async def test_an_item_put_off_is_looked_at_when_its_time_has_come() -> None:
    stub = Stub()
    async with looping(stub) as (loop, _, _world):
        began = asyncio.get_running_loop().time()
        stub.queue.add_at(item("a"), began + 30)
        loop.wake()
        await until(lambda: stub.looked == ["a"], seconds=60)
        assert asyncio.get_running_loop().time() - began >= 30
