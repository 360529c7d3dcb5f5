"""`controller`: builds the pieces of a controller and runs them.

    reflectors ──▶ loop (ipam) ──▶ writer ──▶ API server
                     ▲    └──────▶ recorder
    elector ─────────┘

What ends a controller cleanly is here, and only here: stop deciding, let writes under way end, give the Lease
up, close. This file decides nothing else.
"""

import asyncio
import contextlib
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import structlog

from lbipam.adapters import kube_config, telemetry
from lbipam.adapters.kube_client import Client
from lbipam.adapters.kube_events import Recorder
from lbipam.adapters.kube_lease import Elector, LeaseTiming
from lbipam.adapters.kube_reflector import Reflector
from lbipam.adapters.kube_writer import Writer, unfenced
from lbipam.commands.process import health_server, learn_without_pauses, once_ready, running
from lbipam.commands.served import served_bgp_kinds, served_pool_kind, served_slice_kind
from lbipam.controllers import bgp_cluster, ipam_metrics
from lbipam.controllers.bgp_cluster import BgpCluster
from lbipam.controllers.cache import Cache
from lbipam.controllers.ipam import Ipam, Phase
from lbipam.controllers.l2_policies import L2Policies
from lbipam.controllers.loop import Loop
from lbipam.controllers.node_ipam import NodeIpam
from lbipam.controllers.ports import Sample, SampleType
from lbipam.controllers.workqueue import WorkQueue
from lbipam.kube import bgp_forms, forms
from lbipam.kube.ipam import Responsibility
from lbipam.kube.kinds import Kind

_log = structlog.get_logger()

_LEASE = "lbipam-controller"
_DRAIN_SECONDS = 3.0
_STALLED_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings:
    """What a controller is told on its command line."""

    responsibility: Responsibility = field(default_factory=Responsibility)
    namespace: str | None = None
    """Where its Lease lies; by default that of the connection."""
    secrets_namespace: str = "kube-system"
    """Where the secrets of BGP peers lie."""
    node_ipam: bool = False
    """Give addresses of nodes to Services that ask for them by their class."""
    nodes_without_class: bool = False
    """With `node_ipam`: and to those that name no class."""
    leader_elect: bool = True
    lease: LeaseTiming = field(default_factory=LeaseTiming)
    metrics_bind: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """The election made this process a leader."""

    takeover: bool
    at: float
    """Seconds of the monotonic clock."""


class Controller:
    """The pieces of one controller process."""

    def __init__(
        self,
        client: Client,
        pool_kind: Kind,
        settings: ControllerSettings,
        slices: Kind = forms.ENDPOINT_SLICE,
        bgp_kinds: bgp_forms.Kinds = bgp_forms.V2,
    ) -> None:
        self.settings = settings
        self.identity = f"{socket.gethostname()}_{os.getpid()}_{secrets.token_hex(4)}"
        self._client = client
        self.cache = Cache()
        self.ipam = Ipam(
            cache=self.cache,
            queue=WorkQueue(),
            pool_kind=pool_kind,
            responsibility=settings.responsibility,
            identity=self.identity,
        )
        self._bgp = BgpCluster(
            cache=self.cache,
            queue=WorkQueue(),
            options=bgp_cluster.Options(secrets_namespace=settings.secrets_namespace, kinds=bgp_kinds),
        )
        self._l2 = L2Policies(cache=self.cache, queue=WorkQueue())
        self._node_ipam = self._make_node_ipam(slices) if settings.node_ipam else None
        self._others = [one for one in (self._bgp, self._l2, self._node_ipam) if one is not None]
        self.elector = self._make_elector() if settings.leader_elect else None
        seconds_left = self.elector.seconds_left if self.elector is not None else unfenced
        self.writer = Writer(client, seconds_left=seconds_left)
        self.recorder = Recorder(client)
        self.metrics = telemetry.Metrics(self._samples)
        self.loop = Loop(
            cache=self.cache,
            reconcilers=[self.ipam, *self._others],
            writer=self.writer,
            recorder=self.recorder,
            observer=self.metrics,
            clock=telemetry.wall_clock,
        )
        kinds = dict.fromkeys(kind for one in (self.ipam, *self._others) for kind in one.kinds)
        self.reflectors = [self._make_reflector(kind) for kind in kinds]
        self._turns: asyncio.Queue[_Turn] = asyncio.Queue()
        self._taken_over = False
        self._beat = time.monotonic()

    def _make_node_ipam(self, slices: Kind) -> NodeIpam:
        return NodeIpam(
            cache=self.cache,
            queue=WorkQueue(),
            without_class=self.settings.nodes_without_class,
            families=self.settings.responsibility.families,
            slices=slices,
        )

    def _make_elector(self) -> Elector:
        return Elector(
            self._client,
            namespace=self.settings.namespace or self._client.connection.namespace,
            name=_LEASE,
            identity=self.identity,
            on_started=self._started_leading,
            on_stopped=self._stopped_leading,
            timing=self.settings.lease,
        )

    def _started_leading(self, takeover: bool) -> None:
        self._taken_over = takeover
        self._turns.put_nowait(_Turn(takeover=takeover, at=time.monotonic()))

    def _stopped_leading(self) -> None:
        for reconciler in (self.ipam, *self._others):
            reconciler.follow()
        self.loop.wake()

    def _make_reflector(self, kind: Kind) -> Reflector:
        # Of the cluster's secrets, only those of BGP peers are ours to see.
        namespace = self.settings.secrets_namespace if kind is forms.SECRET else ""
        return Reflector(self._client, kind, self.loop.post, namespace=namespace)

    async def run(self) -> None:
        """Work until cancelled, then end cleanly."""
        learning = learn_without_pauses(lambda: self.why_not_ready() is None)
        async with running(self.recorder.run(), self._watch_pulse(), learning):
            try:
                async with running(self.writer.run()), self._deciding():
                    await asyncio.get_running_loop().create_future()
            finally:
                # With a write that may be under way, unanswered or given up when the fence fell, the Lease runs
                # out instead, so that the next leader is warned.
                if self.elector is not None and self.elector.leading and not self.writer.waiting:
                    unsettled = self._taken_over and not self.ipam.settled
                    await asyncio.shield(self.elector.release(unsettled=unsettled))

    @asynccontextmanager
    async def _deciding(self) -> AsyncIterator[None]:
        """Election, reflectors and loop; afterwards, time for the writes under way."""
        tasks = [self.loop.run(), self._learn(), self._take_turns()]
        if self.elector is not None:
            tasks.append(self.elector.run())
        else:
            self._started_leading(takeover=False)
        try:
            async with running(*tasks):
                yield
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await self.writer.drained()

    async def _learn(self) -> None:
        """Begin to list when it is known whether we lead: then a leader that starts need not list twice."""
        if self.elector is not None:
            await self.elector.settled.wait()
        async with asyncio.TaskGroup() as group:
            for reflector in self.reflectors:
                group.create_task(reflector.run())

    async def _take_turns(self) -> None:
        """Lead when the election says so, once all that a former leader wrote is known."""
        services = next(one for one in self.reflectors if one.kind is forms.SERVICE)
        while True:
            turn = await self._turns.get()
            await services.listed_since(turn.at)
            if self._turns.empty() and (self.elector is None or self.elector.leading):
                self.ipam.lead(takeover=turn.takeover)
                for reconciler in self._others:
                    reconciler.lead()
                self.loop.wake()

    async def _watch_pulse(self) -> None:
        while True:
            self._beat = time.monotonic()
            await asyncio.sleep(1.0)

    def why_not_healthy(self) -> str | None:
        """Why the process should be restarted; None if it should not."""
        if time.monotonic() - self._beat > _STALLED_SECONDS:
            return "the event loop stalls"
        return None

    def why_not_ready(self) -> str | None:
        """Why it cannot serve yet; None once all is known and, as a leader, decided."""
        if self.ipam.phase in (Phase.LEARNING, Phase.IMPORTING):
            missing = [kind.kind for kind in self.ipam.kinds if not self.cache.has_synced(kind)]
            return f"{self.ipam.phase.value}: waiting for {', '.join(missing) or 'the import'}"
        return None

    def _samples(self) -> Iterator[Sample]:
        yield from ipam_metrics.samples(self.ipam)
        if self._node_ipam is not None:
            yield from self._node_ipam.samples()
        yield Sample(
            name="lbipam_queue_length",
            help="Items that wait to be looked at.",
            value=sum(len(one.queue) for one in (self.ipam, *self._others)),
        )
        yield Sample(
            name="lbipam_writes_waiting", help="Writes that have no answer yet.", value=self.writer.waiting
        )
        yield Sample(
            name="lbipam_events_dropped",
            help="Kubernetes Events not recorded because there were too many.",
            value=self.recorder.dropped,
            type=SampleType.COUNTER,
        )
        for reflector in self.reflectors:
            labels = {"kind": reflector.kind.kind}
            yield Sample(
                name="lbipam_lists",
                help="How often all objects of a kind were listed.",
                value=reflector.lists,
                labels=labels,
                type=SampleType.COUNTER,
            )
            yield Sample(
                name="lbipam_watch_breaks",
                help="How often a watch broke and was taken up again.",
                value=reflector.breaks,
                labels=labels,
                type=SampleType.COUNTER,
            )


async def run_controller(kubeconfig: str | None, context: str | None, settings: ControllerSettings) -> None:
    """Run a controller against a cluster until cancelled."""
    connection = await kube_config.connect(kubeconfig, context)
    async with Client(connection) as client:
        pools, slices = await once_ready(client, served_pool_kind), forms.ENDPOINT_SLICE
        if settings.node_ipam:
            slices = await once_ready(client, served_slice_kind)
        bgp_kinds = await once_ready(client, served_bgp_kinds)
        controller = Controller(client, pools, settings, slices, bgp_kinds)
        _log.info("controller starts", server=connection.url, identity=controller.identity)
        async with health_server(controller, settings.metrics_bind):
            await controller.run()
        _log.info("controller ends")
