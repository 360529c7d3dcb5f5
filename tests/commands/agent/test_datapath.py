"""The datapath as a part of the agent, in a network namespace of the test's own."""

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from ipaddress import ip_address, ip_network

import pytest

from lbipam.adapters.kube_client import Client
from lbipam.adapters.kube_config import Connection
from lbipam.commands.agent.datapath import DatapathPart
from lbipam.commands.agent.run import Agent
from lbipam.commands.agent.settings import AgentSettings
from lbipam.controllers.cache import Cache
from lbipam.controllers.datapath import Options
from lbipam.controllers.ports import Synced, Upserted
from lbipam.kube import bgp_forms, forms
from lbipam.kube.ipam import IP_POOL
from lbipam.kube.kinds import Key
from lbipam.localapi.server import LocalApi
from tests.adapters.test_nft_library import own_netns
from tests.builders_services import service
from tests.patience import running, until
from tests.worlds import LBIPAM

__all__ = ("own_netns",)

pytestmark = pytest.mark.lab


WEB = Key("default", "web")


class Node:
    """The part and the cache that it reads."""

    def __init__(self) -> None:
        self.cache = Cache()
        self.part = DatapathPart(self.cache, Options(node="n1"))

    def sync(self) -> None:
        for kind in self.part.kinds:
            self.cache.store(Synced(kind=kind))

    def put(self, written: forms.Service) -> None:
        change = self.cache.store(Upserted(kind=forms.SERVICE, object=written))
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


async def test_an_agent_knows_the_addresses_of_all_nodes_and_the_blocks_it_is_told(own_netns: str) -> None:
    """Rules refuse what is sent to an address and is nobody's: what is another node's must not be among it."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    settings = AgentSettings(
        node="n1", bgp=False, l2=False, carries_traffic=True, cluster_cidrs=("10.1.0.0/16",)
    )
    async with LocalApi() as api:

        async def token(_: bool) -> str:
            return api.token

        trust = ssl.create_default_context(cadata=api.ca_pem)
        async with Client(Connection(url=api.url, ssl=trust, token=token)) as client:
            for name, address in (("n1", "192.0.2.1"), ("n2", "192.0.2.2")):
                status = {"addresses": [{"type": "InternalIP", "address": address}]}
                body = json.dumps({"metadata": {"name": name}, "status": status}).encode()
                await client.request("POST", "/api/v1/nodes", body=body)
            agent = Agent(client, settings, forms.ENDPOINT_SLICE, IP_POOL, bgp_forms.V2)
            async with running(agent.run()):
                await until(lambda: "192.0.2.2" in listed() and "10.1.0.0/16" in listed(), told=listed)
