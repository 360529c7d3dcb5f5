"""P2 and P3: how fast do Services get their addresses, beside what the API server itself can do?

The limits are measured in the same run and on the same server, without a controller: the same server-side
applies, sent by wrk or one by one.
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

_RATE = 50
"""Services, or bare writes, a second in P3."""
_WRK_SECONDS = 2
_FOR_WRK = 2_500 * _WRK_SECONDS
_FOR_ECHOES = 500
"""Services that no pool selects, for measuring what the server does without us."""


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


async def assignments(cluster: Cluster, count: int, runs: int) -> list[Figure]:
    """P2: a pool appears, and all that wait for it get their addresses; the medians of runs.

    Who writes shares the cores with the server, or leaves it half of them for itself, in turns. Only the
    latter tells what the server can do; the former tells what a write costs whoever writes as well.

    Args:
        cluster: With `count` Services that wait for the pool `main`, which they have when this ends.
        count: How many they are.
        runs: How often the pool appears for each; in between it is deleted.
    """
    together: list[_Appearance] = []
    apart: list[_Appearance] = []
    for _ in range(runs):
        together.append(await _appearance(cluster, count))
        with processes.apart(cluster.servers):
            apart.append(await _appearance(cluster, count))
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


async def _appearance(cluster: Cluster, count: int) -> _Appearance:
    with cluster.controller() as controller:
        if cluster.watcher.addressed:
            await cluster.delete(f"{POOLS}/main")
            await cluster.until(lambda: not cluster.watcher.addressed)
        cpu = await processes.settled(controller)
        services, pools = cluster.watcher.service_events, cluster.watcher.pool_events
        began = time.monotonic()
        await cluster.create_pool("main", "10.0.0.0/15", "main")
        await cluster.until(lambda: len(cluster.watcher.addressed) >= count)
        seconds = max(cluster.watcher.addressed.values()) - began
        cpu = await processes.settled(controller) - cpu
        writes = cluster.watcher.service_events - services
        # One event is the creation of the pool. A status is told at the end even of a short run.
        pool_writes = (cluster.watcher.pool_events - pools - 1) / (seconds + 1)
    ceiling = await _ceiling(cluster)
    return _Appearance(
        rate=count / seconds,
        ceiling=ceiling,
        cpu=cpu / count * 1e6,
        writes=writes / count,
        pool_writes=pool_writes,
    )


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


async def _ceiling(cluster: Cluster) -> float:
    """The controller's writes a second for Services that wait, as its own do, sent by wrk on eight connections.

    Meanwhile all Services are watched by one more, as they are by a controller: its echoes are the server's work.
    """
    async with _others(cluster, _FOR_WRK) as names:
        await cluster.let_wait(names, "wrk")
        listed = json.loads(
            await cluster.client.request("GET", SERVICES, params={"labelSelector": "bench=nobody"})
        )
        writes = cluster.folder / "writes"
        writes.write_text(
            "".join(
                f"{SERVICES}/{one['metadata']['name']}/status?fieldManager=wrk&force=true\n{_apply(one, number)}\n"
                for number, one in enumerate(listed["items"])
            )
        )
        token = await cluster.connection.token(False)
        script = cluster.folder / "apply.lua"
        script.write_text(
            f"""
local ready, sent = {{}}, 0
init = function()
  local lines = io.lines("{writes}")
  local fields = {{["Authorization"]="Bearer {token}", ["Content-Type"]="{APPLY}"}}
  for path in lines do ready[#ready + 1] = wrk.format("PATCH", path, fields, lines()) end
end
request = function()
  sent = sent + 1
  return ready[sent] or error("too few Services")
end
"""
        )
        words = ["wrk", "-t1", "-c8", f"-d{_WRK_SECONDS}s", "-s", str(script), cluster.connection.url]
        version = listed["metadata"]["resourceVersion"]
        # The server has rested as long as before a pool appears.
        await asyncio.sleep(processes.QUIET_SECONDS)
        with _echo(f"{cluster.connection.url}{SERVICES}?watch=true&resourceVersion={version}", token):
            done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=True)
    assert "Non-2xx" not in done.stdout, done.stdout
    return float(done.stdout.split("Requests/sec:")[1].split()[0])


def _apply(service: Mapping[str, Any], number: int) -> str:
    """What the controller writes for a Service."""
    metadata = {name: service["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
    ingress = [{"ip": f"10.1.{number // 250}.{number % 250}"}]
    status = {"conditions": [CONDITION], "loadBalancer": {"ingress": ingress}}
    return json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "status": status})


@contextmanager
def _echo(url: str, token: str | None) -> Iterator[None]:
    """A watch that does nothing with what it hears."""
    words = [
        "curl",
        "--silent",
        "--insecure",
        "--no-buffer",
        "--header",
        f"Authorization: Bearer {token}",
        url,
    ]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as watch:
        try:
            yield
        finally:
            watch.terminate()


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
