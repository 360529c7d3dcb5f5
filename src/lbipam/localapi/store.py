"""What objects are there now, in which version, and what happened to them since?

Objects are kept encoded, as they go to clients, without `apiVersion` and `kind`; whoever wants to change one
decodes it and gets a value of its own. Each collection has a history that every watch reads at its own place,
so that a change is encoded once however many watch it. All versions come from one counter. What may be
written is not decided here.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from sortedcontainers import SortedDict

HISTORY_LIMIT = 16_384
"""Events that a collection remembers; a watch that falls further behind has to list again."""

_NO_LABELS: Mapping[str, str] = {}


class Key(NamedTuple):
    """Namespace (empty for cluster-scoped objects) and name."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of one object."""

    key: Key
    version: int
    """Its resourceVersion."""
    labels: Mapping[str, str]
    body: bytes
    """Its JSON without `apiVersion` and `kind`."""

    def decode(self) -> dict[str, Any]:
        """The object as a value that belongs to the caller."""
        value: dict[str, Any] = msgspec.json.decode(self.body)
        return value


@dataclass(frozen=True, slots=True)
class Event:
    """One change: an object came, changed or went."""

    version: int
    now: Stored | None
    """`None` when it was deleted."""
    before: Stored | None
    """`None` when it was created."""


class Collection:
    """The objects of one resource."""

    def __init__(self, version: int) -> None:
        self.objects: SortedDict[Key, Stored] = SortedDict()
        self.oldest = version
        """A watch may start at this version or later; what came before is forgotten."""
        self._events: list[Event] = []
        self._dropped = 0
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def end(self) -> int:
        """The place in the history after its last event."""
        return self._dropped + len(self._events)

    def place_after(self, version: int) -> int:
        """The place in the history of the first event that is newer than `version`."""
        return self._dropped + bisect_right(self._events, version, key=attrgetter("version"))

    def events_from(self, place: int) -> list[Event] | None:
        """The events from a place to the end, or `None` when some of them are forgotten."""
        if place < self._dropped:
            return None
        return self._events[place - self._dropped :]

    def record(self, event: Event) -> None:
        """Add an event at the end and wake everybody who waits for one."""
        self._events.append(event)
        if len(self._events) > HISTORY_LIMIT + HISTORY_LIMIT // 4:
            self.forget(len(self._events) - HISTORY_LIMIT)
        if self._waiting:
            self.wake()

    def forget(self, count: int) -> None:
        """Drop the first events of the history."""
        if count:
            self.oldest = self._events[count - 1].version
            del self._events[:count]
            self._dropped += count

    def forget_all(self, version: int) -> None:
        """Drop the whole history: watches that are open or from before `version` are too old."""
        self.forget(len(self._events))
        self._dropped += 1
        self.oldest = version
        self.wake()

    async def change(self) -> None:
        """Return when an event has been recorded."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def wake(self) -> None:
        """Wake everybody who waits, without an event."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def in_namespace(self, namespace: str) -> Iterator[Stored]:
        """The objects of a namespace in order of their names; all objects when it is empty."""
        if not namespace:
            return iter(self.objects.values())
        keys = self.objects.irange(Key(namespace, ""), Key(f"{namespace}\0", ""), inclusive=(True, False))
        return (self.objects[key] for key in keys)


class Store:
    """All collections, and the counter that orders every change in them."""

    def __init__(self) -> None:
        self.version = 1
        self.collections: dict[tuple[str, str], Collection] = {}
        """By group and plural name of the resource."""

    def collection(self, group: str, plural: str) -> Collection:
        """The collection of a resource; it is made when it is first asked for."""
        found = self.collections.get((group, plural))
        if found is None:
            found = self.collections[(group, plural)] = Collection(self.version)
        return found

    def drop(self, group: str, plural: str) -> None:
        """Forget a collection; whoever watches it is woken and finds it gone."""
        collection = self.collections.pop((group, plural), None)
        if collection is not None:
            collection.forget_all(self.version)

    def put(self, collection: Collection, key: Key, value: dict[str, Any]) -> Stored:
        """Keep `value` under the next version, which is written into its metadata."""
        self.version += 1
        metadata = value["metadata"]
        metadata["resourceVersion"] = str(self.version)
        stored = Stored(key, self.version, metadata.get("labels") or _NO_LABELS, msgspec.json.encode(value))
        before = collection.objects.get(key)
        collection.objects[key] = stored
        collection.record(Event(self.version, stored, before))
        return stored

    def remove(self, collection: Collection, key: Key) -> Stored:
        """Delete an object; returns its last state, under the version of the deletion."""
        self.version += 1
        before = collection.objects.pop(key)
        value = before.decode()
        value["metadata"]["resourceVersion"] = str(self.version)
        last = Stored(key, self.version, before.labels, msgspec.json.encode(value))
        collection.record(Event(self.version, None, last))
        return last
