"""Ranges and sets of addresses: size, overlap, lowest, add and take away; both families alike.

    0 ········ 2³²−1 │············│ 2¹²⁸ ················ 2¹²⁹−1
    └──── IPv4 ────┘                └──────── IPv6 ────────┘

Every address is one integer on one number line, IPv4 first, so that no rule needs to ask for the family and
no range can span two. IPv4-mapped IPv6 addresses (RFC 4291 §2.5.5.2) have no place on it: they would be two
names of one address. This file knows nothing of who holds an address.
"""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import NewType

from sortedcontainers import SortedList

Address = NewType("Address", int)

_IPV6_OFFSET = 1 << 128
_OCTETS = {str(octet): octet for octet in range(256)}


class Family(Enum):
    """The IP families, by the names Kubernetes gives them in `spec.ipFamilies`."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"


def family_of(address: Address) -> Family:
    """The family of an address, or of the first of a range."""
    return Family.IPV4 if address < _IPV6_OFFSET else Family.IPV6


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address:
    """Read an address as people write it.

    Raises:
        ValueError: it is none, carries a zone, or is an IPv4-mapped IPv6 address.
    """
    try:
        # Four times as fast as the library, which has the last word on everything else.
        a, b, c, d = map(_OCTETS.__getitem__, text.split("."))
        return Address(a << 24 | b << 16 | c << 8 | d)
    except (KeyError, ValueError):
        parsed = ipaddress.ip_address(text)
    if isinstance(parsed, ipaddress.IPv4Address):
        return Address(int(parsed))
    if parsed.scope_id is not None:
        raise ValueError(f"'{text}' has a zone, which has no meaning outside of one host")
    if parsed.ipv4_mapped is not None:
        raise ValueError(f"'{text}' is an IPv4-mapped IPv6 address: write {parsed.ipv4_mapped}")
    return Address(_IPV6_OFFSET + int(parsed))


def format_address(address: Address) -> str:
    """Write an address as RFC 5952 wants it."""
    return str(as_ipaddress(address))


def as_ipaddress(address: Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address as the standard library's value, the common tongue of the cores."""
    if address < _IPV6_OFFSET:
        return ipaddress.IPv4Address(address)
    return ipaddress.IPv6Address(address - _IPV6_OFFSET)


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """All addresses from `first` to `last`, both included, of one family."""

    first: Address
    last: Address

    def __post_init__(self) -> None:
        if family_of(self.first) is not family_of(self.last):
            raise ValueError(f"'{self}' begins in one family and ends in another")
        if self.first > self.last:
            raise ValueError(f"'{self}' ends before it begins")

    def __str__(self) -> str:
        return f"{format_address(self.first)} - {format_address(self.last)}"

    def __contains__(self, address: Address) -> bool:
        return self.first <= address <= self.last

    @property
    def size(self) -> int:
        """How many addresses there are, at least one."""
        return self.last - self.first + 1

    @property
    def family(self) -> Family:
        return family_of(self.first)

    def overlaps(self, other: "Range") -> bool:
        """Whether an address lies in both; ranges that only touch do not overlap."""
        return self.first <= other.last and other.first <= self.last


def parse_cidr(text: str) -> Range:
    """Read a prefix; host bits are masked away, as Cilium does.

    Raises:
        ValueError: it is none, or holds IPv4-mapped addresses.
    """
    # The standard library would read a netmask, too.
    if not text.rpartition("/")[2].isdecimal() or "/" not in text:
        raise ValueError(f"'{text}' is not a CIDR: it has no prefix length")
    if "%" in text:
        raise ValueError(f"'{text}' has a zone, which has no meaning outside of one host")
    network = ipaddress.ip_network(text, strict=False)
    if isinstance(network, ipaddress.IPv6Network):
        mapped = ipaddress.IPv6Network("::ffff:0:0/96")
        if network.subnet_of(mapped):
            raise ValueError(f"'{text}' holds IPv4-mapped IPv6 addresses: write the IPv4 prefix")
        offset = _IPV6_OFFSET
    else:
        offset = 0
    first = offset + int(network.network_address)
    return Range(Address(first), Address(first + network.num_addresses - 1))


def parse_range(text: str) -> Range:
    """Read `address`, `address/length` or `address-address`.

    Raises:
        ValueError: it is none of the three, or a range that ends before it begins.
    """
    if "/" in text:
        return parse_cidr(text)
    start, dash, stop = (part.strip() for part in text.partition("-"))
    first = parse_address(start)
    return Range(first, parse_address(stop) if dash else first)


class FreeRuns:
    """The free addresses of a range, as maximal runs of neighbours.

    Taking the lowest, and putting back beside a run, cost constant time; anything else is logarithmic in
    the number of runs, and none of it depends on the size of the range.
    """

    __slots__ = ("_first_of", "_last_of", "_lasts", "_size")

    def __init__(self, whole: Range) -> None:
        self._first_of = {whole.last: whole.first}
        self._last_of = {whole.first: whole.last}
        self._lasts = SortedList([whole.last])
        self._size = whole.size

    def __bool__(self) -> bool:
        return self._size > 0

    @property
    def size(self) -> int:
        """How many addresses are free."""
        return self._size

    def lowest(self) -> Address:
        """The lowest free address.

        Raises:
            IndexError: there is none.
        """
        return self._first_of[self._lasts[0]]

    def runs(self) -> Iterator[Range]:
        """The runs, from the lowest."""
        return (Range(self._first_of[last], last) for last in self._lasts)

    def take(self, address: Address) -> bool:
        """Make an address not free; False if it was not free."""
        last = self._last_of.get(address)
        if last is None:
            index = self._lasts.bisect_left(address)
            if index == len(self._lasts):
                return False
            last = self._lasts[index]
            first = self._first_of[last]
            if address < first:
                return False
            self._close(first, Address(address - 1))
        else:
            del self._last_of[address]
        if address == last:
            del self._first_of[last]
            self._lasts.remove(last)
        else:
            self._first_of[last] = Address(address + 1)
            self._last_of[Address(address + 1)] = last
        self._size -= 1
        return True

    def _close(self, first: Address, last: Address) -> None:
        """Let the run that begins at `first` end at `last` already."""
        self._first_of[last] = first
        self._last_of[first] = last
        self._lasts.add(last)

    def put(self, address: Address) -> None:
        """Make an address that is not free, and within the range, free again."""
        last = self._last_of.pop(Address(address + 1), None)
        first = self._first_of.pop(Address(address - 1), None)
        if first is not None:
            self._lasts.remove(Address(address - 1))
        else:
            first = address
        if last is None:
            last = address
            self._lasts.add(last)
        self._first_of[last] = first
        self._last_of[first] = last
        self._size += 1
