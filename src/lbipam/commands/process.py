"""What does a process need that goes on until it is told to stop, besides its work?

Being the only one, waiting for the API server, running things side by side, a start without pauses, health,
signals. This file knows no process.
"""

import asyncio
import contextlib
import errno
import gc
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import structlog

from lbipam.adapters import telemetry
from lbipam.adapters.kube_client import ApiError, Client, UnreachableError

_log = structlog.get_logger()

_NOT_READY_SECONDS = 1.0
"""How long to wait before a server that has not started is asked again."""

_STILL_THERE_SECONDS = 1.0
"""How long to wait before it is looked again whether another process has ended."""

_LONGEST_START = 300.0
"""A start that takes longer waits for something, and what is thrown away meanwhile must not pile up."""

T = TypeVar("T")


async def learn_without_pauses(has_learnt: Callable[[], bool]) -> None:
    """Spare the garbage collector what is learnt at the start; to scan it all is a pause that grows with it."""
    gc.disable()
    try:
        ends = time.monotonic() + _LONGEST_START
        while not has_learnt() and time.monotonic() < ends:
            await asyncio.sleep(0.05)
            gc.collect(1)
        gc.freeze()
    finally:
        gc.enable()


@asynccontextmanager
async def running(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run these beside the block; they end with it, and the block ends if one of them fails."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in coroutines]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def once_ready(client: Client, ask: Callable[[Client], Awaitable[T]]) -> T:
    """What a server answers that may not have started yet, nor be there at all.

    Raises:
        ApiError: it refuses to answer us.
    """
    told = ""
    while True:
        try:
            problem = await client.why_not_ready()
            if problem is None:
                return await ask(client)
        except UnreachableError as silence:
            problem = str(silence)
        except ApiError as refusal:
            if not refusal.may_pass:
                raise
            problem = str(refusal)
        if problem != told:
            _log.warning("waiting for the API server", server=client.connection.url, problem=problem)
            told = problem
        await asyncio.sleep(_NOT_READY_SECONDS)


@asynccontextmanager
async def only(name: str) -> AsyncIterator[None]:
    """Wait until no other process of this name runs in this network namespace; there is none inside of the block."""
    waits = False
    with socket.socket(socket.AF_UNIX) as sign:
        while True:
            try:
                # An abstract address: it ends with the process, however that ends.
                sign.bind(f"\0lbipam/{name}")
                break
            except OSError as problem:
                if problem.errno != errno.EADDRINUSE:
                    raise
            if not waits:
                _log.warning("another process of this name runs here: waiting for it to end", name=name)
                waits = True
            await asyncio.sleep(_STILL_THERE_SECONDS)
        yield


class Observed(Protocol):
    """A process that tells how it fares."""

    metrics: telemetry.Metrics

    def why_not_healthy(self) -> str | None:
        """Why it should be restarted; None if it should not."""

    def why_not_ready(self) -> str | None:
        """Why it cannot serve yet; None once it can."""


@asynccontextmanager
async def health_server(process: Observed, bind: tuple[str, int] | None) -> AsyncIterator[None]:
    """Serve metrics, health and readiness, where an address is given."""
    if bind is None:
        yield
        return
    async with telemetry.HealthServer(
        host=bind[0],
        port=bind[1],
        metrics=process.metrics,
        why_not_healthy=process.why_not_healthy,
        why_not_ready=process.why_not_ready,
    ) as server:
        _log.info("serving metrics and health", host=bind[0], port=server.port)
        yield


class _Loop(asyncio.SelectorEventLoop):
    """One whose end no lookup of a name holds up: where no resolver answers, one takes a quarter of a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._lookups: dict[tuple[Any, ...], asyncio.Future[Any]] = {}

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 -- asyncio names it so
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        asked = (host, port, family, type, proto, flags)
        if asked not in self._lookups:
            self._lookups[asked] = self.create_future()
            threading.Thread(target=self._look_up, args=asked, daemon=True).start()
        # Others may wait for the same, so it goes on without whoever gives up.
        return await asyncio.shield(self._lookups[asked])

    def _look_up(self, *asked: Any) -> None:
        try:
            answer: Any = socket.getaddrinfo(*asked)
        except Exception as problem:  # noqa: BLE001 -- whoever asked meets it
            answer = problem
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self.call_soon_threadsafe(self._tell, asked, answer)

    def _tell(self, asked: tuple[Any, ...], answer: Any) -> None:
        lookup = self._lookups.pop(asked)
        if isinstance(answer, Exception):
            lookup.set_exception(answer)
        else:
            lookup.set_result(answer)


def until_told(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine until it ends, or SIGINT or SIGTERM asks it to end cleanly."""

    async def supervised() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(main())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.run(supervised())
