"""ARP and neighbour discovery to and from bytes.

    ┌───────────────┬──────────┬─────────────┬──────────┬──────────────────────────────────┐
    │ destination 6 │ source 6 │ [802.1Q 4]  │ type 2   │ ARP │ IPv4+ICMP │ IPv6+ICMPv6    │
    └───────────────┴──────────┴─────────────┴──────────┴──────────────────────────────────┘

Echo too, since an address on a LAN answers ping. Addresses are packed here, 4 or 16 bytes: this is the
path of every request. The kernel hands tags over beside the frame, so a tag inside one is either a priority
tag (VLAN 0, read over) or makes it a frame of another LAN. What is read is checked as its RFC demands; what
fails is not an error but a reason. This file does not know which addresses are ours.
"""

from dataclasses import dataclass
from enum import Enum
from struct import Struct
from typing import TypeAlias

BROADCAST = b"\xff" * 6
NO_HARDWARE = b"\x00" * 6
UNSPECIFIED_4 = b"\x00" * 4
UNSPECIFIED_6 = b"\x00" * 16
ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
ALL_NODES_HARDWARE = bytes.fromhex("333300000001")
_SOLICITED_NODE_PREFIX = bytes.fromhex("ff0200000000000000000001ff")  # RFC 4291 §2.7.1

_TYPE_IPV4, _TYPE_ARP, _TYPE_VLAN, _TYPE_IPV6 = 0x0800, 0x0806, 0x8100, 0x86DD
_PROTOCOL_ICMP, _PROTOCOL_ICMPV6 = 1, 58
_SOURCE_LINK_LAYER, _TARGET_LINK_LAYER = 1, 2  # RFC 4861 §4.6

_ETHERNET = Struct("!6s6sH")
_ARP = Struct("!HHBBH6s4s6s4s")  # RFC 826: hardware, protocol, their lengths, operation, sender, target
_ARP_ETHERNET_IPV4 = (1, _TYPE_IPV4, 6, 4)
_IPV4 = Struct("!BBHHHBBH4s4s")  # RFC 791 §3.1
_IPV6 = Struct("!IHBB16s16s")  # RFC 8200 §3
_ICMP = Struct("!BBH")
_NEIGHBOUR = Struct("!BBHI16s")  # RFC 4861 §4.3, §4.4: type, code, checksum, flags, target
_PSEUDO = Struct("!16s16sII")  # RFC 8200 §8.1


class Ignored(Enum):
    """Why a frame gets no answer. The values are metric labels."""

    # The bytes cannot be what we answer.
    TRUNCATED = "truncated"
    OTHER_PROTOCOL = "other_protocol"
    OTHER_VLAN = "other_vlan"
    MALFORMED = "malformed"
    FRAGMENT = "fragment"
    BAD_CHECKSUM = "bad_checksum"
    NOT_FROM_THE_LINK = "not_from_the_link"
    # The message is sound, and not for us.
    OWN_FRAME = "own_frame"
    OTHER_HOST = "other_host"
    NOT_A_REQUEST = "not_a_request"
    NOT_ANNOUNCED = "not_announced"
    NOT_YET_ANNOUNCED = "not_yet_announced"
    CONFLICT = "conflict"
    ECHO_OFF = "echo_off"
    FENCED = "fenced"


class Operation(Enum):
    """Whether a message asks or answers; in ARP also its number on the wire (RFC 826)."""

    REQUEST = 1
    REPLY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Arp:
    """An ARP packet for IPv4 over Ethernet (RFC 826), with the frame's own addresses around it."""

    destination: bytes
    source: bytes
    operation: Operation
    sender_hardware: bytes
    sender: bytes
    target_hardware: bytes
    target: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourSolicitation:
    """A Neighbor Solicitation (RFC 4861 §4.3); its `sender` is unspecified in duplicate address detection."""

    destination: bytes
    source: bytes
    sender: bytes
    receiver: bytes
    target: bytes
    link_layer: bytes | None
    """The source link-layer address option; None when the message carries none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeighbourAdvertisement:
    """A Neighbor Advertisement (RFC 4861 §4.4)."""

    destination: bytes
    source: bytes
    sender: bytes
    receiver: bytes
    target: bytes
    router: bool
    solicited: bool
    override: bool
    link_layer: bytes | None
    """The target link-layer address option; None when the message carries none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """An ICMP or ICMPv6 echo message (RFC 792, RFC 4443 §4); the length of the addresses tells which."""

    destination: bytes
    source: bytes
    operation: Operation
    sender: bytes
    receiver: bytes
    body: bytes
    """Identifier, sequence number and data: what a reply gives back unchanged."""


Message: TypeAlias = Arp | NeighbourSolicitation | NeighbourAdvertisement | Echo


def decode(frame: bytes) -> Message | Ignored:
    """Read a frame as received; any bytes at all give a message or the reason why they are none."""
    if len(frame) < 14:
        return Ignored.TRUNCATED
    destination, source, kind = _ETHERNET.unpack_from(frame)
    payload = frame[14:]
    if kind == _TYPE_VLAN:
        if len(payload) < 4:
            return Ignored.TRUNCATED
        if payload[0] & 0x0F or payload[1]:
            return Ignored.OTHER_VLAN
        kind = int.from_bytes(payload[2:4])
        payload = payload[4:]
    if kind == _TYPE_ARP:
        return _decode_arp(destination, source, payload)
    if kind == _TYPE_IPV6:
        return _decode_ipv6(destination, source, payload)
    if kind == _TYPE_IPV4:
        return _decode_ipv4(destination, source, payload)
    return Ignored.OTHER_PROTOCOL


def encode(message: Message) -> bytes:
    """Write a message as an untagged frame, checksums included, without padding."""
    if isinstance(message, Arp):
        return _encode_arp(message)
    if isinstance(message, NeighbourSolicitation):
        body = _NEIGHBOUR.pack(135, 0, 0, 0, message.target)
        return _encode_ipv6(message, body + _link_layer_option(_SOURCE_LINK_LAYER, message.link_layer))
    if isinstance(message, NeighbourAdvertisement):
        flags = message.router << 31 | message.solicited << 30 | message.override << 29
        body = _NEIGHBOUR.pack(136, 0, 0, flags, message.target)
        return _encode_ipv6(message, body + _link_layer_option(_TARGET_LINK_LAYER, message.link_layer))
    asks = message.operation is Operation.REQUEST
    if len(message.sender) == 16:
        return _encode_ipv6(message, _ICMP.pack(128 if asks else 129, 0, 0) + message.body)
    return _encode_ipv4(message, _ICMP.pack(8 if asks else 0, 0, 0) + message.body)


def solicited_node(address: bytes) -> bytes:
    """The multicast group that solicitations for an IPv6 address are sent to (RFC 4291 §2.7.1)."""
    return _SOLICITED_NODE_PREFIX + address[13:]


def multicast_hardware(group: bytes) -> bytes:
    """The Ethernet address of an IPv6 multicast group (RFC 2464 §7)."""
    return b"\x33\x33" + group[12:]


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071): 2¹⁶ ≡ 1 modulo 2¹⁶−1, so the folded sum is a remainder."""
    if len(data) % 2:
        data += b"\x00"
    return -int.from_bytes(data) % 0xFFFF


def _decode_arp(destination: bytes, source: bytes, packet: bytes) -> Arp | Ignored:
    if len(packet) < _ARP.size:
        return Ignored.TRUNCATED
    *kind, operation, sender_hardware, sender, target_hardware, target = _ARP.unpack_from(packet)
    if tuple(kind) != _ARP_ETHERNET_IPV4:
        return Ignored.OTHER_PROTOCOL
    if operation not in (1, 2):
        return Ignored.OTHER_PROTOCOL
    return Arp(
        destination=destination,
        source=source,
        operation=Operation.REQUEST if operation == 1 else Operation.REPLY,
        sender_hardware=sender_hardware,
        sender=sender,
        target_hardware=target_hardware,
        target=target,
    )


def _decode_ipv4(destination: bytes, source: bytes, packet: bytes) -> Echo | Ignored:
    if len(packet) < _IPV4.size:
        return Ignored.TRUNCATED
    first, _, length, _, fragment, _, protocol, _, sender, receiver = _IPV4.unpack_from(packet)
    header_length = (first & 0x0F) * 4
    if first >> 4 != 4 or header_length < _IPV4.size or length < header_length:
        return Ignored.MALFORMED
    if protocol != _PROTOCOL_ICMP:
        return Ignored.OTHER_PROTOCOL
    if len(packet) < length:
        return Ignored.TRUNCATED
    if fragment & 0x3FFF:  # more fragments, or not the first one
        return Ignored.FRAGMENT
    if checksum(packet[:header_length]):
        return Ignored.BAD_CHECKSUM
    message = packet[header_length:length]
    if len(message) < 8:
        return Ignored.TRUNCATED
    if checksum(message):
        return Ignored.BAD_CHECKSUM
    return _echo(destination, source, sender, receiver, message, request=8, reply=0)


def _decode_ipv6(destination: bytes, source: bytes, packet: bytes) -> Message | Ignored:
    if len(packet) < _IPV6.size:
        return Ignored.TRUNCATED
    first, length, protocol, hop_limit, sender, receiver = _IPV6.unpack_from(packet)
    if first >> 28 != 6:
        return Ignored.MALFORMED
    if protocol != _PROTOCOL_ICMPV6:
        return Ignored.OTHER_PROTOCOL
    message = packet[40 : 40 + length]
    if len(message) < length or length < 8:
        return Ignored.TRUNCATED
    if checksum(_PSEUDO.pack(sender, receiver, length, _PROTOCOL_ICMPV6) + message):
        return Ignored.BAD_CHECKSUM
    if message[0] in (128, 129):
        return _echo(destination, source, sender, receiver, message, request=128, reply=129)
    if message[0] not in (135, 136):
        return Ignored.OTHER_PROTOCOL
    if hop_limit != 255:  # RFC 4861 §7.1: it has crossed a router
        return Ignored.NOT_FROM_THE_LINK
    return _decode_neighbour(destination, source, sender, receiver, message)


def _decode_neighbour(
    destination: bytes, source: bytes, sender: bytes, receiver: bytes, message: bytes
) -> NeighbourSolicitation | NeighbourAdvertisement | Ignored:
    """Check and read a solicitation or advertisement as RFC 4861 §7.1.1 and §7.1.2 say."""
    if len(message) < _NEIGHBOUR.size:
        return Ignored.TRUNCATED
    kind, code, _, flags, target = _NEIGHBOUR.unpack_from(message)
    options = _options(message[_NEIGHBOUR.size :])
    if code or target[0] == 0xFF or options is None:
        return Ignored.MALFORMED
    if kind == 135:
        link_layer = options.get(_SOURCE_LINK_LAYER)
        detects_duplicates = sender == UNSPECIFIED_6
        if detects_duplicates and (link_layer or not receiver.startswith(_SOLICITED_NODE_PREFIX)):
            return Ignored.MALFORMED
        return NeighbourSolicitation(
            destination=destination,
            source=source,
            sender=sender,
            receiver=receiver,
            target=target,
            link_layer=link_layer,
        )
    solicited = bool(flags & 1 << 30)
    if solicited and receiver[0] == 0xFF:
        return Ignored.MALFORMED
    return NeighbourAdvertisement(
        destination=destination,
        source=source,
        sender=sender,
        receiver=receiver,
        target=target,
        router=bool(flags & 1 << 31),
        solicited=solicited,
        override=bool(flags & 1 << 29),
        link_layer=options.get(_TARGET_LINK_LAYER),
    )


def _options(data: bytes) -> dict[int, bytes] | None:
    """Link-layer addresses by option type (RFC 4861 §4.6); None when the lengths do not add up."""
    found: dict[int, bytes] = {}
    while data:
        if len(data) < 8 or not data[1] or len(data) < data[1] * 8:
            return None
        if data[1] == 1:
            found.setdefault(data[0], data[2:8])
        data = data[data[1] * 8 :]
    return found


def _echo(
    destination: bytes,
    source: bytes,
    sender: bytes,
    receiver: bytes,
    message: bytes,
    *,
    request: int,
    reply: int,
) -> Echo | Ignored:
    kind, code, _ = _ICMP.unpack_from(message)
    if kind not in (request, reply):
        return Ignored.OTHER_PROTOCOL
    if code:
        return Ignored.MALFORMED
    return Echo(
        destination=destination,
        source=source,
        operation=Operation.REQUEST if kind == request else Operation.REPLY,
        sender=sender,
        receiver=receiver,
        body=message[4:],
    )


def _encode_arp(message: Arp) -> bytes:
    return _ETHERNET.pack(message.destination, message.source, _TYPE_ARP) + _ARP.pack(
        *_ARP_ETHERNET_IPV4,
        message.operation.value,
        message.sender_hardware,
        message.sender,
        message.target_hardware,
        message.target,
    )


def _encode_ipv4(message: Echo, icmp: bytes) -> bytes:
    length = _IPV4.size + len(icmp)
    header = _IPV4.pack(0x45, 0, length, 0, 0, 64, _PROTOCOL_ICMP, 0, message.sender, message.receiver)
    return (
        _ETHERNET.pack(message.destination, message.source, _TYPE_IPV4)
        + _with_checksum(header, 10, checksum(header))
        + _with_checksum(icmp, 2, checksum(icmp))
    )


def _encode_ipv6(message: NeighbourSolicitation | NeighbourAdvertisement | Echo, icmp: bytes) -> bytes:
    hop_limit = 64 if isinstance(message, Echo) else 255
    pseudo = _PSEUDO.pack(message.sender, message.receiver, len(icmp), _PROTOCOL_ICMPV6)
    return (
        _ETHERNET.pack(message.destination, message.source, _TYPE_IPV6)
        + _IPV6.pack(6 << 28, len(icmp), _PROTOCOL_ICMPV6, hop_limit, message.sender, message.receiver)
        + _with_checksum(icmp, 2, checksum(pseudo + icmp))
    )


def _with_checksum(data: bytes, offset: int, value: int) -> bytes:
    return data[:offset] + value.to_bytes(2) + data[offset + 2 :]


def _link_layer_option(kind: int, link_layer: bytes | None) -> bytes:
    return b"" if link_layer is None else bytes((kind, 1)) + link_layer
