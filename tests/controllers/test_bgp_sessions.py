"""With whom a node speaks, and what cannot be done."""

import base64
from ipaddress import IPv4Address, ip_address
from typing import Any

from lbipam.controllers.bgp_sessions import NOTHING, Configuration, Session, read_configuration
from lbipam.controllers.host import DefaultRoute, Host, Interface
from lbipam.core.bgp.codes import Family
from lbipam.kube import bgp, bgp_adverts, bgp_forms, forms
from tests.builders_bgp import World, instance, neighbor, peer, router


class Node(World):
    """What node n1 reads."""

    def __init__(self, *addresses: str, **labels: str) -> None:
        super().__init__()
        entries = [{"type": "InternalIP", "address": one} for one in addresses or ("192.0.2.1",)]
        self.put(forms.NODE, "n1", metadata={"labels": labels}, status={"addresses": entries})

    def read(self, host: Host | None = None) -> Configuration:
        return read_configuration(
            self.cache,
            bgp_forms.V2,
            node="n1",
            secrets_namespace="kube-system",
            host=host or Host(),
        )

    def session(self, host: Host | None = None, instance: str = "main", peer: str = "tor") -> Session:
        return self.read(host).instances[instance].sessions[peer]

    def problems(self) -> list[str]:
        return [problem for _, problem in self.read().problems]


def test_a_node_that_is_told_nothing_speaks_with_nobody() -> None:
    assert Node().read() is NOTHING


def test_a_session_follows_from_node_and_peer_configuration() -> None:
    node = Node()
    node.peer_config(
        "x",
        annotations={"lbipam.dev/bfd": "300ms/3", "lbipam.dev/ttl-security": "1"},
        transport={"peerPort": 1179},
        timers={"holdTimeSeconds": 9, "keepAliveTimeSeconds": 3, "connectRetryTimeSeconds": 5},
        gracefulRestart={"enabled": True},
        ebgpMultihop=2,
        families=[{"afi": "ipv4", "safi": "unicast"}],
    )
    more: dict[str, Any] = {"localAddress": "192.0.2.1", "peerConfigRef": {"name": "x"}}
    node.node_config(instance("main", peer("tor", **more), localPort=179))
    found = node.read()
    main = found.instances["main"]
    assert (main.local_asn, main.listen_port) == (64512, 179)
    session = main.sessions["tor"]
    wire = session.peer
    assert (wire.address, wire.port, wire.asn) == (ip_address("10.0.0.1"), 1179, 64500)
    assert wire.local_address == ip_address("192.0.2.1")
    assert (wire.hold_seconds, wire.keepalive_seconds, wire.connect_retry_seconds) == (9, 3, 5)
    assert (wire.restart_seconds, wire.hops, wire.secure_hops) == (120, 2, 1)
    assert wire.families == {Family.IPV4}
    assert session.bfd == bgp.Bfd(interval_seconds=0.3, multiplier=3)
    assert found.problems == ()


def test_without_a_reference_the_defaults_hold_and_nothing_is_announced() -> None:
    node = Node()
    node.node_config(instance("main"))
    session = node.session()
    assert session.peer.families == {Family.IPV4, Family.IPV6}
    assert session.adverts == {Family.IPV4: frozenset(), Family.IPV6: frozenset()}


def test_a_missing_peer_configuration_is_a_problem_and_no_session() -> None:
    node = Node()
    node.node_config(instance("main", peer("tor", peerConfigRef={"name": "x"})))
    assert node.read().instances["main"].sessions == {}
    assert node.problems() == ["peer tor: there is no CiliumBGPPeerConfig x"]


# --- router IDs -------------------------------------------------------------------------------------------


def test_the_router_id_is_told_or_the_nodes_address() -> None:
    node = Node("fd00::1", "192.0.2.1")
    node.node_config(instance("main"), instance("told", routerID="10.9.9.9"))
    instances = node.read().instances
    assert instances["main"].router_id == IPv4Address("192.0.2.1")
    assert instances["told"].router_id == IPv4Address("10.9.9.9")


def test_addresses_of_a_node_that_are_none_are_passed_over() -> None:
    node = Node("n1.example", "192.0.2.1")
    node.node_config(instance("main"))
    assert node.read().instances["main"].router_id == IPv4Address("192.0.2.1")


def test_an_ipv6_only_node_makes_its_router_id_of_its_mac() -> None:
    node = Node("fd00::1")
    node.node_config(instance("main"))
    mac = bytes.fromhex("0200c0000209")
    lo = Interface(name="lo", up=True, addresses=(ip_address("::1"),))
    eth0 = Interface(name="eth0", up=True, mac=mac, addresses=(ip_address("fd00::1"),))
    host = Host(interfaces=(lo, eth0))
    assert node.read(host).instances["main"].router_id == IPv4Address("192.0.2.9")
    assert node.read().instances == {}
    assert node.problems() == ["there is no routerID, nor an address to make one from"]


# --- where the peer is ------------------------------------------------------------------------------------

GATEWAY = {"mode": "DefaultGateway", "defaultGateway": {"addressFamily": "ipv4"}}


def test_the_default_gateway_is_the_peer() -> None:
    node = Node()
    node.node_config(instance("main", {"name": "tor", "autoDiscovery": GATEWAY}))
    routes = (
        DefaultRoute(gateway=ip_address("192.0.2.254"), interface="eth0", metric=5),
        DefaultRoute(gateway=ip_address("192.0.2.253"), interface="eth1", metric=9),
    )
    assert node.session(Host(default_routes=routes)).peer.address == ip_address("192.0.2.254")


def test_of_two_peers_at_one_address_the_first_counts() -> None:
    node = Node()
    node.peer_config("far", transport={"peerPort": 1179})
    peers = (
        peer("tor", "10.0.0.1"),
        peer("again", "10.0.0.1"),
        peer("elsewhere", "10.0.0.2"),
        peer("otherwise", "10.0.0.1", localAddress="192.0.2.9"),
        peer("beside", "10.0.0.1", peerConfigRef={"name": "far"}),
    )
    node.node_config(instance("main", *peers))
    assert [*node.read().instances["main"].sessions] == ["tor", "elsewhere", "otherwise", "beside"]
    assert node.problems() == ["peer again: 10.0.0.1 is the address of peer tor, too: the first counts"]


def test_without_a_default_gateway_there_is_a_problem_and_no_session() -> None:
    node = Node()
    gateway = {"mode": "DefaultGateway", "defaultGateway": {"addressFamily": "ipv6"}}
    node.node_config(instance("main", {"name": "tor", "autoDiscovery": gateway}))
    link_local = Host(default_routes=(DefaultRoute(gateway=ip_address("fe80::1"), interface="eth0"),))
    assert node.read(link_local).instances["main"].sessions == {}
    assert node.problems() == ["peer tor: no default gateway of IPV6 to speak with"]


# --- secrets ----------------------------------------------------------------------------------------------


def test_a_password_comes_from_the_secret_and_is_not_shown() -> None:
    node = Node()
    node.peer_config("x", authSecretRef="md5")
    node.node_config(instance("main", peer("tor", peerConfigRef={"name": "x"})))
    assert node.session().peer.password == b""
    assert node.problems() == ["Secret md5 has no password: sessions are not signed"]
    data = {"password": base64.b64encode(b"hunter2").decode()}
    node.put(forms.SECRET, "md5", namespace="kube-system", data=data)
    session = node.session()
    assert session.peer.password == b"hunter2"
    assert "hunter2" not in repr(session)
    assert node.problems() == []


def test_a_password_that_is_too_long_is_a_problem_and_no_session() -> None:
    node = Node()
    node.peer_config("x", authSecretRef="md5")
    node.node_config(instance("main", peer("tor", peerConfigRef={"name": "x"})))
    for length, held in ((80, {"tor"}), (81, set[str]())):
        data = {"password": base64.b64encode(b"x" * length).decode()}
        node.put(forms.SECRET, "md5", namespace="kube-system", data=data)
        assert node.read().instances["main"].sessions.keys() == held
    assert node.problems() == [
        "Secret md5: the key password has 81 octets, and may have 80: no session is held"
    ]


# --- adverts ----------------------------------------------------------------------------------------------

POD = {"advertisementType": "PodCIDR"}
LOOPBACK = {"advertisementType": "Interface", "interface": {"name": "lo1"}}


def selected(found: Configuration, session: Session, family: Family) -> set[bgp_adverts.Source]:
    return {found.adverts[index].source for index in session.adverts[family]}


def test_each_family_carries_the_adverts_that_its_selector_matches() -> None:
    node = Node()
    node.advert("a", POD, kind="pods")
    node.advert("b", LOOPBACK, kind="loopback")
    node.advert("c", POD)
    families = [
        {"afi": afi, "safi": "unicast", "advertisements": {"matchLabels": {"kind": kind}}}
        for afi, kind in (("ipv4", "pods"), ("ipv6", "loopback"))
    ]
    node.peer_config("x", families=families)
    node.node_config(instance("main", peer("tor", peerConfigRef={"name": "x"})))
    found = node.read()
    session = found.instances["main"].sessions["tor"]
    assert selected(found, session, Family.IPV4) == {bgp_adverts.PodRoutes()}
    assert selected(found, session, Family.IPV6) == {bgp_adverts.InterfaceRoutes(name="lo1")}
    assert len(found.adverts) == 2


def test_a_family_that_is_there_twice_carries_the_adverts_of_both() -> None:
    node = Node()
    node.advert("a", POD, kind="pods")
    node.advert("b", LOOPBACK, kind="loopback")
    families = [
        {"afi": "ipv4", "safi": "unicast", "advertisements": {"matchLabels": {"kind": kind}}}
        for kind in ("pods", "loopback")
    ]
    node.peer_config("x", families=families)
    node.node_config(instance("main", peer("tor", peerConfigRef={"name": "x"})))
    found = node.read()
    carried = selected(found, found.instances["main"].sessions["tor"], Family.IPV4)
    assert carried == {bgp_adverts.PodRoutes(), bgp_adverts.InterfaceRoutes(name="lo1")}


def test_problems_of_an_advertisement_concern_the_instances_that_use_it() -> None:
    node = Node()
    node.advert("a", {"advertisementType": "Magic"}, kind="bgp")
    node.peer_config("x", families=[{"afi": "ipv4", "safi": "unicast", "advertisements": {}}])
    node.node_config(instance("main", peer("tor", peerConfigRef={"name": "x"})), instance("other"))
    ((name, problem),) = node.read().problems
    assert name == "main"
    assert "CiliumBGPAdvertisement a" in problem


# --- the legacy policy ------------------------------------------------------------------------------------


def legacy_instance() -> dict[str, Any]:
    return {"name": "virtual-router-64512", "localASN": 64512, "peers": [peer("10.0.0.1")]}


def test_a_node_owned_by_a_policy_reads_the_policy() -> None:
    node = Node(rack="a")
    node.policy("owner", router(64512, neighbor("10.0.0.1/32", holdTimeSeconds=30), exportPodCIDR=True))
    node.node_config(legacy_instance(), owner="CiliumBGPPeeringPolicy")
    found = node.read()
    session = found.instances["virtual-router-64512"].sessions["10.0.0.1"]
    assert session.peer.hold_seconds == 30
    for family in Family:
        assert selected(found, session, family) == {bgp_adverts.PodRoutes()}


def test_when_the_policy_is_gone_so_are_its_sessions() -> None:
    node = Node()
    node.node_config(legacy_instance(), owner="CiliumBGPPeeringPolicy")
    assert node.read().instances["virtual-router-64512"].sessions == {}
