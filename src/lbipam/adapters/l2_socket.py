"""How do frames of one interface reach us, and ours it? Packet sockets, kernel filters, multicast groups.

A `Port` is one interface: a packet socket each for ARP, IPv6 and (where ping is ours to answer) IPv4. A
classic BPF program in the kernel lets through only what could concern us, so that the rest of the node's
traffic wakes nobody. Needs CAP_NET_RAW. What the frames say is not read here.
"""

import ctypes
import errno
import socket
import struct
from collections.abc import Collection
from contextlib import ExitStack
from enum import Enum
from typing import TypeAlias

from lbipam.core.l2 import frames

_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER_BYTES = 4 << 20
"""Room for some thousand requests that arrive while something else is done."""
_GROUPS_PER_SOCKET = 2000
"""Below what `net.core.optmem_max` allows by default; beyond it the kernel answers ENOBUFS."""


class Protocol(Enum):
    """What a socket of a port receives. The values are metric labels."""

    ARP = "arp"
    IPV6 = "ipv6"
    IPV4 = "ipv4"


_ETHER_TYPES = {Protocol.ARP: 0x0806, Protocol.IPV6: 0x86DD, Protocol.IPV4: 0x0800}

# Classic BPF (linux/filter.h): code, jump if true, jump if false, operand. Jumps are named here and counted
# when assembled; every program falls through to acceptance.
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30
_LOAD_BYTE_AT_X, _LOAD_HEADER_LENGTH = 0x50, 0xB1
_AND, _EQUAL, _BITS, _RETURN = 0x54, 0x15, 0x45, 0x06
_ANCILLARY = 0xFFFFF000
_PACKET_TYPE, _INTERFACE, _VLAN_ID = _ANCILLARY + 4, _ANCILLARY + 8, _ANCILLARY + 44
_PACKET_OTHERHOST = 3
_WHOLE_FRAME = 0x40000

Step: TypeAlias = tuple[int, int] | tuple[int, int, str, str]
"""Code and operand; for a jump also where to go if true and if false: `drop`, or `next`."""


def _program(protocol: Protocol, index: int, *, answers_echo: bool) -> bytes:
    """The filter of one socket, as an array of `struct sock_filter`.

    A packet socket bound to an interface also gets the frames of the VLANs on it, since they came in there;
    they belong to the VLAN's interface, whose index they bear.
    """
    steps: list[Step] = [
        (_LOAD_WORD, _INTERFACE),
        (_EQUAL, index, "next", "drop"),
        (_LOAD_WORD, _PACKET_TYPE),
        (_EQUAL, _PACKET_OTHERHOST, "drop", "next"),
        (_LOAD_WORD, _VLAN_ID),
        (_BITS, 0x0FFF, "drop", "next"),
    ]
    match protocol:
        case Protocol.ARP:
            pass
        case Protocol.IPV6:
            steps += [(_LOAD_BYTE, 14 + 6), (_EQUAL, socket.IPPROTO_ICMPV6, "next", "drop")]
            steps += [(_LOAD_BYTE, 14 + 40), (_EQUAL, 136, "accept", "next"), (_EQUAL, 135, "accept", "next")]
            steps += [(_EQUAL, 128, "accept", "drop")] if answers_echo else [(_RETURN, 0)]
        case Protocol.IPV4:
            steps += [(_LOAD_BYTE, 14 + 9), (_EQUAL, socket.IPPROTO_ICMP, "next", "drop")]
            steps += [(_LOAD_HALF, 14 + 6), (_BITS, 0x3FFF, "drop", "next")]
            steps += [(_LOAD_HEADER_LENGTH, 14), (_LOAD_BYTE_AT_X, 14), (_EQUAL, 8, "next", "drop")]
    steps += [(_RETURN, _WHOLE_FRAME), (_RETURN, 0)]
    places = {"accept": len(steps) - 2, "drop": len(steps) - 1}
    assembled = b""
    for at, step in enumerate(steps):
        code, operand, *jumps = step
        true, false = (places.get(str(jump), at + 1) - at - 1 for jump in jumps or ("next", "next"))
        assembled += struct.pack("=HBBI", code, true, false, operand)
    return assembled


def _attach(receiver: socket.socket, program: bytes) -> None:
    instructions = ctypes.create_string_buffer(program)
    fprog = struct.pack("HL", len(program) // 8, ctypes.addressof(instructions))
    receiver.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)


def _packet_socket(name: str, index: int, protocol: Protocol, *, answers_echo: bool) -> socket.socket:
    """A socket that has never received a frame its filter would not let through."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    try:
        _attach(opened, _program(protocol, index, answers_echo=answers_echo))
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_BYTES)
        except PermissionError:  # that takes CAP_NET_ADMIN
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        opened.bind((name, _ETHER_TYPES[protocol]))
    except BaseException:
        opened.close()
        raise
    return opened


class Groups:
    """The solicited-node groups an interface has joined, so that bridges and switches let solicitations in.

    Joined as a host joins them, by `IPV6_JOIN_GROUP`: the kernel then reports them to the LAN by MLD. Addresses
    with the same last 24 bits share a group, which is left with the last of them.
    """

    def __init__(self, index: int) -> None:
        self._index = index
        self._addresses: dict[bytes, set[bytes]] = {}
        self._joined_on: dict[bytes, socket.socket] = {}
        self._counts: dict[socket.socket, int] = {}

    def join(self, address: bytes) -> None:
        """Be told who asks for an IPv6 address; OSError when the kernel refuses."""
        group = frames.solicited_node(address)
        if group not in self._joined_on:
            self._joined_on[group] = self._join(group)
        self._addresses.setdefault(group, set()).add(address)

    def leave(self, address: bytes) -> None:
        """Undo `join`; nothing when it was not called or failed."""
        group = frames.solicited_node(address)
        members = self._addresses.get(group, set())
        members.discard(address)
        if members or group not in self._joined_on:
            return
        del self._addresses[group]
        member = self._joined_on.pop(group)
        self._counts[member] -= 1
        try:
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, self._request(group))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV):  # gone with its interface
                raise

    def __len__(self) -> int:
        return len(self._joined_on)

    def close(self) -> None:
        """Leave all groups."""
        for member in self._counts:
            member.close()
        self._counts.clear()
        self._joined_on.clear()
        self._addresses.clear()

    def _join(self, group: bytes) -> socket.socket:
        for member, count in self._counts.items():
            if count < _GROUPS_PER_SOCKET and self._joins(member, group):
                return member
        member = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._counts[member] = 0
        if not self._joins(member, group):
            raise OSError(errno.ENOBUFS, "no room for another multicast group")
        return member

    def _joins(self, member: socket.socket, group: bytes) -> bool:
        try:
            member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, self._request(group))
        except OSError as error:
            if error.errno in (errno.ENOBUFS, errno.ENOMEM):
                self._counts[member] = _GROUPS_PER_SOCKET
                return False
            raise
        self._counts[member] += 1
        return True

    def _request(self, group: bytes) -> bytes:
        return group + struct.pack("@I", self._index)


class Port:
    """One interface, opened for receiving and sending frames; to be closed."""

    def __init__(self, *, name: str, index: int, hardware: bytes, protocols: Collection[Protocol]) -> None:
        """Open it. OSError when the interface is gone or the process lacks CAP_NET_RAW."""
        self.name = name
        self.index = index
        self.hardware = hardware
        self.groups = Groups(index)
        answers_echo = Protocol.IPV4 in protocols
        with ExitStack() as undo:
            self.sockets = {
                protocol: undo.enter_context(_packet_socket(name, index, protocol, answers_echo=answers_echo))
                for protocol in protocols
            }
            undo.pop_all()

    @property
    def sender(self) -> socket.socket:
        """The socket through which announcements leave; a packet socket sends any frame."""
        return self.sockets[Protocol.ARP]

    def close(self) -> None:
        """Close the sockets and leave the groups."""
        for each in self.sockets.values():
            each.close()
        self.groups.close()
