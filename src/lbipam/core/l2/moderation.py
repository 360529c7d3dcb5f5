"""Do requests come so fast that it pays to let some gather?

As network cards moderate their interrupts: waking up costs more than answering. Below the threshold every
request is answered as it comes; above it, once it lasts, several at a time. Nothing is received here.
"""

from math import exp

FAST_PER_SECOND = 5000.0
MEMORY_SECONDS = 0.02
"""The span over which the rate is averaged, so that a burst does not make the next request wait."""


class Moderation:
    """The rate at which one socket's requests come."""

    def __init__(self) -> None:
        self._last = 0.0
        self._per_second = 0.0

    def pays(self, answered: int, now: float) -> bool:
        """Whether to pause after this turn, in which so many requests were there to be answered."""
        elapsed, self._last = now - self._last, now
        self._per_second = self._per_second * exp(-elapsed / MEMORY_SECONDS) + answered / MEMORY_SECONDS
        return self._per_second > FAST_PER_SECOND
