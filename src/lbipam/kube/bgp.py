"""With whom does a node speak BGP, and how: peers and their settings as written in the API, into values.

Malformed input becomes a reported problem beside the part that is well-formed; nothing here raises on what
an object says. The rules that the definitions give to newer API servers are checked here again, with the
same words, for the older ones. It does not say what is announced.
"""

import base64
import binascii
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from lbipam.core.bgp.codes import Family
from lbipam.core.ipam.labels import Selector
from lbipam.kube import bgp_forms, forms
from lbipam.kube.ipam import parse_duration
from lbipam.kube.selectors import compile_selector

BFD = "lbipam.dev/bfd"
DRAIN = "lbipam.dev/drain"
TTL_SECURITY = "lbipam.dev/ttl-security"
LONGEST_PASSWORD = 80
"""In octets: `TCP_MD5SIG_MAXKEYLEN` of Linux."""

WORDS = {Family.IPV4: "ipv4", Family.IPV6: "ipv6"}
"""How families are written."""
_FAMILIES = {word: family for family, word in WORDS.items()}

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


# --- how to speak with a peer -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Bfd:
    """Fast detection of a dead path (RFC 5880)."""

    interval_seconds: float
    multiplier: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyAdverts:
    """A family of a session, and which advertisements it carries."""

    family: Family
    selector: Selector | None
    """By labels of `CiliumBGPAdvertisement`s; None: nothing is announced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """How to speak with a peer; the defaults are those of a peer without `peerConfigRef`."""

    port: int = 179
    connect_retry_seconds: int = 120
    hold_seconds: int = 90
    keepalive_seconds: int = 30
    secret: str | None = None
    """Name of the Secret whose key `password` signs the session."""
    restart_seconds: int | None = None
    """Graceful restart; None: off."""
    multihop: int = 1
    families: tuple[FamilyAdverts, ...] = (
        FamilyAdverts(family=Family.IPV6, selector=None),
        FamilyAdverts(family=Family.IPV4, selector=None),
    )
    bfd: Bfd | None = None
    secure_hops: int | None = None
    """Packets from farther away are not the peer's (RFC 5082); None: that is not looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettingsReading:
    """The settings, and what of them cannot be understood."""

    settings: PeerSettings
    problems: tuple[str, ...] = ()


def read_peer_config(written: bgp_forms.PeerConfig) -> PeerSettingsReading:
    """The settings in a `CiliumBGPPeerConfig`."""
    where = f"CiliumBGPPeerConfig {written.metadata.name}"
    spec, problems = written.spec, list[str]()
    annotations = written.metadata.annotations or {}
    transport = spec.transport or bgp_forms.Transport()
    timers = spec.timers or bgp_forms.Timers()
    hold, keepalive = read_timers(timers.hold_time_seconds, timers.keep_alive_time_seconds, where, problems)
    settings = PeerSettings(
        port=transport.peer_port,
        connect_retry_seconds=timers.connect_retry_time_seconds,
        hold_seconds=hold,
        keepalive_seconds=keepalive,
        secret=spec.auth_secret_ref or None,
        restart_seconds=restart_seconds(spec.graceful_restart),
        multihop=spec.ebgp_multihop,
        families=read_families(spec.families, where, problems),
        bfd=_bfd(annotations, where, problems),
        secure_hops=_secure_hops(annotations, where, problems),
    )
    return PeerSettingsReading(settings=settings, problems=tuple(problems))


def read_timers(hold: int, keepalive: int, where: str, problems: list[str]) -> tuple[int, int]:
    """Hold time and keepalive interval; one that is too long is a problem, and a third of the hold time."""
    if keepalive <= hold:
        return hold, keepalive
    problems.append(f"{where}: keepAliveTimeSeconds can not be larger than holdTimeSeconds")
    return hold, max(1, hold // 3)


def restart_seconds(written: bgp_forms.GracefulRestart | None) -> int | None:
    """For how long the peer keeps routes of a session that is away; None: not at all."""
    return written.restart_time_seconds if written is not None and written.enabled else None


def read_families(
    written: tuple[bgp_forms.Family, ...], where: str, problems: list[str]
) -> tuple[FamilyAdverts, ...]:
    """The families that are spoken; IPv4 and IPv6 without adverts where none are written."""
    if not written:
        return PeerSettings().families
    found: list[FamilyAdverts] = []
    for one in written:
        family = _FAMILIES.get(one.afi)
        if family is None or one.safi != "unicast":
            problems.append(f"{where}: the family {one.afi}/{one.safi} is not spoken here")
            continue
        selector: Selector | None = None
        if one.advertisements is not None:
            try:
                selector = compile_selector(one.advertisements)
            except ValueError as problem:
                problems.append(f"{where}: the advertisements of {one.afi} are not valid: {problem}")
        found.append(FamilyAdverts(family=family, selector=selector))
    return tuple(found)


def _bfd(annotations: Mapping[str, str], where: str, problems: list[str]) -> Bfd | None:
    """`300ms/3`: minimum interval and detection multiplier."""
    text = annotations.get(BFD)
    if text is None:
        return None
    try:
        interval, _, multiplier = text.partition("/")
        bfd = Bfd(interval_seconds=parse_duration(interval), multiplier=int(multiplier))
    except ValueError:
        problems.append(
            f"{where}: the annotation {BFD} says '{text}', not an interval and a number as 300ms/3"
        )
        return None
    if not 0.01 <= bfd.interval_seconds <= 60 or not 1 <= bfd.multiplier <= 255:
        problems.append(f"{where}: the annotation {BFD} says '{text}': from 10ms/1 to 60s/255")
        return None
    return bfd


def _secure_hops(annotations: Mapping[str, str], where: str, problems: list[str]) -> int | None:
    """`1`: the peer is on the same network; more for each router between."""
    text = annotations.get(TTL_SECURITY)
    if text is None:
        return None
    if text in map(str, range(1, 255)):
        return int(text)
    problems.append(
        f"{where}: the annotation {TTL_SECURITY} says '{text}', not a number of hops from 1 to 254"
    )
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedAddress:
    """The peer is at this address; a link-local one is found through its interface."""

    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAddress:
    """The peer is the gateway of the default route of a family."""

    family: Family


Location: TypeAlias = FixedAddress | GatewayAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A peer of an instance."""

    name: str
    location: Location
    asn: int
    """0: whatever the peer says."""
    local_address: Address | None = None
    config: str | None = None
    """Name of the `CiliumBGPPeerConfig`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A virtual router of the node."""

    name: str
    local_asn: int
    local_port: int | None
    router_id: ipaddress.IPv4Address | None
    peers: tuple[Peer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReading:
    """What a node is told to do, and what of it cannot be understood, by instance."""

    instances: tuple[Instance, ...]
    problems: tuple[tuple[str, str], ...] = ()
    """Name of the instance, and the problem."""


def read_node_config(written: bgp_forms.NodeConfig) -> NodeReading:
    """The well-formed instances and peers of a node's configuration."""
    instances: list[Instance] = []
    problems: list[tuple[str, str]] = []
    for one in written.spec.bgp_instances:
        if not one.local_asn:
            problems.append((one.name, "localASN is not set, here nor in an override"))
            continue
        peers: list[Peer] = []
        for peer in one.peers:
            try:
                peers.append(_peer(peer))
            except ValueError as problem:
                problems.append((one.name, f"peer {peer.name}: {problem}"))
        router_id = None
        if one.router_id:
            try:
                router_id = ipaddress.IPv4Address(one.router_id)
            except ValueError as problem:
                problems.append((one.name, f"routerID: {problem}"))
        instances.append(
            Instance(
                name=one.name,
                local_asn=one.local_asn,
                local_port=one.local_port,
                router_id=router_id,
                peers=tuple(peers),
            )
        )
    return NodeReading(instances=tuple(instances), problems=tuple(problems))


def _peer(written: bgp_forms.Peer) -> Peer:
    location = _location(written)
    if written.peer_interface and written.local_address:
        raise ValueError("localAddress must not be set when peerInterface is set")
    local = _with_zone("localAddress", written.local_address) if written.local_address else None
    return Peer(
        name=written.name,
        location=location,
        asn=written.peer_asn,
        local_address=local,
        config=written.peer_config_ref.name if written.peer_config_ref else None,
    )


def _location(written: bgp_forms.Peer) -> Location:
    if written.peer_address:
        return FixedAddress(address=_peer_address(written.peer_address, written.peer_interface))
    discovery = written.auto_discovery
    if discovery is None:
        raise ValueError("one of peerAddress or autoDiscovery must be set")
    match discovery.mode:
        case "DefaultGateway":
            if discovery.default_gateway is None:
                raise ValueError("defaultGateway must be set when mode is DefaultGateway")
            family = _FAMILIES.get(discovery.default_gateway.address_family)
            if family is None:
                raise ValueError(f"'{discovery.default_gateway.address_family}' is not an addressFamily")
            return GatewayAddress(family=family)
        case "Unnumbered":
            raise ValueError("unnumbered peers are not spoken with: give the peer's address")
        case unknown:
            raise ValueError(f"'{unknown}' is not a mode of autoDiscovery")


def _peer_address(text: str, interface: str | None) -> Address:
    if not interface:
        return _with_zone("peerAddress", text)
    address = ipaddress.ip_address(text.strip())
    if not isinstance(address, ipaddress.IPv6Address) or not address.is_link_local:
        raise ValueError(
            "peerAddress must be an IPv6 link-local address (fe80::/10) when peerInterface is set"
        )
    return ipaddress.IPv6Address(f"{str(address).partition('%')[0]}%{interface}")


def _with_zone(field: str, text: str) -> Address:
    """An address that needs no interface, or names it."""
    address = ipaddress.ip_address(text.strip())
    if isinstance(address, ipaddress.IPv6Address) and address.is_link_local and not address.scope_id:
        raise ValueError(f"{field} is link-local and does not name its interface, as in {address}%eth0")
    return address


def read_password(secret: forms.Secret | None) -> bytes:
    """The password in a Secret; empty if there is none, with which Cilium connects as well."""
    text = ((secret.data or {}) if secret is not None else {}).get("password", "")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


def wants_drain(node: forms.Node) -> bool:
    """Whether the node is to give its routes up."""
    return (node.metadata.annotations or {}).get(DRAIN) == "true"
