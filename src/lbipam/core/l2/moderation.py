"""Do requests come so fast that it pays to let some gather?

As network cards moderate their interrupts: waking up costs more than answering. Below the threshold every
request is answered as it comes; above it, once it lasts, several at a time. Nothing is received here.
"""

FAST_PER_SECOND = 5000.0
LASTING_TURNS = 32
"""So that a burst does not make the next request wait."""


class Moderation:
    """The pace of the turns in which one socket's requests are answered."""

    def __init__(self) -> None:
        self._last = 0.0
        self._fast_turns = 0

    def pays(self, answered: int, now: float) -> bool:
        """Whether to pause after this turn, in which so many requests were there to be answered."""
        elapsed, self._last = now - self._last, now
        if answered > elapsed * FAST_PER_SECOND:
            self._fast_turns += 1
        else:
            self._fast_turns = 0
        return self._fast_turns >= LASTING_TURNS
