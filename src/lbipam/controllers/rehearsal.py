"""What becomes of these objects, if every write is done at once and nobody interferes?

Runs the same reconciler on objects in memory, for `lbipam plan` and for tests that want the outcome and not
the way there. This file makes no decision of its own.
"""

from collections.abc import Iterable, Mapping

import msgspec

from lbipam.controllers.cache import Cache
from lbipam.controllers.ipam import Ipam
from lbipam.controllers.ports import (
    Apply,
    Create,
    Delete,
    Deleted,
    EmitEvent,
    Gone,
    Item,
    JsonPatch,
    MergePatch,
    Synced,
    Upserted,
    Write,
    WriteResult,
    Written,
)
from lbipam.controllers.workqueue import WorkQueue
from lbipam.core.ipam.addresses import Address
from lbipam.core.ipam.services import ServiceKey
from lbipam.kube import forms, ipam
from lbipam.kube.ipam import IP_POOL, IP_RESERVATION, Responsibility
from lbipam.kube.kinds import Key, Kind, KubeObject


class Rehearsal:
    """A world in memory with one leading reconciler."""

    def __init__(self, responsibility: Responsibility | None = None, *, now: float = 0.0) -> None:
        self.now = now
        self.cache = Cache()
        self.queue: WorkQueue[Item] = WorkQueue()
        self.ipam = Ipam(
            cache=self.cache,
            queue=self.queue,
            pool_kind=IP_POOL,
            responsibility=responsibility or Responsibility(),
            identity="rehearsal",
        )
        self.events: list[EmitEvent] = []
        self.writes: list[Write] = []
        self._version = 0

    def begin(self, objects: Mapping[Kind, Iterable[KubeObject]]) -> None:
        """Let these be all objects there are, take over what they show, decide, and settle."""
        self.learn(objects)
        self.ipam.lead(takeover=False)
        self.settle()

    def learn(self, objects: Mapping[Kind, Iterable[KubeObject]]) -> None:
        """Let these be all objects there are, and take over what they show."""
        for kind in self.ipam.kinds:
            for one in objects.get(kind, ()):
                self.cache.store(Upserted(kind=kind, object=one))
                version = one.metadata.resource_version
                self._version = max(self._version, int(version) if version.isdecimal() else 0)
            self.cache.store(Synced(kind=kind))
        self.ipam.synced()
        for one in self.cache.objects(IP_RESERVATION).values():
            # Only a leader lets go of what has expired.
            ends = ipam.read_reservation(one).expires_at
            if ends is not None and ends <= self.now:
                self.ipam.ledger.space.unreserve(one.metadata.name)
        self.settle()

    def put(self, kind: Kind, form: KubeObject) -> None:
        """Create or change an object; `settle` tells what comes of it."""
        self._version += 1
        metadata = msgspec.structs.replace(form.metadata, resource_version=f"{self._version}")  # type: ignore[type-var]
        newer = msgspec.structs.replace(form, metadata=metadata)  # type: ignore[type-var]
        change = self.cache.store(Upserted(kind=kind, object=newer))
        if change is not None:
            self.ipam.observe(change)

    def remove(self, kind: Kind, key: Key) -> None:
        """Delete an object."""
        change = self.cache.store(Deleted(kind=kind, key=key))
        if change is not None:
            self.ipam.observe(change)

    def settle(self) -> None:
        """Do what there is to do, including what is due later, until nothing is left to do soon."""
        while True:
            item = self.queue.take(self.now)
            if item is None:
                due = self.queue.wake_at()
                if due is None or due > self.now + 5:
                    return
                self.now = due
                continue
            self.step(item)

    def step(self, item: Item) -> None:
        """Look at one item that is in hand, and put it down."""
        for action in self.ipam.reconcile(item, self.now):
            if isinstance(action, EmitEvent):
                self.events.append(action)
            else:
                self.writes.append(action)
                answer = self.ipam.answered(item, self._write(action), self.now)
                self.events += [one for one in answer if isinstance(one, EmitEvent)]
        self.queue.put_down(item)

    def addresses(self, key: Key) -> tuple[Address, ...]:
        """What a Service's status shows."""
        service: forms.Service = self.cache.objects(forms.SERVICE)[key]
        return ipam.shown_addresses(service)

    def _write(self, write: Write) -> WriteResult:
        before = self.cache.objects(write.kind).get(write.key)
        match write:
            case Create():
                self.put(write.kind, msgspec.convert(msgspec.to_builtins(write.body), write.kind.form))
            case Delete():
                self.remove(write.kind, write.key)
            case _ if before is None:
                return Gone()
            case Apply():
                status = msgspec.convert(
                    msgspec.to_builtins(write.body["status"]), type(before.status), strict=False
                )
                if write.kind is forms.SERVICE and "loadBalancer" not in write.body["status"]:
                    status = msgspec.structs.replace(status, load_balancer=self._others(before))
                self.put(write.kind, msgspec.structs.replace(before, status=status))
            case JsonPatch():
                balancer = msgspec.convert(
                    msgspec.to_builtins(write.operations[-1]["value"]), forms.LoadBalancerStatus
                )
                status = msgspec.structs.replace(before.status, load_balancer=balancer)
                self.put(write.kind, msgspec.structs.replace(before, status=status))
            case MergePatch():
                spec = msgspec.convert(msgspec.to_builtins(write.body["spec"]), type(before.spec))
                self.put(write.kind, msgspec.structs.replace(before, spec=spec))
        return Written(object=self.cache.objects(write.kind).get(write.key))

    def _others(self, service: forms.Service) -> forms.LoadBalancerStatus:
        """What an apply that names no ingress leaves there: the entries that we never gave."""
        ours = self.ipam.shown.ours(ServiceKey(*service.metadata.key))
        if any(address in ours for address in ipam.shown_addresses(service)):
            return forms.LoadBalancerStatus()
        return service.status.load_balancer
