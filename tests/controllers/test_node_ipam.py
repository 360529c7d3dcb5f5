"""Stories of Node IPAM: what it writes, when, and what it leaves alone."""

from collections import deque
from typing import Any

import msgspec
import pytest

from lbipam.controllers.cache import Cache
from lbipam.controllers.node_ipam import NodeIpam
from lbipam.controllers.ports import (
    Apply,
    Conflict,
    ConflictCause,
    EmitEvent,
    Event,
    Gone,
    Item,
    Synced,
    Upserted,
    WriteResult,
    Written,
)
from lbipam.controllers.workqueue import WorkQueue
from lbipam.core.ipam.addresses import Family
from lbipam.kube import forms
from lbipam.kube.kinds import Key
from tests.builders_services import endpoint, endpoint_slice, service
from tests.doubles import Api

WEB: Item = (forms.SERVICE, Key("default", "web"))
CLASS: dict[str, Any] = {"loadBalancerClass": "io.cilium/node", "ipFamilies": ["IPv4"]}


def node(
    name: str, address: str, *, external: str = "", heartbeat: str = "", **labels: str | None
) -> forms.Node:
    addresses = [{"type": "InternalIP", "address": address}]
    if external:
        addresses.append({"type": "ExternalIP", "address": external})
    body = {
        "metadata": {"name": name, "labels": labels},
        "status": {"addresses": addresses, "conditions": [{"type": "Ready", "status": heartbeat or "True"}]},
    }
    return msgspec.convert(body, forms.Node)


class Leader:
    """A leading reconciler beside an API server in memory."""

    def __init__(self, *objects: Any, without_class: bool = False) -> None:
        self.api = Api()
        self.api.objects |= {forms.NODE: {}, forms.ENDPOINT_SLICE: {}}
        self.heard: deque[Event] = deque()
        self.api.watchers.append(self.heard)
        self.cache = Cache()
        self.queue: WorkQueue[Item] = WorkQueue()
        self.reconciler = NodeIpam(
            cache=self.cache, queue=self.queue, without_class=without_class, families=(Family.IPV4,)
        )
        self.writes: list[Apply] = []
        self.events: list[str] = []
        self.now = 1000.0
        self.put(*objects, settle=False)
        self.hear()
        for kind in self.reconciler.kinds:
            self.cache.store(Synced(kind=kind))
        self.reconciler.synced()
        self.reconciler.lead()
        self.settle()

    def put(self, *objects: Any, settle: bool = True) -> None:
        for one in objects:
            self.api.put(one)
            if isinstance(one, forms.Node):
                body = {"metadata": {}, "status": msgspec.to_builtins(one.status)}
                self.api.land(Apply(kind=forms.NODE, key=one.metadata.key, body=body, subresource="status"))
        if settle:
            self.settle()

    def hear(self) -> None:
        while self.heard:
            change = self.cache.store(self.heard.popleft())
            if change is not None:
                self.reconciler.observe(change)

    def settle(self) -> None:
        for _ in range(1000):
            self.hear()
            item = self.queue.take(self.now)
            if item is None:
                return
            self.carry_out(item, self.reconciler.reconcile(item, self.now))
            self.queue.put_down(item)
        raise AssertionError("it does not come to rest")

    def carry_out(self, item: Item, actions: Any) -> None:
        for action in actions:
            if isinstance(action, EmitEvent):
                self.events.append(f"{action.reason}: {action.message}")
                continue
            self.writes.append(action)
            result = self.api.land(action)
            if isinstance(result, Written) and result.object is not None:
                change = self.cache.store(Upserted(kind=action.kind, object=result.object))
                if change is not None:
                    self.reconciler.observe(change)
            self.carry_out(item, self.reconciler.answered(item, result, self.now))

    def shown(self, name: str = "web") -> list[str]:
        return self.api.shown(name)

    def waiting(self) -> float:
        (sample,) = self.reconciler.samples()
        return sample.value


def test_a_service_gets_the_addresses_of_all_nodes_in_one_write() -> None:
    leader = Leader(node("b", "10.0.0.2"), node("a", "10.0.0.1"), service(**CLASS))
    assert leader.shown() == ["10.0.0.1", "10.0.0.2"]
    assert len(leader.writes) == 1
    assert leader.writes[0].subresource == "status"
    assert leader.events == []
    assert leader.waiting() == 0


def test_a_node_that_comes_goes_or_changes_changes_the_list_once() -> None:
    leader = Leader(node("a", "10.0.0.1"), service(**CLASS))
    leader.put(node("b", "10.0.0.2"))
    assert leader.shown() == ["10.0.0.1", "10.0.0.2"]
    leader.put(node("b", "10.0.0.2", external="192.0.2.2"))
    assert leader.shown() == ["192.0.2.2"]
    leader.api.delete(forms.NODE, Key("", "b"))
    leader.settle()
    assert leader.shown() == ["10.0.0.1"]
    assert len(leader.writes) == 4


def test_a_heartbeat_is_not_even_looked_at() -> None:
    leader = Leader(node("a", "10.0.0.1"), service(**CLASS))
    leader.put(node("a", "10.0.0.1", heartbeat="Unknown"), settle=False)
    leader.hear()
    assert len(leader.queue) == 0


def test_local_policy_takes_the_nodes_with_ready_endpoints() -> None:
    local = {**CLASS, "externalTrafficPolicy": "Local"}
    nodes = [node("a", "10.0.0.1"), node("b", "10.0.0.2")]
    leader = Leader(*nodes, service(**local))
    assert leader.shown() == []
    assert leader.waiting() == 1
    leader.put(endpoint_slice("web", endpoint(node="b"), endpoint("10.1.0.2", node="a", ready=False)))
    assert leader.shown() == ["10.0.0.2"]
    assert leader.waiting() == 0
    leader.put(endpoint_slice("web", endpoint(node="b", ready=False), endpoint("10.1.0.2", node="a")))
    assert leader.shown() == ["10.0.0.1"]
    leader.api.delete(forms.ENDPOINT_SLICE, Key("default", "web-1"))
    leader.settle()
    assert leader.shown() == []


def test_the_annotation_narrows_the_nodes() -> None:
    nodes = [node("a", "10.0.0.1", edge="y"), node("b", "10.0.0.2")]
    annotations = {"io.cilium.nodeipam/match-node-labels": "edge"}
    leader = Leader(*nodes, service(annotations=annotations, **CLASS))
    assert leader.shown() == ["10.0.0.1"]
    leader.put(node("b", "10.0.0.2", edge="n"))
    assert leader.shown() == ["10.0.0.1", "10.0.0.2"]


def test_an_annotation_that_cannot_be_read_is_told_once_and_changes_nothing() -> None:
    leader = Leader(node("a", "10.0.0.1"), service(**CLASS))
    leader.put(service(annotations={"io.cilium.nodeipam/match-node-labels": "a=(b"}, **CLASS))
    leader.put(node("b", "10.0.0.2"))
    assert leader.shown() == ["10.0.0.1"]
    (told,) = leader.events
    assert told.startswith("Refused: The annotation io.cilium.nodeipam/match-node-labels is not valid")
    assert leader.waiting() == 1
    leader.put(service(**CLASS))
    assert leader.shown() == ["10.0.0.1", "10.0.0.2"]
    assert leader.waiting() == 0


def test_without_a_node_that_counts_the_reason_is_told_once() -> None:
    excluded = {"node.kubernetes.io/exclude-from-external-load-balancers": "true"}
    leader = Leader(node("a", "10.0.0.1", **excluded), service(**CLASS))
    assert leader.shown() == []
    assert leader.writes == []
    leader.put(service(**CLASS, labels={"touched": "y"}))
    (told,) = leader.events
    assert told == (
        "Refused: No node has an address for this service: "
        "1 with the label node.kubernetes.io/exclude-from-external-load-balancers"
    )
    leader.put(node("a", "10.0.0.1"))
    assert leader.shown() == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("spec", "without_class", "shown"),
    [
        ({}, False, []),
        ({}, True, ["10.0.0.1"]),
        ({"loadBalancerClass": "io.cilium/l2-announcer"}, True, []),
        ({"type": "NodePort"}, True, []),
    ],
)
def test_services_of_others_are_not_touched(
    spec: dict[str, Any], without_class: bool, shown: list[str]
) -> None:
    leader = Leader(node("a", "10.0.0.1"), service(ipFamilies=["IPv4"], **spec), without_class=without_class)
    assert leader.shown() == shown
    assert len(leader.writes) == len(shown)


def test_a_service_that_becomes_another_type_shows_no_addresses() -> None:
    leader = Leader(node("a", "10.0.0.1"), service(**CLASS))
    leader.put(service(type="ClusterIP"))
    assert leader.shown() == []
    leader.put(node("b", "10.0.0.2"))
    assert len(leader.writes) == 2


def test_a_service_that_is_being_deleted_keeps_its_addresses() -> None:
    leader = Leader(node("a", "10.0.0.1"), service(**CLASS))
    leader.put(service(deleting=True, **CLASS))
    leader.put(node("b", "10.0.0.2"))
    assert leader.shown() == ["10.0.0.1"]
    leader.api.delete(forms.SERVICE, WEB[1])
    leader.settle()
    assert len(leader.writes) == 1


def test_what_already_stands_is_not_written_again_by_a_new_leader() -> None:
    first = Leader(node("a", "10.0.0.1"), service(**CLASS))
    second = Leader(node("a", "10.0.0.1"), first.api.objects[forms.SERVICE][WEB[1]])
    assert second.shown() == ["10.0.0.1"]
    assert second.writes == []


def test_a_follower_writes_nothing_and_knows_all_when_it_leads() -> None:
    leader = Leader(node("a", "10.0.0.1"), service(**CLASS))
    leader.reconciler.follow()
    leader.put(node("b", "10.0.0.2"))
    assert leader.shown() == ["10.0.0.1"]
    leader.reconciler.lead()
    leader.settle()
    assert leader.shown() == ["10.0.0.1", "10.0.0.2"]


def test_a_write_that_was_decided_on_an_older_version_is_refused_and_decided_anew() -> None:
    leader = Leader(node("a", "10.0.0.1"), service(**CLASS))
    leader.put(node("b", "10.0.0.2"), settle=False)
    leader.hear()
    leader.api.put(service(**CLASS, labels={"touched": "y"}))
    item = leader.queue.take(leader.now)
    assert item == WEB
    leader.carry_out(item, leader.reconciler.reconcile(item, leader.now))
    leader.queue.put_down(item)
    assert leader.shown() == ["10.0.0.1"]
    leader.settle()
    assert leader.shown() == ["10.0.0.1", "10.0.0.2"]


def test_another_manager_of_the_list_is_told_of_once_and_left_alone() -> None:
    leader = Leader(node("a", "10.0.0.1"), service(**CLASS))
    owned = Conflict(cause=ConflictCause.OWNED, managers=("rival",))
    for _ in range(2):
        leader.carry_out(WEB, leader.reconciler.answered(WEB, owned, leader.now))
    assert leader.events == ["Refused: The load balancer ingress is managed by rival; lbipam leaves it alone"]
    assert leader.queue.wake_at() is None
    leader.api.delete(forms.SERVICE, WEB[1])
    leader.settle()
    assert leader.reconciler.answered(WEB, owned, leader.now) == ()
    assert leader.waiting() == 0


@pytest.mark.parametrize("result", [Conflict(cause=ConflictCause.STALE), Gone()])
def test_what_was_not_written_is_looked_at_again(result: WriteResult) -> None:
    leader = Leader(node("a", "10.0.0.1"), service(**CLASS))
    assert leader.reconciler.answered(WEB, result, leader.now) == ()
    assert leader.queue.wake_at() is not None


def test_nothing_is_written_before_all_is_known() -> None:
    cache = Cache()
    queue: WorkQueue[Item] = WorkQueue()
    reconciler = NodeIpam(cache=cache, queue=queue, without_class=True, families=(Family.IPV4,))
    reconciler.lead()
    change = cache.store(Upserted(kind=forms.SERVICE, object=service(**CLASS)))
    assert change is not None
    reconciler.observe(change)
    assert reconciler.reconcile(WEB, 1000.0) == ()
