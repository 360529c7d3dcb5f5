"""Which node speaks with which router, how does it go, and which routes does each announce?

What the agents say of their sessions is read from the status of CiliumBGPNodeConfigs; which routes follow
from the configuration is computed by the functions that agents compute it with. What follows from a node's
own interfaces and its default gateway only the node knows. This file prints nothing.
"""

from collections.abc import Iterable, Iterator

import msgspec

from lbipam.controllers.bgp_node import BgpNodeReconciler, Options, announced
from lbipam.controllers.cache import Cache, Change
from lbipam.core.bgp.nlri import Prefix
from lbipam.core.bgp.routes import RouteAttributes
from lbipam.kube import bgp_forms, bgp_status, forms
from lbipam.kube.kinds import Kind


class SessionReport(msgspec.Struct, rename="camel", omit_defaults=True):
    """A session as its node tells of it."""

    node: str
    instance: str
    peer: str
    address: str
    asn: int
    state: str
    """In the words of RFC 4271 §8.2.2; `unknown` where no agent has said anything."""
    since: str = ""
    """When it was established, or when it was first seen down."""
    sent: int = 0
    received: int = 0
    why: str = ""
    """Why it is down: the last NOTIFICATION in words, or what else has ended it."""


class PeersReport(msgspec.Struct, rename="camel"):
    """All sessions, and what of the configuration cannot be done."""

    sessions: list[SessionReport]
    problems: dict[str, list[str]]
    """By node."""

    @property
    def all_up(self) -> bool:
        """Whether every session is established."""
        return all(one.state == "established" for one in self.sessions)


class RouteReport(msgspec.Struct, rename="camel", omit_defaults=True):
    """A route that a node announces to a peer."""

    prefix: str
    node: str
    instance: str
    peer: str
    state: str
    """`sent`, `waiting` while the peer has not as many routes as it should, or `down` with its session."""
    communities: list[str] = []
    large_communities: list[str] = []
    local_preference: int | None = None


class RoutesReport(msgspec.Struct, rename="camel"):
    """All routes."""

    routes: list[RouteReport]


# --- sessions ----------------------------------------------------------------------------------------------


def sessions(cache: Cache, kinds: bgp_forms.Kinds = bgp_forms.V2) -> PeersReport:
    """What the agents say of their sessions, in their nodes' configurations."""
    known = cache.objects(kinds.node_config)
    configs: list[bgp_forms.NodeConfig] = [known[key] for key in sorted(known)]
    return PeersReport(
        sessions=[session for config in configs for session in _sessions(config)],
        problems={config.metadata.name: lines for config in configs if (lines := _problems(config))},
    )


def _sessions(config: bgp_forms.NodeConfig) -> Iterator[SessionReport]:
    down = bgp_status.sessions_down(config)
    told = {(one.name, peer.name): peer for one in config.status.bgp_instances for peer in one.peers}
    for instance in config.spec.bgp_instances:
        for peer in instance.peers:
            seen, lost = told.get((instance.name, peer.name)), down.get((instance.name, peer.name))
            yield SessionReport(
                node=config.metadata.name,
                instance=instance.name,
                peer=peer.name,
                address=seen.peer_address if seen is not None else peer.peer_address or "",
                asn=(seen.peer_asn if seen is not None else None) or peer.peer_asn,
                state=(seen.peering_state if seen is not None else None) or "unknown",
                since=(seen.established_time if seen is not None else None) or (lost.since if lost else ""),
                sent=sum(one.advertised for one in seen.route_count) if seen is not None else 0,
                received=sum(one.received for one in seen.route_count) if seen is not None else 0,
                why=lost.why if lost is not None else "",
            )


def _problems(config: bgp_forms.NodeConfig) -> list[str]:
    return [
        line
        for one in config.status.conditions
        if one.type in (bgp_status.RECONCILE_ERROR, bgp_status.BFD_DOWN) and one.status == "True"
        for line in one.message.splitlines()
    ]


# --- routes ------------------------------------------------------------------------------------------------


def route_kinds(*, slices: Kind, pools: Kind, kinds: bgp_forms.Kinds = bgp_forms.V2) -> tuple[Kind, ...]:
    """What `routes` looks at: what agents do, but for the secrets, which no route follows from."""
    agent = Options(node="", slices=slices, pools=pools, kinds=kinds)
    return tuple(one for one in agent.watched if one != forms.SECRET)


def routes(cache: Cache, changes: Iterable[Change], options: Iterable[Options]) -> RoutesReport:
    """What each node announces to each of its peers.

    `changes` are all objects of the cache, `options` those of the agents of the nodes in question.
    """
    known, agents = tuple(changes), tuple(options)
    told = {
        (said.node, said.instance, said.peer): said
        for kinds in {one.kinds for one in agents}
        for said in sessions(cache, kinds).sessions
    }
    found: list[tuple[Prefix, RouteReport]] = []
    for one in agents:
        reconciler = BgpNodeReconciler(cache, one)
        for change in known:
            reconciler.observe(change)
        wanted = reconciler.reconcile(0.0)
        for instance, state in wanted.speakers.items() if wanted is not None else ():
            for peer in state.peers:
                due = tuple(announced(state, peer))
                stands = _stands(told.get((one.node, instance, peer)), len(due))
                place = (one.node, instance, peer)
                found += [(prefix, _route(prefix, place, stands, said)) for prefix, said in due]
    found.sort(key=lambda pair: (_order(pair[0]), pair[1].node, pair[1].instance, pair[1].peer))
    return RoutesReport(routes=[route for _, route in found])


def nodes(cache: Cache, kinds: bgp_forms.Kinds = bgp_forms.V2) -> tuple[str, ...]:
    """The nodes that speak BGP."""
    return tuple(sorted(key.name for key in cache.objects(kinds.node_config)))


def _stands(session: SessionReport | None, due: int) -> str:
    if session is None or session.state != "established":
        return "down"
    return "sent" if session.sent == due else "waiting"


def _route(
    prefix: Prefix, place: tuple[str, str, str], stands: str, attributes: RouteAttributes
) -> RouteReport:
    node, instance, peer = place
    return RouteReport(
        prefix=str(prefix),
        node=node,
        instance=instance,
        peer=peer,
        state=stands,
        communities=[f"{one >> 16}:{one & 0xFFFF}" for one in sorted(attributes.communities)],
        large_communities=[":".join(map(str, one)) for one in sorted(attributes.large_communities)],
        local_preference=attributes.local_preference,
    )


def _order(prefix: Prefix) -> tuple[int, int, int]:
    return prefix.version, int(prefix.network_address), prefix.prefixlen
