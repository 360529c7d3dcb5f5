"""Which cluster address or node port is free?

Both allocators hand out the next free number above a band that is kept for those who ask by name, as
Kubernetes does (KEP-3070, KEP-3668), and fall back to that band when the rest is taken. Who holds what for
how long is not known here.
"""

import ipaddress
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

_LARGEST_BAND = 256


class AddressAllocator:
    """The addresses of one block; the network's own address and IPv4's broadcast address are never given."""

    def __init__(self, block: str) -> None:
        self._block = ipaddress.ip_network(block)
        self._first = int(self._block.network_address) + 1
        self._size = self._block.num_addresses - (2 if self._block.version == 4 else 1)
        self._band = min(max(self._size // 16, 16), _LARGEST_BAND)
        self._next = self._band
        self._taken: set[int] = set()

    def free(self) -> str:
        """An address that nobody holds; the block is far larger than the number of objects that fit in memory."""
        for offset in range(self._size):
            candidate = (self._next + offset) % self._size
            if self._first + candidate not in self._taken and candidate >= self._band:
                self._next = candidate
                return str(ipaddress.ip_address(self._first + candidate))
        candidate = next(each for each in range(self._size) if self._first + each not in self._taken)
        return str(ipaddress.ip_address(self._first + candidate))

    def why_not(self, text: str) -> str:
        """Why the address cannot be had; empty when it can."""
        address = ipaddress.ip_address(text)
        if (
            not self._first <= int(address) < self._first + self._size
            or address.version != self._block.version
        ):
            return (
                f"the provided IP ({text}) is not in the valid range. The range of valid IPs is {self._block}"
            )
        return "provided IP is already allocated" if int(address) in self._taken else ""

    def take(self, text: str) -> None:
        if text != "None":
            self._taken.add(int(ipaddress.ip_address(text)))
            self._next = (self._next + 1) % self._size

    def release(self, text: str) -> None:
        if text != "None":
            self._taken.discard(int(ipaddress.ip_address(text)))


class PortAllocator:
    """The node ports from `first` to `last`."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._next = self._above = first + min(max((last - first + 1) // 32, 16), 128)
        self._taken: set[int] = set()

    def free(self, but: AbstractSet[int]) -> int | None:
        """A port that nobody holds and that is not in `but`; `None` when all are taken."""
        free = (port for port in self._in_turn() if port not in self._taken and port not in but)
        found = next(free, None)
        if found is not None and found >= self._above:
            self._next = found
        return found

    def _in_turn(self) -> Iterator[int]:
        """Every port in the order of preference: above the band from the next one on, then the band."""
        yield from range(self._next, self._last + 1)
        yield from range(self._above, self._next)
        yield from range(self._first, self._above)

    def why_not(self, port: int) -> str:
        """Why the port cannot be had; empty when it can."""
        if not self._first <= port <= self._last:
            valid = f"{self._first}-{self._last}"
            return f"provided port is not in the valid range. The range of valid ports is {valid}"
        return "provided port is already allocated" if port in self._taken else ""

    def change(self, *, release: AbstractSet[int], take: AbstractSet[int]) -> None:
        """Release some ports and take others; what is in both stays taken."""
        self._taken -= release
        self._taken |= take
