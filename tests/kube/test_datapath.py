"""Services, slices and Nodes into what a node must know."""

from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
import pytest

from lbipam.core.datapath import services
from lbipam.kube import datapath, endpoints, forms
from tests.builders_services import endpoint, endpoint_slice, service

HTTP = {"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}
DNS = {"name": "dns", "port": 53, "protocol": "UDP"}


def read(written: forms.Service, *slices: forms.EndpointSlice) -> datapath.Reading:
    return datapath.read_service(written, [endpoints.read_slice(one) for one in slices], "n1")


def known(written: forms.Service, *slices: forms.EndpointSlice) -> services.Service:
    reading = read(written, *slices)
    assert reading.service is not None
    assert reading.problems == ()
    return reading.service


def test_a_service_is_read_whole() -> None:
    written = service(
        "web",
        "10.0.0.1",
        clusterIP="10.96.0.1",
        clusterIPs=["10.96.0.1", "fd00:96::1"],
        externalIPs=["192.0.2.7"],
        externalTrafficPolicy="Local",
        internalTrafficPolicy="Local",
        healthCheckNodePort=31000,
        publishNotReadyAddresses=True,
        ports=[HTTP],
    )
    found = known(written)
    assert found.key == "default/web"
    assert [str(address) for address in found.cluster_ips] == ["10.96.0.1", "fd00:96::1"]
    assert found.external_ips == (ip_address("192.0.2.7"),)
    assert found.load_balancer == (services.LoadBalancerAddress(address=ip_address("10.0.0.1")),)
    assert found.external_policy is services.TrafficPolicy.LOCAL
    assert found.internal_policy is services.TrafficPolicy.LOCAL
    assert (found.health_check_node_port, found.publish_not_ready) == (31000, True)
    (port,) = found.ports
    assert (port.name, port.protocol, port.port, port.node_port) == ("http", services.Protocol.TCP, 80, 30080)


def test_each_port_has_the_endpoints_of_the_slices_that_name_it() -> None:
    ports = [
        {"name": "http", "port": 8080},
        {"name": "dns", "port": 5353, "protocol": "UDP"},
    ]
    found = known(
        service("web", ports=[HTTP, DNS]),
        endpoint_slice("web", endpoint("10.1.0.1", "n1"), endpoint("10.1.0.2", "n2"), ports=ports),
        endpoint_slice("web", endpoint("10.1.0.3"), name="b", ports=[{"name": "http", "port": 9090}]),
    )
    http, dns = found.ports
    assert [(str(one.address), one.port, one.local) for one in http.endpoints] == [
        ("10.1.0.1", 8080, True),
        ("10.1.0.2", 8080, False),
        ("10.1.0.3", 9090, True),
    ]
    assert [(str(one.address), one.port) for one in dns.endpoints] == [("10.1.0.1", 5353), ("10.1.0.2", 5353)]


def test_an_endpoint_in_two_slices_is_one() -> None:
    found = known(
        service("web", ports=[{"port": 80}]),
        endpoint_slice("web", endpoint("10.1.0.1"), name="a"),
        endpoint_slice("web", endpoint("10.1.0.1"), name="b"),
    )
    assert len(found.ports[0].endpoints) == 1


def test_a_terminating_endpoint_that_serves_is_told_as_such() -> None:
    ending = endpoint("10.1.0.1", ready=False, serving=True, terminating=True)
    (found,) = known(service("web"), endpoint_slice("web", ending)).ports[0].endpoints
    assert (found.ready, found.serving, found.terminating) == (False, True, True)


@pytest.mark.parametrize(
    "written",
    [
        service("web", clusterIP="None"),
        service("web", type="ExternalName"),
    ],
)
def test_services_that_are_not_for_node_proxies_are_none(written: forms.Service) -> None:
    assert read(written) == datapath.Reading(service=None)


def test_a_service_of_another_proxy_has_addresses_that_may_be_announced_and_nothing_to_carry() -> None:
    labels = {"service.kubernetes.io/service-proxy-name": "other"}
    found = known(service("web", "10.0.0.1", labels=labels, healthCheckNodePort=31000, ports=[HTTP]))
    assert found.addresses == (ip_address("10.0.0.1"),)
    assert (found.ports, found.health_check_node_port) == ((), 0)


def test_an_ingress_in_proxy_mode_is_left_to_the_load_balancer() -> None:
    body = msgspec.to_builtins(service("web"))
    body["status"] = {"loadBalancer": {"ingress": [{"ip": "10.0.0.1", "ipMode": "Proxy"}, {"hostname": "a"}]}}
    found = known(msgspec.convert(body, forms.Service))
    assert [one.mode for one in found.load_balancer] == [services.IPMode.PROXY]


def test_a_service_of_another_type_has_no_load_balancer_address() -> None:
    assert known(service("web", "10.0.0.1", type="NodePort")).load_balancer == ()


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ({}, 0),
        ({"sessionAffinity": "ClientIP"}, 10800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}, 60),
    ],
)
def test_affinity_lasts_three_hours_unless_told_otherwise(spec: dict[str, Any], seconds: int) -> None:
    assert known(service("web", **spec)).affinity_seconds == seconds


def test_slices_name_a_port_by_name_and_protocol() -> None:
    both = [{"name": "dns", "port": 53, "protocol": protocol} for protocol in ("TCP", "UDP")]
    of_udp = endpoint_slice("web", endpoint(), ports=[{"name": "dns", "port": 5353, "protocol": "UDP"}])
    tcp, udp = known(service("web", ports=both), of_udp).ports
    assert tcp.endpoints == ()
    assert [one.port for one in udp.endpoints] == [5353]


def test_source_ranges_come_from_the_field_and_else_from_the_older_annotation() -> None:
    older = {"service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8, fd00::/8"}
    by_field = known(service("web", annotations=older, loadBalancerSourceRanges=["192.0.2.1/24"]))
    assert by_field.source_ranges == (ip_network("192.0.2.0/24"),)
    by_annotation = known(service("web", annotations=older))
    assert by_annotation.source_ranges == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert known(service("web")).source_ranges == ()


def test_source_ranges_that_are_all_malformed_let_nobody_in() -> None:
    reading = read(service("web", loadBalancerSourceRanges=["ten"]))
    assert reading.service is not None
    assert reading.service.source_ranges == (ip_network("0.0.0.0/32"),)
    assert len(reading.problems) == 1


def test_the_algorithm_is_chosen_by_annotation() -> None:
    chosen = known(service("web", annotations={"lbipam.dev/algorithm": "maglev"}))
    assert chosen.algorithm is services.Algorithm.MAGLEV
    assert known(service("web")).algorithm is services.Algorithm.RANDOM


def test_what_cannot_be_understood_is_reported_and_the_rest_stands() -> None:
    written = service(
        "web",
        annotations={"lbipam.dev/algorithm": "best"},
        externalIPs=["x", "192.0.2.7"],
        ports=[{"port": 1, "protocol": "ICMP"}, {"port": 80}],
    )
    reading = read(written)
    assert reading.service is not None
    assert [port.port for port in reading.service.ports] == [80]
    assert reading.service.external_ips == (ip_address("192.0.2.7"),)
    assert len(reading.problems) == 3


def test_an_endpoint_in_two_slices_is_the_readier_of_both_whichever_comes_first() -> None:
    states = (endpoint("10.1.0.2"), endpoint("10.1.0.2", ready=False))
    one, other = (endpoint_slice("web", each, name=f"web-{number}") for number, each in enumerate(states))
    for slices in ((one, other), (other, one)):
        (port,) = known(service("web"), *slices).ports
        assert [each.ready for each in port.endpoints] == [True]


def test_an_endpoint_whose_node_is_not_told_may_be_here_but_is_not_known_to_be() -> None:
    (port,) = known(service("web"), endpoint_slice("web", endpoint("10.1.0.2", ""))).ports
    assert [(each.local, each.maybe_local) for each in port.endpoints] == [(False, True)]
    (port,) = known(service("web"), endpoint_slice("web", endpoint("10.1.0.2", "n2"))).ports
    assert [(each.local, each.maybe_local) for each in port.endpoints] == [(False, False)]


def test_what_is_wrong_in_a_slice_is_a_problem_of_its_service() -> None:
    wrong = endpoint_slice("web", endpoint("10.1.0.2"), ports=[{"name": "", "port": 70000}])
    reading = read(service("web"), wrong)
    assert reading.service is not None
    assert reading.service.ports[0].endpoints == ()
    assert len(reading.problems) == 1


def test_a_node_has_addresses_and_blocks_of_pods() -> None:
    body = {
        "metadata": {"name": "n1"},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:1::/64", "?"]},
        "status": {
            "addresses": [
                {"type": "ExternalIP", "address": "198.51.100.1"},
                {"type": "InternalIP", "address": "192.0.2.1"},
                {"type": "Hostname", "address": "n1"},
            ]
        },
    }
    assert datapath.read_node(msgspec.convert(body, forms.Node)) == services.Node(
        addresses=(ip_address("192.0.2.1"), ip_address("198.51.100.1")),
        pods=(ip_network("10.244.1.0/24"), ip_network("fd00:1::/64")),
    )
    older = {"metadata": {"name": "n1"}, "spec": {"podCIDR": "10.244.1.0/24"}}
    assert datapath.read_node(msgspec.convert(older, forms.Node)).pods == (ip_network("10.244.1.0/24"),)


def test_blocks_of_all_pods_are_known_besides_the_nodes_own() -> None:
    written = msgspec.convert({"metadata": {"name": "n1"}, "spec": {"podCIDR": "10.244.1.0/24"}}, forms.Node)
    node = datapath.read_node(written, (ip_network("10.1.0.0/16"),))
    assert node.pods == (ip_network("10.244.1.0/24"), ip_network("10.1.0.0/16"))
    assert node.shares_blocks
    assert not datapath.read_node(written).shares_blocks
