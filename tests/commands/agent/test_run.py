"""In which order the parts of an agent act, with real rules in a network namespace of the test's own."""

import asyncio
import subprocess
from collections.abc import Set as AbstractSet
from ipaddress import ip_address
from math import inf
from typing import NamedTuple

import pytest

from lbipam.adapters.kube_client import Client
from lbipam.commands.agent.datapath import DatapathPart
from lbipam.commands.agent.run import Agent, act
from lbipam.commands.agent.settings import AgentSettings
from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.datapath import Options
from lbipam.controllers.host import Carried
from lbipam.controllers.ports import Deleted, Event, Sample, Synced, Upserted
from lbipam.kube import bgp_forms, forms, ipam
from lbipam.kube.kinds import Key, Kind
from tests.adapters.test_bgp_tcp import no_file_descriptors
from tests.adapters.test_nft_library import own_netns
from tests.builders_services import service
from tests.patience import running, until
from tests.scripted_api import ScriptedApi

__all__ = ("own_netns",)

pytestmark = pytest.mark.lab

WEB, ADDRESS = Key("default", "web"), "10.0.0.1"


class Moment(NamedTuple):
    """What was so when an announcer had acted."""

    announced: bool
    rules_stand: bool


class Witness:
    """An announcer of the address if a Service has it and the node carries it; it looks at the kernel as it acts."""

    kinds: tuple[Kind, ...] = ()

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._carried: Carried = {}
        self.seen: list[Moment] = []

    def observe(self, change: Change) -> None:
        pass

    def carry(self, carried: Carried, news: AbstractSet[Key]) -> None:
        self._carried = carried

    async def step(self) -> None:
        web = self._cache.objects(forms.SERVICE).get(WEB)
        has_it = web is not None and any(entry.ip == ADDRESS for entry in web.status.load_balancer.ingress)
        announced = has_it and ip_address(ADDRESS) in self._carried.get(WEB, ())
        self.seen.append(Moment(announced, ADDRESS in listed()))

    def samples(self) -> tuple[Sample, ...]:
        return ()

    def wake_at(self) -> float:
        return inf

    async def close(self) -> None:
        pass


class Puzzled(Witness):
    """One that cannot act as long as there is a Service."""

    async def step(self) -> None:
        await super().step()
        if self._cache.objects(forms.SERVICE):
            raise ZeroDivisionError


def listed() -> str:
    return subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout


async def test_rules_stand_before_an_address_is_announced_and_go_after_it_is_withdrawn(
    own_netns: str,
) -> None:
    cache = Cache()
    datapath, witness = DatapathPart(cache, Options(node="n1")), Witness(cache)

    def learn(event: Event) -> None:
        change = cache.store(event)
        if change is not None:
            datapath.observe(change)

    try:
        learn(Upserted(kind=forms.SERVICE, object=service(WEB.name, ADDRESS)))
        for kind in datapath.kinds:
            learn(Synced(kind=kind))
        await act([witness], datapath, None)
        learn(Deleted(kind=forms.SERVICE, key=WEB))
        await act([witness], datapath, None)
    finally:
        await datapath.close()
    assert witness.seen == [
        Moment(announced=False, rules_stand=False),
        Moment(announced=True, rules_stand=True),
        Moment(announced=False, rules_stand=True),
        Moment(announced=False, rules_stand=False),
    ]


async def test_a_known_service_is_announced_only_once_there_are_rules_for_its_new_address(
    own_netns: str,
) -> None:
    cache = Cache()
    datapath, witness = DatapathPart(cache, Options(node="n1")), Witness(cache)

    def learn(*addresses: str) -> None:
        cache.store(Deleted(kind=forms.SERVICE, key=WEB))  # without versions none replaces the other
        change = cache.store(Upserted(kind=forms.SERVICE, object=service(WEB.name, *addresses)))
        assert change is not None
        datapath.observe(change)

    try:
        learn()
        for kind in datapath.kinds:
            cache.store(Synced(kind=kind))
        await act([witness], datapath, None)
        witness.seen.clear()
        learn(ADDRESS)
        await act([witness], datapath, None)
        learn()
        await act([witness], datapath, None)
    finally:
        await datapath.close()
    assert witness.seen == [
        Moment(announced=False, rules_stand=False),
        Moment(announced=True, rules_stand=True),
        Moment(announced=False, rules_stand=True),
        Moment(announced=False, rules_stand=False),
    ]


async def test_without_rules_nothing_is_announced_until_they_can_be_written_again(own_netns: str) -> None:
    cache = Cache()
    datapath, witness = DatapathPart(cache, Options(node="n1")), Witness(cache)
    change = cache.store(Upserted(kind=forms.SERVICE, object=service(WEB.name, ADDRESS)))
    assert change is not None
    try:
        datapath.observe(change)
        for kind in datapath.kinds:
            cache.store(Synced(kind=kind))
        await act([witness], datapath, None)
        assert witness.seen[-1] == Moment(announced=True, rules_stand=True)
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        await asyncio.sleep(datapath.wake_at() - asyncio.get_running_loop().time())
        with no_file_descriptors():  # the kernel answers on the socket that is open, the library opens others
            await act([], datapath, None)
        witness.seen.clear()
        await act([witness], datapath, None)
        assert witness.seen[0] == Moment(announced=False, rules_stand=False)
        await asyncio.sleep(max(datapath.wake_at() - asyncio.get_running_loop().time(), 0))
        await act([witness], datapath, None)
        assert witness.seen[-1] == Moment(announced=True, rules_stand=True)
    finally:
        await datapath.close()


async def test_who_cannot_act_stops_no_other_and_keeps_its_rules(own_netns: str) -> None:
    cache = Cache()
    datapath = DatapathPart(cache, Options(node="n1"))
    puzzled, witness = Puzzled(cache), Witness(cache)
    try:
        for kind in datapath.kinds:
            cache.store(Synced(kind=kind))
        cache.store(Upserted(kind=forms.SERVICE, object=service(WEB.name, ADDRESS)))
        assert not await act([puzzled, witness], datapath, None)
        assert [len(one.seen) for one in (puzzled, witness)] == [1, 1]
        assert "lbipam" not in listed()
        cache.store(Deleted(kind=forms.SERVICE, key=WEB))
        assert await act([puzzled, witness], datapath, None)
        assert "lbipam" in listed()
    finally:
        await datapath.close()


async def test_what_all_nodes_claim_is_heard_at_once(own_netns: str) -> None:
    """Between two pages, our own Lease would count before the claims of the second are known."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    async with ScriptedApi() as api, Client(api.connection) as client:
        settings = AgentSettings(node="n1", bgp=False)
        node_agent = Agent(client, settings, forms.ENDPOINT_SLICE, ipam.IP_POOL, bgp_forms.V2)
        leases = forms.LEASE.path(settings.namespace)
        async with running(node_agent.run()):
            await until(lambda: len(api.asked) == len(node_agent.reflectors) > 0)
            assert {asked.path for asked in api.asked if "limit" not in asked.query} == {leases}
