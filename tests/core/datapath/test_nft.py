"""Transactions between rulesets."""

from dataclasses import replace
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from lbipam.core.datapath import nft, report
from lbipam.core.datapath.nft import Forget
from lbipam.core.datapath.ruleset import Element, Update
from lbipam.core.datapath.services import Endpoint, Protocol, Service, ServicePort, TrafficPolicy
from tests.core.datapath.builders import (
    NODE,
    blocks,
    carry_out,
    change,
    endpoint,
    instead_of,
    ruleset,
    simulated,
    tcp,
    udp,
    vips,
)
from tests.core.datapath.simulator import Simulator
from tests.core.datapath.test_ruleset import nodes, services

VIP = "198.19.0.1"


def web(*endpoints: str, name: str = "web", **fields: object) -> Service:
    ports = (tcp(80, *(endpoint(address) for address in endpoints)),)
    given_: dict[str, object] = {"ports": ports, "load_balancer": vips(VIP), **fields}
    return Service(namespace="shop", name=name, **given_)  # type: ignore[arg-type]


def standing(rules: Update) -> nft.Table:
    table = nft.Table()
    table.commit(change(table, rules))
    return table


def contents(table: Simulator) -> tuple[object, ...]:
    return table.sets, table.bodies, table.chains, table.hooks


@given(
    worlds=st.lists(st.tuples(services, nodes, st.sampled_from([(), blocks("198.19.0.8/29")])), max_size=5)
)
@settings(max_examples=60, deadline=None)
def test_transactions_lead_to_the_same_table_as_starting_afresh(
    worlds: list[tuple[list[Service], object, tuple[object, ...]]],
) -> None:
    table, kernel, before = nft.Table(), Simulator(), ruleset([])
    for of_world, node, refused in worlds:
        rules = ruleset(of_world, node, refused)  # type: ignore[arg-type]
        changed = change(table, instead_of(before, rules))
        carry_out(kernel, changed)
        table.commit(changed)
        assert contents(kernel) == contents(simulated(rules))
        assert change(table, rules).transaction == ""
        before = rules


def test_blocks_are_refused_until_it_is_told_which_are() -> None:
    """A new process does not know yet which blocks are announced whole."""
    kernel = simulated(ruleset([], refused=blocks("198.19.0.128/25")))
    table = nft.Table()
    table.want(Update(node=NODE, services={}))
    repair = table.repair(listing(kernel))
    carry_out(kernel, repair)
    table.commit(repair)
    assert kernel.sets["refused4"].keys() == {"198.19.0.128/25"}
    carry_out(kernel, change(table, Update(node=NODE, services={}, refused=blocks("198.19.0.0/28"))))
    assert kernel.sets["refused4"].keys() == {"198.19.0.0/28"}


def test_what_was_refused_is_part_of_the_next_transaction() -> None:
    """The kernel did not take the second update; the third does not name what it was about."""
    a, b = web("10.1.0.2", name="a"), web("10.1.0.3", name="b", load_balancer=vips("198.19.0.2"))
    table, kernel = standing(ruleset([a])), simulated(ruleset([a]))
    change(table, ruleset([web("10.1.0.4", name="a")]))
    carry_out(kernel, change(table, ruleset([b])))
    assert contents(kernel) == contents(simulated(ruleset([web("10.1.0.4", name="a"), b])))


def test_a_changed_endpoint_touches_elements_only() -> None:
    table = standing(ruleset([web("10.1.0.2", "10.1.1.2")]))
    transaction = change(table, ruleset([web("10.1.0.2", "10.1.1.3")])).transaction
    assert transaction.splitlines() == [
        "delete element inet lbipam endpoints-tcp4 { 198.19.0.1 . 80 . 1 }",
        "add element inet lbipam endpoints-tcp4 { 198.19.0.1 . 80 . 1 : 10.1.1.3 . 8080 }",
    ]


def test_services_of_one_shape_share_their_chains() -> None:
    many = [web("10.1.0.2", name=f"web-{i}", load_balancer=vips(f"198.19.0.{i}")) for i in range(50)]
    assert simulated(ruleset(many)).chains.keys() == simulated(ruleset(many[:1])).chains.keys()


def test_the_first_by_name_has_a_contested_address_and_the_next_follows() -> None:
    first, second = web("10.1.0.2", name="a"), web("10.1.0.3", name="b")
    table, kernel = nft.Table(), Simulator()
    gone = replace(ruleset([]), services={"shop/a": ()})
    for update, served_by in ((ruleset([second]), "3"), (ruleset([first]), "2"), (gone, "3")):
        changed = change(table, update)
        carry_out(kernel, changed)
        table.commit(changed)
        assert kernel.sets["endpoints-tcp4"] == {f"{VIP} . 80 . 0": f"10.1.0.{served_by} . 8080"}


def test_datagram_flows_to_an_endpoint_that_left_are_to_be_forgotten() -> None:
    def dns(*addresses: str) -> Update:
        ports = (udp(53, *(endpoint(address, 5353) for address in addresses)),)
        return ruleset([Service(namespace="shop", name="dns", ports=ports, load_balancer=vips(VIP))])

    table = standing(dns("10.1.0.2", "10.1.0.3"))
    kept = frozenset({(ip_address("10.1.0.3"), 5353)})
    flow = Forget(address=ip_address(VIP), protocol=Protocol.UDP, port=53, keep=kept)
    assert change(table, dns("10.1.0.3")).forget == (flow,)
    assert change(table, dns("10.1.0.2", "10.1.0.3", "10.1.0.4")).forget == ()
    (gone,) = change(table, instead_of(dns(), ruleset([]))).forget
    assert gone.keep == frozenset()


def test_datagram_flows_stay_with_an_endpoint_that_leaves_until_it_serves_no_more() -> None:
    def dns(*others: Endpoint) -> Update:
        ports = (udp(53, endpoint("10.1.0.2", 5353), *others),)
        return ruleset([Service(namespace="shop", name="dns", ports=ports, load_balancer=vips(VIP))])

    here = endpoint("10.1.0.3", 5353)
    leaving = replace(here, ready=False, terminating=True)
    table = standing(dns(here))
    leaves = change(table, dns(leaving))
    assert "delete element inet lbipam endpoints-udp4 { 198.19.0.1 . 53 . 1 }" in leaves.transaction
    assert leaves.forget == ()
    table.commit(leaves)
    stopped = change(table, dns(replace(leaving, serving=False)))
    (flow,) = stopped.forget
    assert flow.keep == {(ip_address("10.1.0.2"), 5353)}
    assert stopped.transaction == ""


def test_flows_that_were_refused_are_to_be_forgotten_when_the_first_endpoint_comes() -> None:
    for protocol in (Protocol.UDP, Protocol.SCTP):

        def dns(*addresses: str, protocol: Protocol = protocol) -> Update:
            behind = tuple(endpoint(address, 5353) for address in addresses)
            ports = (ServicePort(protocol=protocol, port=53, endpoints=behind),)
            return ruleset([Service(namespace="shop", name="dns", ports=ports, load_balancer=vips(VIP))])

        kept = frozenset({(ip_address("10.1.0.2"), 5353)})
        flow = Forget(address=ip_address(VIP), protocol=protocol, port=53, keep=kept)
        assert change(standing(dns()), dns("10.1.0.2")).forget == (flow,)
        assert change(nft.Table(), dns("10.1.0.2")).forget == (flow,)
        for found in (report.read(""), listing(simulated(dns("10.1.0.3")))):
            table = nft.Table()
            table.want(dns("10.1.0.2"))
            assert table.repair(found).forget == (flow,)


def test_learned_clients_are_looked_at_when_a_table_is_taken_over() -> None:
    sticky, plain = (
        web("10.1.0.2", affinity_seconds=60),
        web("10.1.0.2", name="b", load_balancer=vips("198.19.0.2")),
    )
    table = nft.Table()
    table.want(ruleset([sticky, plain]))
    assert [f.service for f in table.repair(listing(simulated(ruleset([sticky])))).unlearn] == ["shop/web"]


def test_connections_are_left_to_end_by_themselves() -> None:
    table = standing(ruleset([web("10.1.0.2", "10.1.0.3")]))
    assert change(table, ruleset([web("10.1.0.3")])).forget == ()


def test_learned_clients_are_looked_at_when_a_frontend_with_affinity_changes() -> None:
    table = standing(ruleset([web("10.1.0.2", "10.1.0.3", affinity_seconds=60)]))
    (changed,) = change(table, ruleset([web("10.1.0.3", affinity_seconds=60)])).unlearn
    node = NODE
    assert changed.may_serve(ip_address("192.0.2.9"), ip_address("10.1.0.3"), 8080, node)
    assert not changed.may_serve(ip_address("192.0.2.9"), ip_address("10.1.0.2"), 8080, node)


def test_under_a_local_policy_the_outside_may_not_stay_on_another_nodes_endpoint() -> None:
    local = web("10.1.0.2", "10.1.1.2", affinity_seconds=60, external_policy=TrafficPolicy.LOCAL)
    (frontend,) = ruleset([local]).services["shop/web"]
    elsewhere = ip_address("10.1.1.2")
    assert not frontend.may_serve(ip_address("192.0.2.9"), elsewhere, 8080, NODE)
    assert frontend.may_serve(ip_address("10.1.0.9"), elsewhere, 8080, NODE)


def listing(kernel: Simulator) -> report.Report:
    """What the kernel would report of the simulated table, as far as a repair looks at it."""
    return report.Report(
        chains=frozenset(kernel.chains),
        sets={name: "map" if " : " in body else "set" for name, body in kernel.bodies.items()},
        elements=frozenset(
            Element(name, key, data)
            for name, elements in kernel.sets.items()
            if "dynamic" not in kernel.bodies[name]
            for key, data in elements.items()
        ),
    )


def many(count: int) -> list[Service]:
    addresses = (str(ip_address("198.18.0.0") + number) for number in range(count))
    return [web("10.1.0.2", "10.1.0.3", "10.1.1.2", name=one, load_balancer=vips(one)) for one in addresses]


def test_packets_meet_a_new_table_only_once_it_is_whole() -> None:
    table, kernel, rules = nft.Table(), Simulator(), ruleset(many(2000))
    table.want(rules)
    repair = table.repair(report.read(""))
    for piece in repair.foundation:
        kernel.run(piece)
        assert kernel.hooks == {}
    assert kernel.sets == simulated(rules).sets
    kernel.run(repair.transaction)
    assert contents(kernel) == contents(simulated(rules))


def test_a_table_that_stands_is_repaired_at_once() -> None:
    table, kernel, rules = nft.Table(), simulated(ruleset([web("10.1.0.2")])), ruleset(many(2000))
    table.want(rules)
    repair = table.repair(listing(kernel))
    assert list(repair.foundation) == []
    kernel.run(repair.transaction)
    assert contents(kernel) == contents(simulated(rules))


@given(found=services, wanted=services)
@settings(max_examples=60, deadline=None)
def test_a_repair_leads_from_any_table_to_the_wanted_one(found: list[Service], wanted: list[Service]) -> None:
    kernel, rules = simulated(ruleset(found)), ruleset(wanted)
    table = nft.Table()
    table.want(rules)
    repair = table.repair(listing(kernel))
    carry_out(kernel, repair)
    table.commit(repair)
    assert contents(kernel) == contents(simulated(rules))
    back = change(table, instead_of(rules, ruleset(found)))
    carry_out(kernel, back)
    assert contents(kernel) == contents(simulated(ruleset(found)))
