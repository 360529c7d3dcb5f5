"""The ruleset follows Services, endpoints and the node, and no more is computed than has changed."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbipam.controllers.cache import Cache
from lbipam.controllers.datapath import DatapathReconciler, Options
from lbipam.controllers.ports import Deleted, Synced, Upserted
from lbipam.core.datapath.ruleset import Update
from lbipam.kube import forms
from lbipam.kube.kinds import Key, Kind
from tests.builders_l2 import node
from tests.builders_services import endpoint, endpoint_slice, service

OPTIONS = Options(node="n1")


class Agent:
    """The reconciler of node n1 and its cache."""

    def __init__(self, *, synced: bool = True, blocks: tuple[str, ...] = ()) -> None:
        self.cache = Cache()
        options = replace(OPTIONS, cluster_blocks=tuple(map(ip_network, blocks)))
        self.reconciler = DatapathReconciler(self.cache, options)
        if synced:
            for kind in OPTIONS.watched:
                self.cache.store(Synced(kind=kind))

    def put(self, kind: Kind, thing: Any) -> None:
        # Objects without a version replace each other once the older one is forgotten.
        key = thing.metadata.key
        before = self.cache.objects(kind).get(key)
        self.cache.store(Deleted(kind=kind, key=key))
        change = self.cache.store(Upserted(kind=kind, object=thing))
        assert change is not None
        self.reconciler.observe(type(change)(kind, key, before, thing))

    def drop(self, kind: Kind, key: Key) -> None:
        change = self.cache.store(Deleted(kind=kind, key=key))
        if change is not None:
            self.reconciler.observe(change)

    def update(self) -> Update:
        update = self.reconciler.reconcile()
        assert update is not None
        return update


def picture(update: Update) -> dict[str, list[str]]:
    """Frontend → its endpoints."""
    return {
        frontend.key: [f"{one.address}:{one.port}" for one in frontend.slots]
        for of_service in update.services.values()
        for frontend in of_service
    }


def test_a_service_answers_with_its_endpoints() -> None:
    agent = Agent()
    agent.put(forms.SERVICE, service("web", "10.0.0.1"))
    agent.put(forms.ENDPOINT_SLICE, endpoint_slice("web", endpoint("10.1.0.1")))
    assert picture(agent.update()) == {"tcp 10.0.0.1 80": ["10.1.0.1:8080"]}
    assert agent.reconciler.carried() == {Key("default", "web"): (ip_address("10.0.0.1"),)}


def test_nothing_is_wanted_before_everything_is_known() -> None:
    assert Agent(synced=False).reconciler.reconcile() is None


def test_an_empty_cluster_wants_an_empty_ruleset_once() -> None:
    agent = Agent()
    assert picture(agent.update()) == {}
    assert agent.reconciler.reconcile() is None


def test_only_what_has_changed_is_made_anew() -> None:
    agent = Agent()
    for name, address in (("a", "10.0.0.1"), ("b", "10.0.0.2")):
        agent.put(forms.SERVICE, service(name, address))
    assert agent.update().services.keys() == {"default/a", "default/b"}
    agent.put(forms.ENDPOINT_SLICE, endpoint_slice("b", endpoint()))
    assert agent.update().services.keys() == {"default/b"}


def test_what_is_newly_carried_is_told_once() -> None:
    agent = Agent()
    a, b = Key("default", "a"), Key("default", "b")
    agent.put(forms.SERVICE, service("a"))
    agent.put(forms.SERVICE, service("b", "10.0.0.2"))
    agent.update()
    assert agent.reconciler.newly_carried() == {b: (ip_address("10.0.0.2"),)}
    agent.put(forms.SERVICE, service("a", "10.0.0.1"))
    agent.put(forms.ENDPOINT_SLICE, endpoint_slice("b", endpoint()))
    agent.update()
    assert agent.reconciler.newly_carried() == {a: (ip_address("10.0.0.1"),)}
    agent.drop(forms.SERVICE, b)
    agent.update()
    assert agent.reconciler.newly_carried() == {b: ()}
    assert agent.reconciler.newly_carried() == {}


def test_a_change_without_consequence_wants_nothing() -> None:
    agent = Agent()
    agent.put(forms.SERVICE, service("web", "10.0.0.1"))
    agent.update()
    agent.put(forms.SERVICE, service("web", "10.0.0.1", annotations={"a": "b"}))
    assert agent.reconciler.reconcile() is None


def test_a_service_that_goes_takes_its_frontends_along() -> None:
    agent = Agent()
    agent.put(forms.SERVICE, service("web", "10.0.0.1"))
    agent.update()
    agent.drop(forms.SERVICE, Key("default", "web"))
    assert agent.update().services == {"default/web": ()}


def test_endpoints_may_come_before_their_service() -> None:
    agent = Agent()
    agent.put(forms.ENDPOINT_SLICE, endpoint_slice("web", endpoint("10.1.0.1")))
    agent.update()
    agent.put(forms.SERVICE, service("web", "10.0.0.1"))
    assert picture(agent.update()) == {"tcp 10.0.0.1 80": ["10.1.0.1:8080"]}


def test_the_nodes_addresses_concern_every_service() -> None:
    agent = Agent()
    agent.put(forms.SERVICE, service("web", ports=[{"port": 80, "nodePort": 30080}]))
    assert picture(agent.update()) == {}
    agent.put(forms.NODE, node("n1"))
    assert list(picture(agent.update())) == ["tcp 192.0.2.1 30080"]
    agent.put(forms.NODE, node("n1", ready=False))
    assert agent.reconciler.reconcile() is None
    agent.drop(forms.NODE, Key("", "n1"))
    assert agent.update().node.addresses == (ip_address("192.0.2.1"),)


def test_the_addresses_of_all_nodes_are_told_without_a_look_at_any_service() -> None:
    agent = Agent()
    agent.put(forms.SERVICE, service("web", "10.0.0.1"))
    agent.put(forms.NODE, node("n1"))
    agent.update()
    agent.put(forms.NODE, node("n2", address="192.0.2.2"))
    update = agent.update()
    assert update.nodes == (ip_address("192.0.2.1"), ip_address("192.0.2.2"))
    assert update.services == {}
    agent.put(forms.NODE, node("n2", address="192.0.2.2", ready=False))
    assert agent.reconciler.reconcile() is None
    agent.drop(forms.NODE, Key("", "n2"))
    assert agent.update().nodes == (ip_address("192.0.2.1"),)


def test_blocks_are_refused_as_told() -> None:
    agent = Agent()
    assert agent.update().refused is None
    agent.reconciler.refuse((ip_network("10.0.0.0/24"),))
    assert agent.update().refused == (ip_network("10.0.0.0/24"),)
    agent.reconciler.refuse((ip_network("10.0.0.0/24"),))
    assert agent.reconciler.reconcile() is None


def test_health_checks_count_the_endpoints_of_this_node() -> None:
    agent = Agent()
    agent.put(
        forms.SERVICE,
        service("web", "10.0.0.1", externalTrafficPolicy="Local", healthCheckNodePort=31000),
    )
    agent.put(
        forms.ENDPOINT_SLICE,
        endpoint_slice("web", endpoint("10.1.0.1", "n1"), endpoint("10.1.0.2", "n2")),
    )
    agent.update()
    assert agent.reconciler.health_checks()[31000].local_endpoints == 1
    agent.put(forms.SERVICE, service("web", "10.0.0.1"))
    agent.update()
    assert agent.reconciler.health_checks() == {}


def test_no_load_balancer_is_sent_where_no_rules_stand() -> None:
    agent = Agent()
    agent.put(
        forms.SERVICE,
        service("web", "10.0.0.1", externalTrafficPolicy="Local", healthCheckNodePort=31000),
    )
    agent.put(forms.ENDPOINT_SLICE, endpoint_slice("web", endpoint("10.1.0.1", "n1")))
    agent.update()
    agent.reconciler.leave_out({"default/web": "out of range"})
    assert agent.reconciler.health_checks() == {}
    agent.reconciler.leave_out({})
    assert agent.reconciler.health_checks().keys() == {31000}


def test_problems_are_kept_until_they_are_mended() -> None:
    agent = Agent()
    agent.put(forms.SERVICE, service("web", externalIPs=["x"]))
    agent.update()
    assert list(agent.reconciler.problems) == [Key("default", "web")]
    agent.put(forms.SERVICE, service("web"))
    agent.reconciler.reconcile()
    assert agent.reconciler.problems == {}


def told(agent: Agent) -> list[tuple[Key, str]]:
    return [(event.key, event.message) for event in agent.reconciler.take_complaints()]


def test_a_problem_is_told_once_and_again_when_it_is_another() -> None:
    agent = Agent()
    for written in ("ten", "twenty"):
        agent.put(forms.SERVICE, service("web", loadBalancerSourceRanges=[written]))
        agent.reconciler.reconcile()
        ((key, message),) = told(agent)
        assert key == Key("default", "web")
        assert written in message
        agent.put(forms.SERVICE, service("web", "10.0.0.1", loadBalancerSourceRanges=[written]))
        agent.reconciler.reconcile()
        assert told(agent) == []
    agent.drop(forms.SERVICE, Key("default", "web"))
    agent.reconciler.reconcile()
    assert told(agent) == []


def test_a_service_that_the_kernel_does_not_take_is_not_carried() -> None:
    agent = Agent()
    agent.put(forms.SERVICE, service("web", "10.0.0.1"))
    agent.update()
    agent.reconciler.newly_carried()
    web = Key("default", "web")
    agent.reconciler.leave_out({"default/web": "out of range"})
    assert agent.reconciler.newly_carried() == {web: ()}
    assert agent.reconciler.carried() == {web: ()}
    ((key, message),) = told(agent)
    assert key == web
    assert "out of range" in message
    agent.reconciler.leave_out({"default/web": "out of range"})
    assert told(agent) == []
    agent.reconciler.leave_out({})
    assert agent.reconciler.newly_carried() == {web: (ip_address("10.0.0.1"),)}
    assert told(agent) == []


def test_the_first_node_by_name_speaks_for_all() -> None:
    agent = Agent()
    for name, speaks in (("n2", False), ("n1", True), ("a", False)):
        agent.put(forms.NODE, node(name))
        assert agent.reconciler.speaks_for_all is speaks


@pytest.mark.parametrize(
    ("address", "on", "is_outsider"),
    [
        ("10.9.0.1", "n1", True),
        ("10.9.0.1", "n2", False),
        ("10.1.0.9", "n1", False),
        ("192.0.2.1", "n1", False),
    ],
    ids=["a pod here", "a pod elsewhere", "of a known block", "in the node's network"],
)
def test_a_pod_of_no_known_block_is_noticed(address: str, on: str, is_outsider: bool) -> None:
    agent = Agent(blocks=("10.1.0.0/16",))
    agent.put(forms.NODE, node("n1"))
    agent.put(forms.SERVICE, service("web", "10.0.0.1"))
    agent.put(forms.ENDPOINT_SLICE, endpoint_slice("web", endpoint(address, on)))
    agent.update()
    assert agent.reconciler.outsider == (ip_address(address) if is_outsider else None)


NAMES = st.sampled_from(["a", "b"])
STEPS: st.SearchStrategy[tuple[str, str, list[str]]] = st.one_of(
    st.tuples(st.just("put"), NAMES, st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2"]), unique=True)),
    st.tuples(st.just("slice"), NAMES, st.lists(st.sampled_from(["10.1.0.1", "10.1.0.2"]), unique=True)),
    st.tuples(st.just("drop"), NAMES, st.just([])),
    st.tuples(st.just("unslice"), NAMES, st.just([])),
)


@given(steps=st.lists(STEPS, max_size=20))
@settings(max_examples=100, deadline=None)
def test_incremental_equals_rebuilt(steps: list[tuple[str, str, list[str]]]) -> None:
    agent = Agent()
    wanted = dict(agent.update().services)
    for word, name, items in steps:
        match word:
            case "put":
                agent.put(forms.SERVICE, service(name, *items))
            case "slice":
                agent.put(forms.ENDPOINT_SLICE, endpoint_slice(name, *(endpoint(one) for one in items)))
            case "drop":
                agent.drop(forms.SERVICE, Key("default", name))
            case _:
                agent.drop(forms.ENDPOINT_SLICE, Key("default", f"{name}-1"))
        update = agent.reconciler.reconcile()
        wanted |= update.services if update is not None else {}
    anew = Agent()
    for kind in (forms.SERVICE, forms.ENDPOINT_SLICE):
        for thing in agent.cache.objects(kind).values():
            anew.put(kind, thing)
    assert {name: claims for name, claims in wanted.items() if claims} == {
        name: claims for name, claims in anew.update().services.items() if claims
    }
