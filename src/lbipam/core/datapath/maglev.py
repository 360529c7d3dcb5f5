"""Which endpoint does a client's hash lead to, the same on every node?

Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
section 3.4): every endpoint fills the table in its own pseudo-random order, one slot a turn. Nodes that know
the same endpoints make the same table, and an endpoint's departure moves hardly more slots than its own.
This file does not hash clients; the kernel does.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

SLOTS = 1021
"""Slots of a table: prime, as the permutations need, and fixed, since another size would move every client.

Each slot is a map element in the kernel (about 100 bytes, 10 µs to load) for each address and port of a
Service. 1,021 of them keep the shares of up to ten endpoints within one per cent of each other (the paper's
rule of a hundred slots an endpoint) for 100 KB and 10 ms; the paper's 65,537 would be 6.5 MB and 0.7 s.
"""


@lru_cache(maxsize=256)
def table(endpoints: tuple[str, ...]) -> tuple[int, ...]:
    """For each slot the index of its endpoint.

    Args:
        endpoints: identities, each once, at least one; their order does not matter to who gets which slot.
    """
    turns = sorted(range(len(endpoints)), key=endpoints.__getitem__)
    walks = {index: _Walk(endpoints[index]) for index in turns}
    slots = [-1] * SLOTS
    filled = 0
    while True:
        for index in turns:
            slots[walks[index].next_free(slots)] = index
            filled += 1
            if filled == SLOTS:
                return tuple(slots)


class _Walk:
    """One endpoint's permutation of the slots: offset, offset + skip, offset + 2·skip, … modulo `SLOTS`."""

    __slots__ = ("_at", "_skip")

    def __init__(self, endpoint: str) -> None:
        digest = blake2b(endpoint.encode(), digest_size=16).digest()
        self._at = int.from_bytes(digest[:8], "big") % SLOTS
        self._skip = int.from_bytes(digest[8:], "big") % (SLOTS - 1) + 1

    def next_free(self, slots: Sequence[int]) -> int:
        at = self._at
        while slots[at] >= 0:
            at = (at + self._skip) % SLOTS
        self._at = at
        return at
