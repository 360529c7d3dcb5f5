import asyncio
import time
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest

from lbipam.adapters.kube_client import ApiError, Client, SilentError, StatusCause, UnreachableError
from lbipam.adapters.kube_config import Connection
from tests.scripted_api import ScriptedApi, event, hold, page, refuse, reply, status, watch


async def test_requests_say_who_asks_and_want_nothing_compressed() -> None:
    async with (
        ScriptedApi(then=page(version=1), token="secret") as api,
        Client(api.connection) as client,
    ):
        await client.request("GET", "/api/v1/services", params={"labelSelector": "a in (b, c),d!=é"})
        await client.request("PATCH", "/x", body=b"{}", content_type="application/merge-patch+json")
        first, second = api.asked
        assert first.headers["User-Agent"] == "lbipam"
        assert first.headers["Authorization"] == "Bearer secret"
        assert first.headers["Accept-Encoding"] == "identity"
        assert "Content-Type" not in first.headers
        assert first.query == {"labelSelector": "a in (b, c),d!=é"}
        assert (second.headers["Content-Type"], second.body) == ("application/merge-patch+json", b"{}")


@pytest.mark.parametrize("base", ["/k8s/clusters/c-m-x", "/k8s/clusters/c-m-x/", "/a%20b", "/"])
async def test_a_server_may_be_under_a_path(base: str) -> None:
    async with (
        ScriptedApi(page(version=1), watch(b"x", stay=False)) as api,
        Client(replace(api.connection, url=api.url + base)) as client,
    ):
        await client.request("GET", "/api/v1/services")
        async with client.stream("/api/v1/services", params={}, silence_seconds=30) as pieces:
            assert [piece async for piece in pieces] == [b"x"]
    under = unquote(base).rstrip("/")
    assert [asked.path for asked in api.asked] == [f"{under}/api/v1/services"] * 2


async def test_a_refusal_tells_what_its_status_says() -> None:
    details = {
        "causes": [{"reason": "FieldValueInvalid", "message": "no", "field": "spec.x"}],
        "retryAfterSeconds": 7,
    }
    said = status(422, "Invalid", "it is invalid", details=details)
    async with ScriptedApi(reply(said, 422)) as api, Client(api.connection) as client:
        with pytest.raises(ApiError) as told:
            await client.request("GET", "/x")
    problem = told.value
    assert (problem.code, problem.reason, problem.message) == (422, "Invalid", "it is invalid")
    assert problem.details.causes == (StatusCause(reason="FieldValueInvalid", message="no", field="spec.x"),)
    assert problem.retry_after == 7
    assert str(problem) == "422 Invalid: it is invalid"


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"upstream\nsick", "upstream\nsick"), (b"", ""), (b"[1]", "[1]"), (b"\xff", "\ufffd")],
)
async def test_a_refusal_by_something_else_than_an_api_server_is_told_too(body: bytes, message: str) -> None:
    async with (
        ScriptedApi(reply(body, 502, {"Retry-After": "3"})) as api,
        Client(api.connection) as client,
    ):
        with pytest.raises(ApiError) as told:
            await client.request("GET", "/x")
    assert (told.value.code, told.value.message, told.value.retry_after) == (502, message, 3.0)


async def test_no_server_is_believed_that_it_wants_to_be_left_alone_for_an_hour() -> None:
    hour = refuse(503, headers={"Retry-After": "3600"})
    async with ScriptedApi(hour) as api, Client(api.connection) as client:
        with pytest.raises(ApiError) as told:
            await client.request("GET", "/x")
    assert told.value.retry_after == 60


async def test_http_says_what_came_of_a_request_whatever_code_its_answer_names() -> None:
    gateway = reply({"code": 14, "message": "unavailable"}, 503)
    async with ScriptedApi(gateway) as api, Client(api.connection) as client:
        with pytest.raises(ApiError, match="503: unavailable"):
            await client.request("GET", "/x")


async def test_a_redirection_is_a_refusal() -> None:
    login = reply(b"<html>", 302, {"Location": "/login"})
    async with ScriptedApi(then=login) as api, Client(api.connection) as client:
        with pytest.raises(ApiError, match="302"):
            await client.request("DELETE", "/x")
        with pytest.raises(ApiError, match="302"):
            async with client.stream("/x", params={}, silence_seconds=5):
                pass


async def test_a_request_is_given_up_when_its_time_is_over() -> None:
    async with ScriptedApi(then=hold) as api, Client(api.connection) as client:
        begun = time.monotonic()
        with pytest.raises(UnreachableError, match="no answer in time"):
            await client.request("GET", "/x", seconds=0.2)
        assert time.monotonic() - begun >= 0.2


async def test_an_answer_that_drips_is_given_up_when_its_time_is_over() -> None:
    async with ScriptedApi(watch(*[b"x"] * 1000, pause=0.05)) as api, Client(api.connection) as client:
        with pytest.raises(UnreachableError, match="no answer in time"):
            await client.request("GET", "/x", seconds=0.3)


async def test_half_an_answer_is_none() -> None:
    async with ScriptedApi(watch(b"{", reset=True)) as api, Client(api.connection) as client:
        with pytest.raises(UnreachableError):
            await client.request("GET", "/x")


async def test_nobody_there_is_told() -> None:
    async with ScriptedApi() as gone:
        pass
    async with Client(gone.connection) as client:
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1"):
            await client.request("GET", "/x")


async def test_a_stream_gives_what_comes_as_it_comes_and_notices_silence() -> None:
    async with (
        ScriptedApi(watch(event("ADDED", {}))) as api,
        Client(api.connection) as client,
    ):
        heard = b""
        with pytest.raises(SilentError, match=r"0\.2 s"):
            async with client.stream("/x", params={}, silence_seconds=0.2) as stream:
                async for chunk in stream:
                    heard += chunk
        assert heard == event("ADDED", {})


async def test_a_stream_that_is_refused_says_why() -> None:
    async with ScriptedApi(refuse(410, "Expired", "too old")) as api, Client(api.connection) as client:
        with pytest.raises(ApiError, match="410 Expired: too old"):
            async with client.stream("/x", params={}, silence_seconds=5):
                pass


async def test_a_token_that_is_refused_is_renewed_once() -> None:
    asked: list[bool] = []

    async def token(renew: bool) -> str:
        asked.append(renew)
        return "new" if renew else "old"

    async def answer(request: Any) -> Any:
        known = request.headers["Authorization"] == "Bearer newer"
        return await (page(version=1) if known else refuse(401, "Unauthorized"))(request)

    async with ScriptedApi(then=answer) as api:
        connection = Connection(url=api.url, ssl=None, token=token)
        async with Client(connection) as client:
            with pytest.raises(ApiError) as told:
                await client.request("GET", "/x")
        assert told.value.code == 401
        assert asked == [False, True]
        assert [one.headers["Authorization"] for one in api.asked] == ["Bearer old", "Bearer new"]


async def test_a_token_that_takes_too_long_counts_into_the_time_of_the_request() -> None:
    async def token(renew: bool) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async with Client(Connection(url="http://127.0.0.1:1", ssl=None, token=token)) as client:
        with pytest.raises(UnreachableError, match="no answer in time"):
            await client.request("GET", "/x", seconds=0.1)


async def test_connections_are_used_again() -> None:
    ports: set[int] = set()

    async def answer(request: Any) -> Any:
        ports.add(request.transport.get_extra_info("peername")[1])
        return await page(version=1)(request)

    async with ScriptedApi(then=answer) as api, Client(api.connection) as client:
        for _ in range(5):
            await client.request("GET", "/x")
    assert len(ports) == 1


async def test_a_server_of_both_kinds_tells_its_version(connection: Connection) -> None:
    async with Client(connection) as client:
        assert b"gitVersion" in await client.request("GET", "/version")
