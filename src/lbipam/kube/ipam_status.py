"""Outcomes into conditions, ingress lists, and the bodies of writes.

Types, reasons and sentences are Cilium's where Cilium has them. What stands already is recognised, so that
nothing is written twice. This file does not decide what becomes of an address.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lbipam.core.ipam.addresses import Address, format_address, parse_address
from lbipam.core.ipam.allocation import Decision, Reason, Refusal
from lbipam.core.ipam.pools import Overlap
from lbipam.core.ipam.reservations import Reservation
from lbipam.core.ipam.services import ServiceKey
from lbipam.core.ipam.space import PoolSpace
from lbipam.kube import conditions, forms
from lbipam.kube.conditions import Stand, Status
from lbipam.kube.forms import Ingress
from lbipam.kube.ipam import IP_RESERVATION, POOL, RELEASED_BY, IPPool, IPReservation, PoolReading
from lbipam.kube.kinds import Kind

REQUEST_SATISFIED = "cilium.io/IPAMRequestSatisfied"
LEADER = "lbipam.dev/Leader"
"""Written on a waiting Service by a new leader, so that a write of the former one comes too late."""

MANAGED_ELSEWHERE = "managed_elsewhere"
"""Reason: another field manager owns the ingress list."""

_POOL_CONFLICT = "cilium.io/PoolConflict"
_IPS_TOTAL = "cilium.io/IPsTotal"
_IPS_AVAILABLE = "cilium.io/IPsAvailable"
_IPS_USED = "cilium.io/IPsUsed"
_IPS_RESERVED = "lbipam.dev/IPsReserved"
_BLOCKS_VALID = "lbipam.dev/BlocksValid"
_SELECTOR_VALID = "lbipam.dev/SelectorValid"
_ANNOTATIONS_VALID = "lbipam.dev/AnnotationsValid"
_RESERVATION_ACTIVE = "lbipam.dev/Active"

_SERVICE_TYPES = frozenset({REQUEST_SATISFIED})
_POOL_TYPES = frozenset(
    {
        _POOL_CONFLICT,
        _IPS_TOTAL,
        _IPS_AVAILABLE,
        _IPS_USED,
        _IPS_RESERVED,
        _BLOCKS_VALID,
        _SELECTOR_VALID,
        _ANNOTATIONS_VALID,
    }
)
_RESERVATION_TYPES = frozenset({_RESERVATION_ACTIVE})

_SATISFIED = (Stand(type=REQUEST_SATISFIED, status=Status.TRUE, reason="satisfied"),)


# --- Services ----------------------------------------------------------------------------------------------


def sentence(refusal: Refusal) -> str:
    """A refusal as the condition, the Event and `explain` tell it."""
    ip = format_address(refusal.address) if refusal.address is not None else ""
    match refusal.reason:
        case Reason.NO_POOL if not ip:
            return "There are no enabled CiliumLoadBalancerIPPools that match this service"
        case Reason.NO_POOL:
            return f"No pool exists with a CIDR containing '{ip}'"
        case Reason.OUT_OF_IPS:
            return "All enabled CiliumLoadBalancerIPPools that match this service ran out of allocatable IPs"
        case Reason.SELECTOR_MISMATCH:
            return f"The pool with the CIDR containing '{ip}', doesn't select this service"
        case Reason.ALREADY_ALLOCATED:
            return f"The IP '{ip}' is already allocated to another service"
        case Reason.INCOMPATIBLE:
            return f"The IP '{ip}' is already allocated to an incompatible service. Reason: {refusal.detail}"
        case Reason.NOT_NAMED:
            return f"The pool with the CIDR containing '{ip}' is not named in the annotation {POOL}"
        case Reason.RESERVED:
            return f"The IP '{ip}' is reserved {refusal.detail}"
        case Reason.QUOTA_EXCEEDED:
            return f"The namespace holds as many addresses as its quota allows ({refusal.detail})"


def foreign_sentence(managers: Sequence[str]) -> str:
    """That others write a Service's addresses, for people."""
    names = ", ".join(managers) or "another field manager"
    return f"The load balancer ingress is managed by {names}; lbipam leaves it alone"


def _service_stands(decision: Decision, problems: Sequence[str]) -> tuple[Stand, ...]:
    if not problems and not decision.refusals:
        return _SATISFIED
    reason = "invalid_request" if problems else decision.refusals[0].reason.value
    # A refusal that both families share is told once.
    sentences = dict.fromkeys((*problems, *(sentence(refusal) for refusal in decision.refusals)))
    return (Stand(type=REQUEST_SATISFIED, status=Status.FALSE, reason=reason, message="; ".join(sentences)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStand:
    """What a Service's status should say, and whether it does."""

    ingress: tuple[Ingress, ...] | None
    """None: leave alone what others wrote, take away what we did."""
    conditions: tuple[Stand, ...]
    ingress_stands: bool
    conditions_stand: bool

    @property
    def stands(self) -> bool:
        """Whether nothing needs to be written."""
        return self.ingress_stands and self.conditions_stand


def service_stand(
    service: forms.Service, decision: Decision, problems: Sequence[str], ours: Sequence[Address]
) -> ServiceStand:
    """What the status should say after a decision.

    Args:
        service: As last seen.
        decision: What it has from now on.
        problems: Parts of its request that cannot be understood.
        ours: The addresses that we gave it, or took over as given, before the decision.
    """
    stands = _service_stands(decision, problems)
    generation = service.metadata.generation
    shown = service.status.load_balancer.ingress
    ingress = _ingress(shown, decision.addresses, ours)
    return ServiceStand(
        ingress=ingress,
        conditions=stands,
        ingress_stands=ingress is None or ingress == shown,
        conditions_stand=conditions.same(service.status.conditions, stands, _SERVICE_TYPES, generation),
    )


def _ingress(
    shown: tuple[Ingress, ...], addresses: Sequence[Address], ours: Sequence[Address]
) -> tuple[Ingress, ...] | None:
    """The list that shows exactly these addresses; entries that stay, stay as they are and where they are.

    With no address to show, an entry that is not ours is left to whoever wrote it (D8).
    """
    given = frozenset(addresses)
    by_address = {address: entry for entry in shown if (address := _address_of(entry)) is not None}
    if not addresses:
        return None if not any(address in by_address for address in ours) else ()
    kept = [address for address in by_address if address in given]
    new = [address for address in addresses if address not in by_address]
    return tuple(by_address.get(address) or Ingress(ip=format_address(address)) for address in (*kept, *new))


def _address_of(entry: Ingress) -> Address | None:
    try:
        return parse_address(entry.ip)
    except ValueError:
        return None


def says_satisfied(service: forms.Service) -> bool:
    """Whether the status says that the Service has all that it asks for."""
    return any(one.type == REQUEST_SATISFIED and one.status == "True" for one in service.status.conditions)


def says_given(service: forms.Service) -> bool:
    """Whether the status tells of us, and not that others write what it shows."""
    return any(
        one.type == REQUEST_SATISFIED and one.reason != MANAGED_ELSEWHERE for one in service.status.conditions
    )


def is_marked(service: forms.Service) -> bool:
    """Whether the Service carries a condition of ours."""
    return any(one.type in (REQUEST_SATISFIED, LEADER) for one in service.status.conditions)


def service_apply(service: forms.Service, stand: ServiceStand, now: float) -> Mapping[str, Any]:
    """The apply of all that is ours in a Service's status; refused if the Service has changed since.

    What it does not name it takes away: so even one that grants nothing must not come late.

    Args:
        service: As last seen.
        stand: What its status should say.
        now: Seconds since 1970.
    """
    return _with_ingress(service, stand.conditions, stand.ingress or (), now)


def service_managed_elsewhere(service: forms.Service, message: str, now: float) -> Mapping[str, Any] | None:
    """The apply that says that others write the addresses, and claims no part of the list; None if it stands.

    Args:
        service: As last seen.
        message: Who they are.
        now: Seconds since 1970.
    """
    stand = Stand(type=REQUEST_SATISFIED, status=Status.FALSE, reason=MANAGED_ELSEWHERE, message=message)
    if conditions.same(service.status.conditions, (stand,), _SERVICE_TYPES, service.metadata.generation):
        return None
    return _with_ingress(service, [stand], (), now)


def service_clear(service: forms.Service) -> Mapping[str, Any]:
    """The apply that takes away all that is ours in a Service's status."""
    return conditions.status_apply(forms.SERVICE, service.metadata, {}, guarded=True)


def service_touch(
    service: forms.Service, ours: Sequence[Address], identity: str, now: float
) -> Mapping[str, Any]:
    """A write that changes a waiting Service's version and nothing else: its status as it is, and our mark.

    Args:
        service: As last seen.
        ours: The addresses that it has from us.
        identity: Who leads.
        now: Seconds since 1970.
    """
    stands = [
        Stand(type=one.type, status=Status(one.status), reason=one.reason, message=one.message)
        for one in service.status.conditions
        if one.type == REQUEST_SATISFIED and one.status in ("True", "False", "Unknown")
    ]
    # To the millisecond: an apply that changes nothing does not move the version.
    moment = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
    mark = Stand(
        type=LEADER,
        status=Status.TRUE,
        reason="takeover",
        message=f"{identity} leads, as told at {moment}",
    )
    ingress = service.status.load_balancer.ingress
    is_ours = any(_address_of(entry) in ours for entry in ingress)
    return _with_ingress(service, [*stands, mark], ingress if is_ours else (), now)


def service_about_to_change(service: forms.Service, now: float) -> Mapping[str, Any]:
    """A write that says that a satisfied Service is no longer so, and leaves it what it has.

    Args:
        service: As last seen.
        now: Seconds since 1970.
    """
    stand = Stand(
        type=REQUEST_SATISFIED,
        status=Status.FALSE,
        reason="about_to_change",
        message="The addresses of this service are about to change",
    )
    return _with_ingress(service, [stand], service.status.load_balancer.ingress, now)


def _with_ingress(
    service: forms.Service, stands: Sequence[Stand], ingress: Sequence[Ingress], now: float
) -> Mapping[str, Any]:
    rendered = conditions.render(service.status.conditions, stands, service.metadata.generation, now)
    status: dict[str, Any] = {"conditions": rendered}
    if ingress:
        status["loadBalancer"] = {"ingress": ingress}
    return conditions.status_apply(forms.SERVICE, service.metadata, status, guarded=True)


def ingress_removal(service: forms.Service, addresses: Sequence[Address]) -> Sequence[Mapping[str, Any]]:
    """A JSON patch that takes addresses out of an ingress list that another manager owns."""
    rest = [one for one in service.status.load_balancer.ingress if _address_of(one) not in addresses]
    return [
        {"op": "test", "path": "/metadata/resourceVersion", "value": service.metadata.resource_version},
        {"op": "replace", "path": "/status/loadBalancer", "value": {"ingress": rest} if rest else {}},
    ]


# --- pools -------------------------------------------------------------------------------------------------


def conflict_sentence(overlap: Overlap) -> str:
    """Why a pool is marked, in Cilium's words."""
    return (
        f"Pool conflicts since range '{overlap.range}' overlaps range '{overlap.other}' "
        f"from IP Pool '{overlap.pool}'"
    )


def _counter(type_: str, number: int) -> Stand:
    return Stand(type=type_, status=Status.UNKNOWN, reason="noreason", message=str(number))


def pool_stands(reading: PoolReading, space: PoolSpace) -> tuple[Stand, ...]:
    """What a pool's conditions should say."""
    usage = space.usage()
    if space.overlap is None:
        conflict = Stand(type=_POOL_CONFLICT, status=Status.FALSE, reason="resolved")
    else:
        conflict = Stand(
            type=_POOL_CONFLICT,
            status=Status.TRUE,
            reason="cidr_overlap",
            message=conflict_sentence(space.overlap),
        )
    stands = [
        conflict,
        _counter(_IPS_TOTAL, usage.total),
        _counter(_IPS_AVAILABLE, usage.available),
        _counter(_IPS_USED, usage.used),
    ]
    if usage.reserved:
        stands.append(_counter(_IPS_RESERVED, usage.reserved))
    for type_, reason, problems in (
        (_BLOCKS_VALID, "invalid_block", reading.block_problems),
        (_SELECTOR_VALID, "invalid_selector", (reading.selector_problem,)),
        (_ANNOTATIONS_VALID, "invalid_annotation", reading.annotation_problems),
    ):
        if message := "; ".join(filter(None, problems)):
            stands.append(Stand(type=type_, status=Status.FALSE, reason=reason, message=message))
    return tuple(stands)


def pool_news(pool: IPPool, stands: Sequence[Stand], *, nearly_full: float) -> Iterator[tuple[str, str]]:
    """What has become worse with a pool, as reason and message of Events.

    Args:
        pool: With the conditions as they stand.
        stands: What they should say.
        nearly_full: The share of used addresses from which a pool is nearly full.
    """
    before = {one.type: one for one in pool.status.conditions}
    for stand in stands:
        known = before.get(stand.type)
        if stand.type == _POOL_CONFLICT and stand.status is Status.TRUE:
            if known is None or known.message != stand.message:
                yield "Conflict", stand.message
        elif stand.type == _BLOCKS_VALID and (known is None or known.message != stand.message):
            yield "InvalidBlock", stand.message
    total, available = _number(stands, _IPS_TOTAL), _number(stands, _IPS_AVAILABLE)
    told = before[_IPS_AVAILABLE].message if _IPS_AVAILABLE in before else ""
    # One of which nothing was told yet had all of them.
    was = int(told) if told.isdecimal() else total
    threshold = total - int(total * nearly_full)
    if available == 0 < was:
        yield "Exhausted", f"All {total} addresses are in use or reserved"
    elif 0 < available <= threshold < was:
        yield "NearlyFull", f"{available} of {total} addresses are left"


def _number(stands: Sequence[Stand], type_: str) -> int:
    return next(int(stand.message) for stand in stands if stand.type == type_)


def pool_apply(kind: Kind, pool: IPPool, stands: Sequence[Stand], now: float) -> Mapping[str, Any] | None:
    """The apply that makes a pool's conditions so; None if they are."""
    generation = pool.metadata.generation
    if conditions.same(pool.status.conditions, stands, _POOL_TYPES, generation):
        return None
    rendered = conditions.render(pool.status.conditions, stands, generation, now)
    return conditions.status_apply(kind, pool.metadata, {"conditions": rendered})


# --- reservations ------------------------------------------------------------------------------------------


def reservation_apply(
    reservation: IPReservation,
    *,
    active: bool,
    problems: Sequence[str],
    holders: Sequence[ServiceKey],
    now: float,
) -> Mapping[str, Any] | None:
    """The apply that makes a reservation's status so; None if it is."""
    if problems:
        stand = Stand(
            type=_RESERVATION_ACTIVE,
            status=Status.TRUE if active else Status.FALSE,
            reason="invalid_address",
            message="; ".join(problems),
        )
    elif active:
        stand = Stand(type=_RESERVATION_ACTIVE, status=Status.TRUE, reason="reserving")
    else:
        stand = Stand(type=_RESERVATION_ACTIVE, status=Status.FALSE, reason="expired")
    holder = ", ".join(str(one) for one in holders)
    generation = reservation.metadata.generation
    observed = reservation.status.conditions
    if reservation.status.holder == holder and conditions.same(
        observed, (stand,), _RESERVATION_TYPES, generation
    ):
        return None
    status: dict[str, Any] = {"conditions": conditions.render(observed, (stand,), generation, now)}
    if holder:
        status["holder"] = holder
    return conditions.status_apply(IP_RESERVATION, reservation.metadata, status)


def released_reservation(reservation: Reservation, pool: str, expires_at: float) -> Mapping[str, Any]:
    """The object that keeps a deleted Service's address for one of the same name."""
    assert reservation.service is not None
    return {
        "apiVersion": IP_RESERVATION.api_version,
        "kind": IP_RESERVATION.kind,
        "metadata": {"name": reservation.name, "labels": {RELEASED_BY: pool}},
        "spec": {
            "addresses": [format_address(range_.first) for range_ in reservation.ranges],
            "serviceRef": reservation.service._asdict(),
            "expiresAt": conditions.timestamp(expires_at),
            "reason": reservation.reason,
        },
    }
