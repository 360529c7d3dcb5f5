"""Which addresses does each pool still have, and which are set aside?

    pools           ├──────── red ────────┤     ├──── blue ────┤
    reservations            ├─ r1 ─┤
    segments        ├──────┼──────┼───────┤     ├┼────────────┼┤
                                                 └ first and last address, set aside

The number line is cut at every edge of a block and of a reserved range, so that each address of a pool lies
in exactly one segment, and what is free is written down once, however pools overlap. Reservations of single
addresses, which come and go with Services, cut nothing: such an address is taken out of its segment's free
runs. This file does not know who holds an address, nor whether somebody may have it.
"""

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from lbipam.core.ipam.addresses import Address, Family, FreeRuns, Range
from lbipam.core.ipam.pools import Overlap, Pool, conflicts
from lbipam.core.ipam.reservations import Reservation
from lbipam.core.ipam.services import ServiceKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """How much of a pool is in use: exact numbers of addresses, both families together."""

    total: int
    used: int
    """Held, each counted once however many share it, and the ends that are set aside (Cilium's `IPsUsed`)."""
    reserved: int
    """Set aside by reservations and held by nobody."""

    @property
    def available(self) -> int:
        """What a Service without a reservation can still get."""
        return self.total - self.used - self.reserved


@dataclass(slots=True, eq=False)
class Segment:
    """A stretch of addresses that lie in the same pools and the same reserved ranges."""

    range: Range
    free: FreeRuns
    """Neither held nor reserved singly."""
    held: int = 0
    reservations: tuple[Reservation, ...] = ()
    """Those of ranges that cover it; the first counts."""
    usable_in: tuple["PoolSpace", ...] = ()
    """Pools that may hand it out, in rank order."""
    end_of: tuple["PoolSpace", ...] = ()
    """Pools of which it is a first or last address that is set aside."""

    @property
    def giveable(self) -> int:
        """How many of its addresses anybody may have."""
        return 0 if self.reservations else self.free.size

    @property
    def reserved(self) -> int:
        """How many of its addresses are reserved and held by nobody."""
        return self.range.size - self.held - self.giveable


@dataclass(slots=True, eq=False)
class PoolSpace:
    """A pool and the segments that it is made of."""

    pool: Pool
    overlap: Overlap | None
    """Why it is marked as conflicting."""
    segments: list[Segment] = field(default_factory=list)
    """Those it may hand out, in the order of its blocks."""
    ends: list[Segment] = field(default_factory=list)
    _open: dict[Family, list[int]] = field(default_factory=dict)
    """Heaps of positions in `segments`: all that have a giveable address, and some that no longer do."""
    _listed: set[int] = field(default_factory=set)
    """The positions that are in one of the heaps."""
    _position: dict[int, int] = field(default_factory=dict)

    def add(self, segment: Segment, *, end: bool) -> None:
        """Append the next segment of the pool."""
        if end:
            self.ends.append(segment)
            return
        # Of a pool that overlaps itself a segment may come twice: the first time counts.
        self._position.setdefault(segment.range.first, len(self.segments))
        self.segments.append(segment)
        self.reopen(segment)

    def reopen(self, segment: Segment) -> None:
        """Note that a segment of the pool has a giveable address again."""
        position = self._position[segment.range.first]
        if segment.giveable and position not in self._listed:
            self._listed.add(position)
            heapq.heappush(self._open.setdefault(segment.range.family, []), position)

    def lowest(self, family: Family) -> Address | None:
        """The address to hand out next: the lowest free one of the first block that has any."""
        heap = self._open.get(family)
        while heap:
            segment = self.segments[heap[0]]
            if segment.giveable:
                return segment.free.lowest()
            self._listed.discard(heapq.heappop(heap))
        return None

    def has_family(self, family: Family) -> bool:
        """Whether any of its blocks is of the family."""
        return any(block.range.family is family for block in self.pool.blocks)

    def giveable(self, family: Family) -> int:
        """How many addresses of a family it could hand out to anybody."""
        return sum(segment.giveable for segment in self.segments if segment.range.family is family)

    def usage(self, within: Range | None = None) -> Usage:
        """The counters of the pool, or of one of its blocks."""
        segments, ends = self.segments, self.ends
        if within is not None:
            segments = [segment for segment in segments if segment.range.overlaps(within)]
            ends = [segment for segment in ends if segment.range.overlaps(within)]
        return Usage(
            total=sum(segment.range.size for segment in (*segments, *ends)),
            used=sum(segment.held for segment in segments) + len(ends),
            reserved=sum(segment.reserved for segment in segments),
        )

    def largest_free_run(self) -> Range | None:
        """The longest run of addresses that it could hand out to anybody."""
        runs = chain.from_iterable(segment.free.runs() for segment in self.segments if segment.giveable)
        return max(runs, key=lambda run: run.size, default=None)


class Space:
    """All pools and reservations, laid over the number line.

    `held` is the ledger's own live collection of held addresses: read here, never copied.
    """

    def __init__(self, held: Collection[Address]) -> None:
        self._held = held
        self._pools: dict[str, Pool] = {}
        self._reservations: dict[str, Reservation] = {}
        self._stretched: dict[str, Reservation] = {}
        """By name: those that cover a stretch, which are few; single addresses come and go with Services."""
        self._singles: dict[Address, list[Reservation]] = {}
        self._of_service: dict[ServiceKey, list[Reservation]] = {}
        self._starts: list[Address] = []
        self._segments: list[Segment] = []
        self.pools: dict[str, PoolSpace] = {}
        """By name, in the order in which they are tried."""

    # --- what there is ---------------------------------------------------------------------------------

    @property
    def reservations(self) -> Collection[Reservation]:
        """All of them, in no order."""
        return self._reservations.values()

    def reservation(self, name: str) -> Reservation | None:
        """The reservation of a name."""
        return self._reservations.get(name)

    def segment_of(self, address: Address) -> Segment | None:
        """The segment of an address; None if no pool contains it."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address > self._segments[index].range.last:
            return None
        return self._segments[index]

    def pools_of(self, address: Address) -> tuple[PoolSpace, ...]:
        """The pools that contain an address, in rank order, ends included."""
        segment = self.segment_of(address)
        if segment is None:
            return ()
        both = (*segment.usable_in, *segment.end_of)
        return both if len(both) < 2 else tuple(sorted(both, key=lambda space: space.pool.rank))

    def reservation_of(self, address: Address) -> Reservation | None:
        """The reservation that counts for an address."""
        singles = self._singles.get(address, ())
        segment = self.segment_of(address)
        ranges = segment.reservations if segment is not None else ()
        return min(chain(singles[:1], ranges[:1]), key=lambda reservation: reservation.age, default=None)

    def reservations_of(self, address: Address) -> tuple[Reservation, ...]:
        """All reservations that cover an address, also one of no pool."""
        segment = self.segment_of(address)
        if segment is not None:
            ranges = segment.reservations
        else:
            ranges = tuple(
                one
                for one in self._stretched.values()
                if any(address in stretch for stretch in one.stretches)
            )
        return (*self._singles.get(address, ()), *ranges)

    def reserved_for(self, service: ServiceKey) -> Iterator[Address]:
        """Unheld addresses reserved for a Service, the oldest reservation first; the lowest of each stretch."""
        for reservation in sorted(self._of_service.get(service, ()), key=lambda one: one.age):
            for range_ in reservation.ranges:
                for address in self._lowest_unheld(range_):
                    counting = self.reservation_of(address)
                    if counting is not None and counting.service == service:
                        yield address

    def _lowest_unheld(self, range_: Range) -> Iterator[Address]:
        if range_.size == 1:
            if range_.first not in self._held:
                yield range_.first
            return
        for segment in self._segments_in(range_):
            if segment.free:
                yield segment.free.lowest()

    def _segments_in(self, range_: Range) -> list[Segment]:
        """The segments of a range that the line is cut at."""
        return self._segments[
            bisect_left(self._starts, range_.first) : bisect_right(self._starts, range_.last)
        ]

    # --- what changes ----------------------------------------------------------------------------------

    def take(self, address: Address) -> None:
        """Note that an address has its first holder."""
        segment = self.segment_of(address)
        if segment is not None:
            segment.held += 1
            segment.free.take(address)

    def put(self, address: Address) -> None:
        """Note that an address has lost its last holder."""
        segment = self.segment_of(address)
        if segment is not None:
            segment.held -= 1
            if address not in self._singles:
                self._free(segment, address)

    def _free(self, segment: Segment, address: Address) -> None:
        was_full = not segment.free
        segment.free.put(address)
        if was_full:
            for pool in segment.usable_in:
                pool.reopen(segment)

    def place(self, pool: Pool) -> None:
        """Add a pool, or put it in the place of its former self."""
        self._pools[pool.name] = pool
        self._cut()

    def remove(self, name: str) -> None:
        """Forget a pool; holders are not asked."""
        if self._pools.pop(name, None) is not None:
            self._cut()

    def place_all(self, pools: Iterable[Pool], reservations: Iterable[Reservation]) -> None:
        """Begin anew with these, at the cost of one cut."""
        self._pools = {pool.name: pool for pool in pools}
        self._reservations, self._stretched, self._singles, self._of_service = {}, {}, {}, {}
        for reservation in reservations:
            self._enter(reservation)
        self._segments, self._starts = [], []
        self._cut()

    def reserve(self, reservation: Reservation) -> None:
        """Set addresses aside; a reservation of the same name is replaced."""
        former = self._strike(reservation.name)
        self._enter(reservation)
        for address in reservation.singles:
            segment = self.segment_of(address)
            if segment is not None and address not in self._held:
                segment.free.take(address)
        if reservation.stretches or (former is not None and former.stretches):
            self._cut()

    def unreserve(self, name: str) -> Reservation | None:
        """End a reservation; what it was, None if there is none of that name."""
        reservation = self._strike(name)
        if reservation is not None and reservation.stretches:
            self._cut()
        return reservation

    def _strike(self, name: str) -> Reservation | None:
        reservation = self._reservations.pop(name, None)
        if reservation is None:
            return None
        self._stretched.pop(name, None)
        if reservation.service is not None:
            self._of_service[reservation.service].remove(reservation)
            if not self._of_service[reservation.service]:
                del self._of_service[reservation.service]
        for address in reservation.singles:
            self._leave_single(address, reservation)
        return reservation

    def _leave_single(self, address: Address, reservation: Reservation) -> None:
        others = [one for one in self._singles[address] if one is not reservation]
        if others:
            self._singles[address] = others
            return
        del self._singles[address]
        segment = self.segment_of(address)
        if segment is not None and address not in self._held:
            self._free(segment, address)

    def _enter(self, reservation: Reservation) -> None:
        self._reservations[reservation.name] = reservation
        if reservation.stretches:
            self._stretched[reservation.name] = reservation
        if reservation.service is not None:
            self._of_service.setdefault(reservation.service, []).append(reservation)
        for address in reservation.singles:
            self._singles.setdefault(address, []).append(reservation)
            self._singles[address].sort(key=lambda one: one.age)

    # --- cutting ---------------------------------------------------------------------------------------

    def _cut(self) -> None:
        """Cut the line anew; segments that stay as they were keep their free runs."""
        marked = conflicts(self._pools.values())
        ranked = sorted(self._pools.values(), key=lambda pool: pool.rank)
        self.pools = {pool.name: PoolSpace(pool, marked.get(pool.name)) for pool in ranked}
        former = {segment.range: segment for segment in self._segments}
        self._segments, fresh = [], set()
        for range_, usable_in, end_of, reservations in self._sweep():
            segment = former.get(range_)
            if segment is None:
                segment = Segment(range_, FreeRuns(range_))
                fresh.add(range_)
            segment.reservations = reservations
            segment.usable_in, segment.end_of = usable_in, end_of
            self._segments.append(segment)
        self._starts = [segment.range.first for segment in self._segments]
        if fresh:
            self._fill(fresh)
        self._hand_to_pools()

    def _sweep(
        self,
    ) -> Iterator[tuple[Range, tuple[PoolSpace, ...], tuple[PoolSpace, ...], tuple[Reservation, ...]]]:
        """The stretches between neighbouring edges that lie in a pool, from the lowest."""
        edges: dict[Address, tuple[list[_Cover], list[_Cover]]] = {}
        for cover in self._covers():
            edges.setdefault(cover.range.first, ([], []))[0].append(cover)
            edges.setdefault(Address(cover.range.last + 1), ([], []))[1].append(cover)
        active: dict[int, _Cover] = {}
        start: Address | None = None
        for edge in sorted(edges):
            over = list(active.values())
            if start is not None and any(cover.pool for cover in over):
                end_of = _ranked(cover.pool for cover in over if cover.pool and cover.end)
                yield (
                    Range(start, Address(edge - 1)),
                    _ranked(cover.pool for cover in over if cover.pool and cover.pool not in end_of),
                    end_of,
                    tuple(
                        sorted(
                            (cover.reservation for cover in over if cover.reservation),
                            key=lambda one: one.age,
                        )
                    ),
                )
            begins, ends = edges[edge]
            for cover in ends:
                del active[id(cover)]
            active.update((id(cover), cover) for cover in begins)
            start = edge

    def _covers(self) -> Iterator["_Cover"]:
        for space in self.pools.values():
            allow = space.pool.allow_first_last
            for block in space.pool.blocks:
                yield _Cover(block.usable(allow_first_last=allow), pool=space)
                for end in block.ends(allow_first_last=allow):
                    yield _Cover(Range(end, end), pool=space, end=True)
        for reservation in self._stretched.values():
            for range_ in reservation.stretches:
                yield _Cover(range_, reservation=reservation)

    def _fill(self, fresh: set[Range]) -> None:
        for address in self._held:
            segment = self.segment_of(address)
            if segment is not None and segment.range in fresh:
                segment.held += 1
                segment.free.take(address)
        for address in self._singles:
            segment = self.segment_of(address)
            if segment is not None and segment.range in fresh:
                segment.free.take(address)

    def _hand_to_pools(self) -> None:
        """Give each pool its segments in the order of its blocks, of overlapping blocks each its own."""
        for space in self.pools.values():
            for block in space.pool.blocks:
                for segment in self._segments_in(block.range):
                    space.add(segment, end=space in segment.end_of)


@dataclass(slots=True, eq=False)
class _Cover:
    """A stretch of the line with what lies over it: a pool's block or end, or a reservation."""

    range: Range
    pool: PoolSpace | None = None
    end: bool = False
    reservation: Reservation | None = None


def _ranked(pools: Iterable[PoolSpace]) -> tuple[PoolSpace, ...]:
    return tuple(sorted(dict.fromkeys(pools), key=lambda space: space.pool.rank))
