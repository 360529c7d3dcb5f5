"""The walk-through end to end, told as it happens: address, route, pod, and a node that dies.

This file waits for what it tells, and fails if it does not come.
"""

import sys
import time
from collections import Counter
from pathlib import Path

from rich.console import Console

from lbipam.commands.lab import client
from lbipam.commands.lab.namespaces import LabError, until
from lbipam.commands.lab.topology import PODS, WORKERS, Lab

_ASKS = 20
_STEADY_SECONDS = 3.0
"""Longer than a request may take: whatever is lost has been noted by then."""
_ADDRESS = "30.0.10.0"
URL = f"http://{_ADDRESS}:8080/"


def build(lab: Lab, console: Console) -> None:
    """Start all programs of a lab, and wait until traffic can flow."""
    _chapter(console, "A control plane, two workers with an agent and a pod each, a router, a client outside")
    with console.status("starting"):
        lab.start_control_plane()
        lab.start_endpoints()
        for number in (1, 2):
            lab.start_agent(number, "--datapath", "nftables", "--no-l2")
        seconds = until(lambda: bool(lab.address()), "app has an address")
    console.print(f"  Service app has an address after {seconds:.1f} s")
    with console.status("waiting for routes"):
        seconds = until(lambda: lab.next_hops() == set(WORKERS), "both workers announce the address", 60)
    console.print(f"  the router has a route to it by both workers after {seconds:.1f} s more")
    with console.status("waiting for pods"):
        seconds = until(lambda: _pods_heard(lab, "client") == {"pod-1", "pod-2"}, "both pods answer", 30)
    console.print(f"  both pods answer after {seconds:.1f} s more")


def tell(lab: Lab, folder: Path, console: Console) -> None:
    """Show the walk-through in a lab that is built.

    Args:
        lab: Where it happens.
        folder: For what the client outside notes.
        console: Where the story is told.

    Raises:
        LabError: something did not come out as it should.
    """
    _addresses(lab, console)
    _routes(lab, console)
    _traffic(lab, console)
    _failover(lab, folder, console)


def _chapter(console: Console, title: str) -> None:
    console.print(f"\n[bold]{title}[/]")


def _addresses(lab: Lab, console: Console) -> None:
    _chapter(console, "The pools, and who got which address")
    if lab.address() != _ADDRESS:
        raise LabError(f"app has {lab.address()}, not {_ADDRESS}, the first of red-pool")
    words = (sys.executable, "-m", "lbipam", "status", "--kubeconfig", str(lab.kubeconfig))
    console.print(lab.places["cp"](*words).rstrip(), markup=False)


def _routes(lab: Lab, console: Console) -> None:
    _chapter(console, "The router learned it by BGP, from both workers")
    lines = lab.router.vty("show ip route bgp").splitlines()
    shown = [line.rstrip() for line in lines if "via" in line and "- " not in line]
    for worker in WORKERS:
        if not any(f"via {worker}" in line for line in shown):
            raise LabError(f"the router shows no route by {worker}")
    console.print("  router# show ip route bgp", markup=False)
    for line in shown:
        console.print(f"  {line}", markup=False)


def _traffic(lab: Lab, console: Console) -> None:
    _chapter(console, f"curl {URL}, {_ASKS} times each")
    for role, who in (("pod-1", "a pod"), ("worker-1", "a node"), ("client", "the client outside")):
        answers = Counter(lab.ask(role).partition(" sees")[0] or "no answer" for _ in range(_ASKS))
        told = ", ".join(f"{pod} {count} times" for pod, count in sorted(answers.items()))
        if {one.partition(" ")[0] for one in answers} != {"pod-1", "pod-2"}:
            raise LabError(f"{who} heard: {told}")
        console.print(f"  from {who}: {told}")


def _pods_heard(lab: Lab, role: str) -> set[str]:
    return {lab.ask(role).partition(" ")[0] for _ in range(8)}


def _rules(lab: Lab) -> str:
    return lab.places["worker-1"]("nft", "list", "ruleset")


def _failover(lab: Lab, folder: Path, console: Console) -> None:
    _chapter(console, "worker-2 is cut off from the network, while the client asks 20 times a second")
    notes = folder / "client.jsonl"
    words = (sys.executable, "-m", "lbipam.commands.lab.client", URL, str(notes))
    asking = lab.places["client"].spawn(*words, log=folder / "client.log")
    try:
        with console.status("asking"):
            until(lambda: len(client.attempts(notes)) > 20, "the client asks")
            with lab.places["worker-2"].cut_off() as cut:
                dropped = until(lambda: lab.next_hops() == {WORKERS[0]}, "the router drops the route", 30)
                until(lambda: PODS[1].address not in _rules(lab), "worker-1 sends nobody to pod-2", 30)
                over_at = time.monotonic()
                until(
                    lambda: client.steady_seconds(client.attempts(notes), cut) > _STEADY_SECONDS, "calm", 30
                )
    finally:
        asking.kill()
        asking.wait()
    found = client.attempts(notes)
    lost = [one for one in found if not one.answer and one.ended > cut]
    last = max((one.sent for one in lost), default=cut)
    if last > over_at:
        raise LabError(
            f"a request was lost that was sent {last - over_at:.2f} s after both ways to pod-2 were shut"
        )
    console.print(f"  the router dropped the route by worker-2 after {dropped:.2f} s")
    console.print(f"  worker-1, too, sent nobody to pod-2 any more after {over_at - cut:.2f} s")
    console.print(
        f"  requests without an answer: {len(lost)}, the last one sent {last - cut:.2f} s after the cut, none later"
    )
    console.print(f"  the longest time in which the client heard nothing: {client.longest_gap(found):.2f} s")
    with console.status("waiting for worker-2"):
        seconds = until(lambda: lab.next_hops() == set(WORKERS), "worker-2 announces again", 60)
        until(lambda: _pods_heard(lab, "client") == {"pod-1", "pod-2"}, "both pods answer again")
    console.print(f"  back on the network, worker-2 announced again after {seconds:.1f} s; both pods answer")
