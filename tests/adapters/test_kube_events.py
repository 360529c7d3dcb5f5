import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec

from lbipam.adapters import kube_events
from lbipam.adapters.kube_client import Client
from lbipam.adapters.kube_config import Connection
from lbipam.adapters.kube_events import Recorder
from lbipam.controllers.ports import EmitEvent, Severity
from lbipam.kube.forms import NODE, SERVICE
from lbipam.kube.kinds import Key
from tests.patience import running, until
from tests.scripted_api import ScriptedApi, refuse, reply

ALLOCATED = EmitEvent(
    kind=SERVICE,
    key=Key("default", f"web-{os.getpid()}"),
    uid="u",
    severity=Severity.NORMAL,
    reason="Allocated",
    message="got 192.0.2.1",
)


@asynccontextmanager
async def recording(connection: Connection) -> AsyncIterator[Recorder]:
    async with Client(connection) as client:
        recorder = Recorder(client)
        async with running(recorder.run()):
            yield recorder


async def events_about(connection: Connection, name: str) -> list[dict[str, Any]]:
    async with Client(connection) as client:
        params = {"fieldSelector": f"involvedObject.name={name}"}
        body = await client.request("GET", "/api/v1/namespaces/default/events", params=params)
    found: list[dict[str, Any]] = msgspec.json.decode(body)["items"]
    return found


async def test_an_event_is_told_on_its_object_and_counted_when_it_repeats(connection: Connection) -> None:
    event = replace(ALLOCATED, key=Key("default", f"repeats-{os.urandom(4).hex()}"))
    async with recording(connection) as recorder:
        recorder.emit(event)
        while not (told := await events_about(connection, event.key.name)):
            pass
        for _ in range(3):
            recorder.emit(event)
        while (told := await events_about(connection, event.key.name))[0]["count"] < 4:
            pass
    (one,) = told
    assert (one["type"], one["reason"], one["message"]) == ("Normal", "Allocated", "got 192.0.2.1")
    assert one["involvedObject"]["kind"] == "Service"
    assert one["source"]["component"] == "lbipam"


async def test_events_of_cluster_scoped_objects_lie_in_the_default_namespace(connection: Connection) -> None:
    event = replace(ALLOCATED, kind=NODE, key=Key("", f"node-{os.urandom(4).hex()}"))
    async with recording(connection) as recorder:
        recorder.emit(event)
        while not await events_about(connection, event.key.name):
            pass


async def test_events_of_an_object_with_the_longest_of_names_are_told_too(connection: Connection) -> None:
    name = f"{os.urandom(4).hex()}{'x' * 227}-{'y' * 17}"
    assert len(name) == 253
    async with recording(connection) as recorder:
        recorder.emit(replace(ALLOCATED, kind=NODE, key=Key("", name)))
        while not await events_about(connection, name):
            pass


async def test_one_that_was_deleted_is_told_anew() -> None:
    async with (
        ScriptedApi(reply({}), refuse(404, "NotFound"), reply({})) as api,
        recording(api.connection) as recorder,
    ):
        recorder.emit(ALLOCATED)
        await until(lambda: len(api.asked) == 1)
        recorder.emit(ALLOCATED)
        await until(lambda: len(api.asked) == 3)
        assert [asked.method for asked in api.asked] == ["POST", "PATCH", "POST"]


async def test_one_that_fails_does_not_hold_up_the_next() -> None:
    async with (
        ScriptedApi(refuse(403, "Forbidden"), reply({})) as api,
        recording(api.connection) as recorder,
    ):
        recorder.emit(ALLOCATED)
        recorder.emit(replace(ALLOCATED, reason="Released"))
        await until(lambda: len(api.asked) == 2)


async def test_a_flood_is_cut_down_and_what_is_dropped_is_counted() -> None:
    async with ScriptedApi(then=reply({})) as api, recording(api.connection) as recorder:
        for number in range(kube_events._MOST_WAITING + 7):
            recorder.emit(replace(ALLOCATED, message=str(number)))
        assert recorder.dropped == 7
        await until(lambda: len(api.asked) >= kube_events._BURST)
        assert len(api.asked) < kube_events._MOST_WAITING / 2


async def test_a_warning_is_told_before_what_is_usual_and_in_its_place_when_there_is_too_much() -> None:
    conflict = replace(ALLOCATED, severity=Severity.WARNING, reason="AddressConflict", message="a rival")
    async with ScriptedApi(then=reply({})) as api, Client(api.connection) as client:
        recorder = Recorder(client)
        for number in range(kube_events._MOST_WAITING):
            recorder.emit(replace(ALLOCATED, message=f"got number {number}"))
        recorder.emit(conflict)
        assert recorder.dropped == 1
        async with running(recorder.run()):
            await until(lambda: len(api.asked) > 1)
    told = [json.loads(one.body)["message"] for one in api.asked]
    assert told[:2] == ["a rival", "got number 0"]
