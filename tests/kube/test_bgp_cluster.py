"""What a node is told, and how conditions say what is wrong."""

from typing import Any

import msgspec
import pytest

from lbipam.kube import bgp_cluster, bgp_forms, forms
from lbipam.kube.conditions import Status, render, status_apply
from tests.builders_bgp import World, instance, neighbor, peer, router
from tests.real_api import RealApi
from tests.real_apply import apply, define, patch, request


def test_an_override_changes_only_the_instance_and_peer_it_names() -> None:
    world = World()
    world.cluster("bgp", instance("a", peer("p"), peer("q")), instance("b"))
    change = {"name": "a", "localASN": 7, "peers": [{"name": "q", "localAddress": "10.0.0.9"}]}
    world.put(bgp_forms.V2.node_override, "n1", spec={"bgpInstances": [change]})
    cluster = next(iter(world.cache.objects(bgp_forms.V2.cluster_config).values()))
    override = next(iter(world.cache.objects(bgp_forms.V2.node_override).values()))
    first, second = bgp_cluster.instances(cluster, override)
    assert (first.local_asn, second.local_asn) == (7, 64512)
    assert [one.local_address for one in first.peers] == [None, "10.0.0.9"]
    assert bgp_cluster.instances(cluster, None) == cluster.spec.bgp_instances


def test_a_node_configuration_carries_its_owner() -> None:
    owner = bgp_cluster.Owner(kind=bgp_forms.V2.cluster_config, name="bgp", uid="u1")
    body = bgp_cluster.node_config_body(
        bgp_forms.V2.node_config, "n1", owner, (bgp_forms.Instance(name="main", local_asn=64512),)
    )
    assert body["metadata"] == {
        "name": "n1",
        "ownerReferences": [
            {
                "apiVersion": "cilium.io/v2",
                "kind": "CiliumBGPClusterConfig",
                "name": "bgp",
                "uid": "u1",
                "controller": True,
            }
        ],
    }
    assert body["spec"] == {"bgpInstances": ({"name": "main", "localASN": 64512},)}


def test_without_trouble_all_three_conditions_are_false_and_silent() -> None:
    stands = bgp_cluster.cluster_stands(has_nodes=True, missing_peer_configs=(), conflicting=())
    assert {one.type for one in stands} == bgp_cluster.CLUSTER_CONDITIONS
    assert {(one.status, one.message) for one in stands} == {(Status.FALSE, "")}


def test_names_are_listed_as_go_prints_them() -> None:
    _, missing, conflicting = bgp_cluster.cluster_stands(
        has_nodes=True, missing_peer_configs=("b", "a"), conflicting=("d", "c", "d")
    )
    assert missing.message.endswith(" [a b]")
    assert conflicting.message.endswith(" [c d]")


@pytest.mark.parametrize(
    "text", ["router-id=fd00::1", "router-id=", "local-port=70000", "local-port=x", "what=ever", "router-id"]
)
def test_a_malformed_annotation_is_a_problem_and_the_rest_holds(text: str) -> None:
    world = World()
    world.policy("old", router(64512, neighbor("10.0.0.1/32")))
    node = world.node("n1", annotations={"cilium.io/bgp-virtual-router.64512": text}).after
    policy = next(iter(world.cache.objects(bgp_forms.PEERING_POLICY).values()))
    (told,), problems = bgp_cluster.legacy_instances(policy, node)
    assert len(problems) == 1
    assert "cilium.io/bgp-virtual-router.64512" in problems[0]
    assert (told.local_asn, told.router_id, told.local_port) == (64512, None, None)


def test_a_real_server_takes_a_nodes_configuration_and_its_changes(real_api: RealApi) -> None:
    define(real_api)
    owner_path = "/apis/cilium.io/v2/ciliumbgpclusterconfigs/for-bodies"
    cluster = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumBGPClusterConfig",
        "metadata": {"name": "for-bodies"},
        "spec": {"bgpInstances": [instance("main", peer("a"), peer("b")), instance("more")]},
    }
    uid = apply(real_api, owner_path, cluster, manager="tests")["metadata"]["uid"]
    owner = bgp_cluster.Owner(kind=bgp_forms.V2.cluster_config, name="for-bodies", uid=uid)
    path = bgp_forms.V2.node_config.path(name="for-bodies")
    body = bgp_cluster.node_config_body(
        bgp_forms.V2.node_config, "for-bodies", owner, (bgp_forms_instance(discovered(), peer("b")),)
    )
    stored = request(real_api, "POST", bgp_forms.V2.node_config.path(), body)
    for peers in ((peer("a"), peer("b", localAddress="10.0.0.9")), ()):
        known = msgspec.convert(stored, bgp_forms.NodeConfig)
        stored = patch(
            real_api, path, bgp_cluster.node_config_patch(known, owner, (bgp_forms_instance(*peers),))
        )
        (told,) = stored["spec"]["bgpInstances"]
        assert [one["name"] for one in told.get("peers", [])] == [one["name"] for one in peers]
    assert stored["metadata"]["ownerReferences"][0]["uid"] == uid
    request(real_api, "DELETE", path)
    request(real_api, "DELETE", owner_path)


def discovered() -> dict[str, Any]:
    gateway = {"mode": "DefaultGateway", "defaultGateway": {"addressFamily": "ipv4"}}
    return {"name": "a", "autoDiscovery": gateway, "peerConfigRef": {"name": "x"}}


def bgp_forms_instance(*peers: dict[str, Any]) -> bgp_forms.Instance:
    written = {"name": "main", "localASN": 64512, "peers": list(peers)}
    return msgspec.convert(written, bgp_forms.Instance)


def test_a_real_server_takes_the_conditions(real_api: RealApi) -> None:
    define(real_api)
    path = "/apis/cilium.io/v2/ciliumbgpclusterconfigs/for-conditions"
    cluster = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumBGPClusterConfig",
        "metadata": {"name": "for-conditions"},
        "spec": {"bgpInstances": [instance("main")]},
    }
    stored = apply(real_api, path, cluster, manager="tests")
    metadata = msgspec.convert(stored["metadata"], forms.Metadata)
    stands = bgp_cluster.cluster_stands(has_nodes=False, missing_peer_configs=(), conflicting=())
    conditions = render((), stands, 1, 1_800_000_000.0)
    body = status_apply(bgp_forms.V2.cluster_config, metadata, {"conditions": conditions})
    told = apply(real_api, f"{path}/status", body)["status"]["conditions"]
    assert {one["type"]: one["status"] for one in told} == {
        "cilium.io/NoMatchingNode": "True",
        "cilium.io/MissingPeerConfigs": "False",
        "cilium.io/ConflictingClusterConfig": "False",
    }
    request(real_api, "DELETE", path)
