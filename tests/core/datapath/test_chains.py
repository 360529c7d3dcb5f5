"""Names and rules of chains."""

from ipaddress import ip_address
from itertools import pairwise

from lbipam.core.datapath import chains
from lbipam.core.datapath.frontends import Frontend, frontends
from lbipam.core.datapath.services import Service, TrafficPolicy
from tests.core.datapath.builders import NODE, blocks, endpoint, tcp, vips

BOTH = (endpoint("10.1.0.2"), endpoint("10.1.1.2"))


def web(vip: str = "198.19.0.1", **fields: object) -> Frontend:
    options: dict[str, object] = {"ports": (tcp(80, *BOTH),), "load_balancer": vips(vip), **fields}
    (frontend,) = frontends(Service(namespace="shop", name="web", **options), NODE)  # type: ignore[arg-type]
    return frontend


def test_a_plain_frontend_needs_one_chain_that_its_number_of_endpoints_names() -> None:
    (chain,) = chains.shared_chains(web())
    assert chain.name == "tcp-2"
    assert chains.entry(web()) == "goto tcp-2"
    assert chain.rules == (
        "dnat ip to ip daddr . tcp dport . numgen random mod 2 map @endpoints-tcp4",
        "dnat ip6 to ip6 daddr . tcp dport . numgen random mod 2 map @endpoints-tcp6",
    )


def test_a_gate_tells_clients_apart_before_an_endpoint_is_picked() -> None:
    local = web(external_policy=TrafficPolicy.LOCAL, source_ranges=blocks("192.0.2.0/24"))
    *picks, gate = chains.shared_chains(local)
    assert [chain.name for chain in picks] == ["tcp-1", "tcp-2"]
    assert gate.name == "gate-ranges-tcp-out-1-in-2"
    assert chains.entry(local) == f"goto {gate.name}"
    assert gate.rules == (
        "ip daddr . meta l4proto . th dport . ip saddr != @allowed4 drop",
        "ip6 daddr . meta l4proto . th dport . ip6 saddr != @allowed6 drop",
        "fib saddr type local goto tcp-2",
        "ip saddr @pods4 goto tcp-2",
        "ip6 saddr @pods6 goto tcp-2",
        "goto tcp-1",
    )


def test_a_frontend_with_affinity_recalls_and_learns_in_chains_of_its_own() -> None:
    sticky = web("fd00:19::1", ports=(tcp(80, endpoint("fd00:1::2")),), affinity_seconds=60)
    recall, learn = chains.own_chains(sticky)
    clients = "clients-tcp-fd00_19__1-80-8080-60s"
    assert (recall.name, recall.rules) == (
        "sticky-tcp-fd00_19__1-80",
        (f"meta l4proto tcp dnat ip6 to ip6 saddr map @{clients} : 8080", "goto tcp-1"),
    )
    assert (learn.name, learn.rules) == (
        "learn-tcp-fd00_19__1-80",
        (f"tcp dport 8080 update @{clients} {{ ip6 saddr : ip6 daddr }}", "goto source-masqueraded"),
    )
    (declared,) = chains.own_sets(sticky)
    assert declared.name == clients
    assert "timeout 60s" in declared.body


def test_the_source_is_decided_by_address_unless_the_frontend_differs() -> None:
    assert chains.source_verdict(web()) == ""
    assert chains.source_verdict(web(external_policy=TrafficPolicy.LOCAL)) == "goto source-kept"
    node_port = {"ports": (tcp(80, *BOTH, node_port=30080),), "load_balancer": ()}
    on_node = frontends(Service(namespace="shop", name="web", **node_port), NODE)[0]  # type: ignore[arg-type]
    assert on_node.address == ip_address("192.168.0.1")
    assert chains.source_verdict(on_node) == "goto source-masqueraded"


def test_chains_are_declared_before_those_that_refer_to_them() -> None:
    declared: set[str] = set()
    for chain in chains.fixed_chains():
        for rule in chain.rules:
            words = rule.split()
            targets = {b for a, b in pairwise(words) if a in ("goto", "jump")}
            assert targets <= declared
        declared.add(chain.name)
