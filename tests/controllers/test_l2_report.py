"""Who answers on the LAN for what, as it is read from the API."""

from ipaddress import ip_address
from typing import Any

import msgspec

from lbipam.controllers import l2_report
from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.l2 import L2Reconciler, Options
from lbipam.controllers.l2_report import AnnouncementReport, AnnouncementsReport
from lbipam.controllers.ports import Synced, Upserted
from lbipam.core.l2 import announcements
from lbipam.kube import forms, l2
from lbipam.kube.events import EVENT, Event
from lbipam.kube.kinds import Key, Kind
from tests.builders_l2 import lan_interfaces, node, policy
from tests.builders_services import service

HOW = l2_report.options(slices=forms.ENDPOINT_SLICE, namespace="kube-system")


class Cluster:
    """Objects of a cluster."""

    def __init__(self, *nodes: str) -> None:
        self.cache = Cache()
        self.changes: list[Change] = []
        for kind in HOW.watched:
            self.cache.store(Synced(kind=kind))
        for name in nodes:
            self.put(forms.NODE, node(name))
        self.put(l2.ANNOUNCEMENT_POLICY, policy())
        self.put(forms.SERVICE, service("web", "203.0.113.9"))

    def put(self, kind: Kind, thing: Any) -> None:
        change = self.cache.store(Upserted(kind=kind, object=thing))
        assert change is not None
        self.changes.append(change)

    def lives(self, name: str) -> None:
        """The Lease of a node whose agent runs."""
        told = l2.Told(duration_seconds=3, interfaces=("eth0",), chosen_interfaces=("eth0",))
        body = l2.lease_body(Key("kube-system", l2.lease_name(name)), name, told=told, now=0.0)
        self.put(forms.LEASE, msgspec.convert(body, forms.Lease))

    def agent_tells(self, name: str, event: announcements.Event, at: str) -> None:
        """What the agent of a node records of what happened on the wire."""
        agent = L2Reconciler(self.cache, Options(node=name, timing=HOW.timing), 0.0)
        agent.see(lan_interfaces("eth0"))
        for change in self.changes:
            agent.observe(change, 0.0)
        agent.reconcile(0.0)
        (told,) = agent.tell(event)
        written = {"metadata": {"name": f"{name}.{at}"}, "reason": told.reason, "message": told.message}
        thing = msgspec.convert(written | {"lastTimestamp": at}, Event)
        self.cache.store(Upserted(kind=EVENT, object=thing))

    def report(self) -> AnnouncementsReport:
        return l2_report.announcements(self.cache, self.changes, HOW)


ADDRESS = ip_address("203.0.113.9")
TAKEN = announcements.Announced(interface="eth0", address=ADDRESS)
CLAIMED = announcements.Conflict(
    interface="eth0", address=ADDRESS, rival=b"\2\0\0\0\0\x09", stage=announcements.Stage.CONFLICT
)


def test_an_address_is_told_with_its_node_and_since_when() -> None:
    cluster = Cluster("n1")
    cluster.lives("n1")
    cluster.agent_tells("n1", TAKEN, "2026-01-01T00:00:00Z")
    report = cluster.report()
    assert report.announcements == [
        AnnouncementReport(
            address="203.0.113.9", node="n1", services=["default/web"], since="2026-01-01T00:00:00Z"
        )
    ]
    assert report.all_held


def test_what_other_nodes_told_before_says_nothing_of_the_one_that_answers() -> None:
    cluster = Cluster("n1", "n2")
    cluster.lives("n2")
    cluster.agent_tells("n1", TAKEN, "2026-01-01T00:00:00Z")
    (told,) = cluster.report().announcements
    assert (told.node, told.since) == ("n2", "")


def test_a_node_whose_lease_is_not_told_of_is_dead() -> None:
    (told,) = Cluster("n1").report().announcements
    assert (told.node, told.problem) == ("", "no node that lives may answer for it")
    assert not Cluster("n1").report().all_held


def test_a_rival_is_told_until_the_address_is_announced_again() -> None:
    cluster = Cluster("n1")
    cluster.lives("n1")
    cluster.agent_tells("n1", TAKEN, "2026-01-01T00:00:00Z")
    cluster.agent_tells("n1", CLAIMED, "2026-01-01T00:00:05Z")
    (told,) = cluster.report().announcements
    assert told.problem == "02:00:00:00:00:09 on eth0 of node n1 claims 203.0.113.9 too"
    assert not cluster.report().all_held
    cluster.agent_tells("n1", TAKEN, "2026-01-01T00:00:09Z")
    (told,) = cluster.report().announcements
    assert (told.problem, told.since) == ("", "2026-01-01T00:00:09Z")


def test_a_problem_is_told_of_an_address_until_any_node_announces_it() -> None:
    cluster = Cluster("n1", "n2")
    cluster.agent_tells("n1", CLAIMED, "2026-01-01T00:00:00Z")

    def problems() -> tuple[str, ...]:
        return l2_report.problems(cluster.cache.objects(EVENT).values(), ["203.0.113.9"])

    assert problems() == ("02:00:00:00:00:09 on eth0 of node n1 claims 203.0.113.9 too",)
    cluster.agent_tells("n2", TAKEN, "2026-01-01T00:00:01Z")
    assert problems() == ()
