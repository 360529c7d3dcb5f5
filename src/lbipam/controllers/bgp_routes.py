"""Which prefixes does this node announce, and by leave of which adverts?

    Services, endpoints, pools ─┐
    pod CIDRs, interfaces      ─┴─ adverts ─▶ prefix → the adverts that name it

A prefix may come from several Services (a shared address, a prefix that covers many) and from several
adverts; it is announced as long as one of each is left. A change of one Service or of its endpoints costs
as much as that Service has addresses. This file does not know peers.
"""

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeAlias

from lbipam.controllers.endpoints import EndpointIndex
from lbipam.controllers.host import Address, Carried, Host
from lbipam.core.bgp.nlri import Prefix
from lbipam.core.ipam.addresses import Range, as_ipaddress, parse_address
from lbipam.kube import bgp_adverts, forms
from lbipam.kube.ipam import BGP_CLASS
from lbipam.kube.kinds import Key
from lbipam.kube.selectors import service_labels

AdvertSet: TypeAlias = frozenset[int]
"""Adverts by their places in the table's list of adverts."""
Named: TypeAlias = tuple[tuple[Prefix, AdvertSet], ...]
"""What one Service names, each prefix once."""
Shape: TypeAlias = tuple[int, AdvertSet]
"""What of a prefix decides its attributes: IP version and adverts."""

_NO_ADVERTS: AdvertSet = frozenset()

_THE_NODE = Key("", "")
"""Who has the routes that do not come from Services; no Service is called so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRanges:
    """What announcing needs to know of a pool: which addresses come from it, and its labels."""

    name: str
    labels: Mapping[str, str]
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Everything besides Services that their routes follow from."""

    adverts: tuple[bgp_adverts.Advert, ...] = ()
    pools: tuple[PoolRanges, ...] = ()
    """In the order in which an address is looked for."""


class RouteTable:
    """The prefixes that are announced, each with the adverts that name it."""

    def __init__(self, endpoints: EndpointIndex, *, node: str, without_endpoints: bool) -> None:
        """`without_endpoints`: whether a Service without a ready endpoint anywhere is announced."""
        self._endpoints = endpoints
        self._node = node
        self._without_endpoints = without_endpoints
        self._around = Surroundings()
        self._carried: Carried | None = None
        self._by_service: dict[Key, Named] = {}
        self._routes: dict[Prefix, AdvertSet] = {}
        self._counts: dict[Prefix, Counter[int]] = {}
        """How many name a prefix by leave of an advert, for prefixes that more than one names."""
        self._advert_sets: dict[AdvertSet, AdvertSet] = {}
        """Each once: of thousands of prefixes most have the same."""
        self._shapes: Counter[Shape] = Counter()
        self._covering: set[Prefix] = set()

    @property
    def covering(self) -> frozenset[Prefix]:
        """Announced for Services and longer than an address: blocks of which some addresses may be nobody's."""
        of_the_node = {prefix for prefix, _ in self._by_service.get(_THE_NODE, ())}
        return frozenset(self._covering - of_the_node)

    @property
    def shapes(self) -> frozenset[Shape]:
        """Every combination of family and adverts that some prefix has: few, however many prefixes there are."""
        return frozenset(self._shapes)

    @property
    def routes(self) -> Mapping[Prefix, AdvertSet]:
        """The table as it is; it changes with the next call."""
        return self._routes

    def surround(self, around: Surroundings, services: Mapping[Key, forms.Service]) -> None:
        """Compute everything anew, but for the routes of the node itself, which are forgotten."""
        self._around = around
        self._by_service.clear()
        self._routes.clear()
        self._counts.clear()
        self._advert_sets.clear()
        self._shapes.clear()
        self._covering.clear()
        for key, service in services.items():
            self._replace(key, self._wanted(service))

    def locate(self, node: forms.Node | None, host: Host) -> bool:
        """Look at the routes of the node itself; whether any has changed."""
        return self._replace(_THE_NODE, self._together(self._node_routes(node, host)))

    def carry(self, carried: Carried, news: AbstractSet[Key]) -> AbstractSet[Key]:
        """From now on only addresses that are carried here are announced; the Services to be looked at again.

        Args:
            carried: By Service; it is looked at later, too.
            news: The Services of which it tells otherwise than before.
        """
        before, self._carried = self._carried, carried
        return news if before is not None else carried.keys() | self._by_service.keys() - {_THE_NODE}

    def update(self, key: Key, service: forms.Service | None) -> bool:
        """Look at one Service again; whether any route has changed."""
        return self._replace(key, self._wanted(service) if service is not None else ())

    def _replace(self, owner: Key, wanted: Named) -> bool:
        had = self._by_service.get(owner, ())
        if had == wanted:
            return False
        if wanted:
            self._by_service[owner] = wanted
        else:
            del self._by_service[owner]
        before = {prefix: self._routes.get(prefix, _NO_ADVERTS) for prefix, _ in (*had, *wanted)}
        for prefix, adverts in wanted:
            self._count(prefix, adverts, +1)
        for prefix, adverts in had:
            self._count(prefix, adverts, -1)
        changed = [self._has_changed(prefix, adverts) for prefix, adverts in before.items()]
        return any(changed)

    def _count(self, prefix: Prefix, adverts: AdvertSet, by: int) -> None:
        """So many more, or fewer, name a prefix by leave of these adverts."""
        counts = self._counts.pop(prefix, None) or Counter(self._routes.get(prefix, _NO_ADVERTS))
        for advert in adverts:
            counts[advert] += by
        left = +counts
        if not left:
            del self._routes[prefix]
            return
        self._routes[prefix] = self._once(frozenset(left))
        if max(left.values()) > 1:
            self._counts[prefix] = left

    def _has_changed(self, prefix: Prefix, before: AdvertSet) -> bool:
        """Whether a prefix has other adverts than before; what follows from them, too."""
        adverts = self._routes.get(prefix, _NO_ADVERTS)
        if adverts == before:
            return False
        self._count_shape(prefix, before, -1)
        self._count_shape(prefix, adverts, +1)
        if not adverts:
            self._covering.discard(prefix)
        elif prefix.prefixlen < prefix.max_prefixlen:
            self._covering.add(prefix)
        return True

    def _once(self, adverts: AdvertSet) -> AdvertSet:
        return self._advert_sets.setdefault(adverts, adverts)

    def _together(self, named: Iterable[tuple[Prefix, int]]) -> Named:
        """The adverts of each prefix."""
        found: dict[Prefix, set[int]] = {}
        for prefix, advert in named:
            found.setdefault(prefix, set()).add(advert)
        return tuple((prefix, self._once(frozenset(adverts))) for prefix, adverts in found.items())

    def _count_shape(self, prefix: Prefix, adverts: AdvertSet, by: int) -> None:
        if not adverts:
            return
        shape = (prefix.version, adverts)
        self._shapes[shape] += by
        if not self._shapes[shape]:
            del self._shapes[shape]

    # --- routes of the node itself ------------------------------------------------------------------------

    def _node_routes(self, node: forms.Node | None, host: Host) -> Iterator[tuple[Prefix, int]]:
        for index, advert in enumerate(self._around.adverts):
            match advert.source:
                case bgp_adverts.PodRoutes():
                    for prefix in _pod_prefixes(node):
                        yield prefix, index
                case bgp_adverts.InterfaceRoutes(name=name):
                    for address in _interface_addresses(host, name):
                        yield ipaddress.ip_network(address), index
                case bgp_adverts.ServiceRoutes():
                    pass

    # --- routes of Services -------------------------------------------------------------------------------

    def _wanted(self, service: forms.Service) -> Named:
        if service.metadata.deletion_timestamp is not None:
            return ()
        addresses = {
            type_: found for type_ in bgp_adverts.AddressType if (found := self._announceable(service, type_))
        }
        return self._together(self._named(service, addresses)) if addresses else ()

    def _announceable(
        self, service: forms.Service, type_: bgp_adverts.AddressType
    ) -> tuple[tuple[Address, PoolRanges | None], ...]:
        """The addresses of one type, unless the Service's endpoints forbid all of them."""
        found = tuple(filter(self._carries(service.metadata.key), _addresses(service, type_)))
        if not found or not self._is_served(service, type_):
            return ()
        return tuple((address, self._pool_of(address)) for address in found)

    def _carries(self, key: Key) -> Callable[[Address], bool]:
        if self._carried is None:
            return lambda _: True
        return self._carried.get(key, ()).__contains__

    def _is_served(self, service: forms.Service, type_: bgp_adverts.AddressType) -> bool:
        key = service.metadata.key
        if _is_local(service, type_):
            return self._endpoints.has_ready(key, node=self._node)
        return self._without_endpoints or self._endpoints.has_ready(key)

    def _pool_of(self, address: Address) -> PoolRanges | None:
        if not self._around.pools:
            return None
        place = parse_address(str(address))
        for pool in self._around.pools:
            if any(place in one for one in pool.ranges):
                return pool
        return None

    def _named(
        self,
        service: forms.Service,
        addresses: Mapping[bgp_adverts.AddressType, tuple[tuple[Address, PoolRanges | None], ...]],
    ) -> Iterator[tuple[Prefix, int]]:
        metadata = service.metadata
        labels = service_labels(metadata.labels, metadata.namespace, metadata.name)
        for index, advert in enumerate(self._around.adverts):
            source = advert.source
            if not isinstance(source, bgp_adverts.ServiceRoutes):
                continue
            for type_ in source.types & addresses.keys():
                aggregation = {} if _is_local(service, type_) else source.aggregation
                for address, pool in addresses[type_]:
                    if _selects(source, labels, pool):
                        yield _prefix(address, aggregation), index


def _pod_prefixes(node: forms.Node | None) -> Iterator[Prefix]:
    if node is None:
        return
    for text in node.spec.pod_cidrs or ((node.spec.pod_cidr,) if node.spec.pod_cidr else ()):
        try:
            yield ipaddress.ip_network(text, strict=False)
        except ValueError:
            continue


def _interface_addresses(host: Host, name: str) -> Iterator[Address]:
    interface = host.interface(name)
    if interface is None or not interface.up:
        return
    for address in interface.addresses:
        if address.is_loopback or address.is_multicast:
            continue
        if isinstance(address, ipaddress.IPv6Address) and (address.is_link_local or address.ipv4_mapped):
            continue
        yield address


def _selects(source: bgp_adverts.ServiceRoutes, labels: Mapping[str, str], pool: PoolRanges | None) -> bool:
    if pool is None:
        return source.selector.matches(labels) and not source.pools.requirements
    return source.selector.matches({**labels, bgp_adverts.POOL_LABEL: pool.name}) and source.pools.matches(
        pool.labels
    )


def _prefix(address: Address, aggregation: Mapping[int, int]) -> Prefix:
    length = aggregation.get(address.version, address.max_prefixlen)
    prefix = ipaddress.ip_network((address, length), strict=False)
    if length == address.max_prefixlen:
        # A closure that each network of one address has, and that takes more memory than all else of it.
        del prefix.hosts
    return prefix


def _is_local(service: forms.Service, type_: bgp_adverts.AddressType) -> bool:
    """Whether only nodes with an endpoint answer on addresses of this type."""
    if type_ is bgp_adverts.AddressType.CLUSTER:
        return service.spec.internal_traffic_policy == "Local"
    return service.spec.external_traffic_policy == "Local"


def _addresses(service: forms.Service, type_: bgp_adverts.AddressType) -> Iterator[Address]:
    spec = service.spec
    texts: Iterable[str] = ()
    match type_:
        case bgp_adverts.AddressType.LOAD_BALANCER:
            is_ours = spec.load_balancer_class in (None, BGP_CLASS)
            if spec.type == "LoadBalancer" and is_ours:
                texts = (entry.ip for entry in service.status.load_balancer.ingress)
        case bgp_adverts.AddressType.EXTERNAL:
            texts = spec.external_ips
        case bgp_adverts.AddressType.CLUSTER:
            texts = dict.fromkeys((spec.cluster_ip, *spec.cluster_ips))
    for text in texts:
        try:
            place = parse_address(text)
        except ValueError:
            continue
        yield as_ipaddress(place)
