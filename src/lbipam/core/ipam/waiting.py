"""Who waits for what, and who is next when something comes free?

Each refused Service stands in one queue per remedy, the oldest Service first. This file does not know how
much has come free; it is asked for as many as that can help.
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
        if self._of.get(service) == (age, remedies):
            return
        self.leave(service)
        self._of[service] = (age, remedies)
        for remedy in remedies:
            self._queues.setdefault(remedy, SortedList()).add(age)

    def leave(self, service: ServiceKey) -> None:
        """Let a Service wait no longer."""
        entry = self._of.pop(service, None)
        if entry is None:
            return
        age, remedies = entry
        for remedy in remedies:
            queue = self._queues[remedy]
            queue.remove(age)
            if not queue:
                del self._queues[remedy]

    def older(self, remedy: Remedy, age: _Age) -> int:
        """How many Services that are older wait for a remedy."""
        queue = self._queues.get(remedy)
        return int(queue.bisect_left(age)) if queue is not None else 0

    def next(self, remedy: Remedy, count: int | None = None) -> list[ServiceKey]:
        """The Services to be looked at again when a remedy is at hand for so many (None: for all)."""
        queue = self._queues.get(remedy)
        return [service for _, service in islice(queue, count)] if queue is not None else []
