"""The BGP kinds as the API server is told of them."""

from collections.abc import Callable
from typing import Any

import pytest

from lbipam.kube.crds import bgp

KINDS: list[tuple[Callable[[], dict[str, Any]], str, str, bool]] = [
    (bgp.cluster_config, "ciliumbgpclusterconfigs", "cbgpcluster", True),
    (bgp.peer_config, "ciliumbgppeerconfigs", "cbgppeer", True),
    (bgp.advertisement, "ciliumbgpadvertisements", "cbgpadvert", False),
    (bgp.node_config, "ciliumbgpnodeconfigs", "cbgpnode", True),
    (bgp.node_override, "ciliumbgpnodeconfigoverrides", "cbgpnodeoverride", False),
]


def spec_of(crd: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    fields: dict[str, Any] = properties["spec"]["properties"]
    return fields


def messages(schema: dict[str, Any]) -> list[str]:
    return [rule["message"] for rule in schema["x-kubernetes-validations"]]


@pytest.mark.parametrize(("build", "plural", "short", "has_status"), KINDS)
def test_names_and_versions_are_ciliums(
    build: Callable[[], dict[str, Any]], plural: str, short: str, has_status: bool
) -> None:
    crd = build()
    names = crd["spec"]["names"]
    assert crd["metadata"]["name"] == f"{plural}.cilium.io"
    assert (names["plural"], names["shortNames"]) == (plural, [short])
    assert names["categories"] == ["cilium", "ciliumbgp"]
    v2, alpha = crd["spec"]["versions"]
    assert (v2["name"], v2["storage"], alpha["name"], alpha["deprecated"]) == ("v2", True, "v2alpha1", True)
    assert ("subresources" in v2) is has_status
    assert [column["name"] for column in v2["additionalPrinterColumns"]] == ["Age"]


def test_a_cluster_has_one_to_sixteen_instances_merged_by_name() -> None:
    instances = spec_of(bgp.cluster_config())["bgpInstances"]
    assert (instances["minItems"], instances["maxItems"]) == (1, 16)
    assert instances["x-kubernetes-list-map-keys"] == ["name"]


def test_a_peer_may_have_any_as_number_and_an_instance_may_not() -> None:
    instance = spec_of(bgp.cluster_config())["bgpInstances"]["items"]["properties"]
    peer = instance["peers"]["items"]["properties"]
    assert (instance["localASN"]["minimum"], instance["localASN"]["maximum"]) == (1, 2**32 - 1)
    assert (peer["peerASN"]["minimum"], peer["peerASN"]["default"]) == (0, 0)


def test_discovery_says_what_it_misses_in_ciliums_words() -> None:
    peer = spec_of(bgp.cluster_config())["bgpInstances"]["items"]["properties"]["peers"]["items"]
    assert messages(peer["properties"]["autoDiscovery"]) == [
        "defaultGateway must be set when mode is DefaultGateway",
        "unnumbered must be set when mode is Unnumbered",
    ]


def test_a_node_config_has_three_rules_for_its_peers() -> None:
    peer = spec_of(bgp.node_config())["bgpInstances"]["items"]["properties"]["peers"]["items"]
    assert messages(peer) == [
        "peerAddress must be an IPv6 link-local address (fe80::/10) when peerInterface is set",
        "localAddress must not be set when peerInterface is set",
        "one of peerAddress or autoDiscovery must be set",
    ]


def test_the_older_version_takes_a_local_port_with_which_nothing_is_done() -> None:
    v2, alpha = bgp.peer_config()["spec"]["versions"]
    ports = [
        set(one["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["transport"]["properties"])
        for one in (v2, alpha)
    ]
    assert ports == [{"peerPort"}, {"peerPort", "localPort"}]


def test_the_timers_have_the_defaults_of_cilium() -> None:
    timers = spec_of(bgp.peer_config())["timers"]["properties"]
    assert {name: timer["default"] for name, timer in timers.items()} == {
        "connectRetryTimeSeconds": 120,
        "holdTimeSeconds": 90,
        "keepAliveTimeSeconds": 30,
    }


def test_an_advertisement_names_what_its_type_needs() -> None:
    item = spec_of(bgp.advertisement())["advertisements"]["items"]
    assert messages(item) == [
        "service field is required for the 'Service' advertisementType",
        "service field is not allowed for non-'Service' advertisementType",
        "interface field is required for the 'Interface' advertisementType",
        "interface field is not allowed for non-'Interface' advertisementType",
        "selector field is not allowed for the 'PodCIDR' advertisementType",
    ]
