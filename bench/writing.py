"""P2 and P3: how fast do Services get their addresses, beside what the API server itself can do?

The limits are measured in the same run, without a controller: the same server-side applies, sent by wrk to a
second server in turns of half a second (P2), or one by one to the same server (P3).
"""

import asyncio
import json
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from bench import processes
from bench.cluster import APPLY, CONDITION, POOLS, SERVICES, Cluster
from bench.figures import Figure
from lbipam.adapters.kube_client import FIELD_MANAGER

_RATE = 50
"""Services, or bare writes, a second in P3."""
_FOR_ECHOES = 500
"""Services that no pool selects, for measuring what the server does without us."""
_TURN_SECONDS = 0.5
"""Short beside what makes a machine slower for a while, long beside the eight writes that a turn cuts through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Appearance:
    """What came of one appearance of a pool before Services that wait."""

    rate: float
    """Addresses given a second."""
    ceiling: float
    """Writes a second by the loader."""
    cpu: float
    """Microseconds of the controller's CPU per Service."""
    writes: float
    """Of each Service."""
    pool_writes: float
    """Of the pool's status a second."""


async def assignments(cluster: Cluster, twin: Cluster, count: int, runs: int) -> list[Figure]:
    """P2: a pool appears, and all that wait for it get their addresses; the medians of runs.

    Who writes shares the cores with the server, or leaves it half of them for itself, in turns. Only the
    latter tells what the server can do; the former tells what a write costs whoever writes as well.

    Args:
        cluster: With `count` Services that wait for the pool `main`, which they have when this ends.
        twin: The same once more, for the loader; from run to run they change places.
        count: How many they are.
        runs: How often the pool appears for each; in between it is deleted.
    """
    together: list[_Appearance] = []
    apart: list[_Appearance] = []
    for number in range(runs, 0, -1):
        # No two servers are alike.
        sides = (cluster, twin) if number % 2 else (twin, cluster)
        together.append(await _appearance(*sides, count))
        with processes.apart([*cluster.servers, *twin.servers]):
            apart.append(await _appearance(*sides, count))
    every = together + apart
    return [
        _share("P2 addresses given, of the server's ceiling", apart, count, at_least=90),
        _share("P2 the same, on the cores that the server needs too", together, count),
        Figure(
            name="P2 controller",
            value=statistics.median(one.cpu for one in every),
            unit="µs of CPU per Service",
        ),
        Figure(
            name="P2 writes",
            value=statistics.median(one.writes for one in every),
            unit="per Service",
            at_most=1,
        ),
        Figure(
            name="P2 writes of the pool's status",
            value=max(one.pool_writes for one in every),
            unit="/s",
            at_most=1,
        ),
    ]


async def _appearance(cluster: Cluster, twin: Cluster, count: int) -> _Appearance:
    await _let_wait(cluster)
    await _let_wait(twin)
    async with _loader(twin) as loader:
        with cluster.controller() as controller:
            cpu = await processes.settled(controller)
            services, pools = cluster.watcher.service_events, cluster.watcher.pool_events
            ours = _Side(cluster, [*cluster.servers, controller.pid])
            ceiling = _Side(twin, [*twin.servers, *loader])
            began = time.monotonic()
            with processes.frozen(ours.processes), processes.frozen(ceiling.processes):
                pool = asyncio.create_task(cluster.create_pool("main", "10.0.0.0/15", "main"))
                async with asyncio.timeout(60 + count / 10):
                    while not (ours.done and ceiling.done):
                        await ours.turn(count)
                        await ceiling.turn(count)
            await pool
            seconds = time.monotonic() - began
            cpu = await processes.settled(controller) - cpu
    writes = cluster.watcher.service_events - services
    # One event is the creation of the pool. A status is told at the end even of a short run.
    pool_writes = (cluster.watcher.pool_events - pools - 1) / (seconds + 1)
    return _Appearance(
        rate=count / ours.seconds,
        ceiling=count / ceiling.seconds,
        cpu=cpu / count * 1e6,
        writes=writes / count,
        pool_writes=pool_writes,
    )


@dataclass(slots=True)
class _Side:
    """One who writes, and the server written to: both are frozen but for their turns."""

    cluster: Cluster
    processes: Sequence[int]
    seconds: float = 0.0
    """Of turns, until the last Service had its address."""
    done: bool = False

    async def turn(self, count: int) -> None:
        """Go on until the turn is over, or all Services have addresses."""
        if self.done:
            return
        addressed = self.cluster.watcher.addressed
        with processes.thawed(self.processes):
            began = time.monotonic()
            while len(addressed) < count and time.monotonic() < began + _TURN_SECONDS:
                await asyncio.sleep(0.01)
            ended = time.monotonic()
        self.done = len(addressed) >= count
        self.seconds += (max(addressed.values()) if self.done else ended) - began


async def _let_wait(cluster: Cluster) -> None:
    """A controller has taken back what Services had of a pool, or of the loader."""
    with cluster.controller() as controller:
        if cluster.watcher.has_pool:
            await cluster.delete(f"{POOLS}/main")
        await cluster.until(lambda: not cluster.watcher.addressed)
        await processes.settled(controller)


def _share(name: str, runs: Sequence[_Appearance], count: int, *, at_least: float | None = None) -> Figure:
    rate = statistics.median(one.rate for one in runs)
    ceiling = statistics.median(one.ceiling for one in runs)
    return Figure(
        name=name,
        value=statistics.median(100 * one.rate / one.ceiling for one in runs),
        unit="%",
        at_least=at_least,
        beside=f"{rate:,.0f}/s; wrk {ceiling:,.0f}/s; {count:,} Services",
    )


@asynccontextmanager
async def _others(cluster: Cluster, count: int) -> AsyncIterator[list[str]]:
    """Services that no controller looks at: none runs meanwhile."""
    names = [f"x{number:05}" for number in range(count)]
    await cluster.create(names, "nobody")
    try:
        yield names
    finally:
        await cluster.remove(names)


@asynccontextmanager
async def _loader(cluster: Cluster) -> AsyncIterator[Sequence[int]]:
    """The controller's writes for all Services that wait, sent by wrk on eight connections.

    Meanwhile all Services are watched by one more, as they are by a controller: its echoes are the server's work.

    Yields:
        Its processes. With those of its server they are frozen, before anything is sent.
    """
    listed = json.loads(await cluster.client.request("GET", SERVICES, params={"labelSelector": "bench=main"}))
    writes = cluster.folder / "writes"
    writes.write_text(
        "".join(
            f"{SERVICES}/{one['metadata']['name']}/status?fieldManager={FIELD_MANAGER}\n{_apply(one, number)}\n"
            for number, one in enumerate(listed["items"])
        )
    )
    token = await cluster.connection.token(False)
    # wrk asks for one request more than it sends.
    script = cluster.folder / "apply.lua"
    script.write_text(
        f"""
local ready, sent = {{}}, -1
init = function()
  local lines = io.lines("{writes}")
  local fields = {{["Authorization"]="Bearer {token}", ["Content-Type"]="{APPLY}"}}
  for path in lines do ready[#ready + 1] = wrk.format("PATCH", path, fields, lines()) end
end
request = function()
  sent = sent + 1
  if sent > #ready then wrk.thread:stop() end
  return ready[sent] or wrk.format("GET", "/livez")
end
"""
    )
    url = cluster.connection.url
    watch = f"{url}{SERVICES}?watch=true&resourceVersion={listed['metadata']['resourceVersion']}"
    with (
        processes.frozen(cluster.servers),
        _beside(
            "curl", "--insecure", "--no-buffer", "--header", f"Authorization: Bearer {token}", watch
        ) as curl,
        _beside("wrk", "-t1", "-c8", "-d1h", "-s", str(script), url) as wrk,
    ):
        # They read their files, and find that nobody answers.
        await asyncio.sleep(1)
        yield [curl, wrk]


def _apply(service: Mapping[str, Any], number: int) -> str:
    """What the controller writes for a Service."""
    metadata = {name: service["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
    ingress = [{"ip": f"10.1.{number // 250}.{number % 250}"}]
    status = {"conditions": [CONDITION], "loadBalancer": {"ingress": ingress}}
    return json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "status": status})


@contextmanager
def _beside(*words: str) -> Iterator[int]:
    """A program whose output nobody needs, by its process ID; it ends with the block."""
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


async def stream(cluster: Cluster, seconds: int) -> list[Figure]:
    """P3: Services come at 50 a second, beside bare writes and their echoes at the same pace."""
    async with _others(cluster, _FOR_ECHOES) as names:
        bare = await _echoes(cluster, names, seconds)
    with cluster.controller() as controller:
        await processes.settled(controller)
        took = await _creations(cluster, seconds)
    return [
        _beside_bare("P3 creation answered until address seen, p50", took, bare, 50, 2),
        _beside_bare("P3 creation answered until address seen, p99", took, bare, 99, 3),
    ]


async def _echoes(cluster: Cluster, names: Sequence[str], seconds: int) -> list[float]:
    """Milliseconds from a write to its echo."""
    took: list[float] = []

    async def write(number: int) -> None:
        name, began = names[number % len(names)], time.monotonic()
        await cluster.apply_status(name, f"192.0.{number // 250}.{number % 250}")
        while cluster.watcher.seen[name] < began:
            await asyncio.sleep(0.0005)
        took.append((cluster.watcher.seen[name] - began) * 1000)

    await _paced([write(number) for number in range(_RATE * seconds)])
    return took


async def _creations(cluster: Cluster, seconds: int) -> list[float]:
    """Milliseconds from the answer to a creation until the address is seen."""
    answered: dict[str, float] = {}

    async def create(name: str) -> None:
        await cluster.create([name], "main")
        answered[name] = time.monotonic()

    names = [f"stream{number}" for number in range(_RATE * seconds)]
    await _paced([create(name) for name in names])
    seen = cluster.watcher.addressed
    await cluster.until(lambda: all(name in seen for name in names))
    return [max(seen[name] - answered[name], 0.0) * 1000 for name in names]


async def _paced(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number, one in enumerate(work):
            await asyncio.sleep(max(began + number / _RATE - time.monotonic(), 0))
            group.create_task(one)


def _beside_bare(name: str, took: list[float], bare: list[float], percent: int, most: float) -> Figure:
    ours, theirs = (statistics.quantiles(one, n=100)[percent - 1] for one in (took, bare))
    return Figure(
        name=name,
        value=ours / theirs,
        unit="× a bare write",
        at_most=most,
        beside=f"{ours:.1f} ms; bare {theirs:.1f} ms",
    )
