"""Which addresses does a sharing key have, and which of them might take one more Service?

Each address of the key has a bit; for each port, namespace, policy and set of pods there is a mask of the
addresses where some holder has it. A few operations on whole masks then leave the addresses worth asking, the
first one shared first, however many there are. The answer is a filter: `sharing` has the last word.
"""

from collections.abc import Hashable, Iterable, Iterator

from lbipam.core.ipam.addresses import Address
from lbipam.core.ipam.services import Port, Sharing, TrafficPolicy


def _required(namespace: str, sharing: Sharing) -> Iterator[Hashable]:
    """Features that every address has that such a Service may join."""
    yield sharing.policy
    if not sharing.namespaces:
        yield namespace
    if sharing.policy is TrafficPolicy.LOCAL and not sharing.permits_different_pods:
        yield sharing.selector


def _features(namespace: str, sharing: Sharing) -> Iterator[Hashable]:
    yield from sharing.ports
    yield sharing.policy
    yield namespace
    yield sharing.selector


class SharedAddresses:
    """The addresses of one sharing key, in the order in which they were first shared."""

    __slots__ = ("_alive", "_counts", "_masks", "_slot_of", "_slots")

    def __init__(self) -> None:
        self._slots: list[Address | None] = []
        self._slot_of: dict[Address, int] = {}
        self._alive = 0
        self._masks: dict[Hashable, int] = {}
        self._counts: dict[Address, dict[Hashable, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._slot_of)

    def joined(self, address: Address, namespace: str, sharing: Sharing) -> None:
        """Note a holder of an address."""
        slot = self._slot_of.get(address)
        if slot is None:
            slot = self._slot_of[address] = len(self._slots)
            self._slots.append(address)
            self._alive |= 1 << slot
            self._counts[address] = {}
        counts = self._counts[address]
        for feature in _features(namespace, sharing):
            counts[feature] = counts.get(feature, 0) + 1
            if counts[feature] == 1:
                self._masks[feature] = self._masks.get(feature, 0) | 1 << slot

    def left(self, address: Address, namespace: str, sharing: Sharing) -> None:
        """Note that a holder of an address has gone."""
        bit = 1 << self._slot_of[address]
        counts = self._counts[address]
        for feature in _features(namespace, sharing):
            counts[feature] -= 1
            if counts[feature] == 0:
                del counts[feature]
                self._masks[feature] &= ~bit
                if not self._masks[feature]:
                    del self._masks[feature]
        if not counts:
            self._slots[self._slot_of.pop(address)] = None
            self._alive &= ~bit
            del self._counts[address]
            if len(self._slots) > 2 * len(self._slot_of) + 8:
                self._close_gaps()

    def _close_gaps(self) -> None:
        addresses = [address for address in self._slots if address is not None]
        self._slots = list(addresses)
        self._slot_of = {address: slot for slot, address in enumerate(addresses)}
        self._alive = (1 << len(addresses)) - 1
        self._masks = {}
        for address, slot in self._slot_of.items():
            for feature in self._counts[address]:
                self._masks[feature] = self._masks.get(feature, 0) | 1 << slot

    def worth_asking(self, namespace: str, sharing: Sharing) -> Iterator[Address]:
        """The addresses that such a Service might join."""
        candidates = self._alive & ~self._union(sharing.ports)
        for feature in _required(namespace, sharing):
            candidates &= self._masks.get(feature, 0)
        while candidates:
            lowest = candidates & -candidates
            address = self._slots[lowest.bit_length() - 1]
            assert address is not None
            yield address
            candidates ^= lowest

    def _union(self, ports: Iterable[Port]) -> int:
        taken = 0
        for port in ports:
            taken |= self._masks.get(port, 0)
        return taken
