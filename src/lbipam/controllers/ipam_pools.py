"""A pool's wish → the space that the ledger gives from; its use → its conditions and Events.

This file does not look at Services; it tells which should be looked at.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate

from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.ipam_claims import Claims
from lbipam.controllers.ports import Action, Apply, EmitEvent, Item, Severity
from lbipam.core.ipam.pools import Pool
from lbipam.kube import ipam, ipam_status
from lbipam.kube.conditions import Stand
from lbipam.kube.ipam import PoolReading
from lbipam.kube.kinds import Key, Kind

_STATUS_INTERVAL = 1.0
_NEARLY_FULL = 0.9


class Pools:
    """The pools as they are understood, and when their statuses were written."""

    def __init__(
        self, *, cache: Cache, claims: Claims, kind: Kind, news: dict[Item, list[EmitEvent]]
    ) -> None:
        self._cache = cache
        self._claims = claims
        self._kind = kind
        self._news = news
        self.readings: dict[str, PoolReading] = {}
        """By name: the pools as last understood."""
        self._written: dict[str, float] = {}
        """By name: when its status was written, in seconds since 1970."""

    def read_all(self) -> Iterable[Pool]:
        """Understand all pools that there are."""
        self.readings = {key.name: ipam.read_pool(pool) for key, pool in self._known().items()}
        return (reading.pool for reading in self.readings.values())

    def look_at_all(self) -> None:
        """Count all pools anew."""
        self._claims.queue.add_all((self._kind, key) for key in self._known())

    def _known(self) -> dict[Key, ipam.IPPool]:
        return dict(self._cache.objects(self._kind))

    def changed(self, change: Change) -> None:
        """Take note of a pool's new wish: who may lose or get an address because of it?"""
        name = change.key.name
        former = self.readings.get(name)
        if change.after is None:
            self.readings.pop(name, None)
            self._claims.ledger.space.remove(name)
        else:
            reading = ipam.read_pool(change.after)
            self._claims.queue.add((self._kind, change.key))
            if former == reading:
                return
            self.readings[name] = reading
            self._claims.ledger.space.place(reading.pool)
        if former is not None and self._takes_away(former.pool, self.readings.get(name)):
            self._look_at_holders(former.pool)
        self._claims.wake_everyone()
        self.look_at_all()

    @staticmethod
    def _takes_away(former: Pool, now: PoolReading | None) -> bool:
        """Whether an edit may take a holder's right away."""
        if now is None or now.pool.selector != former.selector:
            return True
        return not {block.range for block in former.blocks} <= {block.range for block in now.pool.blocks}

    def _look_at_holders(self, former: Pool) -> None:
        ranges = sorted(block.range for block in former.blocks)
        starts = [range_.first for range_ in ranges]
        # A pool that conflicts with itself has ranges within others: how far do those reach that begin so early?
        reach = list(accumulate((range_.last for range_ in ranges), max))
        for address, group in self._claims.ledger.holdings():
            at = bisect_right(starts, address) - 1
            if at >= 0 and address <= reach[at]:
                self._claims.look_at(group)

    def reconcile(self, key: Key, now: float) -> Sequence[Action]:
        """Bring a pool's status up to date, at most once a second."""
        pool, space = self._known().get(key), self._claims.ledger.space.pools.get(key.name)
        if pool is None or space is None:
            self._written.pop(key.name, None)
            return ()
        written = self._written.get(key.name, 0.0)
        # A clock that was set back says nothing about how long that is ago.
        if written <= now < written + _STATUS_INTERVAL:
            self._claims.queue.add_at((self._kind, key), written + _STATUS_INTERVAL)
            return ()
        stands = ipam_status.pool_stands(self.readings[key.name], space)
        body = ipam_status.pool_apply(self._kind, pool, stands, now)
        if body is None:
            return ()
        self._written[key.name] = now
        self._news[(self._kind, key)] = list(self._events(pool, stands))
        return [Apply(kind=self._kind, key=key, body=body, subresource="status")]

    def _events(self, pool: ipam.IPPool, stands: Sequence[Stand]) -> Iterable[EmitEvent]:
        for reason, message in ipam_status.pool_news(pool, stands, nearly_full=_NEARLY_FULL):
            yield EmitEvent(
                kind=self._kind,
                key=pool.metadata.key,
                uid=pool.metadata.uid,
                severity=Severity.WARNING,
                reason=reason,
                message=message,
            )
