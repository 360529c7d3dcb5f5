"""What an administrator does to agents that announce by BGP, and what the router and the traffic make of it."""

import json
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from lbipam.commands.lab.namespaces import until
from lbipam.commands.lab.topology import NODE_ASN, ROUTER, ROUTER_ASN, WORKERS, manifests
from tests.lab.agent.cluster import Cluster, endpoints, running_cluster, service

pytestmark = pytest.mark.lab

FLAGS = ("--datapath", "nftables", "--no-l2", "--drain-seconds", "2")
BOTH = set(WORKERS)
VIP = "30.0.10.0"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Without BFD: what the router keeps, it keeps by graceful restart, and a busy machine does not matter."""
    with running_cluster(tmp_path_factory.mktemp("bgp"), *FLAGS) as made:
        for worker in WORKERS:
            made.router.vty(f"configure terminal\nrouter bgp {ROUTER_ASN}\nno neighbor {worker} bfd")
        yield made


@pytest.fixture(autouse=True)
def rest(cluster: Cluster) -> None:
    """Every test begins with the walk-through as it should be."""
    for kind in ("CiliumBGPClusterConfig", "CiliumBGPPeerConfig", "CiliumBGPAdvertisement"):
        cluster.apply(changed(kind))
    cluster.apply(service())
    cluster.apply(endpoints(1, 2))
    until(lambda: cluster.next_hops() == BOTH, f"both workers announce it: {cluster.log('worker-1')}")


def lbipam(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as on an administrator's machine."""
    program = (sys.executable, "-m", "lbipam", *words, "--kubeconfig", str(cluster.kubeconfig))
    return subprocess.run(
        ("ip", "netns", "exec", cluster.places["cp"].name, *program),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def changed(kind: str, **spec: Any) -> dict[str, Any]:
    """An object of the walk-through, with parts of its specification changed and without annotations."""
    found = next(one for one in manifests() if one["kind"] == kind)
    found["spec"] |= spec
    found["metadata"].pop("annotations", None)
    return found


@contextmanager
def router_told(cluster: Cluster, *lines: str) -> Iterator[None]:
    """Lines of the router's BGP configuration, each taken back at the end by its opposite."""

    def tell(prefix: str) -> None:
        for line in lines:
            words = f"configure terminal\nrouter bgp {ROUTER_ASN}\n{prefix}{line}"
            cluster.router.vty(words)

    tell("")
    try:
        yield
    finally:
        tell("no ")


def up_for(cluster: Cluster, address: str) -> float:
    """Seconds since the session with a worker came up; 0 while it is down."""
    told = json.loads(cluster.router.vty(f"show bgp neighbors {address} json"))[address]
    return float(told.get("bgpTimerUpMsec", 0)) / 1000 if told["bgpState"] == "Established" else 0.0


def came_up(cluster: Cluster, address: str) -> int:
    """How many sessions with a worker the router has had; 0 while there is none."""
    told = json.loads(cluster.router.vty(f"show bgp neighbors {address} json"))[address]
    return int(told["connectionsEstablished"]) if told["bgpState"] == "Established" else 0


class Probes:
    """Pings from the client to the address, every 10 ms."""

    def __init__(self, cluster: Cluster) -> None:
        until(lambda: min(map(partial(up_for, cluster), WORKERS)) > 2, "both sessions have come to rest")
        # A pipe would be full after some 800 lines, and ping would wait.
        self._told = tempfile.TemporaryFile("w+")  # noqa: SIM115 -- closed in `lost`
        self._process = subprocess.Popen(
            ("ip", "netns", "exec", cluster.places["client"].name, "ping", "-n", "-i", "0.01", VIP),
            stdout=self._told,
        )

    def lost(self) -> list[int]:
        """End; the numbers of the probes that had no answer, though a later one had."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=10)
        with self._told as told:
            told.seek(0)
            out = told.read()
        answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", out)}
        assert len(answered) > 20, out  # a restart takes some 0.4 s
        return sorted(set(range(1, max(answered))) - answered)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_not_one_probe_is_lost_while_the_only_agent_with_the_route_restarts(
    cluster: Cluster, how: signal.Signals
) -> None:
    cluster.apply(service(externalTrafficPolicy="Local"))
    cluster.apply(endpoints(1))
    until(lambda: cluster.next_hops() == {WORKERS[0]}, "one worker announces it")
    probes = Probes(cluster)
    try:
        cluster.stop_agent(1, how)
        until(lambda: not cluster.session_is_up(WORKERS[0]), "the router has noticed")
        cluster.start_agent(1, *FLAGS)
        until(lambda: cluster.session_is_up(WORKERS[0]), "the session is up again")
        until(lambda: "stale" not in cluster.communities(), "the route has been announced again")
    finally:
        lost = probes.lost()
    assert lost == []
    assert cluster.next_hops() == {WORKERS[0]}


def test_not_one_probe_is_lost_while_settings_and_names_change(cluster: Cluster) -> None:
    instances = changed("CiliumBGPClusterConfig")["spec"]["bgpInstances"]
    timers = changed("CiliumBGPPeerConfig")["spec"]["timers"]
    renamed = [{**instances[0], "name": "renamed"}]
    probes = Probes(cluster)
    try:
        for manifest in (
            changed("CiliumBGPClusterConfig", bgpInstances=renamed),
            changed("CiliumBGPPeerConfig", timers={**timers, "holdTimeSeconds": 12}),
        ):
            before = {worker: came_up(cluster, worker) for worker in WORKERS}
            cluster.apply(manifest)
            for worker, ups in before.items():
                until(lambda: came_up(cluster, worker) > ups, "a new session is up")  # noqa: B023
            until(lambda: "stale" not in cluster.communities(), "all is announced again")
    finally:
        lost = probes.lost()
    assert lost == []
    assert cluster.next_hops() == BOTH


def test_drain_and_undrain_move_the_traffic_and_lose_none(cluster: Cluster) -> None:
    probes, seen = Probes(cluster), []
    drains = subprocess.Popen(
        (
            *("ip", "netns", "exec", cluster.places["cp"].name, sys.executable, "-m", "lbipam"),
            *("drain", "worker-2", "--kubeconfig", str(cluster.kubeconfig)),
        ),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        while drains.poll() is None:
            seen.append(cluster.communities())
        assert drains.returncode == 0
        assert any("graceful-shutdown" in one for one in seen), "the routes carried GRACEFUL_SHUTDOWN first"
        assert cluster.next_hops() == {WORKERS[0]}
        assert {cluster.ask("client").split(" ")[0] for _ in range(10)} == {"pod-1", "pod-2"}
        told = json.loads(lbipam(cluster, "get", "routes", "-o", "json").stdout)["routes"]
        assert [one["node"] for one in told] == ["worker-1"]
    finally:
        drains.kill()
        assert drains.communicate()[0] == "worker-2 is drained\n"
        assert lbipam(cluster, "undrain", "worker-2").stdout == "worker-2 announces again\n"
    until(lambda: cluster.next_hops() == BOTH, "both workers announce it again")
    until(lambda: "graceful-shutdown" not in cluster.communities(), "and no route warns")
    assert probes.lost() == []


def test_sessions_and_routes_are_told_as_they_are(cluster: Cluster) -> None:
    def sent() -> list[tuple[str, str, str, int, str, int]]:
        found = json.loads(lbipam(cluster, "get", "peers", "-o", "json").stdout)["sessions"]
        keys = ("node", "peer", "address", "asn", "state", "sent")
        return [tuple(one.get(key, 0) for key in keys) for one in found]

    due = [(node, "router", ROUTER, ROUTER_ASN, "established", 1) for node in ("worker-1", "worker-2")]
    until(lambda: sent() == due, "both sessions are told")
    peers = lbipam(cluster, "get", "peers")
    assert peers.returncode == 0
    assert peers.stdout.split()[:9] == [
        *("NODE", "PEER", "ADDRESS", "ASN", "STATE", "SINCE", "SENT", "RECEIVED", "REFUSED")
    ]
    routes = json.loads(lbipam(cluster, "get", "routes", "-o", "json").stdout)["routes"]
    assert [(one["prefix"], one["node"], one["state"]) for one in routes] == [
        (f"{VIP}/32", "worker-1", "sent"),
        (f"{VIP}/32", "worker-2", "sent"),
    ]
    assert "sent" in lbipam(cluster, "get", "routes", "--node", "worker-2").stdout


def test_a_session_that_is_shut_at_the_router_is_told_with_the_reason(cluster: Cluster) -> None:
    def told() -> tuple[str, bool]:
        found = json.loads(lbipam(cluster, "get", "peers", "-o", "json").stdout)["sessions"]
        return found[0]["state"], found[1]["state"] != "established" and bool(found[1].get("why"))

    def messages() -> str:
        events = cluster.objects("events", "-A")["items"]
        return " ".join(one["message"] for one in events if one["reason"] == "PeerDown")

    with router_told(cluster, f"neighbor {WORKERS[1]} shutdown"):
        until(lambda: told() == ("established", True), "only the session that is shut is told as down")
        assert lbipam(cluster, "get", "peers").returncode == 1
        until(lambda: "Administrative Shutdown" in messages(), "an Event tells the NOTIFICATION in words")
        assert cluster.next_hops() == {WORKERS[0]}
    until(lambda: cluster.next_hops() == BOTH, "the session is back")


def test_prefixes_are_as_long_as_the_advertisement_says(cluster: Cluster) -> None:
    items = changed("CiliumBGPAdvertisement")["spec"]["advertisements"]
    items[0]["service"]["aggregationLengthIPv4"] = 28
    cluster.apply(changed("CiliumBGPAdvertisement", advertisements=items))
    until(lambda: cluster.next_hops(f"{VIP}/28") == BOTH, "the covering prefix is announced")
    until(lambda: not cluster.next_hops(f"{VIP}/32"), "and the address itself no more")
    assert cluster.ask("client")
    unused = "30.0.10.9"
    until(
        lambda: knock(cluster, unused) == "ConnectionRefusedError", "no packet for an unused address circles"
    )
    cluster.apply(changed("CiliumBGPAdvertisement"))
    until(lambda: cluster.next_hops() == BOTH, "the address itself is announced again")
    until(lambda: knock(cluster, unused) != "ConnectionRefusedError", "nobody answers for the rest")


def test_unused_addresses_stay_refused_while_the_agent_restarts(cluster: Cluster) -> None:
    items = changed("CiliumBGPAdvertisement")["spec"]["advertisements"]
    items[0]["service"]["aggregationLengthIPv4"] = 28
    cluster.apply(changed("CiliumBGPAdvertisement", advertisements=items))
    until(lambda: cluster.next_hops(f"{VIP}/28") == BOTH, "the covering prefix is announced")
    worker = cluster.places["worker-1"]
    assert f"{VIP}/28" in worker("nft", "list", "set", "inet", "lbipam", "refused4")
    changes = subprocess.Popen(
        ("ip", "netns", "exec", worker.name, "nft", "monitor"), stdout=subprocess.PIPE, text=True
    )
    try:
        cluster.stop_agent(1, signal.SIGTERM)
        until(lambda: not cluster.session_is_up(WORKERS[0]), "the router has noticed")
        cluster.start_agent(1, *FLAGS)
        until(lambda: cluster.session_is_up(WORKERS[0]), "the session is up again")
        stale = partial(cluster.router.vty, f"show bgp ipv4 unicast {VIP}/28")
        until(lambda: "stale" not in stale(), "the block has been announced again")
    finally:
        changes.terminate()
        seen, _ = changes.communicate(timeout=10)
    assert "flush" in seen or "delete" in seen, "the agent has written its chains anew"
    assert not [line for line in seen.splitlines() if "refused4" in line and "element" in line]


def knock(cluster: Cluster, address: str) -> str:
    """How an attempt to connect from outside ends: the name of the error, or `open`."""
    program = f"""
import socket
try:
    socket.create_connection(({address!r}, 8080), timeout=1).close()
    print("open")
except OSError as problem:
    print(type(problem).__name__)
"""
    return cluster.places["client"](sys.executable, "-c", program).strip()


def test_the_password_of_a_session_comes_from_a_secret(cluster: Cluster) -> None:
    def failures() -> int:
        words = cluster.places["r"]("nstat", "-az", "TcpExtTCPMD5Failure").split()
        return int(words[words.index("TcpExtTCPMD5Failure") + 1])

    def secret(password: str) -> None:
        cluster.kubectl("-n", "kube-system", "delete", "secret", "tor", "--ignore-not-found")
        cluster.kubectl(
            "-n", "kube-system", "create", "secret", "generic", "tor", f"--from-literal=password={password}"
        )

    secret("wrong")
    cluster.apply(changed("CiliumBGPPeerConfig", authSecretRef="tor"))
    with router_told(cluster, *(f"neighbor {worker} password right" for worker in WORKERS)):
        before = failures()
        until(lambda: failures() > before, "the router sees a bad signature")
        assert not any(cluster.session_is_up(worker) for worker in WORKERS)
        secret("right")
        until(lambda: all(map(cluster.session_is_up, WORKERS)), "both sessions are up")
        until(lambda: cluster.next_hops() == BOTH, "both workers announce it")
        cluster.kubectl("-n", "kube-system", "delete", "secret", "tor")


def test_a_peering_policy_of_old_is_carried_out(cluster: Cluster) -> None:
    everything = {"matchExpressions": [{"key": "never", "operator": "NotIn", "values": ["used"]}]}
    said = {"selectorType": "CiliumLoadBalancerIPPool", "communities": {"standard": ["64512:77"]}}
    neighbor = {
        "peerAddress": f"{ROUTER}/32",
        "peerASN": ROUTER_ASN,
        "connectRetryTimeSeconds": 1,
        "holdTimeSeconds": 9,
        "keepAliveTimeSeconds": 3,
        "advertisedPathAttributes": [said],
    }
    virtual = {"localASN": NODE_ASN, "serviceSelector": everything, "neighbors": [neighbor]}
    policy = {
        "apiVersion": "cilium.io/v2alpha1",
        "kind": "CiliumBGPPeeringPolicy",
        "metadata": {"name": "old"},
        "spec": {"virtualRouters": [virtual]},
    }
    path = cluster.kubeconfig.parent / "policy.json"
    path.write_text(json.dumps(policy))
    cluster.kubectl("apply", "-f", str(path))
    try:
        until(lambda: cluster.communities().count("64512:77") == 2, "both workers follow the policy")
        until(lambda: cluster.next_hops() == BOTH, "the router forwards to both")
        owner = cluster.objects("ciliumbgpnodeconfigs", "worker-1")["metadata"]["ownerReferences"][0]
        assert (owner["kind"], owner["name"]) == ("CiliumBGPPeeringPolicy", "old")
    finally:
        cluster.kubectl("delete", "ciliumbgppeeringpolicy", "old")
    until(lambda: "64512:77" not in cluster.communities(), "the cluster's configuration is followed again")
