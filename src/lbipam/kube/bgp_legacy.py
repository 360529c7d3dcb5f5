"""What does a `CiliumBGPPeeringPolicy` say about one of its sessions?

The policy says in one object what newer kinds say in four; here it becomes the same values. Attributes for
the routes of some pools become adverts of their own, which join those without attributes. This file does not
say which node a policy is for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from lbipam.core.ipam.labels import EVERYTHING, Selector
from lbipam.kube import bgp, bgp_adverts, bgp_cluster, bgp_forms
from lbipam.kube.forms import LabelSelector
from lbipam.kube.selectors import compile_selector


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacySession:
    """How to speak with a neighbour, and what to announce to it in every family."""

    settings: bgp.PeerSettings
    adverts: tuple[bgp_adverts.Advert, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyReading:
    """The sessions of a policy by the names of instance and peer, and what cannot be understood."""

    sessions: Mapping[tuple[str, str], LegacySession]
    problems: tuple[tuple[str, str], ...] = ()
    """Name of the instance, and the problem."""


def read_policy(written: bgp_forms.PeeringPolicy, node_labels: Mapping[str, str]) -> PolicyReading:
    """The sessions of a policy on a node with these labels."""
    sessions: dict[tuple[str, str], LegacySession] = {}
    routers, wrong = bgp_cluster.legacy_routers(written)
    problems = [*wrong]
    for router in routers:
        name = bgp_cluster.legacy_instance_name(router)
        found: list[str] = []
        services = _service_routes(router, found)
        for neighbor in router.neighbors:
            peer = bgp_cluster.legacy_peer_name(neighbor)
            plain = [bgp_adverts.Advert(source=services)] if services is not None else []
            if router.export_pod_cidr:
                plain.append(bgp_adverts.Advert(source=bgp_adverts.PodRoutes()))
            special = _special(router, neighbor, services, node_labels, found)
            sessions[name, peer] = LegacySession(
                settings=_settings(neighbor, found), adverts=(*plain, *special)
            )
        problems += [(name, problem) for problem in found]
    return PolicyReading(sessions=sessions, problems=tuple(problems))


def _service_routes(router: bgp_forms.VirtualRouter, problems: list[str]) -> bgp_adverts.ServiceRoutes | None:
    if router.service_selector is None:
        return None
    try:
        return bgp_adverts.ServiceRoutes(
            types=bgp_adverts.read_address_types(router.service_advertisements),
            selector=compile_selector(router.service_selector),
            aggregation={},
        )
    except ValueError as problem:
        problems.append(f"serviceSelector or serviceAdvertisements: {problem}")
        return None


def _special(
    router: bgp_forms.VirtualRouter,
    neighbor: bgp_forms.Neighbor,
    services: bgp_adverts.ServiceRoutes | None,
    node_labels: Mapping[str, str],
    problems: list[str],
) -> Iterator[bgp_adverts.Advert]:
    """Adverts that add attributes to some of the routes."""
    for written in neighbor.advertised_path_attributes:
        try:
            attributes = bgp_adverts.read_attributes(written.communities, written.local_preference)
            selector = _selector_or_all(written.selector)
        except ValueError as problem:
            problems.append(f"neighbor {neighbor.peer_address}, advertisedPathAttributes: {problem}")
            continue
        match written.selector_type:
            case "PodCIDR" if router.export_pod_cidr and selector.matches(node_labels):
                yield bgp_adverts.Advert(source=bgp_adverts.PodRoutes(), attributes=attributes)
            case "CiliumLoadBalancerIPPool" if (
                services is not None and bgp_adverts.AddressType.LOAD_BALANCER in services.types
            ):
                from_pools = replace(
                    services, types=frozenset({bgp_adverts.AddressType.LOAD_BALANCER}), pools=selector
                )
                yield bgp_adverts.Advert(source=from_pools, attributes=attributes)


def _selector_or_all(written: LabelSelector | None) -> Selector:
    return EVERYTHING if written is None else compile_selector(written)


def _settings(neighbor: bgp_forms.Neighbor, problems: list[str]) -> bgp.PeerSettings:
    where = f"neighbor {neighbor.peer_address}"
    hold, keepalive = bgp.read_timers(
        neighbor.hold_time_seconds, neighbor.keep_alive_time_seconds, where, problems
    )
    return bgp.PeerSettings(
        port=neighbor.peer_port,
        connect_retry_seconds=neighbor.connect_retry_time_seconds,
        hold_seconds=hold,
        keepalive_seconds=keepalive,
        secret=neighbor.auth_secret_ref or None,
        restart_seconds=bgp.restart_seconds(neighbor.graceful_restart),
        multihop=neighbor.ebgp_multihop_ttl,
        families=bgp.read_families(neighbor.families, where, problems),
    )
