"""Which endpoints serve which traffic of a Service?

A `Service` carries what the node has to know of it, whatever API version it came from. The choice follows
Kubernetes: ready endpoints first; where there are none, those that are terminating but still serve
(KEP-1669). `externalTrafficPolicy` and `internalTrafficPolicy` narrow the choice to the node's own. This
file does not know how traffic gets to an endpoint.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses
from typing import TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network


class Protocol(Enum):
    """Transport protocols of Service ports; the values are nft's names."""

    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"


PROTOCOL_NUMBERS: Mapping[Protocol, int] = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132}
"""Assigned Internet Protocol Numbers (IANA)."""


class TrafficPolicy(Enum):
    """`externalTrafficPolicy` and `internalTrafficPolicy`."""

    CLUSTER = "Cluster"
    LOCAL = "Local"


class IPMode(Enum):
    """`status.loadBalancer.ingress[].ipMode`: with `PROXY` the node leaves the address to the load balancer."""

    VIP = "VIP"
    PROXY = "Proxy"


class Algorithm(Enum):
    """How an endpoint is picked for a new connection from outside."""

    RANDOM = "random"
    MAGLEV = "maglev"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One address and port of a pod, and what its EndpointSlice says of it."""

    address: IPAddress
    port: int
    local: bool = False
    """It runs on this node."""
    maybe_local: bool = False
    """It may run on this node: its EndpointSlice does not tell."""
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    text: str = field(init=False, repr=False, compare=False)
    """The address as text: it is written often."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", f"{self.address}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBalancerAddress:
    """One entry of `status.loadBalancer.ingress` that has an address."""

    address: IPAddress
    mode: IPMode = IPMode.VIP


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """One port of a Service with the endpoints behind it, of both families."""

    name: str = ""
    protocol: Protocol = Protocol.TCP
    port: int
    node_port: int = 0
    """0: none."""
    endpoints: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a node must know of a Service to carry its traffic."""

    namespace: str
    name: str
    ports: tuple[ServicePort, ...] = ()
    cluster_ips: tuple[IPAddress, ...] = ()
    external_ips: tuple[IPAddress, ...] = ()
    load_balancer: tuple[LoadBalancerAddress, ...] = ()
    external_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    internal_policy: TrafficPolicy = TrafficPolicy.CLUSTER
    source_ranges: tuple[IPNetwork, ...] = ()
    """`loadBalancerSourceRanges`; empty: everybody."""
    affinity_seconds: int = 0
    """How long `sessionAffinity: ClientIP` remembers a client; 0: no affinity."""
    publish_not_ready: bool = False
    health_check_node_port: int = 0
    """0: none."""
    algorithm: Algorithm = Algorithm.RANDOM

    @property
    def key(self) -> str:
        """Namespace and name, as Kubernetes tools write them."""
        return f"{self.namespace}/{self.name}"

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """All that clients may reach it by."""
        return (*self.cluster_ips, *self.external_ips, *(one.address for one in self.load_balancer))


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What is particular to the node that the traffic enters at."""

    addresses: tuple[IPAddress, ...] = ()
    """Where node ports answer."""
    pods: tuple[IPNetwork, ...] = ()
    """The blocks that this node's pods have their addresses from; empty: unknown."""
    shares_blocks: bool = False
    """Pods of other nodes have addresses from the same blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """What a node answers on a Service's `healthCheckNodePort`."""

    namespace: str
    name: str
    local_endpoints: int


def serving(service: Service, port: ServicePort, family: int) -> tuple[Endpoint, ...]:
    """The endpoints of one family (4 or 6) for traffic that any node's endpoints may serve, in a fixed order."""
    return _best(service, (e for e in port.endpoints if e.address.version == family))


def serving_here(service: Service, port: ServicePort, family: int) -> tuple[Endpoint, ...]:
    """The endpoints of one family for traffic that must stay on this node, in a fixed order."""
    return _best(service, (e for e in port.endpoints if e.local and e.address.version == family))


def draining(port: ServicePort, family: int) -> tuple[Endpoint, ...]:
    """The endpoints of one family that are leaving but may end what they have begun."""
    return tuple(e for e in port.endpoints if e.serving and e.terminating and e.address.version == family)


def health_check(service: Service) -> HealthCheck:
    """Whether load balancers should send the Service's traffic here.

    Terminating endpoints serve what still comes but do not count, so that load balancers turn away in time.
    A pod with an address of each family counts once.
    """
    ready = _ready(service)
    here = {e.address for port in service.ports for e in port.endpoints if e.local and ready(e)}
    of_ipv4 = sum(address.version == 4 for address in here)
    count = max(of_ipv4, len(here) - of_ipv4)
    return HealthCheck(namespace=service.namespace, name=service.name, local_endpoints=count)


def outsider(service: Service, node: Node) -> IPAddress | None:
    """An endpoint on this node with an address that is neither the node's nor of a known block of pods.

    Such pods are taken for clients from outside.
    """
    here = {e.address for port in service.ports for e in port.endpoints if e.local}
    for address in sorted(here - set(node.addresses), key=lambda one: (one.version, int(one))):
        if not any(address in block for block in node.pods):
            return address
    return None


def collapsed(blocks: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
    """The same addresses in the fewest blocks, none overlapping another; IPv4 before IPv6."""
    every = tuple(blocks)
    return (
        *collapse_addresses(block for block in every if isinstance(block, IPv4Network)),
        *collapse_addresses(block for block in every if isinstance(block, IPv6Network)),
    )


def _best(service: Service, endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    ordered = sorted(endpoints, key=lambda e: (int(e.address), e.port))
    ready = _ready(service)
    return tuple(e for e in ordered if ready(e)) or tuple(e for e in ordered if e.serving and e.terminating)


def _ready(service: Service) -> Callable[[Endpoint], bool]:
    if service.publish_not_ready:
        return lambda _: True
    return lambda endpoint: endpoint.ready and not endpoint.terminating
