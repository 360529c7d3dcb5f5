"""What is told of sessions and routes, as it is read from the API."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from lbipam.controllers import bgp_report
from lbipam.controllers.bgp_node import Options
from lbipam.controllers.bgp_report import FamilyReport, RouteReport, SessionReport
from lbipam.controllers.cache import Change
from lbipam.core.bgp.codes import Cease, ErrorCode, Family
from lbipam.core.bgp.errors import Notification
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.peers import Ending, Peer, PeerStatus, Refusal
from lbipam.kube import bgp_forms, bgp_status, forms
from lbipam.kube.kinds import Kind
from tests.builders_bgp import World, instance, peer
from tests.builders_services import service

ADVERTS = [
    {"afi": afi, "safi": "unicast", "advertisements": {"matchLabels": {"advertise": "bgp"}}}
    for afi in ("ipv4", "ipv6")
]


class Cluster(World):
    """Nodes with one peer each, which is told of every Service's addresses."""

    def __init__(self, *nodes: str, address: str = "192.0.2.1") -> None:
        super().__init__(*Options(node="").watched)
        self.changes: list[Change] = []
        self.peer_config("x", families=ADVERTS)
        advert = {
            "advertisementType": "Service",
            "service": {"addresses": ["LoadBalancerIP"]},
            "selector": {},
            "attributes": {"communities": {"standard": ["64512:7"]}, "localPreference": 50},
        }
        self.advert("all", advert, advertise="bgp")
        for node in nodes:
            self.put(forms.NODE, node, status=at(address))

    def put(self, kind: Kind, name: str, *, namespace: str = "", **body: Any) -> Change:
        self.changes.append(super().put(kind, name, namespace=namespace, **body))
        return self.changes[-1]

    def service(self, name: str, *ingress: str) -> None:
        body = msgspec.to_builtins(service(name, *ingress))
        del body["metadata"]
        self.put(forms.SERVICE, name, namespace="default", **body)

    def agent_says(self, node: str, status: PeerStatus | None, **tor: Any) -> None:
        """What the agent of a node writes of its one session."""
        main = instance("main", {**peer("tor", peerConfigRef={"name": "x"}), **tor})
        config = self.node_config(main, node=node).after
        if status is None:
            return
        wire = Peer(address=ip_address("10.0.0.1"), asn=64500)
        seen = bgp_status.Observed(peer=wire, status=status)
        _, replacement = bgp_status.status_patch(config, {("main", "tor"): seen}, (), 1_800_000_000.0)
        written = msgspec.json.decode(msgspec.json.encode(replacement["value"]))
        self.node_config(main, node=node, status=written)

    def routes(self, *nodes: str) -> list[RouteReport]:
        options = [Options(node=node) for node in nodes]
        return bgp_report.routes(self.cache, self.changes, options).routes


def at(address: str) -> dict[str, Any]:
    """The status of a Node with this address."""
    return {"addresses": [{"type": "InternalIP", "address": address}]}


def established(sent: int) -> PeerStatus:
    return PeerStatus(
        state=State.ESTABLISHED,
        asn=64500,
        families=frozenset({Family.IPV4}),
        advertised={Family.IPV4: sent},
        established_at=1_800_000_000.0,
    )


def test_a_session_is_told_as_its_agent_sees_it() -> None:
    cluster = Cluster("n1")
    cluster.agent_says("n1", established(3))
    report = bgp_report.sessions(cluster.cache)
    assert report.sessions == [
        SessionReport(
            node="n1",
            instance="main",
            peer="tor",
            address="10.0.0.1",
            asn=64500,
            state="established",
            since="2027-01-15T08:00:00Z",
            sent=3,
            families=[FamilyReport(family="ipv4", sent=3)],
        )
    ]
    assert report.all_up
    assert report.problems == {}


def test_a_session_that_is_down_is_told_with_the_reason() -> None:
    cluster = Cluster("n1")
    lost = Ending(why="no route to host")
    cluster.agent_says("n1", PeerStatus(state=State.ACTIVE, last_ending=lost))
    report = bgp_report.sessions(cluster.cache)
    (told,) = report.sessions
    assert (told.state, told.since, told.why) == ("active", "2027-01-15T08:00:00Z", "no route to host")
    assert not report.all_up


def test_the_last_notification_is_told_by_itself_too() -> None:
    cluster = Cluster("n1")
    cease = Notification(code=ErrorCode.CEASE, subcode=Cease.MAXIMUM_PREFIXES)
    status = PeerStatus(
        state=State.ACTIVE,
        last_ending=Ending(why="no route to host"),
        last_notification=Ending(why="", notification=cease),
    )
    cluster.agent_says("n1", status)
    (told,) = bgp_report.sessions(cluster.cache).sessions
    assert told.why == "no route to host; before that received Cease/Maximum Prefixes (6/1)"
    assert told.notification == "received Cease/Maximum Prefixes (6/1)"


def test_routes_that_a_peer_cannot_be_told_are_counted_with_the_reason() -> None:
    cluster = Cluster("n1")
    some = {Family.IPV4: Refusal(count=2, why="no room")}
    cluster.agent_says("n1", replace(established(3), refused=some))
    (told,) = bgp_report.sessions(cluster.cache).sessions
    assert told.families == [FamilyReport(family="ipv4", sent=3, refused=2, why="no room")]
    assert told.refused == 2


def doubts(cluster: Cluster) -> list[str]:
    (config,) = cluster.cache.objects(bgp_forms.V2.node_config).values()
    return list(bgp_report.doubts(config))


def test_no_peer_has_a_route_only_where_every_session_is_up_and_has_none() -> None:
    cluster = Cluster("n1")
    cluster.agent_says("n1", None)
    assert doubts(cluster) == ["no agent has said anything of its sessions"]
    cluster.agent_says("n1", established(2))
    assert doubts(cluster) == ["main/tor has 2 of its routes"]
    lost = Ending(why="connection lost: no route to host")
    cluster.agent_says("n1", PeerStatus(state=State.ACTIVE, last_ending=lost))
    why = "connection lost: no route to host"
    assert doubts(cluster) == [
        f"the session with main/tor is down ({why}), and what that peer still has is not known"
    ]
    cluster.agent_says("n1", established(0))
    assert doubts(cluster) == []


def test_a_peer_with_which_no_session_is_held_has_no_routes() -> None:
    cluster = Cluster("n1")
    main = instance("main", peer("tor"))
    said = {"bgpInstances": [{"name": "main", "localASN": 64512}]}
    cluster.node_config(main, node="n1", status=said)
    assert doubts(cluster) == []


def test_a_session_that_no_agent_has_spoken_of_is_unknown() -> None:
    cluster = Cluster("n1")
    cluster.agent_says("n1", None)
    (told,) = bgp_report.sessions(cluster.cache).sessions
    assert (told.state, told.address, told.asn) == ("unknown", "10.0.0.1", 64500)


def test_problems_of_a_configuration_are_told_by_node() -> None:
    cluster = Cluster("n1")
    condition = {
        "type": bgp_status.RECONCILE_ERROR,
        "status": "True",
        "reason": "BGPReconcileError",
        "message": "main: a\nmain: b\n",
    }
    cluster.put(bgp_forms.V2.node_config, "n1", spec={}, status={"conditions": [condition]})
    assert bgp_report.sessions(cluster.cache).problems == {"n1": ["main: a", "main: b"]}


def test_routes_are_told_for_each_node_and_peer_with_what_is_said_of_them() -> None:
    cluster = Cluster("n1", "n2")
    cluster.service("web", "203.0.113.9")
    cluster.service("api", "203.0.113.10")
    cluster.agent_says("n1", established(2))
    cluster.agent_says("n2", established(1))
    told = cluster.routes(*bgp_report.nodes(cluster.cache))
    assert [(one.prefix, one.node, one.state) for one in told] == [
        ("203.0.113.9/32", "n1", "sent"),
        ("203.0.113.9/32", "n2", "waiting"),
        ("203.0.113.10/32", "n1", "sent"),
        ("203.0.113.10/32", "n2", "waiting"),
    ]
    assert (told[0].communities, told[0].local_preference) == (["64512:7"], 50)


def test_a_route_whose_session_is_down_is_told_to_be_down() -> None:
    cluster = Cluster("n1")
    cluster.service("web", "203.0.113.9")
    cluster.agent_says("n1", PeerStatus(state=State.CONNECT))
    assert [one.state for one in cluster.routes("n1")] == ["down"]


def test_a_family_that_is_not_spoken_with_a_peer_does_not_hold_up_the_other() -> None:
    cluster = Cluster("n1")
    cluster.service("web", "203.0.113.9", "2001:db8::9")
    cluster.agent_says("n1", established(1))
    four, six = cluster.routes("n1")
    assert (four.prefix, four.state) == ("203.0.113.9/32", "sent")
    assert (six.prefix, six.state) == ("2001:db8::9/128", "unspoken")
    assert six.why == "ipv6 is not agreed on with the peer"


def test_a_peer_that_has_more_than_it_should_is_still_to_be_told() -> None:
    cluster = Cluster("n1")
    cluster.service("web", "203.0.113.9")
    cluster.agent_says("n1", established(2))
    assert [one.state for one in cluster.routes("n1")] == ["waiting"]


def test_families_are_counted_apart() -> None:
    cluster = Cluster("n1")
    cluster.service("web", "203.0.113.9", "2001:db8::9")
    both = replace(established(1), families=frozenset(Family))
    cluster.agent_says("n1", both)
    assert [one.state for one in cluster.routes("n1")] == ["sent", "waiting"]


@pytest.mark.parametrize(("sent", "state"), [(0, "waiting"), (1, "sent"), (3, "sent")])
def test_routes_of_a_nodes_interfaces_may_be_any_number(sent: int, state: str) -> None:
    cluster = Cluster("n1")
    cluster.service("web", "203.0.113.9")
    lo = {"advertisementType": "Interface", "interface": {"name": "lo1"}}
    cluster.advert("lo", lo, advertise="bgp")
    cluster.agent_says("n1", established(sent))
    assert [one.state for one in cluster.routes("n1")] == [state]


def test_a_node_that_drains_shows_its_routes_until_peers_have_none() -> None:
    cluster = Cluster("n1")
    cluster.service("web", "203.0.113.9")
    cluster.put(
        forms.NODE, "n1", metadata={"annotations": {"lbipam.dev/drain": "true"}}, status=at("192.0.2.1")
    )
    cluster.agent_says("n1", established(1))
    (told,) = cluster.routes("n1")
    assert (told.state, told.communities) == ("sent", ["64512:7", "65535:0"])
    cluster.agent_says("n1", established(0))
    assert cluster.routes("n1") == []


def test_a_node_that_makes_its_router_id_of_a_mac_shows_its_routes() -> None:
    cluster = Cluster("n1", address="fd00::1")
    cluster.service("web", "203.0.113.9")
    cluster.agent_says("n1", established(1))
    assert [one.state for one in cluster.routes("n1")] == ["sent"]


def test_a_peer_that_the_agent_has_discovered_is_found_in_its_status() -> None:
    cluster = Cluster("n1")
    cluster.service("web", "203.0.113.9")
    gateway = {"mode": "DefaultGateway", "defaultGateway": {"addressFamily": "ipv4"}}
    cluster.agent_says("n1", established(1), autoDiscovery=gateway, peerAddress=None)
    assert [one.state for one in cluster.routes("n1")] == ["sent"]


def test_a_route_that_cannot_be_told_is_refused_and_the_others_are_not_held_up() -> None:
    cluster = Cluster("n1")
    cluster.service("web", "203.0.113.9")
    cluster.service("api", "203.0.113.10")
    more = {
        "advertisementType": "Service",
        "service": {"addresses": ["LoadBalancerIP"]},
        "selector": {"matchLabels": {"io.kubernetes.service.name": "api"}},
        "attributes": {"communities": {"standard": ["64512:8"]}},
    }
    cluster.advert("more", more, advertise="bgp")
    cluster.agent_says("n1", replace(established(1), refused={Family.IPV4: Refusal(count=1, why="no room")}))
    told = cluster.routes("n1")
    assert [(one.prefix, one.state, one.why) for one in told] == [
        ("203.0.113.9/32", "sent", ""),
        ("203.0.113.10/32", "refused", "no room"),
    ]


def test_a_family_that_cannot_be_told_is_refused_as_a_whole() -> None:
    cluster = Cluster("n1")
    cluster.service("web", "203.0.113.9")
    cluster.agent_says("n1", replace(established(0), unspeakable={Family.IPV4: "no next hop"}))
    assert [(one.state, one.why) for one in cluster.routes("n1")] == [("refused", "no next hop")]


def test_a_node_without_configuration_has_no_routes() -> None:
    cluster = Cluster("n1")
    cluster.service("web", "203.0.113.9")
    assert cluster.routes("n1") == []


def test_the_kinds_read_for_routes_have_no_secrets() -> None:
    kinds = bgp_report.route_kinds(slices=forms.ENDPOINT_SLICE_BETA, pools=Options(node="").pools)
    assert forms.SECRET not in kinds
    assert {forms.ENDPOINT_SLICE_BETA, bgp_forms.V2.node_config, forms.SERVICE} <= set(kinds)
