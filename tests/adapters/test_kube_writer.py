import asyncio
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from lbipam.adapters import kube_writer
from lbipam.adapters.kube_client import Client
from lbipam.adapters.kube_config import Connection, connect
from lbipam.adapters.kube_writer import Writer, unfenced
from lbipam.controllers.ports import (
    Apply,
    Conflict,
    ConflictCause,
    Create,
    Delete,
    Fenced,
    Gone,
    JsonPatch,
    MergePatch,
    Refused,
    Write,
    WriteResult,
    Written,
)
from lbipam.kube.forms import SERVICE, Service
from lbipam.kube.kinds import Key
from tests.patience import running, until
from tests.real_api import RealApi
from tests.scripted_api import Answer, ScriptedApi, hold, refuse, reply, status, watch

_numbers = itertools.count()


def merge(name: str, **annotations: str) -> MergePatch:
    return MergePatch(kind=SERVICE, key=Key("ns", name), body={"metadata": {"annotations": annotations}})


def answer(name: str = "a") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "ns", "resourceVersion": "2", "uid": "u"}}


@asynccontextmanager
async def writing(
    connection: Connection, *, workers: int = 8, seconds_left: Callable[[], float] = unfenced
) -> AsyncIterator[Writer]:
    async with Client(connection) as client:
        writer = Writer(client, workers=workers, seconds_left=seconds_left)
        async with running(writer.run()):
            yield writer


async def outcome(writer: Writer, write: Write) -> WriteResult:
    answered: asyncio.Future[WriteResult] = asyncio.get_running_loop().create_future()
    writer.submit(write, answered.set_result)
    return await asyncio.wait_for(answered, 30)


# --- what a server answers --------------------------------------------------------------------------------


def apply(service: Service, address: str, **metadata: str) -> Apply:
    key = service.metadata.key
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": key.name, "namespace": key.namespace, "uid": service.metadata.uid, **metadata,
        },
        "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
    }  # fmt: skip
    return Apply(kind=SERVICE, key=key, body=body, subresource="status")


async def make_service(writer: Writer) -> Service:
    key = Key("default", f"writer-{os.getpid()}-{next(_numbers)}")
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": key.name},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
    }
    result = await outcome(writer, Create(kind=SERVICE, key=key, body=body))
    assert isinstance(result, Written)
    assert isinstance(result.object, Service)
    assert isinstance(await outcome(writer, Create(kind=SERVICE, key=key, body=body)), Conflict), (
        "a second one of this name"
    )
    return result.object


async def test_an_apply_is_written_once_and_its_answer_is_the_object(connection: Connection) -> None:
    async with writing(connection) as writer:
        service = await make_service(writer)
        granted = apply(service, "192.0.2.1", resourceVersion=service.metadata.resource_version)
        result = await outcome(writer, granted)
        assert isinstance(result, Written)
        assert isinstance(result.object, Service)
        assert [one.ip for one in result.object.status.load_balancer.ingress] == ["192.0.2.1"]
        assert await outcome(writer, granted) == Conflict(cause=ConflictCause.STALE)


async def test_conflicts_say_what_stands_in_the_way(connection: Connection) -> None:
    async with writing(connection) as writer:
        service = await make_service(writer)
        create = Create(
            kind=SERVICE,
            key=service.metadata.key,
            body={"metadata": {"name": service.metadata.name}, "spec": {"ports": [{"port": 80}]}},
        )
        assert await outcome(writer, create) == Conflict(cause=ConflictCause.EXISTS)
        assert isinstance(await outcome(writer, apply(service, "192.0.2.1")), Written)
        stale = apply(service, "192.0.2.2", resourceVersion=service.metadata.resource_version)
        assert await outcome(writer, stale) == Conflict(cause=ConflictCause.STALE)
        test = {"op": "test", "path": "/metadata/resourceVersion", "value": "1"}
        tested = JsonPatch(kind=SERVICE, key=service.metadata.key, operations=[test], subresource="status")
        assert await outcome(writer, tested) == Conflict(cause=ConflictCause.STALE)
        replaced = apply(service, "192.0.2.2", uid="another")
        assert await outcome(writer, replaced) == Conflict(cause=ConflictCause.REPLACED)
        removal = Delete(kind=SERVICE, key=service.metadata.key, uid="another")
        assert await outcome(writer, removal) == Conflict(cause=ConflictCause.REPLACED)


async def test_another_owner_of_a_field_is_named(connection: Connection) -> None:
    async with writing(connection) as writer, Client(connection) as other:
        service = await make_service(writer)
        await other.request(
            "PATCH",
            SERVICE.path("default", service.metadata.name, "status"),
            params={"fieldManager": "metallb"},
            body=msgspec.json.encode(apply(service, "192.0.2.9").body),
            content_type="application/apply-patch+yaml",
        )
        owned = await outcome(writer, apply(service, "192.0.2.1"))
        assert owned == Conflict(cause=ConflictCause.OWNED, managers=("metallb",))


async def test_conditions_of_ours_are_taken_over_but_no_address_with_them(connection: Connection) -> None:
    def condition(status: str) -> dict[str, str]:
        moment = "2026-01-01T00:00:00Z"
        named = {"type": "cilium.io/IPAMRequestSatisfied", "reason": "told", "message": ""}
        return {**named, "status": status, "lastTransitionTime": moment}

    def both(balancer: object) -> Apply:
        status = {"loadBalancer": balancer, "conditions": [condition("True")]}
        write = apply(service, "")
        return replace(write, body={**write.body, "status": status})

    async with writing(connection) as writer, Client(connection) as other:
        service = await make_service(writer)
        given = {"conditions": [condition("False")], "loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}
        answer = await other.request(
            "PATCH",
            SERVICE.path("default", service.metadata.name, "status"),
            params={"fieldManager": "cilium-operator-lb-ipam"},
            body=msgspec.json.encode({"status": given}),
            content_type="application/merge-patch+json",
        )
        owned = await outcome(writer, both({"ingress": [{"ip": "192.0.2.1"}]}))
        assert owned == Conflict(cause=ConflictCause.OWNED, managers=("cilium-operator-lb-ipam",))
        shown = msgspec.json.decode(answer, type=Service).status.load_balancer
        written = await outcome(writer, both(shown))
        assert isinstance(written, Written)
        assert isinstance(written.object, Service)
        assert [one.status for one in written.object.status.conditions] == ["True"]
        assert written.object.status.load_balancer == shown


async def test_what_is_wrong_is_refused_and_what_is_gone_is_gone(connection: Connection) -> None:
    async with writing(connection) as writer:
        service = await make_service(writer)
        key = service.metadata.key
        wrong = await outcome(writer, apply(service, "nonsense"))
        assert isinstance(wrong, Refused)
        assert (wrong.code, wrong.reason) == (422, "Invalid")
        assert "nonsense" in wrong.message
        entry = {"op": "add", "path": "/status/loadBalancer/ingress", "value": [{"ip": "nonsense"}]}
        patch = JsonPatch(kind=SERVICE, key=key, operations=[entry], subresource="status")
        assert isinstance(await outcome(writer, patch), Refused)
        annotated = await outcome(
            writer, MergePatch(kind=SERVICE, key=key, body={"metadata": {"annotations": {"a": "b"}}})
        )
        assert isinstance(annotated, Written)
        removal = Delete(kind=SERVICE, key=key, uid=service.metadata.uid)
        assert await outcome(writer, removal) == Written(object=None)
        assert await outcome(writer, removal) == Gone()
        late = await outcome(writer, apply(service, "192.0.2.1"))
        # Kubernetes 1.20 answers 409 here, newer ones 404.
        assert late in (Gone(), Conflict(cause=ConflictCause.REPLACED))


# --- order ------------------------------------------------------------------------------------------------


async def test_writes_to_one_object_keep_their_order_and_others_go_beside_them() -> None:
    under_way: set[str] = set()
    most = 0

    async def slowly(request: Any) -> Any:
        nonlocal most
        assert request.path not in under_way, "two writes to one object at a time"
        under_way.add(request.path)
        most = max(most, len(under_way))
        await asyncio.sleep(0.01)
        under_way.discard(request.path)
        return await reply(answer())(request)

    async with ScriptedApi(then=slowly) as api, writing(api.connection, workers=3) as writer:
        results: list[WriteResult] = []
        for turn in range(4):
            for name in "abcdef":
                writer.submit(merge(name, turn=str(turn)), results.append)
        assert writer.waiting == 24
        await asyncio.wait_for(writer.drained(), 20)
        assert (writer.waiting, len(results)) == (0, 24)
        assert most == 3
        for name in "abcdef":
            turns = [
                json.loads(asked.body)["metadata"]["annotations"]["turn"]
                for asked in api.asked
                if asked.path.endswith(f"/{name}")
            ]
            assert turns == ["0", "1", "2", "3"]


async def test_a_writer_is_full_while_more_wait_than_can_be_sent_soon() -> None:
    async with ScriptedApi(then=reply(answer())) as api, writing(api.connection) as writer:
        full = [writer.full]
        for number in range(100):
            writer.submit(merge(f"a{number}"), lambda _: None)
        full.append(writer.full)
        await asyncio.wait_for(writer.drained(), 20)
        assert [*full, writer.full] == [False, True, False]


async def test_a_write_submitted_by_the_answer_to_another_follows_it() -> None:
    async with ScriptedApi(then=reply(answer())) as api, writing(api.connection, workers=1) as writer:
        results: list[WriteResult] = []
        writer.submit(merge("a", n="1"), lambda _: writer.submit(merge("a", n="2"), results.append))
        await asyncio.wait_for(writer.drained(), 10)
        assert len(results) == 1
        assert len(api.asked) == 2


# --- trouble ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
async def test_the_same_bytes_are_sent_again_until_the_server_answers(code: int) -> None:
    async with (
        ScriptedApi(refuse(code), refuse(code), then=reply(answer())) as api,
        writing(api.connection) as writer,
    ):
        assert isinstance(await outcome(writer, merge("a", x="y")), Written)
        assert len({asked.body for asked in api.asked}) == 1
        assert len(api.asked) == 3


@pytest.mark.parametrize("code", [429, 503])
async def test_retry_after_is_obeyed(code: int) -> None:
    times: list[float] = []

    async def timed(request: Any) -> Any:
        times.append(time.monotonic())
        if len(times) > 1:
            return await reply(answer())(request)
        return await refuse(code, headers={"Retry-After": "1"})(request)

    async with ScriptedApi(then=timed) as api, writing(api.connection) as writer:
        assert isinstance(await outcome(writer, merge("a")), Written)
        assert times[1] - times[0] >= 1.0


async def test_objects_that_always_fail_do_not_hold_up_the_others() -> None:
    async def broken_for_some(request: Any) -> Any:
        failing = request.path.rsplit("/", 1)[1].startswith("broken")
        return await (refuse(500, "InternalError", "a webhook fails") if failing else reply(answer()))(
            request
        )

    async with ScriptedApi(then=broken_for_some) as api, writing(api.connection, workers=2) as writer:
        for number in range(5):
            writer.submit(merge(f"broken{number}"), lambda _: None)
        await until(lambda: len(api.asked) > 30)
        assert isinstance(await outcome(writer, merge("fine")), Written)
        assert writer.waiting == 5


async def test_objects_whose_writes_hang_do_not_hold_up_the_others() -> None:
    async def hanging_for_some(request: Any) -> Any:
        hanging = request.path.rsplit("/", 1)[1].startswith("hanging")
        return await (hold if hanging else reply(answer()))(request)

    async with (
        ScriptedApi(then=hanging_for_some) as api,
        writing(api.connection, workers=2, seconds_left=lambda: 0.05) as writer,
    ):
        for number in range(5):
            writer.submit(merge(f"hanging{number}"), lambda _: None)
        await until(lambda: len(api.asked) >= 2)
        assert isinstance(await outcome(writer, merge("fine")), Written)
        assert writer.waiting == 5


async def test_where_many_fail_they_are_sent_again_in_turn_and_end_with_the_fence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kube_writer, "_LONGEST_RETRY", 0.01)
    monkeypatch.setattr(kube_writer, "_AGAIN_PER_SECOND", 0.001)
    left = float("inf")
    results: list[WriteResult] = []

    async def full_for_some(request: Any) -> Any:
        failing = request.path.rsplit("/", 1)[1].startswith("broken")
        full = refuse(500, "InternalError", "etcdserver: mvcc: database space exceeded")
        return await (full if failing else reply(answer()))(request)

    async with (
        ScriptedApi(then=full_for_some) as api,
        writing(api.connection, seconds_left=lambda: left) as writer,
    ):
        for number in range(5):
            writer.submit(merge(f"broken{number}"), results.append)
        for _ in range(200):
            assert isinstance(await outcome(writer, merge("fine")), Written)
        assert len(api.asked) == 205
        left = 0.0
        await until(lambda: results == [Fenced(sent=True)] * 5)
        assert len(api.asked) == 205


async def test_a_write_that_is_never_answered_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_writer, "REQUEST_SECONDS", 0.1)
    async with ScriptedApi(hold, then=reply(answer())) as api, writing(api.connection) as writer:
        assert isinstance(await outcome(writer, merge("a")), Written)


async def test_a_server_that_stays_busy_is_asked_less_and_less_often() -> None:
    times: list[float] = []

    async def busy(request: Any) -> Any:
        times.append(time.monotonic())
        return await (refuse(429, headers={"Retry-After": "0"}) if len(times) < 5 else reply(answer()))(
            request
        )

    async with ScriptedApi(then=busy) as api, writing(api.connection) as writer:
        assert isinstance(await outcome(writer, merge("a")), Written)
        pauses = [after - before for before, after in itertools.pairwise(times)]
        assert all(pause >= least for pause, least in zip(pauses, (0.05, 0.1, 0.2, 0.4), strict=True))


async def test_a_server_may_be_busy_for_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_writer, "_LONGEST_RETRY", 0.0)
    busy = [refuse(429)] * 1100
    async with ScriptedApi(*busy, then=reply(answer())) as api, writing(api.connection) as writer:
        assert isinstance(await outcome(writer, merge("a")), Written)


async def test_a_server_that_is_busy_is_asked_for_no_more_meanwhile() -> None:
    async with (
        ScriptedApi(refuse(503), refuse(429), then=reply(answer())) as api,
        writing(api.connection, workers=1) as writer,
    ):
        for name in "ab":
            writer.submit(merge(name), lambda _: None)
        await asyncio.wait_for(writer.drained(), 20)
        assert [asked.path[-1] for asked in api.asked] == ["a", "a", "a", "b"]


async def test_a_server_that_does_not_let_us_have_our_conditions_is_asked_once_more() -> None:
    cause = {"reason": "FieldManagerConflict", "field": ".status.conditions[0].status", "message": ""}
    said = status(409, "Conflict", 'conflict with "stubborn"', details={"causes": [cause]})
    write = Apply(kind=SERVICE, key=Key("ns", "a"), body={}, subresource="status")
    async with ScriptedApi(then=reply(said, 409)) as api, writing(api.connection) as writer:
        owned = Conflict(cause=ConflictCause.OWNED, managers=("stubborn",))
        assert await outcome(writer, write) == owned
        assert [asked.query.get("force") for asked in api.asked] == [None, "true"]


async def test_an_answer_that_cannot_be_read_is_no_success() -> None:
    async with ScriptedApi(then=reply(b"<html>")) as api, writing(api.connection) as writer:
        result = await outcome(writer, merge("a"))
        assert isinstance(result, Refused)
        assert result.reason == "Undecodable"


async def test_a_real_server_that_dies_gets_the_write_when_it_is_back(real_api: RealApi) -> None:
    async with writing(await connect(str(real_api.kubeconfig))) as writer:
        service = await make_service(writer)
        real_api.kill()
        results: list[WriteResult] = []
        writer.submit(apply(service, "192.0.2.1"), results.append)
        await asyncio.to_thread(real_api.start)
        await until(lambda: results, seconds=40)
        assert isinstance(results[0], Written)


# --- the fence --------------------------------------------------------------------------------------------


async def test_nothing_is_sent_when_leadership_has_ended() -> None:
    async with (
        ScriptedApi(then=reply(answer())) as api,
        writing(api.connection, seconds_left=lambda: 0.0) as writer,
    ):
        assert await outcome(writer, merge("a")) == Fenced(sent=False)
        assert api.asked == []


@pytest.mark.parametrize(
    "trouble", [pytest.param(hold, id="black-hole"), pytest.param(watch(reset=True), id="hangs-up")]
)
async def test_a_write_that_is_never_answered_ends_with_the_fence(trouble: Answer) -> None:
    ends = time.monotonic() + 0.5
    async with (
        ScriptedApi(then=trouble) as api,
        writing(api.connection, seconds_left=lambda: ends - time.monotonic()) as writer,
    ):
        assert await outcome(writer, merge("a")) == Fenced(sent=True)
        assert time.monotonic() >= ends
        assert len(api.asked) >= 1


async def test_a_write_that_may_have_arrived_once_is_told_so_whatever_came_after() -> None:
    ends = time.monotonic() + 0.5
    async with (
        ScriptedApi(refuse(500), then=refuse(429)) as api,
        writing(api.connection, seconds_left=lambda: ends - time.monotonic()) as writer,
    ):
        assert await outcome(writer, merge("a")) == Fenced(sent=True)
        assert len(api.asked) >= 2


@pytest.mark.parametrize(("code", "sent"), [(429, False), (503, True), (500, True)])
async def test_no_pause_outlasts_the_fence(code: int, sent: bool) -> None:
    ends = time.monotonic() + 0.3
    async with (
        ScriptedApi(then=refuse(code, headers={"Retry-After": "600"})) as api,
        writing(api.connection, seconds_left=lambda: ends - time.monotonic()) as writer,
    ):
        assert await outcome(writer, merge("a")) == Fenced(sent=sent)
