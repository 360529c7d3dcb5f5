"""Addressed Services and endpoints → the ruleset wanted here.

What one Service answers with is computed when that Service or its endpoints change; what the node is concerns
all of them. The change of one costs the same however many there are. This file writes no rules.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.endpoints import SLICE_KINDS, EndpointIndex
from lbipam.controllers.host import Address, Carried
from lbipam.controllers.ports import EmitEvent, Severity
from lbipam.core.datapath import frontends, ruleset, services
from lbipam.core.datapath.services import IPNetwork
from lbipam.kube import datapath, forms
from lbipam.kube.kinds import Key, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Where the agent runs."""

    node: str
    slices: Kind = forms.ENDPOINT_SLICE
    """The version of EndpointSlices that the server has."""
    cluster_blocks: tuple[IPNetwork, ...] = ()
    """Where the pods of all nodes have their addresses from, if not from `Node.spec.podCIDRs`."""

    @property
    def watched(self) -> tuple[Kind, ...]:
        """The kinds that are looked at."""
        return forms.SERVICE, self.slices, forms.NODE


class DatapathReconciler:
    """What this node should do with packets for Services."""

    def __init__(self, cache: Cache, options: Options) -> None:
        self._cache = cache
        self._options = options
        self._endpoints = EndpointIndex()
        self._node = services.Node()
        self._nodes: dict[str, tuple[Address, ...]] = {}
        """By name the addresses of every node."""
        self._node_addresses: tuple[Address, ...] | None = None
        """All of them; None: to be gathered anew."""
        self._refused: tuple[IPNetwork, ...] | None = None
        self._services: dict[Key, services.Service] = {}
        self._checked: dict[Key, tuple[int, services.HealthCheck]] = {}
        """`healthCheckNodePort` of those that have one, and what to answer there."""
        self._problems: dict[Key, tuple[str, ...]] = {}
        self._left_out: dict[Key, str] = {}
        self._untold: set[Key] = set()
        """Services with problems that have not been told."""
        self.outsider: Address | None = None
        """The first endpoint of a pod on this node whose address is from no known block, if any was met."""
        self._stale: set[Key] = set()
        self._is_stale = True
        """Whether every Service must be looked at again."""
        self._is_due = False
        """Whether something is wanted otherwise though no Service is."""
        self._moved: set[Key] = set()

    def observe(self, change: Change) -> None:
        """Take a change of any watched object in."""
        if change.kind == forms.SERVICE:
            self._stale.add(change.key)
        elif change.kind in SLICE_KINDS:
            self._stale |= self._endpoints.observe(change)
        elif change.kind == forms.NODE:
            self._see(change.key.name, change.after)

    def _see(self, name: str, written: forms.Node | None) -> None:
        node = services.Node()
        if written is not None:
            node = datapath.read_node(written, self._options.cluster_blocks)
        if self._nodes.pop(name, ()) != node.addresses:
            self._node_addresses = None
            self._is_due = True
        if node.addresses:
            self._nodes[name] = node.addresses
        # A node that is gone from the API still carries the traffic that reaches it.
        if name == self._options.node and written is not None:
            self._is_stale |= node != self._node
            self._node = node

    def refuse(self, blocks: Iterable[IPNetwork]) -> None:
        """Packets for these blocks are refused where no Service answers; until first told, for those that were."""
        refused = tuple(blocks)
        self._is_due |= refused != self._refused
        self._refused = refused

    def reconcile(self) -> ruleset.Update | None:
        """What is wanted otherwise than before; None if nothing is, or not all kinds have synced."""
        if not self._cache.has_synced(*self._options.watched):
            return None
        known = self._cache.objects(forms.SERVICE)
        if self._is_stale:
            self._stale.update(known, self._services)
        changed = {str(key): self._frontends(key) for key in self._stale if self._reread(key, known.get(key))}
        is_due = self._is_due or self._is_stale or bool(changed)
        self._stale.clear()
        self._is_stale = self._is_due = False
        if not is_due:
            return None
        if self._node_addresses is None:
            self._node_addresses = tuple(one for _, every in sorted(self._nodes.items()) for one in every)
        return ruleset.Update(
            node=self._node,
            services=changed,
            nodes=self._node_addresses,
            refused=self._refused,
        )

    def _frontends(self, key: Key) -> tuple[frontends.Frontend, ...]:
        service = self._services.get(key)
        return frontends.frontends(service, self._node) if service is not None else ()

    def _reread(self, key: Key, written: forms.Service | None) -> bool:
        """Look at one Service again; whether it may answer otherwise than before."""
        reading = datapath.Reading(service=None)
        if written is not None:
            slices = self._endpoints.slices(key).values()
            reading = datapath.read_service(written, slices, self._options.node)
        known_problems = self._problems.pop(key, ())
        if reading.problems:
            self._problems[key] = reading.problems
        if reading.problems != known_problems:
            self._untold.add(key)
        before, after = self._services.pop(key, None), reading.service
        self._checked.pop(key, None)
        if after is not None:
            self._services[key] = after
            if self.outsider is None and self._node.addresses:
                self.outsider = services.outsider(after, self._node)
            if after.health_check_node_port:
                self._checked[key] = after.health_check_node_port, services.health_check(after)
        if _addresses(before) != _addresses(after):
            self._moved.add(key)
        return before != after or (self._is_stale and after is not None)

    def carried(self) -> Carried:
        """What is carried once the last update stands."""
        return {key: self._addresses(key) for key in self._services}

    def newly_carried(self) -> Carried:
        """The same for Services with other addresses than when last asked; of those that are gone, none."""
        moved, self._moved = self._moved, set()
        return {key: self._addresses(key) for key in moved}

    def _addresses(self, key: Key) -> tuple[Address, ...]:
        return _addresses(self._services.get(key) if key not in self._left_out else None)

    def leave_out(self, refused: Mapping[str, str]) -> None:
        """Of these Services no rules stand, for what the kernel says; of all others they do."""
        left_out = {Key(*name.split("/")): problem for name, problem in refused.items()}
        changed = dict(left_out.items() ^ self._left_out.items()).keys()
        self._moved |= changed
        self._untold |= changed
        self._left_out = left_out

    @property
    def problems(self) -> Mapping[Key, tuple[str, ...]]:
        """What of Services cannot be understood or done."""
        problems = dict(self._problems)
        for key, problem in self._left_out.items():
            problems[key] = (*problems.get(key, ()), f"No rules stand for it: {problem}")
        return problems

    def take_complaints(self) -> list[EmitEvent]:
        """The problems of Services that have come up since last asked."""
        untold, self._untold = self._untold, set()
        known, problems = self._cache.objects(forms.SERVICE), self.problems if untold else {}
        return [
            EmitEvent(
                kind=forms.SERVICE,
                key=key,
                uid=known[key].metadata.uid,
                severity=Severity.WARNING,
                reason="NotCarriedAsWritten",
                message=problem,
            )
            for key in sorted(untold & known.keys())
            for problem in problems.get(key, ())
        ]

    @property
    def speaks_for_all(self) -> bool:
        """Whether it is this node that tells users what every node finds: the first by name."""
        return self._options.node == min(self._nodes, default=None)

    def health_checks(self) -> Mapping[int, services.HealthCheck]:
        """`healthCheckNodePort` → what to answer there; where no rules stand, nothing listens."""
        return dict(told for key, told in self._checked.items() if key not in self._left_out)


def _addresses(service: services.Service | None) -> tuple[Address, ...]:
    return service.addresses if service is not None else ()
