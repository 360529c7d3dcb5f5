"""Short ways to write Services, endpoints and packets."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Protocol

from lbipam.core.datapath import frontends, nft
from lbipam.core.datapath.ruleset import Update
from lbipam.core.datapath.services import (
    Endpoint,
    IPAddress,
    IPMode,
    IPNetwork,
    LoadBalancerAddress,
    Node,
    Service,
    ServicePort,
)
from lbipam.core.datapath.services import Protocol as TransportProtocol
from tests.core.datapath.simulator import Packet, Simulator

NODE = Node(
    addresses=(ip_address("192.168.0.1"), ip_address("fd00:168::1")),
    pods=(ip_network("10.1.0.0/24"), ip_network("fd00:1::/64")),
)


def endpoint(address: str, port: int = 8080, **flags: bool) -> Endpoint:
    """An endpoint; one with an address of the node's pods is local unless said otherwise."""
    parsed = ip_address(address)
    flags.setdefault("local", any(parsed in block for block in NODE.pods))
    return Endpoint(address=parsed, port=port, **flags)


def tcp(port: int = 80, *endpoints: Endpoint, node_port: int = 0) -> ServicePort:
    return ServicePort(port=port, endpoints=endpoints, node_port=node_port)


def udp(port: int, *endpoints: Endpoint) -> ServicePort:
    return ServicePort(port=port, protocol=TransportProtocol.UDP, endpoints=endpoints)


def vips(*addresses: str, mode: IPMode = IPMode.VIP) -> tuple[LoadBalancerAddress, ...]:
    return tuple(LoadBalancerAddress(address=ip_address(a), mode=mode) for a in addresses)


def blocks(*texts: str) -> tuple[IPNetwork, ...]:
    return tuple(ip_network(text) for text in texts)


def packet(source: str, destination: str, protocol: str = "tcp", port: int = 80) -> Packet:
    """A packet; one from an address of the node is sent by the node."""
    sender = ip_address(source)
    return Packet(
        source=sender,
        destination=ip_address(destination),
        protocol=protocol,
        port=port,
        from_node=sender in NODE.addresses,
    )


def ruleset(
    services: Iterable[Service],
    node: Node = NODE,
    refused: Iterable[IPNetwork] = (),
    nodes: Iterable[IPAddress] = (),
) -> Update:
    return Update(
        node=node,
        services={service.key: frontends.frontends(service, node) for service in services},
        nodes=tuple(nodes),
        refused=tuple(refused),
    )


def instead_of(earlier: Update, later: Update) -> Update:
    """The later world, with the Services of the earlier one that it does not have gone."""
    gone: dict[str, tuple[frontends.Frontend, ...]] = dict.fromkeys(earlier.services, ())
    return replace(later, services=gone | dict(later.services))


def change(table: nft.Table, rules: Update) -> nft.Change:
    """The transaction to the rules."""
    table.want(rules)
    return table.change()


class Runner(Protocol):
    """Takes nft commands, as the kernel and the simulator do."""

    def run(self, commands: str) -> object: ...


def carry_out(kernel: Runner, change: nft.Change) -> None:
    """Run every transaction of the change."""
    for transaction in (*change.foundation, change.transaction):
        kernel.run(transaction)


def simulated(rules: Update) -> Simulator:
    """A table freshly loaded with the rules."""
    table = Simulator(node_addresses=frozenset(rules.node.addresses))
    carry_out(table, change(nft.Table(), rules))
    return table
