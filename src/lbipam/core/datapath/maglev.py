"""Which endpoint does a client's hash lead to, the same on every node?

Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
section 3.4): every endpoint fills the table in its own pseudo-random order, one slot a turn. Nodes that know
the same endpoints make the same table, and an endpoint's departure moves hardly more slots than its own.
This file does not hash clients; the kernel does.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import shake_128

SLOTS = 1021
"""Slots of a table: fixed, since another number would move every client.

Each slot is a map element in the kernel (about 100 bytes, 10 µs to load) for each address and port of a
Service, so 1,021 cost 100 KB and 10 ms; the paper's 65,537 would cost 6.5 MB and 0.7 s. A hundred slots an
endpoint keep their shares within one per cent of each other (section 5.3), so these serve ten endpoints that
well. An endpoint that leaves moves at most 1/N of the clients of others while N ≤ 20, and 6 % at N = 40.
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
    """One endpoint's permutation of the slots, by the order of as many pseudo-random words.

    The paper's `offset + i · skip mod slots` lets a few pairs of endpoints follow each other around the table;
    the departure of a third then moved half of their clients.
    """

    __slots__ = ("_left",)

    def __init__(self, endpoint: str) -> None:
        words = shake_128(endpoint.encode()).digest(4 * SLOTS)
        self._left = iter(sorted(range(SLOTS), key=lambda slot: words[4 * slot : 4 * slot + 4]))

    def next_free(self, slots: Sequence[int]) -> int:
        return next(slot for slot in self._left if slots[slot] < 0)
