"""What came of a node's sessions, as the status of its `CiliumBGPNodeConfig`.

Fields, the words for states, and the condition `cilium.io/BGPReconcileError` are Cilium's; conditions of our
own tell of paths that BFD finds dead, and why sessions are down. This file does not know how sessions work.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.peers import Peer, PeerStatus
from lbipam.kube import bgp_forms, conditions
from lbipam.kube.bgp import WORDS
from lbipam.kube.conditions import Stand, Status

RECONCILE_ERROR = "cilium.io/BGPReconcileError"
BFD_DOWN = "lbipam.dev/BFDDown"
SESSIONS_DOWN = "lbipam.dev/SessionsDown"
OWNED = frozenset({RECONCILE_ERROR, BFD_DOWN, SESSIONS_DOWN})

_LONGEST_MESSAGE = 32768
_STATES = {
    State.IDLE: "idle",
    State.CONNECT: "connect",
    State.ACTIVE: "active",
    State.OPEN_SENT: "open_sent",
    State.OPEN_CONFIRM: "open_confirm",
    State.ESTABLISHED: "established",
}
"""Cilium's words for them."""
_UNTOLD = re.compile(r"((?P<count>\d+) )?routes of (?P<family>ipv4|ipv6) are not announced: (?P<why>.*)")
_NOTIFICATION = re.compile(r"(?:received|sent) \D+ \(\d+/\d+\).*?(?=; before that |$)")
_DOWN = re.compile(r"(?P<peer>.+): down since (?P<since>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)(: (?P<why>.*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A session as it stands."""

    peer: Peer
    status: PeerStatus
    bfd: str | None = None
    """State of the BFD session in words of RFC 5880 §6.2 (up, down, init, admin-down); None: there is none."""

    @property
    def is_up(self) -> bool:
        """Whether routes are exchanged."""
        return self.status.state is State.ESTABLISHED


@dataclass(frozen=True, slots=True, kw_only=True)
class Untold:
    """What a status tells of routes of one family that are not announced to a peer."""

    count: int | None
    """None: all of them."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Down:
    """What a status tells of a session that is not established."""

    since: str
    """When its agent first saw it down, as Kubernetes writes a time."""
    why: str
    """The last NOTIFICATION in words, or what else ended it; empty before the first attempt has ended."""

    @property
    def notification(self) -> str:
        """The NOTIFICATION alone, and who sent it; empty if there was none."""
        found = _NOTIFICATION.search(self.why)
        return found[0] if found is not None else ""


def status_patch(
    config: bgp_forms.NodeConfig,
    observed: Mapping[tuple[str, str], Observed],
    problems: Iterable[tuple[str, str]],
    now: float,
) -> tuple[Mapping[str, Any], ...]:
    """The RFC 6902 operations on the status subresource that make a node's status so; none if it is.

    `observed` has sessions by the names of instance and peer, `problems` name the instance they concern. Not
    an apply: where an apply takes a field away that has fields of its own, API servers of old leave a null
    behind, and then refuse it.
    """
    metadata, before = config.metadata, config.status
    ours = tuple(one for one in before.conditions if one.type in OWNED)
    instances = tuple(_instance(one, observed) for one in config.spec.bgp_instances)
    stands = (
        _reconcile_error((*problems, *_refused(observed))),
        *_bfd_down(observed),
        *_sessions_down(observed, sessions_down(config), now),
    )
    # Both are written at once: where only one of them has arrived, the definition does not have the other.
    if before.bgp_instances == instances and (
        not ours or conditions.same(ours, stands, OWNED, metadata.generation)
    ):
        return ()
    rendered = conditions.render(ours, stands, metadata.generation, now)
    return _replacing(config, {"bgpInstances": msgspec.to_builtins(instances)}, rendered)


def _replacing(
    config: bgp_forms.NodeConfig, status: Mapping[str, Any], ours: Iterable[Mapping[str, Any]]
) -> tuple[Mapping[str, Any], ...]:
    others = [msgspec.to_builtins(one) for one in config.status.conditions if one.type not in OWNED]
    return (
        {"op": "test", "path": "/metadata/resourceVersion", "value": config.metadata.resource_version},
        {"op": "add", "path": "/status", "value": {**status, "conditions": [*others, *ours]}},
    )


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
    status, timers = seen.status, None
    if seen.is_up and status.hold_seconds is not None:
        keepalive = status.keepalive_seconds
        timers = bgp_forms.AppliedTimers(
            applied_hold_time_seconds=status.hold_seconds,
            applied_keepalive_seconds=round(keepalive) if keepalive is not None else None,
        )
    return bgp_forms.PeerStatus(
        name=name,
        peer_address=str(seen.peer.address),
        peer_asn=status.asn or seen.peer.asn,
        peering_state=_STATES[status.state],
        timers=timers,
        established_time=(
            conditions.timestamp(status.established_at) if status.established_at is not None else None
        ),
        route_count=tuple(
            bgp_forms.RouteCount(
                afi=WORDS[family],
                safi="unicast",
                received=status.received.get(family, 0),
                advertised=status.advertised.get(family, 0),
            )
            for family in Family
            if seen.is_up and family in status.families
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
    states = {peer: seen.bfd for peer, seen in sorted(observed.items()) if seen.bfd is not None}
    if not states:
        return ()
    down = [f"{instance}/{peer} is {state}" for (instance, peer), state in states.items() if state != "up"]
    status = Status.TRUE if down else Status.FALSE
    return (Stand(type=BFD_DOWN, status=status, reason="BFDDown", message=", ".join(down)),)


def _refused(observed: Mapping[tuple[str, str], Observed]) -> Iterator[tuple[str, str]]:
    """Routes that a peer cannot be told: all of a family agreed on, or some."""
    for (instance, peer), seen in observed.items():
        for family, why in seen.status.unspeakable.items():
            yield instance, f"peer {peer}: routes of {WORDS[family]} are not announced: {why}"
        for family, refusal in seen.status.refused.items():
            what = f"{refusal.count} routes of {WORDS[family]}"
            yield instance, f"peer {peer}: {what} are not announced: {refusal.why}"


def _sessions_down(
    observed: Mapping[tuple[str, str], Observed], told: Mapping[tuple[str, str], Down], now: float
) -> tuple[Stand, ...]:
    """One line for each session that is not up: since when, and why the last one or the last attempt ended."""
    if not observed:
        return ()
    lines: list[str] = []
    for (instance, peer), seen in sorted(observed.items()):
        if seen.is_up:
            continue
        known = told.get((instance, peer))
        since = known.since if known is not None else conditions.timestamp(now)
        # An attempt that fails later must not hide what the peer, or we, said when the session ended.
        endings = dict.fromkeys((seen.status.last_ending, seen.status.last_notification))
        reasons = [" ".join(str(one).split()) for one in endings if one is not None]
        why = f": {'; before that '.join(reasons)}" if reasons else ""
        lines.append(f"{instance}/{peer}: down since {since}{why}\n")
    status = Status.TRUE if lines else Status.FALSE
    message = "".join(lines)[:_LONGEST_MESSAGE]
    return (Stand(type=SESSIONS_DOWN, status=status, reason="SessionsDown", message=message),)


def sessions_down(config: bgp_forms.NodeConfig) -> Mapping[tuple[str, str], Down]:
    """What a status tells of sessions that are not established, by the names of instance and peer."""
    message = next((one.message for one in config.status.conditions if one.type == SESSIONS_DOWN), "")
    lines = {
        found["peer"]: Down(since=found["since"], why=found["why"] or "")
        for line in message.splitlines()
        if (found := _DOWN.fullmatch(line)) is not None
    }
    return {
        (instance.name, peer.name): lines[name]
        for instance in config.spec.bgp_instances
        for peer in instance.peers
        if (name := f"{instance.name}/{peer.name}") in lines
    }


def routes_untold(config: bgp_forms.NodeConfig) -> Mapping[tuple[str, str], Mapping[str, Untold]]:
    """What a status tells of routes that are not announced, by the names of instance and peer, by family."""
    message = next((one.message for one in config.status.conditions if one.type == RECONCILE_ERROR), "")
    lines = message.splitlines()
    return {
        (instance.name, peer.name): {
            found["family"]: Untold(count=int(found["count"]) if found["count"] else None, why=found["why"])
            for line in lines
            if line.startswith(start := f"{instance.name}: peer {peer.name}: ")
            and (found := _UNTOLD.fullmatch(line.removeprefix(start))) is not None
        }
        for instance in config.spec.bgp_instances
        for peer in instance.peers
    }
