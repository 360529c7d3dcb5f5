import asyncio

import aiohttp
import pytest

from lbipam.localapi.faults import Delay, Drop, Refuse
from lbipam.localapi.server import LocalApi
from tests.localapi.conftest import SERVICES, Client, service


async def test_the_next_writes_are_refused_and_no_more(client: Client, api: LocalApi) -> None:
    api.faults.arm(
        Refuse(code=429, reason="TooManyRequests", message="slow down", retry_after_seconds=1), count=2
    )
    for _ in range(2):
        code, status = await client.ask("POST", SERVICES, service("a"))
        assert (code, status["reason"], status["details"]["retryAfterSeconds"]) == (429, "TooManyRequests", 1)
    await client.get(SERVICES)
    await client.create(SERVICES, service("a"))


async def test_a_fault_meets_only_what_it_names(client: Client, api: LocalApi) -> None:
    api.faults.arm(Refuse(), count=1, methods=frozenset(("GET",)), path="/services")
    await client.get("/api/v1/namespaces")
    assert (await client.ask("GET", SERVICES))[0] == 503
    await client.get(SERVICES)


async def test_a_dropped_request_is_done_or_not(client: Client, api: LocalApi) -> None:
    api.faults.arm(Drop(), count=1)
    with pytest.raises(aiohttp.ClientError):
        await client.ask("POST", SERVICES, service("lost"))
    api.faults.arm(Drop(done=True), count=1)
    with pytest.raises(aiohttp.ClientError):
        await client.ask("POST", SERVICES, service("done"))
    names = [item["metadata"]["name"] for item in (await client.get(SERVICES))["items"]]
    assert names == ["done", "kubernetes"]


async def test_a_delayed_request_is_answered_later(client: Client, api: LocalApi) -> None:
    api.faults.arm(Delay(seconds=0.2), count=1)
    clock = asyncio.get_running_loop().time
    begun = clock()
    await client.create(SERVICES, service("a"))
    assert clock() - begun >= 0.2


async def test_open_watches_end_with_410_when_history_is_forgotten(client: Client, api: LocalApi) -> None:
    watch = client.watch(f"{SERVICES}?watch=1")
    assert (await anext(watch))["type"] == "ADDED"
    api.faults.expire()
    async with asyncio.timeout(5):
        event = await anext(watch)
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_watches_are_cut(client: Client, api: LocalApi) -> None:
    watch = client.watch(f"{SERVICES}?watch=1")
    await anext(watch)
    api.faults.cut_watches()
    with pytest.raises((aiohttp.ClientError, StopAsyncIteration)):
        async with asyncio.timeout(5):
            await anext(watch)
    await client.get(SERVICES)


async def test_a_watch_breaks_off_in_the_middle_of_a_line(client: Client, api: LocalApi) -> None:
    watch = client.watch(f"{SERVICES}?watch=1")
    await anext(watch)
    api.faults.halve_lines(1)
    await client.create(SERVICES, service("a"))
    with pytest.raises((aiohttp.ClientError, ValueError)):
        async with asyncio.timeout(5):
            await anext(watch)
    assert (await anext(client.watch(f"{SERVICES}?watch=1")))["type"] == "ADDED"


async def test_cleared_faults_do_not_happen(client: Client, api: LocalApi) -> None:
    api.faults.arm(Refuse(), count=5)
    api.faults.clear()
    await client.create(SERVICES, service("a"))
