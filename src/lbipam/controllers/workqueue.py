"""Which keys wait, which are in hand, which back off until when?

A key is in one place at most: waiting, or in hand. A key that is added while it is in hand waits again as
soon as it is put down; none is lost, none is in two hands. Time is passed in. This file does not know what
the keys stand for.
"""

import heapq
from collections import deque
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from lbipam.controllers.ports import Conflict, Fenced, Gone, Refused, WriteResult, Written

K = TypeVar("K", bound=Hashable)

_FIRST_DELAY = 0.25
_LONGEST_DELAY = 300.0
_MOST_DOUBLINGS = 11
"""After so many the delay is past the longest."""
_NEWER_VERSION_SECONDS = 1.0


class WorkQueue(Generic[K]):
    """Keys in the order in which they came, without duplicates."""

    def __init__(self) -> None:
        self._order: deque[K] = deque()
        self._ready: set[K] = set()
        """The same keys as in `_order`."""
        self._in_hand: dict[K, bool] = {}
        """True: it was added again meanwhile."""
        self._due: dict[K, float] = {}
        self._later: list[tuple[float, int, K]] = []
        self._failures: dict[K, int] = {}
        self._count = 0
        self._now = 0.0
        """The time when a key was last asked for."""

    def __len__(self) -> int:
        """How many keys wait to be taken now."""
        return len(self._ready)

    @property
    def idle(self) -> bool:
        """Whether no key waits to be taken now and none is in hand."""
        return not self._ready and not self._in_hand

    def __contains__(self, key: K) -> bool:
        """Whether a key is to be taken as soon as possible."""
        return key in self._ready or self._in_hand.get(key, False)

    def add(self, key: K) -> None:
        """Let a key be taken as soon as possible."""
        self._due.pop(key, None)
        if key in self._in_hand:
            self._in_hand[key] = True
        elif key not in self._ready:
            self._ready.add(key)
            self._order.append(key)

    def add_all(self, keys: Iterable[K]) -> None:
        """Let keys be taken as soon as possible, in this order."""
        if self._ready or self._in_hand or self._due:
            for key in keys:
                self.add(key)
        else:
            # From a dict to a dict or a set no key is hashed again.
            unique = dict.fromkeys(keys)
            self._order.extend(unique)
            self._ready.update(unique)

    def add_at(self, key: K, at: float) -> None:
        """Let a key be taken at a time, or earlier if it is wanted earlier for another reason."""
        if key in self._ready or self._due.get(key, at + 1) <= at:
            return
        self._due[key] = at
        self._count += 1
        heapq.heappush(self._later, (at, self._count, key))

    def back_off(self, key: K, now: float) -> float:
        """Let a key that failed be taken later, each time twice as late, up to five minutes; when."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        at = now + min(_FIRST_DELAY * 2.0 ** min(failures, _MOST_DOUBLINGS), _LONGEST_DELAY)
        self.add_at(key, at)
        return at

    def answered(self, key: K, result: WriteResult, now: float) -> None:
        """Let a key be taken again whose write was not done."""
        match result:
            case Refused():
                self.back_off(key, now)
            case Conflict() | Gone():
                # The newer version is on its way, and looks again by itself; this is for when it is not.
                self.add_at(key, now + _NEWER_VERSION_SECONDS)
            case Written() | Fenced():
                pass

    def take(self, now: float) -> K | None:
        """The next key, now in hand; None if no key is due."""
        self._promote(now)
        if not self._order:
            return None
        key = self._order.popleft()
        self._ready.discard(key)
        self._in_hand[key] = False
        return key

    def put_down(self, key: K, *, succeeded: bool = True) -> None:
        """The key is no longer in hand; after a success its next failure backs off from the start."""
        if succeeded:
            self._failures.pop(key, None)
        if self._in_hand.pop(key):
            self.add(key)

    def wake_at(self) -> float | None:
        """When the next key is due that is not due now; None if there is none."""
        while self._later and self._due.get(self._later[0][2]) != self._later[0][0]:
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def clear(self) -> None:
        """Forget all keys but those in hand."""
        self._order.clear()
        self._ready.clear()
        self._due.clear()
        self._later.clear()
        self._failures.clear()
        for key in self._in_hand:
            self._in_hand[key] = False

    def _promote(self, now: float) -> None:
        if now < self._now:
            # The clock was set back, maybe by years: too early is better than that much too late.
            self.add_all(tuple(self._due))
        self._now = now
        while self._later and self._later[0][0] <= now:
            at, _, key = heapq.heappop(self._later)
            if self._due.get(key) == at:
                self.add(key)
