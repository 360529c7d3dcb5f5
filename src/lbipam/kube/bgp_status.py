"""What came of a node's sessions, as the status of its `CiliumBGPNodeConfig`.

Fields, the words for states, and the condition `cilium.io/BGPReconcileError` are Cilium's; a condition of our
own tells of paths that BFD finds dead. This file does not know how sessions work.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from lbipam.core.ipam.addresses import Family
from lbipam.kube import bgp_forms, conditions
from lbipam.kube.conditions import Stand, Status

RECONCILE_ERROR = "cilium.io/BGPReconcileError"
BFD_DOWN = "lbipam.dev/BFDDown"
OWNED = frozenset({RECONCILE_ERROR, BFD_DOWN})

_LONGEST_MESSAGE = 32768
_AFIS = {Family.IPV4: "ipv4", Family.IPV6: "ipv6"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteCounts:
    """Routes of one family."""

    received: int = 0
    advertised: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A session as it stands."""

    address: str
    asn: int
    """What the peer has said, or what is expected of it."""
    state: str
    """One of idle, connect, active, opensent, openconfirm, established (RFC 4271 §8.2.2)."""
    hold_seconds: int | None = None
    """Agreed with the peer; None: not yet."""
    keepalive_seconds: int | None = None
    established_at: float | None = None
    """Seconds since 1970; None: it is not."""
    routes: Mapping[Family, RouteCounts] = field(default_factory=dict)
    bfd: str | None = None
    """State of the BFD session (RFC 5880 §6.2); None: there is none."""


def status_apply(
    config: bgp_forms.NodeConfig,
    observed: Mapping[tuple[str, str], Observed],
    problems: Iterable[tuple[str, str]],
    now: float,
) -> Mapping[str, Any] | None:
    """The apply that makes a node's status so; None if it is.

    `observed` has sessions by the names of instance and peer, `problems` name the instance they concern.
    """
    instances = tuple(_instance(one, observed) for one in config.spec.bgp_instances)
    stands = (_reconcile_error(problems), *_bfd_down(observed))
    metadata, before = config.metadata, config.status
    if before.bgp_instances == instances and conditions.same(
        before.conditions, stands, OWNED, metadata.generation
    ):
        return None
    return {
        "apiVersion": bgp_forms.NODE_CONFIG.api_version,
        "kind": bgp_forms.NODE_CONFIG.kind,
        "metadata": {"name": metadata.name, "uid": metadata.uid},
        "status": {
            "bgpInstances": msgspec.to_builtins(instances),
            "conditions": conditions.render(before.conditions, stands, metadata.generation, now),
        },
    }


def nothing_apply(config: bgp_forms.NodeConfig) -> Mapping[str, Any] | None:
    """The apply that takes our status away, where reports are not wanted; None if there is none."""
    before = config.status
    if not before.bgp_instances and not any(one.type in OWNED for one in before.conditions):
        return None
    return {
        "apiVersion": bgp_forms.NODE_CONFIG.api_version,
        "kind": bgp_forms.NODE_CONFIG.kind,
        "metadata": {"name": config.metadata.name, "uid": config.metadata.uid},
        "status": {},
    }


def _instance(
    written: bgp_forms.Instance, observed: Mapping[tuple[str, str], Observed]
) -> bgp_forms.InstanceStatus:
    peers = tuple(
        _peer(peer.name, observed[written.name, peer.name])
        for peer in written.peers
        if (written.name, peer.name) in observed
    )
    return bgp_forms.InstanceStatus(name=written.name, local_asn=written.local_asn, peers=peers)


def _peer(name: str, seen: Observed) -> bgp_forms.PeerStatus:
    timers = None
    if seen.hold_seconds is not None:
        timers = bgp_forms.AppliedTimers(
            applied_hold_time_seconds=seen.hold_seconds, applied_keepalive_seconds=seen.keepalive_seconds
        )
    established = conditions.timestamp(seen.established_at) if seen.established_at is not None else None
    return bgp_forms.PeerStatus(
        name=name,
        peer_address=seen.address,
        peer_asn=seen.asn,
        peering_state=seen.state,
        timers=timers,
        established_time=established,
        route_count=tuple(
            bgp_forms.RouteCount(
                afi=_AFIS[family], safi="unicast", received=counts.received, advertised=counts.advertised
            )
            for family, counts in sorted(seen.routes.items(), key=lambda entry: entry[0].value)
        ),
    )


def _reconcile_error(problems: Iterable[tuple[str, str]]) -> Stand:
    """One line for each problem, as Cilium writes them."""
    lines = "".join(f"{instance}: {problem}\n" for instance, problem in sorted(problems))
    return Stand(
        type=RECONCILE_ERROR,
        status=Status.TRUE if lines else Status.FALSE,
        reason="BGPReconcileError",
        message=lines[:_LONGEST_MESSAGE],
    )


def _bfd_down(observed: Mapping[tuple[str, str], Observed]) -> tuple[Stand, ...]:
    """Only where any session has BFD."""
    states = {peer: seen.bfd for (_, peer), seen in sorted(observed.items()) if seen.bfd is not None}
    if not states:
        return ()
    down = [f"{peer} is {state}" for peer, state in states.items() if state != "up"]
    status = Status.TRUE if down else Status.FALSE
    return (Stand(type=BFD_DOWN, status=status, reason="BFDDown", message=", ".join(down)),)
