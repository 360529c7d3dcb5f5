"""Carrying traffic on one node: wanted rulesets to the kernel, health checks to load balancers.

This file decides nothing about packets: `controllers.datapath` and `core.datapath` do.
"""

import asyncio
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from math import inf

import structlog

from lbipam.adapters.health_check_node_port import HealthCheckNodePorts
from lbipam.adapters.nft_library import Applied, NftDatapath, NftRefused
from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.datapath import DatapathReconciler, Options
from lbipam.controllers.host import Address, Carried
from lbipam.controllers.ports import Recorder, Sample
from lbipam.core.datapath.services import IPNetwork
from lbipam.kube.kinds import Key, Kind

_log = structlog.get_logger()

_CHECK_SECONDS = 30.0
"""How often the whole table is looked at, if others have changed any since."""
_GLANCE_SECONDS = 1.0
"""How soon it is noticed that the table is gone, as by `nft flush ruleset` or a firewall that restarts."""
_RETRY_SECONDS = 5.0


class DatapathPart:
    """The part `Part` that carries the traffic of Services in nftables."""

    def __init__(self, cache: Cache, options: Options, *, recorder: Recorder | None = None) -> None:
        """Without a recorder, problems of Services are in the log alone."""
        self._options = options
        self._recorder = recorder
        self._has_told_outsider = False
        self._reconciler = DatapathReconciler(cache, options)
        self._kernel = NftDatapath()
        self._health = HealthCheckNodePorts()
        self._clock = asyncio.get_running_loop().time
        self._check_at = self._glance_at = inf
        self.carried: dict[Key, tuple[Address, ...]] | None = None
        """Of each Service the addresses whose rules stand; None until the first ruleset does."""
        self._news: set[Key] = set()
        self.refused: frozenset[IPNetwork] | None = None
        """The blocks whose unused addresses are refused by rules that stand; None until any were told."""
        self._to_refuse: frozenset[IPNetwork] | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return self._options.watched

    def observe(self, change: Change) -> None:
        self._reconciler.observe(change)

    def carry(self, carried: Carried, news: AbstractSet[Key]) -> None:
        """Is told to others; it is this part that says so."""

    def take_news(self) -> frozenset[Key]:
        """The Services of which other addresses are carried than when last asked."""
        news = frozenset(self._news)
        self._news.clear()
        return news

    def refuse(self, blocks: frozenset[IPNetwork]) -> None:
        """Answer for these blocks, so that packets for their unused addresses do not travel in circles.

        Until first told, for those that an earlier process answered for.
        """
        self._to_refuse = blocks
        self._reconciler.refuse(sorted(blocks, key=lambda one: (one.version, one)))

    async def step(self) -> None:
        await self._make_stand()
        self._tell()

    async def _make_stand(self) -> None:
        update = self._reconciler.reconcile()
        applied: Applied | None
        try:
            if update is not None:
                applied = await self._kernel.apply(update)
            elif self._clock() >= self._check_at or await self._is_lost():
                applied = await self._kernel.reconcile()
            else:
                return
        except (NftRefused, OSError) as problem:
            _log.error("rules not applied", problem=str(problem))
            self._check_at = self._glance_at = self._clock() + _RETRY_SECONDS
            await self._lapse()
            return
        self._check_at = self._clock() + _CHECK_SECONDS
        self._glance_at = self._clock() + _GLANCE_SECONDS
        if applied is not None:
            self._reconciler.leave_out(applied.left_out)
        self._carry()
        self.refused = self._to_refuse
        await self._serve_health()

    def _tell(self) -> None:
        """Say what users have written and cannot be done."""
        for told in self._reconciler.take_complaints():
            _log.warning(
                "a Service is not carried as it is written", service=f"{told.key}", problem=told.message
            )
            if self._recorder is not None and self._reconciler.speaks_for_all:
                self._recorder.emit(told)
        if self._reconciler.outsider is not None and not self._has_told_outsider:
            self._has_told_outsider = True
            _log.warning(
                "a pod's address is from no known block: it is taken for a client from outside, unless "
                "--cluster-cidr tells",
                address=f"{self._reconciler.outsider}",
            )

    def _carry(self) -> None:
        """Rules stand for all that is wanted."""
        news = self._reconciler.newly_carried()
        if not self.carried:
            news = {**news, **self._reconciler.carried()}
            self.carried = {}
        for key, addresses in news.items():
            if addresses:
                self.carried[key] = addresses
            else:
                self.carried.pop(key, None)
        self._news.update(news)

    async def _lapse(self) -> None:
        """Rules could not be written: if there are none at all any more, nothing is carried."""
        if self.carried and await self._kernel.is_lost():
            self._news.update(self.carried)
            self.carried.clear()

    async def _is_lost(self) -> bool:
        if self._clock() < self._glance_at:
            return False
        self._glance_at = self._clock() + _GLANCE_SECONDS
        is_lost = await self._kernel.is_lost()
        if is_lost:
            _log.warning("somebody has removed our rules: they are written anew")
        return is_lost

    async def _serve_health(self) -> None:
        for port, problem in (await self._health.serve(self._reconciler.health_checks())).items():
            _log.warning("cannot serve healthCheckNodePort", port=port, problem=str(problem))

    def wake_at(self) -> float:
        return min(self._check_at, self._glance_at)

    def samples(self) -> Iterator[Sample]:
        """What of users' Services is not done."""
        yield Sample(
            name="lbipam_datapath_services_with_problems",
            help="Services that are not carried as they are written; Events and the log tell why.",
            value=len(self._reconciler.problems),
        )

    async def close(self) -> None:
        """Rules stay: traffic goes on without us."""
        await self._health.close()
        await self._kernel.close()


async def remove_rules() -> None:
    """Take away all rules that an agent has left on this node."""
    kernel = NftDatapath()
    try:
        await kernel.cleanup()
    finally:
        await kernel.close()
