"""Lists, pages and watches."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lbipam.localapi.server import LocalApi
from tests.localapi.conftest import SERVICES, Client, service

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


def config_map(name: str, color: str = "") -> dict[str, Any]:
    labels = {"color": color} if color else {}
    return {"metadata": {"name": name, "labels": labels}}


async def take(events: AsyncIterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    taken: list[dict[str, Any]] = []
    async with asyncio.timeout(5):
        async for event in events:
            taken.append(event)
            if len(taken) == count:
                break
    return taken


def told(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


async def test_a_watch_goes_on_where_a_list_ended(client: Client) -> None:
    await client.create(CONFIG_MAPS, config_map("before"))
    version = (await client.get(CONFIG_MAPS))["metadata"]["resourceVersion"]
    await client.create(CONFIG_MAPS, config_map("a"))
    await client.patch(f"{CONFIG_MAPS}/a", {"data": {"x": "1"}})
    await client.ask("DELETE", f"{CONFIG_MAPS}/a")
    events = await take(client.watch(f"{CONFIG_MAPS}?watch=1&resourceVersion={version}"), 3)
    assert told(events) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))
    assert events[0]["object"]["kind"] == "ConfigMap"


async def test_a_watch_without_a_version_begins_with_what_is_there(client: Client) -> None:
    await client.create(CONFIG_MAPS, config_map("a"))
    assert told(await take(client.watch(f"{CONFIG_MAPS}?watch=1"), 1)) == [("ADDED", "a")]


async def test_an_object_enters_and_leaves_the_sight_of_a_selector(client: Client) -> None:
    version = (await client.get(CONFIG_MAPS))["metadata"]["resourceVersion"]
    await client.create(CONFIG_MAPS, config_map("a", "blue"))
    for color in ("red", "red", "blue"):
        await client.patch(
            f"{CONFIG_MAPS}/a", {"metadata": {"labels": {"color": color}}, "data": {color: "1"}}
        )
    await client.patch(f"{CONFIG_MAPS}/a", {"metadata": {"labels": {"color": "red"}}})
    path = f"{CONFIG_MAPS}?watch=1&labelSelector=color%3Dred&resourceVersion={version}"
    assert told(await take(client.watch(path), 3)) == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "a")]


async def test_a_streamed_list_ends_with_a_bookmark(client: Client) -> None:
    await client.create(CONFIG_MAPS, config_map("a"))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    added, bookmark = await take(client.watch(f"{CONFIG_MAPS}?{query}"), 2)
    assert (added["type"], bookmark["type"]) == ("ADDED", "BOOKMARK")
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    code, status = await client.ask("GET", f"{CONFIG_MAPS}?watch=1&sendInitialEvents=true")
    assert (code, status["reason"]) == (422, "Invalid")


async def test_a_watch_ends_when_its_time_is_over(client: Client) -> None:
    assert [event async for event in client.watch(f"{CONFIG_MAPS}?watch=1&timeoutSeconds=1")] == []


async def test_a_watch_from_the_future_waits_for_it(client: Client) -> None:
    version = int((await client.get(CONFIG_MAPS))["metadata"]["resourceVersion"])
    watch = asyncio.create_task(take(client.watch(f"{CONFIG_MAPS}?watch=1&resourceVersion={version + 2}"), 1))
    for name in "abc":
        await client.create(CONFIG_MAPS, config_map(name))
    assert told(await watch) == [("ADDED", "c")]


async def test_a_version_before_the_history_is_too_old(client: Client, api: LocalApi) -> None:
    await client.create(CONFIG_MAPS, config_map("a"))
    for version in (1, 2):
        (event,) = await take(client.watch(f"{CONFIG_MAPS}?watch=1&resourceVersion={version}"), 1)
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == (
            "ERROR",
            410,
            "Expired",
        )


async def test_a_table_is_watched_row_by_row(client: Client) -> None:
    await client.create(SERVICES, service("a"))
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
    version = (await client.get(SERVICES, **table))["metadata"]["resourceVersion"]
    await client.patch(f"{SERVICES}/a", {"metadata": {"labels": {"x": "y"}}})
    await client.patch(f"{SERVICES}/a", {"metadata": {"labels": {"x": "z"}}})
    first, second = await take(client.watch(f"{SERVICES}?watch=1&resourceVersion={version}", **table), 2)
    assert first["object"]["columnDefinitions"][0]["name"] == "Name"
    assert second["object"]["columnDefinitions"] is None
    assert [row["cells"][0] for row in second["object"]["rows"]] == ["a"]


@pytest.mark.parametrize("watchers", [20])
async def test_every_watcher_is_told_everything_in_order(client: Client, watchers: int) -> None:
    version = (await client.get(CONFIG_MAPS))["metadata"]["resourceVersion"]
    path = f"{CONFIG_MAPS}?watch=1&resourceVersion={version}"
    watching = [asyncio.create_task(take(client.watch(path), 30)) for _ in range(watchers)]
    for index in range(30):
        await client.create(CONFIG_MAPS, config_map(f"m{index:02}"))
    for events in await asyncio.gather(*watching):
        assert told(events) == [("ADDED", f"m{index:02}") for index in range(30)]
