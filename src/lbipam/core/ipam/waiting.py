"""Who waits for what, and who is next when something comes free?

Each refused Service stands in one queue per remedy, the oldest Service first. Once woken it is not woken for
the same again before it has been looked at and waits anew, so that a wake costs what it wakes, however many
wait. This file does not know how much has come free; it is asked for as many as that can help.
"""

from collections.abc import Iterator
from itertools import islice

from sortedcontainers import SortedList

from lbipam.core.ipam.allocation import Remedy
from lbipam.core.ipam.services import ServiceKey

_Age = tuple[str, ServiceKey]


class Waiting:
    """The Services with a wish that is not met."""

    def __init__(self) -> None:
        self._of: dict[ServiceKey, tuple[_Age, tuple[Remedy, ...]]] = {}
        self._queues: dict[Remedy, SortedList[_Age]] = {}
        self._asleep: dict[Remedy, SortedList[_Age]] = {}
        """Of each queue those that have not been woken since they said last what they wait for."""

    def __iter__(self) -> Iterator[ServiceKey]:
        """The oldest first."""
        return (service for _, service in sorted(age for age, _ in self._of.values()))

    def remedies_of(self, service: ServiceKey) -> tuple[Remedy, ...]:
        """What a Service waits for; nothing if it does not wait, or only for other pools."""
        entry = self._of.get(service)
        return entry[1] if entry is not None else ()

    def wait(self, service: ServiceKey, age: _Age, remedies: tuple[Remedy, ...]) -> None:
        """Let a Service wait for any of these, and for nothing else."""
        remedies = tuple(dict.fromkeys(remedies))
        if self._of.get(service) != (age, remedies):
            self.leave(service)
            self._of[service] = (age, remedies)
            for remedy in remedies:
                self._queues.setdefault(remedy, SortedList()).add(age)
        for remedy in remedies:
            asleep = self._asleep.setdefault(remedy, SortedList())
            if age not in asleep:
                asleep.add(age)

    def leave(self, service: ServiceKey) -> None:
        """Let a Service wait no longer."""
        entry = self._of.pop(service, None)
        if entry is None:
            return
        age, remedies = entry
        for remedy in remedies:
            queue = self._queues[remedy]
            queue.remove(age)
            self._asleep[remedy].discard(age)
            if not queue:
                del self._queues[remedy], self._asleep[remedy]

    def older(self, remedy: Remedy, age: _Age) -> int:
        """How many Services that are older wait for a remedy."""
        queue = self._queues.get(remedy)
        return int(queue.bisect_left(age)) if queue is not None else 0

    def next(self, remedy: Remedy, count: int | None = None) -> list[ServiceKey]:
        """The Services to be looked at again when a remedy is at hand for so many (None: for all)."""
        queue = self._queues.get(remedy)
        return [service for _, service in islice(queue, count)] if queue is not None else []

    def wake(self, remedy: Remedy, count: int | None = None) -> list[ServiceKey]:
        """Of these, those to be looked at that are not woken already."""
        queue = self._queues.get(remedy)
        if queue is None or count == 0:
            return []
        last = queue[-1 if count is None else min(count, len(queue)) - 1]
        asleep = self._asleep[remedy]
        woken = list(asleep.irange(maximum=last))
        del asleep[: len(woken)]
        return [service for _, service in woken]
