"""Services, pools, reservations and quotas as written in the API, into the values that decide.

The only place that spells the annotations and fields of LB IPAM. Malformed input becomes a reported problem
beside the part that is well-formed; nothing here raises on what an object says. It does not write statuses.
"""

from dataclasses import dataclass

import msgspec

from lbipam.core.ipam.addresses import Address, Family, Range, parse_address, parse_cidr, parse_range
from lbipam.core.ipam.labels import EVERYTHING, Selector
from lbipam.core.ipam.pools import Block, Pool
from lbipam.core.ipam.reservations import Reservation
from lbipam.core.ipam.services import ALONE, Port, Service, ServiceKey, Sharing, TrafficPolicy
from lbipam.kube import forms
from lbipam.kube.conditions import parse_timestamp
from lbipam.kube.forms import Condition, ConditionsStatus, Form, LabelSelector, Metadata
from lbipam.kube.kinds import Kind
from lbipam.kube.selectors import compile_selector, service_labels

IPS = "lbipam.cilium.io/ips"
SHARING_KEY = "lbipam.cilium.io/sharing-key"
SHARING_CROSS_NAMESPACE = "lbipam.cilium.io/sharing-cross-namespace"
SHARING_PERMIT_DIFFERENT_PODS = "lbipam.cilium.io/sharing-permit-different-pods"

_ALIASES = {
    IPS: "io.cilium/lb-ipam-ips",
    SHARING_KEY: "io.cilium/lb-ipam-sharing-key",
    SHARING_CROSS_NAMESPACE: "io.cilium/lb-ipam-sharing-cross-namespace",
    SHARING_PERMIT_DIFFERENT_PODS: "io.cilium/lb-ipam-sharing-permit-different-pods",
}
"""Older names; the newer one wins by being there, even if it is empty."""

POOL = "lbipam.dev/pool"
PRIORITY = "lbipam.dev/priority"
AUTO_ASSIGN = "lbipam.dev/auto-assign"
HOLD_RELEASED_FOR = "lbipam.dev/hold-released-for"
MAX_ADDRESSES = "lbipam.dev/max-addresses"
RELEASED_BY = "lbipam.dev/released-by"
"""Label of the reservations that the controller writes for a deleted Service's addresses."""

BGP_CLASS = "io.cilium/bgp-control-plane"
L2_CLASS = "io.cilium/l2-announcer"
NODE_CLASS = "io.cilium/node"


# --- the forms of our kinds --------------------------------------------------------------------------------


class PoolBlock(Form, frozen=True):
    """`CiliumLoadBalancerIPPoolIPBlock`."""

    cidr: str = ""
    start: str = ""
    stop: str = ""


class PoolSpec(Form, frozen=True):
    """`CiliumLoadBalancerIPPoolSpec`, with the older `cidrs` beside `blocks`."""

    service_selector: LabelSelector | None = None
    allow_first_last_ips: str = msgspec.field(default="", name="allowFirstLastIPs")
    blocks: tuple[PoolBlock, ...] | None = None
    cidrs: tuple[PoolBlock, ...] | None = None
    disabled: bool = False


class IPPool(Form, frozen=True):
    """`CiliumLoadBalancerIPPool`."""

    metadata: Metadata
    spec: PoolSpec = PoolSpec()
    status: ConditionsStatus = ConditionsStatus()


class ServiceRef(Form, frozen=True):
    """Namespace and name of a Service."""

    namespace: str = ""
    name: str = ""


class ReservationSpec(Form, frozen=True):
    """`IPReservation.spec`."""

    addresses: tuple[str, ...] = ()
    service_ref: ServiceRef | None = None
    expires_at: str | None = None
    reason: str = ""


class ReservationStatus(Form, frozen=True):
    """`IPReservation.status`."""

    conditions: tuple[Condition, ...] = ()
    holder: str = ""


class IPReservation(Form, frozen=True):
    """`IPReservation` of `lbipam.dev/v1alpha1`."""

    metadata: Metadata
    spec: ReservationSpec = ReservationSpec()
    status: ReservationStatus = ReservationStatus()


def _pool_kind(version: str) -> Kind:
    return Kind(
        group="cilium.io",
        version=version,
        kind="CiliumLoadBalancerIPPool",
        plural="ciliumloadbalancerippools",
        namespaced=False,
        form=IPPool,
    )


IP_POOL = _pool_kind("v2")
IP_POOL_ALPHA = _pool_kind("v2alpha1")
IP_RESERVATION = Kind(
    group="lbipam.dev",
    version="v1alpha1",
    kind="IPReservation",
    plural="ipreservations",
    namespaced=False,
    form=IPReservation,
)


# --- Services ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Responsibility:
    """Which Services are ours, and which families the cluster has (Cilium's operator flags)."""

    without_class: bool = True
    """Services without `loadBalancerClass` (`--default-lb-service-ipam=lbipam`)."""
    classes: frozenset[str] = frozenset({BGP_CLASS, L2_CLASS})
    families: tuple[Family, ...] = (Family.IPV4, Family.IPV6)

    def why_not(self, spec: forms.ServiceSpec) -> str | None:
        """Why a Service is not ours to serve; None if it is."""
        if spec.type != "LoadBalancer":
            return f"It is of type {spec.type}, not LoadBalancer"
        if spec.load_balancer_class is None:
            why_not = "It has no loadBalancerClass, and Services without one are not ours here"
            return why_not if not self.without_class else None
        if spec.load_balancer_class not in self.classes:
            return f"Its loadBalancerClass {spec.load_balancer_class} is not ours"
        return None

    def covers(self, spec: forms.ServiceSpec) -> bool:
        """Whether a Service is ours to serve."""
        return self.why_not(spec) is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Managed:
    """A Service that is ours: what it asks for, and what of that cannot be understood."""

    request: Service
    problems: tuple[str, ...] = ()


def read_service(service: forms.Service, responsibility: Responsibility) -> Managed | None:
    """What a Service asks for; None if it is not ours."""
    if not responsibility.covers(service.spec):
        return None
    metadata = service.metadata
    annotations = metadata.annotations or {}
    addresses, problems = _requested_addresses(service.spec.load_balancer_ip, annotations)
    sharing, sharing_problems = _sharing(service.spec, annotations)
    request = Service(
        key=ServiceKey(metadata.namespace, metadata.name),
        created=metadata.creation_timestamp or "",
        labels=service_labels(metadata.labels, metadata.namespace, metadata.name),
        families=_families(service.spec, responsibility.families),
        addresses=addresses,
        pools=listed(annotations[POOL]) if POOL in annotations else (),
        sharing=sharing,
    )
    return Managed(request=request, problems=problems + sharing_problems)


def _annotation(annotations: dict[str, str], name: str) -> str | None:
    if name in annotations:
        return annotations[name]
    return annotations.get(_ALIASES[name])


def listed(text: str) -> tuple[str, ...]:
    """The entries of a comma-separated list, trimmed; empty ones are nothing."""
    return tuple(entry for part in text.split(",") if (entry := part.strip()))


def _requested_addresses(
    load_balancer_ip: str, annotations: dict[str, str]
) -> tuple[tuple[Address, ...], tuple[str, ...]]:
    """`spec.loadBalancerIP` joined by the annotation's list; what does not parse is a problem (D10)."""
    annotated = _annotation(annotations, IPS)
    if not load_balancer_ip and not annotated:
        return (), ()
    entries = ((load_balancer_ip,) if load_balancer_ip else ()) + listed(annotated or "")
    addresses: dict[Address, None] = {}
    problems: list[str] = []
    for entry in entries:
        try:
            addresses[parse_address(entry)] = None
        except ValueError as problem:
            problems.append(f"The requested IP '{entry}' is not valid: {problem}")
    return tuple(addresses), tuple(problems)


def named_families(spec: forms.ServiceSpec) -> tuple[Family, ...]:
    """The families that a Service names, or the server for it."""
    return tuple(Family(name) for name in spec.ip_families if name in ("IPv4", "IPv6"))


def _families(spec: forms.ServiceSpec, enabled: tuple[Family, ...]) -> tuple[Family, ...]:
    """The families of a generic request (Cilium's table of policies and families)."""
    named = named_families(spec)
    match spec.ip_family_policy:
        case "RequireDualStack":
            return enabled
        case "PreferDualStack":
            # IPv4 first whatever the order of `ipFamilies`, as Cilium allocates.
            return tuple(family for family in enabled if family in named or not named)
        case _:
            return named[:1] or enabled[:1]


def _sharing(spec: forms.ServiceSpec, annotations: dict[str, str]) -> tuple[Sharing, tuple[str, ...]]:
    key = _annotation(annotations, SHARING_KEY) if annotations else None
    if not key:
        return ALONE, ()
    permits = _annotation(annotations, SHARING_PERMIT_DIFFERENT_PODS)
    problems: list[str] = []
    sharing = Sharing(
        key=key,
        ports=frozenset(Port(port.protocol, port.port) for port in spec.ports),
        policy=TrafficPolicy.LOCAL if spec.external_traffic_policy == "Local" else TrafficPolicy.CLUSTER,
        selector=tuple(sorted((spec.selector or {}).items())),
        namespaces=frozenset(listed(_annotation(annotations, SHARING_CROSS_NAMESPACE) or "")),
        permits_different_pods=_truth(
            permits, SHARING_PERMIT_DIFFERENT_PODS, default=False, problems=problems
        ),
    )
    return sharing, tuple(problems)


def shown_addresses(service: forms.Service) -> tuple[Address, ...]:
    """The addresses that a Service's status shows; entries without one are left out."""
    shown = []
    for entry in service.status.load_balancer.ingress:
        try:
            shown.append(parse_address(entry.ip))
        except ValueError:
            continue
    return tuple(shown)


# --- pools -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReading:
    """A pool, and what of it cannot be understood."""

    pool: Pool
    block_problems: tuple[str, ...] = ()
    selector_problem: str = ""
    annotation_problems: tuple[str, ...] = ()


def read_pool(pool: IPPool) -> PoolReading:
    """A pool with its well-formed blocks (D5)."""
    blocks: list[Block] = []
    block_problems: list[str] = []
    for number, written in enumerate((*(pool.spec.blocks or ()), *(pool.spec.cidrs or ())), start=1):
        try:
            blocks.append(_block(written))
        except ValueError as problem:
            block_problems.append(f"Block {number}: {problem}")
    selector: Selector | None = EVERYTHING
    selector_problem = ""
    if pool.spec.service_selector is not None:
        try:
            selector = compile_selector(pool.spec.service_selector)
        except ValueError as problem:
            selector, selector_problem = None, f"The service selector is not valid: {problem}"
    annotations = pool.metadata.annotations or {}
    problems: list[str] = []
    return PoolReading(
        pool=Pool(
            name=pool.metadata.name,
            created=pool.metadata.creation_timestamp or "",
            blocks=tuple(blocks),
            selector=selector,
            allow_first_last=pool.spec.allow_first_last_ips != "No",
            disabled=pool.spec.disabled,
            priority=_whole_number(annotations, PRIORITY, 0, problems),
            auto_assign=_truth(annotations.get(AUTO_ASSIGN), AUTO_ASSIGN, default=True, problems=problems),
            hold_released_seconds=_duration(annotations, HOLD_RELEASED_FOR, problems),
        ),
        block_problems=tuple(block_problems),
        selector_problem=selector_problem,
        annotation_problems=tuple(problems),
    )


def _block(block: PoolBlock) -> Block:
    """Cilium's order: a CIDR counts alone; without a stop, start is the only address."""
    if block.cidr:
        return Block(range=parse_cidr(block.cidr), from_cidr=True)
    if not block.start:
        raise ValueError("it has neither cidr nor start")
    first = parse_address(block.start)
    return Block(range=Range(first, parse_address(block.stop) if block.stop else first))


def _whole_number(annotations: dict[str, str], name: str, default: int, problems: list[str]) -> int:
    text = annotations.get(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        problems.append(f"The annotation {name} says '{text}', which is not a whole number")
        return default


_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"", "0", "f", "F", "FALSE", "false", "False"})


def _truth(text: str | None, name: str, *, default: bool, problems: list[str]) -> bool:
    if text is None:
        return default
    if text not in _TRUE | _FALSE:
        problems.append(f"The annotation {name} says '{text}', not true or false")
        return default
    return text in _TRUE


_LONGEST_SECONDS = (2**63 - 1) / 1e9
"""Go counts the nanoseconds of a duration in 64 bits."""
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Seconds of a duration as Go writes it: `300ms`, `10m`, `1h30m`.

    Raises:
        ValueError: it is not such a duration.
    """
    seconds, rest = 0.0, text.strip()
    if rest == "0":
        return 0.0
    if not rest:
        raise ValueError("it is empty")
    while rest:
        digits = len(rest) - len(rest.lstrip("0123456789."))
        unit_length = len(rest) - digits - len(rest[digits:].lstrip("hms"))
        unit = rest[digits : digits + unit_length]
        if not digits or unit not in _UNITS:
            raise ValueError(f"'{text}' is not a duration such as 300ms, 10m or 1h30m")
        seconds += float(rest[:digits]) * _UNITS[unit]
        rest = rest[digits + unit_length :]
    if seconds > _LONGEST_SECONDS:
        raise ValueError(f"'{text}' is longer than a duration can be, some 292 years")
    return seconds


def _duration(annotations: dict[str, str], name: str, problems: list[str]) -> float:
    text = annotations.get(name)
    if text is None:
        return 0.0
    try:
        return parse_duration(text)
    except ValueError as problem:
        problems.append(f"The annotation {name} is not valid: {problem}")
        return 0.0


# --- reservations and quotas -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationReading:
    """A reservation, until when it holds, and what of it cannot be understood."""

    reservation: Reservation
    expires_at: float | None
    """Seconds since 1970; None means never."""
    by_controller: bool
    """Written for a deleted Service, to be deleted when it ends."""
    problems: tuple[str, ...] = ()


def read_reservation(reservation: IPReservation) -> ReservationReading:
    """A reservation with its well-formed addresses."""
    spec, metadata = reservation.spec, reservation.metadata
    ranges: list[Range] = []
    problems: list[str] = []
    for entry in spec.addresses:
        try:
            ranges.append(parse_range(entry))
        except ValueError as problem:
            problems.append(f"The address '{entry}' is not valid: {problem}")
    expires_at = None
    if spec.expires_at is not None:
        try:
            expires_at = parse_timestamp(spec.expires_at)
        except ValueError:
            problems.append(f"expiresAt '{spec.expires_at}' is not a time")
    ref = spec.service_ref
    return ReservationReading(
        reservation=Reservation(
            name=metadata.name,
            created=metadata.creation_timestamp or "",
            ranges=tuple(ranges),
            service=ServiceKey(ref.namespace, ref.name) if ref is not None else None,
            reason=spec.reason,
        ),
        expires_at=expires_at,
        by_controller=RELEASED_BY in (metadata.labels or {}),
        problems=tuple(problems),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaReading:
    """How many addresses a namespace may hold; None means any number."""

    most: int | None
    problem: str = ""


def read_quota(namespace: forms.Namespace) -> QuotaReading:
    """The quota of a namespace. One that cannot be understood allows nothing more, and is reported."""
    annotations = namespace.metadata.annotations or {}
    if MAX_ADDRESSES not in annotations:
        return QuotaReading(most=None)
    problems: list[str] = []
    most = _whole_number(annotations, MAX_ADDRESSES, 0, problems)
    return QuotaReading(most=max(most, 0), problem="".join(problems))
