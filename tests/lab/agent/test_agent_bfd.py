"""Agents that watch their paths by BFD: what dies with a path, how soon, and what is told of it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import pytest

from lbipam.commands.lab.namespaces import until
from lbipam.commands.lab.topology import ROUTER_ASN, WORKERS, manifests
from tests.lab.agent.cluster import Cluster, running_cluster

pytestmark = pytest.mark.lab

BOTH = set(WORKERS)
CUTS = 3
"""How often a path is cut to find out how soon that is noticed: a busy machine may be late now and then."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("bfd"), "--no-l2") as made:
        yield made


@pytest.fixture(autouse=True)
def rest(cluster: Cluster) -> None:
    """Every test begins with both paths alive and both sessions up."""
    until(lambda: watched(cluster) == dict.fromkeys(WORKERS, (False, "up")), "BFD is up")
    until(lambda: cluster.next_hops() == BOTH, f"both workers announce it: {cluster.log('worker-1')}")


def watched(cluster: Cluster) -> dict[str, tuple[bool, str]]:
    """How the router finds the paths to the workers, and whether across other routers."""
    told = json.loads(cluster.router.vty("show bfd peers json"))
    return {one["peer"]: (one["multihop"], one["status"]) for one in told}


def endings(cluster: Cluster) -> list[float]:
    """When the agent of worker-2 ended its session because of BFD, by its own log: seconds since 1970."""
    lines = [json.loads(line) for line in cluster.log("worker-2").splitlines() if line.startswith("{")]
    return [
        datetime.fromisoformat(line["timestamp"]).timestamp()
        for line in lines
        if line["event"] == "bgp session down" and "sent Cease/Bfd Down (6/10)" in line["why"]
    ]


def condition(cluster: Cluster) -> tuple[str, str]:
    """The status and message of what worker-2 tells of its paths."""
    status = cluster.objects("ciliumbgpnodeconfigs", "worker-2").get("status", {})
    for one in status.get("conditions", []):
        if one["type"] == "lbipam.dev/BFDDown":
            return one["status"], one["message"]
    return "", ""


def noticed_after(cluster: Cluster) -> float:
    """How many seconds after its path was cut an agent ended the session."""
    before = len(endings(cluster))
    with cluster.places["worker-2"].cut_off() as began:
        cut_at = time.time() - (time.monotonic() - began)
        until(lambda: len(endings(cluster)) > before, "the agent has noticed")
        until(lambda: cluster.next_hops() == {WORKERS[0]}, "the route of the dead worker is gone")
    rest_again(cluster)
    return endings(cluster)[before] - cut_at


def rest_again(cluster: Cluster) -> None:
    until(lambda: all(status == "up" for _, status in watched(cluster).values()), "BFD is up again")
    until(lambda: cluster.next_hops() == BOTH, "both workers announce it again")


def test_an_agent_ends_the_session_half_a_second_after_its_path_has_died(cluster: Cluster) -> None:
    assert any(noticed_after(cluster) < 0.5 for _ in range(CUTS)), "the hold time is 9 s"


@contextmanager
def deaf(cluster: Cluster) -> Iterator[None]:
    """Worker-2 hears no BFD, and all else."""
    worker = cluster.places["worker-2"]
    chain = "chain input { type filter hook input priority -500; udp dport { 3784, 4784 } drop; }"
    worker("nft", f"table inet deaf {{ {chain}; }}")
    try:
        yield
    finally:
        worker("nft", "delete", "table", "inet", "deaf")


def test_paths_are_told_in_the_status_and_in_events(cluster: Cluster) -> None:
    def told() -> set[tuple[str, str]]:
        events = cluster.objects("events", "-A")["items"]
        return {
            (one["reason"], one["message"]) for one in events if one["involvedObject"]["name"] == "worker-2"
        }

    until(lambda: condition(cluster) == ("False", ""), "no path is dead")
    before = len(endings(cluster))
    with deaf(cluster):
        until(lambda: condition(cluster) == ("True", "main/router is down"), "the path is told as dead")
        assert len(endings(cluster)) == before + 1
        why = "main: the path to router is dead: control detection time expired"
        until(lambda: ("BFDDown", why) in told(), "an Event says why")
    until(lambda: condition(cluster) == ("False", ""), "the path is told as alive")
    assert ("BFDUp", "main: the path to router is alive") in told()


def test_paths_across_routers_are_watched_as_such(cluster: Cluster) -> None:
    def tell(word: str, hops: dict[str, int]) -> None:
        for worker in WORKERS:
            line = f"{word}neighbor {worker} ebgp-multihop 2"
            cluster.router.vty(f"configure terminal\nrouter bgp {ROUTER_ASN}\n{line}")
        config = next(one for one in manifests() if one["kind"] == "CiliumBGPPeerConfig")
        config["spec"] |= hops
        cluster.apply(config)

    tell("", {"ebgpMultihop": 2})
    try:
        until(lambda: watched(cluster) == dict.fromkeys(WORKERS, (True, "up")), "BFD is up")
        rest_again(cluster)
        before = len(endings(cluster))
        with deaf(cluster):
            until(lambda: len(endings(cluster)) > before, "a dead path ends the session")
    finally:
        tell("no ", {})
