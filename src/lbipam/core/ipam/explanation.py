"""What did every pool and block say to each wish of a Service, and what came of it?

The answers come from the functions that decide, so they cannot tell another story. This file decides nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lbipam.core.ipam.addresses import Address, Family, family_of
from lbipam.core.ipam.allocation import (
    Decision,
    Reason,
    Refusal,
    Verdict,
    asked,
    decide,
    verdict_of,
    verdict_on_any,
)
from lbipam.core.ipam.ledger import Ledger
from lbipam.core.ipam.pools import Block
from lbipam.core.ipam.services import Service
from lbipam.core.ipam.space import PoolSpace, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockAnswer:
    """A block's verdict on a wish."""

    block: Block
    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolAnswer:
    """A pool's verdict on a wish, with the comparison that led to it."""

    pool: str
    verdict: Verdict
    detail: str = ""
    blocks: tuple[BlockAnswer, ...] = ()
    """What each block says; none if the pool refuses for all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How one wish fared."""

    family: Family
    address: Address | None
    """The named address; None for any of the family."""
    has: tuple[Address, ...]
    """What the Service holds for it, and keeps."""
    granted: tuple[Address, ...]
    """What it would be given for it, and does not hold yet."""
    refusal: Refusal | None
    pools: tuple[PoolAnswer, ...]
    """Each pool in the order in which it is asked."""


def explain(service: Service, ledger: Ledger) -> tuple[Explanation, ...]:
    """Tell for each wish what every pool says to it, and what comes of it."""
    decision = decide(service, ledger)
    if service.addresses:
        return tuple(_of_address(address, service, ledger, decision) for address in service.addresses)
    return tuple(_of_family(family, service, ledger, decision) for family in service.families)


# --- a named address ---------------------------------------------------------------------------------------


def _of_address(address: Address, service: Service, ledger: Ledger, decision: Decision) -> Explanation:
    refusal = next((refusal for refusal in decision.refusals if refusal.address == address), None)
    return Explanation(
        family=family_of(address),
        address=address,
        has=(address,) if address in decision.kept else decision.stale,
        granted=(address,) if address in decision.granted else (),
        refusal=refusal,
        pools=tuple(
            _about_address(space, address, service, ledger, refusal) for space in asked(service, ledger)
        ),
    )


def _about_address(
    space: PoolSpace, address: Address, service: Service, ledger: Ledger, refusal: Refusal | None
) -> PoolAnswer:
    verdict = verdict_of(space, service)
    if space not in ledger.space.pools_of(address):
        return PoolAnswer(pool=space.pool.name, verdict=Verdict.NOT_CONTAINING)
    if verdict is not Verdict.GIVES:
        return _for_all_blocks(space, service, verdict)
    detail = ""
    if refusal is not None:
        verdict, detail = _why_kept_back(address, ledger, refusal)
    return PoolAnswer(
        pool=space.pool.name,
        verdict=verdict,
        detail=detail,
        blocks=tuple(
            BlockAnswer(block=block, verdict=verdict if address in block.range else Verdict.NOT_CONTAINING)
            for block in space.pool.blocks
        ),
    )


def _why_kept_back(address: Address, ledger: Ledger, refusal: Refusal) -> tuple[Verdict, str]:
    """Why a pool that would give to the Service does not give it this address."""
    holders = ledger.holders_of(address)
    if refusal.reason in (Reason.ALREADY_ALLOCATED, Reason.INCOMPATIBLE) and holders:
        others = f" and {len(holders) - 1} more" if len(holders) > 1 else ""
        return Verdict.USED, f"{holders[0]}{others} has it: {refusal.detail}"
    if refusal.reason in (Reason.ALREADY_ALLOCATED, Reason.RESERVED):
        return Verdict.SET_ASIDE, refusal.detail
    return Verdict.GIVES, ""


# --- any address of a family -------------------------------------------------------------------------------


def _of_family(family: Family, service: Service, ledger: Ledger, decision: Decision) -> Explanation:
    return Explanation(
        family=family,
        address=None,
        has=_of(family, (*decision.kept, *decision.stale)),
        granted=_of(family, decision.granted),
        refusal=next((refusal for refusal in decision.refusals if refusal.family is family), None),
        pools=tuple(_about_family(space, family, service) for space in asked(service, ledger)),
    )


def _of(family: Family, addresses: Iterable[Address]) -> tuple[Address, ...]:
    return tuple(address for address in addresses if family_of(address) is family)


def _about_family(space: PoolSpace, family: Family, service: Service) -> PoolAnswer:
    verdict = verdict_on_any(space, service, family)
    if verdict not in (Verdict.GIVES, Verdict.FULL):
        return _for_all_blocks(space, service, verdict)
    return PoolAnswer(
        pool=space.pool.name,
        verdict=verdict,
        detail=_in_numbers(space.usage()) if verdict is Verdict.FULL else "",
        blocks=tuple(_about_any_in(block, space, family) for block in space.pool.blocks),
    )


def _about_any_in(block: Block, space: PoolSpace, family: Family) -> BlockAnswer:
    if block.range.family is not family:
        return BlockAnswer(block=block, verdict=Verdict.WRONG_FAMILY)
    usage = space.usage(block.range)
    verdict = Verdict.GIVES if usage.available else Verdict.FULL
    return BlockAnswer(block=block, verdict=verdict, detail=_in_numbers(usage))


def _in_numbers(usage: Usage) -> str:
    return f"of {usage.total} addresses {usage.used} are used and {usage.reserved} reserved"


# --- both --------------------------------------------------------------------------------------------------


def _for_all_blocks(space: PoolSpace, service: Service, verdict: Verdict) -> PoolAnswer:
    """A verdict of the pool as a whole, with the comparison that led to it."""
    detail = ""
    if verdict is Verdict.NOT_SELECTED:
        detail = space.pool.why_not_selected(service.labels) or ""
    elif verdict is Verdict.CONFLICTING and space.overlap is not None:
        detail = f"'{space.overlap.range}' overlaps '{space.overlap.other}' of {space.overlap.pool}"
    return PoolAnswer(pool=space.pool.name, verdict=verdict, detail=detail)
