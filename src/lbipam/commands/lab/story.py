"""The walk-through end to end, told as it happens: address, route, pod, and a node that dies.

This file waits for what it tells, and fails if it does not come.
"""

import json
import tempfile
import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Self

from rich.console import Console

from lbipam.commands.lab.namespaces import PREFIX, LabError, remove_leftovers, until, why_not
from lbipam.commands.lab.topology import PROGRAMS, WORKERS, Lab

_ASKS = 20
_PROBE_SECONDS = 0.05
_PATIENCE_SECONDS = 0.2
_FAILOVER_SECONDS = 10.0
"""The hold time of the sessions and a bit: with BFD it is far less."""


def tell(console: Console, *, by_hand: bool) -> None:
    """Build the lab, show the walk-through, and take everything down.

    Args:
        console: Where the story is told.
        by_hand: Open a shell on the control plane at the end, and take down when that ends.

    Raises:
        LabError: the machine cannot hold a lab, or something did not come out as it should.
    """
    reason = why_not(PROGRAMS)
    if reason is not None:
        raise LabError(reason)
    leftovers = remove_leftovers(PREFIX)
    if leftovers:
        console.print(f"Removed what a former lab left behind: {', '.join(leftovers)}")
    with tempfile.TemporaryDirectory(prefix="lbipam-lab-") as folder, Lab(Path(folder), PREFIX) as lab:
        _cluster(lab, console)
        _address(lab, console)
        _route(lab, console)
        _traffic(lab, console)
        _failover(lab, console)
        if by_hand:
            console.print("\nA shell on the control plane, KUBECONFIG set; leaving it takes the lab down.")
            lab.enter("cp")
    console.print("\nEverything is taken down.")


def _chapter(console: Console, title: str) -> None:
    console.print(f"\n[bold]{title}[/]")


def _cluster(lab: Lab, console: Console) -> None:
    _chapter(console, "A control plane, two workers with an agent and a pod each, a router, a client outside")
    with console.status("starting"):
        lab.start_control_plane()
        for number in (1, 2):
            lab.start_agent(number, "--datapath", "nftables", "--no-l2")
    console.print(
        "  pools  red-pool 30.0.10.0/24 for color=red, blue-pool 20.0.10.0/24 for color in (blue, cyan)"
    )


def _address(lab: Lab, console: Console) -> None:
    _chapter(console, "Service app, color=red, port 8080 → 80")
    with console.status("waiting for an address"):
        seconds = until(lambda: bool(lab.address()), "app has an address")
    if not lab.address().startswith("30.0.10."):
        raise LabError(f"app has {lab.address()}, which is not of red-pool")
    console.print(f"  it has [green]{lab.address()}[/] of red-pool ({seconds:.1f} s)")


def _route(lab: Lab, console: Console) -> None:
    _chapter(console, "The router learns it by BGP")
    with console.status("waiting for routes"):
        seconds = until(lambda: lab.next_hops() == set(WORKERS), "both workers announce the address", 60)
    for line in lab.router.vty("show ip route bgp").splitlines():
        if "30.0.10.0" in line or "via" in line:
            console.print(f"  {line.strip()}", markup=False)
    console.print(f"  both workers announce it ({seconds:.1f} s)")


def _traffic(lab: Lab, console: Console) -> None:
    _chapter(console, f"curl http://{lab.address()}:8080/, {_ASKS} times each")
    for role, who in (("pod-1", "a pod"), ("worker-1", "a node"), ("client", "the client outside")):
        answers = Counter(lab.ask(role).split(" ")[0] or "nobody" for _ in range(_ASKS))
        if set(answers) != {"pod-1", "pod-2"}:
            raise LabError(f"{who} heard {dict(answers)}")
        told = ", ".join(f"{pod} {count} times" for pod, count in sorted(answers.items()))
        console.print(f"  from {who}: {told}")


def _failover(lab: Lab, console: Console) -> None:
    _chapter(console, "worker-2 loses its network")
    # Its pod is lost with it; in a cluster the kubelet's silence takes it out of the endpoints.
    lab.apply(_endpoints_of_worker_1())
    until(lambda: {lab.ask("client").split(" ")[0] for _ in range(10)} == {"pod-1"}, "only pod-1 answers")
    with _Probe(lab) as probe, console.status("asking all the time"):
        time.sleep(1)
        lab.places["worker-2"].cut()
        until(lambda: lab.next_hops() == {WORKERS[0]}, "the router drops the route", 30)
        time.sleep(1)
    lab.places["worker-2"].mend()
    gap = probe.longest_gap()
    if gap > _FAILOVER_SECONDS:
        raise LabError(f"the client heard nothing for {gap:.1f} s")
    console.print(f"  the router goes on by worker-1; the client's longest wait was [green]{gap:.2f} s[/]")
    with console.status("waiting for worker-2"):
        until(lambda: lab.next_hops() == set(WORKERS), "worker-2 announces again", 60)
    console.print("  worker-2 is back and announces again")


def _endpoints_of_worker_1() -> dict[str, object]:
    text = """{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
      "metadata": {"name": "app-1", "labels": {"kubernetes.io/service-name": "app"}}, "addressType": "IPv4",
      "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
      "endpoints": [{"addresses": ["10.244.1.2"], "nodeName": "worker-1", "conditions": {"ready": true}}]}"""
    manifest: dict[str, object] = json.loads(text)
    return manifest


class _Probe:
    """A client that asks again and again, and notes when it was answered."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._answered: list[float] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]

    def _ask(self) -> None:
        while not self._stop.wait(_PROBE_SECONDS):
            if self._lab.ask("client", seconds=_PATIENCE_SECONDS):
                self._answered.append(time.monotonic())

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def longest_gap(self) -> float:
        """Seconds between two answers that followed each other."""
        times = sorted(self._answered)
        return max((later - sooner for sooner, later in pairwise(times)), default=0.0)
