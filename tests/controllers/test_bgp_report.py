"""What is told of sessions and routes, as it is read from the API."""

from ipaddress import ip_address
from typing import Any

import msgspec

from lbipam.controllers import bgp_report
from lbipam.controllers.bgp_node import Options
from lbipam.controllers.bgp_report import RouteReport, SessionReport
from lbipam.controllers.cache import Change
from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.peers import Ending, Peer, PeerStatus
from lbipam.kube import bgp_forms, bgp_status, forms
from lbipam.kube.kinds import Kind
from tests.builders_bgp import World, instance, peer
from tests.builders_services import service

ADVERTS = [{"afi": "ipv4", "safi": "unicast", "advertisements": {"matchLabels": {"advertise": "bgp"}}}]


class Cluster(World):
    """Nodes with one peer each, which is told of every Service's addresses."""

    def __init__(self, *nodes: str) -> None:
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
            self.put(forms.NODE, node, status={"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]})

    def put(self, kind: Kind, name: str, *, namespace: str = "", **body: Any) -> Change:
        self.changes.append(super().put(kind, name, namespace=namespace, **body))
        return self.changes[-1]

    def service(self, name: str, *ingress: str) -> None:
        body = msgspec.to_builtins(service(name, *ingress))
        del body["metadata"]
        self.put(forms.SERVICE, name, namespace="default", **body)

    def agent_says(self, node: str, status: PeerStatus | None) -> None:
        """What the agent of a node writes of its one session."""
        main = instance("main", peer("tor", peerConfigRef={"name": "x"}))
        config = self.node_config(main, node=node).after
        if status is None:
            return
        wire = Peer(address=ip_address("10.0.0.1"), asn=64500)
        seen = bgp_status.observed(wire, status, clock=0.0, now=1_800_000_000.0)
        _, replacement = bgp_status.status_patch(config, {("main", "tor"): seen}, (), 1_800_000_000.0)
        written = msgspec.json.decode(msgspec.json.encode(replacement["value"]))
        self.node_config(main, node=node, status=written)

    def routes(self, *nodes: str) -> list[RouteReport]:
        options = [Options(node=node) for node in nodes]
        return bgp_report.routes(self.cache, self.changes, options).routes


def established(sent: int) -> PeerStatus:
    return PeerStatus(
        state=State.ESTABLISHED,
        since=0.0,
        asn=64500,
        families=frozenset({Family.IPV4}),
        advertised={Family.IPV4: sent},
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
        )
    ]
    assert report.all_up
    assert report.problems == {}


def test_a_session_that_is_down_is_told_with_the_reason() -> None:
    cluster = Cluster("n1")
    lost = Ending(why="no route to host")
    cluster.agent_says("n1", PeerStatus(state=State.ACTIVE, since=0.0, last_ending=lost))
    report = bgp_report.sessions(cluster.cache)
    (told,) = report.sessions
    assert (told.state, told.since, told.why) == ("active", "2027-01-15T08:00:00Z", "no route to host")
    assert not report.all_up


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
    cluster.service("api", "203.0.113.10", "2001:db8::10")
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
    cluster.agent_says("n1", PeerStatus(state=State.CONNECT, since=0.0))
    assert [one.state for one in cluster.routes("n1")] == ["down"]


def test_a_node_without_configuration_has_no_routes() -> None:
    cluster = Cluster("n1")
    cluster.service("web", "203.0.113.9")
    assert cluster.routes("n1") == []


def test_the_kinds_read_for_routes_have_no_secrets() -> None:
    kinds = bgp_report.route_kinds(slices=forms.ENDPOINT_SLICE_BETA, pools=Options(node="").pools)
    assert forms.SECRET not in kinds
    assert {forms.ENDPOINT_SLICE_BETA, bgp_forms.V2.node_config, forms.SERVICE} <= set(kinds)
