"""`agent`: builds the parts of one node's agent and runs them.

    reflectors ─▶ cache ─▶ parts observe ─ some milliseconds ─▶ withdraw ─▶ rules ─▶ announce

One task acts, whatever happened: first announcers let go of what they should not announce, then the rules
are made to stand, and only then what they carry or refuse is announced. The API going away changes nothing of what is
announced by BGP or carried. This file decides nothing else.
"""

import asyncio
import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from math import inf

import structlog

from lbipam.adapters import kube_config, telemetry
from lbipam.adapters.kube_client import Client
from lbipam.adapters.kube_events import Recorder
from lbipam.adapters.kube_reflector import Reflector
from lbipam.adapters.kube_writer import Writer
from lbipam.commands.agent.bgp import BgpPart
from lbipam.commands.agent.datapath import DatapathPart
from lbipam.commands.agent.l2 import L2Part
from lbipam.commands.agent.part import Part
from lbipam.commands.agent.settings import AgentSettings
from lbipam.commands.process import health_server, learn_without_pauses, once_ready, only, running
from lbipam.commands.served import served_bgp_kinds, served_pool_kind, served_slice_kind
from lbipam.controllers import bgp_node, datapath, l2
from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.ports import Event, Sample, SampleType, Upserted
from lbipam.kube import bgp_forms, forms
from lbipam.kube.kinds import Kind

_log = structlog.get_logger()

_COALESCE_SECONDS = 0.002
"""How long changes gather before they are acted upon."""
_STALLED_SECONDS = 60.0
"""How long the parts may take to act before the process is thought to hang."""
_RETRY_SECONDS = 5.0
"""After which time they act again when one of them could not."""


class Agent:
    """The pieces of one agent process."""

    def __init__(
        self, client: Client, settings: AgentSettings, slices: Kind, pools: Kind, kinds: bgp_forms.Kinds
    ) -> None:
        self._client = client
        self._settings = settings
        self._slices, self._pools, self._kinds = slices, pools, kinds
        self.cache = Cache()
        self.writer = Writer(client)
        self.recorder = Recorder(client)
        self.metrics = telemetry.Metrics(self._samples)
        self.reflectors: list[Reflector] = []
        self._announcers: list[Part] = []
        self._bgp: BgpPart | None = None
        self._datapath: DatapathPart | None = None
        self._awake = asyncio.Event()
        self._is_urgent = False
        """Whether traffic waits for what has changed: the first of such changes is acted upon at once."""
        self._acts_since = inf
        """When the parts began to act; for ever after while they do not."""
        self._retry_at = inf
        """When to act again because a part could not."""
        self._failures = 0
        self._has_acted = False
        """Whether the parts have acted upon all there is."""

    async def run(self) -> None:
        """Work until cancelled, then stop all parts."""
        async with AsyncExitStack() as stack:
            await self._open_parts(stack)
            self.reflectors = list(self._make_reflectors())
            background = [one.run() for one in self.reflectors]
            learning = learn_without_pauses(lambda: self._has_acted)
            async with running(self.writer.run(), self.recorder.run(), self._work(), learning, *background):
                await asyncio.get_running_loop().create_future()

    async def _open_parts(self, stack: AsyncExitStack) -> None:
        settings = self._settings
        if settings.carries_traffic:
            cluster_blocks = tuple(ipaddress.ip_network(cidr) for cidr in settings.cluster_cidrs)
            options = datapath.Options(node=settings.node, slices=self._slices, cluster_blocks=cluster_blocks)
            self._datapath = DatapathPart(self.cache, options, recorder=self.recorder)
            stack.push_async_callback(self._datapath.close)
        if settings.bgp:
            self._bgp = BgpPart(
                self.cache,
                bgp_node.Options(
                    node=settings.node,
                    secrets_namespace=settings.secrets_namespace,
                    announce_without_endpoints=settings.announce_without_endpoints,
                    leave_seconds=settings.drain_seconds,
                    slices=self._slices,
                    pools=self._pools,
                    kinds=self._kinds,
                ),
                writer=self.writer,
                recorder=self.recorder,
                awaits_rules=settings.carries_traffic,
            )
            self._announcers.append(self._bgp)
            stack.push_async_callback(self._bgp.close)
        if settings.l2:
            lan = L2Part(
                self.cache,
                l2.Options(
                    node=settings.node,
                    timing=settings.l2_timing,
                    namespace=settings.namespace,
                    slices=self._slices,
                ),
                client=self._client,
                recorder=self.recorder,
                answers_echo=not settings.carries_traffic,
                renew_seconds=settings.l2_renew_seconds,
                wake=self._awake.set,
                port=settings.l2_port,
            )
            if settings.carries_traffic:
                lan.carry({}, frozenset())
            await lan.open()
            self._announcers.append(lan)
            stack.push_async_callback(lan.close)

    @property
    def _parts(self) -> Sequence[Part]:
        own = [self._datapath] if self._datapath is not None else []
        return [*self._announcers, *own]

    def _make_reflectors(self) -> Iterator[Reflector]:
        """One for each kind that some part looks at, no wider than it must be."""
        settings = self._settings
        only_us = {"fieldSelector": f"metadata.name={settings.node}"}
        namespaces = {forms.SECRET: settings.secrets_namespace, forms.LEASE: settings.namespace}
        for kind in dict.fromkeys(kind for part in self._parts for kind in part.kinds):
            params = None
            # Answering on the LAN and carrying traffic, one has to know all nodes.
            needs_all = settings.l2 or settings.carries_traffic
            if kind is self._kinds.node_config or (kind is forms.NODE and not needs_all):
                params = only_us
            yield Reflector(
                self._client,
                kind,
                self._post,
                namespace=namespaces.get(kind, ""),
                params=params,
                # Our own Lease counts only beside what all others claim.
                in_pages=kind is not forms.LEASE,
            )

    def _post(self, event: Event) -> None:
        if isinstance(event, Upserted) and isinstance(event.object, forms.Service):
            carries = self._settings.carries_traffic
            forms.forget_what_agents_ignore(event.object, carries_traffic=carries)
        change = self.cache.store(event)
        if change is not None:
            self._is_urgent |= change.kind in (forms.SERVICE, self._slices)
            for part in self._parts:
                self._show(part, change)
        self._awake.set()

    def _show(self, part: Part, change: Change) -> None:
        try:
            part.observe(change)
        except Exception:  # noqa: BLE001 -- one object must not end what all nodes announce, whatever it is
            _log.exception("cannot take note", kind=change.kind.kind, object=str(change.key))
            self._failures += 1

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        acted_at = -inf
        while True:
            wake_at = min((self._retry_at, *(part.wake_at() for part in self._parts)))
            try:
                async with asyncio.timeout_at(wake_at):
                    await self._awake.wait()
            except TimeoutError:
                pass
            gathers_since = acted_at if self._is_urgent else loop.time()
            await asyncio.sleep(gathers_since + _COALESCE_SECONDS - loop.time())
            self._awake.clear()
            self._is_urgent = False
            self._acts_since = loop.time()
            knows_all = self.why_not_ready() is None
            if await act(self._announcers, self._datapath, self._bgp):
                self._retry_at = inf
                self._has_acted |= knows_all
            else:
                self._retry_at = loop.time() + _RETRY_SECONDS
                self._failures += 1
            self._acts_since = inf
            acted_at = loop.time()

    def why_not_healthy(self) -> str | None:
        """Why the process should be restarted; None if it should not."""
        if asyncio.get_running_loop().time() - self._acts_since > _STALLED_SECONDS:
            return "acting on changes does not come to an end"
        return self._bgp.why_not_healthy() if self._bgp is not None else None

    def why_not_ready(self) -> str | None:
        """Why not all that it should know is known yet."""
        missing = [one.kind.kind for one in self.reflectors if not self.cache.has_synced(one.kind)]
        return f"waiting for {', '.join(missing)}" if missing or not self.reflectors else None

    def _samples(self) -> Iterator[Sample]:
        yield Sample(
            name="lbipam_agent_failures",
            help="How often BGP, L2 or the rules met what they cannot handle: a bug.",
            value=self._failures,
            type=SampleType.COUNTER,
        )
        for reflector in self.reflectors:
            yield Sample(
                name="lbipam_watch_breaks",
                help="How often a watch broke and was taken up again.",
                value=reflector.breaks,
                labels={"kind": reflector.kind.kind},
                type=SampleType.COUNTER,
            )
        for part in self._parts:
            yield from part.samples()


async def act(announcers: Sequence[Part], datapath: DatapathPart | None, bgp: BgpPart | None) -> bool:
    """Let go of what should not be announced, make the rules stand, and announce what they are for.

    Args:
        announcers: those who announce, `bgp` among them.
        datapath: None where others carry the traffic.
        bgp: None where no routes are announced.

    Returns:
        Whether all could. Who cannot, for a bug, does not stop other announcers; but rules stay as they are, for
        it may announce what they carry.
    """
    if not await _announce(announcers):
        return False
    if datapath is None:
        return True
    try:
        # What rules stand for is announced, and that may be blocks with unused addresses, which need rules first.
        while await _carry_traffic(announcers, datapath, bgp):
            if not await _announce(announcers):
                return False
    except Exception:  # noqa: BLE001 -- see above
        _log.exception("the rules cannot be made to stand")
        return False
    return True


async def _announce(announcers: Sequence[Part]) -> bool:
    """Whether all of them could act."""
    done = True
    for part in announcers:
        try:
            await part.step()
        except Exception:  # noqa: BLE001 -- what others announce must not end
            _log.exception("a part of the agent cannot act", part=type(part).__name__)
            done = False
    return done


async def _carry_traffic(announcers: Sequence[Part], datapath: DatapathPart, bgp: BgpPart | None) -> bool:
    """Make the rules stand for all Services and for blocks announced whole; whether they stand for others now."""
    is_first, refused = datapath.carried is None, datapath.refused
    to_refuse = bgp.answers_for if bgp is not None else frozenset()
    if to_refuse is not None:
        datapath.refuse(to_refuse)
    await datapath.step()
    if datapath.carried is None:
        return False
    news = datapath.take_news()
    if is_first or news:
        for part in announcers:
            part.carry(datapath.carried, news)
    if bgp is not None and datapath.refused is not None and datapath.refused != refused:
        bgp.refuse(datapath.refused)
    return is_first or bool(news) or datapath.refused != refused


async def run_agent(kubeconfig: str | None, context: str | None, settings: AgentSettings) -> None:
    """Run an agent against a cluster until cancelled."""
    connection = await kube_config.connect(kubeconfig, context)
    # Of two on one node the first that ends would give up what the other still answers for.
    async with only(f"agent/{settings.node}"), Client(connection) as client:
        slices = await once_ready(client, served_slice_kind)
        pools = await once_ready(client, served_pool_kind)
        kinds = await once_ready(client, served_bgp_kinds)
        agent = Agent(client, settings, slices, pools, kinds)
        _log.info("agent starts", server=connection.url, node=settings.node)
        async with health_server(agent, settings.metrics_bind):
            await agent.run()
        _log.info("agent ends")
