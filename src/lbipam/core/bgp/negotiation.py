"""What do two OPENs agree on, or why can there be no session?

The agreement is a value: whatever depends on what the peer can do is asked of it. When OPENs are sent is
not decided here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from lbipam.core.bgp.attributes import Context
from lbipam.core.bgp.codes import (
    AS_TRANS,
    EXTENDED_LENGTH,
    FAMILIES,
    MAXIMUM_LENGTH,
    ErrorCode,
    Family,
    OpenError,
)
from lbipam.core.bgp.errors import ProtocolError
from lbipam.core.bgp.messages import (
    Capability,
    ExtendedMessage,
    ExtendedNextHop,
    FourOctetAsn,
    GracefulRestart,
    Multiprotocol,
    Open,
    RouteRefreshing,
)
from lbipam.core.bgp.peers import Identity, LocalAddresses, Peer

_AFI_IPV6 = Family.IPV6.value[0]
_IPV4_OVER_IPV6 = (Family.IPV4.value, _AFI_IPV6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What both sides of a session can and will do."""

    theirs: Identity
    hold_seconds: int
    """0: nobody ever gives up."""
    keepalive_seconds: float
    families: frozenset[Family]
    context: Context
    maximum: int
    """Octets in a message."""
    ipv4_over_ipv6: bool
    """RFC 8950."""
    marks_end: bool
    """The peer understands End-of-RIB."""
    keeps_routes: frozenset[Family]
    """Families whose routes the peer keeps while we restart."""
    restarts: bool
    """The peer itself can restart gracefully."""


def propose(peer: Peer, ours: Identity, *, restarted: bool) -> Open:
    """The OPEN we send. `restarted`: we have had no session with the peer since we started (RFC 4724 §4.1)."""
    return Open(
        asn=ours.asn if ours.asn <= 0xFFFF else AS_TRANS,
        hold_seconds=peer.hold_seconds,
        router_id=ours.router_id,
        capabilities=tuple(_capabilities(peer, ours.asn, restarted=restarted)),
    )


def _capabilities(peer: Peer, asn: int, *, restarted: bool) -> Iterator[Capability]:
    families = sorted(family.value for family in peer.families)
    for family in families:
        yield Multiprotocol(family=family)
    yield RouteRefreshing()
    if peer.address.version == 6 and Family.IPV4 in peer.families:
        yield ExtendedNextHop(families=(_IPV4_OVER_IPV6,))
    yield ExtendedMessage()
    if peer.restart_seconds is not None:
        # The node goes on forwarding while its agent restarts: the F bit is set.
        yield GracefulRestart(
            restarted=restarted,
            seconds=peer.restart_seconds,
            families=tuple((family, True) for family in families),
        )
    yield FourOctetAsn(asn=asn)


def agree(peer: Peer, ours: Identity, theirs: Open) -> Agreement:
    """What follows from the peer's OPEN; raises `ProtocolError` (RFC 4271 §6.2)."""
    offers = {type(one): one for one in theirs.capabilities}
    wide = offers.get(FourOctetAsn)
    asn = wide.asn if isinstance(wide, FourOctetAsn) else theirs.asn
    _check(peer, ours, theirs, asn)
    hold_seconds = min(peer.hold_seconds, theirs.hold_seconds)
    restart = offers.get(GracefulRestart)
    families = _common_families(peer, theirs)
    hops = [one for one in theirs.capabilities if isinstance(one, ExtendedNextHop)]
    return Agreement(
        theirs=Identity(asn=asn, router_id=theirs.router_id),
        hold_seconds=hold_seconds,
        keepalive_seconds=min(peer.keepalive_seconds, hold_seconds / 3),
        families=families,
        context=Context(four_octet_asns=wide is not None, internal=asn == ours.asn),
        maximum=EXTENDED_LENGTH if ExtendedMessage in offers else MAXIMUM_LENGTH,
        ipv4_over_ipv6=any(_IPV4_OVER_IPV6 in one.families for one in hops),
        marks_end=restart is not None,
        keeps_routes=families if restart is not None and peer.restart_seconds is not None else frozenset(),
        restarts=isinstance(restart, GracefulRestart) and any(one in FAMILIES for one, _ in restart.families),
    )


def _check(peer: Peer, ours: Identity, theirs: Open, asn: int) -> None:
    code = ErrorCode.OPEN_MESSAGE
    if asn == 0 or peer.asn not in (0, asn):
        raise ProtocolError(code, OpenError.BAD_PEER_AS, f"the peer is AS {asn}, not {peer.asn}")
    if int(theirs.router_id) == 0:
        raise ProtocolError(code, OpenError.BAD_BGP_IDENTIFIER, "the peer's router ID is 0.0.0.0")
    if theirs.router_id == ours.router_id and asn == ours.asn:
        # RFC 6286 §2.2
        raise ProtocolError(
            code, OpenError.BAD_BGP_IDENTIFIER, f"the peer has our own router ID, {ours.router_id}"
        )
    if theirs.hold_seconds in (1, 2):
        raise ProtocolError(
            code, OpenError.UNACCEPTABLE_HOLD_TIME, f"the peer offers a hold time of {theirs.hold_seconds} s"
        )


def _common_families(peer: Peer, theirs: Open) -> frozenset[Family]:
    """RFC 4760 §8; a peer that does not speak of families means IPv4."""
    offered = {one.family for one in theirs.capabilities if isinstance(one, Multiprotocol)}
    offered = offered or {Family.IPV4.value}
    return frozenset(family for family in peer.families if family.value in offered)


def next_hops(agreement: Agreement, local: LocalAddresses) -> Mapping[Family, bytes | str]:
    """For each family agreed on the next hop that routes get, or why there is none."""
    return {family: _next_hop(family, agreement, local) for family in agreement.families}


def _next_hop(family: Family, agreement: Agreement, local: LocalAddresses) -> bytes | str:
    if isinstance(local.address, IPv4Address):
        if family is Family.IPV4:
            return local.address.packed
        return local.ipv6.packed if local.ipv6 else "the interface of the session has no global IPv6 address"
    if family is Family.IPV6 or agreement.ipv4_over_ipv6:
        return _ipv6_next_hop(local.address, local)
    return local.ipv4.packed if local.ipv4 else "the peer takes no IPv6 next hop for IPv4 (RFC 8950)"


def _ipv6_next_hop(address: IPv6Address, local: LocalAddresses) -> bytes:
    """RFC 2545 §3: on a session between link-local addresses, that one goes beside the global one."""
    if not address.is_link_local:
        return address.packed
    return (local.ipv6 or address).packed + address.packed
