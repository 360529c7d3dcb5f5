"""A pool: its ranges, what it reserves, whom it selects, which pools conflict.

Pools are values; what of them is in use is told by `space`. This file does not hand out addresses.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from lbipam.core.ipam.addresses import Address, Family, Range, format_address
from lbipam.core.ipam.labels import EVERYTHING, Selector


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A range of a pool."""

    range: Range
    from_cidr: bool = False
    """Born from a prefix; only these have ends that `allowFirstLastIPs: No` sets aside."""

    def __str__(self) -> str:
        if not self.from_cidr:
            return str(self.range)
        bits = 32 if self.range.family is Family.IPV4 else 128
        return f"{format_address(self.range.first)}/{bits + 1 - self.range.size.bit_length()}"

    def ends(self, *, allow_first_last: bool) -> tuple[Address, ...]:
        """The addresses at the ends that are not handed out.

        None of a /31, /32, /127 or /128 (Cilium: the smallest ranges that reserve are /30 and /126).
        """
        if allow_first_last or not self.from_cidr or self.range.size <= 2:
            return ()
        return self.range.first, self.range.last

    def usable(self, *, allow_first_last: bool) -> Range:
        """The range without its ends."""
        ends = self.ends(allow_first_last=allow_first_last)
        if not ends:
            return self.range
        return Range(Address(self.range.first + 1), Address(self.range.last - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A `CiliumLoadBalancerIPPool` as the administrator wishes it."""

    name: str
    created: str = ""
    """RFC 3339 to the second."""
    blocks: tuple[Block, ...] = ()
    """The well-formed ones, in the order of the spec."""
    selector: Selector | None = EVERYTHING
    """None: the selector does not compile, so the pool selects nobody."""
    allow_first_last: bool = True
    disabled: bool = False
    priority: int = 0
    auto_assign: bool = True
    """False: only for Services that name the pool, or an address in it."""
    hold_released_seconds: float = 0.0
    """How long the address of a deleted Service is kept for one of the same name."""

    @property
    def age(self) -> tuple[str, str]:
        """Of two pools that overlap, the one where this is smaller stays."""
        return self.created, self.name

    @property
    def rank(self) -> tuple[int, str, str]:
        """Pools are tried in ascending order of this (priority, then age, then name)."""
        return -self.priority, self.created, self.name

    def why_not_selected(self, labels: Mapping[str, str]) -> str | None:
        """Why the pool does not serve a Service with these labels; None if it does."""
        if self.selector is None:
            return "its selector is not valid"
        return self.selector.why_not(labels)

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether the pool serves a Service with these labels."""
        return self.selector is not None and self.selector.matches(labels)

    def contains(self, address: Address) -> bool:
        """Whether any of its blocks contains the address."""
        return any(address in block.range for block in self.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Why a pool is marked as conflicting: its range, the other range, and the other pool's name."""

    range: Range
    other: Range
    pool: str


def conflicts(pools: Iterable[Pool]) -> dict[str, Overlap]:
    """The pools that must yield, each with the overlap that makes it.

    A function of the pools as they are: from the oldest to the youngest, a pool that overlaps itself or an
    accepted one is marked, any other is accepted. A marked pool stands in nobody's way.
    """
    marked: dict[str, Overlap] = {}
    accepted: list[tuple[Range, str]] = []
    for pool in sorted(pools, key=lambda pool: pool.age):
        own = [(block.range, pool.name) for block in pool.blocks]
        overlap = _overlap_inside(own) or _overlap_between(own, accepted)
        if overlap is not None:
            marked[pool.name] = overlap
        else:
            for one in own:
                insort(accepted, one)
    return marked


def _overlap_inside(own: list[tuple[Range, str]]) -> Overlap | None:
    in_order = sorted(own)
    for (lower, name), (upper, _) in pairwise(in_order):
        if lower.overlaps(upper):
            return Overlap(range=lower, other=upper, pool=name)
    return None


def _overlap_between(own: list[tuple[Range, str]], accepted: list[tuple[Range, str]]) -> Overlap | None:
    for range_, _ in own:
        # Accepted ranges are disjoint: only the neighbours of where this one would stand can overlap it.
        at = bisect_left(accepted, (range_, ""))
        for other, name in accepted[max(at - 1, 0) : at + 1]:
            if range_.overlaps(other):
                return Overlap(range=range_, other=other, pool=name)
    return None
