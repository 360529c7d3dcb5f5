"""The whole chain: a Service, its address, the route to it, and the pod that answers."""

from collections.abc import Iterator

import pytest

from lbipam.commands.lab.namespaces import until
from lbipam.commands.lab.topology import WORKERS
from tests.lab.agent.cluster import Cluster, endpoints, running_cluster, service

pytestmark = pytest.mark.lab

BOTH = set(WORKERS)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), "--datapath", "nftables", "--no-l2") as made:
        yield made


@pytest.fixture(autouse=True)
def rest(cluster: Cluster) -> None:
    """Every test begins with the walk-through as it should be."""
    cluster.apply(service())
    cluster.apply(endpoints(1, 2))
    until(lambda: cluster.next_hops() == BOTH, f"both workers announce it: {cluster.log('worker-1')}")


def answers(cluster: Cluster, role: str, times: int = 20) -> set[str]:
    return {cluster.ask(role).split(" ")[0] for _ in range(times)}


def test_the_walk_through_from_outside_from_a_node_and_from_a_pod(cluster: Cluster) -> None:
    assert cluster.address() == "30.0.10.0"
    for role in ("client", "worker-1", "pod-1", "pod-2"):
        assert answers(cluster, role) == {"pod-1", "pod-2"}, role


def test_the_address_answers_ping_and_refuses_other_ports(cluster: Cluster) -> None:
    cluster.places["client"]("ping", "-c", "1", "-W", "2", "30.0.10.0")
    refused = cluster.places["client"](
        "curl", "-s", "-o", "/dev/null", "-w", "%{errormsg}", "http://30.0.10.0:9999/", check=False
    )
    assert "refused" in refused or "Couldn't connect" in refused


def test_local_policy_follows_endpoints_and_keeps_the_clients_address(cluster: Cluster) -> None:
    cluster.apply(service(externalTrafficPolicy="Local"))
    cluster.apply(endpoints(1))
    until(lambda: cluster.next_hops() == {WORKERS[0]}, "only the worker with an endpoint announces it")
    until(lambda: cluster.ask("client") == "pod-1 on worker-1 sees 198.18.9.2", "the pod sees the client")
    cluster.apply(endpoints(2))
    until(lambda: cluster.next_hops() == {WORKERS[1]}, "the route follows the endpoint")
    until(lambda: cluster.ask("client") == "pod-2 on worker-2 sees 198.18.9.2", "and so does the traffic")


def test_status_and_events_tell_of_the_session(cluster: Cluster) -> None:
    def told() -> bool:
        config = cluster.objects("ciliumbgpnodeconfigs", "worker-1")
        instances = config.get("status", {}).get("bgpInstances", [])
        peers = [peer for one in instances for peer in one.get("peers", [])]
        return [(one["name"], one["peeringState"]) for one in peers] == [("router", "established")] and peers[
            0
        ]["routeCount"][0]["advertised"] == 1

    until(told, "the NodeConfig tells of the session and its route")
    reasons = {one["reason"] for one in cluster.objects("events", "-A")["items"]}
    assert "PeerUp" in reasons


def test_a_drained_node_warns_and_then_withdraws(cluster: Cluster) -> None:
    cluster.kubectl("annotate", "node", "worker-2", "lbipam.dev/drain=true")
    try:
        until(lambda: "graceful-shutdown" in cluster.communities(), "the route carries GRACEFUL_SHUTDOWN")
        until(lambda: cluster.next_hops() == {WORKERS[0]}, "the route is withdrawn", seconds=40)
        assert answers(cluster, "client") == {"pod-1", "pod-2"}
    finally:
        cluster.kubectl("annotate", "node", "worker-2", "lbipam.dev/drain-")


def test_an_agent_that_stops_and_starts_again_loses_no_route(cluster: Cluster) -> None:
    assert cluster.stop_agent(1) == 0, cluster.log("worker-1")
    assert cluster.next_hops() == BOTH, "the router keeps the routes of an agent that comes back"
    assert "Traceback" not in cluster.log("worker-1")
    assert answers(cluster, "client") == {"pod-1", "pod-2"}
    cluster.start_agent(1, "--datapath", "nftables", "--no-l2")
    until(lambda: cluster.session_is_up(WORKERS[0]), "the session is up again")
    assert cluster.next_hops() == BOTH


def test_the_api_going_away_changes_nothing_that_is_announced(cluster: Cluster) -> None:
    with cluster.places["cp"].cut_off():
        assert answers(cluster, "client") == {"pod-1", "pod-2"}
        assert cluster.next_hops() == BOTH
