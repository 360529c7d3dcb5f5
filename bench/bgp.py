"""How fast do routes reach a router, beside BIRD, in the same run and with the same FRR as the router?

    sudo python -m bench.bgp [--quick] [--json FILE]

Both announcers sit in one namespace, one after the other, FRR in another. A time is from the moment the
announcer is told until FRR counts every prefix as received, asked every few milliseconds. Times of
different machines cannot be compared; those of one run can.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import bgp_agent, processes
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

ROUTER, NODE = "198.18.0.1", "198.18.0.2"
SAID = RouteAttributes(communities=frozenset({64512 << 16 | 1}))


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    what: str
    who: str
    seconds: float
    peak_mb: float
    cpu_seconds: float


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


def memory_and_cpu(pid: int) -> tuple[float, float]:
    """Peak resident memory in MB, and CPU seconds."""
    status = Path(f"/proc/{pid}/status").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return int(status[status.index("VmHWM:") + 1]) / 1024, ticks / 100


def received(frr: Frr) -> list[int]:
    """Prefixes from each neighbour."""
    peers = frr.show("bgp ipv4 unicast summary").get("peers", {})
    return [int(one.get("pfxRcd", 0)) for one in peers.values()]


def timed(act: Callable[[], object], done: Callable[[], bool]) -> float:
    begun = time.monotonic()
    act()
    while not done():
        time.sleep(0.002)
        assert time.monotonic() - begun < 120
    return time.monotonic() - begun


def frr_config(neighbours: list[tuple[str, str]]) -> str:
    lines = "\n".join(
        f" neighbor {here} remote-as 65001\n neighbor {here} passive\n neighbor {here} update-source {there}"
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


def ours(place: Namespace, frr: Frr, count: int, ends: list[tuple[str, str]], folder: Path) -> list[Result]:
    """Our speaker with one peer or many; with one, also a single route more."""
    peers = {there: peer_at(there, here) for there, here in ends}
    with Node(place, folder / "node.log") as node:
        node.apply(state({}, peers))
        node.synced()
        until(lambda: all(one.state is State.ESTABLISHED for one in node.status().values()), "sessions")
        wanted = routes(count)
        node.prepare(state(wanted, peers))
        own: list[float] = []
        took = timed(lambda: own.append(node.apply_prepared()), lambda: received(frr) == [count] * len(ends))
        peak, cpu = memory_and_cpu(node.process_id)
        what = f"{count:,} routes × {len(ends)}"
        results = [
            Result(what, "lbipam", took, peak, cpu),
            Result(f"{what}, until sent", "lbipam", own[0], peak, cpu),
        ]
        if len(ends) == 1:
            samples = [node.apply_one_more(f"192.0.2.{number}") for number in range(5)]
            until(lambda: received(frr) == [count + 5], "one more")
            what = f"one more with {count:,}, until sent"
            results.append(
                Result(what, "lbipam", statistics.median(samples), *memory_and_cpu(node.process_id))
            )
    until(lambda: not any(received(frr)), "the router has forgotten")
    return results


def bird_config(count: int, ends: list[tuple[str, str]]) -> str:
    prefixes = " ".join(f"route {one} blackhole;" for one in routes(count))
    protocols = "\n".join(
        f"protocol bgp tor{n} {{ local {here} as 65001; neighbor {there} as 64512; connect retry time 1; "
        "connect delay time 1; ipv4 { import none; export all; }; }"
        for n, (there, here) in enumerate(ends)
    )
    return f"router id {NODE};\nprotocol static vips {{ disabled; ipv4; {prefixes} }}\n{protocols}"


def bird(place: Namespace, frr: Frr, count: int, ends: list[tuple[str, str]], folder: Path) -> list[Result]:
    """BIRD, whose routes are switched on once its sessions are up."""
    with Bird(place, folder / "bird", bird_config(count, ends)) as router:
        until(lambda: router.ask("show protocols").count("Established") == len(ends), "sessions")
        until(lambda: not any(received(frr)), "nothing announced yet")
        took = timed(lambda: router.ask("enable vips"), lambda: received(frr) == [count] * len(ends))
        result = Result(f"{count:,} routes × {len(ends)}", "BIRD", took, *memory_and_cpu(router.process_id))
    until(lambda: not any(received(frr)), "the router has forgotten")
    return [result]


def at_rest(place: Namespace, ends: list[tuple[str, str]], folder: Path, seconds: float) -> Result:
    """What sessions cost while nothing happens but their keepalives."""
    peers = {there: peer_at(there, here) for there, here in ends}
    with Node(place, folder / "node.log") as node:
        node.apply(state(routes(100), peers))
        node.synced()
        until(lambda: all(one.state is State.ESTABLISHED for one in node.status().values()), "sessions")
        before = memory_and_cpu(node.process_id)[1]
        time.sleep(seconds)
        peak, cpu = memory_and_cpu(node.process_id)
    return Result(f"{len(ends)} peers at rest", "lbipam", seconds, peak, cpu - before)


def failover(place: Namespace, frr: Frr, ends: tuple[str, str], folder: Path) -> Result:
    """From a link that goes dead to the router without the routes over it, by BFD at 100 ms × 3."""
    there, here = ends
    path = Neighbour(address=ip_address(there), timing=Timing(interval_seconds=0.1, multiplier=3))
    with Node(place, folder / "node.log") as node:
        node.apply(state(routes(1), {there: peer_at(there, here)}))
        node.synced()
        node.watch({there: path})
        until(lambda: received(frr) == [1] and node.watched()[there].state is BfdState.UP, "watched")
        took = timed(place.cut, lambda: received(frr) == [0])
        result = Result("link cut, until the routes go", "lbipam", took, *memory_and_cpu(node.process_id))
        place.mend()
    return result


def whole_agent(
    place: Namespace, frr: Frr, ends: list[tuple[str, str]], folder: Path, count: int, seconds: float
) -> list[Result]:
    """An agent with so many Services, each a route to each peer: its start, and then its rest."""
    with bgp_agent.Cluster(place.name, folder) as cluster:
        cluster.fill(bgp_agent.configuration(ends, 65001, 64512))
        cluster.fill(bgp_agent.services(count))
        begun = time.monotonic()
        with cluster.agent() as agent:
            until(lambda: received(frr) == [count] * len(ends), "all routes", 120)
            took = time.monotonic() - begun
            asyncio.run(processes.settled(agent))
            peak, cpu = memory_and_cpu(agent.pid)
            what = f"agent, {count:,} Services × {len(ends)}"
            started = Result(f"{what}: from its start", "lbipam", took, peak, cpu)
            idle = processes.cpu_seconds(agent.pid)
            time.sleep(seconds)
            idle = processes.cpu_seconds(agent.pid) - idle
            peak, _ = memory_and_cpu(agent.pid)
            return [started, Result(f"{what}: at rest", "lbipam", seconds, peak, idle)]


def agents(*, quick: bool) -> list[Result]:
    found: list[Result] = []
    plan = [(1_000, 1, 2), (10, 3, 5)] if quick else [(10_000, 1, 5), (100, 10, 60)]
    for count, many, seconds in plan:
        with tempfile.TemporaryDirectory() as name, Namespace("r") as router, Namespace("n") as place:
            wire(router, "eth0", place, "eth0")
            ends = [(f"198.19.{n}.1", f"198.19.{n}.2") for n in range(many)]
            for there, here in ends:
                router.address("eth0", f"{there}/30")
                place.address("eth0", f"{here}/30")
            with Frr(router, frr_config(ends)) as frr:
                found += whole_agent(place, frr, ends, Path(name), count, seconds)
    return found


def extras(*, quick: bool) -> list[Result]:
    with tempfile.TemporaryDirectory() as name, Namespace("r") as router, Namespace("n") as place:
        folder = Path(name)
        wire(router, "eth0", place, "eth0")
        ends = [(f"198.19.{n}.1", f"198.19.{n}.2") for n in range(10)]
        for there, here in ends:
            router.address("eth0", f"{there}/30")
            place.address("eth0", f"{here}/30")
        with Frr(router, frr_config(ends)):
            found = [at_rest(place, ends, folder, 5 if quick else 30)]
        watched = f"{frr_config(ends[:1])} neighbor {ends[0][1]} bfd 3 100 100\n"
        with Frr(router, watched, bfd=True) as frr:
            return [*found, failover(place, frr, ends[0], folder)]


def measure(*, quick: bool) -> list[Result]:
    results: list[Result] = []
    plan = [([1_000, 10_000], 1), ([100], 10)] if quick else [([10_000, 50_000], 1), ([1_000], 100)]
    for counts, many in plan:
        with tempfile.TemporaryDirectory() as name, Namespace("r") as router, Namespace("n") as place:
            folder = Path(name)
            wire(router, "eth0", place, "eth0")
            ends = (
                [(ROUTER, NODE)] if many == 1 else [(f"198.19.{n}.1", f"198.19.{n}.2") for n in range(many)]
            )
            for there, here in ends:
                router.address("eth0", f"{there}/30")
                place.address("eth0", f"{here}/30")
            with Frr(router, frr_config(ends)) as frr:
                for count in counts:
                    results += ours(place, frr, count, ends, folder)
                    results += bird(place, frr, count, ends, folder)
    return results + extras(quick=quick) + agents(quick=quick)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = measure(quick=options.quick)
    table = Table("what", "who", "seconds", "peak MB", "CPU s")
    for one in results:
        table.add_row(one.what, one.who, f"{one.seconds:.4f}", f"{one.peak_mb:.1f}", f"{one.cpu_seconds:.2f}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n")


if __name__ == "__main__":
    main()
