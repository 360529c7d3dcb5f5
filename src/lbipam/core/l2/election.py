"""Which node holds an address, given leases and the time.

Every node renews one Lease of its own and watches those of the others. For each address the candidates are
ranked by a hash of node and address (rendezvous hashing), preferred nodes first; the first one in the ranking
whose Lease lives should hold it. So addresses spread over the nodes, only those of a lost node move, and
Services that share an address agree.

Two nodes never hold an address at one time, whatever the network between them and the API server does, and
however late a node hears of Services, Nodes, policies and endpoints:

1. Saying before looking, as in Dekker's algorithm. A Lease tells the addresses that its node *claims*: those
   it holds and those it is about to hold. A node takes an address only after its own claim has come back to it
   in the watch, and if no live node's Lease, as seen by then, claims the address. The watch tells the changes
   of all Leases in one order, so of two nodes that claim an address the later one sees the earlier one's word.
   A node stops holding an address before it writes a Lease that does not claim it any more.
2. A node that cannot renew stops before others may follow. Its renewal, sent at s, is committed at c and
   seen by another at o, s ≤ c ≤ o. It holds nothing at or after s + renew deadline; the other counts it as
   live until o + duration. With clocks that run apart by less than `DRIFT`,

       s + renew deadline · (1 + DRIFT)  <  s + duration · (1 − DRIFT)  ≤  o + duration · (1 − DRIFT),

   so it has stopped before it is counted out, unless it has renewed meanwhile: then that renewal stands before
   the other's claim in the order of the watch, and the other sees that it lives before it takes anything.

Only spans of one clock are used: times of two machines are never compared, and a change of a Lease is told by
its resourceVersion. Who should hold an address decides nothing about safety: nodes that disagree for a moment
wait for each other's claims. So an address moves within two writes, and with no delay on purpose. This file
sends no renewal and reads no clock; the caller stops answering for what `held` no longer names before it
writes the next claims.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from hashlib import blake2b
from math import inf
from types import MappingProxyType

from lbipam.core.l2.announcements import Address

DRIFT = 0.01
"""How much faster or slower than true time a node's clock may run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a Lease lasts in the eyes of others, and how long in its owner's."""

    duration_seconds: float
    renew_deadline_seconds: float

    def why_unsafe(self) -> str | None:
        """Why two nodes could hold one address with this timing; None when they cannot."""
        if self.renew_deadline_seconds <= 0:
            return "the renew deadline is not positive"
        if self.renew_deadline_seconds * (1 + DRIFT) >= self.duration_seconds * (1 - DRIFT):
            return "the renew deadline is not shorter than the lease duration by the clocks' drift"
        return None

    def times(self, factor: float) -> "Timing":
        """So many times as long; as safe as before."""
        return Timing(
            duration_seconds=self.duration_seconds * factor,
            renew_deadline_seconds=self.renew_deadline_seconds * factor,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A node's Lease, as the watch told it last."""

    node: str
    version: str
    """Its resourceVersion: opaque, and different after every renewal."""
    duration_seconds: float
    claims: frozenset[bytes] = frozenset()
    """The addresses, packed, that its owner held or was about to hold when it wrote."""
    contested: frozenset[bytes] = frozenset()
    """Those that it found to be another host's when it was to answer for them last, claimed still or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The nodes that may hold an address, and those among them that should."""

    nodes: frozenset[str]
    preferred: frozenset[str] = frozenset()


def agreed(sharers: Iterable[Candidates]) -> Candidates:
    """The candidates for an address that several Services share: the nodes that serve most of them.

    That is the intersection where there is one. A Service that no node can serve does not take the address
    from the others.
    """
    sharers = tuple(sharers)
    votes = Counter(node for sharer in sharers for node in sharer.nodes)
    most = max(votes.values(), default=0)
    nodes = frozenset(node for node, count in votes.items() if count == most)
    preferred = frozenset(node for sharer in sharers for node in sharer.preferred)
    return Candidates(nodes=nodes, preferred=nodes & preferred)


def ranking(address: Address, candidates: Candidates) -> tuple[str, ...]:
    """The candidates in the order in which they hold the address: the same on every node."""
    packed = address.packed
    preferred = candidates.preferred

    def rank(node: str) -> tuple[bool, bytes, str]:
        weight = blake2b(packed + node.encode(), digest_size=8).digest()
        return node not in preferred, weight, node

    return tuple(sorted(candidates.nodes, key=rank))


def first_live(ranked: Iterable[str], view: AbstractSet[str]) -> str | None:
    """Who holds an address with this ranking when `view` is who is live; None: nobody can."""
    return next((node for node in ranked if node in view), None)


class Election:
    """What one node knows of the Leases, and which addresses it therefore holds."""

    def __init__(self, *, node: str, timing: Timing) -> None:
        problem = timing.why_unsafe()
        if problem is not None:
            raise ValueError(problem)
        self._node = node
        self._timing = timing
        self._others: dict[str, Lease] = {}
        self._expires_at: dict[str, float] = {}
        self._view = frozenset({node})
        self._echo: Lease | None = None
        self._renewed_version = ""
        self._renewed_word = 0
        self._renewed_until = -inf
        self._bound_until = inf
        self._candidates: dict[Address, Candidates] = {}
        self._rankings: dict[Address, tuple[str, ...]] = {}
        self._groups: defaultdict[Candidates, set[Address]] = defaultdict(set)
        self._holders: dict[Address, str | None] = {}
        self._word = 0
        self._claimed_since: dict[Address, int] = {}
        self._waiting: set[Address] = set()
        self._held: set[Address] = set()
        self._from_the_start: set[Address] | None = None
        """Those that were wanted when we came, and ever since."""
        self._elsewhere: dict[Address, bool] = {}
        """Whether the node that should have held an address last answered for it, where that was another."""

    # --- What has happened ---------------------------------------------------------------------------

    def saw(self, lease: Lease, now: float) -> None:
        """The list or the watch tells this Lease; in the order of the watch, our own after all that a list tells."""
        if lease.node == self._node:
            self._echo = lease
        else:
            known = self._others.get(lease.node)
            self._others[lease.node] = lease
            if known is None or known.version != lease.version:
                self._expires_at[lease.node] = now + lease.duration_seconds
        self.tick(now)

    def released(self, node: str, now: float) -> None:
        """A node has written that it holds nothing any more.

        Not to be called when a Lease is deleted: its owner may live, and whoever deleted it did not ask.
        """
        self._expires_at.pop(node, None)
        self.tick(now)
        self._others.pop(node, None)

    def renewed(
        self, *, version: str, word: int, started_at: float, now: float, timing: Timing | None = None
    ) -> None:
        """The API server has accepted our renewal, sent at `started_at` with the claims of this `word`.

        `timing` is what the renewal told, where that is another than the usual.
        """
        self.tick(now)
        self._renewed_version = version
        self._renewed_word = word
        self._renewed_until = started_at + (timing or self._timing).renew_deadline_seconds
        self.tick(now)

    def bound(self, until: float, now: float) -> None:
        """Nothing may be held at or after this time either, whatever the Lease says."""
        self._bound_until = until
        self.tick(now)

    def want(self, changes: Mapping[Address, Candidates | None], now: float) -> None:
        """Take in who may hold which address from now on; None: it is not to be held any more.

        The first call tells all addresses there are, later ones those whose candidates may have changed.
        """
        self.tick(now)
        if self._from_the_start is None:
            self._from_the_start = {one for one, wanted in changes.items() if wanted is not None}
        for address, wanted in changes.items():
            if wanted is None:
                self._forget(address)
            elif self._candidates.get(address) != wanted:
                self._nominate(address, wanted)
        self.tick(now)

    def tick(self, now: float) -> None:
        """Time has passed."""
        live = {node for node, expires_at in self._expires_at.items() if now < expires_at}
        live.add(self._node)
        if live != self._view:
            self._change_view(frozenset(live))
        if now >= self.valid_until:
            self._waiting |= self._held
            self._held.clear()
        if self._waiting:
            self._take(now)

    # --- What follows from it ------------------------------------------------------------------------

    @property
    def view(self) -> frozenset[str]:
        """The nodes that count as live."""
        return self._view

    @property
    def claims(self) -> AbstractSet[Address]:
        """The addresses to be claimed with the next renewal."""
        return self._claimed_since.keys()

    @property
    def word(self) -> int:
        """Which claims these are: the number of times that claims have been made or given up."""
        return self._word

    @property
    def held(self) -> AbstractSet[Address]:
        """The addresses to answer for, up to `valid_until`."""
        return frozenset(self._held)

    def was_elsewhere(self, address: Address) -> bool:
        """Whether one of our other nodes answered for a wanted address before, as far as can be known."""
        if address in self._elsewhere:
            return self._elsewhere[address]
        if self._from_the_start is None or address not in self._from_the_start:
            return False
        others = (node for node in self._rankings[address] if node != self._node)
        before_us = first_live(others, self._view)
        return before_us is not None and self._answered(before_us, address)

    @property
    def holders(self) -> Mapping[Address, str | None]:
        """Who holds each address, as seen from here; None where no candidate is live."""
        return MappingProxyType(self._holders)

    @property
    def valid_until(self) -> float:
        """When this node's last accepted renewal ends, or what else bounds it: nothing is answered after that."""
        return min(self._renewed_until, self._bound_until)

    def wake_at(self) -> float:
        """When `tick` is to be called next, if nothing happens before."""
        ends = [self._expires_at[node] for node in self._view if node != self._node]
        if self._held:
            ends.append(self.valid_until)
        return min(ends, default=inf)

    # --- How -----------------------------------------------------------------------------------------

    def _nominate(self, address: Address, candidates: Candidates) -> None:
        self._leave_group(address)
        self._candidates[address] = candidates
        self._groups[candidates].add(address)
        self._rankings[address] = ranking(address, candidates)
        self._assign(address)

    def _forget(self, address: Address) -> None:
        self._leave_group(address)
        self._disclaim(address)
        for known in (self._candidates, self._rankings, self._holders, self._elsewhere):
            known.pop(address, None)
        if self._from_the_start is not None:
            self._from_the_start.discard(address)

    def _leave_group(self, address: Address) -> None:
        candidates = self._candidates.get(address)
        if candidates is None:
            return
        self._groups[candidates].discard(address)
        if not self._groups[candidates]:
            del self._groups[candidates]

    def _change_view(self, view: frozenset[str]) -> None:
        """Give every address its holder anew that the nodes come or gone can concern."""
        come, gone = view - self._view, self._view - view
        self._view = view
        for candidates, addresses in self._groups.items():
            if not come.isdisjoint(candidates.nodes):
                concerned = tuple(addresses)
            elif not gone.isdisjoint(candidates.nodes):
                concerned = tuple(address for address in addresses if self._holders[address] in gone)
            else:
                continue
            for address in concerned:
                self._assign(address)

    def _assign(self, address: Address) -> None:
        is_known, before = address in self._holders, self._holders.get(address)
        holder = first_live(self._rankings[address], self._view)
        self._holders[address] = holder
        if before is not None and before != self._node:
            self._elsewhere[address] = self._answered(before, address)
        elif before is None and is_known:
            # For a while nobody could answer, and whoever then asked the LAN was free to take it.
            self._elsewhere[address] = False
        if holder == self._node:
            self._claim(address)
        else:
            self._disclaim(address)

    def _answered(self, node: str, address: Address) -> bool:
        """Whether another node answered for an address when it should, by the Lease it had last."""
        return address.packed not in self._others[node].contested

    def _claim(self, address: Address) -> None:
        if address not in self._claimed_since:
            self._word += 1
            self._claimed_since[address] = self._word
            self._waiting.add(address)

    def _disclaim(self, address: Address) -> None:
        if self._claimed_since.pop(address, None) is not None:
            self._word += 1
            self._held.discard(address)
            self._waiting.discard(address)

    def _take(self, now: float) -> None:
        """Hold what we claim, our claim for it is out, and no live node claims too."""
        if now >= self.valid_until or self._echo is None or self._echo.version != self._renewed_version:
            return
        free = {
            address.packed: address
            for address in self._waiting
            if self._claimed_since[address] <= self._renewed_word
        }
        for node in self._view - {self._node}:
            for contested in free.keys() & self._others[node].claims:
                del free[contested]
        self._held.update(free.values())
        self._waiting.difference_update(free.values())
