"""L2 announcement policies and per-node Leases as written in the API, into values, and back.

Malformed input becomes a reported problem. What a node has to tell the others besides that it lives is in
one annotation of its Lease, as JSON: Leases have no field for it. This file does not decide who announces.
"""

import ipaddress
import math
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from lbipam.core.ipam.addresses import as_ipaddress, parse_address
from lbipam.core.ipam.labels import EVERYTHING, Selector
from lbipam.core.l2 import election
from lbipam.kube import forms
from lbipam.kube.bgp import wants_drain
from lbipam.kube.conditions import Stand, Status, micro_timestamp
from lbipam.kube.forms import Condition, ConditionsStatus, Form, LabelSelector, Metadata
from lbipam.kube.ipam import L2_CLASS, listed
from lbipam.kube.kinds import Key, Kind
from lbipam.kube.selectors import compile_selector

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

PREFER_NODE = "lbipam.dev/prefer-node"
LEASE_PREFIX = "lbipam-l2-"
TOLD = "lbipam.dev/l2"
"""Annotation of a Lease: what its node tells the others."""

BAD_NODE_SELECTOR = "io.cilium/bad-node-selector"
BAD_INTERFACE_REGEX = "io.cilium/bad-interface-regex"
BAD_SERVICE_SELECTOR = "io.cilium/bad-service-selector"
POLICY_CONDITIONS = frozenset({BAD_NODE_SELECTOR, BAD_INTERFACE_REGEX, BAD_SERVICE_SELECTOR})


# --- CiliumL2AnnouncementPolicy ---------------------------------------------------------------------------


class PolicySpec(Form, frozen=True):
    """`CiliumL2AnnouncementPolicySpec`."""

    node_selector: LabelSelector | None = None
    service_selector: LabelSelector | None = None
    load_balancer_ips: bool = msgspec.field(default=False, name="loadBalancerIPs")
    external_ips: bool = msgspec.field(default=False, name="externalIPs")
    interfaces: tuple[str, ...] | None = None


class AnnouncementPolicy(Form, frozen=True):
    """`CiliumL2AnnouncementPolicy`."""

    metadata: Metadata
    spec: PolicySpec = PolicySpec()
    status: ConditionsStatus = ConditionsStatus()


ANNOUNCEMENT_POLICY = Kind(
    group="cilium.io",
    version="v2alpha1",
    kind="CiliumL2AnnouncementPolicy",
    plural="ciliuml2announcementpolicies",
    namespaced=False,
    form=AnnouncementPolicy,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Which nodes answer for which addresses of which Services, and on which interfaces."""

    name: str
    nodes: Selector
    services: Selector
    load_balancer_ips: bool
    external_ips: bool
    interfaces: tuple[re.Pattern[str], ...] | None
    """None: those the node chooses by itself."""

    def matching(self, interfaces: "Interfaces") -> frozenset[str]:
        """Those of a node's interfaces that the policy is for."""
        if self.interfaces is None:
            return interfaces.chosen
        return frozenset(
            name for name in interfaces.names if any(pattern.search(name) for pattern in self.interfaces)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyReading:
    """A policy, or what is wrong with it; a policy that is wrong in any part does nothing."""

    policy: Policy | None
    problems: Mapping[str, str]
    """Condition type → what is wrong."""


def read_policy(written: AnnouncementPolicy) -> PolicyReading:
    """A policy as it is meant."""
    spec, problems = written.spec, dict[str, str]()
    nodes = _selector(spec.node_selector, BAD_NODE_SELECTOR, problems)
    services = _selector(spec.service_selector, BAD_SERVICE_SELECTOR, problems)
    interfaces: list[re.Pattern[str]] = []
    for text in spec.interfaces or ():
        try:
            interfaces.append(_compile(text))
        except (re.error, OverflowError, RecursionError) as problem:  # the last two of what is too large
            problems[BAD_INTERFACE_REGEX] = f"the regular expression '{text}' is not valid: {problem}"
    policy = Policy(
        name=written.metadata.name,
        nodes=nodes,
        services=services,
        load_balancer_ips=spec.load_balancer_ips,
        external_ips=spec.external_ips,
        interfaces=tuple(interfaces) if spec.interfaces else None,
    )
    return PolicyReading(policy=None if problems else policy, problems=problems)


def _selector(written: LabelSelector | None, type_: str, problems: dict[str, str]) -> Selector:
    if written is None:
        return EVERYTHING
    try:
        return compile_selector(written)
    except ValueError as problem:
        problems[type_] = str(problem)
        return EVERYTHING


_POSIX_CLASSES = {
    "[:alpha:]": "A-Za-z",
    "[:digit:]": "0-9",
    "[:alnum:]": "0-9A-Za-z",
    "[:lower:]": "a-z",
    "[:upper:]": "A-Z",
    "[:xdigit:]": "0-9A-Fa-f",
}
"""Go's regular expressions know these, Python's do not."""


def _compile(text: str) -> re.Pattern[str]:
    for posix, plain in _POSIX_CLASSES.items():
        text = text.replace(posix, plain)
    with warnings.catch_warnings():
        # Python warns of sets that may once mean something else; Go's meaning is the literal one.
        warnings.simplefilter("ignore", FutureWarning)
        return re.compile(text)


def policy_stands(observed: tuple[Condition, ...], problems: Mapping[str, str]) -> tuple[Stand, ...]:
    """Conditions as Cilium writes them: only where something is or was wrong, the reason always `error`."""
    known = {one.type for one in observed}
    return tuple(
        Stand(
            type=type_,
            status=Status.TRUE if type_ in problems else Status.FALSE,
            reason="error",
            message=problems.get(type_, ""),
        )
        for type_ in sorted(POLICY_CONDITIONS)
        if type_ in problems or type_ in known
    )


# --- Services and Nodes -----------------------------------------------------------------------------------


def announced_addresses(service: forms.Service, policy: Policy) -> Iterator[Address]:
    """The addresses of a Service that a policy which selects it announces."""
    spec = service.spec
    texts: list[str] = []
    if spec.load_balancer_class not in (None, L2_CLASS) or service.metadata.deletion_timestamp is not None:
        return
    if policy.load_balancer_ips and spec.type == "LoadBalancer":
        texts += [entry.ip for entry in service.status.load_balancer.ingress]
    if policy.external_ips:
        texts += spec.external_ips
    for text in texts:
        try:
            yield as_ipaddress(parse_address(text))
        except ValueError:
            continue


def preferred_nodes(service: forms.Service) -> frozenset[str]:
    """The nodes that should answer for a Service as long as they may; several are separated by commas."""
    return frozenset(listed((service.metadata.annotations or {}).get(PREFER_NODE, "")))


def internal_address(node: forms.Node) -> Address | None:
    """Where other nodes reach a node; None if its status does not tell."""
    return next(own_addresses(node, "InternalIP"), None)


def own_addresses(node: forms.Node, *types: str) -> Iterator[Address]:
    """The addresses of a node itself, of these types or of all; its kernel answers for them."""
    for entry in node.status.addresses:
        if not types or entry.type in types:
            try:
                yield ipaddress.ip_address(entry.address)
            except ValueError:  # such as a host name
                continue


def may_announce(node: forms.Node) -> bool:
    """Whether a node may answer at all: it is not being drained."""
    return not wants_drain(node)


def is_ready(node: forms.Node) -> bool:
    """Whether a node comes before those that are not."""
    return any(one.type == "Ready" and one.status == "True" for one in node.status.conditions)


# --- Leases -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Interfaces:
    """The interfaces of a node that could answer, and those it chooses where a policy names none."""

    names: frozenset[str] = frozenset()
    chosen: frozenset[str] = frozenset()


NO_INTERFACES = Interfaces()


class Claims(msgspec.Struct, frozen=True):
    """The addresses that a node holds or is about to hold, each family sorted and compressed.

    First the first bytes of all, then the second ones, and so on: so they compress to little more than a byte
    for each address of a dense pool.
    """

    word: int = 0
    """Their number in the order in which the node has told claims, so that no two are alike."""
    ipv4: bytes = b""
    ipv6: bytes = b""


class Told(msgspec.Struct, frozen=True, rename="camel"):
    """What a node tells the others in its Lease."""

    duration_seconds: float
    interfaces: tuple[str, ...] = ()
    chosen_interfaces: tuple[str, ...] = ()
    claims: Claims = Claims()
    contested: Claims = Claims()
    """The addresses that were another host's when this node was to answer for them last."""
    guardian: str = ""
    """The node that may end this Lease; empty: none."""
    port: int = 0
    """The UDP port that beats to this node go to; 0: it is nobody's guardian."""
    token: str = ""
    """What a beat to this node must carry."""


_IPV4_BYTES, _IPV6_BYTES = 4, 16
_MAX_UNPACKED_BYTES = 1 << 24
"""More than any node can claim."""


def pack(word: int, addresses: Iterable[Address]) -> Claims:
    """Claims as they are told."""
    joined: dict[int, list[bytes]] = {_IPV4_BYTES: [], _IPV6_BYTES: []}
    for address in addresses:
        packed = address.packed
        joined[len(packed)].append(packed)
    ipv4, ipv6 = (_compress(b"".join(sorted(ones)), size) for size, ones in joined.items())
    return Claims(word=word, ipv4=ipv4, ipv6=ipv6)


def _compress(joined: bytes, size: int) -> bytes:
    return zlib.compress(b"".join(joined[at::size] for at in range(size))) if joined else b""


def unpack(claims: Claims) -> frozenset[bytes]:
    """The addresses, packed, that are claimed.

    Raises:
        ValueError: These are no claims that `pack` has made.
    """
    return frozenset((*_unpack(claims.ipv4, _IPV4_BYTES), *_unpack(claims.ipv6, _IPV6_BYTES)))


def _unpack(data: bytes, size: int) -> Iterator[bytes]:
    if not data:
        return
    unpacking = zlib.decompressobj()
    try:
        columns = unpacking.decompress(data, _MAX_UNPACKED_BYTES)
    except zlib.error as problem:
        raise ValueError(str(problem)) from None
    count, rest = divmod(len(columns), size)
    if not unpacking.eof or rest:
        raise ValueError("not a number of whole addresses")
    yield from map(bytes, zip(*(columns[at * count :][:count] for at in range(size)), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLease:
    """A Lease of a node that lives."""

    lease: election.Lease
    interfaces: Interfaces
    guardian: str = ""
    port: int = 0
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The node has given everything up by its own word."""

    node: str


def lease_name(node: str) -> str:
    """The name of a node's Lease."""
    return f"{LEASE_PREFIX}{node}"


def node_of(key: Key) -> str:
    """Whose Lease this is, by its name; empty: no node's."""
    return key.name.removeprefix(LEASE_PREFIX) if key.name.startswith(LEASE_PREFIX) else ""


def read_lease(written: forms.Lease) -> NodeLease | Released | None:
    """What a Lease says of its node; None if it is no node's, or cannot be understood."""
    metadata = written.metadata
    node = node_of(metadata.key)
    if not node:
        return None
    if not written.spec.holder_identity:
        return Released(node=node)
    try:
        told = msgspec.json.decode((metadata.annotations or {}).get(TOLD, ""), type=Told)
        claims, contested = unpack(told.claims), unpack(told.contested)
    except (msgspec.DecodeError, ValueError):
        return None
    if not math.isfinite(told.duration_seconds) or told.duration_seconds <= 0:
        return None
    return NodeLease(
        lease=election.Lease(
            node=node,
            version=metadata.resource_version,
            duration_seconds=told.duration_seconds,
            claims=claims,
            contested=contested,
        ),
        interfaces=Interfaces(names=frozenset(told.interfaces), chosen=frozenset(told.chosen_interfaces)),
        guardian=told.guardian,
        port=told.port,
        token=told.token,
    )


def lease_body(
    key: Key, node: str, *, told: Told | None, now: float, version: str | None = None
) -> Mapping[str, Any]:
    """A node's Lease as applied; without anything to tell, it is given up.

    `version` is the resourceVersion that it replaces: a write that was given up and comes late is refused.
    None where there is no Lease yet. `now` is wall-clock time for people to read; nobody computes with it.
    """
    metadata: dict[str, Any] = {"name": key.name, "namespace": key.namespace}
    if version is not None:
        metadata["resourceVersion"] = version
    metadata["annotations"] = {TOLD: msgspec.json.encode(told).decode()} if told is not None else {}
    duration = told.duration_seconds if told is not None else 1
    return {
        "apiVersion": forms.LEASE.api_version,
        "kind": forms.LEASE.kind,
        "metadata": metadata,
        "spec": {
            "holderIdentity": node if told is not None else "",
            "leaseDurationSeconds": math.ceil(duration),
            # To the microsecond, so that each renewal differs from the one before.
            "renewTime": micro_timestamp(now),
        },
    }
