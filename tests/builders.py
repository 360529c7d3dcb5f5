"""Terse core values for tests of LB IPAM, with defaults that do not matter."""

from collections.abc import Iterable

from lbipam.core.ipam.addresses import Address, Family, Range, parse_address, parse_cidr, parse_range
from lbipam.core.ipam.labels import EVERYTHING, Operator, Requirement, Selector
from lbipam.core.ipam.ledger import Ledger
from lbipam.core.ipam.pools import Block, Pool
from lbipam.core.ipam.reservations import Reservation
from lbipam.core.ipam.services import ALONE, Port, Service, ServiceKey, Sharing, TrafficPolicy

V4, V6 = Family.IPV4, Family.IPV6


def ip(text: str) -> Address:
    return parse_address(text)


def key(text: str) -> ServiceKey:
    """`namespace/name`, or a name in namespace `default`."""
    namespace, slash, name = text.partition("/")
    return ServiceKey(namespace, name) if slash else ServiceKey("default", namespace)


def block(text: str) -> Block:
    """A prefix, an address, or `first-last`."""
    if "/" in text:
        return Block(range=parse_cidr(text), from_cidr=True)
    return Block(range=parse_range(text))


def wants(**labels: str) -> Selector:
    """A selector of Services with these labels."""
    return Selector(tuple(Requirement(name, Operator.IN, (value,)) for name, value in labels.items()))


def pool(
    name: str,
    *blocks: str,
    selector: Selector | None = EVERYTHING,
    created: str = "",
    priority: int = 0,
    ends: bool = True,
    disabled: bool = False,
    auto: bool = True,
) -> Pool:
    return Pool(
        name=name,
        created=created,
        blocks=tuple(block(text) for text in blocks),
        selector=selector,
        allow_first_last=ends,
        disabled=disabled,
        priority=priority,
        auto_assign=auto,
    )


def shares(
    name: str,
    *ports: int | str,
    local: bool = False,
    selector: str = "app=a",
    namespaces: Iterable[str] = (),
    different_pods: bool = False,
) -> Sharing:
    """A sharing key with ports: `80` is TCP, `"udp/53"` says otherwise."""
    parsed = (str(port).rpartition("/") for port in ports)
    return Sharing(
        key=name,
        ports=frozenset(Port(protocol.upper() or "TCP", int(number)) for protocol, _, number in parsed),
        policy=TrafficPolicy.LOCAL if local else TrafficPolicy.CLUSTER,
        selector=tuple(tuple(part.split("=")) for part in selector.split(",") if part),  # type: ignore[misc]
        namespaces=frozenset(namespaces),
        permits_different_pods=different_pods,
    )


def service(
    name: str = "s",
    *addresses: str,
    families: Iterable[Family] = (V4,),
    pools: Iterable[str] = (),
    sharing: Sharing = ALONE,
    created: str = "",
    **labels: str,
) -> Service:
    return Service(
        key=key(name),
        created=created,
        labels=labels,
        families=tuple(families),
        addresses=tuple(ip(text) for text in addresses),
        pools=tuple(pools),
        sharing=sharing,
    )


def reservation(name: str, *ranges: str, to: str = "", created: str = "", reason: str = "") -> Reservation:
    return Reservation(
        name=name,
        created=created,
        ranges=tuple(parse_range(text) for text in ranges),
        service=key(to) if to else None,
        reason=reason,
    )


def ledger(*pools: Pool, reservations: Iterable[Reservation] = ()) -> Ledger:
    """A ledger on these pools with nobody in it."""
    made = Ledger()
    made.space.place_all(pools, reservations)
    return made


def whole(text: str) -> Range:
    return parse_range(text)
