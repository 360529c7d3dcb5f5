import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, assert_never

import msgspec
import pytest
import structlog

from lbipam.adapters.kube_client import ApiError, Client
from lbipam.adapters.kube_config import Connection, connect
from lbipam.adapters.kube_reflector import Reflector, Timing
from lbipam.controllers.cache import Cache
from lbipam.controllers.ports import Deleted, Event, Listed, Malformed, Missing, Synced, Upserted
from lbipam.kube.forms import NAMESPACE, SERVICE, Namespace
from lbipam.kube.kinds import Kind
from tests.patience import running, until
from tests.real_api import RealApi
from tests.scripted_api import (
    Answer,
    ScriptedApi,
    event,
    hold,
    page,
    refuse,
    reply,
    status,
    watch,
)

QUICK = Timing(silence=5.0, first_retry=0.01, longest_retry=0.05, missing=0.02)


def item(name: str, version: int, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version), "uid": f"uid-{name}"}, **more}


def bookmark(version: int) -> bytes:
    return event("BOOKMARK", {"metadata": {"resourceVersion": str(version)}})


def told(happening: Event) -> str:
    """An event in a word, so that a story can be compared as a list."""
    match happening:
        case Upserted(object=one):
            return f"{one.metadata.name}@{one.metadata.resource_version}"
        case Deleted(key=key):
            return f"-{key}"
        case Malformed(key=key):
            return f"?{key}"
        case Synced():
            return "synced"
        case Missing():
            return "missing"
        case _:
            assert_never(happening)


class Story:
    """What a reflector has told so far."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, happening: Event) -> None:
        self.events.append(happening)

    @property
    def words(self) -> list[str]:
        return [told(happening) for happening in self.events]

    async def until(self, *words: str) -> None:
        wanted = list(words)
        await until(lambda: self.words[: len(wanted)] == wanted, told=lambda: f"{wanted}, but {self.words}")

    async def until_told(self, word: str, times: int = 1) -> None:
        await until(lambda: self.words.count(word) >= times, told=lambda: f"{word} in {self.words}")


@asynccontextmanager
async def reflecting(
    connection: Connection, kind: Kind = NAMESPACE, timing: Timing = QUICK, **more: Any
) -> AsyncIterator[tuple[Reflector, Story]]:
    story = Story()
    async with Client(connection) as client:
        reflector = Reflector(client, kind, story, timing=timing, **more)
        async with running(reflector.run()):
            yield reflector, story


@asynccontextmanager
async def scripted(*script: Answer, then: Answer = hold) -> AsyncIterator[tuple[ScriptedApi, Story]]:
    async with ScriptedApi(*script, then=then) as api, reflecting(api.connection) as (_, story):
        yield api, story


# --- what every server says -------------------------------------------------------------------------------


async def test_a_list_is_told_in_pages_and_then_what_changes() -> None:
    async with scripted(
        page(item("a", 1), version=7, more="token"),
        page(item("b", 2), version=7),
        watch(event("ADDED", item("c", 8)), event("MODIFIED", item("a", 9)), event("DELETED", item("b", 10))),
    ) as (api, story):
        await story.until("a@1", "b@2", "synced", "c@8", "a@9", "-b")
        assert [asked.query.get("limit") for asked in api.asked] == ["500", "500", None]
        assert api.asked[1].query["continue"] == "token"
        watched = api.asked[2].query
        assert watched["resourceVersion"] == "7"
        assert watched["allowWatchBookmarks"] == "true"
        assert 240 <= int(watched["timeoutSeconds"]) <= 480
        assert {asked.headers["Accept-Encoding"] for asked in api.asked} == {"identity"}


async def test_a_list_may_be_asked_for_in_one_part() -> None:
    async with (
        ScriptedApi(page(item("a", 1), version=7), then=hold) as api,
        reflecting(api.connection, in_pages=False) as (_, story),
    ):
        await story.until("a@1", "synced")
        assert "limit" not in api.asked[0].query


async def test_a_watch_goes_on_from_the_last_bookmark() -> None:
    async with scripted(page(version=7), watch(event("ADDED", item("a", 8)), bookmark(20), stay=False)) as (
        api,
        story,
    ):
        await until(lambda: len(api.asked) == 3)
        assert api.asked[2].query["resourceVersion"] == "20"
        assert story.words == ["synced", "a@8"]


async def test_a_watch_goes_on_from_the_last_deletion() -> None:
    gone = watch(event("DELETED", item("a", 8)), stay=False)
    async with scripted(page(item("a", 1), version=7), gone) as (api, story):
        await until(lambda: len(api.asked) == 3)
        assert api.asked[2].query["resourceVersion"] == "8"
        assert story.words == ["a@1", "synced", "-a"]


async def test_a_bookmark_without_a_version_is_no_step_back() -> None:
    nothing = event("BOOKMARK", {"metadata": {}})
    async with scripted(page(version=7), watch(bookmark(20), nothing, stay=False)) as (api, _):
        await until(lambda: len(api.asked) == 3)
        assert api.asked[2].query["resourceVersion"] == "20"


# --- too old, too new -------------------------------------------------------------------------------------


EXPIRED = status(410, "Expired", "too old resource version: 1 (9)")
TOO_LARGE = status(504, "Timeout", "Too large resource version: 99, current: 9")


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(watch(event("ERROR", EXPIRED), stay=False), id="410-as-an-event"),
        pytest.param(reply(EXPIRED, 410), id="410-as-an-answer"),
        pytest.param(reply(TOO_LARGE, 504), id="a-version-of-the-future"),
        pytest.param(watch(event("ERROR", TOO_LARGE)), id="a-version-of-the-future-as-an-event"),
    ],
)
async def test_a_version_that_is_not_known_leads_to_a_list_that_tells_of_deletions(refusal: Answer) -> None:
    async with scripted(
        page(*(item(name, 1) for name in "dbaec"), item("kept", 2), version=2),
        refusal,
        page(item("kept", 2), item("new", 8), version=9),
    ) as (api, story):
        relisted = ["kept@2", "new@8", "-a", "-b", "-c", "-d", "-e", "synced"]
        await story.until("d@1", "b@1", "a@1", "e@1", "c@1", "kept@2", "synced", *relisted)
        await until(lambda: len(api.asked) == 4)
        assert api.asked[3].query["resourceVersion"] == "9"


async def test_a_list_that_expires_between_pages_starts_again_and_what_it_told_is_taken_back() -> None:
    async with scripted(
        page(item("a", 1), version=1, more="old"),
        reply({**EXPIRED, "metadata": {"continue": "fresh"}}, 410),
        page(item("b", 2), version=9),
    ) as (api, story):
        await story.until("a@1", "b@2", "-a", "synced")
        assert "continue" not in api.asked[2].query


async def test_a_server_that_forgets_at_once_is_not_asked_in_a_tight_loop() -> None:
    begun = time.monotonic()

    async def forgetful(request: Any) -> Any:
        listing = "watch" not in request.query
        return await (page(version=9) if listing else reply(EXPIRED, 410))(request)

    slow = Timing(first_retry=0.1, longest_retry=0.1)
    async with ScriptedApi(then=forgetful) as api, reflecting(api.connection, timing=slow) as (_, story):
        await story.until_told("synced", 5)
        # Between two lists lies at least half of the pause.
        assert (
            len([asked for asked in api.asked if "watch" not in asked.query])
            <= 2 + (time.monotonic() - begun) / 0.05
        )


# --- lies and silence -------------------------------------------------------------------------------------


async def test_lines_are_put_together_whatever_the_chunks() -> None:
    stream = event("ADDED", item("ä", 8)) + event("ADDED", item("b", 9))
    async with scripted(page(version=7), watch(*(stream[i : i + 1] for i in range(len(stream))))) as (
        _,
        story,
    ):
        await story.until("synced", "ä@8", "b@9")


async def test_half_a_line_is_not_told_and_the_watch_goes_on_before_it() -> None:
    line = event("ADDED", item("b", 9))
    whole = event("ADDED", item("a", 8))
    async with scripted(
        page(version=7), watch(whole + line[:20], reset=True), page(version=9), watch(line)
    ) as (api, story):
        await story.until("synced", "a@8", "b@9")
        assert api.asked[3].query["resourceVersion"] == "8"


async def test_a_line_without_end_leads_to_a_new_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lbipam.adapters.kube_reflector._LONGEST_LINE", 10_000)
    endless = [b"x" * 1000] * 20
    async with scripted(page(version=7), watch(*endless), page(item("a", 1), version=8)) as (_, story):
        await story.until("synced", "a@1", "synced")


SOON_SILENT = Timing(silence=0.2, first_retry=0.01, longest_retry=0.05)


async def test_a_kind_that_nobody_touches_is_watched_on_without_a_new_list() -> None:
    async with (
        ScriptedApi(
            page(item("a", 1), version=7),
            watch(),
            page(item("a", 1), version=12),
            watch(event("ADDED", item("b", 13))),
        ) as api,
        reflecting(api.connection, timing=SOON_SILENT) as (reflector, story),
    ):
        await story.until("a@1", "synced", "b@13")
        assert (reflector.lists, reflector.breaks) == (1, 0)
        assert api.asked[2].query == {"limit": "1"}
        assert api.asked[3].query["resourceVersion"] == "7"


@pytest.mark.parametrize("now", ["5", "of-another-kind"])
async def test_a_store_that_is_before_our_version_is_listed_anew(now: str) -> None:
    async with (
        ScriptedApi(
            page(item("a", 1), version=3),
            watch(bookmark(99)),
            page(version=now),
            page(version=now),
            watch(bookmark(6)),
        ) as api,
        reflecting(api.connection, timing=SOON_SILENT) as (reflector, story),
    ):
        await story.until("a@1", "synced", "-a", "synced")
        assert reflector.breaks >= 1


@pytest.mark.parametrize(
    "restored",
    [pytest.param(50, id="versions-begin-anew"), pytest.param(1_000_000, id="versions-go-on-far-ahead")],
)
async def test_what_a_restored_store_holds_is_known_though_its_versions_are_older(restored: int) -> None:
    async with scripted(
        page(item("a", 90), item("b", 91), item("gone", 92), version=95),
        watch(event("ERROR", EXPIRED), stay=False),
        page(item("a", 40), version=restored, more="token"),
        refuse(503),
        page(item("a", 40), item("b", 41), version=restored + 1),
        watch(event("MODIFIED", item("a", restored + 2))),
    ) as (_, story):
        await story.until_told(f"a@{restored + 2}")
    cache = Cache()
    for happening in story.events:
        cache.store(happening)
    known = {str(key): one.metadata.resource_version for key, one in cache.objects(NAMESPACE).items()}
    assert known == {"a": str(restored + 2), "b": "41"}


async def test_a_store_that_was_restored_while_the_watch_was_broken_is_listed_before_it_has_caught_up() -> (
    None
):
    """A watch from the version known would pass over all that is older, and be told of the rest for ever."""
    async with scripted(
        page(item("a", 40), version=40),
        watch(event("ADDED", item("b", 41)), stay=False),
        refuse(503),
        page(item("a", 30), version=30),
        page(item("a", 30), item("c", 31), version=31),
        watch(event("ADDED", item("d", 42))),
    ) as (_, story):
        await story.until("a@40", "synced", "b@41", "a@30", "c@31", "-b", "synced", "d@42")


async def test_a_server_that_no_longer_answers_breaks_the_watch_and_loses_nothing() -> None:
    async with (
        ScriptedApi(
            page(version=7), watch(), hold, page(version=7), watch(event("ADDED", item("a", 8)))
        ) as api,
        reflecting(api.connection, timing=SOON_SILENT) as (reflector, story),
    ):
        await story.until("synced", "a@8")
        assert (reflector.lists, reflector.breaks) == (1, 1)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"<html>", b"", b"{}", b'{"metadata":{}}', b'{"metadata":{"resourceVersion":"1"},"items":3}', b"[]",
        b'{"kind":"Status","status":"Failure","metadata":{},"code":500}',
    ],
)  # fmt: skip
async def test_a_list_that_is_none_is_asked_for_again(nonsense: bytes) -> None:
    async with scripted(reply(nonsense), page(item("a", 1), version=7)) as (_, story):
        await story.until("a@1", "synced")


@pytest.mark.parametrize("nonsense", [b"<html>\n", b"{}\n", b"[]\n", b'{"type":"ADDED"}\n'])
async def test_a_watch_line_that_is_none_breaks_the_watch_but_not_the_reflector(nonsense: bytes) -> None:
    async with scripted(
        page(version=7), watch(nonsense), page(version=7), watch(event("ADDED", item("a", 8)))
    ) as (api, story):
        await story.until("synced", "a@8")
        assert api.asked[3].query["resourceVersion"] == "7"


async def test_one_object_that_cannot_be_read_is_told_as_such_and_stops_nothing() -> None:
    broken = {**item("bad", 2), "spec": 7}
    nameless = {"metadata": {"resourceVersion": "3"}}
    async with (
        ScriptedApi(
            page(item("a", 1), broken, nameless, {"metadata": 5}, version=7),
            watch(
                event("MODIFIED", {**item("bad", 8), "spec": []}),
                event("ADDED", nameless),
                event("DELETED", item("bad", 9)),
                event("ADDED", item("b", 10)),
            ),
        ) as api,
        reflecting(api.connection, SERVICE) as (_, story),
    ):
        await story.until("a@1", "?bad", "synced", "?bad", "-bad", "b@10")
        assert isinstance(story.events[1], Malformed)
        assert "spec" in story.events[1].problem


async def test_a_storm_of_errors_passes() -> None:
    storm = [
        refuse(500, "InternalError"),
        refuse(503),
        refuse(429, headers={"Retry-After": "1"}),
        refuse(502),
    ]
    well = watch(event("ADDED", item("a", 8)))
    async with scripted(*storm, page(version=7), *storm, page(version=7), well) as (api, story):
        await story.until("synced", "a@8")
        assert {asked.query["resourceVersion"] for asked in api.asked if "watch" in asked.query} == {"7"}


async def test_trouble_that_goes_on_is_logged_once_and_again_after_a_success() -> None:
    no, sick = status(403, "Forbidden", "no"), status(500, "InternalError", "sick")
    well = watch(event("ADDED", item("a", 8)), event("ERROR", sick))
    with structlog.testing.capture_logs() as logs:
        async with scripted(*[reply(no, 403)] * 3, reply(sick, 500), page(version=7), well) as (api, _):
            await until(lambda: len(api.asked) == 7)
    assert [log["problem"][:3] for log in logs] == ["403", "500", "500"]


async def test_retry_after_is_obeyed() -> None:
    times: list[float] = []

    async def refusing(request: Any) -> Any:
        times.append(time.monotonic())
        return await refuse(429, headers={"Retry-After": "1"})(request)

    async with scripted(refusing, refusing, page(version=7)) as (_, story):
        await story.until("synced")
        assert times[1] - times[0] >= 1.0


async def test_a_server_that_ends_each_watch_at_once_is_not_asked_in_a_tight_loop() -> None:
    begun = time.monotonic()
    slow = Timing(first_retry=0.1, longest_retry=0.1)
    async with (
        ScriptedApi(page(version=7), then=watch(stay=False)) as api,
        reflecting(api.connection, timing=slow),
    ):
        await until(lambda: len(api.asked) >= 6)
        # Between two watches lies at least half of the pause.
        assert len(api.asked) <= 2 + (time.monotonic() - begun) / 0.05


async def test_a_server_that_wants_to_be_asked_again_at_once_is_not_asked_in_a_tight_loop() -> None:
    begun = time.monotonic()
    busy = refuse(429, headers={"Retry-After": "0"})
    slow = Timing(first_retry=0.1, longest_retry=0.1)
    async with ScriptedApi(then=busy) as api, reflecting(api.connection, timing=slow):
        await until(lambda: len(api.asked) >= 5)
        # Between two requests lies at least half of the pause.
        assert len(api.asked) <= 1 + (time.monotonic() - begun) / 0.05


async def test_a_server_that_is_busy_between_two_pages_is_asked_for_the_second_again() -> None:
    busy = refuse(429)
    async with scripted(
        page(item("a", 1), version=7, more="token"), busy, busy, page(item("b", 2), version=7)
    ) as (api, story):
        await story.until("a@1", "b@2", "synced")
        assert [asked.query.get("continue") for asked in api.asked[:4]] == [None, "token", "token", "token"]


async def test_a_list_on_demand_does_not_wait_for_the_pages_of_another() -> None:
    timing = Timing(first_retry=600.0, longest_retry=600.0)
    busy = refuse(429)
    async with (
        ScriptedApi(
            page(item("a", 1), version=7, more="token"), busy, busy, page(item("b", 2), version=9), watch()
        ) as api,
        reflecting(api.connection, timing=timing) as (reflector, story),
    ):
        await until(lambda: reflector.breaks)
        async with asyncio.timeout(10):
            await reflector.listed_since(time.monotonic())
        assert story.words == ["a@1", "b@2", "-a", "synced"]


# --- kinds that are not there -----------------------------------------------------------------------------


async def test_a_kind_that_is_not_installed_is_told_once_and_found_when_it_appears() -> None:
    missing = refuse(404, "NotFound")
    ready = reply(b"ok")
    async with scripted(missing, ready, missing, ready, missing, ready, page(item("a", 1), version=7)) as (
        _,
        story,
    ):
        await story.until("missing", "a@1", "synced")


async def test_a_kind_that_is_removed_is_told_to_be_missing_again() -> None:
    removed = [watch(event("DELETED", item("a", 8)), stay=False), refuse(404, "NotFound")]
    missing = [refuse(404, "NotFound"), reply(b"ok")]
    async with scripted(*missing, page(item("a", 1), version=7), *removed, reply(b"ok"), *missing) as (
        _,
        story,
    ):
        await story.until("missing", "a@1", "synced", "-a", "missing")


async def test_a_server_that_is_not_ready_cannot_say_that_a_kind_is_missing() -> None:
    async with scripted(
        refuse(404, "NotFound"), refuse(500), refuse(404), refuse(503), page(item("a", 1), version=7)
    ) as (_, story):
        await story.until("a@1", "synced")


async def test_what_is_known_stands_when_the_server_forgets_the_kind() -> None:
    missing = refuse(404, "NotFound")
    async with scripted(
        page(item("a", 1), version=7), missing, missing, missing, page(item("a", 1), version=7)
    ) as (_, story):
        await story.until("a@1", "synced", "a@1", "synced")


async def test_a_watch_event_cannot_say_that_the_kind_is_missing() -> None:
    lie = watch(event("ERROR", status(404, "NotFound")), stay=False)
    async with scripted(page(version=7), lie, page(version=7), watch(event("ADDED", item("a", 8)))) as (
        _,
        story,
    ):
        await story.until("synced", "a@8")


# --- a list on demand -------------------------------------------------------------------------------------


async def test_listed_since_returns_when_a_list_that_began_later_is_told() -> None:
    async with (
        ScriptedApi(
            page(version=7),
            watch(),
            page(item("a", 8), version=9),
            watch(bookmark(9), event("ADDED", item("b", 10)), pause=0.2),
        ) as api,
        reflecting(api.connection) as (reflector, story),
    ):
        await story.until("synced")
        async with asyncio.timeout(10):
            await reflector.listed_since(time.monotonic())
        assert story.words == ["synced", "a@8", "synced"]
        assert story.events[1] == Listed(
            kind=NAMESPACE, object=msgspec.convert(item("a", 8), Namespace), as_of="9"
        )
        async with asyncio.timeout(1):
            await reflector.listed_since(reflector.listed_at)
        await story.until_told("b@10")
        assert len([asked for asked in api.asked if "watch" not in asked.query]) == 2


def lists(*pages: Answer) -> Answer:
    """Answers one list after the other; watches stay open and silent."""
    left = list(pages)

    async def answer(request: Any) -> Any:
        return await (watch() if "watch" in request.query else left.pop(0))(request)

    return answer


async def test_a_list_that_had_begun_before_is_not_new_enough() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: Any) -> Any:
        begun.set()
        await go_on.wait()
        return await page(version=7)(request)

    async with (
        ScriptedApi(then=lists(slow, page(version=9))) as api,
        reflecting(api.connection) as (reflector, _),
        asyncio.TaskGroup() as group,
    ):
        await begun.wait()
        listed = group.create_task(reflector.listed_since(time.monotonic()))
        go_on.set()
        await asyncio.wait_for(listed, 10)
        assert reflector.lists == 2


async def test_what_could_not_be_read_is_told_to_be_gone_like_all_else() -> None:
    told = lists(page({**item("bad", 1), "spec": 7}, version=7), page(version=9))
    async with ScriptedApi(then=told) as api, reflecting(api.connection, SERVICE) as (reflector, story):
        await story.until("?bad", "synced")
        async with asyncio.timeout(10):
            await reflector.listed_since(time.monotonic())
        assert story.words == ["?bad", "synced", "-bad", "synced"]


async def test_what_is_gone_is_told_once() -> None:
    told = lists(page(item("gone", 1), version=7), page(version=9), page(version=9))
    async with ScriptedApi(then=told) as api, reflecting(api.connection) as (reflector, story):
        await story.until("gone@1", "synced")
        for _ in range(2):
            async with asyncio.timeout(10):
                await reflector.listed_since(time.monotonic())
        assert story.words == ["gone@1", "synced", "-gone", "synced", "synced"]


async def test_a_list_on_demand_does_not_wait_for_the_pause_after_a_failure() -> None:
    timing = Timing(first_retry=600.0, longest_retry=600.0)
    async with (
        ScriptedApi(refuse(500), page(version=9), watch()) as api,
        reflecting(api.connection, timing=timing) as (reflector, story),
    ):
        await until(lambda: reflector.breaks)
        async with asyncio.timeout(10):
            await reflector.listed_since(time.monotonic())
        assert story.words == ["synced"]


# --- both servers -----------------------------------------------------------------------------------------


async def test_what_others_write_is_told_as_it_happens(connection: Connection) -> None:
    namespace = f"reflector-story-{time.time_ns():x}"
    async with (
        Client(connection) as client,
        reflecting(connection, CONFIG_MAP, namespace=namespace) as (reflector, story),
    ):
        await make_namespace(client, namespace)
        await story.until_told("synced")
        await make_map(client, namespace, "a")
        await until(lambda: story.words[-1].startswith("a@"))
        maps = f"/api/v1/namespaces/{namespace}/configmaps"
        await client.request(
            "PATCH",
            f"{maps}/a",
            body=b'{"metadata":{"labels":{"x":"y"}}}',
            content_type="application/merge-patch+json",
        )
        await until(lambda: [word[:2] for word in story.words][-2:] == ["a@", "a@"])
        await write(client, "DELETE", f"{maps}/a")
        await story.until_told(f"-{namespace}/a")
        await make_map(client, namespace, "b")
        async with asyncio.timeout(10):
            await reflector.listed_since(time.monotonic())
        assert story.words[-1] == "synced"
        assert reflector.breaks == 0


async def test_a_selector_narrows_what_is_told_and_leaving_it_is_a_deletion(connection: Connection) -> None:
    namespace = f"reflector-selector-{time.time_ns():x}"
    selector = {"labelSelector": "watch=me"}
    async with (
        Client(connection) as client,
        reflecting(connection, CONFIG_MAP, namespace=namespace, params=selector) as (_, story),
    ):
        await make_namespace(client, namespace)
        await story.until_told("synced")
        maps = f"/api/v1/namespaces/{namespace}/configmaps"
        await make_map(client, namespace, "other")
        await write(client, "POST", maps, {"metadata": {"name": "a", "labels": {"watch": "me"}}})
        await until(lambda: story.words[-1].startswith("a@"))
        await client.request(
            "PATCH",
            f"{maps}/a",
            body=b'{"metadata":{"labels":{"watch":null}}}',
            content_type="application/merge-patch+json",
        )
        await story.until_told(f"-{namespace}/a")
        assert not any(word.startswith("other") for word in story.words)


async def test_a_kind_is_told_to_be_missing_until_it_is_defined(connection: Connection) -> None:
    kind = Kind(
        group="later.lbipam.dev",
        version="v1",
        kind="Thing",
        plural="things",
        namespaced=False,
        form=Namespace,
    )
    names = {"plural": "things", "kind": "Thing"}
    definition = {
        **WIDGETS_CRD,
        "metadata": {"name": "things.later.lbipam.dev"},
        "spec": {**WIDGETS_CRD["spec"], "group": "later.lbipam.dev", "names": names},
    }
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    async with Client(connection) as client, reflecting(connection, kind) as (_, story):
        await story.until("missing")
        await write(client, "POST", crds, definition)
        try:
            await story.until("missing", "synced")
        finally:
            await write(client, "DELETE", f"{crds}/things.later.lbipam.dev")


# --- a real server ----------------------------------------------------------------------------------------


async def write(client: Client, method: str, path: str, body: Any = None) -> None:
    await client.request(method, path, body=msgspec.json.encode(body) if body is not None else None)


async def make_namespace(client: Client, name: str) -> None:
    await write(client, "POST", "/api/v1/namespaces", {"metadata": {"name": name}})


async def make_map(client: Client, namespace: str, name: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    await write(client, "POST", path, {"metadata": {"name": name}})


CONFIG_MAP = Kind(
    group="", version="v1", kind="ConfigMap", plural="configmaps", namespaced=True, form=Namespace
)


async def test_deletions_during_the_death_of_a_real_server_are_seen(real_api: RealApi) -> None:
    namespace = f"reflector-death-{time.time_ns():x}"
    connection = await connect(str(real_api.kubeconfig))
    async with (
        Client(connection) as client,
        reflecting(connection, CONFIG_MAP, namespace=namespace) as (reflector, story),
    ):
        await make_namespace(client, namespace)
        await make_map(client, namespace, "a")
        await until(lambda: any(word.startswith("a@") for word in story.words))
        real_api.kill()
        await until(lambda: reflector.breaks >= 2)
        await asyncio.to_thread(real_api.start)
        await write(client, "DELETE", f"/api/v1/namespaces/{namespace}/configmaps/a")
        await make_map(client, namespace, "b")
        await until(lambda: f"-{namespace}/a" in story.words and story.words[-1].startswith("b@"))


async def test_a_stopped_real_server_is_noticed_and_found_again(real_api: RealApi) -> None:
    namespace = f"reflector-stop-{time.time_ns():x}"
    connection = await connect(str(real_api.kubeconfig))
    impatient = Timing(silence=1.0, first_retry=0.05, longest_retry=0.5)
    async with (
        Client(connection) as client,
        reflecting(connection, CONFIG_MAP, impatient, namespace=namespace) as (reflector, story),
    ):
        await make_namespace(client, namespace)
        await story.until_told("synced")
        with real_api.paused():
            breaks = reflector.breaks
            await until(lambda: reflector.breaks > breaks)
        await make_map(client, namespace, "a")
        await until(lambda: any(word.startswith("a@") for word in story.words))


async def test_on_a_real_server_quiet_kinds_are_not_listed_again(real_api: RealApi) -> None:
    namespace = f"reflector-quiet-{time.time_ns():x}"
    connection = await connect(str(real_api.kubeconfig))
    impatient = Timing(silence=0.5, first_retry=0.05, longest_retry=0.5)
    asked = 0

    async def token(renew: bool) -> str | None:
        nonlocal asked
        asked += 1
        return await connection.token(renew)

    async with (
        Client(connection) as client,
        reflecting(replace(connection, token=token), CONFIG_MAP, impatient, namespace=namespace) as (
            reflector,
            story,
        ),
    ):
        await story.until("synced")
        # A list and a watch; then, after each silence, a question and another watch.
        await until(lambda: asked >= 2 + 3 * 2)
        await make_namespace(client, namespace)
        await make_map(client, namespace, "a")
        await until(lambda: any(word.startswith("a@") for word in story.words))
        assert (reflector.lists, reflector.breaks) == (1, 0)


WIDGETS = Kind(
    group="test.lbipam.dev", version="v1", kind="Widget", plural="widgets", namespaced=False, form=Namespace
)
WIDGETS_CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.test.lbipam.dev"},
    "spec": {
        "group": "test.lbipam.dev",
        "scope": "Cluster",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
}


async def test_objects_of_a_definition_outlive_the_death_of_a_real_server(real_api: RealApi) -> None:
    connection = await connect(str(real_api.kubeconfig))
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    async with Client(connection) as client, reflecting(connection, WIDGETS) as (reflector, story):
        await story.until("missing")
        await write(client, "POST", crds, WIDGETS_CRD)
        try:
            await story.until("missing", "synced")
            widget = {"apiVersion": "test.lbipam.dev/v1", "kind": "Widget", "metadata": {"name": "w"}}
            await write(client, "POST", WIDGETS.path(), widget)
            await until(lambda: story.words[-1].startswith("w@"))
            await asyncio.to_thread(real_api.restart)
            async with asyncio.timeout(60):
                await reflector.listed_since(time.monotonic())
            assert "-w" not in story.words
            assert story.words.count("missing") == 1
            await write(client, "DELETE", WIDGETS.path(name="w"))
            await story.until_told("-w")
        finally:
            await write(client, "DELETE", f"{crds}/widgets.test.lbipam.dev")


async def test_ten_thousand_bytes_of_annotations_fit_into_a_line(real_api: RealApi) -> None:
    namespace = f"reflector-big-{time.time_ns():x}"
    connection = await connect(str(real_api.kubeconfig))
    async with (
        Client(connection) as client,
        reflecting(connection, CONFIG_MAP, namespace=namespace) as (_, story),
    ):
        await make_namespace(client, namespace)
        await story.until_told("synced")
        big = {"metadata": {"name": "big"}, "data": {"x": "y" * 900_000}}
        await write(client, "POST", f"/api/v1/namespaces/{namespace}/configmaps", big)
        await until(lambda: any(word.startswith("big@") for word in story.words))


async def test_an_old_version_is_refused_by_a_real_server_as_the_scripts_say(real_api: RealApi) -> None:
    async with Client(await connect(str(real_api.kubeconfig))) as client:
        try:
            body = b""
            async with client.stream(
                "/api/v1/namespaces",
                params={"watch": "true", "resourceVersion": "1"},
                silence_seconds=10,
            ) as chunks:
                body = await anext(chunks)
        except ApiError as problem:
            assert problem.code == 410
        else:
            assert msgspec.json.decode(body)["object"]["code"] == 410
