"""An API server in memory that keeps the real one's promises about versions, and tells what it shows.

The only double of a port: writes can be held back, land late, land though nobody hears of it, and be refused
because the object has changed since.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec

from lbipam.controllers.cache import Cache
from lbipam.controllers.ipam import Ipam
from lbipam.controllers.ports import (
    Apply,
    Conflict,
    ConflictCause,
    Create,
    Delete,
    Deleted,
    EmitEvent,
    Event,
    Fenced,
    Gone,
    Item,
    JsonPatch,
    Listed,
    MergePatch,
    Synced,
    Upserted,
    Write,
    WriteResult,
    Written,
)
from lbipam.controllers.workqueue import WorkQueue
from lbipam.kube import forms
from lbipam.kube.ipam import IP_POOL, IP_RESERVATION, Responsibility
from lbipam.kube.kinds import Key, Kind

KINDS = (IP_POOL, IP_RESERVATION, forms.NAMESPACE, forms.SERVICE)

KIND_OF: dict[type, Kind] = {kind.form: kind for kind in (*KINDS, forms.NODE, forms.ENDPOINT_SLICE)}
"""By the class of an object of it."""


class Api:
    """The objects as everybody sees them."""

    def __init__(self, watch: Callable[[], None] = lambda: None) -> None:
        self.objects: dict[Kind, dict[Key, Any]] = {kind: {} for kind in KINDS}
        self.version = 0
        self.uids = 0
        self.watchers: list[deque[Event]] = []
        self.applied: set[Key] = set()
        """Services whose ingress list is owned by server-side apply: one that does not name it removes it."""
        self.owners: dict[Key, str] = {}
        """Services whose ingress list another field manager owns: an apply that would change it is refused."""
        self._watch = watch

    def write_ingress(self, manager: str, key: Key, *addresses: str) -> None:
        """What another controller does: write the ingress list of a Service by force."""
        self.owners[key] = manager
        self.applied.discard(key)
        before = self.objects[forms.SERVICE][key]
        balancer = forms.LoadBalancerStatus(ingress=tuple(forms.Ingress(ip=one) for one in addresses))
        status = msgspec.structs.replace(before.status, load_balancer=balancer)
        self._store(forms.SERVICE, key, msgspec.structs.replace(before, status=status))

    def put(self, *objects: Any) -> None:
        """What a user does: create objects, or change their wish and leave their status."""
        for one in objects:
            self._put(KIND_OF[type(one)], one)

    def _put(self, kind: Kind, form: Any) -> None:
        key = form.metadata.key
        before = self.objects[kind].get(key)
        if before is None:
            self.uids += 1
            uid, status = str(self.uids), getattr(form, "status", None)
        else:
            uid, status = before.metadata.uid, getattr(before, "status", None)
        metadata = msgspec.structs.replace(form.metadata, uid=uid)
        changes = {"metadata": metadata} | ({"status": status} if status is not None else {})
        self._store(kind, key, msgspec.structs.replace(form, **changes))

    def delete(self, kind: Kind, key: Key) -> None:
        if self.objects[kind].pop(key, None) is not None:
            self.version += 1
            for watcher in self.watchers:
                watcher.append(Deleted(kind=kind, key=key))
            self._watch()

    def shown(self, name: str) -> list[str]:
        """The addresses in the status of a Service of namespace `default`."""
        service: forms.Service = self.objects[forms.SERVICE][Key("default", name)]
        return [entry.ip for entry in service.status.load_balancer.ingress]

    def land(self, write: Write) -> WriteResult:
        """What the server does with a write."""
        before = self.objects[write.kind].get(write.key)
        if isinstance(write, Create):
            if before is not None:
                return Conflict(cause=ConflictCause.EXISTS)
            self.put(msgspec.convert(msgspec.to_builtins(write.body), write.kind.form))
            return Written(object=self.objects[write.kind][write.key])
        if before is None:
            return Gone()
        if isinstance(write, Delete):
            if before.metadata.uid != write.uid:
                return Conflict(cause=ConflictCause.REPLACED)
            self.delete(write.kind, write.key)
            return Written(object=None)
        after = self._changed(before, write)
        if isinstance(after, Conflict):
            return after
        if after != before:
            self._store(write.kind, write.key, after)
        return Written(object=self.objects[write.kind][write.key])

    def _changed(self, before: Any, write: Apply | JsonPatch | MergePatch) -> Any:
        if isinstance(write, JsonPatch):
            if write.operations[0]["value"] != before.metadata.resource_version:
                return Conflict(cause=ConflictCause.STALE)
            balancer = msgspec.convert(
                msgspec.to_builtins(write.operations[1]["value"]), forms.LoadBalancerStatus
            )
            status = msgspec.structs.replace(before.status, load_balancer=balancer)
            return msgspec.structs.replace(before, status=status)
        metadata = write.body.get("metadata", {})
        if metadata.get("uid", before.metadata.uid) != before.metadata.uid:
            return Conflict(cause=ConflictCause.REPLACED)
        if (
            metadata.get("resourceVersion", before.metadata.resource_version)
            != before.metadata.resource_version
        ):
            return Conflict(cause=ConflictCause.STALE)
        name = "status" if isinstance(write, Apply) else "spec"
        value = msgspec.convert(msgspec.to_builtins(write.body[name]), type(getattr(before, name)))
        if write.kind is forms.SERVICE:
            if "loadBalancer" in write.body["status"]:
                owner = self.owners.get(write.key)
                if owner is not None and value.load_balancer != before.status.load_balancer:
                    return Conflict(cause=ConflictCause.OWNED, managers=(owner,))
                self.applied.add(write.key)
            elif write.key in self.applied and write.key not in self.owners:
                self.applied.discard(write.key)
            else:
                self.applied.discard(write.key)
                value = msgspec.structs.replace(value, load_balancer=before.status.load_balancer)
        return msgspec.structs.replace(before, **{name: value})

    def _store(self, kind: Kind, key: Key, form: Any) -> None:
        self.version += 1
        metadata = msgspec.structs.replace(form.metadata, resource_version=str(self.version))
        newer = msgspec.structs.replace(form, metadata=metadata)
        self.objects[kind][key] = newer
        for watcher in self.watchers:
            watcher.append(Upserted(kind=kind, object=newer))
        self._watch()


@dataclass
class _Hand:
    """An item in hand, with its writes that have no answer yet."""

    open: int = 1


@dataclass
class Process:
    """One controller: what it has heard, what it is about to write, and what it has in hand."""

    api: Api
    now: float = 1000.0
    heard: deque[Event] = field(default_factory=deque)
    outbox: list[tuple[Item, Write]] = field(default_factory=list)
    events: list[EmitEvent] = field(default_factory=list)
    hands: dict[Item, _Hand] = field(default_factory=dict)
    writes: int = 0

    def __post_init__(self) -> None:
        self.cache = Cache()
        self.queue: WorkQueue[Item] = WorkQueue()
        self.ipam = Ipam(
            cache=self.cache,
            queue=self.queue,
            pool_kind=IP_POOL,
            responsibility=Responsibility(),
            identity="process",
        )

    def start(self, *, takeover: bool = False) -> Self:
        """List everything, import, and lead."""
        self.learn()
        self.ipam.lead(takeover=takeover)
        return self

    def learn(self) -> Self:
        """List everything, and import."""
        self.api.watchers.append(self.heard)
        for kind in KINDS:
            for one in self.api.objects[kind].values():
                self.cache.store(Upserted(kind=kind, object=one))
            self.cache.store(Synced(kind=kind))
        self.ipam.synced()
        return self

    def relist(self) -> None:
        """Lose the watch: what there was to hear is never heard, and all that exists is told anew."""
        self.heard.clear()
        for kind in KINDS:
            now = self.api.objects[kind]
            as_of = str(self.api.version)
            self.heard.extend(Listed(kind=kind, object=one, as_of=as_of) for one in now.values())
            gone = self.cache.objects(kind).keys() - now.keys()
            self.heard.extend(Deleted(kind=kind, key=key) for key in sorted(gone))

    def follow(self) -> list[Write]:
        """Lose the Lease; the writes that may still arrive."""
        left = [write for _, write in self.outbox]
        self.ipam.follow()
        while self.outbox:
            item, write = self.outbox.pop(0)
            self._answer(item, write, Fenced(sent=True))
        return left

    def stop(self) -> None:
        """Decide nothing any more; what is in the outbox may still arrive."""
        # By identity: another process may have as much left to hear.
        self.api.watchers = [one for one in self.api.watchers if one is not self.heard]

    def hear(self) -> bool:
        """Take the next event in."""
        if not self.heard:
            return False
        change = self.cache.store(self.heard.popleft())
        if change is not None:
            self.ipam.observe(change)
        return True

    def work(self) -> bool:
        """Look at the next item."""
        item = self.queue.take(self.now)
        if item is None:
            return False
        self.hands[item] = _Hand()
        self._carry_out(item, self.ipam.reconcile(item, self.now))
        self._put_down(item)
        return True

    def think(self) -> None:
        """Hear and look at everything, and send nothing."""
        while self.hear() or self.work():
            pass

    def _carry_out(self, item: Item, actions: Any) -> None:
        for action in actions:
            if isinstance(action, EmitEvent):
                self.events.append(action)
            else:
                self.hands[item].open += 1
                self.writes += 1
                self.outbox.append((item, action))

    def _put_down(self, item: Item) -> None:
        self.hands[item].open -= 1
        if not self.hands[item].open:
            del self.hands[item]
            self.queue.put_down(item)

    def send(self, index: int, *, heard: bool = True) -> None:
        """A write of the outbox arrives; unheard, its answer is lost and it is sent again later."""
        index %= len(self.outbox)
        item, write = self.outbox[index]
        result = self.api.land(write)
        if heard:
            del self.outbox[index]
            self._answer(item, write, result)

    def _answer(self, item: Item, write: Write, result: WriteResult) -> None:
        if isinstance(result, Written) and result.object is not None:
            known = self.cache.objects(write.kind).get(write.key)
            if known is not None and known.metadata.uid == result.object.metadata.uid:
                change = self.cache.store(Upserted(kind=write.kind, object=result.object))
                if change is not None:
                    self.ipam.observe(change)
        self._carry_out(item, self.ipam.answered(item, result, self.now))
        self._put_down(item)

    def settle(self) -> None:
        """Hear, look, write and wait until there is nothing left to do soon."""
        for _ in range(10_000):
            while self.hear():
                pass
            if self.work():
                continue
            if self.outbox:
                self.send(0)
                continue
            due = self.queue.wake_at()
            if due is None or due > self.now + 5:
                return
            self.now = due
        raise AssertionError("it does not come to rest")
