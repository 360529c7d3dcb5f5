"""Services and pools → addresses in status.

    Phase      A Service is looked at, and …
    ─────────  ───────────────────────────────────────────────────────────────────────────────
    learning   nothing: not every kind has synced
    importing  what its status shows is claimed, the oldest Services first
    following  the same: somebody else leads, and this one keeps its ledger warm
    leading    a decision is made, claimed, and written

Nothing is given out before everything is imported, and an address that a Service gives up is claimed until
its status no longer shows it. Work items are (kind, key); one is in hand until all its writes are answered,
so that what is decided next is decided on the answer. This file does no I/O; `loop` carries it.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.ports import (
    Action,
    Apply,
    Conflict,
    ConflictCause,
    Create,
    Delete,
    EmitEvent,
    Gone,
    JsonPatch,
    MergePatch,
    Refused,
    Severity,
    WriteResult,
    Written,
)
from lbipam.controllers.workqueue import WorkQueue
from lbipam.core.ipam import allocation, services
from lbipam.core.ipam.addresses import Address, Range, family_of, format_address
from lbipam.core.ipam.allocation import ChangeAmongSharers, ChangeAt, Decision, FreeAddressIn, RoomInQuota
from lbipam.core.ipam.ledger import Ledger
from lbipam.core.ipam.pools import Pool
from lbipam.core.ipam.reservations import Reservation
from lbipam.core.ipam.services import ServiceKey
from lbipam.core.ipam.waiting import Waiting
from lbipam.kube import forms, ipam, ipam_status
from lbipam.kube.conditions import Stand, Status
from lbipam.kube.ipam import IP_RESERVATION, Managed, PoolReading, Responsibility
from lbipam.kube.kinds import Key, Kind

Item: TypeAlias = tuple[Kind, Key]

_POOL_STATUS_INTERVAL = 1.0
_NEWER_VERSION_SECONDS = 1.0
_NEARLY_FULL = 0.9


class Phase(Enum):
    """What becomes of a Service that is looked at."""

    LEARNING = "learning"
    IMPORTING = "importing"
    FOLLOWING = "following"
    LEADING = "leading"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What there is, for metrics and status."""

    services_matching: int
    services_unsatisfied: int
    conflicting_pools: int


class Ipam:
    """The IPAM reconciler: its ledger, who waits, and what it has in mind to write.

    `queue` is where it puts the items that it wants to look at.
    """

    def __init__(
        self,
        *,
        cache: Cache,
        queue: WorkQueue[Item],
        pool_kind: Kind,
        responsibility: Responsibility,
        identity: str,
    ) -> None:
        self.cache = cache
        self.queue = queue
        self.pool_kind = pool_kind
        self.responsibility = responsibility
        self.identity = identity
        self.phase = Phase.LEARNING
        self.ledger = Ledger()
        self.waiting = Waiting()
        self.readings: dict[str, PoolReading] = {}
        """By name: the pools as last understood."""
        self.unsatisfied: dict[ServiceKey, str] = {}
        """The Services that do not have all they ask for, with the reason of their condition."""
        self._managed: set[ServiceKey] = set()
        self._to_import: set[Item] = set()
        self._lead_when_imported = False
        self._untouched: dict[Item, str] = {}
        """Waiting Services that a former leader may still be writing to, with the version it may know."""
        self._deferred: set[Item] = set()
        """Services to be granted something once none is untouched."""
        self._pool_written: dict[str, float] = {}
        self._news: dict[Item, list[EmitEvent]] = {}
        """What users are told once the write in hand is done."""
        self._held_back: dict[str, float] = {}
        """By name: reservations for deleted Services under way to the API, with their end."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that it must know before it acts."""
        return self.pool_kind, IP_RESERVATION, forms.NAMESPACE, forms.SERVICE

    # --- what happens ----------------------------------------------------------------------------------

    def synced(self) -> None:
        """Every kind is known: read pools and quotas, then import."""
        if self.phase is not Phase.LEARNING or not self.cache.has_synced(*self.kinds):
            return
        self.readings = {key.name: ipam.read_pool(pool) for key, pool in self._pools().items()}
        reservations = [ipam.read_reservation(one).reservation for one in self._reservations().values()]
        self.ledger.space.place_all((reading.pool for reading in self.readings.values()), reservations)
        for namespace in self.cache.objects(forms.NAMESPACE).values():
            self._set_quota(namespace)
        self.queue.clear()
        items = self._by_age(self.cache.objects(forms.SERVICE))
        self._to_import = set(items)
        self.phase = Phase.IMPORTING
        self.queue.add_all(items)
        self._imported()

    def lead(self, *, takeover: bool) -> None:
        """Decide and write from now on.

        Args:
            takeover: Another leader may have a write under way: before the first grant, every waiting Service
                is written to, so that its write comes too late.
        """
        self._lead_when_imported = True
        if self.phase is Phase.FOLLOWING:
            self._begin_leading()
        if takeover:
            self._untouched = {
                (forms.SERVICE, key): service.metadata.resource_version
                for key, service in self.cache.objects(forms.SERVICE).items()
                if not self._looks_satisfied(service)
            }

    def follow(self) -> None:
        """Write nothing from now on; forget what was decided but not written."""
        self._lead_when_imported = False
        if self.phase is not Phase.LEADING:
            return
        self.phase = Phase.LEARNING
        self.ledger, self.waiting = Ledger(), Waiting()
        self._untouched, self._deferred = {}, set()
        self._managed, self.unsatisfied = set(), {}
        self.synced()

    def observe(self, change: Change) -> None:
        """Take note of a changed object, and of what should be looked at because of it."""
        if self.phase is Phase.LEARNING:
            return
        item = (change.kind, change.key)
        if change.kind is forms.SERVICE:
            self._service_changed(item, change)
        elif change.kind is self.pool_kind:
            self._pool_changed(change)
        elif change.kind is IP_RESERVATION:
            self._reservation_changed(change)
        elif change.kind is forms.NAMESPACE:
            self._namespace_changed(change)

    def reconcile(self, item: Item, now: float) -> Sequence[Action]:
        """Look at one object as it is, and say what to do.

        Args:
            item: Which.
            now: Seconds since 1970.
        """
        kind, key = item
        if kind is forms.SERVICE:
            actions = self._reconcile_service(item, now)
            if self.phase is Phase.IMPORTING:
                self._to_import.discard(item)
                self._imported()
            return actions
        if self.phase is not Phase.LEADING:
            return ()
        if kind is IP_RESERVATION:
            return self._reconcile_reservation(key, now)
        return self._reconcile_pool(key, now)

    def answered(self, item: Item, result: WriteResult, now: float) -> Sequence[Action]:
        """Take note of what became of a write; the item is still in hand."""
        news = self._news.pop(item, [])
        if isinstance(result, Written):
            return news
        if isinstance(result, Conflict) and result.cause is ConflictCause.OWNED:
            return self._stand_back(item, result)
        if isinstance(result, Refused):
            self.queue.back_off(item, now)
        elif isinstance(result, Conflict | Gone):
            # The newer version is on its way, and looks again by itself; this is for when it is not.
            self.queue.add_at(item, now + _NEWER_VERSION_SECONDS)
        return ()

    # --- phases ----------------------------------------------------------------------------------------

    def _imported(self) -> None:
        if self._to_import:
            return
        self.phase = Phase.FOLLOWING
        if self._lead_when_imported:
            self._begin_leading()

    def _begin_leading(self) -> None:
        self.phase = Phase.LEADING
        known = self.cache.objects(forms.SERVICE)
        waiting = [key for key, service in known.items() if not self._looks_satisfied(service)]
        self.queue.add_all(self._by_age(waiting))
        self.queue.add_all((forms.SERVICE, key) for key in known)
        self.queue.add_all((self.pool_kind, key) for key in self._pools())
        self.queue.add_all((IP_RESERVATION, key) for key in self._reservations())

    def _by_age(self, keys: Iterable[Key]) -> list[Item]:
        """Services in the order in which they are served: the oldest first."""
        known = self.cache.objects(forms.SERVICE)
        ordered = sorted(keys, key=lambda key: (known[key].metadata.creation_timestamp or "", key))
        return [(forms.SERVICE, key) for key in ordered]

    def _looks_satisfied(self, service: forms.Service) -> bool:
        """Whether nobody would give it anything, as far as its status tells."""
        return not self.responsibility.covers(service.spec) or ipam_status.says_satisfied(service)

    # --- Services --------------------------------------------------------------------------------------

    def _service_changed(self, item: Item, change: Change) -> None:
        version = self._untouched.get(item)
        if version is not None and (
            change.after is None or change.after.metadata.resource_version != version
        ):
            self._touched(item)
        self.queue.add(item)

    def _touched(self, item: Item) -> None:
        del self._untouched[item]
        if not self._untouched:
            known = self.cache.objects(forms.SERVICE)
            self.queue.add_all(self._by_age(key for _, key in self._deferred if key in known))
            self._deferred.clear()

    def _reconcile_service(self, item: Item, now: float) -> Sequence[Action]:
        service: forms.Service | None = self.cache.objects(forms.SERVICE).get(item[1])
        key = ServiceKey(*item[1])
        if service is None:
            self._forget(key, now)
            return ()
        reading = ipam.read_service(service, self.responsibility)
        if not isinstance(reading, Managed):
            return self._let_go(key, service)
        self._managed.add(key)
        self._import(reading, service)
        if self.phase is not Phase.LEADING:
            return ()
        if self._deferred and item in self._untouched:
            return self._touch(item, service, now)
        ours = self.ledger.claims_of(key)
        if not self.ledger.space.pools and not ours and not ipam_status.is_marked(service):
            # Dormant until there is a pool, as Cilium is.
            return ()
        decision = allocation.decide(reading.request, self.ledger)
        if decision.granted and self._untouched:
            self._deferred.add(item)
            self.queue.add_all(self._untouched)
            return ()
        if ipam_status.says_satisfied(service) and self._changes(service, decision, ours):
            # Addresses come and go only while the status tells that the Service waits: so whoever leads next
            # knows from the statuses alone to which Services such a write may still be under way.
            body = ipam_status.service_about_to_change(service, ours, now)
            return [Apply(kind=forms.SERVICE, key=item[1], body=body, subresource="status")]
        return self._carry_out(reading, service, decision, ours, now)

    def _import(self, reading: Managed, service: forms.Service) -> None:
        """Claim what the status shows, as far as the Service may hold it; note how it shares now."""
        request = reading.request
        shown = ipam.shown_addresses(service)
        claims = self.ledger.claims_of(request.key)
        for address in shown:
            if address not in claims and self._importable(request, address):
                self.ledger.claim(request.key, address, request.sharing)
        if self.phase is not Phase.LEADING:
            for address in claims:
                if address not in shown:
                    self._release(request.key, address)
        for address, was in self.ledger.refresh(request.key, request.sharing):
            self._changed_at(address, was.key)

    def _importable(self, request: services.Service, address: Address) -> bool:
        if allocation.why_unlawful(request, address, self.ledger) is None:
            return True
        # Somebody else holds it who does not share: a contested claim keeps it from third parties until
        # this one's status no longer shows it.
        return self.ledger.is_held(address)

    @staticmethod
    def _changes(service: forms.Service, decision: Decision, ours: Sequence[Address]) -> bool:
        """Whether a decision gives the Service an address, or takes one away that its status shows."""
        going = {address for address in ours if address not in decision.addresses}
        return bool(decision.granted) or not going.isdisjoint(ipam.shown_addresses(service))

    def _carry_out(
        self,
        reading: Managed,
        service: forms.Service,
        decision: Decision,
        ours: Sequence[Address],
        now: float,
    ) -> Sequence[Action]:
        request = reading.request
        for address in decision.granted:
            self.ledger.claim(request.key, address, request.sharing)
            self._changed_at(address)
        self._note_waiting(request, decision)
        stand = ipam_status.service_stand(service, decision, reading.problems, ours)
        if stand.conditions[0].status is Status.TRUE:
            self.unsatisfied.pop(request.key, None)
        else:
            self.unsatisfied[request.key] = stand.conditions[0].reason
        if stand.stands:
            return self._settle(request.key, service, decision)
        if stand.conditions_stand and not decision.addresses:
            # An apply has said so already, and the list is still there: it is owned by another manager too.
            return self._remove_ingress(service, ours)
        body = ipam_status.service_apply(service, stand, now)
        key = Key(*request.key)
        self._news[(forms.SERVICE, key)] = list(self._service_events(service, reading, decision))
        return [Apply(kind=forms.SERVICE, key=key, body=body, subresource="status")]

    def _settle(self, key: ServiceKey, service: forms.Service, decision: Decision) -> Sequence[Action]:
        """The status is right: let go of what it no longer shows."""
        shown = ipam.shown_addresses(service)
        gone = [claim for claim in self.ledger.claims_of(key) if claim not in decision.addresses]
        for address in gone:
            if address not in shown:
                self._release(key, address)
        left = [address for address in gone if address in shown]
        return self._remove_ingress(service, left) if left else ()

    def _remove_ingress(self, service: forms.Service, addresses: Sequence[Address]) -> Sequence[Action]:
        operations = ipam_status.ingress_removal(service, addresses)
        metadata = service.metadata
        return [JsonPatch(kind=forms.SERVICE, key=metadata.key, operations=operations, subresource="status")]

    def _let_go(self, key: ServiceKey, service: forms.Service) -> Sequence[Action]:
        """The Service is not ours (any more): take away what we gave it, and only that."""
        self._managed.discard(key)
        self.unsatisfied.pop(key, None)
        self._leave_queue(key)
        claims = self.ledger.claims_of(key)
        if self.phase is not Phase.LEADING:
            for address in claims:
                self._release(key, address)
            return ()
        shown = ipam.shown_addresses(service)
        for address in claims:
            if address not in shown:
                self._release(key, address)
        left = self.ledger.claims_of(key)
        if ipam_status.is_marked(service):
            body = ipam_status.service_clear(service)
            return [Apply(kind=forms.SERVICE, key=service.metadata.key, body=body, subresource="status")]
        return self._remove_ingress(service, left) if left else ()

    def _forget(self, key: ServiceKey, now: float) -> None:
        """The Service is gone: its addresses are free, or kept for one of the same name for a while."""
        self._managed.discard(key)
        self.unsatisfied.pop(key, None)
        self._leave_queue(key)
        for address in self.ledger.claims_of(key):
            if self.phase is Phase.LEADING:
                self._hold_back(key, address, now)
            self._release(key, address)

    def _hold_back(self, key: ServiceKey, address: Address, now: float) -> None:
        """Reserve the address of a deleted Service, where its pool wants that and nobody shares it."""
        spaces = self.ledger.space.pools_of(address)
        seconds = max((space.pool.hold_released_seconds for space in spaces), default=0.0)
        if not seconds or len(self.ledger.holders_of(address)) > 1:
            return
        name = "released-" + format_address(address).replace(":", "-").replace(".", "-").strip("-")
        reserved = self.ledger.space.reservation_of(address)
        if reserved is not None and reserved.name != name:
            return
        reservation = Reservation(
            name=name,
            ranges=(Range(address, address),),
            service=key,
            reason="released when the Service was deleted",
        )
        self.ledger.space.reserve(reservation)
        self._held_back[name] = now + seconds
        self.queue.add((IP_RESERVATION, Key("", name)))

    def _touch(self, item: Item, service: forms.Service, now: float) -> Sequence[Action]:
        ours = self.ledger.claims_of(ServiceKey(*item[1]))
        body = ipam_status.service_touch(service, ours, self.identity, now)
        return [Apply(kind=forms.SERVICE, key=item[1], body=body, subresource="status")]

    def _stand_back(self, item: Item, conflict: Conflict) -> Sequence[Action]:
        """Another manager owns the ingress list: tell the user, and give up what was only granted."""
        service = self.cache.objects(item[0]).get(item[1])
        if service is None or item[0] is not forms.SERVICE:
            return ()
        shown = ipam.shown_addresses(service)
        key = ServiceKey(*item[1])
        for address in self.ledger.claims_of(key):
            if address not in shown:
                self._release(key, address)
        self._leave_queue(key)
        managers = ", ".join(conflict.managers) or "another field manager"
        return [
            self._event(
                service,
                Severity.WARNING,
                "Refused",
                f"The load balancer ingress is managed by {managers}; lbipam leaves it alone",
            )
        ]

    # --- who can be helped -----------------------------------------------------------------------------

    def _note_waiting(self, request: services.Service, decision: Decision) -> None:
        if not decision.refusals:
            self._leave_queue(request.key)
            return
        remedies = tuple(remedy for refusal in decision.refusals for remedy in refusal.remedies)
        before = self.waiting.remedies_of(request.key)
        self.waiting.wait(request.key, request.age, remedies)
        self._wake(set(before) - set(remedies))

    def _leave_queue(self, key: ServiceKey) -> None:
        """A Service waits no longer; what it was woken for may be there for the next in the queue."""
        remedies = self.waiting.remedies_of(key)
        self.waiting.leave(key)
        self._wake(remedies)

    def _wake(self, remedies: Iterable[allocation.Remedy]) -> None:
        """Look again at as many of those that wait as can be helped, the oldest first."""
        for remedy in remedies:
            helped = self.waiting.next(remedy, self._helps(remedy))
            self.queue.add_all((forms.SERVICE, Key(*key)) for key in helped)

    def _helps(self, remedy: allocation.Remedy) -> int | None:
        """How many of those that wait for it a remedy can help now; None if that takes a look at each."""
        match remedy:
            case FreeAddressIn(pool=name, family=family):
                space = self.ledger.space.pools.get(name)
                return space.giveable(family) if space is not None else 0
            case RoomInQuota(namespace=namespace):
                most = self.ledger.quotas.get(namespace)
                return None if most is None else max(most - len(self.ledger.held_in(namespace)), 0)
            case ChangeAt() | ChangeAmongSharers():
                return None

    def _release(self, key: ServiceKey, address: Address) -> None:
        sharing = self.ledger.release(key, address)
        self._changed_at(address, sharing.key)
        self._wake((RoomInQuota(key.namespace),))

    def _changed_at(self, address: Address, sharing_key: str = "") -> None:
        """A holder came, went, or shares otherwise: count anew, wake who waited for that."""
        spaces = self.ledger.space.pools_of(address)
        self.queue.add_all((self.pool_kind, Key("", space.pool.name)) for space in spaces)
        reservation = self.ledger.space.reservation_of(address)
        if reservation is not None:
            self.queue.add((IP_RESERVATION, Key("", reservation.name)))
        if not self.ledger.is_held(address):
            if reservation is not None and reservation.service is not None:
                self.queue.add((forms.SERVICE, Key(*reservation.service)))
            family = family_of(address)
            self._wake(FreeAddressIn(space.pool.name, family) for space in spaces)
        self._wake((ChangeAt(address),))
        if sharing_key:
            self._wake((ChangeAmongSharers(sharing_key),))

    def _wake_everyone_waiting(self) -> None:
        self.queue.add_all((forms.SERVICE, Key(*key)) for key in self.waiting)

    # --- pools -----------------------------------------------------------------------------------------

    def _pools(self) -> dict[Key, ipam.IPPool]:
        return dict(self.cache.objects(self.pool_kind))

    def _pool_changed(self, change: Change) -> None:
        name = change.key.name
        former = self.readings.get(name)
        if change.after is None:
            self.readings.pop(name, None)
            self.ledger.space.remove(name)
        else:
            reading = ipam.read_pool(change.after)
            self.queue.add((self.pool_kind, change.key))
            if former == reading:
                return
            self.readings[name] = reading
            self.ledger.space.place(reading.pool)
        if former is not None and self._takes_away(former.pool, self.readings.get(name)):
            self._look_at_holders(former.pool)
        if former is None and len(self.readings) == 1:
            # The first pool ends the dormancy.
            self._look_at_everyone()
        self._wake_everyone_waiting()
        self.queue.add_all((self.pool_kind, key) for key in self._pools())

    @staticmethod
    def _takes_away(former: Pool, now: PoolReading | None) -> bool:
        """Whether an edit may take a holder's right away."""
        if now is None or now.pool.selector != former.selector:
            return True
        return not {block.range for block in former.blocks} <= {block.range for block in now.pool.blocks}

    def _look_at_holders(self, former: Pool) -> None:
        ranges = sorted(block.range for block in former.blocks)
        for address, group in self.ledger.holdings():
            at = bisect_right(ranges, address, key=lambda range_: range_.first) - 1
            if at >= 0 and address <= ranges[at].last:
                self.queue.add_all((forms.SERVICE, Key(*key)) for key in group)

    def _look_at_everyone(self) -> None:
        self.queue.add_all(self._by_age(self.cache.objects(forms.SERVICE)))

    def _reconcile_pool(self, key: Key, now: float) -> Sequence[Action]:
        pool, space = self._pools().get(key), self.ledger.space.pools.get(key.name)
        if pool is None or space is None:
            self._pool_written.pop(key.name, None)
            return ()
        next_write = self._pool_written.get(key.name, 0.0) + _POOL_STATUS_INTERVAL
        if now < next_write:
            self.queue.add_at((self.pool_kind, key), next_write)
            return ()
        stands = ipam_status.pool_stands(self.readings[key.name], space)
        body = ipam_status.pool_apply(self.pool_kind, pool, stands, now)
        if body is None:
            return ()
        self._pool_written[key.name] = now
        self._news[(self.pool_kind, key)] = list(self._pool_events(pool, stands))
        return [Apply(kind=self.pool_kind, key=key, body=body, subresource="status")]

    # --- reservations and quotas -----------------------------------------------------------------------

    def _reservations(self) -> dict[Key, ipam.IPReservation]:
        return dict(self.cache.objects(IP_RESERVATION))

    def _reservation_changed(self, change: Change) -> None:
        item = (IP_RESERVATION, change.key)
        self.queue.add(item)
        spec_before = change.before.spec if change.before is not None else None
        spec_after = change.after.spec if change.after is not None else None
        if spec_before == spec_after:
            return
        former = self.ledger.space.unreserve(change.key.name)
        if former is not None:
            self._reservation_began_or_ended(former)
        if change.after is not None:
            self._held_back.pop(change.key.name, None)
            reservation = ipam.read_reservation(change.after).reservation
            self.ledger.space.reserve(reservation)
            self._reservation_began_or_ended(reservation)

    def _reservation_began_or_ended(self, reservation: Reservation) -> None:
        """Count the pools anew, and look at whom it is for and at those who wait for what it covers."""
        if reservation.service is not None:
            self.queue.add((forms.SERVICE, Key(*reservation.service)))
        if any(range_.size > 1 for range_ in reservation.ranges):
            self._wake_everyone_waiting()
            self.queue.add_all((self.pool_kind, key) for key in self._pools())
        for range_ in reservation.ranges:
            if range_.size == 1:
                self._changed_at(range_.first)

    def _reconcile_reservation(self, key: Key, now: float) -> Sequence[Action]:
        written: ipam.IPReservation | None = self.cache.objects(IP_RESERVATION).get(key)
        ends = self._held_back.get(key.name)
        if ends is not None:
            return self._write_held_back(key, written, ends)
        if written is None:
            return ()
        reading = ipam.read_reservation(written)
        active = reading.expires_at is None or now < reading.expires_at
        if reading.expires_at is not None and active:
            self.queue.add_at((IP_RESERVATION, key), reading.expires_at)
        if not active:
            expired = self.ledger.space.unreserve(key.name)
            if expired is not None:
                self._reservation_began_or_ended(expired)
        holders = sorted(self._holders_in(reading.reservation))
        if reading.by_controller and (not active or reading.reservation.service in holders):
            return [Delete(kind=IP_RESERVATION, key=key, uid=written.metadata.uid)]
        body = ipam_status.reservation_apply(
            written, active=active, problems=reading.problems, holders=holders, now=now
        )
        if body is None:
            return ()
        return [Apply(kind=IP_RESERVATION, key=key, body=body, subresource="status")]

    def _holders_in(self, reservation: Reservation) -> Iterator[ServiceKey]:
        for range_ in reservation.ranges:
            if range_.size == 1:
                yield from self.ledger.holders_of(range_.first)
            else:
                yield from self.ledger.holders_in(range_)

    def _write_held_back(self, key: Key, written: ipam.IPReservation | None, ends: float) -> Sequence[Action]:
        """Write down, for whoever leads next, that a deleted Service's address is kept for it."""
        reservation = self.ledger.space.reservation(key.name)
        if reservation is None:
            del self._held_back[key.name]
            return ()
        pools = self.ledger.space.pools_of(reservation.ranges[0].first)
        body = ipam_status.released_reservation(reservation, pools[0].pool.name if pools else "", ends)
        if written is None:
            return [Create(kind=IP_RESERVATION, key=key, body=body)]
        return [MergePatch(kind=IP_RESERVATION, key=key, body={"spec": body["spec"]})]

    def _namespace_changed(self, change: Change) -> None:
        if change.after is None:
            self.ledger.quotas.pop(change.key.name, None)
            return
        before = self.ledger.quotas.get(change.key.name)
        self._set_quota(change.after)
        if before != self.ledger.quotas.get(change.key.name):
            self._wake((RoomInQuota(change.key.name),))

    def _set_quota(self, namespace: forms.Namespace) -> None:
        quota = ipam.read_quota(namespace)
        if quota.most is None:
            self.ledger.quotas.pop(namespace.metadata.name, None)
        else:
            self.ledger.quotas[namespace.metadata.name] = quota.most

    # --- what users are told ---------------------------------------------------------------------------

    def _event(self, of: forms.Service, severity: Severity, reason: str, message: str) -> EmitEvent:
        return EmitEvent(
            kind=forms.SERVICE,
            key=of.metadata.key,
            uid=of.metadata.uid,
            severity=severity,
            reason=reason,
            message=message,
        )

    def _service_events(
        self, service: forms.Service, reading: Managed, decision: Decision
    ) -> Iterable[EmitEvent]:
        if decision.granted:
            given = ", ".join(format_address(address) for address in decision.granted)
            yield self._event(service, Severity.NORMAL, "Allocated", f"Allocated {given}")
        for dropped in decision.dropped:
            message = f"Released {format_address(dropped.address)}: {dropped.why}"
            yield self._event(service, Severity.NORMAL, "Released", message)
        for address in decision.superseded:
            message = f"Released {format_address(address)}: it is no longer asked for"
            yield self._event(service, Severity.NORMAL, "Released", message)
        sentences = [*reading.problems, *map(ipam_status.sentence, decision.refusals)]
        for sentence in dict.fromkeys(sentences):
            yield self._event(service, Severity.WARNING, "Refused", sentence)

    def _pool_events(self, pool: ipam.IPPool, stands: Sequence[Stand]) -> Iterable[EmitEvent]:
        for reason, message in ipam_status.pool_news(pool, stands, nearly_full=_NEARLY_FULL):
            yield EmitEvent(
                kind=self.pool_kind,
                key=pool.metadata.key,
                uid=pool.metadata.uid,
                severity=Severity.WARNING,
                reason=reason,
                message=message,
            )

    def counts(self) -> Counts:
        """How many Services there are to serve, and how many are not served in full."""
        return Counts(
            services_matching=len(self._managed),
            services_unsatisfied=len(self.unsatisfied),
            conflicting_pools=sum(
                1 for space in self.ledger.space.pools.values() if space.overlap is not None
            ),
        )
