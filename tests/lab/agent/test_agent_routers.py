"""Agents on two nodes with upstream routers of every make: BIRD over IPv6, GoBGP inside the AS, FRR a hop away.

cp ── LAN ──┬── worker-1, worker-2 (agents, AS 64513)
            ├── bird  (AS 64520, over IPv6, with a password)
            ├── gobgp (AS 64513: an internal peer)
            └── far   (FRR, AS 64530, on its loopback: a hop away)
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from lbipam.commands.lab import topology
from tests.lab.agent.cluster import Cluster, running_cluster
from tests.lab.bgp.namespaces import Namespace, need, until, wire
from tests.lab.bgp.routers import Bird, Frr, Gobgp

pytestmark = pytest.mark.lab

NODES, NODES6 = topology.WORKERS, ("fd00:18::11", "fd00:18::12")
BIRD6, GOBGP, FAR, FAR_ON_LAN = "fd00:18::2", "198.18.0.3", "203.0.113.1", "198.18.0.4"
FOUR, SIX = "198.19.0.1/32", "2001:db8::1/128"
NAMES = tuple(f"node{number}" for number in (1, 2))
EVERYTHING = {"matchExpressions": [{"key": "never", "operator": "NotIn", "values": ["used"]}]}
COMMUNITY = "64513:7"


@dataclass(frozen=True)
class Upstream:
    """The cluster and the routers that it is to speak with."""

    cluster: Cluster
    bird: Bird
    gobgp: Gobgp
    far: Frr


def advertisement(name: str, **attributes: Any) -> dict[str, Any]:
    service = {"addresses": ["LoadBalancerIP"]}
    advert = {"advertisementType": "Service", "service": service, "selector": EVERYTHING}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumBGPAdvertisement",
        "metadata": {"name": name, "labels": {"to": name}},
        "spec": {"advertisements": [{**advert, **({"attributes": attributes} if attributes else {})}]},
    }


def peer_config(name: str, **spec: Any) -> dict[str, Any]:
    advertisements = {"matchLabels": {"to": name}}
    families = [{"afi": afi, "safi": "unicast", "advertisements": advertisements} for afi in ("ipv4", "ipv6")]
    timers = {"connectRetryTimeSeconds": 1, "holdTimeSeconds": 9, "keepAliveTimeSeconds": 3}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumBGPPeerConfig",
        "metadata": {"name": name},
        "spec": {"timers": timers, "families": families, **spec},
    }


def password(key: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "bird", "namespace": "kube-system"},
        "stringData": {"password": key},
    }


def configuration() -> Iterator[dict[str, Any]]:
    yield {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumLoadBalancerIPPool",
        "metadata": {"name": "both"},
        "spec": {
            "blocks": [{"cidr": FOUR}, {"cidr": SIX}],
            "serviceSelector": {"matchLabels": {"families": "both"}},
        },
    }
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "both", "labels": {"families": "both"}},
        "spec": {"type": "LoadBalancer", "ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 80}]},
    }
    yield password("wrong")
    yield peer_config("bird", authSecretRef="bird")
    yield peer_config("gobgp")
    yield peer_config("far", ebgpMultihop=2)
    yield advertisement("bird")
    yield advertisement("gobgp", localPreference=250, communities={"standard": [COMMUNITY]})
    yield advertisement("far")
    peers = [
        {"name": "bird", "peerASN": 64520, "peerAddress": BIRD6, "peerConfigRef": {"name": "bird"}},
        {"name": "gobgp", "peerASN": 64513, "peerAddress": GOBGP, "peerConfigRef": {"name": "gobgp"}},
        {"name": "far", "peerASN": 64530, "peerAddress": FAR, "peerConfigRef": {"name": "far"}},
    ]
    yield {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumBGPClusterConfig",
        "metadata": {"name": "rack"},
        "spec": {"bgpInstances": [{"name": "main", "localASN": 64513, "peers": peers}]},
    }


def bird_config() -> str:
    sessions = "\n".join(
        f"""protocol bgp {name} {{
  local {BIRD6} as 64520; neighbor {address} as 64513; password "secret"; connect retry time 1;
  ipv4 {{ import all; export none; extended next hop on; }};
  ipv6 {{ import all; export none; }};
}}"""
        for name, address in zip(NAMES, NODES6, strict=True)
    )
    return f"router id 198.18.0.2;\n{sessions}"


def gobgp_config() -> str:
    neighbours = "\n".join(
        f"""[[neighbors]]
[neighbors.config]
neighbor-address = "{address}"
peer-as = 64513
[neighbors.transport.config]
passive-mode = true
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv4-unicast"
[[neighbors.afi-safis]]
[neighbors.afi-safis.config]
afi-safi-name = "ipv6-unicast"
"""
        for address in NODES
    )
    return f'[global.config]\nas = 64513\nrouter-id = "{GOBGP}"\n{neighbours}'


def far_config() -> str:
    lines = "\n".join(
        f""" neighbor {address} remote-as 64513
 neighbor {address} ebgp-multihop 2
 neighbor {address} update-source {FAR}
 neighbor {address} passive"""
        for address in NODES
    )
    activated = "\n".join(f"  neighbor {address} activate" for address in NODES)
    return f"""
router bgp 64530
 bgp router-id {FAR}
 no bgp ebgp-requires-policy
{lines}
 address-family ipv6 unicast
{activated}
 exit-address-family
"""


def apply(cluster: Cluster, *objects: dict[str, Any]) -> None:
    manifests = cluster.kubeconfig.with_name("manifests.yaml")
    manifests.write_text(yaml.safe_dump_all(objects))
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(manifests))


def on_the_lan(cluster: Cluster, role: str, *addresses: str) -> Namespace:
    """One more host on the LAN."""
    lan = cluster.places["lan"]
    place = Namespace(role)
    wire(place, "eth0", lan, f"to-{role}")
    lan("ip", "link", "set", f"to-{role}", "master", "bridge")
    place.address("eth0", *addresses)
    return place


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    need("bird", "gobgpd", *topology.PROGRAMS)
    folder = tmp_path_factory.mktemp("upstream")
    with running_cluster(folder, "--datapath", "nftables", "--no-l2") as cluster, ExitStack() as stack:
        for number, address in enumerate(NODES6, start=1):
            worker = cluster.places[f"worker-{number}"]
            worker("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
            worker.address("eth0", f"{address}/64")
            worker("ip", "route", "add", FAR, "via", FAR_ON_LAN)
        bird = stack.enter_context(on_the_lan(cluster, "bird", "198.18.0.2/24", f"{BIRD6}/64"))
        gobgp = stack.enter_context(on_the_lan(cluster, "gobgp", f"{GOBGP}/24", "fd00:18::3/64"))
        far = stack.enter_context(on_the_lan(cluster, "far", f"{FAR_ON_LAN}/24", "fd00:18::4/64"))
        far.address("lo", f"{FAR}/32")
        apply(cluster, *configuration())
        yield Upstream(
            cluster,
            stack.enter_context(Bird(bird, folder / "bird", bird_config())),
            stack.enter_context(Gobgp(gobgp, folder / "gobgp", gobgp_config())),
            stack.enter_context(Frr(far, far_config())),
        )


def in_bird(bird: Bird, prefix: str) -> str:
    return bird.ask(f"show route {prefix} all table {'master6' if ':' in prefix else 'master4'}")


def in_gobgp(gobgp: Gobgp, prefix: str) -> list[dict[str, Any]]:
    """The paths of a prefix, one from each node."""
    found: list[dict[str, Any]] = gobgp.routes("ipv6" if ":" in prefix else "ipv4").get(prefix, [])
    return found


def attribute(path: dict[str, Any], number: int) -> dict[str, Any]:
    return next((one for one in path["attrs"] if one["type"] == number), {})


def test_bird_hears_both_families_over_ipv6_once_the_password_is_right(upstream: Upstream) -> None:
    bird = upstream.bird
    until(lambda: bool(upstream.far.route(FOUR)), "another router is spoken with meanwhile")
    assert not any(bird.is_up(name) for name in NAMES)
    apply(upstream.cluster, password("secret"))
    for prefix in (FOUR, SIX):
        until(lambda: in_bird(bird, prefix).count("BGP.as_path: 64513") == 2, f"BIRD has {prefix} twice")  # noqa: B023
        assert all(f"BGP.next_hop: {address}" in in_bird(bird, prefix) for address in NODES6)


def test_an_internal_gobgp_hears_preference_and_communities(upstream: Upstream) -> None:
    gobgp = upstream.gobgp
    for prefix, hops in ((FOUR, NODES), (SIX, NODES6)):
        until(lambda: len(in_gobgp(gobgp, prefix)) == 2, f"GoBGP has {prefix} twice")  # noqa: B023
        found = in_gobgp(gobgp, prefix)
        assert all(attribute(path, 5)["value"] == 250 for path in found)
        assert all(attribute(path, 8)["communities"] == [64513 << 16 | 7] for path in found)
        assert all(address in str(found) for address in hops)


def test_a_router_a_hop_away_hears_both_families(upstream: Upstream) -> None:
    far = upstream.far
    for prefix, family in ((FOUR, "ipv4Unicast"), (SIX, "ipv6Unicast")):
        until(lambda: all(far.accepted(address, family) for address in NODES), f"FRR has {prefix} twice")  # noqa: B023
        assert far.route(prefix)["aspath"]["string"] == "64513"
