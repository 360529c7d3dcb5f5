"""Lists, pages and watches."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.localapi.listing import Filter
from lbipam.localapi.selectors import LabelSelector, label_selector
from lbipam.localapi.server import LocalApi
from lbipam.localapi.store import HISTORY_LIMIT, Collection, Event, Key, Store, Stored
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


async def test_a_version_before_the_history_is_too_old(client: Client, api: LocalApi) -> None:
    await client.create(CONFIG_MAPS, config_map("a"))
    for version in (1, 2):
        (event,) = await take(client.watch(f"{CONFIG_MAPS}?watch=1&resourceVersion={version}"), 1)
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == (
            "ERROR",
            410,
            "Expired",
        )


async def test_a_version_of_the_future_is_refused(client: Client) -> None:
    code, status = await client.ask("GET", f"{CONFIG_MAPS}?resourceVersion=99999")
    assert (code, status["reason"]) == (504, "Timeout")
    assert status["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


async def test_pages_are_of_one_moment(client: Client) -> None:
    for name in "abcde":
        await client.create(CONFIG_MAPS, config_map(name))
    first = await client.get(f"{CONFIG_MAPS}?limit=2")
    assert first["metadata"]["remainingItemCount"] == 3
    await client.ask("DELETE", f"{CONFIG_MAPS}/d")
    await client.create(CONFIG_MAPS, config_map("aa"))
    names, page = [], first
    while True:
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue")
        if not token:
            break
        page = await client.get(f"{CONFIG_MAPS}?limit=2&continue={token}")
    assert names == list("abcde")


async def test_a_token_expires(client: Client, api: LocalApi) -> None:
    for name in "ab":
        await client.create(CONFIG_MAPS, config_map(name))
    token = (await client.get(f"{CONFIG_MAPS}?limit=1"))["metadata"]["continue"]
    api.faults.expire()
    code, status = await client.ask("GET", f"{CONFIG_MAPS}?limit=1&continue={token}")
    assert (code, status["reason"]) == (410, "Expired")
    code, status = await client.ask("GET", f"{CONFIG_MAPS}?limit=1&continue=nonsense")
    assert (code, status["reason"]) == (400, "BadRequest")


async def test_fields_select_too(client: Client) -> None:
    await client.create(SERVICES, service("a"))
    await client.create(SERVICES, service("b", type="ClusterIP"))

    async def names(selector: str) -> list[str]:
        found = await client.get(f"/api/v1/services?fieldSelector={selector}")
        return [item["metadata"]["name"] for item in found["items"]]

    assert await names("spec.type%3DLoadBalancer") == ["a"]
    assert await names("metadata.name%3Db,metadata.namespace%3Ddefault") == ["b"]
    assert await names("metadata.name!%3Db,spec.type!%3DLoadBalancer") == ["kubernetes"]
    code, status = await client.ask("GET", "/api/v1/services?fieldSelector=spec.odd%3D1")
    assert (code, status["message"]) == (400, "field label not supported: spec.odd")


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


async def test_metadata_alone_can_be_asked_for(client: Client) -> None:
    partial = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
    found = await client.get(SERVICES, **partial)
    assert (found["kind"], set(found["items"][0])) == (
        "PartialObjectMetadataList",
        {"kind", "apiVersion", "metadata"},
    )
    code, _ = await client.ask("GET", SERVICES, Accept="application/vnd.kubernetes.protobuf")
    assert code == 406


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "remove", "look"]),
        st.sampled_from("abc"),
        st.sampled_from(["red", "blue"]),
    ),
    max_size=30,
)


@given(STEPS, st.sampled_from([None, "red"]))
def test_a_list_and_its_watch_equal_a_later_list(
    steps: list[tuple[str, str, str]], color: str | None
) -> None:
    store = Store()
    collection = store.collection("", "things")
    chosen = Filter(labels=None if color is None else _has_color(color))
    seen = {stored.key: stored.version for stored in chosen.chosen(collection)}
    place = collection.end
    for step, name, label in [*steps, ("look", "", "")]:
        key = Key("ns", name)
        if step == "put":
            store.put(collection, key, {"metadata": {"name": name, "labels": {"color": label}}})
        elif step == "remove" and key in collection.objects:
            store.remove(collection, key)
        elif step == "look":
            events = collection.events_from(place)
            assert events is not None
            place += len(events)
            for event in events:
                _follow(seen, event, chosen)
            assert seen == {stored.key: stored.version for stored in chosen.chosen(collection)}


def _has_color(color: str) -> LabelSelector:
    return label_selector(f"color={color}")


def _follow(seen: dict[Key, int], event: Event, chosen: Filter) -> None:
    if event.now is not None and chosen.matches(event.now):
        seen[event.now.key] = event.version
    elif event.before is not None and chosen.matches(event.before):
        seen.pop(event.before.key)


def test_a_history_that_is_too_long_forgets_its_beginning() -> None:
    collection = Collection(0)
    stored = Stored(Key("", "a"), 1, {}, b"{}")
    place = collection.end
    for version in range(1, HISTORY_LIMIT * 2):
        collection.record(Event(version, stored, None))
    assert collection.events_from(place) is None
    recent = collection.events_from(collection.place_after(collection.oldest))
    assert recent is not None
    assert HISTORY_LIMIT <= len(recent) < HISTORY_LIMIT * 2
    assert recent[0].version == collection.oldest + 1


@pytest.mark.parametrize("watchers", [20])
async def test_every_watcher_is_told_everything_in_order(client: Client, watchers: int) -> None:
    version = (await client.get(CONFIG_MAPS))["metadata"]["resourceVersion"]
    path = f"{CONFIG_MAPS}?watch=1&resourceVersion={version}"
    watching = [asyncio.create_task(take(client.watch(path), 30)) for _ in range(watchers)]
    for index in range(30):
        await client.create(CONFIG_MAPS, config_map(f"m{index:02}"))
    for events in await asyncio.gather(*watching):
        assert told(events) == [("ADDED", f"m{index:02}") for index in range(30)]
