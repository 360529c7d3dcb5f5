"""Cluster-wide BGP configuration → one configuration per selected node.

    which policy or cluster configuration has the node?
        one CiliumBGPPeeringPolicy selects it      that one
        several do                                 nobody: all its sessions end
        its CiliumBGPNodeConfig has an owner       that one, as long as it still selects the node
        else                                       the oldest that selects it

Configurations are few and nodes are hundreds, so that all is computed at once, and compared. This file does
not know what a session is.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.ports import (
    Action,
    Apply,
    Create,
    Delete,
    EmitEvent,
    Gone,
    Item,
    JsonPatch,
    Severity,
    WriteResult,
    Written,
)
from lbipam.controllers.workqueue import WorkQueue
from lbipam.core.ipam.labels import EVERYTHING, Selector
from lbipam.kube import bgp_cluster, bgp_forms, conditions, forms, selectors
from lbipam.kube.kinds import Key, Kind

EVERYTHING_AT_ONCE: Item = (bgp_forms.V2.cluster_config, Key("", ""))
"""The item of the queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the administrator chose for the whole cluster."""

    secrets_namespace: str = "kube-system"
    kinds: bgp_forms.Kinds = bgp_forms.V2
    """The version that the server has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claimant:
    """A cluster configuration or policy, with what it selects."""

    owner: bgp_cluster.Owner
    created: str
    selector: Selector | None
    """None: it does not compile, so that it keeps what it has and gets nothing new."""

    @property
    def age(self) -> tuple[str, str]:
        return self.created, self.owner.name

    def selects(self, labels: Mapping[str, str], *, has_it: bool) -> bool:
        return has_it if self.selector is None else self.selector.matches(labels)


class BgpCluster:
    """What every node is to do, and what the conditions should say.

    `queue` holds one item, everything; it is looked at while this process leads.
    """

    def __init__(self, *, cache: Cache, queue: WorkQueue[Item], options: Options) -> None:
        self.queue = queue
        self._cache = cache
        self._options = options
        self._kinds = options.kinds
        self.kinds = (
            self._kinds.cluster_config,
            bgp_forms.PEERING_POLICY,
            self._kinds.node_override,
            self._kinds.node_config,
            self._kinds.peer_config,
            forms.NODE,
            forms.SECRET,
        )
        """All that are looked at."""
        self._leads = False
        self._complaints: frozenset[EmitEvent] = frozenset()
        self._said: dict[Item, tuple[str, int, tuple[conditions.Stand, ...]]] = {}
        """What was written of an object last, where its status does not show it."""

    def lead(self) -> None:
        """Write from now on."""
        self._leads = True
        self.queue.add(EVERYTHING_AT_ONCE)

    def follow(self) -> None:
        """Write no more."""
        self._leads = False
        self._said.clear()

    def synced(self) -> None:
        """A kind has synced; when all have, everything is looked at."""
        if self._cache.has_synced(*self.kinds):
            self.queue.add(EVERYTHING_AT_ONCE)

    def observe(self, change: Change) -> None:
        """Take note of a changed object."""
        if self._concerns(change):
            self.queue.add(EVERYTHING_AT_ONCE)

    def _concerns(self, change: Change) -> bool:
        """Whether the change can make anything right that is wrong, or the other way; a heartbeat cannot."""
        if change.kind == forms.SECRET:
            is_ours = change.key.namespace == self._options.secrets_namespace
            return is_ours and (change.before is None or change.after is None)
        if change.kind == forms.NODE:
            return _told(change.before) != _told(change.after)
        return change.kind in self.kinds

    def reconcile(self, item: Item, now: float) -> tuple[Action, ...]:  # noqa: ARG002 -- there is one item
        """The writes that make configurations and conditions what they should be.

        Empty until all kinds have synced: what is not known yet must not look as if it were gone.
        """
        if not self._leads or not self._cache.has_synced(*self.kinds):
            return ()
        clusters, policies, complaints = self._claimants()
        plan = self._plan(clusters, policies)
        wanted, more = self._wanted_instances(plan)
        actions: list[Action] = [*self._untold(frozenset(complaints + more))]
        actions += self._node_writes(plan, wanted)
        actions += self._cluster_statuses(clusters, plan, now)
        actions += self._peer_statuses(now)
        return tuple(actions)

    def answered(self, item: Item, result: WriteResult, now: float) -> tuple[Action, ...]:
        """Take note of what became of a write; what was not done is looked at again.

        A status that an older definition does not have at all is answered as if the object were gone.
        """
        if not isinstance(result, Written | Gone):
            self._said.clear()
        self.queue.answered(item, result, now)
        return ()

    def _untold(self, complaints: frozenset[EmitEvent]) -> list[EmitEvent]:
        """The complaints that are new."""
        untold = complaints - self._complaints
        self._complaints = complaints
        return sorted(untold, key=lambda event: (event.key, event.message))

    # --- who has which node -------------------------------------------------------------------------------

    def _claimants(self) -> tuple[list[_Claimant], list[_Claimant], list[EmitEvent]]:
        complaints: list[EmitEvent] = []
        found: dict[Kind, list[_Claimant]] = {}
        for kind in (self._kinds.cluster_config, bgp_forms.PEERING_POLICY):
            read = [self._claimant(kind, one, complaints) for one in self._cache.objects(kind).values()]
            found[kind] = sorted(read, key=lambda claimant: claimant.age)
        for policy in self._cache.objects(bgp_forms.PEERING_POLICY).values():
            complaints += [
                _complaint(
                    bgp_forms.PEERING_POLICY,
                    policy.metadata,
                    "InvalidVirtualRouter",
                    f"{instance}: {problem}",
                )
                for instance, problem in bgp_cluster.legacy_routers(policy)[1]
            ]
        return found[self._kinds.cluster_config], found[bgp_forms.PEERING_POLICY], complaints

    def _claimant(
        self,
        kind: Kind,
        config: bgp_forms.ClusterConfig | bgp_forms.PeeringPolicy,
        complaints: list[EmitEvent],
    ) -> _Claimant:
        metadata = config.metadata
        selector: Selector | None = EVERYTHING
        if config.spec.node_selector is not None:
            try:
                selector = selectors.compile_selector(config.spec.node_selector)
            except ValueError as problem:
                selector = None
                message = f"The node selector is not valid: {problem}"
                complaints.append(_complaint(kind, metadata, "InvalidNodeSelector", message))
        return _Claimant(
            owner=bgp_cluster.Owner(kind=kind, name=metadata.name, uid=metadata.uid),
            created=metadata.creation_timestamp or "",
            selector=selector,
        )

    def _plan(self, clusters: list[_Claimant], policies: list[_Claimant]) -> "_Plan":
        plan = _Plan(holders={}, losers={}, selected=set())
        for key, node in self._cache.objects(forms.NODE).items():
            labels = node.metadata.labels or {}
            holder_uid = self._holder_uid(key)
            legacy = [one for one in policies if one.selects(labels, has_it=one.owner.uid == holder_uid)]
            takers = [one for one in clusters if one.selects(labels, has_it=one.owner.uid == holder_uid)]
            plan.selected.update(one.owner.uid for one in takers)
            if self._is_foreign(key) or len(legacy) > 1:
                continue
            if legacy:
                plan.holders[key.name] = legacy[0].owner
                continue
            if not takers:
                continue
            keeper = next((one for one in takers if one.owner.uid == holder_uid), takers[0])
            plan.holders[key.name] = keeper.owner
            for loser in takers:
                if loser is not keeper:
                    plan.losers.setdefault(loser.owner.uid, set()).add(keeper.owner.name)
        return plan

    def _holder_uid(self, node: Key) -> str:
        config = self._cache.objects(self._kinds.node_config).get(node)
        owner = bgp_cluster.owner_of(config) if config is not None else None
        return owner.uid if owner is not None else ""

    def _is_foreign(self, node: Key) -> bool:
        """Whether somebody else wrote the node's configuration; it is then theirs to change."""
        config = self._cache.objects(self._kinds.node_config).get(node)
        return config is not None and bgp_cluster.owner_of(config) is None

    # --- writes -------------------------------------------------------------------------------------------

    def _node_writes(
        self, plan: "_Plan", wanted: Mapping[str, tuple[bgp_forms.Instance, ...]]
    ) -> Iterator[Action]:
        existing = self._cache.objects(self._kinds.node_config)
        for key, config in existing.items():
            if bgp_cluster.owner_of(config) is None or key.name in wanted:
                continue
            yield Delete(kind=self._kinds.node_config, key=key, uid=config.metadata.uid)
        for name, spec in wanted.items():
            key, owner = Key("", name), plan.holders[name]
            config = existing.get(key)
            if config is None:
                body = bgp_cluster.node_config_body(self._kinds.node_config, name, owner, spec)
                yield Create(kind=self._kinds.node_config, key=key, body=body)
            elif config.spec.bgp_instances != spec or not _owned(config, owner):
                operations = bgp_cluster.node_config_patch(config, owner, spec)
                yield JsonPatch(kind=self._kinds.node_config, key=key, operations=operations)

    def _wanted_instances(
        self, plan: "_Plan"
    ) -> tuple[dict[str, tuple[bgp_forms.Instance, ...]], list[EmitEvent]]:
        complaints: list[EmitEvent] = []
        wanted: dict[str, tuple[bgp_forms.Instance, ...]] = {}
        for name, owner in sorted(plan.holders.items()):
            key, owner_key = Key("", name), Key("", owner.name)
            source = self._cache.objects(owner.kind)[owner_key]
            if isinstance(source, bgp_forms.ClusterConfig):
                override = self._cache.objects(self._kinds.node_override).get(key)
                wanted[name] = bgp_cluster.instances(source, override)
                continue
            node = self._cache.objects(forms.NODE)[key]
            instances, problems = bgp_cluster.legacy_instances(source, node)
            if instances:
                wanted[name] = instances
            complaints += [
                _complaint(forms.NODE, node.metadata, "InvalidAnnotation", problem) for problem in problems
            ]
        return wanted, complaints

    def _cluster_statuses(self, clusters: list[_Claimant], plan: "_Plan", now: float) -> Iterator[Action]:
        known = {key.name for key in self._cache.objects(self._kinds.peer_config)}
        for claimant in clusters:
            config = self._cache.objects(self._kinds.cluster_config)[Key("", claimant.owner.name)]
            references = {
                peer.peer_config_ref.name
                for instance in config.spec.bgp_instances
                for peer in instance.peers
                if peer.peer_config_ref is not None
            }
            stands = bgp_cluster.cluster_stands(
                has_nodes=claimant.owner.uid in plan.selected,
                missing_peer_configs=references - known,
                conflicting=plan.losers.get(claimant.owner.uid, set()),
            )
            yield from self._status(
                self._kinds.cluster_config, config, stands, bgp_cluster.CLUSTER_CONDITIONS, now
            )

    def _peer_statuses(self, now: float) -> Iterator[Action]:
        secrets = self._cache.objects(forms.SECRET)
        for config in self._cache.objects(self._kinds.peer_config).values():
            name = config.spec.auth_secret_ref
            is_missing = bool(name) and Key(self._options.secrets_namespace, name) not in secrets
            stands = bgp_cluster.peer_stands(name if is_missing else None)
            yield from self._status(self._kinds.peer_config, config, stands, bgp_cluster.PEER_CONDITIONS, now)

    def _status(
        self,
        kind: Kind,
        config: bgp_forms.ClusterConfig | bgp_forms.PeerConfig,
        stands: Iterable[conditions.Stand],
        owned: frozenset[str],
        now: float,
    ) -> Iterator[Action]:
        wanted, metadata = tuple(stands), config.metadata
        item = (kind, metadata.key)
        if conditions.same(config.status.conditions, wanted, owned, metadata.generation):
            self._said.pop(item, None)
            return
        # Definitions older than ours may have no status, or no conditions in it: once is enough.
        saying = (metadata.uid, metadata.generation, wanted)
        if self._said.get(item) == saying:
            return
        self._said[item] = saying
        rendered = conditions.render(config.status.conditions, wanted, metadata.generation, now)
        body = conditions.status_apply(kind, metadata, {"conditions": rendered})
        yield Apply(kind=kind, key=metadata.key, body=body, subresource="status")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Who has which node, and who would like to."""

    holders: dict[str, bgp_cluster.Owner]
    """Node name → whose configuration it has."""
    losers: dict[str, set[str]]
    """Uid of a configuration → the names of those that have nodes it selects."""
    selected: set[str]
    """Uids of cluster configurations that select any node."""


def _complaint(kind: Kind, of: forms.Metadata, reason: str, message: str) -> EmitEvent:
    return EmitEvent(
        kind=kind, key=of.key, uid=of.uid, severity=Severity.WARNING, reason=reason, message=message
    )


def _told(node: forms.Node | None) -> tuple[object, ...]:
    """What of a Node matters to BGP configuration."""
    if node is None:
        return ()
    return node.metadata.uid, node.metadata.labels, node.metadata.annotations


def _owned(config: bgp_forms.NodeConfig, owner: bgp_cluster.Owner) -> bool:
    reference = bgp_cluster.owner_of(config)
    return reference is not None and (reference.kind, reference.uid) == (owner.kind.kind, owner.uid)
