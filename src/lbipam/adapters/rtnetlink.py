"""Which links, addresses and default routes does the kernel tell of, and what changes of them?

    nlmsghdr │ ifinfomsg │ IFLA_IFNAME, IFLA_ADDRESS, IFLA_OPERSTATE, IFLA_MASTER, IFLA_LINKINFO{INFO_KIND}
    nlmsghdr │ ifaddrmsg │ IFA_LOCAL, IFA_ADDRESS
    nlmsghdr │ rtmsg     │ RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_PRIORITY, RTA_TABLE

These few fields are all that an agent reads, by three dumps and by what the kernel tells unasked to the groups of
a socket; a library that knows all of rtnetlink takes a sixth of its memory. Nothing is changed in the kernel.
"""

import asyncio
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
)
from typing import Self, TypeAlias

from lbipam.adapters.netlink import DONE, DUMP, ERROR, REQUEST, attributes, check, message, messages

Address: TypeAlias = IPv4Address | IPv6Address


class Groups(IntFlag):
    """What a socket may be told unasked (`RTMGRP_…`)."""

    NONE = 0
    LINKS = 0x1
    IPV4_ADDRESSES = 0x10
    IPV6_ADDRESSES = 0x100


class Question(IntEnum):
    """What may be asked for (`RTM_GET…`)."""

    LINKS = 18
    ADDRESSES = 22
    ROUTES = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A network interface, or what a bridge tells of one of its ports (then `family` is AF_BRIDGE)."""

    is_gone: bool
    family: int
    index: int
    type: int
    """`ARPHRD_…`."""
    flags: int
    """`IFF_…`."""
    state: int
    """`IF_OPER_…` of RFC 2863."""
    name: str
    hardware: bytes
    master: int
    kind: str
    """Such as `vlan`; empty for hardware."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnAddress:
    """An address of an interface, with its network."""

    is_gone: bool
    index: int
    address: IPv4Interface | IPv6Interface
    network: IPv4Network | IPv6Network
    """Who is there without a router in between; on a link between two the far end."""
    is_usable: bool
    """Whether it is known to be nobody else's: duplicate address detection has ended well (RFC 4862 §5.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultRoute:
    """A way out in the main table, by one gateway."""

    gateway: Address
    index: int
    metric: int


Told: TypeAlias = Link | OwnAddress | DefaultRoute

_NEWLINK, _DELLINK, _NEWADDR, _DELADDR, _NEWROUTE = 16, 17, 20, 21, 24
_LINK_ADDRESS, _LINK_NAME, _LINK_MASTER, _LINK_STATE, _LINK_INFO = 1, 3, 10, 16, 18
_INFO_KIND = 1
_ADDRESS, _LOCAL = 1, 2
_DUPLICATE, _TENTATIVE = 0x08, 0x40
_ROUTE_DESTINATION, _ROUTE_LINK, _ROUTE_GATEWAY, _ROUTE_METRIC, _ROUTE_TABLE = 1, 4, 5, 6, 15
_MAIN_TABLE = 254

_LINK_HEAD = struct.Struct("=BxHiII")
_ADDRESS_HEAD = struct.Struct("=BBBBI")
_ROUTE_HEAD = struct.Struct("=BBBBBBBBI")
_LONGEST = 1 << 16
_PATIENCE_SECONDS = 5.0


class Netlink:
    """A socket to the kernel, in the network namespace of the thread that makes it; a context manager.

    Every method raises `OSError` where the kernel refuses, or has told more than was read (ENOBUFS).
    """

    def __init__(self, groups: Groups = Groups.NONE) -> None:
        """Ask, and be told of all that happens in these groups from now on."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            self._socket.bind((0, groups))
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def ask(self, question: Question, family: int = socket.AF_UNSPEC) -> list[Told]:
        """All that there is, and in between what is told unasked, in the order of its happening.

        The kernel has its answer ready when the question is sent.
        """
        # The heads of all three kinds of questions begin with the family, and the longest does for all.
        body = bytes([family]).ljust(_LINK_HEAD.size, b"\0")
        self._socket.settimeout(_PATIENCE_SECONDS)
        self._socket.send(message(question, REQUEST | DUMP, body))
        found: list[Told] = []
        while True:
            for kind, payload in messages(self._socket.recv(_LONGEST)):
                if kind == DONE:
                    return found
                if kind == ERROR:
                    check(payload, "rtnetlink")
                found += _told(kind, payload)

    async def hear(self) -> list[Told]:
        """Wait until something is told unasked."""
        self._socket.settimeout(0)
        return told_in(await asyncio.get_running_loop().sock_recv(self._socket, _LONGEST))


def told_in(data: bytes) -> list[Told]:
    """What messages of the kernel tell, as far as it is of use here."""
    return [one for kind, payload in messages(data) for one in _told(kind, payload)]


def _told(kind: int, payload: bytes) -> Iterator[Told]:
    if kind in (_NEWLINK, _DELLINK):
        yield _link(payload, is_gone=kind == _DELLINK)
    elif kind in (_NEWADDR, _DELADDR):
        yield from _own_address(payload, is_gone=kind == _DELADDR)
    elif kind == _NEWROUTE:
        yield from _default_route(payload)


def _link(payload: bytes, *, is_gone: bool) -> Link:
    family, type_, index, flags, _ = _LINK_HEAD.unpack_from(payload)
    found = attributes(payload[_LINK_HEAD.size :])
    information = attributes(found.get(_LINK_INFO, b""))
    return Link(
        is_gone=is_gone,
        family=family,
        index=index,
        type=type_,
        flags=flags,
        state=found.get(_LINK_STATE, b"\0")[0],
        name=_text(found.get(_LINK_NAME, b"")),
        hardware=found.get(_LINK_ADDRESS, b""),
        master=_number(found.get(_LINK_MASTER, b"")),
        kind=_text(information.get(_INFO_KIND, b"")),
    )


def _own_address(payload: bytes, *, is_gone: bool) -> Iterator[OwnAddress]:
    _, length, flags, _, index = _ADDRESS_HEAD.unpack_from(payload)
    found = attributes(payload[_ADDRESS_HEAD.size :])
    # Where both are there, the other is the far end of a link between two.
    own, far = found.get(_LOCAL) or found.get(_ADDRESS), found.get(_ADDRESS) or found.get(_LOCAL)
    if own is not None and far is not None:
        yield OwnAddress(
            is_gone=is_gone,
            index=index,
            address=ip_interface((own, length)),
            network=ip_interface((far, length)).network,
            is_usable=not flags & (_DUPLICATE | _TENTATIVE),
        )


def _default_route(payload: bytes) -> Iterator[DefaultRoute]:
    head = _ROUTE_HEAD.unpack_from(payload)
    found = attributes(payload[_ROUTE_HEAD.size :])
    table = _number(found[_ROUTE_TABLE]) if _ROUTE_TABLE in found else head[4]
    if table != _MAIN_TABLE or _ROUTE_DESTINATION in found or head[1]:
        return
    gateway, link = found.get(_ROUTE_GATEWAY), found.get(_ROUTE_LINK)
    if gateway is not None and link is not None:
        metric = _number(found.get(_ROUTE_METRIC, b""))
        yield DefaultRoute(gateway=ip_address(gateway), index=_number(link), metric=metric)


def _number(value: bytes) -> int:
    return int.from_bytes(value, sys.byteorder)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
