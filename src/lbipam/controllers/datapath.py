"""Addressed Services and endpoints → the ruleset wanted here.

What one Service answers with is computed when that Service or its endpoints change, and kept; what the node
is concerns all of them. This file writes no rules.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.endpoints import SLICE_KINDS, EndpointIndex
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
        self._refused: tuple[IPNetwork, ...] = ()
        self._services: dict[Key, services.Service] = {}
        self._claims: dict[str, tuple[frontends.Frontend, ...]] = {}
        self._problems: dict[Key, tuple[str, ...]] = {}
        self._stale: set[Key] = set()
        self._is_stale = True
        """Whether every Service must be looked at again."""
        self._is_due = True

    def observe(self, change: Change) -> None:
        """Take a change of any watched object in."""
        if change.kind == forms.SERVICE:
            self._stale.add(change.key)
        elif change.kind in SLICE_KINDS:
            self._stale |= self._endpoints.observe(change)
        elif change.kind == forms.NODE and change.key.name == self._options.node:
            # A node that is gone from the API still carries the traffic that reaches it.
            node = datapath.read_node(change.after) if change.after is not None else self._node
            self._is_stale |= node != self._node
            self._node = node

    def refuse(self, blocks: Iterable[IPNetwork]) -> None:
        """Packets for these blocks are refused where no Service answers."""
        refused = tuple(blocks)
        self._is_due |= refused != self._refused
        self._refused = refused

    def reconcile(self) -> ruleset.Ruleset | None:
        """The whole ruleset wanted; None if it is as before, or not all kinds have synced."""
        if not self._cache.has_synced(*self._options.watched):
            return None
        known = self._cache.objects(forms.SERVICE)
        if self._is_stale:
            self._claims.clear()
            self._stale.update(known, self._services)
        changed = [self._refresh(key, known.get(key)) for key in self._stale]
        is_due = self._is_due or self._is_stale or any(changed)
        self._stale.clear()
        self._is_stale = self._is_due = False
        if not is_due:
            return None
        return ruleset.Ruleset(node=self._node, services=dict(self._claims), refused=self._refused)

    def _refresh(self, key: Key, written: forms.Service | None) -> bool:
        """Look at one Service again; whether it answers otherwise than before."""
        reading = datapath.Reading(service=None)
        if written is not None:
            slices = self._endpoints.slices(key).values()
            reading = datapath.read_service(written, slices, self._options.node)
        self._problems.pop(key, None)
        if reading.problems:
            self._problems[key] = reading.problems
        before = self._services.pop(key, None)
        if reading.service is not None:
            self._services[key] = reading.service
        if before == reading.service and (str(key) in self._claims or before is None):
            return False
        self._claims.pop(str(key), None)
        if reading.service is not None:
            self._claims[str(key)] = frontends.frontends(reading.service, self._node)
        return True

    @property
    def carried(self) -> frozenset[Key]:
        """The Services that the last ruleset carries."""
        return frozenset(self._services)

    @property
    def problems(self) -> Mapping[Key, tuple[str, ...]]:
        """What of Services cannot be understood."""
        return self._problems

    def health_checks(self) -> Mapping[int, services.HealthCheck]:
        """`healthCheckNodePort` → what to answer there."""
        return {
            service.health_check_node_port: services.health_check(service)
            for service in self._services.values()
            if service.health_check_node_port
        }
