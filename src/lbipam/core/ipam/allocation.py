"""The decision: keep, release, grant or refuse — with the reason.

    claims ──▶ lawful? ──▶ wished? ──▶ kept
                  │            └─────▶ stale: goes once there is something better (make before break)
                  └──────────────────▶ dropped
    wishes not met by what is kept ──▶ granted, or refused and why

A claim is *lawful* as long as some pool contains the address and selects the Service, and those who share it
permit it; whether the pool is disabled or conflicts does not matter. A *wish* is a named address, or any
address of a family. `decide` reads the ledger and changes nothing. This file does not know what the Service's
status shows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import TypeAlias

from lbipam.core.ipam.addresses import Address, Family, family_of
from lbipam.core.ipam.ledger import Ledger
from lbipam.core.ipam.services import Service
from lbipam.core.ipam.space import PoolSpace


class Reason(Enum):
    """Why a wish is refused; the values are the condition's reasons (the first five are Cilium's)."""

    NO_POOL = "no_pool"
    OUT_OF_IPS = "out_of_ips"
    SELECTOR_MISMATCH = "pool_selector_mismatch"
    ALREADY_ALLOCATED = "already_allocated"
    INCOMPATIBLE = "already_allocated_incompatible_service"
    NOT_NAMED = "pool_not_named"
    RESERVED = "reserved"
    QUOTA_EXCEEDED = "quota_exceeded"


@dataclass(frozen=True, slots=True)
class FreeAddressIn:
    """Waits until a pool has a free address of a family."""

    pool: str
    family: Family


@dataclass(frozen=True, slots=True)
class ChangeAt:
    """Waits until a holder of an address goes or changes how it shares."""

    address: Address


@dataclass(frozen=True, slots=True)
class ChangeAmongSharers:
    """Waits until a holder that has a sharing key goes or changes how it shares."""

    sharing_key: str


@dataclass(frozen=True, slots=True)
class RoomInQuota:
    """Waits until a namespace may hold one more address."""

    namespace: str


Remedy: TypeAlias = FreeAddressIn | ChangeAt | ChangeAmongSharers | RoomInQuota


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A wish that cannot be met now."""

    reason: Reason
    family: Family
    address: Address | None = None
    """For a specific wish."""
    detail: str = ""
    """The comparison that failed."""
    remedies: tuple[Remedy, ...] = ()
    """What could help, apart from changes of the Service itself, of pools and of reservations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A claim that has lost its right."""

    address: Address
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a Service's claims and wishes."""

    kept: tuple[Address, ...] = ()
    stale: tuple[Address, ...] = ()
    """No longer wished, but kept until what is wished can be had."""
    granted: tuple[Address, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    superseded: tuple[Address, ...] = ()
    """Lawful, but no longer wished or needed."""
    refusals: tuple[Refusal, ...] = ()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """What the Service has after this decision."""
        return (*self.kept, *self.stale, *self.granted)


class Verdict(Enum):
    """What a pool, or a block of it, says to a wish."""

    GIVES = "gives an address"
    DISABLED = "is disabled"
    CONFLICTING = "conflicts with another pool"
    NOT_NAMED = "is not named by the Service"
    MUST_BE_NAMED = "gives only to Services that name it or an address in it"
    NOT_SELECTED = "does not select the Service"
    WRONG_FAMILY = "has no addresses of the family"
    NOT_CONTAINING = "does not contain the address"
    FULL = "is full"
    USED = "has given the address to others"
    SET_ASIDE = "sets the address aside"


def why_unlawful(service: Service, address: Address, ledger: Ledger) -> str | None:
    """Why a holder may not keep an address; None if it may."""
    pools = ledger.space.pools_of(address)
    if not pools:
        return "no pool contains it"
    for space in pools:
        why_not = space.pool.why_not_selected(service.labels)
        if why_not is None:
            break
    else:
        return f"pool {pools[0].pool.name} does not select the Service: {why_not}"
    apart = ledger.why_apart(address, service.key, service.sharing)
    return apart.value if apart is not None else None


def verdict_of(space: PoolSpace, service: Service) -> Verdict:
    """What a pool says to a Service before it is asked for a certain address or family."""
    pool = space.pool
    if service.pools and pool.name not in service.pools:
        return Verdict.NOT_NAMED
    if pool.disabled:
        return Verdict.DISABLED
    if space.overlap is not None:
        return Verdict.CONFLICTING
    return Verdict.GIVES if pool.selects(service.labels) else Verdict.NOT_SELECTED


def verdict_on_any(space: PoolSpace, service: Service, family: Family) -> Verdict:
    """What a pool says to a wish for any address of a family."""
    verdict = verdict_of(space, service)
    if verdict is not Verdict.GIVES:
        return verdict
    if not space.pool.auto_assign and not service.pools:
        return Verdict.MUST_BE_NAMED
    if space.lowest(family) is not None:
        return Verdict.GIVES
    return Verdict.FULL if space.has_family(family) else Verdict.WRONG_FAMILY


def asked(service: Service, ledger: Ledger) -> Iterator[PoolSpace]:
    """The pools in the order in which they are asked: the named ones first, in the order of their naming."""
    pools = ledger.space.pools
    yield from (pools[name] for name in dict.fromkeys(service.pools) if name in pools)
    yield from (space for name, space in pools.items() if name not in service.pools)


def _gives(space: PoolSpace, service: Service) -> bool:
    return verdict_of(space, service) is Verdict.GIVES


class _Draft:
    """A decision in the making."""

    def __init__(self, service: Service, ledger: Ledger) -> None:
        self.service = service
        self.ledger = ledger
        self.kept: set[Address] = set()
        self.outcomes: dict[Address | Family, Address | Refusal] = {}
        """By wish, in the order of the wishes: what comes of those that nothing held meets."""
        self.dropped: list[Dropped] = []
        self.lawful: dict[Address, None] = {}
        for address in ledger.claims_of(service.key):
            why = why_unlawful(service, address, ledger)
            if why is None:
                self.lawful[address] = None
            else:
                self.dropped.append(Dropped(address=address, why=why))

    # --- wishes ----------------------------------------------------------------------------------------

    def wish_address(self, address: Address) -> None:
        """A named address: kept, granted or refused."""
        if address in self.lawful:
            self.kept.add(address)
        else:
            self.outcomes[address] = self._why_not_address(address) or address

    def wish_family(self, family: Family) -> None:
        """Any address of a family: those held stay, else one is granted or the wish refused."""
        held = [
            address for address in self.lawful if family_of(address) is family and self._acceptable(address)
        ]
        if held:
            self.kept.update(held)
        else:
            self.outcomes[family] = self._find(family)

    def _acceptable(self, address: Address) -> bool:
        """Whether an address held may serve a generic wish: it must lie in a named pool, where any are."""
        names = self.service.pools
        return not names or any(space.pool.name in names for space in self.ledger.space.pools_of(address))

    def _find(self, family: Family) -> Address | Refusal:
        """Where to take an address from: what is reserved for it, then a sharer's, then the pools in order."""
        service, ledger = self.service, self.ledger
        for address in ledger.space.reserved_for(service.key):
            if family_of(address) is family and not self._set_aside(address) and self._giver(address):
                return address
        shared = self._find_shared(family) if service.sharing.key else None
        if shared is not None:
            return shared
        full: list[str] = []
        for space in asked(service, ledger):
            verdict = verdict_on_any(space, service, family)
            lowest = space.lowest(family) if verdict is Verdict.GIVES else None
            if lowest is not None:
                return lowest
            if verdict is Verdict.FULL:
                full.append(space.pool.name)
        return self._why_none(family, full)

    def _find_shared(self, family: Family) -> Address | None:
        """The first address to join; with a quota, one that the namespace holds already, if there is any."""
        namespace = self.service.key.namespace
        held = self.ledger.held_in(namespace)
        first = None
        for address in self.ledger.addresses_to_join(self.service.key, self.service.sharing):
            if family_of(address) is family and self._may_join(address):
                if namespace not in self.ledger.quotas or address in held:
                    return address
                first = address if first is None else first
        return first

    def _giver(self, address: Address) -> bool:
        return any(_gives(space, self.service) for space in self.ledger.space.pools_of(address))

    def _may_join(self, address: Address) -> bool:
        reservation = self.ledger.space.reservation_of(address)
        if reservation is not None and reservation.service != self.service.key:
            return False
        return any(
            _gives(space, self.service) and (space.pool.auto_assign or self.service.pools)
            for space in self.ledger.space.pools_of(address)
        )

    def _set_aside(self, address: Address) -> bool:
        """Whether it is the first or last address of all its pools that keep these back."""
        segment = self.ledger.space.segment_of(address)
        return segment is not None and not segment.usable_in

    # --- refusals --------------------------------------------------------------------------------------

    def _why_none(self, family: Family, full: list[str]) -> Refusal:
        if not full:
            return Refusal(reason=Reason.NO_POOL, family=family)
        remedies: list[Remedy] = [FreeAddressIn(pool, family) for pool in full]
        if self.service.sharing.key:
            remedies.append(ChangeAmongSharers(self.service.sharing.key))
        return Refusal(reason=Reason.OUT_OF_IPS, family=family, remedies=tuple(remedies))

    def _why_not_address(self, address: Address) -> Refusal | None:
        family, service = family_of(address), self.service

        def refused(reason: Reason, detail: str = "", *remedies: Remedy) -> Refusal:
            return Refusal(reason=reason, family=family, address=address, detail=detail, remedies=remedies)

        giving = [
            space
            for space in self.ledger.space.pools_of(address)
            if not space.pool.disabled and space.overlap is None
        ]
        if not giving:
            return refused(Reason.NO_POOL)
        if service.pools and not (giving := [space for space in giving if space.pool.name in service.pools]):
            return refused(Reason.NOT_NAMED)
        if not any(space.pool.selects(service.labels) for space in giving):
            why_not = giving[0].pool.why_not_selected(service.labels) or ""
            return refused(Reason.SELECTOR_MISMATCH, why_not)
        if self._set_aside(address):
            return refused(Reason.ALREADY_ALLOCATED, "it is the first or last address of its block")
        reservation = self.ledger.space.reservation_of(address)
        if reservation is not None and reservation.service != service.key:
            return refused(Reason.RESERVED, str(reservation), ChangeAt(address))
        apart = self.ledger.why_apart(address, service.key, service.sharing)
        if apart is not None:
            # A service without a key is told that the address is taken, one with a key why it may not join.
            reason = Reason.INCOMPATIBLE if service.sharing.key else Reason.ALREADY_ALLOCATED
            return refused(reason, apart.value, ChangeAt(address))
        return None

    # --- the end ---------------------------------------------------------------------------------------

    def decision(self) -> Decision:
        """Refuse what the quota does not allow, the last wish first."""
        decision = self._settled()
        while surplus := self._over_quota(decision):
            held = self.ledger.held_in(self.service.key.namespace)
            new = (
                (wish, outcome)
                for wish, outcome in reversed(self.outcomes.items())
                if not isinstance(outcome, Refusal) and outcome not in held
            )
            for wish, address in tuple(islice(new, surplus)):
                self.outcomes[wish] = self._quota_refusal(address, named=wish == address)
            decision = self._settled()
        return decision

    def _settled(self) -> Decision:
        """Settle what becomes of lawful claims that nobody wishes any more."""
        refusals = [outcome for outcome in self.outcomes.values() if isinstance(outcome, Refusal)]
        granted = [outcome for outcome in self.outcomes.values() if not isinstance(outcome, Refusal)]
        unwished = [address for address in self.lawful if address not in self.kept]
        stale: list[Address] = []
        if refusals and unwished:
            served = {family_of(address) for address in (*self.kept, *granted)}
            stale = [address for address in unwished if family_of(address) not in served]
        spared = frozenset(stale)
        return Decision(
            kept=tuple(address for address in self.lawful if address in self.kept),
            stale=tuple(stale),
            granted=tuple(granted),
            dropped=tuple(self.dropped),
            superseded=tuple(address for address in unwished if address not in spared),
            refusals=tuple(refusals),
        )

    def _over_quota(self, decision: Decision) -> int:
        """How many wishes must be refused, or the namespace holds more than it may and than it does now."""
        namespace = self.service.key.namespace
        most = self.ledger.quotas.get(namespace)
        if most is None:
            return 0
        held = self.ledger.held_in(namespace)
        coming = sum(address not in held for address in decision.granted)
        going = (*(dropped.address for dropped in decision.dropped), *decision.superseded)
        more = coming - sum(held[address] == 1 for address in going)
        return max(min(coming, more, len(held) + more - most), 0)

    def _quota_refusal(self, address: Address, *, named: bool) -> Refusal:
        namespace = self.service.key.namespace
        remedies: list[Remedy] = [RoomInQuota(namespace)]
        if self.service.sharing.key and not named:
            # To join an address that the namespace holds takes no room.
            remedies.append(ChangeAmongSharers(self.service.sharing.key))
        return Refusal(
            reason=Reason.QUOTA_EXCEEDED,
            family=family_of(address),
            address=address if named else None,
            detail=f"{len(self.ledger.held_in(namespace))} of {self.ledger.quotas[namespace]}",
            remedies=tuple(remedies),
        )


def decide(service: Service, ledger: Ledger) -> Decision:
    """Decide about one Service, given all claims and pools as they are.

    Cost: logarithmic in addresses held, linear in the number of pools and in what the Service itself names.
    """
    draft = _Draft(service, ledger)
    for address in service.addresses:
        draft.wish_address(address)
    if not service.addresses:
        for family in service.families:
            draft.wish_family(family)
    return draft.decision()
