"""Who announces which address, as every node works it out for itself."""

import json
from ipaddress import ip_address
from typing import Any

import msgspec

from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.l2 import NOTHING, Direction, L2Reconciler, Options, Wanted
from lbipam.controllers.ports import Deleted, Severity, Synced, Upserted
from lbipam.core.l2 import announcements, election
from lbipam.kube import forms, l2
from lbipam.kube.kinds import Key, Kind
from tests.builders_l2 import lan_interfaces, node, policy
from tests.builders_services import endpoint, endpoint_slice, service

TIMING = election.Timing(duration_seconds=4.0, renew_deadline_seconds=2.0)
NAMESPACE = "kube-system"


class Member:
    """One node: its cache and its reconciler."""

    def __init__(self, name: str, *, synced: bool = True) -> None:
        self.name = name
        self.cache = Cache()
        self.options = Options(node=name, timing=TIMING)
        self.reconciler = L2Reconciler(self.cache, self.options, 100.0)
        if synced:
            for kind in self.options.watched:
                self.cache.store(Synced(kind=kind))

    def see(self, event: Upserted | Deleted, now: float) -> None:
        change = self.cache.store(event)
        if change is not None:
            self.reconciler.observe(change, now)


class Lan:
    """Nodes that share one API server, whose writes they all see at once and in order."""

    def __init__(self, *names: str) -> None:
        self.now = 100.0
        self.version = 0
        self.members = {name: Member(name) for name in names}
        for name in names:
            self.put(forms.NODE, node(name))
            self.members[name].reconciler.see(lan_interfaces("eth0"))

    def put(self, kind: Kind, thing: Any) -> None:
        self.version += 1
        body = json.loads(msgspec.json.encode(thing))
        body["metadata"]["resourceVersion"] = str(self.version)
        decoded = msgspec.convert(body, kind.form)
        for member in self.members.values():
            member.see(Upserted(kind=kind, object=decoded), self.now)

    def drop(self, kind: Kind, key: Key) -> None:
        for member in self.members.values():
            member.see(Deleted(kind=kind, key=key), self.now)

    def renew(self, name: str) -> None:
        reconciler = self.members[name].reconciler
        told, started_at = reconciler.reconcile(self.now).told, self.now
        assert told is not None
        version = str(self.version + 1)
        reconciler.renewed(version, told, started_at, self.now)
        self.put(forms.LEASE, self.lease(name, version, told))

    def lease(self, name: str, version: str, told: l2.Told) -> forms.Lease:
        key = Key(NAMESPACE, l2.lease_name(name))
        body = json.loads(
            json.dumps(l2.lease_body(key, name, told=told, now=self.now + self.version, version=version))
        )
        return msgspec.convert(body, forms.Lease)

    def see(self, name: str, lease: forms.Lease) -> None:
        """One member is told of a Lease."""
        self.members[name].see(Upserted(kind=forms.LEASE, object=lease), self.now)

    def settle(self, *alive: str) -> None:
        """Let time pass until every member has told and heard everything."""
        for _ in range(8):
            self.now += 0.5
            for name in alive or tuple(self.members):
                self.renew(name)

    def announcing(self) -> dict[str, list[str]]:
        """Address → the nodes that answer for it."""
        found: dict[str, list[str]] = {}
        for name, member in sorted(self.members.items()):
            wanted = member.reconciler.reconcile(self.now)
            for address in set().union(*wanted.addresses.values()):
                found.setdefault(str(address), []).append(name)
        return found

    def wanted(self, name: str) -> Wanted:
        return self.members[name].reconciler.reconcile(self.now)


def test_each_address_is_announced_by_exactly_one_node() -> None:
    lan = Lan("n1", "n2", "n3")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    for number in range(1, 30):
        lan.put(forms.SERVICE, service(f"s{number}", f"10.0.0.{number}"))
    lan.settle()
    found = lan.announcing()
    assert len(found) == 29
    assert all(len(nodes) == 1 for nodes in found.values())
    assert {node for nodes in found.values() for node in nodes} == {"n1", "n2", "n3"}


def test_a_lost_nodes_addresses_go_to_others_and_no_other_moves() -> None:
    lan = Lan("n1", "n2", "n3")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    for number in range(1, 30):
        lan.put(forms.SERVICE, service(f"s{number}", f"10.0.0.{number}"))
    lan.settle()
    before = lan.announcing()
    lan.settle("n2", "n3")
    lan.settle("n2", "n3")
    after = lan.announcing()
    for address, nodes in before.items():
        assert after[address] == nodes or nodes == ["n1"]
    assert not any(nodes == ["n1"] for nodes in after.values())


def test_leases_of_nodes_that_are_no_more_are_left_to_the_first_live_node_to_remove() -> None:
    def left_behind() -> dict[str, list[str]]:
        return {
            name: [lease.metadata.name for lease in member.reconciler.left_behind()]
            for name, member in lan.members.items()
        }

    lan = Lan("n1", "n2", "n3")
    lan.put(forms.LEASE, forms.Lease(metadata=forms.Metadata(name="another-controller", namespace=NAMESPACE)))
    lan.settle()
    lan.drop(forms.NODE, Key("", "n1"))
    lan.drop(forms.NODE, Key("", "n3"))
    assert left_behind() == {"n1": [], "n2": [], "n3": []}, "their agents live"
    lan.settle("n1", "n2")
    lan.settle("n1", "n2")
    assert left_behind()["n1"] == ["lbipam-l2-n3"]
    assert left_behind()["n2"] == []
    lan.settle("n2")
    lan.settle("n2")
    assert left_behind()["n2"] == ["lbipam-l2-n1", "lbipam-l2-n3"]
    for name in ("n1", "n3"):
        lan.drop(forms.LEASE, Key(NAMESPACE, l2.lease_name(name)))
    assert left_behind()["n2"] == []


def test_no_lease_is_removed_before_all_nodes_are_known() -> None:
    member = Member("n1", synced=False)
    member.cache.store(Synced(kind=forms.LEASE))
    gone = forms.Lease(metadata=forms.Metadata(name=l2.lease_name("n2"), namespace=NAMESPACE))
    member.see(Upserted(kind=forms.LEASE, object=gone), 100.0)
    assert member.reconciler.left_behind() == ()


def test_without_a_policy_nothing_is_announced() -> None:
    lan = Lan("n1")
    lan.put(forms.SERVICE, service("web", "10.0.0.1"))
    lan.settle()
    assert lan.announcing() == {}


def test_nothing_is_announced_before_everything_is_known() -> None:
    member = Member("n1", synced=False)
    assert member.reconciler.reconcile(0.0) is NOTHING


def test_only_nodes_that_a_policy_selects_are_candidates() -> None:
    lan = Lan("n1", "n2")
    lan.put(forms.NODE, node("n2", role="edge"))
    lan.put(l2.ANNOUNCEMENT_POLICY, policy(nodeSelector={"matchLabels": {"role": "edge"}}))
    lan.put(forms.SERVICE, service("web", "10.0.0.1"))
    lan.settle()
    assert lan.announcing() == {"10.0.0.1": ["n2"]}


def test_a_drained_or_unready_node_hands_its_addresses_over() -> None:
    for changed in (node("n2", ready=False), node("n2", annotations={"lbipam.dev/drain": "true"})):
        lan = Lan("n1", "n2")
        lan.put(l2.ANNOUNCEMENT_POLICY, policy())
        lan.put(forms.SERVICE, service("web", "10.0.0.1", annotations={"lbipam.dev/prefer-node": "n2"}))
        lan.settle()
        assert lan.announcing() == {"10.0.0.1": ["n2"]}
        lan.put(forms.NODE, changed)
        lan.settle()
        assert lan.announcing() == {"10.0.0.1": ["n1"]}
        assert lan.members["n1"].reconciler.moves[Direction.HERE] == 1
        assert lan.members["n2"].reconciler.moves[Direction.AWAY] == 1


def test_where_no_node_is_ready_those_that_are_not_answer_unless_they_are_drained() -> None:
    lan = Lan("n1", "n2")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    lan.put(forms.SERVICE, service("web", "10.0.0.1", annotations={"lbipam.dev/prefer-node": "n2"}))
    for name in lan.members:
        lan.put(forms.NODE, node(name, ready=False))
    lan.settle()
    assert lan.announcing() == {"10.0.0.1": ["n2"]}
    lan.put(forms.NODE, node("n2", ready=False, annotations={"lbipam.dev/drain": "true"}))
    lan.settle()
    assert lan.announcing() == {"10.0.0.1": ["n1"]}


def test_local_services_are_announced_where_their_endpoints_are() -> None:
    lan = Lan("n1", "n2")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    lan.put(forms.SERVICE, service("web", "10.0.0.1", externalTrafficPolicy="Local"))
    lan.settle()
    assert lan.announcing() == {}
    for name in ("n1", "n2", "n1"):
        lan.put(forms.ENDPOINT_SLICE, endpoint_slice("web", endpoint(node=name)))
        lan.settle()
        assert lan.announcing() == {"10.0.0.1": [name]}


def test_services_that_share_an_address_are_announced_by_one_node_that_serves_both() -> None:
    lan = Lan("n1", "n2", "n3")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    for name, nodes in (("a", ("n1", "n2")), ("b", ("n2", "n3"))):
        lan.put(forms.SERVICE, service(name, "10.0.0.1", externalTrafficPolicy="Local"))
        slices = [endpoint(f"10.1.0.{nodes.index(one)}", node=one) for one in nodes]
        lan.put(forms.ENDPOINT_SLICE, endpoint_slice(name, *slices))
    lan.settle()
    assert lan.announcing() == {"10.0.0.1": ["n2"]}


def test_a_node_without_a_matching_interface_is_no_candidate() -> None:
    lan = Lan("n1", "n2")
    lan.members["n1"].reconciler.see(lan_interfaces("eth1"))
    lan.put(l2.ANNOUNCEMENT_POLICY, policy(interfaces=["^eth0$"]))
    lan.put(forms.SERVICE, service("web", "10.0.0.1"))
    lan.settle()
    assert lan.announcing() == {"10.0.0.1": ["n2"]}


def test_a_node_whose_link_goes_down_gives_its_addresses_up_and_says_so() -> None:
    lan = Lan("n1", "n2")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    lan.put(forms.SERVICE, service("web", "10.0.0.1", annotations={"lbipam.dev/prefer-node": "n1"}))
    lan.settle()
    assert lan.announcing() == {"10.0.0.1": ["n1"]}
    lan.members["n1"].reconciler.see(lan_interfaces("eth0", down=("eth0",)))
    assert lan.wanted("n1").addresses == {}
    assert lan.wanted("n1").must_publish
    lan.settle()
    assert lan.announcing() == {"10.0.0.1": ["n2"]}


def test_a_policy_announces_only_services_that_it_selects() -> None:
    lan = Lan("n1")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy(serviceSelector={"matchLabels": {"tier": "web"}}))
    lan.put(forms.SERVICE, service("web", "10.0.0.1", labels={"tier": "web"}))
    lan.put(forms.SERVICE, service("api", "10.0.0.2"))
    lan.settle()
    assert lan.announcing() == {"10.0.0.1": ["n1"]}


def test_other_leases_are_passed_over() -> None:
    lan = Lan("n1")
    other = {"metadata": {"name": "kube-scheduler", "namespace": NAMESPACE}, "spec": {"holderIdentity": "x"}}
    lan.put(forms.LEASE, msgspec.convert(other, forms.Lease))
    assert lan.announcing() == {}


def test_policies_join_their_interfaces() -> None:
    lan = Lan("n1")
    lan.members["n1"].reconciler.see(lan_interfaces("eth0", "eth1", "eth2"))
    lan.put(l2.ANNOUNCEMENT_POLICY, policy("a", interfaces=["eth0"]))
    lan.put(l2.ANNOUNCEMENT_POLICY, policy("b", interfaces=["eth1"], externalIPs=True, loadBalancerIPs=False))
    lan.put(forms.SERVICE, service("web", "10.0.0.1", externalIPs=["10.0.0.1", "192.0.2.7"]))
    lan.settle()
    address, external = ip_address("10.0.0.1"), ip_address("192.0.2.7")
    assert lan.wanted("n1").addresses == {
        "eth0": frozenset({address}),
        "eth1": frozenset({address, external}),
    }


def test_an_address_is_answered_for_only_once_its_traffic_is_carried() -> None:
    lan = Lan("n1")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    for name, address in (("a", "10.0.0.1"), ("b", "10.0.0.2")):
        lan.put(forms.SERVICE, service(name, address))
    lan.settle()
    assert set(lan.announcing()) == {"10.0.0.1", "10.0.0.2"}
    a, b = Key("default", "a"), Key("default", "b")
    carried = {a: (ip_address("10.0.0.1"),)}
    lan.members["n1"].reconciler.carry(carried, {a})
    assert set(lan.announcing()) == {"10.0.0.1"}
    carried[b] = carried.pop(a)
    lan.members["n1"].reconciler.carry(carried, {a, b})
    assert set(lan.announcing()) == set()
    carried[b] = (ip_address("10.0.0.2"),)
    lan.members["n1"].reconciler.carry(carried, {b})
    assert set(lan.announcing()) == {"10.0.0.2"}


def test_the_address_of_a_node_is_answered_for_by_the_node_itself() -> None:
    lan = Lan("n1")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    no_candidate = {"lbipam.dev/drain": "true"}
    lan.put(forms.NODE, node("other", address="192.0.2.7", ready=False, annotations=no_candidate))
    lan.put(forms.SERVICE, service("web", "192.0.2.7", "10.0.0.1"))
    lan.settle()
    assert lan.announcing() == {"10.0.0.1": ["n1"]}
    lan.drop(forms.NODE, Key("", "other"))
    lan.settle()
    assert lan.announcing() == {"10.0.0.1": ["n1"], "192.0.2.7": ["n1"]}


def test_a_policy_that_is_removed_or_broken_takes_its_announcements_along() -> None:
    lan = Lan("n1")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    lan.put(forms.SERVICE, service("web", "10.0.0.1"))
    lan.settle()
    lan.put(l2.ANNOUNCEMENT_POLICY, policy(interfaces=["("]))
    assert lan.announcing() == {}
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    lan.settle()
    assert lan.announcing() == {"10.0.0.1": ["n1"]}
    lan.drop(l2.ANNOUNCEMENT_POLICY, Key("", "lan"))
    assert lan.announcing() == {}


def test_a_deleted_service_is_not_announced() -> None:
    lan = Lan("n1")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    lan.put(forms.SERVICE, service("web", "10.0.0.1"))
    lan.settle()
    lan.drop(forms.SERVICE, Key("default", "web"))
    assert lan.announcing() == {}


def test_a_node_that_cannot_renew_stops_by_itself() -> None:
    lan = Lan("n1")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    lan.put(forms.SERVICE, service("web", "10.0.0.1"))
    lan.settle()
    valid_until = lan.wanted("n1").valid_until
    assert lan.wanted("n1").look_again_at == valid_until
    lan.now = valid_until
    assert lan.announcing() == {}


def test_leases_of_other_namespaces_and_deleted_ones_say_nothing() -> None:
    lan = Lan("n1", "n2")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    lan.put(forms.SERVICE, service("web", "10.0.0.1", annotations={"lbipam.dev/prefer-node": "n2"}))
    lan.settle()
    lan.drop(forms.LEASE, Key(NAMESPACE, l2.lease_name("n2")))
    assert lan.members["n1"].reconciler.holders[ip_address("10.0.0.1")] == "n2"
    foreign = {"metadata": {"name": l2.lease_name("n2"), "namespace": "default"}, "spec": {}}
    lan.put(forms.LEASE, msgspec.convert(foreign, forms.Lease))
    assert lan.members["n1"].reconciler.holders[ip_address("10.0.0.1")] == "n2"


def test_a_list_that_tells_our_own_claim_first_hides_no_earlier_one() -> None:
    lan = Lan("n1", "n2")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    lan.settle()
    lan.put(forms.SERVICE, service("web", "10.0.0.1", annotations={"lbipam.dev/prefer-node": "n1"}))
    ours, others = lan.wanted("n1").told, lan.wanted("n2").told
    assert ours is not None
    assert others is not None
    lan.members["n1"].reconciler.renewed("1002", ours, lan.now, lan.now)
    lan.see("n1", lan.lease("n1", "1002", ours))
    lan.see("n1", lan.lease("n2", "1001", msgspec.structs.replace(others, claims=ours.claims)))
    assert lan.wanted("n1").addresses == {}
    lan.see("n1", lan.lease("n2", "1003", others))
    assert lan.wanted("n1").addresses == {"eth0": {ip_address("10.0.0.1")}}


def test_a_released_lease_moves_its_addresses_at_once() -> None:
    lan = Lan("n1", "n2")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    lan.put(forms.SERVICE, service("web", "10.0.0.1", annotations={"lbipam.dev/prefer-node": "n2"}))
    lan.settle()
    key = Key(NAMESPACE, l2.lease_name("n2"))
    released = l2.lease_body(key, "n2", told=None, now=lan.now)
    lan.put(forms.LEASE, msgspec.convert(json.loads(json.dumps(released)), forms.Lease))
    lan.renew("n1")
    assert "n1" in lan.announcing()["10.0.0.1"]


def test_an_address_that_another_host_has_is_not_handed_over_until_a_node_answers_for_it() -> None:
    address = ip_address("10.0.0.1")
    conflict = announcements.Conflict(
        interface="eth0", address=address, rival=bytes(6), stage=announcements.Stage.CONFLICT
    )
    announced = announcements.Announced(interface="eth0", address=address)
    stories: list[tuple[list[announcements.Event], set[l2.Address]]] = [
        ([conflict], set()),
        ([conflict, announced], {address}),
    ]
    for heard, handed_over in stories:
        lan = Lan("n1", "n2")
        lan.put(l2.ANNOUNCEMENT_POLICY, policy())
        lan.put(forms.SERVICE, service("web", "10.0.0.1", annotations={"lbipam.dev/prefer-node": "n2"}))
        lan.settle()
        for event in heard:
            lan.members["n2"].reconciler.heard(event)
        lan.settle()
        lan.put(forms.NODE, node("n2", annotations={"lbipam.dev/drain": "true"}))
        lan.renew("n2")
        lan.renew("n1")
        wanted = lan.wanted("n1")
        assert wanted.addresses == {"eth0": {address}}
        assert wanted.handed_over == handed_over


def test_an_address_is_handed_over_where_it_comes_first_and_not_on_an_interface_that_comes_later() -> None:
    address = ip_address("10.0.0.1")
    lan = Lan("n1", "n2")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy(interfaces=["^eth"]))
    lan.put(forms.SERVICE, service("web", "10.0.0.1", annotations={"lbipam.dev/prefer-node": "n2"}))
    lan.settle()
    reconciler = lan.members["n1"].reconciler
    reconciler.carry({}, frozenset())
    lan.put(forms.NODE, node("n2", annotations={"lbipam.dev/drain": "true"}))
    lan.settle()
    assert lan.wanted("n1").addresses == {}, "its rules do not stand yet"
    web = Key("default", "web")
    reconciler.carry({web: (address,)}, frozenset({web}))
    assert lan.wanted("n1").handed_over == {address}
    reconciler.see(lan_interfaces("eth0", "eth1"))
    wanted = lan.wanted("n1")
    assert wanted.addresses == {"eth0": {address}, "eth1": {address}}
    assert wanted.handed_over == frozenset()


def test_what_happens_on_the_wire_is_told_to_every_service_on_the_address() -> None:
    lan = Lan("n1")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    for name in ("a", "b"):
        lan.put(forms.SERVICE, service(name, "10.0.0.1"))
    lan.settle()
    lan.announcing()
    address = ip_address("10.0.0.1")
    reconciler = lan.members["n1"].reconciler
    told = reconciler.tell(announcements.Announced(interface="eth0", address=address))
    assert [str(event.key) for event in told] == ["default/a", "default/b"]
    assert told[0].message == "Node n1 announces 10.0.0.1 on eth0"
    (conflict, _) = reconciler.tell(
        announcements.Conflict(
            interface="eth0", address=address, rival=bytes(6), stage=announcements.Stage.CONFLICT
        )
    )
    assert (conflict.severity, conflict.reason) == (Severity.WARNING, "AddressConflict")
    (refused, _) = reconciler.tell(
        announcements.GroupRefused(interface="eth0", address=address, why="no buffer space")
    )
    assert (refused.severity, refused.reason) == (Severity.WARNING, "GroupRefused")
    assert reconciler.tell(announcements.InterfaceLost(interface="eth0", why="it is gone")) == ()


def test_a_change_of_no_consequence_leaves_the_candidates_alone() -> None:
    lan = Lan("n1")
    lan.put(l2.ANNOUNCEMENT_POLICY, policy())
    lan.put(forms.SERVICE, service("web", "10.0.0.1"))
    lan.settle()
    before = lan.announcing()
    member = lan.members["n1"]
    known = member.cache.objects(forms.SERVICE)[Key("default", "web")]
    member.reconciler.observe(Change(forms.SERVICE, Key("default", "web"), known, known), lan.now)
    assert lan.announcing() == before
