"""Event → cache → items → reconcile → actions, for ever.

                       ┌────────── Written, Conflict, … ──────────┐
    reflectors ─Event─▶ cache ─Change─▶ reconciler ─Item─▶ queue ─▶ reconcile ─Write─▶ writer

One task does all of it, so that nothing here needs a lock: a reflector's event changes the cache and marks
items at once, and between two items the task lets others run. Items are looked at no faster than writes are
sent, so that what waits is keys, and what is decided is fresh. This file does not know what is decided.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import structlog

from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.ports import (
    Action,
    Conflict,
    EmitEvent,
    Event,
    Item,
    Malformed,
    Missing,
    Observer,
    Recorder,
    Refused,
    Synced,
    Upserted,
    Write,
    Writer,
    WriteResult,
    Written,
)
from lbipam.controllers.workqueue import WorkQueue
from lbipam.kube.kinds import Kind

_log = structlog.get_logger()

_SLICE_SECONDS = 0.002
"""How long items are worked on before other tasks get their turn."""


class Reconciler(Protocol):
    """Compares what should be with what is, for the kinds it knows."""

    @property
    def queue(self) -> WorkQueue[Item]:
        """The items that it wants to look at."""

    @property
    def kinds(self) -> Sequence[Kind]:
        """The kinds that it must know before it acts."""

    def synced(self) -> None:
        """A kind has synced; all of them have if the cache says so."""

    def observe(self, change: Change) -> None:
        """Take note of a changed object of any kind."""

    def reconcile(self, item: Item, now: float) -> Sequence[Action]:
        """Look at one item that is in hand; what is to be done about it."""

    def answered(self, item: Item, result: WriteResult, now: float) -> Sequence[Action]:
        """Take note of what became of a write; the item is still in hand."""


class Loop:
    """Carries events to reconcilers, and their actions to the world."""

    def __init__(
        self,
        *,
        cache: Cache,
        reconcilers: Sequence[Reconciler],
        writer: Writer,
        recorder: Recorder,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        self._cache = cache
        self._reconcilers = reconcilers
        self._writer = writer
        self._recorder = recorder
        self._observer = observer
        self._clock = clock
        self._awake = asyncio.Event()
        self._under_way: dict[tuple[int, Item], int] = {}

    def post(self, event: Event) -> None:
        """Take an event in; called by reflectors, on the loop's own thread."""
        match event:
            case Malformed(kind=kind, key=key, problem=problem):
                _log.warning("object cannot be read", kind=kind.kind, object=str(key), problem=problem)
            case Missing(kind=kind):
                _log.info("kind is not installed", kind=kind.kind, api_version=kind.api_version)
            case _:
                pass
        change = self._cache.store(event)
        if change is not None:
            self._show(change)
        elif isinstance(event, Synced | Missing):
            for reconciler in self._reconcilers:
                reconciler.synced()
        self._awake.set()

    def _show(self, change: Change) -> None:
        for reconciler in self._reconcilers:
            try:
                reconciler.observe(change)
            except Exception:  # noqa: BLE001 -- one object must not stop the others, whatever it is
                _log.exception("cannot take note", kind=change.kind.kind, object=str(change.key))
                self._observer.failed(change.kind)

    def wake(self) -> None:
        """Look at the queues: somebody has put items in."""
        self._awake.set()

    @property
    def idle(self) -> bool:
        """Whether nothing is to be done now, nor under way."""
        return all(reconciler.queue.idle for reconciler in self._reconcilers)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            if self._work():
                await asyncio.sleep(0)
                continue
            self._awake.clear()
            try:
                async with asyncio.timeout(self._seconds_to_wait()):
                    await self._awake.wait()
            except TimeoutError:
                continue

    def _seconds_to_wait(self) -> float | None:
        if self._writer.full:
            # Until an answer comes.
            return None
        times = [at for one in self._reconcilers if (at := one.queue.wake_at()) is not None]
        return max(min(times) - self._clock(), 0.0) if times else None

    def _work(self) -> bool:
        """Work for a slice of time; False if nothing is left that can be done now."""
        now = began = self._clock()
        # The clock may be set back, maybe by years.
        while began <= now < began + _SLICE_SECONDS:
            if self._writer.full:
                return False
            idle = True
            for number, reconciler in enumerate(self._reconcilers):
                item = reconciler.queue.take(now)
                if item is not None:
                    idle = False
                    self._reconcile(number, item, now)
            if idle:
                return False
            now = self._clock()
        return True

    def _reconcile(self, number: int, item: Item, now: float) -> None:
        reconciler = self._reconcilers[number]
        self._under_way[number, item] = 1
        try:
            actions = reconciler.reconcile(item, now)
        except Exception:  # noqa: BLE001 -- one object must not stop the others, whatever it is
            self._failed(number, item)
            return
        self._carry_out(number, item, actions)
        self._observer.reconciled(item[0], self._clock() - now)
        self._done(number, item, succeeded=True)

    def _carry_out(self, number: int, item: Item, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, EmitEvent):
                self._recorder.emit(action)
                continue
            self._under_way[number, item] += 1
            self._writer.submit(action, partial(self._answered, number, item, action))

    def _answered(self, number: int, item: Item, write: Write, result: WriteResult) -> None:
        self._observer.written(write, result)
        if isinstance(result, Written) and result.object is not None:
            self._store_answer(write, result)
        elif isinstance(result, Refused | Conflict):
            _log.warning("write refused", kind=write.kind.kind, object=str(write.key), result=str(result))
        self._awake.set()
        try:
            actions = self._reconcilers[number].answered(item, result, self._clock())
        except Exception:  # noqa: BLE001 -- nor must an answer
            self._failed(number, item)
            return
        self._carry_out(number, item, actions)
        self._done(number, item, succeeded=not isinstance(result, Refused))

    def _failed(self, number: int, item: Item) -> None:
        """A bug: tell of it, and look at the item again later."""
        _log.exception("cannot reconcile", kind=item[0].kind, object=str(item[1]))
        self._observer.failed(item[0])
        self._reconcilers[number].queue.back_off(item, self._clock())
        self._done(number, item, succeeded=False)

    def _store_answer(self, write: Write, written: Written) -> None:
        """What the server answered is newer than what we know, unless the object has gone meanwhile."""
        known = self._cache.objects(write.kind).get(write.key)
        answer = written.object
        if known is None or answer is None or known.metadata.uid != answer.metadata.uid:
            return
        change = self._cache.store(Upserted(kind=write.kind, object=answer))
        if change is not None:
            self._show(change)

    def _done(self, number: int, item: Item, *, succeeded: bool) -> None:
        self._under_way[number, item] -= 1
        if not self._under_way[number, item]:
            del self._under_way[number, item]
            self._reconcilers[number].queue.put_down(item, succeeded=succeeded)
