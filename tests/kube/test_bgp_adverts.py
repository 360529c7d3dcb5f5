"""Advertisements into values: what is understood, and what is reported."""

from typing import Any

import msgspec
import pytest

from lbipam.core.bgp.routes import PLAIN, RouteAttributes
from lbipam.core.ipam.labels import EVERYTHING
from lbipam.kube import bgp_adverts, bgp_forms

SERVICE: dict[str, Any] = {
    "advertisementType": "Service",
    "service": {"addresses": ["LoadBalancerIP"]},
    "selector": {},
}


def advertisement(*items: dict[str, Any], **labels: str) -> bgp_adverts.Advertisement:
    body = {"metadata": {"name": "adv", "labels": labels}, "spec": {"advertisements": list(items)}}
    return bgp_adverts.read_advertisement(msgspec.convert(body, bgp_forms.Advertisement))


def attributes(**written: Any) -> RouteAttributes:
    (advert,) = advertisement({**SERVICE, "attributes": written}).adverts
    return advert.attributes


def test_a_service_advert_says_which_addresses_of_which_services() -> None:
    item = {
        **SERVICE,
        "service": {"addresses": ["ClusterIP", "ExternalIP"], "aggregationLengthIPv4": 24},
    }
    found = advertisement(item, kind="bgp")
    assert found.labels == {"kind": "bgp"}
    (advert,) = found.adverts
    assert advert.source == bgp_adverts.ServiceRoutes(
        types=frozenset({bgp_adverts.AddressType.CLUSTER, bgp_adverts.AddressType.EXTERNAL}),
        selector=EVERYTHING,
        aggregation={4: 24},
    )


def test_without_a_selector_a_service_advert_selects_nothing_and_is_no_problem() -> None:
    found = advertisement({"advertisementType": "Service", "service": {"addresses": ["LoadBalancerIP"]}})
    assert (found.adverts, found.problems) == ((), ())


def test_pod_prefixes_and_interfaces_are_adverts_too() -> None:
    found = advertisement(
        {"advertisementType": "PodCIDR"},
        {"advertisementType": "Interface", "interface": {"name": "lo1"}},
    )
    assert [advert.source for advert in found.adverts] == [
        bgp_adverts.PodRoutes(),
        bgp_adverts.InterfaceRoutes(name="lo1"),
    ]


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (
            {"advertisementType": "Service", "selector": {}},
            "service field is required for the 'Service' advertisementType",
        ),
        (
            {**SERVICE, "advertisementType": "PodCIDR"},
            "service field is not allowed for non-'Service' advertisementType",
        ),
        (
            {"advertisementType": "Interface"},
            "interface field is required for the 'Interface' advertisementType",
        ),
        (
            {"advertisementType": "PodCIDR", "selector": {}},
            "selector field is not allowed for the 'PodCIDR' advertisementType",
        ),
        ({"advertisementType": "CiliumPodIPPool"}, "CiliumPodIPPool is not advertised"),
        ({"advertisementType": "Magic"}, "'Magic' is not an advertisementType"),
        ({**SERVICE, "service": {"addresses": ["NodeIP"]}}, "not a type of address"),
        ({**SERVICE, "selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, "needs values"),
        (
            {**SERVICE, "service": {"addresses": ["ClusterIP"], "aggregationLengthIPv4": 32}},
            "aggregationLengthIPv4 must be from 0 to 31",
        ),
        (
            {**SERVICE, "service": {"addresses": ["ClusterIP"], "aggregationLengthIPv6": -1}},
            "aggregationLengthIPv6 must be from 0 to 127",
        ),
        ({**SERVICE, "attributes": {"communities": {"standard": ["65536:1"]}}}, "is not a community"),
        ({**SERVICE, "attributes": {"communities": {"standard": ["1:2:3"]}}}, "is not a community"),
        ({**SERVICE, "attributes": {"communities": {"standard": ["¹:2"]}}}, "is not a community"),
        ({**SERVICE, "attributes": {"communities": {"large": ["1:2"]}}}, "is not a large community"),
        ({**SERVICE, "attributes": {"communities": {"wellKnown": ["nobody"]}}}, "not a well-known community"),
        ({**SERVICE, "attributes": {"localPreference": 2**32}}, "does not fit in 32 bits"),
    ],
)
def test_a_malformed_entry_is_reported_and_the_others_stand(item: dict[str, Any], problem: str) -> None:
    found = advertisement(item, {"advertisementType": "PodCIDR"})
    assert [advert.source for advert in found.adverts] == [bgp_adverts.PodRoutes()]
    assert len(found.problems) == 1
    assert found.problems[0].startswith("CiliumBGPAdvertisement adv, entry 1: ")
    assert problem in found.problems[0]


def test_communities_of_all_three_spellings_are_read() -> None:
    found = attributes(
        communities={
            "standard": ["64512:7", "4294967295"],
            "wellKnown": ["no-export"],
            "large": ["4294967295:0:1"],
        },
        localPreference=150,
    )
    assert found.communities == {64512 << 16 | 7, 0xFFFFFFFF, 0xFFFFFF01}
    assert found.large_communities == {(4294967295, 0, 1)}
    assert found.local_preference == 150


def test_a_well_known_community_has_the_number_of_the_registry() -> None:
    assert bgp_adverts.WELL_KNOWN_COMMUNITIES["blackhole"] == 0xFFFF029A


def test_joined_attributes_unite_communities_and_take_the_higher_preference() -> None:
    left = RouteAttributes(communities=frozenset({1}), local_preference=100)
    right = RouteAttributes(communities=frozenset({2}), large_communities=frozenset({(1, 2, 3)}))
    assert bgp_adverts.joined(left, right) == bgp_adverts.joined(right, left)
    assert bgp_adverts.joined(left, right) == RouteAttributes(
        communities=frozenset({1, 2}), large_communities=frozenset({(1, 2, 3)}), local_preference=100
    )
    assert bgp_adverts.joined(PLAIN, PLAIN) == PLAIN
