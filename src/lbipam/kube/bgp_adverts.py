"""Which routes does a `CiliumBGPAdvertisement` ask for, and what do they carry?

Malformed entries become reported problems beside the well-formed ones. The rules that the definition gives
to newer API servers are checked here again, with the same words, for the older ones. This file does not know
to whom the routes are announced.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from lbipam.core.bgp.attributes import LargeCommunity
from lbipam.core.bgp.routes import PLAIN, RouteAttributes
from lbipam.core.ipam.labels import EVERYTHING, Selector
from lbipam.kube import bgp_forms
from lbipam.kube.selectors import compile_selector

POOL_LABEL = "lbipam.dev/pool"
"""Label that selectors of Services may ask for: the name of the pool an address comes from."""

WELL_KNOWN_COMMUNITIES: Mapping[str, int] = {
    name: high << 16 | low
    for name, high, low in (
        ("internet", 0, 0),
        ("planned-shut", 65535, 0),
        ("accept-own", 65535, 1),
        ("route-filter-translated-v4", 65535, 2),
        ("route-filter-v4", 65535, 3),
        ("route-filter-translated-v6", 65535, 4),
        ("route-filter-v6", 65535, 5),
        ("llgr-stale", 65535, 6),
        ("no-llgr", 65535, 7),
        ("blackhole", 65535, 666),
        ("no-export", 65535, 65281),
        ("no-advertise", 65535, 65282),
        ("no-export-subconfed", 65535, 65283),
        ("no-peer", 65535, 65284),
    )
}
"""RFC 1997 and the IANA registry of well-known communities, by Cilium's names."""


def joined(left: RouteAttributes, right: RouteAttributes) -> RouteAttributes:
    """Both together: the communities of both, the higher preference (Cilium since 1.18)."""
    preferences = [one for one in (left.local_preference, right.local_preference) if one is not None]
    return RouteAttributes(
        communities=left.communities | right.communities,
        large_communities=left.large_communities | right.large_communities,
        local_preference=max(preferences, default=None),
    )


class AddressType(Enum):
    """Where a Service has the address."""

    LOAD_BALANCER = "LoadBalancerIP"
    EXTERNAL = "ExternalIP"
    CLUSTER = "ClusterIP"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRoutes:
    """Addresses of the Services that are selected."""

    types: frozenset[AddressType]
    selector: Selector
    aggregation: Mapping[int, int]
    """IP version → prefix length in place of the host route's."""
    pools: Selector = EVERYTHING
    """By the labels of the pool that an address comes from."""

    def __hash__(self) -> int:
        return hash((self.types, self.selector, tuple(sorted(self.aggregation.items())), self.pools))


@dataclass(frozen=True, slots=True)
class PodRoutes:
    """The pod CIDRs of the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceRoutes:
    """The addresses of an interface of the node."""

    name: str


Source: TypeAlias = ServiceRoutes | PodRoutes | InterfaceRoutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Advert:
    """One source of routes, and what they carry."""

    source: Source
    attributes: RouteAttributes = PLAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertisement:
    """A `CiliumBGPAdvertisement`: its well-formed adverts."""

    name: str
    labels: Mapping[str, str]
    adverts: tuple[Advert, ...]
    problems: tuple[str, ...] = ()


def read_advertisement(written: bgp_forms.Advertisement) -> Advertisement:
    """The adverts of an object, in its order."""
    problems: list[str] = []
    adverts: list[Advert] = []
    for number, item in enumerate(written.spec.advertisements, start=1):
        try:
            source = _source(item)
            attributes = _attributes(item.attributes)
        except ValueError as problem:
            problems.append(f"CiliumBGPAdvertisement {written.metadata.name}, entry {number}: {problem}")
            continue
        if source is not None:
            adverts.append(Advert(source=source, attributes=attributes))
    return Advertisement(
        name=written.metadata.name,
        labels=written.metadata.labels or {},
        adverts=tuple(adverts),
        problems=tuple(problems),
    )


def _source(item: bgp_forms.AdvertisementItem) -> Source | None:
    """Where the routes come from; None if they come from nowhere by intent."""
    _check_shape(item)
    match item.advertisement_type:
        case "Service" if item.service is not None:
            # Without a selector no Service is selected: Cilium's usual trap, kept.
            if item.selector is None:
                return None
            return _service_routes(item.service, compile_selector(item.selector))
        case "PodCIDR":
            return PodRoutes()
        case "Interface" if item.interface is not None:
            return InterfaceRoutes(name=item.interface.name)
        case "CiliumPodIPPool":
            raise ValueError("CiliumPodIPPool is not advertised: pod pools belong to Cilium's own network")
        case unknown:
            raise ValueError(f"'{unknown}' is not an advertisementType")


def _check_shape(item: bgp_forms.AdvertisementItem) -> None:
    kind = item.advertisement_type
    for field, owner, value in (
        ("service", "Service", item.service),
        ("interface", "Interface", item.interface),
    ):
        if kind == owner and value is None:
            raise ValueError(f"{field} field is required for the '{owner}' advertisementType")
        if kind != owner and value is not None:
            raise ValueError(f"{field} field is not allowed for non-'{owner}' advertisementType")
    if kind == "PodCIDR" and item.selector is not None:
        raise ValueError("selector field is not allowed for the 'PodCIDR' advertisementType")


def _service_routes(options: bgp_forms.ServiceOptions, selector: Selector) -> ServiceRoutes:
    aggregation: dict[int, int] = {}
    for version, length, longest in (
        (4, options.aggregation_length_ipv4, 31),
        (6, options.aggregation_length_ipv6, 127),
    ):
        if length is None:
            continue
        if not 0 <= length <= longest:
            raise ValueError(f"aggregationLengthIPv{version} must be from 0 to {longest}")
        aggregation[version] = length
    return ServiceRoutes(
        types=read_address_types(options.addresses), selector=selector, aggregation=aggregation
    )


def read_address_types(names: tuple[str, ...]) -> frozenset[AddressType]:
    """Types of addresses by their names.

    Raises:
        ValueError: there is no such type.
    """
    try:
        return frozenset(AddressType(name) for name in names)
    except ValueError as problem:
        raise ValueError(f"{problem}: not a type of address") from None


def _attributes(written: bgp_forms.Attributes | None) -> RouteAttributes:
    if written is None:
        return PLAIN
    return read_attributes(written.communities, written.local_preference)


def read_attributes(communities: bgp_forms.Communities | None, preference: int | None) -> RouteAttributes:
    """What routes are to carry.

    Raises:
        ValueError: a community or the preference cannot be carried.
    """
    if preference is not None and not 0 <= preference < 2**32:
        raise ValueError(f"localPreference {preference} does not fit in 32 bits")
    if communities is None:
        return RouteAttributes(local_preference=preference)
    standard = {_standard_community(text) for text in communities.standard}
    for name in communities.well_known:
        if name not in WELL_KNOWN_COMMUNITIES:
            raise ValueError(f"'{name}' is not a well-known community")
        standard.add(WELL_KNOWN_COMMUNITIES[name])
    return RouteAttributes(
        communities=frozenset(standard),
        large_communities=frozenset(_large_community(text) for text in communities.large),
        local_preference=preference,
    )


def _standard_community(text: str) -> int:
    """RFC 1997: a number of 32 bits, or two of 16 with a colon."""
    parts = _numbers(text, 32 if ":" not in text else 16)
    match parts:
        case (number,):
            return number
        case (high, low):
            return high << 16 | low
        case _:
            raise ValueError(f"'{text}' is not a community")


def _large_community(text: str) -> LargeCommunity:
    """RFC 8092: three numbers of 32 bits."""
    match _numbers(text, 32):
        case (administrator, first, second):
            return administrator, first, second
        case _:
            raise ValueError(f"'{text}' is not a large community")


def _numbers(text: str, bits: int) -> tuple[int, ...]:
    parts = text.split(":")
    if not all(part.isascii() and part.isdigit() and int(part) < 2**bits for part in parts):
        raise ValueError(f"'{text}' is not a community: its parts are numbers of {bits} bits")
    return tuple(int(part) for part in parts)
