"""A node's BGP configuration, Services and endpoints → the whole of what its speaker should do.

    CiliumBGPNodeConfig, CiliumBGPPeerConfig, Secrets, host ─▶ sessions ─┐
    CiliumBGPAdvertisement, CiliumBGPPeeringPolicy ─▶ adverts ─┐         ├─▶ a SpeakerState per instance
    Services, EndpointSlices, pools, Node ─────────────────────┴▶ routes ┘

Configuration is small and is read anew when any of it changes; Services are many and are looked at one by
one. This file opens no session.
"""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import inf

from lbipam.controllers import bgp_drain, bgp_sessions
from lbipam.controllers.bgp_routes import AdvertSet, PoolRanges, RouteTable, Surroundings
from lbipam.controllers.bgp_sessions import NOTHING, Instance, PeerId
from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.endpoints import SLICE_KINDS, EndpointIndex
from lbipam.controllers.host import NO_HOST, Carried, Host
from lbipam.controllers.ports import EmitEvent, Severity
from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.nlri import Prefix
from lbipam.core.bgp.peers import PeerDown, PeerEvent, PeerUp, Policy, RouteKey, SpeakerState
from lbipam.core.bgp.routes import RouteAttributes
from lbipam.core.ipam import pools
from lbipam.kube import bgp, bgp_adverts, bgp_forms, forms, ipam
from lbipam.kube.kinds import Key, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the administrator chose, and where the agent runs."""

    node: str
    secrets_namespace: str = "kube-system"
    announce_without_endpoints: bool = True
    """Whether a Service without a ready endpoint anywhere is announced (as Cilium does)."""
    leave_seconds: float = 10.0
    """How long routes carry GRACEFUL_SHUTDOWN before a drained node withdraws them."""
    slices: Kind = forms.ENDPOINT_SLICE
    pools: Kind = ipam.IP_POOL
    kinds: bgp_forms.Kinds = bgp_forms.V2
    """The versions of all three that the server has."""

    @property
    def configuration(self) -> tuple[Kind, ...]:
        """The kinds that are read anew as a whole."""
        return (
            self.kinds.node_config,
            self.kinds.peer_config,
            self.kinds.advertisement,
            bgp_forms.PEERING_POLICY,
            forms.NODE,
            forms.SECRET,
            self.pools,
        )

    @property
    def watched(self) -> tuple[Kind, ...]:
        """All kinds that are looked at."""
        return (*self.configuration, forms.SERVICE, self.slices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Everything that the speakers of a node should do."""

    speakers: Mapping[str, SpeakerState]
    """By instance."""
    bfd: Mapping[PeerId, bgp.Bfd]
    """The peers whose paths are watched."""
    problems: tuple[tuple[str, str], ...]
    """What cannot be done: the instance, and why."""
    answers_for: frozenset[Prefix] = frozenset()
    """Blocks that are to be announced whole, whose unused addresses must not be sent on."""
    held_back: frozenset[Prefix] = frozenset()
    """Those of them that are not announced yet, because the node does not refuse their unused addresses."""
    look_again_at: float = inf
    """When time alone changes something."""


class BgpNodeReconciler:
    """What one node's speaker should do."""

    def __init__(self, cache: Cache, options: Options, *, drained_since: float = -inf) -> None:
        """`drained_since`: of a drain that was there before us; such a one is over, for nobody sends to us yet."""
        self._cache = cache
        self._options = options
        self._endpoints = EndpointIndex()
        self._table = RouteTable(
            self._endpoints, node=options.node, without_endpoints=options.announce_without_endpoints
        )
        self._host = NO_HOST
        self.configuration = NOTHING
        """As it was read last."""
        self._around = Surroundings()
        self._stale: set[Key] = set()
        self._is_stale = True
        self._refused: AbstractSet[Prefix] | None = None
        self._is_due = False
        """Whether something is wanted otherwise though nothing has been read anew."""
        self._drain_began: float | None = None
        self._drained_since = drained_since
        self._told_phase = bgp_drain.Phase.SERVING
        self._last: Wanted | None = None

    # --- what has happened --------------------------------------------------------------------------------

    def observe(self, change: Change) -> None:
        """Take a change of any watched object in."""
        if change.kind == forms.SERVICE:
            self._stale.add(change.key)
        elif change.kind in SLICE_KINDS:
            self._stale |= self._endpoints.observe(change)
        elif change.kind in self._options.configuration and self._matters(change):
            self._is_stale = True

    def _matters(self, change: Change) -> bool:
        if change.kind == forms.NODE:
            return change.key.name == self._options.node and _told(change.before) != _told(change.after)
        if change.kind == self._options.kinds.node_config:
            is_ours = change.key.name == self._options.node
            return is_ours and _specified(change.before) != _specified(change.after)
        if change.kind == forms.SECRET:
            return change.key.namespace == self._options.secrets_namespace
        if change.kind in (self._options.pools, self._options.kinds.peer_config):
            return _specified(change.before) != _specified(change.after)
        return True

    def see(self, host: Host) -> None:
        """The host's interfaces and routes are these now."""
        self._is_stale |= host != self._host
        self._host = host

    def carry(self, carried: Carried, news: AbstractSet[Key]) -> None:
        """The node carries the traffic of these addresses; until first told, it need not, for others do.

        So an address is announced only once its rules stand.

        Args:
            carried: By Service; it is looked at later, too.
            news: The Services of which it tells otherwise than before.
        """
        self._stale |= self._table.carry(carried, news)

    def refuse(self, blocks: AbstractSet[Prefix]) -> None:
        """The node refuses the unused addresses of these blocks; until first told, it need not, for others do.

        So a block is announced whole only once packets for its unused addresses do not travel in circles.
        """
        self._is_due |= self._refused is None or not blocks <= self._refused
        self._refused = blocks

    # --- what follows -------------------------------------------------------------------------------------

    def reconcile(self, now: float) -> Wanted | None:
        """The whole of what is wanted; None until all kinds have synced, and while it is as it was."""
        if not self._cache.has_synced(*self._options.watched):
            return None
        is_new = self._last is None or self._is_due
        self._is_due = False
        if self._is_stale:
            is_new |= self._read_configuration(now)
        services = self._cache.objects(forms.SERVICE)
        for key in self._stale:
            is_new |= self._table.update(key, services.get(key))
        self._stale.clear()
        phase = self._phase(now)
        if not is_new and phase is self._told_phase:
            return None
        self._told_phase = phase
        self._last = self._wanted(phase)
        return self._last

    def _wanted(self, phase: bgp_drain.Phase) -> Wanted:
        answers_for = frozenset(filter(self._is_apart, self._table.covering))
        held_back = answers_for - self._refused if self._refused is not None else frozenset()
        routes = {prefix: key for prefix, key in self._table.routes.items() if prefix not in held_back}
        instances = self.configuration.instances
        return Wanted(
            speakers={name: self._speaker(instance, routes, phase) for name, instance in instances.items()},
            bfd={
                PeerId(name, peer): session.bfd
                for name, instance in instances.items()
                for peer, session in instance.sessions.items()
                if session.bfd is not None
            },
            problems=self.configuration.problems,
            answers_for=answers_for,
            held_back=held_back,
            look_again_at=self._leaving_ends(phase),
        )

    def _is_apart(self, block: Prefix) -> bool:
        """Whether a block holds no address of the host: else it may be the LAN, where others live, too."""
        addresses = (address for one in self._host.interfaces for address in one.addresses)
        return not any(address in block for address in addresses)

    def _speaker(
        self, instance: Instance, routes: Mapping[Prefix, RouteKey], phase: bgp_drain.Phase
    ) -> SpeakerState:
        return SpeakerState(
            local_asn=instance.local_asn,
            router_id=instance.router_id,
            listen_port=instance.listen_port,
            peers={name: session.peer for name, session in instance.sessions.items()},
            routes=routes,
            policies={
                name: {
                    family: self._policy(family, adverts, phase)
                    for family, adverts in session.adverts.items()
                }
                for name, session in instance.sessions.items()
            },
        )

    def _policy(self, family: Family, selected: AdvertSet, phase: bgp_drain.Phase) -> Policy:
        """What a peer is told of the routes of one family, by the adverts that name them."""
        policy: dict[RouteKey, RouteAttributes] = {}
        for adverts in (named for version, named in self._table.shapes if version == family.version):
            said: RouteAttributes | None = None
            for index in adverts & selected:
                attributes = self.configuration.adverts[index].attributes
                said = attributes if said is None else bgp_adverts.joined(said, attributes)
            told = bgp_drain.carried(said, phase) if said is not None else None
            if told is not None:
                policy[adverts] = told
        return policy

    def _phase(self, now: float) -> bgp_drain.Phase:
        since = now - self._drain_began if self._drain_began is not None else None
        return bgp_drain.phase(since, self._options.leave_seconds)

    def _leaving_ends(self, phase: bgp_drain.Phase) -> float:
        if phase is not bgp_drain.Phase.LEAVING or self._drain_began is None:
            return inf
        return self._drain_began + self._options.leave_seconds

    def tell(self, instance: str, event: PeerEvent) -> EmitEvent | None:
        """What the administrator should read of a session that came up or went down."""
        key = Key("", self._options.node)
        config = self._cache.objects(self._options.kinds.node_config).get(key)
        if config is None:
            return None
        match event:
            case PeerUp(peer=peer):
                severity, reason = Severity.NORMAL, "PeerUp"
                message = f"{instance}: the session with {peer} is established"
            case PeerDown(peer=peer, ending=ending):
                severity, reason = Severity.WARNING, "PeerDown"
                message = f"{instance}: the session with {peer} has ended: {ending}"
        return EmitEvent(
            kind=self._options.kinds.node_config,
            key=key,
            uid=config.metadata.uid,
            severity=severity,
            reason=reason,
            message=message,
        )

    # --- configuration ------------------------------------------------------------------------------------

    def _read_configuration(self, now: float) -> bool:
        """Read all but Services anew; whether it says anything else than before."""
        node: forms.Node | None = self._cache.objects(forms.NODE).get(Key("", self._options.node))
        self._follow_drain(node, now)
        before = self.configuration
        self.configuration = bgp_sessions.read_configuration(
            self._cache,
            self._options.kinds,
            node=self._options.node,
            secrets_namespace=self._options.secrets_namespace,
            host=self._host,
        )
        is_new = before != self.configuration
        around = Surroundings(adverts=self.configuration.adverts, pools=self._pools())
        if around != self._around:
            self._around = around
            self._table.surround(around, self._cache.objects(forms.SERVICE))
            self._stale.clear()
            is_new = True
        is_new |= self._table.locate(node, self._host)
        self._is_stale = False
        return is_new

    def _follow_drain(self, node: forms.Node | None, now: float) -> None:
        """Remember when the drain began."""
        drains = node is not None and bgp.wants_drain(node)
        if drains and self._drain_began is None:
            self._drain_began = now if self._last is not None else self._drained_since
        elif not drains:
            self._drain_began = None

    def _pools(self) -> tuple[PoolRanges, ...]:
        """The pools by which addresses are told apart, those that conflict last."""
        written: Mapping[Key, ipam.IPPool] = self._cache.objects(self._options.pools)
        read = {key.name: ipam.read_pool(one).pool for key, one in written.items()}
        conflicting = pools.conflicts(read.values())
        ordered = sorted(read.values(), key=lambda pool: (pool.name in conflicting, pool.age))
        return tuple(
            PoolRanges(
                name=pool.name,
                labels=written[Key("", pool.name)].metadata.labels or {},
                ranges=tuple(block.range for block in pool.blocks),
            )
            for pool in ordered
        )


def announced(state: SpeakerState, peer: str) -> Iterator[tuple[Prefix, RouteAttributes]]:
    """The routes of one peer of a speaker, for those who show them."""
    policies = {family.version: policy for family, policy in state.policies.get(peer, {}).items()}
    for prefix, key in state.routes.items():
        attributes = policies.get(prefix.version, {}).get(key)
        if attributes is not None:
            yield prefix, attributes


def _told(node: forms.Node | None) -> tuple[object, ...]:
    """What of a Node matters to its speaker: not its heartbeat."""
    if node is None:
        return ()
    return node.metadata.labels, node.metadata.annotations, node.spec, node.status.addresses


def _specified(
    thing: bgp_forms.NodeConfig | bgp_forms.PeerConfig | ipam.IPPool | None,
) -> tuple[object, ...]:
    """What of an object matters besides its status."""
    if thing is None:
        return ()
    metadata = thing.metadata
    return metadata.labels, metadata.annotations, metadata.owner_references, thing.spec
