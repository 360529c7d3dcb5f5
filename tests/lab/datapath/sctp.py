"""SCTP's first exchange over raw sockets, for kernels without SCTP sockets.

    client ── INIT ──▶ server ── INIT ACK with a cookie ──▶ client

The cookie tells who answered. Conntrack and NAT see real SCTP packets: the checksum is right, and verified
by the kernel on the way (RFC 9260 sections 3.3.2, 3.3.3, 6.8).
"""

import socket
import struct

PROTOCOL = 132
_INIT, _INIT_ACK = 1, 2
_COOKIE = 7
_FIXED = struct.Struct("!IIHHI")


def _table() -> list[int]:
    table = []
    for index in range(256):
        value = index
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def checksum(data: bytes) -> bytes:
    """CRC-32C, in the order in which it is sent."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return struct.pack("<I", value ^ 0xFFFFFFFF)


def packet(source: int, destination: int, tag: int, kind: int, cookie: bytes = b"") -> bytes:
    """One packet with one INIT or INIT ACK chunk."""
    body = _FIXED.pack(0x1234, 65536, 1, 1, 1)
    if cookie:
        padded = cookie + bytes(-len(cookie) % 4)
        body += struct.pack("!HH", _COOKIE, 4 + len(cookie)) + padded
    chunk = struct.pack("!BBH", kind, 0, 4 + len(body)) + body
    header = struct.pack("!HHI", source, destination, tag)
    return header + checksum(header + bytes(4) + chunk) + chunk


def init(source: int, destination: int) -> bytes:
    return packet(source, destination, 0, _INIT)


def answer(request: bytes, cookie: bytes) -> bytes | None:
    """The INIT ACK to an INIT; None to anything else."""
    source, destination = struct.unpack_from("!HH", request)
    if request[12] != _INIT:
        return None
    (tag,) = struct.unpack_from("!I", request, 16)
    return packet(destination, source, tag, _INIT_ACK, cookie)


def cookie_for(port: int, reply: bytes) -> bytes | None:
    """The cookie of an INIT ACK sent to that port."""
    if struct.unpack_from("!H", reply, 2)[0] != port or reply[12] != _INIT_ACK:
        return None
    (length,) = struct.unpack_from("!H", reply, 16 + _FIXED.size + 2)
    return reply[20 + _FIXED.size : 16 + _FIXED.size + length]


def raw(family: int) -> socket.socket:
    """A socket that speaks SCTP by hand in the current namespace."""
    return socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, PROTOCOL)


def payload(family: int, received: bytes) -> bytes:
    """Without the IP header, which IPv4 raw sockets show."""
    return received[(received[0] & 15) * 4 :] if family == socket.AF_INET else received
