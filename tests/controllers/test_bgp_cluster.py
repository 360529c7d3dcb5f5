"""Cluster-wide BGP configuration becomes one configuration per node."""

from typing import Any

import msgspec
import pytest

from lbipam.controllers.bgp_cluster import EVERYTHING_AT_ONCE, BgpCluster, Options
from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.ports import (
    Action,
    Apply,
    Create,
    Delete,
    EmitEvent,
    Gone,
    Item,
    JsonPatch,
    Refused,
    Synced,
)
from lbipam.controllers.workqueue import WorkQueue
from lbipam.kube import bgp_forms, forms
from tests.builders_bgp import World, instance, neighbor, peer, router

NOW = 1_800_000_000.0


class Cluster(World):
    """A world whose server does at once what the reconciler asks for."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.queue: WorkQueue[Item] = WorkQueue()
        self.reconciler = BgpCluster(cache=self.cache, queue=self.queue, options=Options(**options))
        for kind in self.reconciler.kinds:
            self.cache.store(Synced(kind=kind))
        self.reconciler.lead()

    def look(self) -> tuple[Action, ...]:
        return self.reconciler.reconcile(EVERYTHING_AT_ONCE, NOW)

    def concerns(self, change: Change) -> bool:
        """Whether the change makes the reconciler look again."""
        self.queue.clear()
        self.reconciler.observe(change)
        return len(self.queue) > 0

    def settle(self) -> list[Action]:
        """Do everything asked for until nothing is; all that was done, in order."""
        done: list[Action] = []
        for _ in range(5):
            actions = [one for one in self.look() if not isinstance(one, EmitEvent)]
            if not actions:
                return done
            for action in actions:
                self._do(action)
            done += actions
        raise AssertionError("it never rests")

    def _do(self, action: Action) -> None:
        match action:
            case Delete(kind=kind, key=key):
                self.remove(kind, key.name)
            case Create(kind=kind, key=key, body=body):
                self.put(kind, key.name, spec=body["spec"], metadata={**body["metadata"]})
            case JsonPatch(kind=kind, key=key, operations=(test, owner, spec)):
                assert test["value"] == self.cache.objects(kind)[key].metadata.resource_version
                self.put(kind, key.name, spec=spec["value"], metadata={"ownerReferences": owner["value"]})
            case Apply(kind=kind, key=key, body=body):
                known = self.cache.objects(kind)[key]
                self.put(
                    kind,
                    key.name,
                    spec=forms_spec(known),
                    status=body["status"],
                    metadata={"annotations": known.metadata.annotations or {}},
                )
            case _:
                raise AssertionError(action)

    def told(self) -> dict[str, str]:
        """Node name → the name of the configuration it has."""
        return {
            key.name: config.metadata.owner_references[0].name
            for key, config in sorted(self.cache.objects(bgp_forms.V2.node_config).items())
        }

    def conditions(self, name: str) -> dict[str, tuple[str, str, str]]:
        found = next(
            config
            for kind in (bgp_forms.V2.cluster_config, bgp_forms.V2.peer_config)
            for key, config in self.cache.objects(kind).items()
            if key.name == name
        )
        return {one.type: (one.status, one.reason, one.message) for one in found.status.conditions}


def settled(**selector: Any) -> Cluster:
    """Node n1 of rack a has the configuration `bgp`."""
    cluster = Cluster()
    cluster.node("n1", rack="a")
    cluster.cluster("bgp", **selector)
    cluster.settle()
    return cluster


def forms_spec(thing: Any) -> Any:
    return msgspec.to_builtins(thing.spec)


def test_every_selected_node_gets_one_configuration_owned_by_the_clusters() -> None:
    cluster = Cluster()
    cluster.node("n1", rack="a")
    cluster.node("n2", rack="b")
    cluster.cluster(
        "bgp", instance("main", peer("tor", peerConfigRef={"name": "x"})), matchLabels={"rack": "a"}
    )
    cluster.settle()
    assert cluster.told() == {"n1": "bgp"}
    config = next(iter(cluster.cache.objects(bgp_forms.V2.node_config).values()))
    assert config.metadata.owner_references[0].controller
    assert config.metadata.owner_references[0].kind == "CiliumBGPClusterConfig"
    assert config.spec.bgp_instances[0].peers[0].peer_config_ref.name == "x"


def test_without_a_node_selector_every_node_is_selected() -> None:
    cluster = Cluster()
    cluster.node("n1")
    cluster.node("n2")
    cluster.cluster("bgp")
    cluster.settle()
    assert cluster.told() == {"n1": "bgp", "n2": "bgp"}


def test_a_node_that_loses_its_label_loses_its_configuration() -> None:
    cluster = settled(matchLabels={"rack": "a"})
    cluster.node("n1")
    assert [type(action) for action in cluster.settle()] == [Delete, Apply]
    assert cluster.told() == {}
    assert cluster.conditions("bgp")["cilium.io/NoMatchingNode"] == (
        "True",
        "NoMatchingNode",
        "No node matches spec.nodeSelector",
    )


def test_configurations_of_a_deleted_cluster_configuration_go_with_it() -> None:
    cluster = settled()
    cluster.remove(bgp_forms.V2.cluster_config, "bgp")
    cluster.settle()
    assert cluster.told() == {}


def test_the_configuration_a_node_has_stays_when_an_older_one_comes_to_select_it() -> None:
    cluster = Cluster()
    cluster.node("n1", rack="a")
    cluster.cluster("late", created="2026-02-01T00:00:00Z", matchLabels={"rack": "a"})
    cluster.settle()
    cluster.cluster("early", created="2026-01-01T00:00:00Z")
    cluster.settle()
    assert cluster.told() == {"n1": "late"}
    assert cluster.conditions("early")["cilium.io/ConflictingClusterConfig"] == (
        "True",
        "ConflictingClusterConfigs",
        "Selecting the same node(s) with ClusterConfig(s): [late]",
    )
    assert cluster.conditions("late")["cilium.io/ConflictingClusterConfig"][0] == "False"


def test_of_two_that_select_a_new_node_the_older_gets_it() -> None:
    cluster = Cluster()
    cluster.cluster("b", created="2026-01-01T00:00:00Z")
    cluster.cluster("a", created="2026-02-01T00:00:00Z")
    cluster.node("n1")
    cluster.settle()
    assert cluster.told() == {"n1": "b"}


def test_the_loser_takes_over_when_the_holder_goes() -> None:
    cluster = Cluster()
    cluster.node("n1")
    cluster.cluster("a")
    cluster.cluster("b")
    cluster.settle()
    cluster.remove(bgp_forms.V2.cluster_config, "a")
    cluster.settle()
    assert cluster.told() == {"n1": "b"}
    assert cluster.conditions("b")["cilium.io/ConflictingClusterConfig"] == (
        "False",
        "ConflictingClusterConfigs",
        "",
    )


def test_missing_peer_configurations_are_named_in_order() -> None:
    cluster = Cluster()
    cluster.node("n1")
    cluster.peer_config("there")
    peers = [peer(name, peerConfigRef={"name": name}) for name in ("zz", "there", "aa")]
    cluster.cluster("bgp", instance("main", *peers))
    cluster.settle()
    assert cluster.conditions("bgp")["cilium.io/MissingPeerConfigs"] == (
        "True",
        "MissingPeerConfigs",
        "Referenced CiliumBGPPeerConfig(s) are missing: [aa zz]",
    )


def test_a_missing_secret_is_told_on_the_peer_configuration() -> None:
    cluster = Cluster()
    cluster.peer_config("tor", authSecretRef="md5")
    cluster.settle()
    assert cluster.conditions("tor")["cilium.io/MissingAuthSecret"] == (
        "True",
        "MissingAuthSecret",
        'Referenced Auth Secret "md5" is missing',
    )
    cluster.put(forms.SECRET, "md5", namespace="kube-system")
    cluster.settle()
    assert cluster.conditions("tor")["cilium.io/MissingAuthSecret"][0] == "False"


def test_what_an_override_says_replaces_what_the_cluster_says() -> None:
    cluster = Cluster()
    cluster.node("n1")
    cluster.cluster("bgp", instance("main", peer("tor"), localPort=179))
    change = {
        "name": "main",
        "routerID": "10.9.9.9",
        "localPort": 1179,
        "localASN": 65001,
        "peers": [{"name": "tor", "localAddress": "10.0.0.7"}],
    }
    cluster.put(bgp_forms.V2.node_override, "n1", spec={"bgpInstances": [change, {"name": "other"}]})
    cluster.settle()
    (told,) = next(iter(cluster.cache.objects(bgp_forms.V2.node_config).values())).spec.bgp_instances
    assert (told.router_id, told.local_port, told.local_asn) == ("10.9.9.9", 1179, 65001)
    assert told.peers[0].local_address == "10.0.0.7"


def test_a_configuration_that_nobodys_controller_wrote_is_left_alone() -> None:
    cluster = Cluster()
    cluster.node("n1")
    cluster.put(bgp_forms.V2.node_config, "n1", spec={"bgpInstances": [instance("mine")]})
    cluster.cluster("bgp")
    assert not any(isinstance(action, Create | JsonPatch | Delete) for action in cluster.settle())


def test_a_status_that_the_definition_does_not_have_is_sent_once() -> None:
    cluster = Cluster()
    cluster.cluster("bgp")
    (lost,) = cluster.look()
    assert isinstance(lost, Apply)
    cluster.reconciler.answered(EVERYTHING_AT_ONCE, Gone(), NOW)
    assert cluster.look() == ()
    cluster.cluster("bgp", matchLabels={"rack": "a"})
    assert cluster.look() == ()
    cluster.node("n1", rack="a")
    assert any(isinstance(one, Apply) for one in cluster.look())


def test_a_status_that_the_server_refused_is_sent_again() -> None:
    cluster = Cluster()
    cluster.cluster("bgp")
    first = cluster.look()
    cluster.reconciler.answered(EVERYTHING_AT_ONCE, Refused(code=403, reason="Forbidden", message=""), NOW)
    assert cluster.look() == first != ()


def test_a_status_that_somebody_took_away_is_written_again() -> None:
    cluster = settled()
    assert cluster.look() == ()
    cluster.cluster("bgp")
    assert any(isinstance(one, Apply) for one in cluster.look())


def test_a_selector_that_does_not_compile_keeps_what_it_has_and_is_reported() -> None:
    cluster = settled(matchLabels={"rack": "a"})
    cluster.cluster("bgp", matchExpressions=[{"key": "rack", "operator": "In"}])
    cluster.node("n2", rack="a")
    (event,) = [one for one in cluster.look() if isinstance(one, EmitEvent)]
    assert event.reason == "InvalidNodeSelector"
    cluster.settle()
    assert cluster.told() == {"n1": "bgp"}


def test_a_node_that_is_gone_loses_its_configuration() -> None:
    cluster = settled()
    assert cluster.concerns(cluster.remove(forms.NODE, "n1"))
    cluster.settle()
    assert cluster.told() == {}


def test_one_legacy_policy_rules_over_cluster_configurations() -> None:
    cluster = Cluster()
    cluster.node(
        "n1", annotations={"cilium.io/bgp-virtual-router.64512": "router-id=10.1.1.1,local-port=1790"}
    )
    cluster.cluster("bgp")
    cluster.policy("old", router(64512, neighbor("10.0.0.1/32"), neighbor("fd00::1/128")))
    cluster.settle()
    assert cluster.told() == {"n1": "old"}
    (told,) = next(iter(cluster.cache.objects(bgp_forms.V2.node_config).values())).spec.bgp_instances
    assert (told.name, told.router_id, told.local_port) == ("virtual-router-64512", "10.1.1.1", 1790)
    assert [one.peer_address for one in told.peers] == ["10.0.0.1", "fd00::1"]


def test_what_is_twice_in_a_legacy_policy_is_told_once_and_reported_on_it() -> None:
    cluster = Cluster()
    cluster.node("n1")
    twice = (neighbor("10.0.0.1/32"), neighbor("10.0.0.1/32", peerPort=1179))
    cluster.policy("old", router(0), router(64512, *twice), router(64512, neighbor("10.0.0.2/32")))
    events = [one for one in cluster.look() if isinstance(one, EmitEvent)]
    assert {(one.kind, one.reason, one.message) for one in events} == {
        (bgp_forms.PEERING_POLICY, "InvalidVirtualRouter", f"virtual-router-{problem}")
        for problem in (
            "0: 0 is no localASN: the virtual router is left out",
            "64512: neighbor 10.0.0.1/32 is there twice: the first counts",
            "64512: localASN 64512 is there twice: the first counts",
        )
    }
    cluster.settle()
    (told,) = next(iter(cluster.cache.objects(bgp_forms.V2.node_config).values())).spec.bgp_instances
    assert (told.name, [one.name for one in told.peers]) == ("virtual-router-64512", ["10.0.0.1"])


def test_a_legacy_policy_with_nothing_that_holds_tells_nodes_nothing() -> None:
    cluster = Cluster()
    cluster.node("n1")
    cluster.policy("old")
    cluster.settle()
    cluster.policy("old", router(0))
    cluster.settle()
    assert cluster.told() == {}


def test_two_legacy_policies_on_a_node_end_all_its_sessions() -> None:
    cluster = Cluster()
    cluster.node("n1")
    cluster.cluster("bgp")
    cluster.policy("one")
    cluster.settle()
    cluster.policy("two")
    cluster.settle()
    assert cluster.told() == {}


def test_a_malformed_router_annotation_is_reported_on_the_node() -> None:
    cluster = Cluster()
    name = "cilium.io/bgp-virtual-router.64512"
    cluster.node("n1", annotations={name: "router-id=ten,local-port=0,colour=red"})
    cluster.policy("old")
    events = [one for one in cluster.look() if isinstance(one, EmitEvent)]
    assert [(one.kind, one.reason) for one in events] == [(forms.NODE, "InvalidAnnotation")] * 3


def test_what_is_written_is_of_the_version_that_the_server_has() -> None:
    old = bgp_forms.V2_ALPHA
    cluster = Cluster(kinds=old)
    cluster.node("n1")
    config = {"bgpInstances": [instance()]}
    cluster.put(old.cluster_config, "bgp", spec=config)
    create = next(one for one in cluster.look() if isinstance(one, Create))
    assert (create.kind, create.body["apiVersion"]) == (old.node_config, "cilium.io/v2alpha1")
    assert create.body["metadata"]["ownerReferences"][0]["apiVersion"] == "cilium.io/v2alpha1"


def test_nothing_is_written_before_everything_is_known() -> None:
    reconciler = BgpCluster(cache=Cache(), queue=WorkQueue(), options=Options())
    reconciler.lead()
    assert reconciler.reconcile(EVERYTHING_AT_ONCE, NOW) == ()


def test_a_follower_writes_nothing_and_a_new_leader_looks_at_once() -> None:
    cluster = Cluster()
    cluster.node("n1")
    cluster.cluster("bgp")
    cluster.reconciler.follow()
    assert cluster.look() == ()
    cluster.queue.clear()
    cluster.reconciler.lead()
    assert len(cluster.queue) == 1
    assert cluster.look()


def test_everything_is_looked_at_when_the_last_kind_has_synced() -> None:
    cluster = Cluster()
    cluster.queue.clear()
    cluster.reconciler.synced()
    assert len(cluster.queue) == 1
    waiting: WorkQueue[Item] = WorkQueue()
    BgpCluster(cache=Cache(), queue=waiting, options=Options()).synced()
    assert len(waiting) == 0


def test_what_was_not_written_is_looked_at_again() -> None:
    cluster = Cluster()
    cluster.queue.clear()
    assert cluster.reconciler.answered(EVERYTHING_AT_ONCE, Gone(), NOW) == ()
    assert cluster.queue.wake_at() is not None


def test_a_complaint_is_made_once_as_long_as_it_stands() -> None:
    cluster = Cluster()
    cluster.cluster("bgp", matchExpressions=[{"key": "rack", "operator": "In"}])
    first, second = cluster.look(), cluster.look()
    assert any(isinstance(one, EmitEvent) for one in first)
    assert not any(isinstance(one, EmitEvent) for one in second)


@pytest.mark.parametrize(("rack", "matters"), [("a", False), ("b", True)])
def test_a_nodes_heartbeat_does_not_matter_and_its_labels_do(rack: str, matters: bool) -> None:
    cluster = Cluster()
    cluster.node("n1", rack="a")
    assert cluster.concerns(cluster.node("n1", rack=rack)) is matters


def test_only_the_coming_and_going_of_our_secrets_matters() -> None:
    cluster = Cluster()
    assert not cluster.concerns(cluster.put(forms.SECRET, "s", namespace="default"))
    assert cluster.concerns(cluster.put(forms.SECRET, "s", namespace="kube-system"))
    assert not cluster.concerns(
        cluster.put(forms.SECRET, "s", namespace="kube-system", data={"password": "eA=="})
    )
    assert cluster.concerns(cluster.remove(forms.SECRET, "s", namespace="kube-system"))
