"""What a node is told, and how conditions say what is wrong."""

import pytest

from lbipam.kube import bgp_cluster, bgp_forms
from lbipam.kube.conditions import Status
from tests.builders_bgp import World, instance, neighbor, peer, router


def test_an_override_changes_only_the_instance_and_peer_it_names() -> None:
    world = World()
    world.cluster("bgp", instance("a", peer("p"), peer("q")), instance("b"))
    change = {"name": "a", "localASN": 7, "peers": [{"name": "q", "localAddress": "10.0.0.9"}]}
    world.put(bgp_forms.NODE_OVERRIDE, "n1", spec={"bgpInstances": [change]})
    cluster = next(iter(world.cache.objects(bgp_forms.CLUSTER_CONFIG).values()))
    override = next(iter(world.cache.objects(bgp_forms.NODE_OVERRIDE).values()))
    first, second = bgp_cluster.instances(cluster, override)
    assert (first.local_asn, second.local_asn) == (7, 64512)
    assert [one.local_address for one in first.peers] == [None, "10.0.0.9"]
    assert bgp_cluster.instances(cluster, None) == cluster.spec.bgp_instances


def test_a_node_configuration_carries_its_owner_and_its_uid() -> None:
    owner = bgp_cluster.Owner(kind=bgp_forms.CLUSTER_CONFIG, name="bgp", uid="u1")
    spec = (bgp_forms.Instance(name="main", local_asn=64512),)
    body = bgp_cluster.node_config_body("n1", "u2", owner, spec)
    assert body["metadata"] == {
        "name": "n1",
        "uid": "u2",
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
    assert "uid" not in bgp_cluster.node_config_body("n1", "", owner, spec)["metadata"]


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
