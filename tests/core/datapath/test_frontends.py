"""What an address and port answers with: slots, choices, and what becomes of the source."""

from ipaddress import ip_address

import pytest

from lbipam.core.datapath import maglev
from lbipam.core.datapath.frontends import Frontend, Pick, Source, Unserved, frontends
from lbipam.core.datapath.services import Algorithm, Node, Service, TrafficPolicy
from tests.core.datapath.builders import NODE, endpoint, tcp, vips

HERE, THERE = endpoint("10.1.0.2"), endpoint("10.1.1.2")
LEAVING = endpoint("10.1.0.3", ready=False, terminating=True)
LOCAL = TrafficPolicy.LOCAL


def only(service: Service, node: Node = NODE) -> Frontend:
    (frontend,) = frontends(service, node)
    return frontend


def web(*endpoints: object, **fields: object) -> Service:
    ports = (tcp(80, *endpoints),)  # type: ignore[arg-type]
    options: dict[str, object] = {"load_balancer": vips("198.19.0.1"), **fields}
    return Service(namespace="shop", name="web", ports=ports, **options)  # type: ignore[arg-type]


def test_a_local_service_numbers_its_own_endpoints_first_and_each_once() -> None:
    frontend = only(web(THERE, HERE, external_policy=LOCAL))
    assert frontend.slots == (HERE, THERE)
    assert (frontend.outside, frontend.inside) == (Pick(first=0, count=1), Pick(first=0, count=2))
    assert frontend.source is Source.KEPT


def test_leaving_endpoints_that_only_the_outside_may_have_come_before_the_others() -> None:
    frontend = only(web(THERE, LEAVING, external_policy=LOCAL))
    assert frontend.slots == (LEAVING, THERE)
    assert (frontend.outside, frontend.inside) == (Pick(first=0, count=1), Pick(first=1, count=1))


def test_without_endpoints_here_the_outside_of_a_local_service_is_dropped() -> None:
    frontend = only(web(THERE, external_policy=LOCAL))
    assert (frontend.outside, frontend.inside) == (Unserved.DROP, Pick(first=0, count=1))


def test_nobody_may_be_served_by_what_drops_them() -> None:
    frontend = only(web(THERE, external_policy=LOCAL))
    assert not frontend.may_serve(ip_address("192.0.2.9"), THERE.address, THERE.port, NODE)
    assert frontend.may_serve(NODE.addresses[0], THERE.address, THERE.port, NODE)


@pytest.mark.parametrize("policy", TrafficPolicy)
def test_without_any_endpoint_everybody_is_refused(policy: TrafficPolicy) -> None:
    for frontend in frontends(
        web(external_policy=policy, internal_policy=policy, cluster_ips=(ip_address("10.96.0.1"),)), NODE
    ):
        assert (frontend.outside, frontend.inside) == (Unserved.REFUSE, Unserved.REFUSE)
        assert not frontend.served


def test_a_maglev_table_fills_the_slots_of_external_addresses_only() -> None:
    service = web(HERE, THERE, algorithm=Algorithm.MAGLEV, cluster_ips=(ip_address("10.96.0.1"),))
    internal, external = frontends(service, NODE)
    assert len(internal.slots) == 2
    assert len(external.slots) == maglev.SLOTS
    assert external.outside == Pick(first=0, count=maglev.SLOTS, algorithm=Algorithm.MAGLEV)


def test_the_inside_of_a_local_maglev_service_picks_past_the_table() -> None:
    frontend = only(web(HERE, THERE, algorithm=Algorithm.MAGLEV, external_policy=LOCAL))
    assert frontend.inside == Pick(first=maglev.SLOTS, count=2)
    assert frontend.slots[maglev.SLOTS :] == (HERE, THERE)
    assert set(frontend.slots[: maglev.SLOTS]) == {HERE}


def test_cluster_ips_hide_nobody_while_the_nodes_pods_are_unknown() -> None:
    service = web(HERE, load_balancer=(), cluster_ips=(ip_address("10.96.0.1"),))
    assert only(service).source is Source.MASQUERADED
    assert only(service, Node(addresses=NODE.addresses)).source is Source.KEPT


def test_source_ranges_concern_load_balancer_addresses_only() -> None:
    from_somewhere = web(HERE, source_ranges=NODE.pods, external_ips=(ip_address("203.0.113.1"),))
    balanced, external = frontends(from_somewhere, NODE)
    assert balanced.restricted
    assert balanced.source_ranges == NODE.pods[:1]
    assert not external.restricted


def test_an_address_that_is_named_twice_answers_once() -> None:
    twice = web(HERE, external_ips=(ip_address("198.19.0.1"),))
    assert only(twice).address == ip_address("198.19.0.1")
