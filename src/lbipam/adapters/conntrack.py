"""Which flows must the kernel forget, because the rules that sent them on have changed?

Speaks ctnetlink itself: one dump per family and protocol, filtered in the kernel, and one message per entry to delete.
The `conntrack` program would be one more process and one pass over the whole table for each pair of frontend
and endpoint, and pyroute2 decodes every entry of the table in Python. This file does not know why a flow is
stale.

    nlmsghdr │ nfgenmsg │ CTA_TUPLE_ORIG{IP{SRC, DST}, PROTO{NUM, SRC_PORT, DST_PORT}} │ CTA_TUPLE_REPLY … │ CTA_ID
"""

import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import TypeAlias

from lbipam.adapters.netlink import (
    ACK,
    DONE,
    DUMP,
    ERROR,
    NESTED,
    REQUEST,
    attribute,
    attributes,
    check,
    message,
    messages,
)
from lbipam.core.datapath.nft import Forget
from lbipam.core.datapath.services import PROTOCOL_NUMBERS, IPAddress, Protocol

_NETLINK_NETFILTER = 12
_WHOSE = "ctnetlink"
_CT_GET, _CT_DELETE = 0x0101, 0x0102

_TUPLE_ORIG, _TUPLE_REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_V4_SRC, _V4_DST, _V6_SRC, _V6_DST = 1, 2, 3, 4
_PROTO_NUM, _SRC_PORT, _DST_PORT = 1, 2, 3
_FILTER_ORIG_FLAGS, _BY_PROTO_NUM = 1, 1 << 3

_PROTOCOLS = {number: protocol for protocol, number in PROTOCOL_NUMBERS.items()}
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

_Attributes: TypeAlias = dict[int, bytes]
_Frontend: TypeAlias = tuple[IPAddress, Protocol, int]


def forget(flows: Iterable[Forget]) -> int:
    """Delete the stale entries of the calling thread's network namespace.

    Returns:
        How many were deleted. An entry that ended by itself meanwhile is not counted.

    Raises:
        OSError: the kernel refuses; CAP_NET_ADMIN is needed.
    """
    wanted = {(flow.address, flow.protocol, flow.port): flow.keep for flow in flows}
    deleted = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        netlink.bind((0, 0))
        for family, protocol in sorted({(_FAMILIES[a.version], PROTOCOL_NUMBERS[p]) for a, p, _ in wanted}):
            stale = [entry for entry in _dump(netlink, family, protocol) if _is_stale(entry, wanted)]
            deleted += sum(_delete(netlink, family, entry) for entry in stale)
    return deleted


def _is_stale(entry: _Attributes, wanted: Mapping[_Frontend, frozenset[tuple[IPAddress, int]]]) -> bool:
    number, address, port = _end(entry[_TUPLE_ORIG], _V4_DST, _V6_DST, _DST_PORT)
    keep = wanted.get((address, _PROTOCOLS[number], port)) if number in _PROTOCOLS else None
    if keep is None:
        return False
    _, endpoint, endpoint_port = _end(entry[_TUPLE_REPLY], _V4_SRC, _V6_SRC, _SRC_PORT)
    return (endpoint, endpoint_port) not in keep


def _end(tuple_: bytes, v4: int, v6: int, port: int) -> tuple[int, IPAddress, int]:
    """The protocol number and one end, address and port, of a connection tuple."""
    parts = attributes(tuple_)
    ip, proto = attributes(parts[_TUPLE_IP]), attributes(parts[_TUPLE_PROTO])
    address = ip_address(ip[v4] if v4 in ip else ip[v6])
    return proto[_PROTO_NUM][0], address, int.from_bytes(proto.get(port, b""), "big")


def _dump(netlink: socket.socket, family: int, number: int) -> Iterator[_Attributes]:
    """Every entry of a family and protocol; a kernel before 5.8 tells those of all protocols."""
    proto = attribute(_TUPLE_PROTO | NESTED, attribute(_PROTO_NUM, bytes([number])))
    flags = attribute(_FILTER_ORIG_FLAGS, struct.pack("=I", _BY_PROTO_NUM))
    body = attribute(_TUPLE_ORIG | NESTED, proto) + attribute(_FILTER | NESTED, flags)
    _send(netlink, _CT_GET, REQUEST | DUMP, family, body)
    while True:
        for kind, payload in messages(netlink.recv(1 << 18)):
            if kind == DONE:
                return
            if kind == ERROR:
                check(payload, _WHOSE)
            yield attributes(payload[4:])


def _delete(netlink: socket.socket, family: int, entry: _Attributes) -> bool:
    """Delete exactly this entry; False if it is gone already."""
    body = attribute(_TUPLE_ORIG | NESTED, entry[_TUPLE_ORIG])
    body += b"".join(attribute(kind, entry[kind]) for kind in (_ID, _ZONE) if kind in entry)
    _send(netlink, _CT_DELETE, REQUEST | ACK, family, body)
    try:
        for _, payload in messages(netlink.recv(1 << 16)):
            check(payload, _WHOSE)
    except FileNotFoundError:
        return False
    return True


def _send(netlink: socket.socket, kind: int, flags: int, family: int, body: bytes) -> None:
    netlink.send(message(kind, flags, struct.pack("=BBH", family, 0, 0) + body))
