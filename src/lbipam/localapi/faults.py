"""What shall go wrong, and when?

A client that is tried out against the server may ask it to fail: to refuse, delay or drop the next requests,
to forget its history, to cut its watches. Nothing fails unless it is asked for.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

WRITES = frozenset(("POST", "PUT", "PATCH", "DELETE"))
"""The methods that change something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Answer with an error instead of doing what is asked."""

    code: int = 503
    reason: str = "ServiceUnavailable"
    message: str = "the server is currently unable to handle the request"
    retry_after_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """Do what is asked, later."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Close the connection without an answer, before or after doing what is asked."""

    done: bool = False
    """Whether what is asked is done before the connection closes."""


Fault = Refuse | Delay | Drop


@dataclass(slots=True)
class _Armed:
    fault: Fault
    methods: frozenset[str]
    path: str
    left: int


class Faults:
    """The faults of one server."""

    def __init__(self, *, forget_history: Callable[[], None]) -> None:
        self._armed: list[_Armed] = []
        self._forget_history = forget_history
        self._watches: set[asyncio.Task[object]] = set()
        self._halved = 0

    def arm(self, fault: Fault, *, count: int, methods: frozenset[str] = WRITES, path: str = "") -> None:
        """Let `fault` happen to the next `count` requests of these methods whose path contains `path`."""
        self._armed.append(_Armed(fault, methods, path, count))

    def clear(self) -> None:
        """Let nothing go wrong any more."""
        self._armed.clear()
        self._halved = 0

    def next_for(self, method: str, path: str) -> Fault | None:
        """The fault that a request meets, which is used up by it."""
        for armed in self._armed:
            if method in armed.methods and armed.path in path:
                armed.left -= 1
                if not armed.left:
                    self._armed.remove(armed)
                return armed.fault
        return None

    def expire(self) -> None:
        """Forget the history: watches and `continue` tokens from before now are too old, open watches end with 410."""
        self._forget_history()

    def cut_watches(self) -> None:
        """Close the connection of every open watch."""
        for task in self._watches:
            task.cancel()

    def halve_lines(self, count: int) -> None:
        """Let the next `count` watches that tell something break off in the middle of it."""
        self._halved = count

    def halves_this(self) -> bool:
        """Whether a watch breaks off now, which uses up one of the breaks."""
        if not self._halved:
            return False
        self._halved -= 1
        return True

    @contextmanager
    def watching(self, task: asyncio.Task[object]) -> Iterator[None]:
        """While this is open, `task` serves a watch; it is over, quietly, when the watch is cut."""
        self._watches.add(task)
        try:
            yield
        finally:
            self._watches.discard(task)
