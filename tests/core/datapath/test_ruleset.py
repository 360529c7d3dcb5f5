"""Packets through the rules, told as stories, and against the model."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbipam.core.datapath.services import (
    Algorithm,
    Endpoint,
    IPAddress,
    IPMode,
    LoadBalancerAddress,
    Node,
    Protocol,
    Service,
    ServicePort,
    TrafficPolicy,
)
from tests.core.datapath.builders import NODE, blocks, endpoint, packet, ruleset, simulated, tcp, udp, vips
from tests.core.datapath.model import Model
from tests.core.datapath.simulator import Delivered, Fate, Outcome, Packet

VIP, VIP6, CLUSTER_IP = "198.19.0.1", "fd00:19::1", "10.96.0.1"
HERE, THERE = "10.1.0.2", "10.1.1.2"
CLIENT, POD, NODE_ADDRESS = "192.0.2.9", "10.1.0.7", "192.168.0.1"
BOTH = (endpoint(HERE), endpoint(THERE))


def web(**fields: object) -> Service:
    defaults: dict[str, object] = {
        "namespace": "shop",
        "name": "web",
        "ports": (tcp(80, *BOTH, node_port=30080),),
        "cluster_ips": (ip_address(CLUSTER_IP),),
        "load_balancer": vips(VIP),
    }
    return Service(**{**defaults, **fields})  # type: ignore[arg-type]


def to(address: str, *, masqueraded: bool = False, port: int = 8080) -> Outcome:
    return Delivered(ip_address(address), port, masqueraded)


def outcomes(service: Service, source: str, destination: str, port: int = 80) -> set[Outcome]:
    return simulated(ruleset([service])).outcomes(packet(source, destination, port=port))


LOCAL = TrafficPolicy.LOCAL


@pytest.mark.parametrize(
    ("service", "source", "destination", "expected"),
    [
        pytest.param(
            web(), CLIENT, VIP, {to(HERE, masqueraded=True), to(THERE, masqueraded=True)}, id="cluster policy"
        ),
        pytest.param(web(external_policy=LOCAL), CLIENT, VIP, {to(HERE)}, id="local policy keeps the client"),
        pytest.param(web(external_policy=LOCAL), POD, VIP, {to(HERE), to(THERE)}, id="pods reach all"),
        pytest.param(
            web(external_policy=LOCAL),
            NODE_ADDRESS,
            VIP,
            {to(HERE, masqueraded=True), to(THERE, masqueraded=True)},
            id="the node reaches all",
        ),
        pytest.param(
            web(external_policy=LOCAL, ports=(tcp(80, endpoint(THERE)),)),
            CLIENT,
            VIP,
            {Fate.DROPPED},
            id="local policy without an endpoint here drops",
        ),
        pytest.param(web(), HERE, VIP, {to(HERE, masqueraded=True), to(THERE)}, id="hairpin"),
        pytest.param(
            web(ports=(tcp(80, endpoint(HERE, local=False, maybe_local=True)),)),
            HERE,
            VIP,
            {to(HERE, masqueraded=True)},
            id="hairpin of a pod whose node is not told",
        ),
        pytest.param(web(), POD, CLUSTER_IP, {to(HERE), to(THERE)}, id="pods keep their address"),
        pytest.param(
            web(internal_policy=LOCAL), POD, CLUSTER_IP, {to(HERE)}, id="internal traffic policy local"
        ),
        pytest.param(
            web(internal_policy=LOCAL, ports=(tcp(80, endpoint(THERE)),)),
            POD,
            CLUSTER_IP,
            {Fate.DROPPED},
            id="internal traffic policy local without an endpoint here drops",
        ),
        pytest.param(web(ports=(tcp(80),)), CLIENT, VIP, {Fate.RESET}, id="no endpoints"),
        pytest.param(
            web(source_ranges=blocks("192.0.2.0/28")), "192.0.2.99", VIP, {Fate.DROPPED}, id="out of range"
        ),
        pytest.param(
            web(source_ranges=blocks("fd00::/8")), CLIENT, VIP, {Fate.DROPPED}, id="no range of the family"
        ),
        pytest.param(
            web(source_ranges=blocks("192.0.2.0/28", "192.0.2.8/29"), external_policy=LOCAL),
            CLIENT,
            VIP,
            {to(HERE)},
            id="within ranges that overlap",
        ),
        pytest.param(
            web(load_balancer=vips(VIP, mode=IPMode.PROXY)), CLIENT, VIP, {Fate.LEFT_ALONE}, id="ipMode Proxy"
        ),
        pytest.param(
            web(ports=(tcp(80, endpoint(HERE, ready=False), endpoint(THERE)),)),
            CLIENT,
            VIP,
            {to(THERE, masqueraded=True)},
            id="ready endpoints only",
        ),
        pytest.param(
            web(ports=(tcp(80, endpoint(HERE, ready=False, serving=False)),), publish_not_ready=True),
            CLIENT,
            VIP,
            {to(HERE, masqueraded=True)},
            id="publish not ready addresses",
        ),
        pytest.param(
            web(
                external_policy=LOCAL,
                ports=(tcp(80, endpoint(HERE, ready=False, terminating=True), endpoint(THERE)),),
            ),
            CLIENT,
            VIP,
            {to(HERE)},
            id="terminating endpoints as fallback",
        ),
    ],
)
def test_packets_go_where_the_service_says(
    service: Service, source: str, destination: str, expected: set[Outcome]
) -> None:
    assert outcomes(service, source, destination) == expected


def test_node_ports_answer_on_the_nodes_addresses() -> None:
    assert outcomes(web(external_policy=LOCAL), CLIENT, NODE_ADDRESS, 30080) == {to(HERE)}
    assert outcomes(web(), CLIENT, NODE_ADDRESS, 30081) == {Fate.LEFT_ALONE}


def test_a_closed_port_of_an_address_is_refused_at_once() -> None:
    table = simulated(ruleset([web(load_balancer=vips(VIP, VIP6))], refused=blocks("198.19.0.128/25")))
    for address in (VIP, VIP6, CLUSTER_IP, "198.19.0.200"):
        client = CLIENT if "." in address else "fd00:9::9"
        assert table.outcomes(packet(client, address, port=81)) == {Fate.RESET}
        assert table.outcomes(packet(client, address, "udp", port=81)) == {Fate.UNREACHABLE}
    assert table.outcomes(packet(NODE_ADDRESS, VIP, port=81)) == {Fate.RESET}


def test_addresses_answer_to_ping_and_unused_ones_do_not() -> None:
    table = simulated(ruleset([web(load_balancer=vips(VIP, VIP6))], refused=blocks("198.19.0.128/25")))
    assert table.outcomes(packet(CLIENT, VIP, "icmp")) == {Fate.ECHOED}
    assert table.outcomes(packet("fd00:9::9", VIP6, "icmpv6")) == {Fate.ECHOED}
    assert table.outcomes(packet(CLIENT, "198.19.0.200", "icmp")) == {Fate.DROPPED}


def test_an_external_ip_that_is_the_nodes_own_leaves_its_other_ports_to_the_node() -> None:
    service = web(external_ips=(ip_address(NODE_ADDRESS),))
    assert outcomes(service, CLIENT, NODE_ADDRESS, 80) == {
        to(HERE, masqueraded=True),
        to(THERE, masqueraded=True),
    }
    assert outcomes(service, CLIENT, NODE_ADDRESS, 22) == {Fate.LEFT_ALONE}


CALICO = replace(NODE, pods=blocks("10.1.0.0/16"), shares_blocks=True)
KEPT = {to(HERE), to(THERE)}
HIDDEN = {to(HERE, masqueraded=True), to(THERE, masqueraded=True)}


@pytest.mark.parametrize(
    ("policy", "source", "destination", "port", "expected"),
    [
        (TrafficPolicy.CLUSTER, "10.1.1.7", CLUSTER_IP, 80, KEPT),
        (TrafficPolicy.CLUSTER, "10.1.1.7", VIP, 80, KEPT),
        (LOCAL, "10.1.1.7", VIP, 80, KEPT),
        (LOCAL, CLIENT, VIP, 80, {to(HERE)}),
        (TrafficPolicy.CLUSTER, "10.1.1.7", NODE_ADDRESS, 30080, HIDDEN),
        (LOCAL, "10.1.1.7", NODE_ADDRESS, 30080, HIDDEN),
        (LOCAL, CLIENT, NODE_ADDRESS, 30080, {to(HERE)}),
    ],
)
def test_of_pods_that_may_be_on_any_node_answers_come_back_the_way_they_went(
    policy: TrafficPolicy, source: str, destination: str, port: int, expected: set[Outcome]
) -> None:
    """A pod meets addresses of Services on its own node, but ports of a node on that node."""
    table = simulated(ruleset([web(external_policy=policy)], node=CALICO))
    assert table.outcomes(packet(source, destination, port=port)) == expected


OTHER_NODE, ROUTER = "192.168.0.2", "192.168.0.254"


@pytest.mark.parametrize(
    "shown",
    [{"load_balancer": vips(OTHER_NODE)}, {"external_ips": (ip_address(OTHER_NODE),)}],
    ids=["in its status", "as its external IP"],
)
@pytest.mark.parametrize("source", [CLIENT, NODE_ADDRESS])
def test_a_service_that_shows_another_nodes_address_takes_only_its_ports(
    shown: dict[str, object], source: str
) -> None:
    nodes, whole_block = (ip_address(OTHER_NODE),), blocks("192.168.0.0/30")
    table = simulated(ruleset([web(**shown)], nodes=nodes, refused=whole_block))
    assert table.outcomes(packet(source, OTHER_NODE)) == {
        to(HERE, masqueraded=True),
        to(THERE, masqueraded=True),
    }
    for protocol in ("tcp", "udp", "icmp"):
        assert table.outcomes(packet(source, OTHER_NODE, protocol, port=10250)) == {Fate.LEFT_ALONE}
    assert table.outcomes(packet(source, "192.168.0.3", port=10250)) == {Fate.RESET}


def test_an_external_ip_that_is_a_routers_leaves_its_other_ports_and_pings_to_the_router() -> None:
    table = simulated(ruleset([web(external_ips=(ip_address(ROUTER),))]))
    assert table.outcomes(packet(CLIENT, ROUTER)) == {to(HERE, masqueraded=True), to(THERE, masqueraded=True)}
    assert table.outcomes(packet(POD, ROUTER)) == {to(HERE), to(THERE)}
    for protocol in ("tcp", "udp", "icmp"):
        assert table.outcomes(packet(CLIENT, ROUTER, protocol, port=179)) == {Fate.LEFT_ALONE}


def test_an_external_ip_does_not_take_over_what_was_given_to_another_service() -> None:
    for taken in (CLUSTER_IP, VIP):
        thief = web(
            name="a",
            external_ips=(ip_address(taken),),
            cluster_ips=(),
            load_balancer=(),
            ports=(tcp(80, endpoint(HERE)),),
        )
        table = simulated(ruleset([thief, web(ports=(tcp(80, endpoint(THERE)),))]))
        assert table.outcomes(packet(POD, taken)) == {to(THERE)}


def test_a_client_with_affinity_stays_on_its_endpoint_until_it_goes() -> None:
    rules = ruleset([web(affinity_seconds=60, load_balancer=vips(VIP, VIP6), ports=(tcp(80, *BOTH),))])
    table = simulated(rules)
    first = table.trace(packet(CLIENT, VIP), roll=1, learn=True)
    assert {table.trace(packet(CLIENT, VIP), roll=roll) for roll in range(2)} == {first}
    assert len(table.outcomes(packet("192.0.2.10", VIP))) == 2


def test_maglev_sends_a_client_to_the_same_endpoint_whatever_the_dice_and_the_node() -> None:
    endpoints = [endpoint(f"10.1.{i}.2", local=False) for i in range(5)]
    service = web(algorithm=Algorithm.MAGLEV, ports=(tcp(80, *endpoints),))
    shuffled = web(algorithm=Algorithm.MAGLEV, ports=(tcp(80, *reversed(endpoints)),))
    other = Node(addresses=(ip_address("192.168.0.2"),), pods=blocks("10.1.9.0/24"))
    here, there = simulated(ruleset([service])), simulated(ruleset([shuffled], node=other))
    clients = [f"192.0.2.{i}" for i in range(64)]
    chosen = {client: here.outcomes(packet(client, VIP)) for client in clients}
    assert all(len(each) == 1 for each in chosen.values())
    assert chosen == {client: there.outcomes(packet(client, VIP)) for client in clients}
    assert len({min(map(repr, each)) for each in chosen.values()}) == 5


def test_maglev_is_for_addresses_and_not_for_node_ports() -> None:
    """It is for addresses that move between nodes; a node port stays where it is."""
    table = simulated(ruleset([web(algorithm=Algorithm.MAGLEV)]))
    assert len(table.outcomes(packet(CLIENT, NODE_ADDRESS, port=30080))) == 2


# --- against the model --------------------------------------------------------------------------------------

PODS4 = [ip_address(f"10.1.{i}.{j}") for i in (0, 1) for j in (2, 3)]
PODS6 = [ip_address(f"fd00:{i + 1}::{j}") for i in (0, 1) for j in (2, 3)]
ADDRESSES = [ip_address(a) for a in (VIP, VIP6, CLUSTER_IP, "fd00:96::1", "198.19.0.2", "192.168.0.1")]
SOURCES = [*PODS4, *PODS6, *NODE.addresses, ip_address(CLIENT), ip_address("fd00:9::9")]

endpoints = st.lists(
    st.builds(
        lambda address, port, state: Endpoint(
            address=address, port=port, local=any(address in b for b in NODE.pods), **state
        ),
        st.sampled_from(PODS4 + PODS6),
        st.sampled_from([8080, 9090]),
        st.sampled_from(
            [
                {},
                {},
                {"ready": False, "serving": False},
                {"ready": False, "terminating": True},
                {"ready": False, "serving": False, "terminating": True},
            ]
        ),
    ),
    max_size=4,
    unique_by=lambda e: (e.address, e.port),
).map(tuple)
ports = st.lists(
    st.builds(
        ServicePort,
        protocol=st.sampled_from(Protocol),
        port=st.sampled_from([80, 81]),
        node_port=st.sampled_from([0, 30080]),
        endpoints=endpoints,
    ),
    max_size=2,
    unique_by=(lambda p: (p.protocol, p.port), lambda p: (p.protocol, p.node_port or p.port)),
).map(tuple)
some_addresses = st.lists(st.sampled_from(ADDRESSES), max_size=2, unique=True).map(tuple)
ranges = st.lists(
    st.sampled_from(
        [
            ip_network(b)
            for b in ("192.0.2.0/24", "192.0.2.8/29", "10.1.0.0/16", "fd00:9::/64", "::/0", "0.0.0.0/0")
        ]
    ),
    max_size=2,
).map(tuple)
services = st.lists(
    st.builds(
        Service,
        namespace=st.just("shop"),
        name=st.sampled_from(["a", "b", "c"]),
        ports=ports,
        cluster_ips=some_addresses,
        external_ips=some_addresses,
        load_balancer=st.lists(
            st.builds(LoadBalancerAddress, address=st.sampled_from(ADDRESSES), mode=st.sampled_from(IPMode)),
            max_size=2,
            unique_by=lambda entry: entry.address,
        ).map(tuple),
        external_policy=st.sampled_from(TrafficPolicy),
        internal_policy=st.sampled_from(TrafficPolicy),
        source_ranges=ranges,
        affinity_seconds=st.sampled_from([0, 0, 60]),
        publish_not_ready=st.booleans(),
        algorithm=st.sampled_from(Algorithm),
    ),
    max_size=3,
    unique_by=lambda s: s.key,
)
others = st.sampled_from([(), (ip_address("198.19.0.2"), ip_address(VIP6))])
nodes = st.sampled_from(
    [NODE, Node(addresses=NODE.addresses), Node(addresses=NODE.addresses, pods=NODE.pods[:1]), CALICO]
)
packets = st.builds(
    lambda source, destination, protocol, port: Packet(
        source=source,
        destination=destination,
        protocol=("icmp" if source.version == 4 else "icmpv6") if protocol == "icmp" else protocol,
        port=port,
        from_node=source in NODE.addresses,
    ),
    st.sampled_from(SOURCES),
    st.sampled_from([*ADDRESSES, ip_address("198.19.0.9")]),
    st.sampled_from(["tcp", "udp", "sctp", "icmp"]),
    st.sampled_from([80, 81, 30080]),
).filter(lambda p: p.source.version == p.destination.version)


@given(services=services, node=nodes, others=others, sent=st.lists(packets, min_size=1, max_size=8))
@settings(max_examples=300, deadline=None)
def test_a_packet_goes_where_the_model_says(
    services: list[Service], node: Node, others: tuple[IPAddress, ...], sent: list[Packet]
) -> None:
    refused = blocks("198.19.0.8/29")
    table = simulated(ruleset(services, node, refused, others))
    model = Model(node=node, services=tuple(services), others=others, refused=refused)
    for each in sent:
        expected, seen = model.outcomes(each), table.outcomes(each)
        if any(s.algorithm is Algorithm.MAGLEV for s in services):
            # The hash decides among the endpoints that the model allows.
            assert seen <= expected
            assert seen
        else:
            assert seen == expected


def test_udp_and_tcp_on_one_port_number_are_two_ports() -> None:
    service = web(ports=(tcp(53, endpoint(HERE)), udp(53, endpoint(THERE, 5353))))
    table = simulated(ruleset([service]))
    assert table.outcomes(packet(POD, VIP, "tcp", 53)) == {to(HERE)}
    assert table.outcomes(packet(POD, VIP, "udp", 53)) == {to(THERE, port=5353)}
