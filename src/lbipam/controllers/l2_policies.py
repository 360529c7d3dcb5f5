"""L2 announcement policies → conditions that say what is wrong with them.

The leader writes them, once; in Cilium every agent writes the same. This file announces nothing.
"""

from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.ports import Action, Apply, Item, WriteResult
from lbipam.controllers.workqueue import WorkQueue
from lbipam.kube import conditions, l2


class L2Policies:
    """What the conditions of every policy should say; written while this process leads."""

    kinds = (l2.ANNOUNCEMENT_POLICY,)

    def __init__(self, *, cache: Cache, queue: WorkQueue[Item]) -> None:
        self.queue = queue
        self._cache = cache
        self._leads = False

    def lead(self) -> None:
        """Write from now on."""
        self._leads = True
        self.synced()

    def follow(self) -> None:
        """Write no more."""
        self._leads = False

    def synced(self) -> None:
        """Every policy is looked at."""
        policies = self._cache.objects(l2.ANNOUNCEMENT_POLICY)
        self.queue.add_all((l2.ANNOUNCEMENT_POLICY, key) for key in policies)

    def observe(self, change: Change) -> None:
        """Take note of a changed object."""
        if change.kind == l2.ANNOUNCEMENT_POLICY and change.after is not None:
            self.queue.add((change.kind, change.key))

    def reconcile(self, item: Item, now: float) -> tuple[Action, ...]:
        """The write that makes a policy's conditions right, if they are not."""
        written: l2.AnnouncementPolicy | None = self._cache.objects(l2.ANNOUNCEMENT_POLICY).get(item[1])
        if written is None or not self._leads:
            return ()
        observed, generation = written.status.conditions, written.metadata.generation
        stands = l2.policy_stands(observed, l2.read_policy(written).problems)
        if conditions.same(observed, stands, l2.POLICY_CONDITIONS, generation):
            return ()
        rendered = conditions.render(observed, stands, generation, now)
        body = conditions.status_apply(l2.ANNOUNCEMENT_POLICY, written.metadata, {"conditions": rendered})
        return (Apply(kind=l2.ANNOUNCEMENT_POLICY, key=item[1], body=body, subresource="status"),)

    def answered(self, item: Item, result: WriteResult, now: float) -> tuple[Action, ...]:
        """Take note of what became of a write; what was not done is looked at again."""
        self.queue.answered(item, result, now)
        return ()
