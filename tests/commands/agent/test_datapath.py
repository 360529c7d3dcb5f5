"""The datapath as a part of the agent, in a network namespace of the test's own."""

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from typing import Any

import aiohttp
import pytest
import structlog.testing

from lbipam.adapters import nft_library
from lbipam.adapters.kube_client import Client
from lbipam.adapters.kube_config import Connection
from lbipam.commands.agent.datapath import DatapathPart
from lbipam.commands.agent.run import Agent
from lbipam.commands.agent.settings import AgentSettings
from lbipam.controllers.cache import Cache
from lbipam.controllers.datapath import Options
from lbipam.controllers.ports import EmitEvent, Recorder, Synced, Upserted
from lbipam.kube import bgp_forms, forms
from lbipam.kube.ipam import IP_POOL
from lbipam.kube.kinds import Key, Kind
from lbipam.localapi.server import LocalApi
from tests.adapters.test_nft_library import own_netns
from tests.builders_l2 import node as a_node
from tests.builders_services import endpoint, endpoint_slice, service
from tests.patience import running, until
from tests.worlds import LBIPAM

__all__ = ("own_netns",)

pytestmark = pytest.mark.lab


WEB = Key("default", "web")


class Node:
    """The part and the cache that it reads."""

    def __init__(self, recorder: Recorder | None = None) -> None:
        self.cache = Cache()
        self.part = DatapathPart(self.cache, Options(node="n1"), recorder=recorder)

    def sync(self) -> None:
        for kind in self.part.kinds:
            self.cache.store(Synced(kind=kind))

    def put(self, written: forms.Service) -> None:
        self.change(forms.SERVICE, written)

    def change(self, kind: Kind, thing: Any) -> None:
        change = self.cache.store(Upserted(kind=kind, object=thing))
        assert change is not None
        self.part.observe(change)


@pytest.fixture
async def node(own_netns: str) -> AsyncIterator[Node]:
    node = Node()
    yield node
    await node.part.close()


def listed() -> str:
    return subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout


async def test_nothing_is_carried_before_everything_is_known(node: Node) -> None:
    await node.part.step()
    assert node.part.carried is None
    assert listed() == ""


async def test_what_is_carried_stands(node: Node) -> None:
    node.put(service("web", "10.0.0.1"))
    node.sync()
    await node.part.step()
    assert node.part.carried == {WEB: (ip_address("10.0.0.1"),)}
    assert node.part.take_news() == {WEB}
    assert "10.0.0.1" in listed()


async def test_blocks_count_as_refused_once_they_stand(node: Node) -> None:
    block = ip_network("10.0.0.0/28")
    seen = []
    node.part.refuse(frozenset({block}))
    await node.part.step()
    seen.append(node.part.refused)
    node.sync()
    await node.part.step()
    seen.append(node.part.refused)
    assert "10.0.0.0/28" in listed()
    node.part.refuse(frozenset())
    seen.append(node.part.refused)
    await node.part.step()
    seen.append(node.part.refused)
    assert seen == [None, frozenset({block}), frozenset({block}), frozenset()]


async def test_rules_that_somebody_flushes_stand_again_within_a_second(node: Node) -> None:
    node.put(service("web", "10.0.0.1"))
    node.sync()
    await node.part.step()
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    wait = node.part.wake_at() - asyncio.get_running_loop().time()
    assert wait <= 1
    await asyncio.sleep(wait)
    await node.part.step()
    assert "10.0.0.1" in listed()


async def test_steps_without_news_do_not_put_the_next_look_at_the_kernel_off(node: Node) -> None:
    node.sync()
    await node.part.step()
    due = node.part.wake_at()
    assert due > asyncio.get_running_loop().time()
    await node.part.step()
    assert node.part.wake_at() == due


async def test_what_was_left_is_removed_by_a_command_that_need_not_know_the_node(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NODE_NAME", raising=False)
    node.put(service("web", "10.0.0.1"))
    node.sync()
    await node.part.step()
    assert listed()
    subprocess.run([LBIPAM, "agent", "--cleanup"], check=True)
    assert listed() == ""


@pytest.mark.looptime
async def test_what_others_have_changed_is_mended_within_half_a_minute(node: Node) -> None:
    loop = asyncio.get_running_loop()
    node.put(service("web", "10.0.0.1"))
    node.sync()
    await node.part.step()
    subprocess.run(["nft", "delete element inet lbipam addresses4 { 10.0.0.1 }"], check=True)
    until_when = loop.time() + 30
    while loop.time() < until_when:
        await asyncio.sleep(node.part.wake_at() - loop.time())
        await node.part.step()
    assert "10.0.0.1" in listed()


@pytest.mark.looptime
async def test_what_could_not_be_done_is_tried_again_soon(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    node.put(service("web", "10.0.0.1"))
    node.sync()
    with monkeypatch.context() as absent:
        absent.setattr(nft_library, "LIBRARY", "libnftables-that-is-not-there.so.1")
        absent.setenv("PATH", "/nowhere")
        await node.part.step()
    assert listed() == ""
    assert not node.part.take_news()
    wait = node.part.wake_at() - loop.time()
    assert wait <= 5
    await asyncio.sleep(wait)
    await node.part.step()
    assert node.part.carried == {WEB: (ip_address("10.0.0.1"),)}
    assert "10.0.0.1" in listed()


async def test_rules_stay_when_the_agent_ends(own_netns: str) -> None:
    node = Node()
    node.put(service("web", "10.0.0.1"))
    node.sync()
    await node.part.step()
    await node.part.close()
    assert "10.0.0.1" in listed()


async def test_load_balancers_are_told_whether_the_node_has_endpoints(node: Node) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    node.put(service("web", "10.0.0.1", externalTrafficPolicy="Local", healthCheckNodePort=31000))
    node.sync()
    await node.part.step()
    async with aiohttp.ClientSession() as session, session.get("http://127.0.0.1:31000/healthz") as answer:
        assert answer.status == 503


async def test_what_cannot_be_understood_is_logged_once(node: Node) -> None:
    node.put(service("web", "10.0.0.1", annotations={"lbipam.dev/algorithm": "best"}))
    node.sync()
    with structlog.testing.capture_logs() as logs:
        await node.part.step()
        await node.part.step()
    (told,) = logs
    assert told["service"] == "default/web"
    assert "best" in told["problem"]


async def test_a_pod_of_no_known_block_is_logged_once(node: Node) -> None:
    node.change(forms.NODE, a_node("n1"))
    for name in ("web", "api"):
        node.put(service(name, "10.0.0.1"))
        node.change(forms.ENDPOINT_SLICE, endpoint_slice(name, endpoint("10.9.0.1", "n1")))
    node.sync()
    with structlog.testing.capture_logs() as logs:
        await node.part.step()
        await node.part.step()
    (told,) = logs
    assert told["address"] == "10.9.0.1"


async def test_a_service_that_the_kernel_does_not_take_is_not_carried(node: Node) -> None:
    for_ever = {"clientIP": {"timeoutSeconds": 10**20}}
    node.put(service("web", "10.0.0.1"))
    node.put(service("odd", "10.0.0.2", sessionAffinity="ClientIP", sessionAffinityConfig=for_ever))
    for name in ("web", "odd"):
        node.change(forms.ENDPOINT_SLICE, endpoint_slice(name, endpoint("10.1.0.1", "n2")))
    node.sync()
    with structlog.testing.capture_logs() as logs:
        await node.part.step()
    assert node.part.carried == {WEB: (ip_address("10.0.0.1"),)}
    (told,) = logs
    assert told["service"] == "default/odd"
    (sample,) = node.part.samples()
    assert sample.value == 1


class Told:
    """A recorder that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[EmitEvent] = []

    def emit(self, event: EmitEvent) -> None:
        self.events.append(event)


@pytest.mark.parametrize(("other", "times"), [("n2", 1), ("a", 0)], ids=["the first", "another"])
async def test_of_all_nodes_the_first_tells_users(own_netns: str, other: str, times: int) -> None:
    told = Told()
    node = Node(recorder=told)
    for name in ("n1", other):
        node.change(forms.NODE, a_node(name))
    node.put(service("web", "10.0.0.1", annotations={"lbipam.dev/algorithm": "best"}))
    node.sync()
    await node.part.step()
    assert len(told.events) == times
    await node.part.close()


@asynccontextmanager
async def api_with_nodes() -> AsyncIterator[Client]:
    """An API server that knows the nodes n1 and n2."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    async with LocalApi() as api:

        async def token(_: bool) -> str:
            return api.token

        trust = ssl.create_default_context(cadata=api.ca_pem)
        async with Client(Connection(url=api.url, ssl=trust, token=token)) as client:
            for name, address in (("n1", "192.0.2.1"), ("n2", "192.0.2.2")):
                status = {"addresses": [{"type": "InternalIP", "address": address}]}
                await create(client, "/api/v1/nodes", {"metadata": {"name": name}, "status": status})
            yield client


async def create(client: Client, path: str, thing: dict[str, Any]) -> None:
    await client.request("POST", path, body=json.dumps(thing).encode())


def agent(client: Client, **settings: Any) -> Agent:
    """One that carries traffic and announces nothing."""
    told = AgentSettings(bgp=False, l2=False, carries_traffic=True, **settings)
    return Agent(client, told, forms.ENDPOINT_SLICE, IP_POOL, bgp_forms.V2)


async def test_an_agent_knows_the_addresses_of_all_nodes_and_the_blocks_it_is_told(own_netns: str) -> None:
    """Rules refuse what is sent to an address and is nobody's: what is another node's must not be among it."""
    async with (
        api_with_nodes() as client,
        running(agent(client, node="n1", cluster_cidrs=("10.1.0.0/16",)).run()),
    ):
        await until(lambda: "192.0.2.2" in listed() and "10.1.0.0/16" in listed(), told=listed)


async def test_users_are_told_of_problems(own_netns: str) -> None:
    async with api_with_nodes() as client:
        web = {
            "metadata": {"name": "web", "annotations": {"lbipam.dev/algorithm": "best"}},
            "spec": {"ports": [{"port": 80}]},
        }
        await create(client, "/api/v1/namespaces/default/services", web)
        async with running(agent(client, node="n1").run()), asyncio.timeout(20):
            events: list[dict[str, Any]] = []
            while not events:
                events = json.loads(await client.request("GET", "/api/v1/namespaces/default/events"))["items"]
        (event,) = events
        assert event["type"] == "Warning"
        assert "best" in event["message"]
