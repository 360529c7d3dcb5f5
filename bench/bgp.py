"""How fast do routes reach a router, beside BIRD, in the same run and with the same FRR as the router?

    sudo python -m bench.bgp [--quick] [--json FILE]

Both announcers sit in one namespace, FRR in another. They take turns, and each is told when its sessions are up
and FRR has nothing left to do; what they say is the same. A time is from the moment the announcer is told until FRR
counts every prefix as received, asked every half a millisecond. Times of different machines cannot be compared; those
of one run can.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import bgp_agent, processes
from bench.bgp_control import Bgpd, Birdc
from lbipam.adapters.bfd_udp import Neighbour
from lbipam.core.bfd.packets import State as BfdState
from lbipam.core.bfd.session import Timing
from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.nlri import Prefix
from lbipam.core.bgp.peers import Peer, Policy, RouteKey, SpeakerState
from lbipam.core.bgp.routes import RouteAttributes
from tests.lab.bgp.namespaces import Namespace, until, wire
from tests.lab.bgp.node import Node
from tests.lab.bgp.routers import Bird, Frr

ROUTER, NODE = "198.19.0.1", "198.19.0.2"
RUNS = 7
"""Of each announcer: a single one says little."""
SAID = RouteAttributes(communities=frozenset({64512 << 16 | 1}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One thing done once."""

    what: str
    who: str = "lbipam"
    seconds: float
    peak_mb: float
    cpu_seconds: float
    router_cpu_seconds: float = 0.0
    """Of bgpd, until it has all routes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One line of the table: medians of all runs, and how far apart these were."""

    what: str
    who: str
    runs: int
    seconds: float
    fastest: float
    slowest: float
    peak_mb: float
    cpu_seconds: float
    router_cpu_seconds: float


def routes(count: int, base: str = "10.0.0.0") -> dict[Prefix, RouteKey]:
    first = int(ip_address(base))
    return {ip_network(first + number): "all" for number in range(count)}


def state(wanted: dict[Prefix, RouteKey], peers: dict[str, Peer]) -> SpeakerState:
    policies: dict[str, dict[Family, Policy]] = {name: {Family.IPV4: {"all": SAID}} for name in peers}
    return SpeakerState(
        local_asn=65001,
        router_id=IPv4Address(NODE),
        peers=peers,
        routes=wanted,
        policies=policies,
    )


def medians(samples: Iterable[Sample]) -> list[Result]:
    """A line for each thing and who did it, in the order in which they came."""
    alike: dict[tuple[str, str], list[Sample]] = {}
    for one in samples:
        alike.setdefault((one.what, one.who), []).append(one)
    return [
        Result(
            what=what,
            who=who,
            runs=len(found),
            seconds=statistics.median(one.seconds for one in found),
            fastest=min(one.seconds for one in found),
            slowest=max(one.seconds for one in found),
            peak_mb=statistics.median(one.peak_mb for one in found),
            cpu_seconds=statistics.median(one.cpu_seconds for one in found),
            router_cpu_seconds=statistics.median(one.router_cpu_seconds for one in found),
        )
        for (what, who), found in alike.items()
    ]


def timed(act: Callable[[], object], done: Callable[[], bool]) -> float:
    """Seconds from the beginning of an act until it shows."""
    with ThreadPoolExecutor(1) as pool:
        begun = time.monotonic()
        acting = pool.submit(act)
        while not done():
            time.sleep(0.0005)
            assert time.monotonic() - begun < 120
        took = time.monotonic() - begun
        acting.result()
    return took


def frr_config(neighbours: Sequence[tuple[str, str]], *, bfd: bool) -> str:
    lines = "\n".join(
        f" neighbor {here} remote-as 65001\n neighbor {here} passive\n neighbor {here} update-source {there}"
        + (f"\n neighbor {here} bfd 3 100 100" if bfd else "")
        for there, here in neighbours
    )
    return f"router bgp 64512\n bgp router-id {ROUTER}\n no bgp ebgp-requires-policy\n{lines}\n"


def peer_at(there: str, here: str) -> Peer:
    return Peer(
        address=ip_address(there),
        asn=64512,
        local_address=ip_address(here),
        families=frozenset({Family.IPV4}),
        connect_retry_seconds=1,
    )


def ours(
    place: Namespace, bgpd: Bgpd, count: int, ends: Sequence[tuple[str, str]], folder: Path
) -> list[Sample]:
    """Our speaker with one peer or many; with one, also a single route more."""
    peers = {there: peer_at(there, here) for there, here in ends}
    with Node(place, folder / "node.log") as node:
        node.apply(state({}, peers))
        node.synced()
        until(lambda: all(one.state is State.ESTABLISHED for one in node.status().values()), "sessions")
        node.prepare(state(routes(count), peers))
        bgpd.settle()
        before, router_before = processes.cpu_seconds(node.process_id), bgpd.cpu_seconds
        own: list[float] = []
        took = timed(lambda: own.append(node.apply_prepared()), lambda: bgpd.paths() == count * len(ends))
        cpu, router_cpu = processes.cpu_seconds(node.process_id) - before, bgpd.cpu_seconds - router_before
        assert bgpd.received() == [count] * len(ends)
        peak = processes.rss_mb(node.process_id, peak=True)
        what = f"{count:,} routes × {len(ends)}"
        samples = [
            Sample(what=what, seconds=took, peak_mb=peak, cpu_seconds=cpu, router_cpu_seconds=router_cpu),
            Sample(what=f"{what}, until sent", seconds=own[0], peak_mb=peak, cpu_seconds=cpu),
        ]
        if len(ends) == 1:
            samples += one_more(node, bgpd, count)
    return samples


def one_more(node: Node, bgpd: Bgpd, count: int) -> list[Sample]:
    """A single route more, some times, for a speaker that has announced so many."""
    before = processes.cpu_seconds(node.process_id)
    times = [node.apply_one_more(f"192.0.2.{number}") for number in range(5)]
    cpu = (processes.cpu_seconds(node.process_id) - before) / len(times)
    until(lambda: bgpd.received() == [count + len(times)], "one more")
    peak = processes.rss_mb(node.process_id, peak=True)
    what = f"one more with {count:,}, until sent"
    return [Sample(what=what, seconds=one, peak_mb=peak, cpu_seconds=cpu) for one in times]


def bird_config(count: int, ends: Sequence[tuple[str, str]]) -> str:
    """The same routes with the same community, which BIRD is let add before it has to send them."""
    prefixes = " ".join(f"route {one} blackhole;" for one in routes(count))
    (said,) = SAID.communities
    channel = f"ipv4 {{ import filter {{ bgp_community.add(({said >> 16}, {said & 0xFFFF})); accept; }}; }};"
    protocols = "\n".join(
        f"protocol bgp tor{n} {{ local {here} as 65001; neighbor {there} as 64512; connect retry time 1; "
        "connect delay time 1; ipv4 { import none; export all; }; }"
        for n, (there, here) in enumerate(ends)
    )
    return f"router id {NODE};\nprotocol static vips {{ disabled; {channel} {prefixes} }}\n{protocols}"


def bird(
    place: Namespace, bgpd: Bgpd, count: int, ends: Sequence[tuple[str, str]], folder: Path
) -> list[Sample]:
    """BIRD, whose routes are switched on once its sessions are up."""
    with Bird(place, folder / "bird", bird_config(count, ends)) as router:
        until(lambda: router.ask("show protocols").count("Established") == len(ends), "sessions")
        bgpd.settle()
        before, router_before = processes.cpu_seconds(router.process_id), bgpd.cpu_seconds
        with Birdc(folder / "bird") as control:
            took = timed(lambda: control.tell("enable vips"), lambda: bgpd.paths() == count * len(ends))
        cpu, router_cpu = processes.cpu_seconds(router.process_id) - before, bgpd.cpu_seconds - router_before
        assert bgpd.received() == [count] * len(ends)
        peak = processes.rss_mb(router.process_id, peak=True)
    what = f"{count:,} routes × {len(ends)}"
    return [
        Sample(
            what=what,
            who="BIRD",
            seconds=took,
            peak_mb=peak,
            cpu_seconds=cpu,
            router_cpu_seconds=router_cpu,
        )
    ]


def at_rest(place: Namespace, ends: Sequence[tuple[str, str]], folder: Path, seconds: float) -> Sample:
    """What sessions cost while nothing happens but their keepalives."""
    peers = {there: peer_at(there, here) for there, here in ends}
    with Node(place, folder / "node.log") as node:
        node.apply(state(routes(100), peers))
        node.synced()
        until(lambda: all(one.state is State.ESTABLISHED for one in node.status().values()), "sessions")
        before = processes.cpu_seconds(node.process_id)
        time.sleep(seconds)
        cpu = processes.cpu_seconds(node.process_id) - before
        peak = processes.rss_mb(node.process_id, peak=True)
    return Sample(what=f"{len(ends)} peers at rest", seconds=seconds, peak_mb=peak, cpu_seconds=cpu)


def failover(place: Namespace, bgpd: Bgpd, ends: tuple[str, str], folder: Path) -> Sample:
    """From a link that goes dead to the router without the routes over it, by BFD at 100 ms × 3."""
    there, here = ends
    path = Neighbour(address=ip_address(there), timing=Timing(interval_seconds=0.1, multiplier=3))
    bgpd.settle()
    with Node(place, folder / "node.log") as node:
        node.apply(state(routes(1), {there: peer_at(there, here)}))
        node.synced()
        node.watch({there: path})
        until(lambda: bgpd.received() == [1] and node.watched()[there].state is BfdState.UP, "watched")
        before = processes.cpu_seconds(node.process_id)
        took = timed(place.cut, lambda: bgpd.received() == [0])
        cpu = processes.cpu_seconds(node.process_id) - before
        peak = processes.rss_mb(node.process_id, peak=True)
    place.mend()
    return Sample(what="link cut, until the routes go", seconds=took, peak_mb=peak, cpu_seconds=cpu)


def whole_agent(
    place: Namespace, bgpd: Bgpd, ends: Sequence[tuple[str, str]], folder: Path, count: int, seconds: float
) -> list[Sample]:
    """An agent with so many Services, each a route to each peer: its start, and then its rest."""
    with bgp_agent.Cluster(place.name, folder) as cluster:
        cluster.fill(bgp_agent.configuration(ends, 65001, 64512))
        cluster.fill(bgp_agent.services(count))
        begun = time.monotonic()
        with cluster.agent() as agent:
            until(lambda: bgpd.received() == [count] * len(ends), "all routes", 120)
            took = time.monotonic() - begun
            before = asyncio.run(processes.settled(agent))
            time.sleep(seconds)
            cpu = processes.cpu_seconds(agent.pid) - before
            peak = processes.rss_mb(agent.pid, peak=True)
    what = f"agent, {count:,} Services × {len(ends)}"
    return [
        Sample(what=f"{what}: from its start", seconds=took, peak_mb=peak, cpu_seconds=before),
        Sample(what=f"{what}: at rest", seconds=seconds, peak_mb=peak, cpu_seconds=cpu),
    ]


@contextmanager
def facing_router(
    many: int, *, bfd: bool = False
) -> Iterator[tuple[Bgpd, Namespace, Sequence[tuple[str, str]], Path]]:
    """A router; and for its peer a namespace, their addresses pair by pair, each in a subnet, and a folder."""
    with tempfile.TemporaryDirectory() as name, Namespace("r") as router, Namespace("n") as place:
        wire(router, "eth0", place, "eth0")
        ends = [(f"198.19.{n}.1", f"198.19.{n}.2") for n in range(many)]
        for there, here in ends:
            router.address("eth0", f"{there}/30")
            place.address("eth0", f"{here}/30")
        with Frr(router, frr_config(ends, bfd=bfd), bfd=bfd) as frr, Bgpd(frr) as bgpd:
            yield bgpd, place, ends, Path(name)


def announcing(*, quick: bool) -> Iterator[Sample]:
    """Both in turns."""
    runs = 1 if quick else RUNS
    plan = [([1_000, 10_000], 1), ([100], 10)] if quick else [([10_000, 50_000], 1), ([1_000], 100)]
    for counts, many in plan:
        with facing_router(many) as (bgpd, place, ends, folder):
            for count in counts:
                for _ in range(runs):
                    yield from ours(place, bgpd, count, ends, folder)
                    yield from bird(place, bgpd, count, ends, folder)


def extras(*, quick: bool) -> Iterator[Sample]:
    with facing_router(10) as (_, place, ends, folder):
        yield at_rest(place, ends, folder, 5 if quick else 30)
    with facing_router(1, bfd=True) as (bgpd, place, ends, folder):
        for _ in range(1 if quick else RUNS):
            yield failover(place, bgpd, ends[0], folder)


def agents(*, quick: bool) -> Iterator[Sample]:
    plan = [(1_000, 1, 2), (10, 3, 5)] if quick else [(10_000, 1, 5), (100, 10, 60)]
    for count, many, seconds in plan:
        with facing_router(many) as (bgpd, place, ends, folder):
            yield from whole_agent(place, bgpd, ends, folder, count, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller, and everything once")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    options = parser.parse_args()
    parts = (announcing, extras, agents)
    results = medians(one for part in parts for one in part(quick=options.quick))
    table = Table("what", "who", "runs", "seconds", "from", "to", "peak MB", "CPU s", "router's")
    for one in results:
        seconds = (f"{value:.4f}" for value in (one.seconds, one.fastest, one.slowest))
        costs = (f"{one.peak_mb:.1f}", f"{one.cpu_seconds:.3f}", f"{one.router_cpu_seconds:.3f}")
        table.add_row(one.what, one.who, str(one.runs), *seconds, *costs)
    Console(width=130).print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n")


if __name__ == "__main__":
    main()
