"""How fast does a node answer on its LAN, and how fast is it decided who does?

    python -m bench.l2 [--quick] [--json FILE]

Runs in network namespaces of its own and needs root. The kernel's own answers, for an address on its
interface, are measured in the same run: only the ratio travels from one machine to another.
"""

import argparse
import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from rich.console import Console
from rich.table import Table

from lbipam.core.l2.election import Candidates, Election, Lease, Timing
from lbipam.core.l2.responder import ANNOUNCE_INTERVAL_SECONDS, ANNOUNCEMENTS
from tests.lab.agent.lan_cluster import agents, service
from tests.lab.l2 import lan as labs
from tests.lab.l2.lan import Lan, Node, eventually

Figures: TypeAlias = dict[str, float]

FOUR = [f"198.18.{number // 250}.{number % 250 + 1}" for number in range(1000)]
SIX = [str(ip_address("fd00:12::80:0") + number) for number in range(10_000)]
KERNELS_OWN = "198.19.0.1"
MOVES = "198.18.200.1"
RENEWALS_SECONDS = 10.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def groups(process: int) -> int:
    return Path(f"/proc/{process}/net/igmp6").read_text().count("ff0200000000000000000001ff8")


def replies(lan: Lan, seconds: float) -> Figures:
    """Time to the reply at 1,000 requests a second: the kernel's, ours, and ours while the agent computes."""
    lan.run("n1", "ip", "addr", "add", f"{KERNELS_OWN}/32", "dev", "lo")
    lan.run("c1", "ip", "route", "add", "198.19.0.0/16", "dev", "eth0")
    figures = reply("kernel", lan, seconds, [KERNELS_OWN])
    for name, options in (("idle agent", ()), ("busy agent", ("--busy",))):
        with closing(lan.node("n1", *options)) as node:
            announce(node, FOUR)
            figures |= reply(name, lan, seconds, FOUR)
    return figures


def reply(name: str, lan: Lan, seconds: float, addresses: list[str]) -> Figures:
    found = lan.ask("c1", 1000, seconds, addresses)
    return {
        f"{name}: answered, %": 100 * found["answered"] / found["sent"],
        f"{name}: reply p50, µs": found["p50_us"],
        f"{name}: reply p99, µs": found["p99_us"],
    }


def flood(lan: Lan, seconds: float) -> Figures:
    """10,000 requests a second for 1,000 addresses."""
    with closing(lan.node("n1")) as node:
        announce(node, FOUR)
        before = cpu_seconds(node.worker)
        found = lan.ask("c1", 10_000, seconds, FOUR)
        used = cpu_seconds(node.worker) - before
    return {
        "10,000/s: answered, %": 100 * found["answered"] / found["sent"],
        "10,000/s: CPU of one core, %": 100 * used / seconds,
        "10,000/s: reply p50, µs": found["p50_us"],
        "10,000/s: reply p99, µs": found["p99_us"],
    }


def joins(lan: Lan, count: int) -> Figures:
    """IPv6 addresses handed over all at once, then one more."""
    with closing(lan.node("n1")) as node:
        node.announce()
        worker = node.worker
        started = time.perf_counter()
        applied = node.announce(*SIX[: count - 1])
        eventually(lambda: groups(worker) == count - 1, "all groups to be joined")
        joined = time.perf_counter() - started
        eventually(lambda: set(node.status()["stages"]) == {"announced"}, "all to be announced")
        one_more = node.announce(*SIX[:count])
    return {
        f"{count:,} IPv6 addresses: answered for after, s": applied,
        f"{count:,} IPv6 addresses: groups joined after, s": joined,
        f"{count:,} IPv6 addresses: one more answered for after, s": one_more,
    }


def announce(node: Node, addresses: list[str]) -> None:
    node.announce(*addresses)
    time.sleep(ANNOUNCEMENTS * ANNOUNCE_INTERVAL_SECONDS)  # until no more is said unasked


def takeovers() -> Figures:
    """For how long a client gets no answer for an address of three real agents, which hold 1,000 others too."""
    figures: Figures = {}
    with TemporaryDirectory() as folder, agents(Path(folder)) as cluster:
        cluster.apply(service("app", MOVES, at="n1"))

        def silence(what: str, act: Callable[[], object]) -> None:
            cluster.start(*labs.NODES)
            eventually(lambda: all(map(cluster.guardian, labs.NODES)), "every node to have a guardian")
            eventually(lambda: cluster.holder(MOVES) == "n1", "the preferred node to answer")
            time.sleep(ANNOUNCEMENTS * ANNOUNCE_INTERVAL_SECONDS)
            with cluster.watched(MOVES) as watch:
                act()
                eventually(lambda: cluster.holder(MOVES) not in ("", "n1"), "another node to answer")
            figures[f"{what}: nobody answers for, s"] = watch.silence

        silence("agent killed", partial(cluster.stop, "n1", signal.SIGKILL))
        silence("agent stopped", partial(cluster.stop, "n1"))
        silence("node drained", partial(cluster.lbipam, "drain", "n1"))
        cluster.lbipam("undrain", "n1")
        before = cluster.renewals("n1")
        time.sleep(RENEWALS_SECONDS)
        figures["Lease writes per node and second"] = (cluster.renewals("n1") - before) / RENEWALS_SECONDS
    return figures


def elections(count: int, nodes: int = 30) -> Figures:
    """How long one node needs to know who holds what, and after each kind of news."""
    names = frozenset(f"node-{number}" for number in range(nodes))
    wanted = {ip_address("198.18.0.0") + number: Candidates(nodes=names) for number in range(count)}
    election = Election(node="node-0", timing=Timing(duration_seconds=3, renew_deadline_seconds=2.5))

    def seen(node: str, version: str) -> None:
        election.saw(Lease(node=node, version=version, duration_seconds=3), now=0)

    def seconds(act: Callable[[], None]) -> float:
        started = time.perf_counter()
        act()
        return time.perf_counter() - started

    for name in names - {"node-0"}:
        seen(name, "1")
    size = f"election of {count:,} addresses on {nodes} nodes"
    return {
        f"{size}: from nothing, s": seconds(partial(election.want, wanted, 0)),
        f"{size}: a renewal, s": seconds(partial(seen, "node-1", "2")),
        f"{size}: a node lost, s": seconds(partial(election.released, "node-1", 0)),
        f"{size}: a node come, s": seconds(partial(seen, "node-1", "3")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="less of everything: whether it runs at all")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if missing := labs.why_no_lab():
        parser.error(missing)
    seconds, count = (1.0, 1000) if options.quick else (10.0, 10_000)
    figures = elections(count)
    with labs.lan() as lan:
        figures |= replies(lan, seconds) | flood(lan, seconds) | joins(lan, count)
    figures |= takeovers()
    table = Table("Figure", "Value", title="L2")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4g}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
