"""A Namespace's quota → how many addresses its Services may hold.

Lowering a quota takes nothing away. This file does not count what is held.
"""

from collections.abc import Sequence

from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.ipam_claims import Claims
from lbipam.controllers.ports import Action, EmitEvent, Severity
from lbipam.core.ipam.allocation import RoomInQuota
from lbipam.kube import forms, ipam
from lbipam.kube.kinds import Key


class Quotas:
    """The quotas as the ledger is told of them."""

    def __init__(self, *, cache: Cache, claims: Claims) -> None:
        self._cache = cache
        self._claims = claims

    def read_all(self) -> None:
        """Understand the quotas of all namespaces that there are."""
        for namespace in self._cache.objects(forms.NAMESPACE).values():
            self._read(namespace)

    def changed(self, change: Change) -> None:
        """Take note of a namespace's quota, and look again at all whom the former one kept waiting.

        Also at those whom the new one does not help: they are told what it allows now.
        """
        quotas, name = self._claims.ledger.quotas, change.key.name
        before = quotas.get(name)
        if change.after is None:
            quotas.pop(name, None)
            return
        self._read(change.after)
        if before != quotas.get(name):
            self._claims.look_at(self._claims.waiting.next(RoomInQuota(name)))

    def _read(self, namespace: forms.Namespace) -> None:
        quota = ipam.read_quota(namespace)
        if quota.problem:
            self._claims.queue.add((forms.NAMESPACE, namespace.metadata.key))
        if quota.most is None:
            self._claims.ledger.quotas.pop(namespace.metadata.name, None)
        else:
            self._claims.ledger.quotas[namespace.metadata.name] = quota.most

    def reconcile(self, key: Key) -> Sequence[Action]:
        """Tell what cannot be understood of a quota, which allows nothing more."""
        namespace: forms.Namespace | None = self._cache.objects(forms.NAMESPACE).get(key)
        problem = ipam.read_quota(namespace).problem if namespace is not None else ""
        if namespace is None or not problem:
            return ()
        return [
            EmitEvent(
                kind=forms.NAMESPACE,
                key=key,
                uid=namespace.metadata.uid,
                severity=Severity.WARNING,
                reason="InvalidQuota",
                message=problem,
            )
        ]
