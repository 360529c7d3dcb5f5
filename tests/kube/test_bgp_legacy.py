"""The policy of Cilium 1.13 into the values of the newer kinds."""

from typing import Any

from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.routes import PLAIN, RouteAttributes
from lbipam.core.ipam.labels import EVERYTHING, Operator, Requirement, Selector
from lbipam.kube import bgp, bgp_adverts, bgp_legacy
from tests.builders_bgp import World, neighbor, router

GOLD = Selector((Requirement("tier", Operator.IN, ("gold",)),))


def read(*routers: dict[str, Any], **node_labels: str) -> bgp_legacy.PolicyReading:
    return bgp_legacy.read_policy(World().policy("old", *routers).after, node_labels)


def adverts(reading: bgp_legacy.PolicyReading) -> tuple[bgp_adverts.Advert, ...]:
    (session,) = reading.sessions.values()
    return session.adverts


def test_a_neighbour_has_the_defaults_of_the_definition() -> None:
    reading = read(router(64512, neighbor("10.0.0.1/32")))
    assert reading.problems == ()
    session = reading.sessions["virtual-router-64512", "10.0.0.1"]
    assert session.settings == bgp.PeerSettings()
    assert session.adverts == ()


def test_settings_of_a_neighbour_are_read() -> None:
    one = neighbor(
        peerPort=1179,
        authSecretRef="md5",
        eBGPMultihopTTL=3,
        holdTimeSeconds=9,
        keepAliveTimeSeconds=3,
        connectRetryTimeSeconds=7,
        gracefulRestart={"enabled": True},
        families=[{"afi": "ipv4", "safi": "unicast"}],
    )
    (session,) = read(router(64512, one)).sessions.values()
    assert session.settings == bgp.PeerSettings(
        port=1179,
        secret="md5",
        multihop=3,
        hold_seconds=9,
        keepalive_seconds=3,
        connect_retry_seconds=7,
        restart_seconds=120,
        families=(bgp.FamilyAdverts(family=Family.IPV4, selector=None),),
    )


def test_services_and_pod_prefixes_are_announced_where_asked_for() -> None:
    found = adverts(read(router(64512, serviceSelector={}, exportPodCIDR=True)))
    assert [one.source for one in found] == [
        bgp_adverts.ServiceRoutes(
            types=frozenset({bgp_adverts.AddressType.LOAD_BALANCER}), selector=EVERYTHING, aggregation={}
        ),
        bgp_adverts.PodRoutes(),
    ]


def test_attributes_by_pool_are_an_advert_of_the_same_services_from_those_pools() -> None:
    special = {
        "selectorType": "CiliumLoadBalancerIPPool",
        "selector": {"matchLabels": {"tier": "gold"}},
        "communities": {"standard": ["64512:1"]},
        "localPreference": 200,
    }
    one = neighbor(advertisedPathAttributes=[special])
    plain, gold = adverts(read(router(64512, one, serviceSelector={})))
    assert plain.attributes == PLAIN
    assert isinstance(gold.source, bgp_adverts.ServiceRoutes)
    assert gold.source.pools == GOLD
    assert gold.attributes == RouteAttributes(communities=frozenset({64512 << 16 | 1}), local_preference=200)


def test_attributes_of_pod_prefixes_are_for_the_nodes_selected() -> None:
    special = {
        "selectorType": "PodCIDR",
        "selector": {"matchLabels": {"tier": "gold"}},
        "localPreference": 50,
    }
    written = router(64512, neighbor(advertisedPathAttributes=[special]), exportPodCIDR=True)
    assert len(adverts(read(written, tier="gold"))) == 2
    assert len(adverts(read(written, tier="iron"))) == 1


def test_attributes_for_what_is_not_announced_are_passed_over() -> None:
    types = ("PodCIDR", "CiliumLoadBalancerIPPool", "CiliumPodIPPool")
    one = neighbor(advertisedPathAttributes=[{"selectorType": name} for name in types])
    assert adverts(read(router(64512, one))) == ()


def test_of_two_neighbours_at_one_address_the_first_counts() -> None:
    twice = (neighbor("fd00::1/128", peerPort=1179), neighbor("FD00::0001/128"))
    reading = read(router(64512, *twice), router(64512, neighbor("10.0.0.2/32")))
    (session,) = reading.sessions.values()
    assert session.settings.port == 1179
    assert reading.problems == (
        ("virtual-router-64512", "neighbor FD00::0001/128 is there twice: the first counts"),
        ("virtual-router-64512", "localASN 64512 is there twice: the first counts"),
    )


def test_malformed_parts_are_reported_under_their_router() -> None:
    bad_selector = {"matchExpressions": [{"key": "a", "operator": "In"}]}
    special = {"selectorType": "PodCIDR", "communities": {"standard": ["x"]}}
    one = neighbor(holdTimeSeconds=3, advertisedPathAttributes=[special])
    reading = read(router(64512, one, serviceSelector=bad_selector))
    assert {name for name, _ in reading.problems} == {"virtual-router-64512"}
    assert len(reading.problems) == 3
    assert adverts(reading) == ()
