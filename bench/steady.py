"""P4 to P7: what does it cost to hold very many Services: to start, to sit idle, to learn of small changes?

Every figure is about a controller process beside the embedded API, which fills up in minutes; writes are counted by a watch of all Services.
"""

import asyncio
import contextlib
import statistics
import subprocess
import time

import aiohttp

from bench import processes
from bench.cluster import POOLS, SERVICES, Cluster
from bench.figures import Figure, Tell
from bench.processes import cpu_seconds

_EDITS = 200


async def measure(
    cluster: Cluster, tell: Tell, *, count: int, waiting: int, runs: int, idle_seconds: int
) -> None:
    """Measure one after the other.

    Args:
        cluster: With `count` Services whose addresses are of the pool `main`.
        tell: Takes the figures as they come.
        count: How many Services there are.
        waiting: How many shall wait for one address.
        runs: How many runs the medians are of.
        idle_seconds: How long to look on while nothing happens.
    """
    tell(_started([await _start(cluster) for _ in range(runs)], f"{count:,} Services"))
    with cluster.controller() as controller:
        await processes.settled(controller)
        tell(await _idle(controller, idle_seconds))
        tell(await _edits(cluster, controller, runs))
        tell(await _queue(cluster, controller, waiting, runs))


# --- P4 ------------------------------------------------------------------------------------------------------


async def _start(cluster: Cluster) -> dict[str, float]:
    """Start twice: to see what it takes, and, asking all the time, for how long it is deaf."""
    events, port = cluster.watcher.service_events, processes.free_port()
    metrics = ("--metrics-bind", f"127.0.0.1:{port}")
    with cluster.controller(*metrics) as controller:
        ready = await _ready(port)
        cpu = await processes.settled(controller)
        peak = processes.rss_mb(controller.pid, peak=True)
    with cluster.controller(*metrics):
        pause = await _longest_pause(port, ready + 3)
        floor = await _longest_pause(port, ready + 3)
    writes = cluster.watcher.service_events - events
    return {
        "cpu": cpu,
        "ready": ready,
        "peak": peak,
        "writes": writes,
        "pause": pause * 1000,
        "floor": floor * 1000,
    }


async def _ready(port: int) -> float:
    """Seconds until it is ready; asked seldom, so that the answers cost little."""
    began = time.monotonic()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with session.get("/readyz") as answer:
                    if answer.status == 200:
                        return time.monotonic() - began
            await asyncio.sleep(0.05)


async def _longest_pause(port: int, seconds: float) -> float:
    """The longest time to an answer in so many seconds."""
    longest, ends = 0.0, time.monotonic() + seconds
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        while time.monotonic() < ends:
            sent = time.monotonic()
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with session.get("/readyz"):
                    longest = max(longest, time.monotonic() - sent)
            await asyncio.sleep(0.002)
    return longest


def _started(starts: list[dict[str, float]], count: str) -> list[Figure]:
    found = {name: statistics.median(one[name] for one in starts) for name in starts[0]}
    return [
        Figure(name="P4 start: CPU until settled", value=found["cpu"], unit="s", at_most=3, beside=count),
        Figure(name="P4 start: until ready", value=found["ready"], unit="s"),
        Figure(name="P4 start: peak RSS", value=found["peak"], unit="MB", at_most=250),
        Figure(name="P4 start: writes", value=found["writes"], at_most=0),
        Figure(
            name="P4 start: longest pause of the event loop",
            value=found["pause"],
            unit="ms",
            at_most=50,
            beside=f"asked from outside; {found['floor']:.0f} ms once it is idle",
        ),
    ]


# --- P7, P5, P6 ----------------------------------------------------------------------------------------------


async def _idle(controller: "subprocess.Popen[bytes]", seconds: int) -> list[Figure]:
    """P7: nothing happens."""
    before = cpu_seconds(controller.pid)
    await asyncio.sleep(seconds)
    share = 100 * (cpu_seconds(controller.pid) - before) / seconds
    return [Figure(name="P7 idle: CPU", value=share, unit="% of a core", at_most=0.5)]


async def _edits(cluster: Cluster, controller: "subprocess.Popen[bytes]", runs: int) -> list[Figure]:
    """P5: edits that concern nobody."""
    await cluster.create_pool("other", "192.0.2.0/24", "nobody")
    await processes.settled(controller)
    events = cluster.watcher.service_events
    elsewhere, here = [], []
    for run in range(runs):
        change = {"spec": {"blocks": [{"cidr": f"192.0.2.0/{25 + run}"}]}}
        elsewhere.append(await processes.cost(controller, cluster.edit(f"{POOLS}/other", change)))
        blocks = [{"cidr": "10.0.0.0/15"}, *({"cidr": f"10.2.{number}.0/24"} for number in range(run + 1))]
        change = {"spec": {"blocks": blocks}}
        here.append(await processes.cost(controller, cluster.edit(f"{POOLS}/main", change)))
    writes = cluster.watcher.service_events - events

    async def annotate(run: int) -> None:
        for number in range(_EDITS):
            change: dict[str, object] = {"metadata": {"annotations": {"edit": str(run)}}}
            await cluster.edit(f"{SERVICES}/s{number:05}", change)

    small = [await processes.cost(controller, annotate(run)) / _EDITS * 1000 for run in range(runs)]
    edits = cluster.watcher.service_events - events - writes
    return [
        Figure(
            name="P5 a pool edit that concerns nobody: CPU",
            value=statistics.median(elsewhere),
            unit="s",
            at_most=1,
        ),
        Figure(name="P5 a block added: CPU", value=statistics.median(here), unit="s", at_most=1),
        Figure(name="P5 pool edits: Service writes", value=writes, at_most=0),
        Figure(
            name="P5 a Service edit that changes nothing: CPU",
            value=statistics.median(small),
            unit="ms",
            at_most=0.3,
        ),
        Figure(name="P5 such Service edits: Service writes", value=edits - runs * _EDITS, at_most=0),
    ]


async def _queue(
    cluster: Cluster, controller: "subprocess.Popen[bytes]", waiting: int, runs: int
) -> list[Figure]:
    """P6: a full pool, many that wait, and one holder after another that goes."""
    watcher = cluster.watcher
    await cluster.create_pool("one", "198.51.100.1/32", "waiting")
    await cluster.create(["holder"], "waiting")
    await cluster.until(lambda: "holder" in watcher.addressed)
    await cluster.create((f"w{number:05}" for number in range(waiting)), "waiting")
    await processes.settled(controller)
    holder, costs, winners, writes = "holder", [], [], []
    for _ in range(runs):
        events, had = watcher.service_events, set(watcher.addressed)
        costs.append(await processes.cost(controller, cluster.delete(f"{SERVICES}/{holder}")) * 1000)
        new = set(watcher.addressed) - had
        winners.append(len(new))
        # One event is the deletion itself.
        writes.append(watcher.service_events - events - 1)
        holder = min(new)
    return [
        Figure(
            name="P6 a holder goes: CPU",
            value=statistics.median(costs),
            unit="ms",
            at_most=5,
            beside=f"{waiting:,} wait",
        ),
        Figure(name="P6 a holder goes: Services that get an address", value=max(winners), at_most=1),
        Figure(name="P6 a holder goes: Service writes", value=max(writes), at_most=1),
    ]
