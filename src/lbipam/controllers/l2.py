"""Addressed Services and Leases → addresses announced here.

    policies + Services + endpoints ─▶ the candidates for each address ─┐
    Nodes + interfaces ───────────────▲                                 ├─▶ election ─▶ {interface: addresses}
    Leases ───────────────────────────┴─────────────────────────────────┘

What concerns one Service is computed for that Service; only policies, Nodes and interfaces concern all. This
file sends no frame and renews no Lease.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import assert_never

from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.endpoints import SLICE_KINDS, EndpointIndex
from lbipam.controllers.host import Carried
from lbipam.controllers.l2_guard import Guard, Hearing
from lbipam.controllers.ports import EmitEvent, Severity
from lbipam.core.l2 import announcements, election, interfaces
from lbipam.core.l2.announcements import Stage
from lbipam.core.l2.election import Candidates, Election, Lease
from lbipam.core.l2.guardian import Beat
from lbipam.kube import forms, l2
from lbipam.kube.kinds import Key, Kind
from lbipam.kube.l2 import Address
from lbipam.kube.selectors import service_labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the administrator chose, and where the agent runs."""

    node: str
    timing: election.Timing
    namespace: str = "kube-system"
    """Where the Leases are."""
    slices: Kind = forms.ENDPOINT_SLICE
    """The version of EndpointSlices that the server has."""

    @property
    def watched(self) -> tuple[Kind, ...]:
        """The kinds that are looked at."""
        return l2.ANNOUNCEMENT_POLICY, forms.SERVICE, self.slices, forms.NODE, forms.LEASE


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What this node should do now."""

    addresses: Mapping[str, frozenset[Address]]
    """Interface → the addresses to answer for on it; nothing at or after `valid_until`."""
    handed_over: AbstractSet[Address] = frozenset()
    """Those new among them that another of our nodes answered for before, so that nobody need be asked."""
    valid_until: float = -inf
    told: l2.Told | None = None
    """What the next renewal tells, once this is done; None: there must be none yet."""
    must_publish: bool = False
    """Whether the Lease is to be renewed at once, because others wait for what it tells."""
    to_end: Mapping[str, str] = field(default_factory=dict)
    """Nodes that are dead, and the resourceVersion of the Lease to end for each."""
    look_again_at: float = inf


NOTHING = Wanted(addresses={})


_GUARDED = 2.0
"""A Lease whose end need not be waited for lasts, and is renewed after, so many times as long."""


class Direction(Enum):
    """Which way an address moves between nodes."""

    HERE = "here"
    AWAY = "away"


class L2Reconciler:
    """Who should announce what, as seen from one node."""

    def __init__(self, cache: Cache, options: Options, now: float) -> None:
        self._cache = cache
        self._options = options
        self.guard = Guard(options.node, now)
        self._election = Election(node=options.node, timing=options.timing)
        self._endpoints = EndpointIndex()
        self._policies: dict[str, l2.Policy] = {}
        self._nodes: dict[str, Mapping[str, str]] = {}
        self._ready: set[str] = set()
        self._own_addresses: dict[str, frozenset[Address]] = {}
        self._of_nodes: frozenset[Address] = frozenset()
        """The addresses of the nodes themselves: a Service may show one, but its node answers for it."""
        self._interfaces: dict[str, l2.Interfaces] = {}
        self._carried: Carried | None = None
        self._claims = l2.Claims()
        self._contested: set[tuple[str, Address]] = set()
        """Interface and address, where another host there had it when we were to answer for it last."""
        self._echo: Lease | None = None
        """Our own Lease, where the election has yet to see it: after all that a list tells beside it, which is in
        the order of names, so that it hides no claim that was written before it."""
        self._published: l2.Told | None = None
        self._eligible: dict[frozenset[str], frozenset[str]] = {}
        self._announced: dict[Key, Mapping[Address, frozenset[str]]] = {}
        self._sharers: dict[Address, set[Key]] = {}
        self._held: AbstractSet[Address] = frozenset()
        self._unplaced: AbstractSet[Address] = frozenset()
        """Those held that have been put on no interface since they came."""
        self._interfaces_of: dict[Address, frozenset[str]] = {}
        self._wanted: dict[str, frozenset[Address]] = {}
        self._moves: Counter[Direction] = Counter()
        self._stale_services: set[Key] = set()
        self._is_stale = True

    # --- what has happened --------------------------------------------------------------------------------

    def observe(self, change: Change, now: float) -> None:
        """Take a change of any watched object in; Leases in the order of the watch."""
        if change.kind == forms.SERVICE:
            self._stale_services.add(change.key)
        elif change.kind in SLICE_KINDS:
            self._stale_services |= self._endpoints.observe(change)
        elif change.kind == forms.NODE:
            self.guard.observe_node(change)
            self._observe_node(change)
        elif change.kind == forms.LEASE and change.key.namespace == self._options.namespace:
            self._observe_lease(change, now)
        elif change.kind == l2.ANNOUNCEMENT_POLICY:
            self._observe_policy(change)

    def _observe_policy(self, change: Change) -> None:
        before = self._policies.pop(change.key.name, None)
        policy = l2.read_policy(change.after).policy if change.after is not None else None
        if policy is not None:
            self._policies[change.key.name] = policy
        self._is_stale |= before != policy

    def _observe_node(self, change: Change) -> None:
        name, node = change.key.name, change.after
        before = self._nodes.pop(name, None), name in self._ready
        if node is not None and l2.may_announce(node):
            self._nodes[name] = node.metadata.labels or {}
        if node is not None and l2.is_ready(node):
            self._ready.add(name)
        else:
            self._ready.discard(name)
        self._is_stale |= before != (self._nodes.get(name), name in self._ready)
        self._observe_addresses(name, node)

    def _observe_addresses(self, name: str, node: forms.Node | None) -> None:
        before = self._own_addresses.pop(name, frozenset())
        if node is not None:
            self._own_addresses[name] = frozenset(l2.own_addresses(node))
        if before != self._own_addresses.get(name, frozenset()):
            self._of_nodes = frozenset().union(*self._own_addresses.values())
            self._is_stale = True

    def _observe_lease(self, change: Change, now: float) -> None:
        if change.after is None:
            self._forget(l2.node_of(change.key), now)
            return
        reading = l2.read_lease(change.after)
        match reading:
            case l2.NodeLease(lease=lease, interfaces=found):
                self.guard.observe_lease(reading)
                if lease.node == self._options.node:
                    self._echo = lease
                else:
                    self._election.saw(lease, now)
                    self._learn_interfaces(lease.node, found)
            case l2.Released(node=node):
                self.guard.observe_lease(reading)
                if node != self._options.node:
                    self._election.released(node, now)
            case None:
                pass

    def _forget(self, node: str, now: float) -> None:
        """A Lease that is deleted says nothing of its owner, which may live, and is counted out by time."""
        self._election.tick(now)
        if node not in self._election.view:
            self._election.released(node, now)
            self.guard.forget(node)
            self._interfaces.pop(node, None)

    def see(self, every: Mapping[int, interfaces.Interface]) -> None:
        """The node's interfaces, by index, are these now."""
        self._learn_interfaces(self._options.node, _usable(every))

    def _learn_interfaces(self, node: str, found: l2.Interfaces) -> None:
        if self._interfaces.get(node, l2.NO_INTERFACES) != found:
            self._interfaces[node] = found
            self._is_stale = True

    def carry(self, carried: Carried, news: AbstractSet[Key]) -> None:
        """The node carries the traffic of these addresses; until first told, it need not, for others do.

        So an address is announced only once its rules stand.

        Args:
            carried: By Service; it is looked at later, too.
            news: The Services of which it tells otherwise than before.
        """
        self._stale_services |= news if self._carried is not None else carried.keys() | self._announced.keys()
        self._carried = carried

    def heard(self, event: announcements.Event) -> None:
        """Take in what has happened on the wire: who holds an address next must know whether it was ours."""
        match event:
            case announcements.Conflict(interface=interface, address=address, stage=Stage.CONFLICT):
                self._contested.add((interface, address))
            case announcements.Announced(interface=interface, address=address):
                self._contested.discard((interface, address))
            case _:
                pass

    def sends(self, told: l2.Told, now: float) -> None:
        """A renewal that tells this is about to be sent."""
        self.guard.naming(told.guardian)
        self._election.bound(self.guard.holds_until, now)

    def renewed(self, version: str, told: l2.Told, started_at: float, now: float) -> None:
        """The server has accepted a renewal that was sent at `started_at` and told this."""
        self._published = told
        self.guard.named(told.guardian, version)
        self._election.bound(self.guard.holds_until, now)
        self._election.renewed(
            version=version,
            word=told.claims.word,
            started_at=started_at,
            now=now,
            timing=self._timing(told.guardian),
        )

    def _timing(self, guardian: str) -> election.Timing:
        return self._options.timing.times(_GUARDED) if guardian else self._options.timing

    def promised(self, guardian: str, number: int, now: float) -> None:
        """Our guardian has answered a beat."""
        self.guard.promised(guardian, number, now)
        self._election.bound(self.guard.holds_until, now)

    def beat(self, now: float) -> tuple[Hearing, Beat] | None:
        """The next beat to our guardian, one every `guardian.BEAT_SECONDS`; None if there is nobody."""
        return self.guard.beat(self._election.view, now)

    # --- what follows -------------------------------------------------------------------------------------

    def _to_tell(self, now: float) -> l2.Told:
        own = self._interfaces.get(self._options.node, l2.NO_INTERFACES)
        if self._claims.word != self._election.word:
            self._claims = l2.pack(self._election.word, self._election.claims)
        self._contested = {one for one in self._contested if one[1] in self.holders}
        guardian = self.guard.to_name(now)
        return l2.Told(
            duration_seconds=self._timing(guardian).duration_seconds,
            interfaces=tuple(sorted(own.names)),
            chosen_interfaces=tuple(sorted(own.chosen)),
            claims=self._claims,
            contested=l2.pack(0, {address for _, address in self._contested}),
            guardian=guardian,
            port=self.guard.port,
            token=self.guard.token,
        )

    def left_behind(self) -> tuple[forms.Lease, ...]:
        """The Leases of nodes that are no more, if it falls to this node to remove them: the first that lives.

        A Node that is deleted while its agent lives loses nothing.
        """
        live = self._election.view
        if not self._cache.has_synced(*self._options.watched) or self._options.node != min(live):
            return ()
        nodes = {key.name for key in self._cache.objects(forms.NODE)} | live
        return tuple(
            lease
            for key, lease in self._cache.objects(forms.LEASE).items()
            if key.namespace == self._options.namespace and (node := l2.node_of(key)) and node not in nodes
        )

    def reconcile(self, now: float) -> Wanted:
        """What to answer for; nothing until all kinds have synced."""
        if not self._cache.has_synced(*self._options.watched):
            return NOTHING
        if self._echo is not None:
            self._election.saw(self._echo, now)
            self._echo = None
        touched = self._refresh(now)
        self._election.bound(self.guard.holds_until, now)
        held = self._election.held
        gained, lost = held - self._held, self._held - held
        self._count_moves(gained, lost)
        placed = self._place(touched | gained | lost, held)
        # On an interface that comes later another host may have it, whoever answered elsewhere before.
        first_placed = placed & (self._unplaced | gained)
        self._held, self._unplaced = held, (self._unplaced | gained) & held - placed
        told, live = self._to_tell(now), self._election.view
        return Wanted(
            addresses=dict(self._wanted),
            handed_over=frozenset(filter(self._election.was_elsewhere, first_placed)),
            valid_until=self._election.valid_until,
            told=told,
            must_publish=self._published != told,
            to_end=self.guard.to_end(live, now),
            look_again_at=min(self._election.wake_at(), self.guard.wake_at(live, now)),
        )

    def _count_moves(self, gained: Iterable[Address], lost: Iterable[Address]) -> None:
        self._moves[Direction.HERE] += sum(map(self._election.was_elsewhere, gained))
        self._moves[Direction.AWAY] += sum(
            self.holders.get(address) not in (None, self._options.node) for address in lost
        )

    @property
    def valid_until(self) -> float:
        """When the last accepted renewal ends."""
        return self._election.valid_until

    @property
    def is_guarded(self) -> bool:
        """Whether the Lease, as accepted last, names a guardian."""
        return self._published is not None and bool(self._published.guardian)

    @property
    def moves(self) -> Mapping[Direction, int]:
        """How many addresses have come here from other nodes, and gone from here to others."""
        return {way: self._moves[way] for way in Direction}

    @property
    def holders(self) -> Mapping[Address, str | None]:
        """Which node announces each address, as seen from here."""
        return self._election.holders

    def services_on(self, address: Address) -> tuple[Key, ...]:
        """The Services that have an address announced."""
        return tuple(sorted(self._sharers.get(address, ())))

    def tell(self, event: announcements.Event) -> tuple[EmitEvent, ...]:
        """What the users of an address should read of what happened to it on the wire."""
        match event:
            case announcements.Announced(interface=interface, address=address):
                message = f"Node {self._options.node} announces {address} on {interface}"
                return tuple(self._events(address, Severity.NORMAL, "Announced", message))
            case announcements.Conflict(interface=interface, address=address, rival=rival):
                message = f"{rival.hex(':')} on {interface} of node {self._options.node} claims {address} too"
                return tuple(self._events(address, Severity.WARNING, "AddressConflict", message))
            case announcements.GroupRefused(interface=interface, address=address, why=why):
                message = (
                    f"Node {self._options.node} could not join the group of {address} on {interface}, so that "
                    f"switches may keep requests from it: {why}"
                )
                return tuple(self._events(address, Severity.WARNING, "GroupRefused", message))
            case announcements.InterfaceLost() | announcements.InterfaceReady():
                return ()
            case _:
                assert_never(event)

    def _events(self, address: Address, severity: Severity, reason: str, message: str) -> Iterator[EmitEvent]:
        services = self._cache.objects(forms.SERVICE)
        for key in self.services_on(address):
            uid = services[key].metadata.uid if key in services else ""
            yield EmitEvent(
                kind=forms.SERVICE, key=key, uid=uid, severity=severity, reason=reason, message=message
            )

    # --- candidates ---------------------------------------------------------------------------------------

    def _refresh(self, now: float) -> set[Address]:
        """Nominate the candidates anew where anything has changed; the addresses that were looked at."""
        services = self._cache.objects(forms.SERVICE)
        concerned: Iterable[Key] = self._stale_services
        if self._is_stale:
            self._eligible.clear()
            concerned = services.keys() | self._announced.keys()
        addresses: set[Address] = set()
        for key in concerned:
            addresses |= self._refresh_service(key, services.get(key))
        self._election.want({address: self._candidates_for(address) for address in addresses}, now)
        self._is_stale = False
        self._stale_services.clear()
        return addresses

    def _refresh_service(self, key: Key, service: forms.Service | None) -> set[Address]:
        before = self._announced.pop(key, {})
        after = self._policies_by_address(service) if service is not None else {}
        for address in before.keys() - after.keys():
            self._sharers[address].discard(key)
        for address in after.keys() - before.keys():
            self._sharers.setdefault(address, set()).add(key)
        if after:
            self._announced[key] = after
        return before.keys() | after.keys()

    def _policies_by_address(self, service: forms.Service) -> Mapping[Address, frozenset[str]]:
        metadata = service.metadata
        labels = service_labels(metadata.labels, metadata.namespace, metadata.name)
        found: dict[Address, frozenset[str]] = {}
        for policy in self._policies.values():
            if not policy.services.matches(labels):
                continue
            for address in l2.announced_addresses(service, policy):
                if address not in self._of_nodes:
                    found[address] = found.get(address, frozenset()) | {policy.name}
        return found

    def _candidates_for(self, address: Address) -> Candidates | None:
        sharers = self._sharers.get(address)
        if not sharers:
            self._sharers.pop(address, None)
            return None
        return election.agreed(self._candidates_of(key, address) for key in sorted(sharers))

    def _candidates_of(self, key: Key, address: Address) -> Candidates:
        service = self._cache.objects(forms.SERVICE)[key]
        nodes = self._eligible_for(self._announced[key][address])
        if service.spec.external_traffic_policy == "Local":
            nodes &= self._endpoints.ready_nodes(key)
        return Candidates(nodes=nodes, preferred=l2.preferred_nodes(service) & nodes)

    def _eligible_for(self, policies: frozenset[str]) -> frozenset[str]:
        known = self._eligible.get(policies)
        if known is None:
            serving = frozenset(
                node
                for node, labels in self._nodes.items()
                if any(self._serves(self._policies[name], node, labels) for name in policies)
            )
            # Better an agent that lives where no kubelet reports than nobody.
            known = self._eligible[policies] = serving & self._ready or serving
        return known

    def _serves(self, policy: l2.Policy, node: str, labels: Mapping[str, str]) -> bool:
        found = self._interfaces.get(node, l2.NO_INTERFACES)
        return policy.nodes.matches(labels) and bool(policy.matching(found))

    # --- interfaces ---------------------------------------------------------------------------------------

    def _place(self, addresses: Iterable[Address], held: AbstractSet[Address]) -> AbstractSet[Address]:
        """Put these addresses on the interfaces they belong on, or take them off; those put on one."""
        own = self._own_interfaces()
        coming: dict[str, set[Address]] = {}
        going: dict[str, set[Address]] = {}
        for address in addresses:
            before = self._interfaces_of.pop(address, frozenset())
            after = self._interfaces_for(address, own) if address in held else frozenset()
            if after:
                self._interfaces_of[address] = after
            for interface in after - before:
                coming.setdefault(interface, set()).add(address)
            for interface in before - after:
                going.setdefault(interface, set()).add(address)
        for interface in coming.keys() | going.keys():
            known = self._wanted.pop(interface, frozenset())
            wanted = (known - going.get(interface, set())) | coming.get(interface, set())
            if wanted:
                self._wanted[interface] = wanted
        return frozenset().union(*coming.values())

    def _own_interfaces(self) -> Mapping[str, frozenset[str]]:
        """Policy → the interfaces of this node that it is for."""
        labels = self._nodes.get(self._options.node, {})
        own = self._interfaces.get(self._options.node, l2.NO_INTERFACES)
        return {
            policy.name: policy.matching(own)
            for policy in self._policies.values()
            if policy.nodes.matches(labels)
        }

    def _interfaces_for(self, address: Address, own: Mapping[str, frozenset[str]]) -> frozenset[str]:
        names = {
            name
            for key in self._sharers[address]
            if self._carried is None or address in self._carried.get(key, ())
            for name in self._announced[key][address]
        }
        return frozenset().union(*(own.get(name, frozenset()) for name in names))


def _usable(every: Mapping[int, interfaces.Interface]) -> l2.Interfaces:
    """The interfaces that could answer now: those that a pattern may name, and those chosen without one."""
    ready = {one.name for one in every.values() if one.is_ready}
    return l2.Interfaces(names=interfaces.nameable(every) & ready, chosen=interfaces.chosen(every) & ready)
