"""The whole of what a node's speaker should do, as things change."""

from ipaddress import ip_address, ip_network
from math import inf
from typing import Any

import msgspec

from lbipam.controllers.bgp_node import BgpNodeReconciler, Options, Wanted, announced
from lbipam.controllers.bgp_sessions import PeerId
from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.host import Host, Interface
from lbipam.controllers.ports import Severity
from lbipam.core.bgp import nlri
from lbipam.core.bgp.codes import GRACEFUL_SHUTDOWN, Family
from lbipam.core.bgp.exports import Exports
from lbipam.core.bgp.peers import Ending, PeerDown, PeerUp
from lbipam.core.bgp.routes import RouteAttributes
from lbipam.kube import bgp, bgp_forms, forms, ipam
from lbipam.kube.kinds import Key, Kind
from tests.builders_bgp import World, instance, neighbor, peer, router
from tests.builders_services import endpoint, service

TOR = PeerId("main", "tor")
SERVICE = {"advertisementType": "Service", "service": {"addresses": ["LoadBalancerIP"]}, "selector": {}}
BOTH = [
    {"afi": afi, "safi": "unicast", "advertisements": {"matchLabels": {"advertise": "bgp"}}}
    for afi in ("ipv4", "ipv6")
]


COVERING = {**SERVICE, "service": {"addresses": ["LoadBalancerIP"], "aggregationLengthIPv4": 28}}


class Agent(World):
    """The reconciler of node n1, with one peer that is told of every Service's addresses."""

    def __init__(self, *, configured: bool = True, **options: Any) -> None:
        self.options = Options(node="n1", **options)
        super().__init__(*self.options.watched)
        self.reconciler = BgpNodeReconciler(self.cache, self.options)
        if configured:
            self.this_node()
            self.peer_config("x", families=BOTH)
            self.node_config(instance("main", peer("tor", peerConfigRef={"name": "x"})))
            self.advert("services", SERVICE, advertise="bgp")

    def put(self, kind: Kind, name: str, *, namespace: str = "", **body: Any) -> Change:
        change = super().put(kind, name, namespace=namespace, **body)
        self.reconciler.observe(change)
        return change

    def remove(self, kind: Kind, name: str, *, namespace: str = "") -> Change:
        change = super().remove(kind, name, namespace=namespace)
        self.reconciler.observe(change)
        return change

    def this_node(self, *, drain: str = "") -> None:
        annotations = {bgp.DRAIN: drain} if drain else {}
        addresses = [{"type": "InternalIP", "address": "192.0.2.1"}]
        self.put(forms.NODE, "n1", metadata={"annotations": annotations}, status={"addresses": addresses})

    def service(self, name: str, *ingress: str, **spec: Any) -> None:
        body = msgspec.json.decode(msgspec.json.encode(service(name, *ingress, **spec)))
        del body["metadata"]
        self.put(forms.SERVICE, name, namespace="default", **body)

    def slice(self, of: str, *endpoints: dict[str, Any]) -> None:
        self.put(
            forms.ENDPOINT_SLICE,
            f"{of}-1",
            namespace="default",
            metadata={"labels": {"kubernetes.io/service-name": of}},
            addressType="IPv4",
            endpoints=list(endpoints),
        )

    def wanted(self, now: float = 0.0) -> Wanted:
        found = self.reconciler.reconcile(now)
        assert found is not None
        return found

    def announced(self, now: float = 0.0, to: PeerId = TOR) -> dict[str, set[int]]:
        """Prefix → communities."""
        return {prefix: set(said.communities) for prefix, said in told(self.wanted(now), to).items()}


def told(wanted: Wanted, to: PeerId = TOR) -> dict[str, RouteAttributes]:
    """Prefix → what is said of it to a peer."""
    return {str(prefix): said for prefix, said in announced(wanted.speakers[to.instance], to.name)}


def test_a_service_is_announced_to_a_peer_that_asks_for_it() -> None:
    agent = Agent()
    agent.service("web", "10.0.0.1", "fd00::1")
    assert set(agent.announced()) == {"10.0.0.1/32", "fd00::1/128"}


def test_the_speaker_understands_what_is_wanted() -> None:
    agent = Agent()
    agent.service("web", "10.0.0.1", "fd00::1")
    sets = Exports().update(agent.wanted().speakers["main"])["tor"]
    assert list(sets[Family.IPV4].routes) == [nlri.encode(ip_network("10.0.0.1/32"))]
    assert list(sets[Family.IPV6].routes) == [nlri.encode(ip_network("fd00::1/128"))]


def test_a_peer_that_selects_nothing_is_told_nothing() -> None:
    agent = Agent()
    agent.node_config(instance("main", peer("tor")))
    agent.service("web", "10.0.0.1")
    wanted = agent.wanted()
    assert list(wanted.speakers["main"].peers) == ["tor"]
    assert told(wanted) == {}


def test_a_family_without_adverts_is_told_nothing() -> None:
    agent = Agent()
    agent.peer_config("x", families=[BOTH[0], {"afi": "ipv6", "safi": "unicast"}])
    agent.service("web", "10.0.0.1", "fd00::1")
    assert set(agent.announced()) == {"10.0.0.1/32"}


def test_nothing_is_wanted_before_everything_is_known() -> None:
    assert BgpNodeReconciler(Cache(), Options(node="n1")).reconcile(0.0) is None


def test_what_does_not_change_is_not_said_twice() -> None:
    agent = Agent()
    agent.service("web", "10.0.0.1")
    agent.wanted()
    assert agent.reconciler.reconcile(1.0) is None
    agent.service("web", "10.0.0.1", annotations={"a": "b"})
    assert agent.reconciler.reconcile(2.0) is None


def test_routes_follow_the_endpoints_of_a_local_service() -> None:
    agent = Agent()
    agent.service("web", "10.0.0.1", externalTrafficPolicy="Local")
    assert agent.announced() == {}
    agent.slice("web", endpoint(node="n1"))
    assert set(agent.announced()) == {"10.0.0.1/32"}
    agent.remove(forms.ENDPOINT_SLICE, "web-1", namespace="default")
    assert agent.announced() == {}


def test_a_deleted_service_is_withdrawn() -> None:
    agent = Agent()
    agent.service("web", "10.0.0.1")
    agent.wanted()
    agent.remove(forms.SERVICE, "web", namespace="default")
    assert agent.announced() == {}


def test_endpoints_can_be_made_a_condition() -> None:
    agent = Agent(announce_without_endpoints=False)
    agent.service("web", "10.0.0.1")
    assert agent.announced() == {}
    agent.slice("web", endpoint(node="n9"))
    assert set(agent.announced()) == {"10.0.0.1/32"}


def test_communities_of_all_matching_adverts_are_united_and_the_higher_preference_wins() -> None:
    agent = Agent()
    for name, community, preference in (("red", "1:1", 100), ("blue", "1:2", 300)):
        carried = {"communities": {"standard": [community]}, "localPreference": preference}
        agent.advert(name, {**SERVICE, "attributes": carried}, advertise="bgp")
    agent.service("web", "10.0.0.1")
    (attributes,) = told(agent.wanted()).values()
    assert attributes.communities == {1 << 16 | 1, 1 << 16 | 2}
    assert attributes.local_preference == 300


def test_two_peers_are_told_what_each_asks_for() -> None:
    agent = Agent()
    only_v6 = [{"afi": "ipv6", "safi": "unicast", "advertisements": {}}]
    agent.peer_config("y", families=only_v6)
    agent.node_config(
        instance(
            "main",
            peer("tor", peerConfigRef={"name": "x"}),
            peer("spine", "10.0.0.2", peerConfigRef={"name": "y"}),
        )
    )
    agent.service("web", "10.0.0.1", "fd00::1")
    wanted = agent.wanted()
    assert len(told(wanted)) == 2
    assert list(told(wanted, PeerId("main", "spine"))) == ["fd00::1/128"]


def test_the_pool_of_an_address_decides_about_its_attributes() -> None:
    agent = Agent()
    for name, cidr in (("blue", "10.0.0.0/24"), ("red", "10.0.1.0/24")):
        spec = {"blocks": [{"cidr": cidr}]}
        agent.put(ipam.IP_POOL, name, spec=spec, metadata={"labels": {"colour": name}})
    gold = {**SERVICE, "selector": {"matchLabels": {"lbipam.dev/pool": "red"}}}
    agent.advert("gold", {**gold, "attributes": {"communities": {"standard": ["1:9"]}}}, advertise="bgp")
    agent.service("web", "10.0.0.1", "10.0.1.1")
    assert agent.announced() == {"10.0.0.1/32": set(), "10.0.1.1/32": {1 << 16 | 9}}


def test_counters_of_a_pool_change_nothing() -> None:
    agent = Agent()
    spec = {"blocks": [{"cidr": "10.0.0.0/24"}]}
    agent.put(ipam.IP_POOL, "blue", spec=spec)
    agent.wanted()
    agent.put(ipam.IP_POOL, "blue", spec=spec, status={"conditions": [{"type": "cilium.io/IPsUsed"}]})
    assert agent.reconciler.reconcile(1.0) is None


def test_the_legacy_policy_gives_attributes_by_labels_of_the_pool() -> None:
    agent = Agent(configured=False)
    agent.this_node()
    agent.put(
        ipam.IP_POOL,
        "blue",
        spec={"blocks": [{"cidr": "10.0.0.0/24"}]},
        metadata={"labels": {"colour": "blue"}},
    )
    special = {
        "selectorType": "CiliumLoadBalancerIPPool",
        "selector": {"matchLabels": {"colour": "blue"}},
        "communities": {"standard": ["1:9"]},
    }
    one = neighbor("10.0.0.1/32", advertisedPathAttributes=[special])
    routers = [router(64512, one, serviceSelector={})]
    agent.put(bgp_forms.PEERING_POLICY, "owner", spec={"virtualRouters": routers})
    name = "virtual-router-64512"
    agent.node_config(
        {"name": name, "localASN": 64512, "peers": [peer("10.0.0.1")]}, owner="CiliumBGPPeeringPolicy"
    )
    agent.service("web", "10.0.0.1", "10.9.0.1")
    assert agent.announced(to=PeerId(name, "10.0.0.1")) == {
        "10.0.0.1/32": {1 << 16 | 9},
        "10.9.0.1/32": set(),
    }


def test_status_of_the_nodes_configuration_changes_nothing() -> None:
    agent = Agent()
    agent.wanted()
    known = agent.cache.objects(bgp_forms.V2.node_config)[Key("", "n1")]
    body = msgspec.json.decode(msgspec.json.encode(known))
    agent.put(
        bgp_forms.V2.node_config,
        "n1",
        spec=body["spec"],
        status={"bgpInstances": [{"name": "main"}]},
        metadata={"ownerReferences": body["metadata"]["ownerReferences"]},
    )
    assert agent.reconciler.reconcile(1.0) is None


def test_other_nodes_and_foreign_secrets_change_nothing() -> None:
    agent = Agent()
    agent.wanted()
    agent.node("n2", rack="b")
    agent.put(bgp_forms.V2.node_config, "n2", spec={"bgpInstances": [instance("main")]})
    agent.put(forms.SECRET, "s", namespace="default")
    assert agent.reconciler.reconcile(1.0) is None


def test_interfaces_are_followed() -> None:
    agent = Agent()
    agent.advert("lo", {"advertisementType": "Interface", "interface": {"name": "lo1"}}, advertise="bgp")
    assert agent.announced() == {}
    agent.reconciler.see(
        Host(interfaces=(Interface(name="lo1", up=True, addresses=(ip_address("192.0.2.9"),)),))
    )
    assert set(agent.announced()) == {"192.0.2.9/32"}
    agent.reconciler.see(Host())
    assert agent.announced() == {}


def test_pods_interfaces_that_come_and_go_change_nothing() -> None:
    agent = Agent()
    agent.wanted()
    agent.reconciler.see(Host(interfaces=(Interface(name="veth1", up=True),)))
    assert agent.reconciler.reconcile(1.0) is None


def test_when_the_configuration_goes_the_sessions_go() -> None:
    agent = Agent()
    assert agent.wanted().speakers["main"].peers
    agent.remove(bgp_forms.V2.node_config, "n1")
    assert agent.wanted().speakers == {}


def test_an_address_is_announced_only_once_its_traffic_is_carried() -> None:
    agent = Agent()
    agent.service("a", "10.0.0.1")
    agent.service("b", "10.0.0.2")
    agent.advert("lo", {"advertisementType": "Interface", "interface": {"name": "lo1"}}, advertise="bgp")
    lo1 = Interface(name="lo1", up=True, addresses=(ip_address("192.0.2.9"),))
    agent.reconciler.see(Host(interfaces=(lo1,)))
    assert set(agent.announced()) == {"10.0.0.1/32", "10.0.0.2/32", "192.0.2.9/32"}
    a, b = Key("default", "a"), Key("default", "b")
    carried = {a: (ip_address("10.0.0.1"),)}
    agent.reconciler.carry(carried, {a})
    assert set(agent.announced()) == {"10.0.0.1/32", "192.0.2.9/32"}
    carried[b] = carried.pop(a)
    agent.reconciler.carry(carried, {a, b})
    assert set(agent.announced()) == {"192.0.2.9/32"}
    carried[b] = (ip_address("10.0.0.2"),)
    agent.reconciler.carry(carried, {b})
    assert set(agent.announced()) == {"10.0.0.2/32", "192.0.2.9/32"}


def test_sessions_that_come_and_go_are_told_on_the_nodes_configuration() -> None:
    agent = Agent()
    up = agent.reconciler.tell("main", PeerUp(peer="tor"))
    assert up is not None
    assert (up.kind, up.severity, up.reason) == (bgp_forms.V2.node_config, Severity.NORMAL, "PeerUp")
    down = agent.reconciler.tell("main", PeerDown(peer="tor", ending=Ending(why="hold timer expired")))
    assert down is not None
    assert (down.severity, down.message) == (
        Severity.WARNING,
        "main: the session with tor has ended: hold timer expired",
    )
    agent.remove(bgp_forms.V2.node_config, "n1")
    assert agent.reconciler.tell("main", PeerUp(peer="tor")) is None


# --- drain ------------------------------------------------------------------------------------------------


def test_a_drained_node_first_warns_and_then_withdraws() -> None:
    agent = Agent(leave_seconds=10.0)
    agent.service("web", "10.0.0.1")
    assert agent.announced(0.0) == {"10.0.0.1/32": set()}
    agent.this_node(drain="true")
    leaving = agent.wanted(100.0)
    assert [said.communities for said in told(leaving).values()] == [{GRACEFUL_SHUTDOWN}]
    assert leaving.look_again_at == 110.0
    assert agent.reconciler.reconcile(109.0) is None
    gone = agent.wanted(110.0)
    assert (told(gone), gone.look_again_at) == ({}, inf)
    assert gone.speakers["main"].peers == leaving.speakers["main"].peers


def test_a_node_that_is_no_longer_drained_announces_again() -> None:
    agent = Agent()
    agent.service("web", "10.0.0.1")
    agent.wanted(0.0)
    agent.this_node(drain="true")
    agent.wanted(1.0)
    agent.this_node()
    assert agent.announced(2.0) == {"10.0.0.1/32": set()}
    agent.this_node(drain="true")
    assert agent.announced(500.0) == {"10.0.0.1/32": {GRACEFUL_SHUTDOWN}}


def test_an_agent_that_starts_on_a_drained_node_announces_nothing() -> None:
    agent = Agent()
    agent.this_node(drain="true")
    agent.service("web", "10.0.0.1")
    assert agent.announced(0.0) == {}
    assert agent.reconciler.reconcile(1.0) is None


def test_a_block_announced_whole_is_answered_for_unless_the_host_lives_in_it() -> None:
    agent = Agent()
    agent.advert("services", COVERING, advertise="bgp")
    agent.service("a", "10.0.0.5")
    assert agent.wanted().answers_for == {ip_network("10.0.0.0/28")}
    lan = Interface(name="eth0", up=True, addresses=(ip_address("10.0.0.1"),))
    agent.reconciler.see(Host(interfaces=(lan,)))
    agent.service("b", "10.0.1.5")
    assert agent.wanted().answers_for == {ip_network("10.0.1.0/28")}
    agent.advert("services", SERVICE, advertise="bgp")
    assert agent.wanted().answers_for == frozenset()


def test_a_block_is_announced_whole_only_once_its_unused_addresses_are_refused() -> None:
    agent, block = Agent(), ip_network("10.0.0.0/28")
    agent.reconciler.refuse(frozenset())
    agent.advert("services", COVERING, advertise="bgp")
    agent.service("a", "10.0.0.5")
    wanted = agent.wanted()
    assert wanted.answers_for == wanted.held_back == frozenset({block})
    assert block not in wanted.speakers["main"].routes
    agent.reconciler.refuse(frozenset({block}))
    wanted = agent.wanted()
    assert wanted.answers_for == frozenset({block})
    assert not wanted.held_back
    assert block in wanted.speakers["main"].routes
    agent.reconciler.refuse(frozenset({block}))
    assert agent.reconciler.reconcile(0.0) is None


def test_a_node_whose_traffic_others_carry_holds_no_block_back() -> None:
    agent = Agent()
    agent.advert("services", COVERING, advertise="bgp")
    agent.service("a", "10.0.0.5")
    assert agent.wanted().held_back == frozenset()
