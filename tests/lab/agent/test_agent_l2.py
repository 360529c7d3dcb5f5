"""Addresses answered for on the LAN by agents of a cluster: by one node each, whatever happens to it."""

import re
import signal
from collections.abc import Iterator

import pytest

from lbipam.commands.lab.namespaces import until
from tests.lab.agent.cluster import Cluster, endpoints, running_cluster, service

pytestmark = pytest.mark.lab

ADDRESS = "30.0.10.0"
FLAGS = ("--no-bgp", "--datapath", "nftables")
POLICY = {
    "apiVersion": "cilium.io/v2alpha1",
    "kind": "CiliumL2AnnouncementPolicy",
    "metadata": {"name": "all"},
    "spec": {"loadBalancerIPs": True},
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), *FLAGS) as made:
        made.places["r"]("ip", "route", "add", "30.0.10.0/24", "dev", "eth0")
        made.apply(POLICY)
        yield made


@pytest.fixture(autouse=True)
def rest(cluster: Cluster) -> None:
    """Every test begins with two agents and one of them answering."""
    for number in (1, 2):
        if f"worker-{number}" not in cluster.processes:
            cluster.start_agent(number, *FLAGS)
    cluster.apply(service())
    cluster.apply(endpoints(1, 2))
    until(lambda: len(leases(cluster)) == 2, "both nodes hold their Lease")
    until(lambda: len(who_answers(cluster)) == 1, f"one node answers: {cluster.log('worker-1')}")


def leases(cluster: Cluster) -> set[str]:
    return {
        one["spec"].get("holderIdentity", "")
        for one in cluster.objects("leases", "-n", "kube-system")["items"]
        if one["metadata"]["name"].startswith("lbipam-l2-")
    } - {""}


def who_answers(cluster: Cluster) -> list[int]:
    """The workers whose interface answers an ARP request for the address."""
    told = cluster.places["r"]("arping", "-b", "-c", "2", "-w", "1", "-I", "eth0", ADDRESS, check=False)
    found = {mac.lower() for mac in re.findall(r"\[([0-9A-Fa-f:]{17})\]", told)}
    macs = {number: mac(cluster, number) for number in (1, 2)}
    return [number for number, own in macs.items() if own in found]


def mac(cluster: Cluster, number: int) -> str:
    words = cluster.places[f"worker-{number}"]("ip", "-o", "link", "show", "eth0").split()
    return words[words.index("link/ether") + 1]


def test_one_node_answers_and_the_traffic_reaches_the_pods(cluster: Cluster) -> None:
    assert len(who_answers(cluster)) == 1
    assert {cluster.ask("client").split(" ")[0] for _ in range(20)} == {"pod-1", "pod-2"}
    cluster.places["client"]("ping", "-c", "1", "-W", "2", ADDRESS)
    told = [one["reason"] for one in cluster.objects("events", "-A")["items"]]
    assert "Announced" in told


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_another_node_takes_over_when_the_agent_ends(cluster: Cluster, how: signal.Signals) -> None:
    (first,) = who_answers(cluster)
    cluster.stop_agent(first, how)
    until(lambda: who_answers(cluster) == [3 - first], "the other node answers")
    until(lambda: cluster.ask("client").startswith("pod-"), "traffic flows again")


def test_a_node_that_is_cut_off_from_the_api_falls_silent_before_another_answers(cluster: Cluster) -> None:
    (first,) = who_answers(cluster)
    place = cluster.places[f"worker-{first}"]
    place("nft", "add", "table", "ip", "partition")
    place("nft", "add", "chain", "ip", "partition", "o", "{ type filter hook output priority 0; }")
    place("nft", "add", "rule", "ip", "partition", "o", "ip", "daddr", "198.18.0.10", "drop")
    try:
        seen: set[tuple[int, ...]] = set()

        def moved() -> bool:
            answering = who_answers(cluster)
            seen.add(tuple(answering))
            return answering == [3 - first]

        until(moved, "the other node answers")
        assert (1, 2) not in seen, "never both"
    finally:
        place("nft", "delete", "table", "ip", "partition")


def test_local_policy_moves_the_address_to_where_the_endpoint_is(cluster: Cluster) -> None:
    for number in (1, 2):
        cluster.apply(service(externalTrafficPolicy="Local"))
        cluster.apply(endpoints(number))
        until(lambda number=number: who_answers(cluster) == [number], "the node with the endpoint answers")  # type: ignore[misc]
        until(
            lambda number=number: cluster.ask("client") == f"pod-{number} on worker-{number} sees 198.18.9.2",  # type: ignore[misc]
            "the pod sees the client",
        )


def test_a_drained_node_hands_over(cluster: Cluster) -> None:
    (first,) = who_answers(cluster)
    cluster.kubectl("annotate", "node", f"worker-{first}", "lbipam.dev/drain=true")
    try:
        until(lambda: who_answers(cluster) == [3 - first], "the other node answers")
    finally:
        cluster.kubectl("annotate", "node", f"worker-{first}", "lbipam.dev/drain-")
