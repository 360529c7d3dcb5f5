"""Services that ask for it → the addresses of nodes in their status.

    A change of a …   … is a reason to look at
    ───────────────   ────────────────────────────────────────────────
    Service           that one
    EndpointSlice     its Service
    Node              all, if its addresses or its being used change

The leader writes; nothing is held, so that a restart needs to know nothing. This file touches no Service that
gets its addresses from pools.
"""

from collections.abc import Iterator, Sequence

from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.endpoints import EndpointIndex
from lbipam.controllers.ports import (
    Action,
    Apply,
    Conflict,
    ConflictCause,
    EmitEvent,
    Item,
    Sample,
    Severity,
    WriteResult,
)
from lbipam.controllers.workqueue import WorkQueue
from lbipam.core.ipam import nodes
from lbipam.core.ipam.addresses import Family
from lbipam.kube import forms, ipam_status, node_ipam
from lbipam.kube.kinds import Key, Kind


class NodeIpam:
    """The nodes as they are understood, and which Services have none; it writes while this process leads."""

    def __init__(
        self,
        *,
        cache: Cache,
        queue: WorkQueue[Item],
        without_class: bool,
        families: Sequence[Family],
        slices: Kind = forms.ENDPOINT_SLICE,
    ) -> None:
        self.queue = queue
        self.kinds = (forms.SERVICE, forms.NODE, slices)
        self._cache = cache
        self._without_class = without_class
        self._families = families
        self._endpoints = EndpointIndex()
        self._nodes: dict[Key, nodes.Node] = {}
        self._waiting: dict[Key, str] = {}
        """The Services that do not have what they ask for, with the sentence that their user was told."""
        self._former: set[Key] = set()
        """Services that asked for addresses of nodes, and ask for none any more."""
        self._leads = False

    def lead(self) -> None:
        """Write from now on."""
        self._leads = True
        self.synced()

    def follow(self) -> None:
        """Write no more."""
        self._leads = False
        self._waiting.clear()
        self._former.clear()

    def synced(self) -> None:
        """A kind has synced; when all have, every Service is looked at."""
        if self._cache.has_synced(*self.kinds):
            self._look_at_all()

    def observe(self, change: Change) -> None:
        """Take note of a changed object, and of what should be looked at because of it."""
        if change.kind is forms.SERVICE:
            if self._leads and self._is_ours(change.before) and not self._is_ours(change.after):
                self._former.add(change.key)
            self.queue.add((forms.SERVICE, change.key))
        elif change.kind is forms.NODE:
            self._node_changed(change)
        elif change.kind in self.kinds:
            concerned = self._endpoints.observe(change)
            self.queue.add_all((forms.SERVICE, key) for key in sorted(concerned))

    def reconcile(self, item: Item, now: float) -> Sequence[Action]:
        """Look at a Service as it is, and say what to do."""
        del now
        key = item[1]
        service: forms.Service | None = self._cache.objects(forms.SERVICE).get(key)
        if not self._leads or not self._cache.has_synced(*self.kinds):
            return ()
        if service is None or not self._is_ours(service):
            self._waiting.pop(key, None)
            return self._let_go(key, service)
        self._former.discard(key)
        reading = node_ipam.read_request(service, self._families, self._endpoints.ready_nodes(key))
        if reading.problem:
            # What cannot be understood changes nothing, as in Cilium.
            return self._tell(service, reading.problem)
        choice = nodes.choose(reading.request, self._nodes.values())
        shown = service.status.load_balancer.ingress
        wanted = node_ipam.ingress(shown, choice.addresses)
        news = () if wanted else self._tell(service, node_ipam.sentence(choice))
        if wanted != shown:
            return (*news, self._apply(service, wanted))
        if wanted:
            self._waiting.pop(key, None)
        return news

    def answered(self, item: Item, result: WriteResult, now: float) -> Sequence[Action]:
        """Take note of what became of a write; the item is still in hand."""
        if not (isinstance(result, Conflict) and result.cause is ConflictCause.OWNED):
            self.queue.answered(item, result, now)
            return ()
        service: forms.Service | None = self._cache.objects(forms.SERVICE).get(item[1])
        return (
            self._tell(service, ipam_status.foreign_sentence(result.managers)) if service is not None else ()
        )

    def samples(self) -> Iterator[Sample]:
        """What it comes to, as numbers."""
        yield Sample(
            name="lbipam_node_ipam_services_waiting",
            help="Services that ask for addresses of nodes and do not have what they ask for.",
            value=len(self._waiting),
        )

    # ---------------------------------------------------------------------------------------------------

    def _is_ours(self, service: forms.Service | None) -> bool:
        return service is not None and node_ipam.asks_for_nodes(service, without_class=self._without_class)

    def _look_at_all(self) -> None:
        services = self._cache.objects(forms.SERVICE)
        self.queue.add_all(
            (forms.SERVICE, key) for key, service in services.items() if self._is_ours(service)
        )

    def _node_changed(self, change: Change) -> None:
        before = self._nodes.pop(change.key, None)
        if change.after is not None:
            self._nodes[change.key] = node_ipam.read_node(change.after)
        # A node's heartbeat changes it every few seconds, and nothing here.
        if before != self._nodes.get(change.key):
            self._look_at_all()

    def _let_go(self, key: Key, service: forms.Service | None) -> Sequence[Action]:
        """A Service that is of another type now shows no addresses; one that is being deleted keeps them."""
        if key not in self._former:
            return ()
        if service is None or service.spec.type == "LoadBalancer" or not service.status.load_balancer.ingress:
            self._former.discard(key)
            return ()
        return (self._apply(service, ()),)

    @staticmethod
    def _apply(service: forms.Service, wanted: Sequence[forms.Ingress]) -> Apply:
        body = node_ipam.ingress_apply(service, wanted)
        return Apply(kind=forms.SERVICE, key=service.metadata.key, body=body, subresource="status")

    def _tell(self, service: forms.Service, message: str) -> Sequence[Action]:
        """Note why a Service waits, and tell it unless it has been told."""
        key = service.metadata.key
        if self._waiting.get(key) == message:
            return ()
        self._waiting[key] = message
        return (
            EmitEvent(
                kind=forms.SERVICE,
                key=key,
                uid=service.metadata.uid,
                severity=Severity.WARNING,
                reason="Refused",
                message=message,
            ),
        )
