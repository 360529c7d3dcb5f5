"""One node's part in answering on the LAN: what holds it up, what its renewals say, what it counts."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import msgspec
import structlog
from aiohttp import web

from lbipam.adapters import l2_pipe, telemetry
from lbipam.adapters.kube_client import Client
from lbipam.adapters.kube_events import Recorder
from lbipam.commands.agent.l2 import L2Part
from lbipam.controllers.cache import Cache
from lbipam.controllers.l2 import Options
from lbipam.controllers.ports import Synced, Upserted
from lbipam.core.l2 import election
from lbipam.core.l2.announcements import Conflict, Stage
from lbipam.core.l2.interfaces import Interface
from lbipam.kube import forms, l2
from lbipam.kube.kinds import Kind
from tests.builders_l2 import lan_interfaces, policy
from tests.builders_services import service
from tests.scripted_api import Answer, ScriptedApi, refuse, reply

TIMING = election.Timing(duration_seconds=30.0, renew_deadline_seconds=20.0)


class Agent:
    """A part of a node with no interface but loopback, all that it looks at synced, and what it counts."""

    def __init__(self, part: L2Part, api: ScriptedApi, awake: asyncio.Event, cache: Cache) -> None:
        self.part, self.api = part, api
        self._cache = cache
        self._awake = awake

    def see(self, interfaces: Mapping[int, Interface]) -> None:
        """The node has other interfaces."""
        self.part._reconciler.see(interfaces)

    def know(self, kind: Kind, thing: Any) -> None:
        """The watch tells of an object."""
        change = self._cache.store(Upserted(kind=kind, object=thing))
        assert change is not None
        self.part.observe(change)

    async def woken(self) -> None:
        """Take the step that the part has asked for."""
        async with asyncio.timeout(20):
            await self._awake.wait()
        self._awake.clear()
        await self.part.step()

    async def until_written(self, count: int) -> None:
        """Step as an agent does, until so many Leases have been sent."""
        async with asyncio.timeout(20):
            while len(self.written) < count:
                await self.part.step()
                await asyncio.sleep(0.005)

    @property
    def written(self) -> list[dict[str, object]]:
        """The Leases as they were sent."""
        return [json.loads(one.body) for one in self.api.asked if one.method == "PATCH"]

    def shown(self) -> str:
        return telemetry.Metrics(self.part.samples).render().decode()


@asynccontextmanager
async def agent(*script: Answer, then: Answer, renew_seconds: float = 0.05) -> AsyncIterator[Agent]:
    options = Options(node="n1", timing=TIMING)
    cache, awake = Cache(), asyncio.Event()
    for kind in options.watched:
        cache.store(Synced(kind=kind))
    async with ScriptedApi(*script, then=then) as api, Client(api.connection) as client:
        part = L2Part(
            cache,
            options,
            client=client,
            recorder=Recorder(client),
            answers_echo=False,
            renew_seconds=renew_seconds,
            wake=awake.set,
        )
        await part.open()
        awake.clear()
        try:
            yield Agent(part, api, awake, cache)
        finally:
            await part.close()


def lease(version: int) -> Answer:
    name = "lbipam-l2-n1"
    return reply(
        {"metadata": {"name": name, "namespace": "kube-system", "resourceVersion": str(version)}, "spec": {}}
    )


async def test_a_hanging_api_holds_no_step_up_and_the_fence_counts_from_when_the_renewal_was_sent() -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def hang(request: web.Request) -> web.StreamResponse:
        asked.set()
        await may_answer.wait()
        return await lease(7)(request)

    async with agent(hang, then=lease(8)) as node:
        before = l2_pipe.now()
        await node.part.step()
        async with asyncio.timeout(20):
            await asked.wait()
        sent_by = l2_pipe.now()
        for _ in range(10):
            await node.part.step()
        assert len(node.written) == 1, "none is sent beside one that is under way"
        assert 'lbipam_l2_lease_renewals_total{result="accepted"} 0.0' in node.shown()
        may_answer.set()
        await node.woken()
        assert before + 20 <= node.part.valid_until <= sent_by + 20


async def test_a_renewal_tells_nothing_newer_than_what_has_been_applied() -> None:
    async with agent(then=lease(7)) as node:
        # The worker is still being started, so that this comes while the step waits for its answer.
        asyncio.get_running_loop().call_soon(node.see, lan_interfaces("eth7"))
        await node.until_written(2)
    first, second = (json.loads(one["metadata"]["annotations"][l2.TOLD]) for one in node.written[:2])  # type: ignore[index]
    assert "eth7" not in first["interfaces"]
    assert second["interfaces"] == ["eth7"]


async def test_a_renewal_tells_which_addresses_another_host_has() -> None:
    address = ip_address("192.0.2.80")
    conflict = Conflict(interface="eth0", address=address, rival=bytes(6), stage=Stage.CONFLICT)
    async with agent(then=lease(7)) as node:
        node.know(l2.ANNOUNCEMENT_POLICY, policy())
        node.know(forms.SERVICE, service("web", str(address)))
        node.part._heard(conflict)
        await node.until_written(1)
    told = msgspec.json.decode(node.written[0]["metadata"]["annotations"][l2.TOLD], type=l2.Told)  # type: ignore[index]
    assert l2.unpack(told.contested) == {address.packed}


async def test_an_address_that_another_host_has_is_told_of_before_the_next_renewal_is_due() -> None:
    address = ip_address("192.0.2.80")
    conflict = Conflict(interface="eth0", address=address, rival=bytes(6), stage=Stage.CONFLICT)
    async with agent(then=lease(7), renew_seconds=1000) as node:
        node.know(l2.ANNOUNCEMENT_POLICY, policy())
        node.know(forms.SERVICE, service("web", str(address)))
        await node.until_written(1)
        await node.woken()
        node.part._heard(conflict)
        await node.woken()
        await asyncio.sleep(node.part.wake_at() - asyncio.get_running_loop().time())
        await node.part.step()
        await node.woken()
    told = msgspec.json.decode(node.written[1]["metadata"]["annotations"][l2.TOLD], type=l2.Told)  # type: ignore[index]
    assert l2.unpack(told.contested) == {address.packed}


async def test_every_renewal_replaces_the_one_before_and_no_other() -> None:
    async with agent(lease(7), refuse(409, "Conflict"), lease(9), then=lease(10)) as node:
        await node.until_written(3)
        versions = [one["metadata"].get("resourceVersion") for one in node.written[:3]]  # type: ignore[attr-defined]
        assert versions == [None, "7", None], "after a refusal, what the watch knows: no Lease"


async def test_renewals_that_fail_are_told_once_and_so_is_the_silence() -> None:
    with structlog.testing.capture_logs() as logs:
        async with agent(*3 * [refuse(503)], lease(7), then=refuse(503)) as node:
            await node.until_written(7)
    told = [(one["log_level"], one["event"]) for one in logs if "enewed" in one["event"]]
    assert told == [
        ("info", "lease not renewed"),
        ("warning", "nothing is answered on the LAN until the Lease is renewed"),
        ("info", "lease not renewed"),
    ], "of the second trouble that there is still time"


async def test_an_answer_that_is_no_lease_is_a_renewal_that_failed() -> None:
    async with agent(reply(b"<html>"), then=lease(7)) as node:
        await node.until_written(2)
        assert 'lbipam_l2_lease_renewals_total{result="failed"} 1.0' in node.shown()


async def test_renewals_are_counted_by_result() -> None:
    async with agent(lease(7), refuse(500), then=lease(9)) as node:
        await node.until_written(3)
        shown = node.shown()
    assert 'lbipam_l2_lease_renewals_total{result="failed"} 1.0' in shown
    assert 'lbipam_l2_moves_total{direction="here"} 0.0' in shown
