"""How does a prefix go on the wire?

    +--------------------+----------------------------+
    | length in bits (1) | as many octets as it takes |    RFC 4271 §4.3
    +--------------------+----------------------------+

The encoded form is also the key under which routes are kept: it hashes fast and needs no work when sent.
This file does not know what is said about a prefix.
"""

import ipaddress
from collections.abc import Iterator
from typing import NewType, TypeAlias

from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.wire import u8

Prefix: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Nlri = NewType("Nlri", bytes)
"""One prefix as it goes on the wire; which family it is of is not told by its bytes."""

_LENGTHS = tuple(map(u8, range(129)))
"""The first octet, ready made: this runs for every route."""


def encode(prefix: Prefix) -> Nlri:
    """The prefix as it goes on the wire."""
    bits = prefix.prefixlen
    # Calling `Nlri` on it would take as long as a third of the rest.
    return _LENGTHS[bits] + prefix.network_address.packed[: (bits + 7) >> 3]  # type: ignore[return-value]


def split(field: bytes, family: Family) -> Iterator[Nlri]:
    """The prefixes in a field of an UPDATE; raises `ValueError` where it is not a list of prefixes."""
    longest = family.address_length * 8
    position = 0
    while position < len(field):
        bits = field[position]
        after = position + 1 + ((bits + 7) >> 3)
        if bits > longest:
            raise ValueError(f"prefix length {bits}, at most {longest} is possible")
        if after > len(field):
            raise ValueError(f"prefix of {bits} bits runs past its field")
        yield Nlri(field[position:after])
        position = after
