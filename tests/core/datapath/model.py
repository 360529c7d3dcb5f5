"""Where should a packet go, going by what Kubernetes says of Services?

Written from the meaning of each field, packet by packet, with no thought of tables: the oracle for
whatever carries the traffic, be it the simulator or the kernel.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lbipam.core.datapath.services import (
    Endpoint,
    IPAddress,
    IPMode,
    IPNetwork,
    Node,
    Service,
    ServicePort,
    TrafficPolicy,
)
from tests.core.datapath.simulator import Delivered, Fate, Outcome, Packet


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The world as the node should see it."""

    node: Node
    services: tuple[Service, ...] = ()
    others: tuple[IPAddress, ...] = ()
    """The addresses of other nodes."""
    refused: tuple[IPNetwork, ...] = ()

    def outcomes(self, packet: Packet) -> set[Outcome]:
        """Everything that may become of the packet."""
        claims = [
            (KINDS.index(kind), service.key, service, port)
            for service in self.services
            for port in service.ports
            for kind in kinds(service, port, packet, self.node)
        ]
        if not claims:
            return {self._stray(packet)}
        kind, _, service, port = min(claims, key=lambda claim: claim[:2])
        return self._served(service, port, KINDS[kind], packet)

    def _served(self, service: Service, port: ServicePort, kind: str, packet: Packet) -> set[Outcome]:
        family = [e for e in port.endpoints if e.address.version == packet.destination.version]
        every, local = best(service, family), best(service, [e for e in family if e.local])
        if not every:
            return {self._stray(packet)}
        if kind == "load balancer" and service.source_ranges and not self._may_enter(service, packet):
            return {Fate.DROPPED}
        inside = self._is_pod(packet.source) or packet.source in self.node.addresses
        if kind == "cluster IP":
            targets = local if service.internal_policy is TrafficPolicy.LOCAL else every
            pods_known = any(b.version == packet.source.version for b in self.node.pods)
            hidden = not self._is_pod(packet.source) if pods_known else packet.source in self.node.addresses
        elif service.external_policy is TrafficPolicy.LOCAL:
            targets, hidden = every if inside else local, packet.source in self.node.addresses
        else:
            targets, hidden = every, not self._is_pod(packet.source)
        if kind == "node port" and self.node.shares_blocks and self._is_pod(packet.source):
            # It may be on another node, whither the answer would go by itself.
            hidden = True
        return {
            Delivered(
                e.address,
                e.port,
                hidden or ((e.local or e.maybe_local) and e.address == packet.source),
            )
            for e in targets
        } or {Fate.DROPPED}

    def _may_enter(self, service: Service, packet: Packet) -> bool:
        return any(packet.source in block for block in service.source_ranges)

    def _is_pod(self, address: IPAddress) -> bool:
        return any(address in block for block in self.node.pods)

    def _stray(self, packet: Packet) -> Fate:
        destination = packet.destination
        if destination in (*self.node.addresses, *self.others):
            return Fate.LEFT_ALONE
        ours = destination in {a for s in self.services if s.ports for a in given(s)}
        if not ours and not any(destination in block for block in self.refused):
            return Fate.LEFT_ALONE
        match packet.protocol:
            case "tcp":
                return Fate.RESET
            case "icmp" | "icmpv6":
                return Fate.ECHOED if ours else Fate.DROPPED
            case _:
                return Fate.UNREACHABLE


KINDS = ("cluster IP", "node port", "load balancer", "external")
"""Of two Services that claim a port of an address, the one that got it from the API server comes first."""


def kinds(service: Service, port: ServicePort, packet: Packet, node: Node) -> Iterator[str]:
    """As what the packet meets the port, if it does."""
    if port.protocol.value != packet.protocol:
        return
    to = packet.destination
    if packet.port == port.port:
        if to in service.cluster_ips:
            yield "cluster IP"
        if to in {entry.address for entry in service.load_balancer if entry.mode is IPMode.VIP}:
            yield "load balancer"
        if to in service.external_ips:
            yield "external"
    if packet.port == port.node_port and to in node.addresses:
        yield "node port"


def best(service: Service, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Ready ones, or else those that are going but still serve."""
    every = list(endpoints)
    ready = [e for e in every if service.publish_not_ready or (e.ready and not e.terminating)]
    return ready or [e for e in every if e.serving and e.terminating]


def given(service: Service) -> set[IPAddress]:
    """Addresses that are for Services only; an external IP may be any machine's that its owner thought of."""
    vips = {entry.address for entry in service.load_balancer if entry.mode is IPMode.VIP}
    return {*service.cluster_ips, *vips}
