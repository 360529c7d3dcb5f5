"""A node's Lease on real API servers: only ever replaced by who knows what it replaces."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from lbipam.adapters.kube_client import ApiError, Client
from lbipam.adapters.kube_config import Connection
from lbipam.adapters.kube_events import Recorder
from lbipam.commands.agent.l2 import L2Part
from lbipam.controllers.cache import Cache
from lbipam.controllers.l2 import Options
from lbipam.controllers.ports import Synced, Upserted
from lbipam.core.l2 import election
from lbipam.kube import forms, l2
from lbipam.kube.forms import Lease
from lbipam.kube.kinds import Key
from tests.scripted_api import ScriptedApi, reply

TIMING = election.Timing(duration_seconds=30.0, renew_deadline_seconds=20.0)
NODE = f"lease-test-{os.getpid()}"
KEY = Key("kube-system", l2.lease_name(NODE))
TOLD = l2.Told(duration_seconds=30.0)


async def read(client: Client) -> Lease:
    return msgspec.json.decode(await client.request("GET", forms.LEASE.path(*KEY)), type=Lease)


async def write(client: Client, version: str | None) -> None:
    await client.request(
        "PATCH",
        forms.LEASE.path(*KEY),
        params={"fieldManager": "somebody", "force": "true"},
        body=msgspec.json.encode(l2.lease_body(KEY, NODE, told=TOLD, now=0.0, version=version)),
        content_type="application/apply-patch+yaml",
    )


@asynccontextmanager
async def renewing(client: Client, cache: Cache | None = None) -> AsyncIterator[L2Part]:
    """A part that renews all the time, and knows of its Lease only what its own writes told."""
    options = Options(node=NODE, timing=TIMING)
    cache = Cache() if cache is None else cache
    for kind in options.watched:
        cache.store(Synced(kind=kind))
    part = L2Part(
        cache,
        options,
        client=client,
        recorder=Recorder(client),
        answers_echo=False,
        renew_seconds=0.02,
        wake=lambda: None,
    )
    await part.open()
    try:
        yield part
    finally:
        await part.close()


async def until_changed(client: Client, part: L2Part, version: str) -> str:
    """The version that the Lease has once the part has written another than this."""
    async with asyncio.timeout(20):
        while True:
            await part.step()
            await asyncio.sleep(0.01)
            try:
                found = (await read(client)).metadata.resource_version
            except ApiError:
                continue
            if found != version:
                return found


async def test_a_lease_that_others_change_or_delete_is_renewed_all_the_same(connection: Connection) -> None:
    async with Client(connection) as client, renewing(client) as part:
        await until_changed(client, part, "")
        await write(client, None)
        changed = (await read(client)).metadata.resource_version
        await until_changed(client, part, changed)
        await client.request("DELETE", forms.LEASE.path(*KEY))
        await until_changed(client, part, "")


async def test_a_lease_that_is_given_up_says_so_and_a_late_renewal_is_refused(connection: Connection) -> None:
    async with Client(connection) as client:
        async with renewing(client) as part:
            renewed = await until_changed(client, part, "")
        assert l2.read_lease(await read(client)) == l2.Released(node=NODE)
        with pytest.raises(ApiError, match="409"):
            await write(client, renewed)


async def test_an_answer_that_cannot_be_read_ends_nothing() -> None:
    async with (
        ScriptedApi(then=reply(b"no Lease")) as api,
        Client(api.connection) as client,
        renewing(client) as part,
    ):
        while len(api.asked) < 2:
            await part.step()
            await asyncio.sleep(0.01)


async def test_what_a_node_has_left_behind_is_removed_unless_it_has_changed(connection: Connection) -> None:
    gone, back = (Key("kube-system", l2.lease_name(f"{name}-{NODE}")) for name in ("gone", "back"))

    async def put(key: Key, now: float) -> Lease:
        body = msgspec.json.encode(l2.lease_body(key, key.name, told=None, now=now))
        how = {"fieldManager": "somebody", "force": "true"}
        path = forms.LEASE.path(*key)
        answer = await client.request(
            "PATCH", path, params=how, body=body, content_type="application/apply-patch+yaml"
        )
        return msgspec.json.decode(answer, type=Lease)

    async def there() -> set[str]:
        listed = json.loads(await client.request("GET", forms.LEASE.path("kube-system")))
        return {one["metadata"]["name"] for one in listed["items"]} & {gone.name, back.name}

    async with Client(connection) as client:
        cache = Cache()
        for key in (gone, back):
            cache.store(Upserted(kind=forms.LEASE, object=await put(key, 0.0)))
        await put(back, 1.0)
        async with renewing(client, cache) as part, asyncio.timeout(20):
            while await there() != {back.name}:
                await part.step()
                await asyncio.sleep(0.01)
        await client.request("DELETE", forms.LEASE.path(*back))
