"""BGP as a part of the agent: what its status says and how often, and what becomes of the paths that it watches."""

import asyncio
import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest
import structlog
from aiohttp import web

from lbipam.adapters.bfd_udp import MANY_HOPS_PORT, ONE_HOP_PORT, BfdThread
from lbipam.adapters.bgp_tcp import Speaker
from lbipam.adapters.kube_client import Client
from lbipam.adapters.kube_events import Recorder
from lbipam.adapters.kube_writer import Writer
from lbipam.commands.agent.bgp import BgpPart
from lbipam.commands.agent.run import Agent
from lbipam.commands.agent.settings import AgentSettings
from lbipam.commands.process import running
from lbipam.controllers.bgp_node import Options
from lbipam.controllers.bgp_sessions import PeerId
from lbipam.core.bfd.packets import Diagnostic, State
from lbipam.core.bfd.session import Change
from lbipam.core.bgp.peers import Peer, PeerDown, PeerEvent, PeerUp, SpeakerState
from lbipam.kube import forms
from lbipam.kube.kinds import Kind
from tests.adapters.test_bgp_tcp import Moody, free_port
from tests.bfd_router import THERE, Router
from tests.builders_bgp import World, instance, peer
from tests.lab.l2 import inside, lan
from tests.patience import until
from tests.scripted_api import ScriptedApi, reply

missing = lan.why_no_lab()
needs_a_lab = pytest.mark.skipif(missing is not None, reason=str(missing))

EXPIRED = Diagnostic.CONTROL_DETECTION_TIME_EXPIRED
OPTIONS = Options(node="n1")
CONFIG, PEER_CONFIG = OPTIONS.kinds.node_config, OPTIONS.kinds.peer_config


class Node(World):
    """Node n1 with one peer that nobody is behind, and the writes of its statuses."""

    def __init__(self, part: Callable[["Node"], BgpPart]) -> None:
        super().__init__(*OPTIONS.watched)
        self.written_at: list[float] = []
        self.status: dict[str, Any] = {}
        """As it was written last."""
        self.events: list[dict[str, Any]] = []
        self.part = part(self)
        addresses = [{"type": "InternalIP", "address": "192.0.2.1"}]
        self.tell(forms.NODE, status={"addresses": addresses})
        self.configure()

    def tell(self, kind: Kind, **body: Any) -> None:
        self.part.observe(self.put(kind, "n1", **body))

    def configure(self, *instances: dict[str, Any]) -> None:
        """The configuration as if nobody had ever written its status."""
        tor = peer("tor", "127.0.0.1", localAddress="127.0.0.1", peerConfigRef={"name": "n1"})
        self.tell(CONFIG, spec={"bgpInstances": list(instances or (instance("main", tor),))})

    def watch(self, *, port: int = 9, timing: str = "100ms/3") -> None:
        """BFD for all peers that refer to the one configuration of peers."""
        self.tell(
            PEER_CONFIG,
            metadata={"annotations": {"lbipam.dev/bfd": timing}},
            spec={"transport": {"peerPort": port}},
        )

    def condition(self, type_: str) -> tuple[str, str]:
        """The status and message of a condition as it was written last."""
        for one in self.status.get("conditions", []):
            if one["type"] == type_:
                return one["status"], one["message"]
        return "", ""

    def sample(self, name: str) -> list[float]:
        return [one.value for one in self.part.samples() if one.name == name]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Step as fast as can be, until it holds."""
        async with asyncio.timeout(30):
            while not condition():
                await self.part.step()
                await asyncio.sleep(0.001)


@asynccontextmanager
async def node(*, code: int = 200) -> AsyncIterator[Node]:
    async def write(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if "/events" in request.path:
            one.events.append(body)
        else:
            one.written_at.append(time.monotonic())
            one.status = body[-1]["value"]
        return await reply({"metadata": {"name": "n1", "resourceVersion": "1"}}, code)(request)

    async with ScriptedApi(then=write) as api, Client(api.connection) as client:
        writer, recorder = Writer(client), Recorder(client)
        one = Node(
            lambda node: BgpPart(node.cache, OPTIONS, writer=writer, recorder=recorder, awaits_rules=False)
        )
        one.tell(PEER_CONFIG, spec={"transport": {"peerPort": 9}})
        async with running(writer.run(), recorder.run()):
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
        one.watch()
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


def refuse(*_: object) -> MutableMapping[str, Any]:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def full_disk() -> Iterator[None]:
    """Nothing can be logged inside of the block."""
    processors = structlog.get_config()["processors"]
    processors.insert(0, refuse)
    try:
        yield
    finally:
        processors.remove(refuse)


async def test_what_could_not_be_done_is_done_later() -> None:
    async with node() as one:
        with socket.create_server(("", 0)) as taken:
            tor = peer("tor", "127.0.0.1", localAddress="127.0.0.1", peerConfigRef={"name": "n1"})
            port = taken.getsockname()[1]
            one.configure(instance("main", tor, localPort=port))
            with full_disk(), pytest.raises(OSError, match="No space left"):
                await one.part.step()
            why = f"main: cannot listen for peers: port {port}: Address already in use\n"
            await one.until(lambda: one.condition("cilium.io/BGPReconcileError") == ("True", why))
        await one.until(lambda: one.condition("cilium.io/BGPReconcileError") == ("False", ""))
        assert [told["name"] for told in one.status["bgpInstances"][0]["peers"]] == ["tor"]


async def test_a_bug_that_a_peer_meets_is_told() -> None:
    async with node() as one:
        await one.part.step()
        moody = Peer(address=ip_address("127.0.0.2"), connect_retry_seconds=Moody(1))
        one.part._speakers["main"].apply(
            SpeakerState(local_asn=64512, router_id=IPv4Address("192.0.2.1"), peers={"moody": moody})
        )
        why = "main: peer moody: met a bug: ValueError('in a bad mood')\n"
        await one.until(lambda: one.condition("cilium.io/BGPReconcileError") == ("True", why))


@pytest.mark.parametrize("name", ["main", "rack/1"])
async def test_a_dead_path_ends_the_session_with_that_peer(name: str) -> None:
    heard: list[PeerEvent] = []
    router = Speaker(heard.append)
    try:
        port = free_port()
        us = Peer(address=ip_address("127.0.0.1"), local_address=ip_address("127.0.0.2"), asn=64512, port=9)
        router.apply(
            SpeakerState(
                local_asn=64500, router_id=IPv4Address("127.0.0.2"), listen_port=port, peers={"us": us}
            )
        )
        async with node() as one:
            one.tell(PEER_CONFIG, spec={"transport": {"peerPort": port}})
            tor = peer("tor", "127.0.0.2", localAddress="127.0.0.1", peerConfigRef={"name": "n1"})
            one.configure(instance(name, tor))
            await one.until(lambda: heard == [PeerUp(peer="us")])
            one.part._path_changed(PeerId(name, "tor"), Change(state=State.DOWN, diagnostic=EXPIRED))
            await one.until(lambda: len(heard) == 2)
    finally:
        await router.close(keep_routes=False)
    assert isinstance(heard[1], PeerDown)
    assert str(heard[1].ending) == "received Cease/Bfd Down (6/10)"


def on_a_lan(test: Callable[[Node, Router], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a node and a router that are alone with each other."""

    async def run() -> None:
        with Router() as router:
            async with node() as one:
                await test(one, router)

    inside.with_link(run)


@pytest.mark.lab
@needs_a_lab
def test_paths_are_told_as_bfd_finds_them() -> None:
    async def test(one: Node, router: Router) -> None:
        tor = peer("tor", THERE, peerConfigRef={"name": "n1"})
        one.watch()
        one.configure(instance("rack/1", tor))
        await one.until(lambda: one.condition("lbipam.dev/BFDDown") == ("True", "rack/1/tor is down"))
        assert one.sample("lbipam_bfd_session_up") == [0]
        coming = asyncio.create_task(router.come_up())
        await one.until(lambda: one.condition("lbipam.dev/BFDDown") == ("False", ""))
        assert one.sample("lbipam_bfd_session_up") == [1]
        assert one.sample("lbipam_bfd_failures") == [0]
        router.say(State.DOWN, yours=await coming)
        await one.until(lambda: one.condition("lbipam.dev/BFDDown") == ("True", "rack/1/tor is down"))
        assert one.sample("lbipam_bfd_failures") == [1]
        await one.until(lambda: len(one.events) == 2)
        assert [(told["reason"], told["type"], told["message"]) for told in one.events] == [
            ("BFDUp", "Normal", "rack/1: the path to tor is alive"),
            ("BFDDown", "Warning", "rack/1: the path to tor is dead: neighbor signaled session down"),
        ]
        assert {told["involvedObject"]["kind"] for told in one.events} == {"CiliumBGPNodeConfig"}

    on_a_lan(test)


@pytest.mark.lab
@needs_a_lab
def test_bfd_that_is_switched_off_on_purpose_is_no_failure() -> None:
    async def test(one: Node, router: Router) -> None:
        one.watch()
        one.configure(instance("main", peer("tor", THERE, peerConfigRef={"name": "n1"})))
        coming = asyncio.create_task(router.come_up())
        await one.until(coming.done)
        router.say(State.ADMIN_DOWN, yours=coming.result())
        await one.until(lambda: len(one.events) == 2)
        assert (one.events[1]["type"], one.sample("lbipam_bfd_failures")) == ("Normal", [0])
        assert one.events[1]["message"].endswith("watched no longer: the peer has switched BFD off")

    on_a_lan(test)


@pytest.mark.lab
@needs_a_lab
def test_a_port_that_another_program_has_is_told() -> None:
    async def test(one: Node, _router: Router) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("", ONE_HOP_PORT))
            one.watch()
            why = "main: peer tor: BFD cannot watch the path: Address already in use\n"
            await one.until(lambda: one.condition("cilium.io/BGPReconcileError") == ("True", why))
        await one.until(lambda: one.condition("cilium.io/BGPReconcileError") == ("False", ""))

    on_a_lan(test)


@pytest.mark.lab
@needs_a_lab
def test_an_internal_peer_beyond_a_router_is_watched_across_it() -> None:
    async def test(one: Node, router: Router) -> None:
        one.watch()
        peers = [
            peer(name, address, peerASN=64512, peerConfigRef={"name": "n1"})
            for name, address in (("near", THERE), ("far", "203.0.113.1"))
        ]
        one.configure(instance("main", *peers))

        def ports() -> set[tuple[str, int]]:
            router.listen()
            return {(heard.destination, heard.port) for heard in router.heard}

        expected = {(THERE, ONE_HOP_PORT), ("203.0.113.1", MANY_HOPS_PORT)}
        await one.until(lambda: len(ports()) == len(expected))
        assert ports() == expected

    on_a_lan(test)
