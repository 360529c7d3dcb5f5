"""How is a dead node noticed sooner than its Lease runs out, and yet no live one replaced?

A node's Lease may name a *guardian*, another node that may end the Lease for it. The ward sends its guardian a
beat every quarter of a second, and the guardian answers each with a promise: not to begin to end the ward's
Lease within `PROMISE_SECONDS`.

    ward       ──beat──beat──beat──✕                    answers for nothing HELD_SECONDS after the last beat
                  ╲  ╱ ╲  ╱ ╲  ╱                        that was promised, as long as its Lease names a guardian
    guardian   ──promise─promise─promise──────────────▶ ends the Lease PROMISE_SECONDS after the last beat

1. The ward is bound from when it sends a renewal that names a guardian until one that names none has been
   accepted. While it is bound it answers only as long as a promise holds, counted from when it sent the beat;
   so it has stopped before its guardian may begin to end its Lease, whatever clocks that run apart by less
   than `DRIFT` show. A ward that misses promises writes a Lease that names no guardian, well before that.
2. The guardian ends a Lease by a write against the very version that it has seen to name it. If the ward has
   renewed since, the write is refused; if not, the ward's next renewal is. It promises only for the version
   that it sees, and never for one that it has begun to end, so that no promise outruns its own write.
3. A guardian that has started anew does not know what it promised and wrote before: it ends nothing until such
   promises are over, and promises nothing for the first version that it sees.

So the network between the two decides how soon a dead node is replaced, and nothing else: where no beat comes
through, Leases alone tell who lives. This file sends nothing, and reads no clock.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from math import inf

from lbipam.core.l2.election import DRIFT

BEAT_SECONDS = 0.25
PROMISE_SECONDS = 1.6
"""What a guardian promises, from when a beat has come, by its own clock."""
HELD_SECONDS = PROMISE_SECONDS * (1 - DRIFT) / (1 + DRIFT) - 0.01
"""What a ward may make of it, from when it sent the beat, by its own clock."""
_TRUSTED_AFTER_SECONDS = 2.0
"""For so long promises must have come before a guardian is named …"""
_DISTRUSTED_AFTER_SECONDS = 0.6
"""… and for so long none, before it is named no more."""
_PATIENCE_SECONDS = 3.0
"""For so long none, before another is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a ward tells its guardian."""

    ward: str
    number: int
    version: str
    """The resourceVersion of its Lease, as accepted last."""


class Ward:
    """One node's side of being watched over."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._guardians: tuple[str, ...] = ()
        self._asked = ""
        self._asked_since = -inf
        self._number = 0
        self._sent_at: dict[int, float] = {}
        self._promised_at = -inf
        """When the latest beat that was promised was sent."""
        self._trusted_from = inf
        self._bound = False

    def may_ask(self, others: Collection[str], now: float) -> None:
        """These other nodes can be guardians now."""
        ranked = tuple(sorted(others, key=self._rank))
        if ranked != self._guardians:
            self._guardians = ranked
            if self._asked not in ranked and not self._bound:
                self._ask(ranked[0] if ranked else "", now)

    def _rank(self, other: str) -> tuple[bytes, str]:
        # Each node has another order, so that no node is everybody's guardian.
        return blake2b(f"{self._node} {other}".encode(), digest_size=8).digest(), other

    def _ask(self, other: str, now: float) -> None:
        self._asked, self._asked_since = other, now
        self._promised_at, self._trusted_from = -inf, inf
        self._sent_at.clear()

    def beat(self, version: str, now: float) -> tuple[str, Beat] | None:
        """The next beat, and for whom, one every `BEAT_SECONDS`; None if there is nobody.

        Args:
            version: The resourceVersion of our Lease as accepted last.
            now: Seconds of the clock of fences.
        """
        self._turn_away(now)
        if not self._asked:
            return None
        self._number += 1
        self._sent_at[self._number] = now
        self._sent_at.pop(self._number - 64, None)
        return self._asked, Beat(ward=self._node, number=self._number, version=version)

    def _turn_away(self, now: float) -> None:
        """Ask the next, if the one asked is silent or gone; nobody else while we are bound to it."""
        if self._bound or not self._guardians:
            return
        silent_since = max(self._asked_since, self._promised_at)
        if self._asked in self._guardians and now < silent_since + _PATIENCE_SECONDS:
            return
        at = self._guardians.index(self._asked) + 1 if self._asked in self._guardians else 0
        self._ask(self._guardians[at % len(self._guardians)], now)

    def promised(self, guardian: str, number: int, now: float) -> None:
        """A guardian has answered the beat of this number."""
        sent_at = self._sent_at.pop(number, None)
        if guardian != self._asked or sent_at is None or sent_at <= self._promised_at:
            return
        if now >= self._promised_at + _DISTRUSTED_AFTER_SECONDS:
            self._trusted_from = now + _TRUSTED_AFTER_SECONDS
        self._promised_at = sent_at

    def to_name(self, now: float) -> str:
        """Whom the next renewal should name; empty: nobody."""
        is_trusted = now < self._promised_at + _DISTRUSTED_AFTER_SECONDS
        if not is_trusted or (not self._bound and now < self._trusted_from):
            return ""
        return self._asked if self._asked in self._guardians else ""

    def naming(self, guardian: str) -> None:
        """A renewal that names this guardian, or nobody, is about to be sent."""
        self._bound = self._bound or bool(guardian)

    def named(self, guardian: str) -> None:
        """It has been accepted."""
        self._bound = bool(guardian)

    @property
    def holds_until(self) -> float:
        """Nothing may be answered at or after this time."""
        return self._promised_at + HELD_SECONDS if self._bound else inf

    def wake_at(self, now: float) -> float:
        """When another should be named, if no promise comes before."""
        changes = (self._promised_at + _DISTRUSTED_AFTER_SECONDS, self._trusted_from)
        return min((at for at in changes if at > now), default=inf)


class Guardian:
    """One node's side of watching over others.

    Args:
        now: When it starts; what it promised before, if it did, is not known.
    """

    def __init__(self, now: float) -> None:
        self._starts_at = now + PROMISE_SECONDS
        self._promised_until: dict[str, float] = {}
        self._first: dict[str, str] = {}
        """The version of each ward's Lease that it saw first, and may have begun to end before it started."""
        self._begun: dict[str, str] = {}
        """The version that it has begun to end last."""

    def promises(self, beat: Beat, seen: str | None, now: float) -> bool:
        """Whether it promises anything on a beat.

        Args:
            beat: As it has come.
            seen: The resourceVersion of the ward's Lease, as the watch told it last.
            now: Seconds of the clock of fences.
        """
        if seen is None or beat.version != seen:
            return False
        if seen in (self._first.setdefault(beat.ward, seen), self._begun.get(beat.ward)):
            return False
        self._promised_until[beat.ward] = now + PROMISE_SECONDS
        return True

    def to_end(self, wards: Mapping[str, str], now: float) -> Mapping[str, str]:
        """Those of its wards that are silent, with the versions of their Leases: to be ended against these.

        Each version is told once; it is to be tried until that is no longer the version.

        Args:
            wards: The nodes whose live Leases name this one, with their versions as the watch told them last.
            now: Seconds of the clock of fences.
        """
        silent = {ward: wards[ward] for ward in self._not_begun(wards) if now >= self._ends_at(ward)}
        self._begun.update(silent)
        return silent

    def wake_at(self, wards: Mapping[str, str]) -> float:
        """When the first of its wards is silent for too long, if nothing more is heard of it."""
        return min(map(self._ends_at, self._not_begun(wards)), default=inf)

    def _not_begun(self, wards: Mapping[str, str]) -> Iterator[str]:
        return (ward for ward, version in wards.items() if self._begun.get(ward) != version)

    def _ends_at(self, ward: str) -> float:
        return max(self._starts_at, self._promised_until.get(ward, -inf))
