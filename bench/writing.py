"""P2 and P3: how fast do Services get their addresses, beside what the API server itself can do?

The limits are measured in the same run and on the same server, without a controller: the same server-side
applies, sent by wrk or one by one.
"""

import asyncio
import json
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bench import processes
from bench.cluster import APPLY, CONDITION, POOLS, SERVICES, Cluster
from bench.figures import Figure

_RATE = 50
"""Services, or bare writes, a second in P3."""
_OTHERS = 500
"""Services that no pool selects, for measuring what the server does without us."""


async def assignments(cluster: Cluster, count: int, runs: int) -> list[Figure]:
    """P2: a pool appears, and all that wait for it get their addresses; the medians of runs.

    Args:
        cluster: With `count` Services that wait for the pool `main`, which they have when this ends.
        count: How many they are.
        runs: How often the pool appears; in between it is deleted.
    """
    rates, ceilings, costs, writes, pool_writes = [], [], [], [], []
    for run in range(runs):
        with cluster.controller() as controller:
            if run:
                await cluster.delete(f"{POOLS}/main")
                await cluster.until(lambda: not cluster.watcher.addressed)
            cpu = await processes.settled(controller)
            services, pools = cluster.watcher.service_events, cluster.watcher.pool_events
            began = time.monotonic()
            await cluster.create_pool("main", "10.0.0.0/15", "main")
            await cluster.until(lambda: len(cluster.watcher.addressed) >= count)
            seconds = max(cluster.watcher.addressed.values()) - began
            costs.append(await processes.settled(controller) - cpu)
            rates.append(count / seconds)
            writes.append((cluster.watcher.service_events - services) / count)
            # One event is the creation of the pool. A status is told at the end even of a short run.
            pool_writes.append((cluster.watcher.pool_events - pools - 1) / (seconds + 1))
        async with _others(cluster):
            ceilings.append(await _ceiling(cluster))
    shares = [100 * rate / ceiling for rate, ceiling in zip(rates, ceilings, strict=True)]
    rate, ceiling = statistics.median(rates), statistics.median(ceilings)
    return [
        Figure(
            name="P2 addresses given, of the server's ceiling",
            value=statistics.median(shares),
            unit="%",
            at_least=90,
            beside=f"{rate:,.0f}/s; wrk {ceiling:,.0f}/s; {count:,} Services",
        ),
        Figure(
            name="P2 controller", value=statistics.median(costs) / count * 1e6, unit="µs of CPU per Service"
        ),
        Figure(name="P2 writes", value=statistics.median(writes), unit="per Service", at_most=1),
        Figure(name="P2 writes of the pool's status", value=max(pool_writes), unit="/s", at_most=1),
    ]


@asynccontextmanager
async def _others(cluster: Cluster) -> AsyncIterator[list[str]]:
    """Services that no controller looks at: none runs meanwhile."""
    names = [f"x{number:05}" for number in range(_OTHERS)]
    await cluster.create(names, "nobody")
    try:
        yield names
    finally:
        for name in names:
            await cluster.delete(f"{SERVICES}/{name}")


async def _ceiling(cluster: Cluster) -> float:
    """Server-side applies of a Service's status a second, by wrk with eight connections."""
    token = await cluster.connection.token(False)
    script = cluster.folder / "apply.lua"
    script.write_text(
        f"""
local n, round = 0, 0
request = function()
  local i = n % {_OTHERS}
  if i == 0 then round = round + 1 end
  n = n + 1
  local name = string.format("x%05d", i)
  local body = string.format([[{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"%s"}},"status":
    {{"loadBalancer":{{"ingress":[{{"ip":"10.%d.%d.%d"}}]}},"conditions":[{json.dumps(CONDITION)}]}}}}]],
    name, round % 250, math.floor(i / 250) % 250, i % 250)
  return wrk.format("PATCH", "{SERVICES}/" .. name .. "/status?fieldManager=wrk&force=true",
    {{["Authorization"]="Bearer {token}", ["Content-Type"]="{APPLY}"}}, body)
end
"""
    )
    words = ["wrk", "-t1", "-c8", "-d6s", "-s", str(script), cluster.connection.url]
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=True)
    assert "Non-2xx" not in done.stdout, done.stdout
    return float(done.stdout.split("Requests/sec:")[1].split()[0])


async def stream(cluster: Cluster, seconds: int) -> list[Figure]:
    """P3: Services come at 50 a second, beside bare writes and their echoes at the same pace."""
    async with _others(cluster) as names:
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
