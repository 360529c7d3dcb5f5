"""What does one address and port of a Service answer with on this node?

A `Frontend` is that answer: numbered endpoints (slots), which of them traffic from outside the node and
from inside it may pick, and what happens to the packet's source. Endpoints that both may pick are numbered
once: the node's own come first, so that the outside of a Local Service is the beginning of the list.

    slots            0 … k-1: on this node     k … n-1: elsewhere
    outside (Local)  Pick(first=0, count=k)
    inside           Pick(first=0, count=n)

This file does not know tables, chains or maps.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import TypeAlias, assert_never

from lbipam.core.datapath import maglev
from lbipam.core.datapath.services import (
    Algorithm,
    Endpoint,
    IPAddress,
    IPMode,
    IPNetwork,
    Node,
    Protocol,
    Service,
    ServicePort,
    TrafficPolicy,
    collapsed,
    draining,
    serving,
    serving_here,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """New connections go to one of the slots `first … first + count - 1`."""

    first: int
    count: int
    algorithm: Algorithm = Algorithm.RANDOM


class Unserved(Enum):
    """What happens to connections that no endpoint may have."""

    DROP = "drop"
    """Endpoints exist, but the policy keeps the traffic from them: a load balancer should try elsewhere."""
    REFUSE = "refuse"
    """The Service has no endpoints at all: the client is told at once."""


Choice: TypeAlias = Pick | Unserved


class Source(Enum):
    """What becomes of the client's address; a pod that reaches itself is masqueraded in any case."""

    MASQUERADED = "masqueraded"
    """All but this node's pods: the answer has to come back through this node."""
    KEPT = "kept"
    """All but the node itself, whose address towards the Service may mean nothing to the pod."""
    PODS_MASQUERADED = "pods-masqueraded"
    """The node itself and all pods: of a pod elsewhere the answer has to come back through this node."""
    ALL_MASQUERADED = "all-masqueraded"
    """All: the same where no address is kept."""


class Kind(Enum):
    """Why an address answers for a Service; of two Services that claim a port of it, the earlier kind has it."""

    CLUSTER_IP = 0
    NODE_PORT = 1
    LOAD_BALANCER = 2
    EXTERNAL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontend:
    """One address, protocol and port of a Service on this node."""

    service: str
    kind: Kind
    address: IPAddress
    protocol: Protocol
    port: int
    slots: tuple[Endpoint, ...] = ()
    draining: tuple[Endpoint, ...] = ()
    """Endpoints that keep the flows they have, whether new ones come to them or not."""
    outside: Choice
    inside: Choice
    source: Source
    restricted: bool = False
    """Only `source_ranges` may connect, be they empty."""
    source_ranges: tuple[IPNetwork, ...] = ()
    affinity_seconds: int = 0
    is_of_node: bool = False
    """The node itself has the address, as with `io.cilium/node`."""
    text: str
    """The address as text: it is written often."""
    key: str
    """The same for no other address, protocol and port."""

    @property
    def is_guarded(self) -> bool:
        """The address was given to Services only: ports of it that are none's are refused, pings answered.

        An external IP may be anybody's, and so may a node's address, be it in a Service's status; they are only
        borrowed.
        """
        return self.kind in (Kind.CLUSTER_IP, Kind.LOAD_BALANCER) and not self.is_of_node

    @property
    def claim(self) -> tuple[int, str]:
        """Of several frontends with one key, the one with the lowest claim stands."""
        return self.kind.value, self.service

    @property
    def served(self) -> bool:
        """It has endpoints, be it that not everybody may have them."""
        return self.outside is not Unserved.REFUSE

    @property
    def target_ports(self) -> tuple[int, ...]:
        """The ports of the endpoints, each once, in order."""
        return tuple(sorted({endpoint.port for endpoint in self.slots}))

    def may_serve(self, client: IPAddress, endpoint: IPAddress, port: int, node: Node) -> bool:
        """Whether the client's connections could be sent to that endpoint by this frontend.

        Its port counts, too: pods that have the same address one after the other may have other ports.
        """
        inside = client in node.addresses or any(client in block for block in node.pods)
        choice = self.inside if inside else self.outside
        if not isinstance(choice, Pick):
            return False
        slots = self.slots[choice.first : choice.first + choice.count]
        return any((e.address, e.port) == (endpoint, port) for e in slots)


def frontends(service: Service, node: Node) -> tuple[Frontend, ...]:
    """Everything that the Service answers on at this node."""
    return tuple(frontend for port in service.ports for frontend in _of_port(service, port, node))


def _of_port(service: Service, port: ServicePort, node: Node) -> Iterator[Frontend]:
    plans = {family: _Plans(service, port, node, family) for family in (4, 6)}
    ranges = collapsed(service.source_ranges)
    seen: set[str] = set()
    for kind, address, number in _sites(service, port, node):
        text = f"{address}"
        key = f"{port.protocol.value} {text} {number}"
        if key in seen:
            continue
        seen.add(key)
        of_family = plans[address.version]
        plan = of_family.plan(kind)
        restricted = kind is Kind.LOAD_BALANCER and _is_restricted(service, address)
        yield Frontend(
            service=service.key,
            kind=kind,
            address=address,
            protocol=port.protocol,
            port=number,
            slots=plan.slots,
            draining=of_family.draining,
            outside=plan.outside,
            inside=plan.inside,
            source=plan.source,
            restricted=restricted,
            source_ranges=tuple(b for b in ranges if b.version == address.version) if restricted else (),
            affinity_seconds=service.affinity_seconds,
            is_of_node=address in node.addresses,
            text=text,
            key=key,
        )


def _sites(service: Service, port: ServicePort, node: Node) -> Iterator[tuple[Kind, IPAddress, int]]:
    """Where the port answers: kind of address, address, port number."""
    for address in service.cluster_ips:
        yield Kind.CLUSTER_IP, address, port.port
    for entry in service.load_balancer:
        if entry.mode is IPMode.VIP:
            yield Kind.LOAD_BALANCER, entry.address, port.port
    for address in service.external_ips:
        yield Kind.EXTERNAL, address, port.port
    if port.node_port:
        for address in node.addresses:
            yield Kind.NODE_PORT, address, port.node_port


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The part of a frontend that does not depend on its address."""

    slots: tuple[Endpoint, ...]
    outside: Choice
    inside: Choice
    source: Source


class _Plans:
    """The plans of one port and family, for each kind of address."""

    def __init__(self, service: Service, port: ServicePort, node: Node, family: int) -> None:
        self._service = service
        self._port = port
        self._node = node
        self._family = family

    @cached_property
    def draining(self) -> tuple[Endpoint, ...]:
        return draining(self._port, self._family)

    @cached_property
    def _all(self) -> tuple[Endpoint, ...]:
        return serving(self._service, self._port, self._family)

    @cached_property
    def _here(self) -> tuple[Endpoint, ...]:
        return serving_here(self._service, self._port, self._family)

    def plan(self, kind: Kind) -> _Plan:
        """The plan for addresses of that kind."""
        match kind:
            case Kind.CLUSTER_IP:
                return self._internal()
            case Kind.LOAD_BALANCER | Kind.EXTERNAL:
                return self._external(self._service.algorithm)
            case Kind.NODE_PORT:
                return self._node_port()
            case _:
                assert_never(kind)

    def _internal(self) -> _Plan:
        """For cluster IPs: one answer for everybody; pods keep their address if they can be told apart."""
        pods_known = any(block.version == self._family for block in self._node.pods)
        source = Source.MASQUERADED if pods_known else Source.KEPT
        if self._service.internal_policy is TrafficPolicy.CLUSTER:
            return self._everywhere(source, Algorithm.RANDOM)
        if not self._all:
            return self._nowhere(source)
        choice: Choice = _pick(len(self._here)) if self._here else Unserved.DROP
        return _Plan(slots=self._here, outside=choice, inside=choice, source=source)

    def _external(self, algorithm: Algorithm) -> _Plan:
        """For addresses that the outside uses; the node and its pods reach all endpoints even if Local."""
        if self._service.external_policy is TrafficPolicy.CLUSTER:
            return self._everywhere(Source.MASQUERADED, algorithm)
        if not self._all:
            return self._nowhere(Source.KEPT)
        if not self._here:
            inside = _pick(len(self._all))
            return _Plan(slots=self._all, outside=Unserved.DROP, inside=inside, source=Source.KEPT)
        here, outside = _spread(self._here, algorithm)
        if algorithm is Algorithm.RANDOM and set(self._here) <= set(self._all):
            slots = here + tuple(e for e in self._all if not e.local)
            return _Plan(slots=slots, outside=outside, inside=_pick(len(slots)), source=Source.KEPT)
        inside = _pick(len(self._all), first=len(here))
        return _Plan(slots=here + self._all, outside=outside, inside=inside, source=Source.KEPT)

    def _node_port(self) -> _Plan:
        """As any address outside; but only here may packets of pods on other nodes arrive untranslated."""
        plan = self._external(Algorithm.RANDOM)
        if not self._node.shares_blocks:
            return plan
        is_kept = plan.source is Source.KEPT
        return replace(plan, source=Source.PODS_MASQUERADED if is_kept else Source.ALL_MASQUERADED)

    def _everywhere(self, source: Source, algorithm: Algorithm) -> _Plan:
        if not self._all:
            return self._nowhere(source)
        slots, choice = _spread(self._all, algorithm)
        return _Plan(slots=slots, outside=choice, inside=choice, source=source)

    def _nowhere(self, source: Source) -> _Plan:
        return _Plan(slots=(), outside=Unserved.REFUSE, inside=Unserved.REFUSE, source=source)


def _pick(count: int, *, first: int = 0) -> Pick:
    return Pick(first=first, count=count)


def _spread(endpoints: tuple[Endpoint, ...], algorithm: Algorithm) -> tuple[tuple[Endpoint, ...], Pick]:
    """The endpoints laid out on slots as the algorithm asks, and how to pick from them."""
    if algorithm is Algorithm.RANDOM:
        return endpoints, _pick(len(endpoints))
    table = maglev.table(tuple(f"{e.address} {e.port}" for e in endpoints))
    return tuple(endpoints[i] for i in table), Pick(first=0, count=len(table), algorithm=algorithm)


def _is_restricted(service: Service, address: IPAddress) -> bool:
    """Whether `loadBalancerSourceRanges` keep anybody away; without a range of its family, they all do."""
    everybody = (block.prefixlen == 0 for block in service.source_ranges if block.version == address.version)
    return bool(service.source_ranges) and not any(everybody)
