"""P2 to P7 one after the other: writing beside a real API server, holding very many beside the embedded one."""

import asyncio
from dataclasses import dataclass

from bench import processes, steady, writing
from bench.cluster import Cluster, embedded, real
from bench.figures import Tell


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """How much of everything."""

    pending: int
    """Services in P2, and present in P3, on the real API server."""
    large: int
    """Services in P4 to P7, on the embedded one."""
    waiting: int
    """Services that wait in P6."""
    runs: int
    stream_seconds: int
    idle_seconds: int


_QUICK = _Sizes(pending=800, large=1_000, waiting=200, runs=1, stream_seconds=5, idle_seconds=5)
_WHOLE = _Sizes(pending=10_000, large=50_000, waiting=10_000, runs=3, stream_seconds=20, idle_seconds=30)


async def _fill(cluster: Cluster, count: int) -> None:
    await cluster.create((f"s{number:05}" for number in range(count)), "main")


async def _write(sizes: _Sizes, tell: Tell) -> None:
    async with real() as cluster:
        await _fill(cluster, sizes.pending)
        async with real() as twin:
            await _fill(twin, sizes.pending)
            tell(await writing.assignments(cluster, twin, sizes.pending, sizes.runs))
        tell(await writing.stream(cluster, sizes.stream_seconds))


async def _hold(sizes: _Sizes, tell: Tell) -> None:
    async with embedded() as cluster:
        await _fill(cluster, sizes.large)
        with cluster.controller() as controller:
            await cluster.create_pool("main", "10.0.0.0/15", "main")
            await cluster.until(lambda: len(cluster.watcher.addressed) >= sizes.large)
            await processes.settled(controller)
        await steady.measure(
            cluster,
            tell,
            count=sizes.large,
            waiting=sizes.waiting,
            runs=sizes.runs,
            idle_seconds=sizes.idle_seconds,
        )


def write(tell: Tell, *, quick: bool) -> None:
    """P2 and P3; `tell` takes the figures as they come."""
    asyncio.run(_write(_QUICK if quick else _WHOLE, tell))


def hold(tell: Tell, *, quick: bool) -> None:
    """P4 to P7; `tell` takes the figures as they come."""
    asyncio.run(_hold(_QUICK if quick else _WHOLE, tell))
