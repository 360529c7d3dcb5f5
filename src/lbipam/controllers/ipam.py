"""Services and pools → addresses in status.

    Phase      A Service is looked at, and …
    ─────────  ───────────────────────────────────────────────────────────────────────────────
    learning   nothing: not every kind has synced
    importing  what its status shows is claimed, of those first that have it from us, and of those of the oldest
    following  the same: somebody else leads, and this one keeps its ledger warm
    leading    a decision is made, claimed, and written

Nothing is given out before everything is imported, and an address that a Service gives up is claimed until
its status no longer shows it. Work items are (kind, key); one is in hand until all its writes are answered,
so that what is decided next is decided on the answer. This file does no I/O; `loop` carries it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain, islice
from operator import itemgetter

from lbipam.controllers import ipam_news
from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.ipam_claims import Claims
from lbipam.controllers.ipam_pools import Pools
from lbipam.controllers.ipam_quotas import Quotas
from lbipam.controllers.ipam_reservations import Reservations
from lbipam.controllers.ipam_shown import Shown
from lbipam.controllers.ports import (
    Action,
    Apply,
    Conflict,
    ConflictCause,
    EmitEvent,
    Item,
    JsonPatch,
    Refused,
    WriteResult,
    Written,
)
from lbipam.controllers.workqueue import WorkQueue
from lbipam.core.ipam import allocation, services
from lbipam.core.ipam.addresses import Address
from lbipam.core.ipam.allocation import Decision
from lbipam.core.ipam.ledger import Ledger
from lbipam.core.ipam.services import ServiceKey
from lbipam.kube import forms, ipam, ipam_status
from lbipam.kube.conditions import Status
from lbipam.kube.ipam import IP_RESERVATION, Managed, Responsibility
from lbipam.kube.kinds import Key, Kind

_LATEST_SECONDS = 120.0
"""After which no request that was sent before can be done any more: API servers give up on one after 60 s."""
_SERVICES_TO_IMPORT: Item = (forms.SERVICE, Key("", ""))
"""The work item for those whose turn it is; no Service has such a name."""
_IMPORTED_AT_ONCE = 16
"""So few that others need not wait for them, so many that their turn costs next to nothing."""


class Phase(Enum):
    """What becomes of a Service that is looked at."""

    LEARNING = "learning"
    IMPORTING = "importing"
    FOLLOWING = "following"
    LEADING = "leading"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Elsewhere:
    """What a Service asked for and showed when another field manager was found to own its ingress list."""

    request: services.Service
    ingress: tuple[forms.Ingress, ...]
    message: str

    def stands(self, request: services.Service, service: forms.Service) -> bool:
        """Whether another try would end as the one before."""
        return (request, service.status.load_balancer.ingress) == (self.request, self.ingress)


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
        self._news: dict[Item, list[EmitEvent]] = {}
        """What users are told once the write in hand is done."""
        self.claims = Claims(queue=queue, pool_kind=pool_kind)
        self.pools = Pools(cache=cache, claims=self.claims, kind=pool_kind, news=self._news)
        self.reservations = Reservations(cache=cache, claims=self.claims, pools=self.pools)
        self.quotas = Quotas(cache=cache, claims=self.claims)
        self.shown = Shown(
            claims=self.claims,
            responsibility=responsibility,
            leads=lambda: self.phase is Phase.LEADING,
        )
        self.unsatisfied: dict[ServiceKey, str] = {}
        """The Services that do not have all they ask for, with the reason of their condition."""
        self.managed: set[ServiceKey] = set()
        """The Services that are ours to serve."""
        self._imports: Iterator[Item | None] = iter(())
        """Services still to be imported, in their order."""
        self._restless: set[Item] = set()
        """Services that a leader would have to look at; kept while another leads."""
        self._lead_when_imported = False
        self._takeover = False
        self._granted: dict[ServiceKey, str] = {}
        """Services to whom a grant is under way, with the only version that it can be written over."""
        self._elsewhere: dict[ServiceKey, _Elsewhere] = {}
        """Services whose ingress list another field manager owns."""
        self._untouched: dict[Item, str] = {}
        """Waiting Services that a former leader may still be writing to, with the version it may know."""
        self._unwritable: dict[Item, float] = {}
        """Untouched Services whose statuses the server does not take, and since when."""
        self._deferred: set[Item] = set()
        """Services to be granted something once none is untouched."""

    @property
    def ledger(self) -> Ledger:
        """Who holds which address."""
        return self.claims.ledger

    @property
    def settled(self) -> bool:
        """Whether it leads, and no write of a former leader can arrive any more."""
        return self.phase is Phase.LEADING and not self._untouched

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that it must know before it acts."""
        return self.pool_kind, IP_RESERVATION, forms.NAMESPACE, forms.SERVICE

    # --- what happens ----------------------------------------------------------------------------------

    def synced(self) -> None:
        """Every kind is known: read pools and quotas, then import."""
        if self.phase is not Phase.LEARNING or not self.cache.has_synced(*self.kinds):
            return
        self.ledger.space.place_all(self.pools.read_all(), self.reservations.read_all())
        self.quotas.read_all()
        self.queue.clear()
        self._imports = self._as_given(self.cache.objects(forms.SERVICE).items())
        self._restless = set()
        self.phase = Phase.IMPORTING
        self.queue.add(_SERVICES_TO_IMPORT)

    def lead(self, *, takeover: bool) -> None:
        """Decide and write from now on.

        Args:
            takeover: Another leader may have a write under way. So that it comes too late, a waiting Service
                is written to: one that has addresses at once, any other before the first grant.
        """
        self._lead_when_imported = True
        self._takeover = takeover
        if self.phase is Phase.FOLLOWING:
            self._begin_leading()

    def follow(self) -> None:
        """Write nothing from now on; forget what was decided but not written."""
        self._lead_when_imported = False
        if self.phase is not Phase.LEADING:
            return
        self.phase = Phase.LEARNING
        self.claims.clear()
        self.shown.clear()
        self._untouched, self._unwritable, self._deferred, self._granted = {}, {}, set(), {}
        self.managed, self.unsatisfied, self._elsewhere = set(), {}, {}
        self.synced()

    def observe(self, change: Change) -> None:
        """Take note of a changed object, and of what should be looked at because of it."""
        if self.phase is Phase.LEARNING:
            return
        item = (change.kind, change.key)
        if change.kind is forms.SERVICE:
            self._service_changed(item, change)
        elif change.kind is self.pool_kind:
            if change.after is not None and not self.pools.readings:
                # The first pool ends the dormancy.
                self.queue.add_all(self._by_age(self.cache.objects(forms.SERVICE).items()))
            self.pools.changed(change)
            # Before anybody is looked at who waits for what the pool brings.
            self._claim_strange()
        elif change.kind is IP_RESERVATION:
            self.reservations.changed(change)
        elif change.kind is forms.NAMESPACE:
            self.quotas.changed(change)

    def reconcile(self, item: Item, now: float) -> Sequence[Action]:
        """Look at one object as it is, and say what to do.

        Args:
            item: Which.
            now: Seconds since 1970.
        """
        kind, key = item
        if item is _SERVICES_TO_IMPORT:
            self._import_some(now)
            return ()
        if kind is forms.SERVICE:
            return self._reconcile_service(item, now)
        if self.phase is not Phase.LEADING:
            return ()
        if kind is forms.NAMESPACE:
            return self.quotas.reconcile(key)
        if kind is IP_RESERVATION:
            return self.reservations.reconcile(key, now)
        return self.pools.reconcile(key, now)

    def answered(self, item: Item, result: WriteResult, now: float) -> Sequence[Action]:
        """Take note of what became of a write; the item is still in hand."""
        news = self._news.pop(item, [])
        if isinstance(result, Written):
            self._granted.pop(ServiceKey(*item[1]), None)
            return news
        if isinstance(result, Conflict) and result.cause is ConflictCause.OWNED:
            return self._stand_back(item, result, now)
        self.queue.answered(item, result, now)
        if isinstance(result, Refused) and item in self._untouched:
            since = self._unwritable.setdefault(item, now)
            if now - since >= _LATEST_SECONDS:
                self._touched(item)
        return ()

    # --- phases ----------------------------------------------------------------------------------------

    def _as_given(self, services: Iterable[tuple[Key, forms.Service]]) -> Iterator[Item | None]:
        """Services in the order in which what they show is claimed: first those that have it from us.

        Then an older one in whose status somebody wrote another's address does not take it away. Satisfied ones
        come before those that wait, who may show what somebody wrote while nobody led. None stands for one whose
        turn comes later, so that no step looks at very many.
        """
        known = dict(services)
        return self._given_first(known, self._by_age(known.items()))

    def _given_first(
        self, known: Mapping[Key, forms.Service], items: Iterable[Item]
    ) -> Iterator[Item | None]:
        later: tuple[list[Item], ...] = ([], [], [])
        for item in items:
            service = known[item[1]]
            rank = 2 * (not self._is_given(service)) + (not ipam_status.says_satisfied(service))
            if rank:
                later[rank - 1].append(item)
            yield None if rank else item
        yield from chain(*later)

    def _is_given(self, service: forms.Service) -> bool:
        """Whether it has from us what it shows, as far as its status tells."""
        return ipam_status.says_given(service) and self.responsibility.covers(service.spec)

    def _import_some(self, now: float) -> None:
        some = tuple(islice(self._imports, _IMPORTED_AT_ONCE))
        for item in filter(None, some):
            try:
                self._reconcile_service(item, now)
            except Exception:  # noqa: BLE001 -- one object must not stop the others; alone, it is told of
                self.queue.add(item)
        if len(some) == _IMPORTED_AT_ONCE:
            self.queue.add(_SERVICES_TO_IMPORT)
            return
        known = self.cache.objects(forms.SERVICE)
        left = self.ledger.let_the_many_hold(
            lambda key: (service := known.get(Key(*key))) is not None and self._is_given(service)
        )
        self._restless.update((forms.SERVICE, Key(*key)) for key in left)
        self.phase = Phase.FOLLOWING
        if self._lead_when_imported:
            self._begin_leading()
        else:
            # What has changed meanwhile is looked at once the oldest have had their turn.
            self.queue.add_all(self._oldest_first(self._restless))

    def _begin_leading(self) -> None:
        self.phase = Phase.LEADING
        known = self.cache.objects(forms.SERVICE)
        restless = self._oldest_first(self._restless)
        self._restless.clear()
        if self._takeover:
            self._untouched = {
                item: known[item[1]].metadata.resource_version
                for item in restless
                if item[1] in known and not self._looks_satisfied(known[item[1]])
            }
        self.quotas.read_all()
        # Reservations first: those that have expired must stand in nobody's way.
        self.reservations.look_at_all()
        self.queue.add_all(restless)
        self.pools.look_at_all()

    def _oldest_first(self, items: Iterable[Item]) -> list[Item]:
        """Services in the order in which they are served; before them those that are gone, whose room is free."""
        known = self.cache.objects(forms.SERVICE)
        there, gone = [], []
        for item in items:
            service = known.get(item[1])
            if service is None:
                gone.append(item)
            else:
                there.append((item[1], service))
        return [*gone, *self._by_age(there)]

    @staticmethod
    def _by_age(services: Iterable[tuple[Key, forms.Service]]) -> list[Item]:
        """Services in the order in which they are served: the oldest first."""
        # They come by name, so that the first sort costs next to nothing; the second compares times alone.
        ordered = sorted(services, key=itemgetter(0))
        ordered.sort(key=lambda one: one[1].metadata.creation_timestamp or "")
        return [(forms.SERVICE, key) for key, _ in ordered]

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
        if self.phase is not Phase.LEADING:
            self._restless.add(item)
        if self.phase is not Phase.IMPORTING:
            if change.after is not None:
                self.shown.claim(change.after)
            self.queue.add(item)

    def _touched(self, item: Item) -> None:
        del self._untouched[item]
        self._unwritable.pop(item, None)
        if not self._untouched:
            self.queue.add_all(self._oldest_first(self._deferred))
            self._deferred.clear()

    def _reconcile_service(self, item: Item, now: float) -> Sequence[Action]:
        service: forms.Service | None = self.cache.objects(forms.SERVICE).get(item[1])
        key = ServiceKey(*item[1])
        if service is None:
            self._forget(key, now)
            return ()
        reading = ipam.read_service(service, self.responsibility)
        if reading is None:
            return self._let_go(key, service)
        self.managed.add(key)
        self._take_back(key, service)
        self.shown.claim_for(reading.request, service)
        ours = self.shown.ours(key)
        if self.phase is not Phase.LEADING:
            self._rest(item, at_rest=self._is_at_rest(reading, service, ours))
            return ()
        if item in self._untouched and (ours or self._deferred):
            decision = allocation.decide(reading.request, self.ledger)
            if decision.granted:
                self._defer(item, reading.request, decision)
            return self._touch(item, service, now)
        if not self.ledger.space.pools and not ours and not ipam_status.is_marked(service):
            # Dormant until there is a pool, as Cilium is.
            self.unsatisfied.pop(key, None)
            self.claims.stop_waiting(key)
            return ()
        elsewhere = self._elsewhere.pop(key, None)
        if elsewhere is not None and elsewhere.stands(reading.request, service):
            return self._leave_elsewhere(elsewhere, service, now)
        decision = allocation.decide(reading.request, self.ledger)
        self.shown.given(key, decision.addresses)
        if decision.granted and self._must_wait(item, reading.request, decision, now):
            return ()
        going = set(ipam.shown_addresses(service)).difference(decision.addresses)
        if (decision.granted or going) and ipam_status.says_satisfied(service):
            # Addresses come and go only while the status tells that the Service waits: so whoever leads next
            # knows from the statuses alone to which Services such a write may still be under way.
            body = ipam_status.service_about_to_change(service, now)
            return [Apply(kind=forms.SERVICE, key=item[1], body=body, subresource="status")]
        return self._carry_out(reading, service, decision, ours, now)

    def _must_wait(self, item: Item, request: services.Service, decision: Decision, now: float) -> bool:
        """Whether something has to happen before a grant; it wakes the Service."""
        if self._untouched:
            self._defer(item, request, decision)
            return True
        return self.claims.waits_its_turn(request, decision.granted, now)

    def _defer(self, item: Item, request: services.Service, decision: Decision) -> None:
        """Let a Service wait until none is untouched, and have them touched; then the oldest is first."""
        if not self._deferred:
            self.queue.add_all(self._untouched)
        self._deferred.add(item)
        self.claims.wait_to_be_given(request, decision.granted)

    def _take_back(self, key: ServiceKey, service: forms.Service) -> None:
        """Let go of what was granted for a former wish and came too late to be written."""
        over = self._granted.get(key)
        if over is None or over == service.metadata.resource_version:
            return
        del self._granted[key]
        self.shown.release_all_but(key, ipam.shown_addresses(service))

    def _claim_strange(self) -> None:
        """Claim what statuses show of a pool that has just come or grown, in the order of the import."""
        known = self.cache.objects(forms.SERVICE)
        keys = (Key(*key) for key in self.shown.strange)
        for item in filter(None, self._as_given((key, known[key]) for key in keys if key in known)):
            if self.shown.claim(known[item[1]]):
                self.queue.add(item)

    def _rest(self, item: Item, *, at_rest: bool) -> None:
        if at_rest:
            self._restless.discard(item)
        else:
            self._restless.add(item)

    def _is_at_rest(self, reading: Managed, service: forms.Service, ours: Sequence[Address]) -> bool:
        """Whether a Service has what it asks for and nothing else, and its status says so."""
        decision = allocation.decide(reading.request, self.ledger)
        if reading.problems or decision != Decision(kept=decision.kept):
            return False
        return ipam_status.service_stand(service, decision, (), ours).stands

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
            self.claims.claim(request.key, address, request.sharing)
        if decision.granted:
            self._granted[request.key] = service.metadata.resource_version
        self.claims.wait(request, decision)
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
        self._news[(forms.SERVICE, key)] = list(ipam_news.decided(service, reading, decision, ours))
        return [Apply(kind=forms.SERVICE, key=key, body=body, subresource="status")]

    def _settle(self, key: ServiceKey, service: forms.Service, decision: Decision) -> Sequence[Action]:
        """The status is right: let go of what it no longer shows."""
        shown = ipam.shown_addresses(service)
        self.shown.release_all_but(key, {*shown, *decision.addresses})
        left = [address for address in self.shown.ours(key) if address not in decision.addresses]
        return self._remove_ingress(service, left) if left else ()

    def _remove_ingress(self, service: forms.Service, addresses: Sequence[Address]) -> Sequence[Action]:
        operations = ipam_status.ingress_removal(service, addresses)
        metadata = service.metadata
        return [JsonPatch(kind=forms.SERVICE, key=metadata.key, operations=operations, subresource="status")]

    def _serve_no_more(self, key: ServiceKey) -> None:
        self.managed.discard(key)
        self.unsatisfied.pop(key, None)
        self._granted.pop(key, None)
        self._elsewhere.pop(key, None)
        self.claims.stop_waiting(key)

    def _let_go(self, key: ServiceKey, service: forms.Service) -> Sequence[Action]:
        """The Service is not ours (any more): take away what we gave it, and only that."""
        self._serve_no_more(key)
        shown = ipam.shown_addresses(service)
        self.shown.release_all_but(key, shown)
        self.shown.claim_foreign(key, shown)
        marked = ipam_status.is_marked(service)
        if self.phase is not Phase.LEADING:
            self._rest((forms.SERVICE, service.metadata.key), at_rest=not marked)
            return ()
        if marked:
            body = ipam_status.service_clear(service)
            return [Apply(kind=forms.SERVICE, key=service.metadata.key, body=body, subresource="status")]
        left = self.shown.ours(key)
        return self._remove_ingress(service, left) if left else ()

    def _forget(self, key: ServiceKey, now: float) -> None:
        """The Service is gone: its addresses are free, or kept for one of the same name for a while."""
        self._serve_no_more(key)
        for address in self.shown.ours(key):
            # One that follows does the same, and writes it down should it lead before the leader has.
            self.reservations.hold_back(key, address, now)
        self.shown.release_all_but(key, ())
        self.shown.forget(key)

    def _touch(self, item: Item, service: forms.Service, now: float) -> Sequence[Action]:
        ours = self.shown.ours(ServiceKey(*item[1]))
        body = ipam_status.service_touch(service, ours, self.identity, now)
        return [Apply(kind=forms.SERVICE, key=item[1], body=body, subresource="status")]

    def _stand_back(self, item: Item, conflict: Conflict, now: float) -> Sequence[Action]:
        """Another manager owns the ingress list: tell the user, and give up what was only granted."""
        if ServiceKey(*item[1]) in self._elsewhere or item[0] is not forms.SERVICE:
            # It was not the list that was refused, which is left alone already.
            self.queue.answered(item, conflict, now)
            return ()
        service = self.cache.objects(item[0]).get(item[1])
        if service is None:
            return ()
        reading = ipam.read_service(service, self.responsibility)
        if reading is None:
            return ()
        key = ServiceKey(*item[1])
        self.shown.release_all_but(key, ipam.shown_addresses(service))
        self.claims.stop_waiting(key)
        message = ipam_status.foreign_sentence(conflict.managers)
        ingress = service.status.load_balancer.ingress
        self._elsewhere[key] = _Elsewhere(request=reading.request, ingress=ingress, message=message)
        self.queue.add(item)
        return [ipam_news.refused(service, message)]

    def _leave_elsewhere(self, elsewhere: _Elsewhere, service: forms.Service, now: float) -> Sequence[Action]:
        """Nothing has changed since another manager was found in the way: say so, and try nothing."""
        key = elsewhere.request.key
        self._elsewhere[key] = elsewhere
        self.unsatisfied[key] = ipam_status.MANAGED_ELSEWHERE
        body = ipam_status.service_managed_elsewhere(service, elsewhere.message, now)
        if body is None:
            return ()
        return [Apply(kind=forms.SERVICE, key=service.metadata.key, body=body, subresource="status")]
