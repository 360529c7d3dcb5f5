"""OPEN, UPDATE, NOTIFICATION, KEEPALIVE, ROUTE-REFRESH to and from bytes.

    +------------------+------------+----------+---------+
    | marker, 16 × FF  | length (2) | type (1) | body    |    RFC 4271 §4.1
    +------------------+------------+----------+---------+

A `Splitter` cuts a stream into messages; `decode` reads one. Whether a message may come now, and whether
what an OPEN offers is acceptable, is not decided here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypeAlias, assert_never

from lbipam.core.bgp import attributes, nlri
from lbipam.core.bgp.attributes import NONE, Context, Fault, PathAttributes, Remedy
from lbipam.core.bgp.codes import (
    EXTENDED_LENGTH,
    HEADER_LENGTH,
    MARKER,
    MAXIMUM_LENGTH,
    VERSION,
    AttributeType,
    CapabilityCode,
    ErrorCode,
    Family,
    HeaderError,
    MessageType,
    OpenError,
    ParameterType,
    RefreshError,
    UpdateError,
)
from lbipam.core.bgp.errors import Notification, ProtocolError
from lbipam.core.bgp.nlri import Nlri
from lbipam.core.bgp.wire import Reader, TruncatedError, u8, u16, u32

AfiSafi: TypeAlias = tuple[int, int]


# --- capabilities of OPEN ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiprotocol:
    """RFC 4760 §8."""

    family: AfiSafi


@dataclass(frozen=True, slots=True)
class RouteRefreshing:
    """RFC 2918 §2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedNextHop:
    """RFC 8950 §4: routes of a family may have a next hop of another (given by its AFI)."""

    families: tuple[tuple[AfiSafi, int], ...]


@dataclass(frozen=True, slots=True)
class ExtendedMessage:
    """RFC 8654 §3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FourOctetAsn:
    """RFC 6793 §3."""

    asn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GracefulRestart:
    """RFC 4724 §3."""

    restarted: bool
    """The sender has restarted and is not to be waited for."""
    seconds: int
    """0–4095: how long routes are to be kept for the sender's return."""
    families: tuple[tuple[AfiSafi, bool], ...]
    """With each, whether forwarding went on through the restart."""
    notification: bool = False
    """RFC 8538 §2: NOTIFICATIONs do not end forwarding either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownCapability:
    """One that lbipam has no use for, as it came."""

    code: int
    value: bytes


Capability: TypeAlias = (
    Multiprotocol
    | RouteRefreshing
    | ExtendedNextHop
    | ExtendedMessage
    | FourOctetAsn
    | GracefulRestart
    | UnknownCapability
)

# --- the messages -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """RFC 4271 §4.2."""

    asn: int
    """As in the field of two octets; the true one may stand in a capability."""
    hold_seconds: int
    router_id: IPv4Address
    capabilities: tuple[Capability, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """RFC 4271 §4.3, with what was wrong with it and is survived."""

    withdrawn: tuple[Nlri, ...] = ()
    attributes: PathAttributes = NONE
    nlri: tuple[Nlri, ...] = ()
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Keepalive:
    """RFC 4271 §4.4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRefresh:
    """RFC 2918 §3; the octet between is 0 for a request (RFC 7313 §3.2)."""

    family: AfiSafi
    subtype: int = 0


Message: TypeAlias = Open | Update | Notification | Keepalive | RouteRefresh
KEEPALIVE = Keepalive()

# --- cutting a stream -------------------------------------------------------------------------------------

_MINIMUM_LENGTHS = {
    MessageType.OPEN: 29,
    MessageType.UPDATE: 23,
    MessageType.NOTIFICATION: 21,
    MessageType.KEEPALIVE: 19,
    MessageType.ROUTE_REFRESH: 23,
}
_NEVER_EXTENDED = (MessageType.OPEN, MessageType.KEEPALIVE)
"""RFC 8654 §4."""


class Splitter:
    """Cuts the bytes of a connection into messages; holds less than one message back."""

    def __init__(self) -> None:
        """Accepts messages of ordinary length until `maximum` is raised."""
        self.maximum = MAXIMUM_LENGTH
        self._held = bytearray()

    def feed(self, data: bytes) -> None:
        """More bytes of the stream."""
        self._held += data

    def __iter__(self) -> Iterator[tuple[MessageType, bytes]]:
        """The complete messages, as type and body; raises `ProtocolError` (RFC 4271 §6.1)."""
        position = 0
        try:
            while len(self._held) - position >= HEADER_LENGTH:
                header = bytes(self._held[position : position + HEADER_LENGTH])
                type_, length = _decode_header(header, self.maximum)
                if len(self._held) - position < length:
                    return
                body = bytes(self._held[position + HEADER_LENGTH : position + length])
                position += length
                yield type_, body
        finally:
            del self._held[:position]


def _decode_header(header: bytes, maximum: int) -> tuple[MessageType, int]:
    code = ErrorCode.MESSAGE_HEADER
    if not header.startswith(MARKER):
        raise ProtocolError(code, HeaderError.CONNECTION_NOT_SYNCHRONIZED, "no marker")
    length = int.from_bytes(header[16:18], "big")
    try:
        type_ = MessageType(header[18])
    except ValueError:
        raise ProtocolError(
            code, HeaderError.BAD_MESSAGE_TYPE, f"message type {header[18]}", header[18:]
        ) from None
    longest = MAXIMUM_LENGTH if type_ in _NEVER_EXTENDED else maximum
    fits = length == HEADER_LENGTH if type_ is MessageType.KEEPALIVE else length <= longest
    if length < _MINIMUM_LENGTHS[type_] or not fits:
        raise ProtocolError(
            code, HeaderError.BAD_MESSAGE_LENGTH, f"{type_.name} of {length} octets", header[16:18]
        )
    return type_, length


def decode(type_: MessageType, body: bytes, context: Context) -> Message:
    """Read the body of one message; raises `ProtocolError`."""
    match type_:
        case MessageType.OPEN:
            return decode_open(body)
        case MessageType.UPDATE:
            return decode_update(body, context)
        case MessageType.NOTIFICATION:
            return Notification(code=body[0], subcode=body[1], data=body[2:])
        case MessageType.KEEPALIVE:
            return KEEPALIVE
        case MessageType.ROUTE_REFRESH:
            return decode_route_refresh(body)
        case _:
            assert_never(type_)


def encode(message: Message, context: Context) -> bytes:
    """The message with its header."""
    match message:
        case Open():
            return frame(MessageType.OPEN, encode_open(message))
        case Update():
            return frame(MessageType.UPDATE, encode_update(message, context))
        case Notification():
            # What is given back may itself be as long as a message can be; not every peer takes more.
            body = bytes((message.code, message.subcode)) + message.data
            return frame(MessageType.NOTIFICATION, body[: MAXIMUM_LENGTH - HEADER_LENGTH])
        case Keepalive():
            return frame(MessageType.KEEPALIVE, b"")
        case RouteRefresh():
            afi, safi = message.family
            return frame(MessageType.ROUTE_REFRESH, u16(afi) + u8(message.subtype) + u8(safi))
        case _:
            assert_never(message)


def frame(type_: MessageType, body: bytes) -> bytes:
    """Put the header before a body."""
    length = HEADER_LENGTH + len(body)
    assert length <= EXTENDED_LENGTH
    return b"".join((MARKER, u16(length), u8(type_), body))


# --- OPEN -------------------------------------------------------------------------------------------------


def decode_open(body: bytes) -> Open:
    """Read an OPEN; raises `ProtocolError` (RFC 4271 §6.2)."""
    reader = Reader(body)
    try:
        version = reader.u8()
        if version != VERSION:
            raise ProtocolError(
                ErrorCode.OPEN_MESSAGE,
                OpenError.UNSUPPORTED_VERSION_NUMBER,
                f"version {version}",
                u16(VERSION),
            )
        asn, hold_seconds, router_id = reader.u16(), reader.u16(), reader.take(4)
        capabilities = tuple(_decode_parameters(reader))
    except TruncatedError as truncated:
        raise ProtocolError(ErrorCode.OPEN_MESSAGE, OpenError.UNSPECIFIC, str(truncated)) from truncated
    return Open(
        asn=asn, hold_seconds=hold_seconds, router_id=IPv4Address(router_id), capabilities=capabilities
    )


def _decode_parameters(reader: Reader) -> Iterator[Capability]:
    """RFC 9072 §2: a first parameter of type 255 says that lengths are longer; the one before it is void."""
    length, field = reader.u8(), reader.rest()
    extended = length > 0 and field.startswith(bytes((ParameterType.EXTENDED_LENGTH,)))
    reader = Reader(field[1:] if extended else field)
    if extended:
        length = reader.u16()
    parameters = Reader(reader.take(length))
    while parameters:
        type_ = parameters.u8()
        value = Reader(parameters.take(parameters.u16() if extended else parameters.u8()))
        if type_ != ParameterType.CAPABILITIES:
            raise ProtocolError(
                ErrorCode.OPEN_MESSAGE,
                OpenError.UNSUPPORTED_OPTIONAL_PARAMETER,
                f"optional parameter {type_}",
            )
        while value:
            code = value.u8()
            yield _decode_capability(code, value.take(value.u8()))
    if reader:
        raise TruncatedError(f"{len(reader)} octets after the parameters")


def _decode_capability(code: int, value: bytes) -> Capability:
    """One of a known code and an unexpected form counts as unknown (RFC 5492 §3 asks to ignore those)."""
    match code, len(value):
        case CapabilityCode.MULTIPROTOCOL, 4:
            return Multiprotocol(family=(int.from_bytes(value[:2], "big"), value[3]))
        case CapabilityCode.ROUTE_REFRESH, 0:
            return RouteRefreshing()
        case CapabilityCode.EXTENDED_MESSAGE, 0:
            return ExtendedMessage()
        case CapabilityCode.FOUR_OCTET_ASN, 4:
            return FourOctetAsn(asn=int.from_bytes(value, "big"))
        case CapabilityCode.EXTENDED_NEXT_HOP, length if length % 6 == 0:
            reader = Reader(value)
            families = tuple(((reader.u16(), reader.u16()), reader.u16()) for _ in range(length // 6))
            return ExtendedNextHop(families=families)
        case CapabilityCode.GRACEFUL_RESTART, length if length >= 2 and length % 4 == 2:
            return _decode_graceful_restart(Reader(value))
        case _:
            return UnknownCapability(code=code, value=value)


def _decode_graceful_restart(reader: Reader) -> GracefulRestart:
    field = reader.u16()
    families = []
    while reader:
        family = (reader.u16(), reader.u8())
        families.append((family, bool(reader.u8() & 0x80)))
    return GracefulRestart(
        restarted=bool(field & 0x8000),
        notification=bool(field & 0x4000),
        seconds=field & 0x0FFF,
        families=tuple(families),
    )


def encode_open(message: Open) -> bytes:
    """The body of an OPEN; all capabilities in one parameter (RFC 5492 §4)."""
    capabilities = b"".join(map(_encode_capability, message.capabilities))
    assert len(capabilities) <= 253
    parameters = (
        bytes((ParameterType.CAPABILITIES, len(capabilities))) + capabilities if capabilities else b""
    )
    fields = (u8(VERSION), u16(message.asn), u16(message.hold_seconds), message.router_id.packed)
    return b"".join((*fields, u8(len(parameters)), parameters))


def _encode_capability(capability: Capability) -> bytes:
    code: int
    match capability:
        case Multiprotocol(family=(afi, safi)):
            code, value = CapabilityCode.MULTIPROTOCOL, u16(afi) + b"\0" + u8(safi)
        case RouteRefreshing():
            code, value = CapabilityCode.ROUTE_REFRESH, b""
        case ExtendedMessage():
            code, value = CapabilityCode.EXTENDED_MESSAGE, b""
        case FourOctetAsn(asn=asn):
            code, value = CapabilityCode.FOUR_OCTET_ASN, u32(asn)
        case ExtendedNextHop(families=hops):
            code = CapabilityCode.EXTENDED_NEXT_HOP
            value = b"".join(u16(afi) + u16(safi) + u16(hop) for (afi, safi), hop in hops)
        case GracefulRestart():
            code = CapabilityCode.GRACEFUL_RESTART
            flags = capability.restarted << 15 | capability.notification << 14
            value = u16(flags | capability.seconds) + b"".join(
                u16(afi) + u8(safi) + u8(forwarding << 7) for (afi, safi), forwarding in capability.families
            )
        case UnknownCapability(code=code, value=value):
            pass
        case _:
            assert_never(capability)
    return bytes((code, len(value))) + value


# --- UPDATE -----------------------------------------------------------------------------------------------


def decode_update(body: bytes, context: Context) -> Update:
    """Read an UPDATE; raises `ProtocolError` for what RFC 7606 does not let a session survive."""
    reader = Reader(body)
    try:
        withdrawn_field = reader.take(reader.u16())
        attributes_field = reader.take(reader.u16())
    except TruncatedError as truncated:
        raise ProtocolError(
            ErrorCode.UPDATE_MESSAGE, UpdateError.MALFORMED_ATTRIBUTE_LIST, str(truncated)
        ) from truncated
    try:
        withdrawn = tuple(nlri.split(withdrawn_field, Family.IPV4))
        announced = tuple(nlri.split(reader.rest(), Family.IPV4))
    except ValueError as problem:
        raise ProtocolError(
            ErrorCode.UPDATE_MESSAGE, UpdateError.INVALID_NETWORK_FIELD, str(problem)
        ) from problem
    decoded = attributes.decode(attributes_field, context)
    faults = (*decoded.faults, *_missing(decoded.attributes, announced, context))
    return Update(withdrawn=withdrawn, attributes=decoded.attributes, nlri=announced, faults=faults)


def _missing(found: PathAttributes, announced: tuple[Nlri, ...], context: Context) -> Iterator[Fault]:
    """RFC 7606 §3 (d)."""
    if not announced and not (found.reach and found.reach.nlri):
        return
    for type_, is_there in (
        (AttributeType.ORIGIN, found.origin is not None),
        (AttributeType.AS_PATH, found.as_path is not None),
        (AttributeType.NEXT_HOP, found.next_hop is not None or not announced),
        (AttributeType.LOCAL_PREF, found.local_preference is not None or not context.internal),
    ):
        if not is_there:
            yield Fault(remedy=Remedy.WITHDRAW, type=type_, why="missing")


def encode_update(message: Update, context: Context) -> bytes:
    """The body of an UPDATE."""
    withdrawn = b"".join(message.withdrawn)
    encoded = attributes.encode(message.attributes, context)
    return b"".join((u16(len(withdrawn)), withdrawn, u16(len(encoded)), encoded, *message.nlri))


def end_of_rib(family: Family) -> Update:
    """RFC 4724 §2: all routes of the family have been sent."""
    if family is Family.IPV4:
        return Update()
    return Update(attributes=PathAttributes(unreach=attributes.Unreach(family=family, nlri=())))


# --- ROUTE-REFRESH ----------------------------------------------------------------------------------------


def decode_route_refresh(body: bytes) -> RouteRefresh:
    """Read a ROUTE-REFRESH; raises `ProtocolError` (RFC 7313 §5)."""
    if len(body) != 4:
        raise ProtocolError(
            ErrorCode.ROUTE_REFRESH_MESSAGE,
            RefreshError.INVALID_MESSAGE_LENGTH,
            f"ROUTE-REFRESH of {len(body)} octets",
            frame(MessageType.ROUTE_REFRESH, body),
        )
    return RouteRefresh(family=(int.from_bytes(body[:2], "big"), body[3]), subtype=body[2])
