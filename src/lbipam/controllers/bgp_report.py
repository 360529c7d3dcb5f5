"""Which node speaks with which router, how does it go, and which routes does each announce?

What the agents say of their sessions is read from the status of CiliumBGPNodeConfigs; which routes follow
from the configuration is computed by the functions that agents compute it with. Routes that follow from a
node's own interfaces only the node knows. This file prints nothing.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf

import msgspec

from lbipam.controllers import bgp_sessions
from lbipam.controllers.bgp_node import BgpNodeReconciler, Options, announced
from lbipam.controllers.bgp_sessions import Configuration
from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.host import DefaultRoute, Host, Interface
from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.nlri import Prefix
from lbipam.core.bgp.routes import RouteAttributes
from lbipam.kube import bgp, bgp_adverts, bgp_forms, bgp_status, forms
from lbipam.kube.kinds import Key, Kind


class FamilyReport(msgspec.Struct, rename="camel", omit_defaults=True):
    """The routes of one family that a session carries."""

    family: str
    sent: int = 0
    received: int = 0
    refused: int = 0
    """Routes that should be announced and cannot be."""
    why: str = ""
    """Why they cannot; where it is told without their number, it is all of the family."""


class SessionReport(msgspec.Struct, rename="camel", omit_defaults=True):
    """A session as its node tells of it."""

    node: str
    instance: str
    peer: str
    address: str
    asn: int
    state: str
    """In Cilium's words; `unknown` where no agent has said anything."""
    since: str = ""
    """When it was established, or when it was first seen down."""
    sent: int = 0
    received: int = 0
    refused: int = 0
    why: str = ""
    """Why it is down: the last NOTIFICATION in words, or what else has ended it."""
    notification: str = ""
    """That NOTIFICATION alone, and who sent it."""
    families: list[FamilyReport] = []
    """What was agreed on with the peer."""

    @property
    def is_up(self) -> bool:
        """Whether routes are exchanged."""
        return self.state == "established"

    def family(self, name: str) -> FamilyReport | None:
        """The routes of one family; None: it is not spoken with this peer."""
        return next((one for one in self.families if one.family == name), None)


class PeersReport(msgspec.Struct, rename="camel"):
    """All sessions, and what of the configuration cannot be done."""

    sessions: list[SessionReport]
    problems: dict[str, list[str]]
    """By node."""

    @property
    def all_up(self) -> bool:
        """Whether every session is established."""
        return all(one.is_up for one in self.sessions)


class RouteReport(msgspec.Struct, rename="camel", omit_defaults=True):
    """A route that a node announces to a peer."""

    prefix: str
    node: str
    instance: str
    peer: str
    state: str
    """`sent`; `waiting` while the peer has not as many of the family as it should; `refused` where it cannot
    be told, `unspoken` where its family is not agreed on, `down` with its session."""
    why: str = ""
    """Why the peer does not have it."""
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
        sessions=[session for config in configs for session in sessions_of(config)],
        problems={config.metadata.name: lines for config in configs if (lines := _problems(config))},
    )


def sessions_of(config: bgp_forms.NodeConfig) -> Iterator[SessionReport]:
    """What one node's agent says of its sessions."""
    down, untold = bgp_status.sessions_down(config), bgp_status.routes_untold(config)
    told = {(one.name, peer.name): peer for one in config.status.bgp_instances for peer in one.peers}
    for instance in config.spec.bgp_instances:
        for peer in instance.peers:
            key = instance.name, peer.name
            seen, lost = told.get(key), down.get(key)
            families = _families(seen, untold[key]) if seen is not None else []
            yield SessionReport(
                node=config.metadata.name,
                instance=instance.name,
                peer=peer.name,
                address=seen.peer_address if seen is not None else peer.peer_address or "",
                asn=(seen.peer_asn if seen is not None else None) or peer.peer_asn,
                state=(seen.peering_state if seen is not None else None) or "unknown",
                since=(seen.established_time if seen is not None else None) or (lost.since if lost else ""),
                sent=sum(one.sent for one in families),
                received=sum(one.received for one in families),
                refused=sum(one.refused for one in families),
                why=lost.why if lost is not None else "",
                notification=lost.notification if lost is not None else "",
                families=families,
            )


def doubts(config: bgp_forms.NodeConfig) -> Iterator[str]:
    """Why it cannot be said that no peer has a route to a node; nothing where that is known.

    A peer whose session is down may keep routes, by graceful restart or until its hold time is over, and gets
    those of a node that is leaving again when the session is back. With a peer that the agent does not tell
    of it holds no session.
    """
    if config.spec.bgp_instances and not config.status.bgp_instances:
        yield "no agent has said anything of its sessions"
        return
    for session in sessions_of(config):
        peer = f"{session.instance}/{session.peer}"
        if session.sent:
            yield f"{peer} has {session.sent} of its routes"
        elif not session.is_up and session.state != "unknown":
            why = f" ({session.why})" if session.why else ""
            yield f"the session with {peer} is down{why}, and what that peer still has is not known"


def _families(seen: bgp_forms.PeerStatus, untold: Mapping[str, bgp_status.Untold]) -> list[FamilyReport]:
    return [
        FamilyReport(
            family=one.afi,
            sent=one.advertised,
            received=one.received,
            refused=(refused.count or 0) if refused is not None else 0,
            why=refused.why if refused is not None else "",
        )
        for one in seen.route_count
        for refused in (untold.get(one.afi),)
    ]


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
    known = tuple(changes)
    found = [pair for one in options for pair in _node_routes(cache, known, one)]
    found.sort(key=lambda pair: (_order(pair[0]), pair[1].node, pair[1].instance, pair[1].peer))
    return RoutesReport(routes=[route for _, route in found])


def nodes(cache: Cache, kinds: bgp_forms.Kinds = bgp_forms.V2) -> tuple[str, ...]:
    """The nodes that speak BGP."""
    return tuple(sorted(key.name for key in cache.objects(kinds.node_config)))


def _node_routes(
    cache: Cache, known: Iterable[Change], options: Options
) -> Iterator[tuple[Prefix, RouteReport]]:
    key = Key("", options.node)
    config: bgp_forms.NodeConfig | None = cache.objects(options.kinds.node_config).get(key)
    if config is None:
        return
    host = _supposed_host(cache.objects(forms.NODE).get(key), config)
    said = {(one.instance, one.peer): one for one in sessions_of(config)}
    # As long as peers have routes of a node that is drained, it has not withdrawn them.
    leaves = any(session.sent for session in said.values())
    reconciler = BgpNodeReconciler(cache, options, drained_since=0.0 if leaves else -inf)
    for change in known:
        reconciler.observe(change)
    reconciler.see(host)
    wanted = reconciler.reconcile(0.0)
    if wanted is None:
        return
    for instance, state in wanted.speakers.items():
        for peer in state.peers:
            due = tuple(announced(state, peer))
            session = said[instance, peer]
            for family in Family:
                yield from _Told(
                    session=session,
                    family=bgp.WORDS[family],
                    due=tuple(one for one in due if one[0].version == family.version),
                    has_more=_announces_interfaces(reconciler.configuration, instance, peer, family),
                ).routes()


def _supposed_host(node: forms.Node | None, config: bgp_forms.NodeConfig) -> Host:
    """What a node must have found on its host to tell what it tells: its peers, and a router ID."""
    gateways = {
        (instance.name, peer.name)
        for instance in config.spec.bgp_instances
        for peer in instance.peers
        if peer.auto_discovery is not None
    }
    routes: list[DefaultRoute] = []
    for instance in config.status.bgp_instances:
        for peer in instance.peers:
            if (instance.name, peer.name) in gateways:
                with suppress(ValueError):
                    routes.append(DefaultRoute(gateway=ipaddress.ip_address(peer.peer_address), interface=""))
    own = tuple(bgp_sessions.addresses(node))
    return Host(
        interfaces=(Interface(name="", up=False, mac=bytes(6), addresses=own),), default_routes=tuple(routes)
    )


def _announces_interfaces(configuration: Configuration, instance: str, peer: str, family: Family) -> bool:
    adverts = configuration.instances[instance].sessions[peer].adverts.get(family, ())
    return any(isinstance(configuration.adverts[one].source, bgp_adverts.InterfaceRoutes) for one in adverts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """The routes of one family that a peer should have, beside how its session stands."""

    session: SessionReport
    family: str
    due: Sequence[tuple[Prefix, RouteAttributes]]
    has_more: bool
    """Whether routes are due, too, that only the node knows: of these the peer may have any number."""

    def routes(self) -> Iterator[tuple[Prefix, RouteReport]]:
        counts = self.session.family(self.family)
        if not self.session.is_up:
            yield from self._all("down", self.session.why)
        elif counts is None:
            yield from self._all("unspoken", f"{self.family} is not agreed on with the peer")
        elif counts.why and not counts.refused:
            yield from self._all("refused", counts.why)
        else:
            # Of two routes, the one of which more is said is refused first.
            longest = sorted(self.due, key=lambda one: one[1].octets, reverse=True)
            refused = {prefix for prefix, _ in longest[: counts.refused]}
            expected = len(self.due) - len(refused)
            has_all = counts.sent >= expected if self.has_more else counts.sent == expected
            for prefix, said in self.due:
                if prefix in refused:
                    yield prefix, self._route(prefix, said, "refused", counts.why)
                else:
                    yield prefix, self._route(prefix, said, "sent" if has_all else "waiting")

    def _all(self, state: str, why: str) -> Iterator[tuple[Prefix, RouteReport]]:
        for prefix, said in self.due:
            yield prefix, self._route(prefix, said, state, why)

    def _route(self, prefix: Prefix, said: RouteAttributes, state: str, why: str = "") -> RouteReport:
        return RouteReport(
            prefix=str(prefix),
            node=self.session.node,
            instance=self.session.instance,
            peer=self.session.peer,
            state=state,
            why=why,
            communities=[f"{one >> 16}:{one & 0xFFFF}" for one in sorted(said.communities)],
            large_communities=[":".join(map(str, one)) for one in sorted(said.large_communities)],
            local_preference=said.local_preference,
        )


def _order(prefix: Prefix) -> tuple[int, int, int]:
    return prefix.version, int(prefix.network_address), prefix.prefixlen
