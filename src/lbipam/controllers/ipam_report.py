"""Who has which address from which pool, what is left, what waits and why: for people to read.

Reports are plain structures that print as tables, JSON or YAML. They are made from a world that has been
learnt, by the functions that decide. This file prints nothing.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from lbipam.controllers.endpoints import EndpointIndex
from lbipam.controllers.rehearsal import Rehearsal
from lbipam.core.ipam import allocation, explanation, nodes
from lbipam.core.ipam.addresses import Address, Family, format_address
from lbipam.core.ipam.explanation import Explanation, PoolAnswer
from lbipam.core.ipam.services import ServiceKey
from lbipam.core.ipam.space import PoolSpace
from lbipam.kube import forms, ipam, ipam_status, node_ipam
from lbipam.kube.ipam import IP_RESERVATION
from lbipam.kube.kinds import Key

_SATISFIED = "satisfied"
_NOT_GIVEN_YET = ("not_given_yet", "Its status does not show yet what it would be given")


class PoolReport(msgspec.Struct, rename="camel", omit_defaults=True):
    """A pool and how much of it is in use."""

    name: str
    state: str
    """`ready`, `disabled`, `conflicting` or `faulty`."""
    size: int
    used: int
    reserved: int
    free: int
    largest_free_run: str
    problems: list[str] = []
    holders: dict[str, list[str]] | None = None
    """By address, where it was asked for."""


class AddressReport(msgspec.Struct, rename="camel"):
    """An address of a Service and the pool it comes from."""

    address: str
    pool: str


class ServiceReport(msgspec.Struct, rename="camel", omit_defaults=True):
    """A Service of type LoadBalancer that is ours."""

    namespace: str
    name: str
    addresses: list[AddressReport]
    satisfied: bool
    reason: str
    message: str = ""


class ReservationReport(msgspec.Struct, rename="camel", omit_defaults=True):
    """A reservation and who holds what it sets aside."""

    name: str
    addresses: list[str]
    service: str = ""
    until: str = ""
    reason: str = ""
    holder: str = ""


class Report(msgspec.Struct, rename="camel"):
    """All of it."""

    pools: list[PoolReport]
    services: list[ServiceReport]
    reservations: list[ReservationReport]


class BlockVerdict(msgspec.Struct, rename="camel", omit_defaults=True):
    """What a block of a pool said."""

    block: str
    verdict: str
    detail: str = ""


class PoolVerdict(msgspec.Struct, rename="camel", omit_defaults=True):
    """What a pool said, and each of its blocks if the pool as a whole did not refuse."""

    pool: str
    verdict: str
    detail: str = ""
    blocks: list[BlockVerdict] = []


class WishReport(msgspec.Struct, rename="camel", omit_defaults=True):
    """One address that a Service wants, or any of a family, and what comes of it."""

    wish: str
    has: list[str]
    reason: str
    """`satisfied`, the reason of a refusal, or why it does not have yet what it would be given."""
    message: str
    pools: list[PoolVerdict]
    granted: list[str] = []
    """What it would be given, and its status does not show."""


class NodeVerdict(msgspec.Struct, rename="camel", omit_defaults=True):
    """What of a node's addresses a Service has that asks for those, or why none."""

    node: str
    addresses: list[str] = []
    left_out: str = ""


class ExplainReport(msgspec.Struct, rename="camel", omit_defaults=True):
    """Why a Service has the addresses that it has."""

    service: str
    managed: bool
    satisfied: bool
    """Whether it lacks nothing that it asks us for."""
    wishes: list[WishReport]
    notes: list[str] = []
    nodes: list[NodeVerdict] = []


def report(world: Rehearsal, *, with_holders: bool = False) -> Report:
    """What there is in a world that has been learnt."""
    spaces = world.ipam.ledger.space.pools.values()
    return Report(
        pools=[_pool(world, space, with_holders=with_holders) for space in spaces],
        services=list(_services(world)),
        reservations=[_reservation(one) for one in world.cache.objects(IP_RESERVATION).values()],
    )


def _pool(world: Rehearsal, space: PoolSpace, *, with_holders: bool) -> PoolReport:
    reading = world.ipam.pools.readings[space.pool.name]
    problems = [*reading.block_problems, reading.selector_problem, *reading.annotation_problems]
    usage, run = space.usage(), space.largest_free_run()
    state = (
        "faulty"
        if reading.selector_problem or (reading.block_problems and not space.pool.blocks)
        else "ready"
    )
    if space.overlap is not None:
        state = "conflicting"
        problems.append(ipam_status.conflict_sentence(space.overlap))
    if space.pool.disabled:
        state = "disabled"
    return PoolReport(
        name=space.pool.name,
        state=state,
        size=usage.total,
        used=usage.used,
        reserved=usage.reserved,
        free=usage.available,
        largest_free_run=str(run) if run is not None else "",
        problems=[problem for problem in problems if problem],
        holders=_holders(world, space) if with_holders else None,
    )


def _holders(world: Rehearsal, space: PoolSpace) -> dict[str, list[str]]:
    held = sorted(
        (address, [str(key) for key in group])
        for address, group in world.ipam.ledger.holdings()
        if space.pool.contains(address)
    )
    return {format_address(address): keys for address, keys in held}


def _services(world: Rehearsal) -> Iterator[ServiceReport]:
    known: dict[Key, forms.Service] = dict(world.cache.objects(forms.SERVICE))
    for key in sorted(known):
        service = known[key]
        if not world.ipam.responsibility.covers(service.spec):
            continue
        condition = _condition(service)
        yield ServiceReport(
            namespace=key.namespace,
            name=key.name,
            addresses=[
                AddressReport(address=format_address(address), pool=_pool_name(world, address))
                for address in ipam.shown_addresses(service)
            ],
            satisfied=condition is not None and condition.status == "True",
            reason=condition.reason if condition is not None else "not_looked_at",
            message=condition.message if condition is not None else "No controller has looked at it yet",
        )


def _condition(service: forms.Service) -> forms.Condition | None:
    """What a controller last said of it."""
    return next((one for one in service.status.conditions if one.type == ipam_status.REQUEST_SATISFIED), None)


def _pool_name(world: Rehearsal, address: Address) -> str:
    pools = world.ipam.ledger.space.pools_of(address)
    return pools[0].pool.name if pools else ""


def _reservation(written: ipam.IPReservation) -> ReservationReport:
    spec = written.spec
    return ReservationReport(
        name=written.metadata.name,
        addresses=list(spec.addresses),
        service=f"{spec.service_ref.namespace}/{spec.service_ref.name}" if spec.service_ref else "",
        until=spec.expires_at or "",
        reason=spec.reason,
        holder=written.status.holder,
    )


def explain(world: Rehearsal, key: Key) -> ExplainReport | None:
    """Why a Service has what it has; None if there is no such Service."""
    service: forms.Service | None = world.cache.objects(forms.SERVICE).get(key)
    if service is None:
        return None
    why_not_ours = world.ipam.responsibility.why_not(service.spec)
    if why_not_ours is not None:
        return ExplainReport(service=str(key), managed=False, satisfied=True, wishes=[], notes=[why_not_ours])
    reading = ipam.read_service(service, world.ipam.responsibility)
    assert reading is not None, "it is ours"
    explanations = explanation.explain(reading.request, world.ipam.ledger)
    wishes = [_wish(one, service) for one in explanations]
    notes = list(reading.problems)
    for address in world.ipam.shown.ours(ServiceKey(*key)):
        why = allocation.why_unlawful(reading.request, address, world.ipam.ledger)
        if why is not None:
            notes.append(f"{format_address(address)} will be released: {why}")
    return ExplainReport(
        service=str(key),
        managed=True,
        satisfied=not reading.problems and all(one.reason == _SATISFIED for one in wishes),
        wishes=wishes,
        notes=notes,
    )


def explain_nodes(
    service: forms.Service,
    written: Iterable[forms.Node],
    endpoints: EndpointIndex,
    families: Sequence[Family],
) -> ExplainReport:
    """Why a Service that asks for addresses of nodes has what it has.

    Args:
        service: One of class `io.cilium/node`.
        written: All nodes there are.
        endpoints: Of this Service, at least.
        families: Those of the cluster.
    """
    key = service.metadata.key
    reading = node_ipam.read_request(service, families, endpoints.ready_nodes(key))
    known = [node_ipam.read_node(one) for one in written]
    choice = nodes.choose(reading.request, known)
    shown = ipam.shown_addresses(service)
    chosen = () if reading.problem else choice.addresses
    granted = [format_address(address) for address in chosen if address not in shown]
    reason, message = _NOT_GIVEN_YET if granted else (_SATISFIED, "")
    if not chosen:
        reason, message = "no_node", reading.problem or node_ipam.sentence(choice)
    wish = WishReport(
        wish="addresses of nodes",
        has=[format_address(address) for address in shown],
        reason=reason,
        message=message,
        pools=[],
        granted=granted,
    )
    return ExplainReport(
        service=str(key),
        managed=True,
        satisfied=reason == _SATISFIED,
        wishes=[wish],
        notes=["A controller gives these only with --enable-node-ipam"] if granted and not shown else [],
        nodes=[_node_verdict(reading.request, node, choice) for node in known],
    )


def _node_verdict(request: nodes.Request, node: nodes.Node, choice: nodes.Choice) -> NodeVerdict:
    why = nodes.why_left_out(request, node)
    if why is not None:
        return NodeVerdict(node=node.name, left_out=node_ipam.phrase(why))
    used = [format_address(one) for one in node.external + node.internal if one in choice.addresses]
    left_out = "" if used else "without an external address, which other nodes have"
    return NodeVerdict(node=node.name, addresses=used, left_out=left_out)


def _wish(explained: Explanation, service: forms.Service) -> WishReport:
    if explained.address is not None:
        wish = format_address(explained.address)
    else:
        wish = f"any {explained.family.value} address"
    reason, message = _SATISFIED, ""
    if explained.refusal is not None:
        reason, message = explained.refusal.reason.value, ipam_status.sentence(explained.refusal)
    elif explained.granted:
        reason, message = _why_not_yet(service)
    return WishReport(
        wish=wish,
        has=[format_address(address) for address in explained.has],
        reason=reason,
        message=message,
        pools=[_pool_verdict(answer) for answer in explained.pools],
        granted=[format_address(address) for address in explained.granted],
    )


def _why_not_yet(service: forms.Service) -> tuple[str, str]:
    """Reason and sentence, for what a Service would be given and its status does not show."""
    condition = _condition(service)
    if condition is not None and condition.reason == ipam_status.MANAGED_ELSEWHERE:
        return condition.reason, condition.message
    return _NOT_GIVEN_YET


def _pool_verdict(answer: PoolAnswer) -> PoolVerdict:
    return PoolVerdict(
        pool=answer.pool,
        verdict=answer.verdict.value,
        detail=answer.detail,
        blocks=[
            BlockVerdict(block=str(one.block), verdict=one.verdict.value, detail=one.detail)
            for one in answer.blocks
        ],
    )
