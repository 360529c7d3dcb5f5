"""How does a test wait for what happens beside it?

By asking again until it is so, or until patience ends. This file knows nothing of what is waited for.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any


async def until(
    condition: Callable[[], object], *, seconds: float = 20.0, told: Callable[[], object] = lambda: ""
) -> None:
    """Return when the condition holds; if it does not within so many seconds, fail and say how things are."""
    async with asyncio.timeout(seconds) as patience:
        try:
            while not condition():
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            if patience.expired():
                raise AssertionError(f"not within {seconds:g} s: {told()}") from None
            raise


@asynccontextmanager
async def running(*coroutines: Coroutine[Any, Any, Any]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """The coroutines run as tasks inside of the block; one that fails fails the test."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result
