"""How are messages of netlink, and the attributes in them, written and read?

    nlmsghdr{length, type, flags} │ a head of the subsystem's own │ nlattr{length, type} value │ nlattr …

A length counts its own head, too, but not what fills up to the next multiple of four. See netlink(7). This file
knows no subsystem.
"""

import os
import struct
from collections.abc import Iterator

ERROR, DONE = 2, 3
"""Types of messages: `NLMSG_ERROR`, `NLMSG_DONE`."""
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
"""Flags of messages: `NLM_F_…`."""
NESTED = 0x8000
"""Of an attribute's type: `NLA_F_NESTED`."""

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE = 0x3FFF
"""`NLA_TYPE_MASK`."""


def message(kind: int, flags: int, body: bytes) -> bytes:
    """What is sent to the kernel."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The type and the body of each message that came."""
    at = 0
    while at < len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        yield kind, data[at + _HEADER.size : at + length]
        at += _aligned(length)


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def attributes(data: bytes) -> dict[int, bytes]:
    """The values of attributes, by their types."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        found[kind & _TYPE] = data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)
    return found


def check(error: bytes, subsystem: str) -> None:
    """Raise the `OSError` that the body of an `ERROR` tells of; number 0 is an acknowledgement."""
    number = -struct.unpack_from("=i", error)[0]
    if number:
        raise OSError(number, f"{subsystem}: {os.strerror(number)}")


def _aligned(length: int) -> int:
    return (length + 3) & ~3
