"""BGP as a part of the agent: how often its status is written, and what becomes of the thread beside it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiohttp import web

from lbipam.adapters.bfd_udp import BfdThread
from lbipam.adapters.kube_client import Client
from lbipam.adapters.kube_events import Recorder
from lbipam.adapters.kube_writer import Writer
from lbipam.commands.agent.bgp import BgpPart
from lbipam.commands.agent.run import Agent
from lbipam.commands.agent.settings import AgentSettings
from lbipam.commands.process import running
from lbipam.controllers.bgp_node import Options
from lbipam.kube import forms
from lbipam.kube.kinds import Kind
from tests.builders_bgp import World, instance, peer
from tests.patience import until
from tests.scripted_api import ScriptedApi, reply

OPTIONS = Options(node="n1")
CONFIG, PEER_CONFIG = OPTIONS.kinds.node_config, OPTIONS.kinds.peer_config


class Node(World):
    """Node n1 with one peer that nobody is behind, and the writes of its statuses."""

    def __init__(self, part: Callable[["Node"], BgpPart]) -> None:
        super().__init__(*OPTIONS.watched)
        self.written_at: list[float] = []
        self.part = part(self)
        addresses = [{"type": "InternalIP", "address": "192.0.2.1"}]
        self.tell(forms.NODE, status={"addresses": addresses})
        self.configure()

    def tell(self, kind: Kind, **body: Any) -> None:
        self.part.observe(self.put(kind, "n1", **body))

    def configure(self) -> None:
        """The configuration as if nobody had ever written its status."""
        tor = peer("tor", "127.0.0.1", localAddress="127.0.0.1", peerConfigRef={"name": "n1"})
        self.tell(CONFIG, spec={"bgpInstances": [instance("main", tor)]})

    async def until(self, condition: Callable[[], bool]) -> None:
        """Step as fast as can be, until it holds."""
        async with asyncio.timeout(30):
            while not condition():
                await self.part.step()
                await asyncio.sleep(0.001)


@asynccontextmanager
async def node(*, code: int = 200) -> AsyncIterator[Node]:
    async def write(request: web.Request) -> web.StreamResponse:
        one.written_at.append(time.monotonic())
        return await reply({"metadata": {"name": "n1", "resourceVersion": "1"}}, code)(request)

    async with ScriptedApi(then=write) as api, Client(api.connection) as client:
        writer = Writer(client)
        one = Node(
            lambda node: BgpPart(
                node.cache, OPTIONS, writer=writer, recorder=Recorder(client), awaits_rules=False
            )
        )
        one.tell(PEER_CONFIG, spec={"transport": {"peerPort": 9}})
        async with running(writer.run()):
            try:
                yield one
            finally:
                await one.part.close()


async def test_a_status_that_changes_all_the_time_is_written_once_a_second() -> None:
    async with node() as one:
        began = time.monotonic()

        def has_had_its_chances() -> bool:
            # Nothing of what was written is seen, so that there is something to be written at each step.
            one.configure()
            return time.monotonic() - began > 3.5

        await one.until(has_had_its_chances)
        took = time.monotonic() - began
        assert 2 <= len(one.written_at) <= took + 1


async def test_a_status_that_is_refused_is_told_of_and_not_sent_every_second() -> None:
    with structlog.testing.capture_logs() as logs:
        async with node(code=403) as one:
            await one.until(lambda: "status refused" in [told["event"] for told in logs])
            began = time.monotonic()
            await one.until(lambda: time.monotonic() - began > 2.2)
            assert len(one.written_at) == 1


def die() -> None:
    raise SystemExit("as a test wants it")


async def test_a_dead_thread_of_bfd_is_told_and_the_rest_goes_on() -> None:
    async with node() as one:
        assert one.part.why_not_healthy() is None
        one.tell(
            PEER_CONFIG,
            metadata={"annotations": {"lbipam.dev/bfd": "300ms/3"}},
            spec={"transport": {"peerPort": 9}},
        )
        await one.until(lambda: one.part._bfd is not None)
        assert one.part.why_not_healthy() is None
        assert one.part._bfd is not None
        one.part._bfd._loop.call_soon_threadsafe(die)
        await one.until(lambda: one.part.why_not_healthy() is not None)
        assert "BFD has died" in str(one.part.why_not_healthy())
        one.configure()
        await one.part.step()


async def test_an_agent_whose_thread_of_bfd_has_died_is_not_healthy() -> None:
    async with ScriptedApi() as api, Client(api.connection) as client:
        settings = AgentSettings(node="n1", l2=False)
        agent = Agent(client, settings, OPTIONS.slices, OPTIONS.pools, OPTIONS.kinds)
        async with running(agent.run()):
            await until(lambda: agent._bgp is not None)
            assert agent.why_not_healthy() is None
            assert agent._bgp is not None
            agent._bgp._bfd = BfdThread(lambda _name, _change: None)
            agent._bgp._bfd._loop.call_soon_threadsafe(die)
            await until(lambda: agent.why_not_healthy() is not None)
            assert "BFD has died" in str(agent.why_not_healthy())
