"""How is a TCP socket set up for one peer, and which addresses stand behind it?

MD5 signatures (RFC 2385), time to live and its security check (RFC 5082), source address. All of it works
without privileges, except for ports below 1024. Nothing is sent or received here.
"""

import array
import fcntl
import socket
import struct
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TypeAlias, TypeVar

from lbipam.core.bgp.peers import Address, LocalAddresses, Peer

AnyAddress = TypeVar("AnyAddress", IPv4Address, IPv6Address)
SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

_TCP_MD5SIG = 14
_IP_MINTTL = 21
_IPV6_MINHOPCOUNT = 73
_MAXIMUM_TTL = 255
_CONTROL_TRAFFIC = 0xC0
"""Class selector 6, which routing protocols are sent with (RFC 4594 §3.2)."""
_BACKLOG = 64


def outgoing(peer: Peer, local_asn: int) -> socket.socket:
    """A socket that is ready to connect to the peer; raises `OSError`."""
    with ExitStack() as unless_done:
        sock = unless_done.enter_context(_new(peer.address.version))
        if peer.local_address is not None:
            sock.bind(socket_address(peer.local_address, 0))
        if peer.password:
            _sign(sock, peer)
        limit_hops(sock, peer, local_asn)
        unless_done.pop_all()
    return sock


def listening(version: int, port: int) -> socket.socket:
    """A socket that accepts peers of one IP version on all addresses; raises `OSError`."""
    with ExitStack() as unless_done:
        sock = unless_done.enter_context(_new(version))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # A peer with RFC 5082 switched on wants to see this in the first answer already.
        _set_ttl(sock, _MAXIMUM_TTL)
        sock.bind(("::", port) if version == 6 else ("", port))
        sock.listen(_BACKLOG)
        unless_done.pop_all()
    return sock


def expect_signatures(listener: socket.socket, peer: Peer) -> None:
    """From here on, connections of the peer must be signed with its password, or not at all if it has none."""
    with suppress(FileNotFoundError):  # there was no key to be removed
        _sign(listener, peer)


def limit_hops(sock: socket.socket, peer: Peer, local_asn: int) -> None:
    """How far away the peer may be (RFC 5082 §3); a peer of unknown ASN counts as internal."""
    if peer.secure_hops is not None:
        _set_ttl(sock, _MAXIMUM_TTL)
        nearest = _MAXIMUM_TTL + 1 - peer.secure_hops
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, nearest)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, nearest)
    elif peer.asn not in (0, local_asn):
        _set_ttl(sock, peer.hops)
    else:
        _set_ttl(sock, max(peer.hops, _MAXIMUM_TTL))


def socket_address(address: Address, port: int) -> SocketAddress:
    """As the socket module wants it; raises `OSError` when a zone names no interface."""
    if isinstance(address, IPv4Address):
        return (str(address), port)
    zone = address.scope_id
    return (str(address).partition("%")[0], port, 0, socket.if_nametoindex(zone) if zone else 0)


def address_of(there: SocketAddress) -> Address:
    """The address alone, with its zone."""
    if len(there) == 4 and there[3]:
        return ip_address(f"{there[0].partition('%')[0]}%{socket.if_indextoname(there[3])}")
    return ip_address(there[0])


def _new(version: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if version == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _CONTROL_TRAFFIC)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _CONTROL_TRAFFIC)
    return sock


def _set_ttl(sock: socket.socket, ttl: int) -> None:
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)


def _sign(sock: socket.socket, peer: Peer) -> None:
    """`struct tcp_md5sig` of linux/tcp.h: address (128 octets), flags, prefix, key length, interface, key."""
    if peer.address.version == 4:
        family, packed = socket.AF_INET, b"\0\0" + peer.address.packed
    else:
        family, packed = socket.AF_INET6, b"\0" * 6 + peer.address.packed
    address = struct.pack("=H126s", family, packed)
    key = struct.pack("=BBHI80s", 0, 0, len(peer.password), 0, peer.password)
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_MD5SIG, address + key)


# --- what else the interface has --------------------------------------------------------------------------


def local_addresses(sock: socket.socket, before: LocalAddresses | None = None) -> LocalAddresses:
    """Our end of a connection and the addresses of its interface that routes can lead to.

    Of several that would do, those that were found `before` are taken.
    """
    address = address_of(sock.getsockname())
    ipv4, ipv6 = tuple(_ipv4_addresses()), tuple(_ipv6_addresses())
    zone = address.scope_id if isinstance(address, IPv6Address) else None
    bare = ip_address(str(address).partition("%")[0])
    interface = zone or next((name for name, one in (*ipv4, *ipv6) if one == bare), None)
    known = (before.ipv4, before.ipv6) if before is not None else ()
    return LocalAddresses(
        address=address,
        ipv4=_one_of([one for name, one in ipv4 if name == interface], known),
        ipv6=_one_of([one for name, one in ipv6 if name == interface], known),
    )


def _one_of(found: Sequence[AnyAddress], known: Collection[Address | None]) -> AnyAddress | None:
    return next((one for one in found if one in known), found[0] if found else None)


_SIOCGIFCONF = 0x8912
_IFREQ_LENGTH = 40
_MOST_ADDRESSES = 4096


def _ipv4_addresses() -> Iterator[tuple[str, IPv4Address]]:
    """netdevice(7), SIOCGIFCONF: interfaces with their IPv4 addresses."""
    names = array.array("B", bytes(_IFREQ_LENGTH * _MOST_ADDRESSES))
    pointer, length = names.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFCONF, struct.pack("iL", length, pointer))
    filled = struct.unpack("iL", answer)[0]
    table = names.tobytes()[:filled]
    for at in range(0, filled, _IFREQ_LENGTH):
        label = table[at : at + 16].partition(b"\0")[0].decode()
        yield label.partition(":")[0], IPv4Address(table[at + 20 : at + 24])


_GLOBAL = 0x00
_UNUSABLE = 0x01 | 0x08 | 0x20 | 0x40
"""Temporary, duplicate, deprecated, tentative."""


def _ipv6_addresses() -> Iterator[tuple[str, IPv6Address]]:
    """proc(5), if_inet6: address, interface index, prefix length, scope, flags, name."""
    with suppress(FileNotFoundError):  # a kernel without IPv6
        for line in Path("/proc/thread-self/net/if_inet6").read_text().splitlines():
            packed, _, _, scope, flags, name = line.split()
            if int(scope, 16) == _GLOBAL and not int(flags, 16) & _UNUSABLE:
                yield name, IPv6Address(bytes.fromhex(packed))
