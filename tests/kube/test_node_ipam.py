"""What Services ask of nodes, and what Nodes say, as written in the API."""

from typing import Any

import msgspec
import pytest

from lbipam.core.ipam.addresses import Family
from lbipam.core.ipam.nodes import Choice, LeftOut
from lbipam.kube import forms, node_ipam
from lbipam.kube.forms import Ingress
from lbipam.kube.node_ipam import asks_for_nodes, read_node, read_request
from tests.builders import ip
from tests.builders_services import service

V4, V6 = Family.IPV4, Family.IPV6
READY = frozenset({"n1"})


def node(*addresses: tuple[str, str], **more: Any) -> forms.Node:
    """A Node with these addresses; `more` is spelled as in JSON."""
    body = {
        "metadata": {"name": "n1", **more.get("metadata", {})},
        "spec": more.get("spec", {}),
        "status": {
            "addresses": [{"type": type_, "address": address} for type_, address in addresses],
            "conditions": more.get("conditions", []),
        },
    }
    return msgspec.convert(body, forms.Node)


@pytest.mark.parametrize(
    ("spec", "without_class", "asks"),
    [
        ({"loadBalancerClass": "io.cilium/node"}, False, True),
        ({"loadBalancerClass": "io.cilium/node"}, True, True),
        ({"loadBalancerClass": "io.cilium/l2-announcer"}, True, False),
        ({}, True, True),
        ({}, False, False),
        ({"type": "NodePort"}, True, False),
    ],
)
def test_which_services_ask_for_nodes(spec: dict[str, Any], without_class: bool, asks: bool) -> None:
    assert asks_for_nodes(service(**spec), without_class=without_class) is asks


def test_a_service_that_is_being_deleted_asks_for_nothing() -> None:
    assert not asks_for_nodes(service(deleting=True), without_class=True)


@pytest.mark.parametrize(
    ("listed", "enabled", "families"),
    [
        (["IPv4"], (V4, V6), {V4}),
        (["IPv6", "IPv4"], (V4,), {V4, V6}),
        ([], (V4, V6), {V4}),
        ([], (V6,), {V6}),
    ],
)
def test_the_families_are_those_that_the_server_filled_in(
    listed: list[str], enabled: tuple[Family, ...], families: set[Family]
) -> None:
    assert read_request(service(ipFamilies=listed), enabled, READY).request.families == families


def test_what_a_request_says_of_nodes() -> None:
    annotations = {"io.cilium.nodeipam/match-node-labels": "edge=y, zone notin (a, b)"}
    reading = read_request(service(annotations=annotations), (V4,), READY)
    assert str(reading.request.selector) == "edge=y,zone notin (a,b)"
    assert reading.problem == ""


@pytest.mark.parametrize(("policy", "nodes"), [("", None), ("Cluster", None), ("Local", READY)])
def test_local_policy_asks_for_nodes_with_ready_endpoints(policy: str, nodes: frozenset[str] | None) -> None:
    reading = read_request(service(externalTrafficPolicy=policy), (V4,), READY)
    assert reading.request.nodes == nodes


def test_a_selector_that_is_none_is_a_problem() -> None:
    annotations = {"io.cilium.nodeipam/match-node-labels": "edge=(y"}
    problem = read_request(service(annotations=annotations), (V4,), READY).problem
    assert problem.startswith("The annotation io.cilium.nodeipam/match-node-labels is not valid: 'edge=(y'")


def test_an_empty_annotation_selects_every_node() -> None:
    reading = read_request(service(annotations={"io.cilium.nodeipam/match-node-labels": ""}), (V4,), READY)
    assert (str(reading.request.selector), reading.problem) == ("everything", "")


def test_the_addresses_of_a_node_without_those_that_are_none() -> None:
    read = read_node(
        node(
            ("InternalIP", "10.0.0.1"),
            ("InternalIP", "fd00::1"),
            ("Hostname", "n1"),
            ("ExternalIP", "192.0.2.1"),
            ("ExternalIP", "n1.example.org"),
        )
    )
    assert read.internal == (ip("10.0.0.1"), ip("fd00::1"))
    assert read.external == (ip("192.0.2.1"),)
    assert read.barred is None


@pytest.mark.parametrize(
    ("more", "barred"),
    [
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, LeftOut.BEING_DELETED),
        (
            {"metadata": {"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": ""}}},
            LeftOut.EXCLUDED,
        ),
        (
            {"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}},
            LeftOut.TO_BE_REMOVED,
        ),
        ({"spec": {"unschedulable": True}}, None),
        ({"conditions": [{"type": "Ready", "status": "False"}]}, None),
    ],
)
def test_which_nodes_are_barred(more: dict[str, Any], barred: LeftOut | None) -> None:
    assert read_node(node(("InternalIP", "10.0.0.1"), **more)).barred is barred


def test_the_sentence_counts_the_reasons() -> None:
    assert node_ipam.sentence(Choice(addresses=(), left_out={})) == "The cluster has no node"
    everything = Choice(addresses=(), left_out={why: number for number, why in enumerate(LeftOut, start=1)})
    assert node_ipam.sentence(everything) == (
        "No node has an address for this service: 1 being deleted, "
        "2 with the label node.kubernetes.io/exclude-from-external-load-balancers, "
        "3 with the taint ToBeDeletedByClusterAutoscaler, "
        "4 not selected by the annotation io.cilium.nodeipam/match-node-labels, "
        "5 without a ready endpoint, which externalTrafficPolicy Local asks for, "
        "6 without an address of the families asked for"
    )


def test_the_list_is_sorted_as_text_and_keeps_what_the_server_filled_in() -> None:
    shown = (Ingress(ip="10.0.0.9", ip_mode="VIP"), Ingress(hostname="elsewhere"))
    addresses = [ip(text) for text in ("10.0.0.9", "10.0.0.10", "fd00::1")]
    assert node_ipam.ingress(shown, addresses) == (
        Ingress(ip="10.0.0.10"),
        Ingress(ip="10.0.0.9", ip_mode="VIP"),
        Ingress(ip="fd00::1"),
    )


def test_an_apply_names_the_version_it_was_decided_on_and_the_list_alone() -> None:
    written = service("web", "10.0.0.1")
    body = node_ipam.ingress_apply(written, (Ingress(ip="10.0.0.2"),))
    assert body["metadata"] == {
        "name": "web",
        "namespace": "default",
        "uid": "uid-web",
        "resourceVersion": written.metadata.resource_version,
    }
    assert body["status"] == {"loadBalancer": {"ingress": (Ingress(ip="10.0.0.2"),)}}
    assert node_ipam.ingress_apply(written, ())["status"] == {}
