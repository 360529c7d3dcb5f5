"""What a client hears from the server, whatever it says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest

from lbipam.adapters import http_server
from lbipam.adapters.http_server import NOT_FOUND, HttpServer, Reply

PATIENCE = 20.0


def answer(path: str, port: int) -> Reply:
    match path:
        case "/well":
            return Reply(body=b"ok\n", fields={"X-Port": f"{port}"})
        case "/ill":
            return Reply(status=HTTPStatus.SERVICE_UNAVAILABLE, body=b"no\n")
        case "/long":
            return Reply(body=b"x" * 1_000_000)
    return NOT_FOUND


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[HttpServer, int]]:
    server = HttpServer(answer)
    port = await server.listen("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        server.close()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE):
            yield reader, writer
    finally:
        writer.transport.abort()


async def said(request: bytes) -> tuple[bytes, bytes, bytes]:
    """The first line, the fields and the body of all that is answered, until the server closes."""
    async with serving() as (_, port), connected(port) as (reader, writer):
        writer.write(request)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        line, _, fields = head.partition(b"\r\n")
        return line, fields, body


def get(path: str, *, method: str = "GET", stays: bool = False) -> bytes:
    field = "" if stays else "Connection: close\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\n{field}\r\n".encode()


async def test_what_is_asked_is_answered() -> None:
    line, fields, body = await said(get("/well?verbose"))
    assert (line, body) == (b"HTTP/1.1 200 OK", b"ok\n")
    assert b"Content-Length: 3\r\n" in fields
    assert b"Content-Type: text/plain; charset=utf-8\r\n" in fields
    assert await said(get("/ill")) == (
        b"HTTP/1.1 503 Service Unavailable",
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\nConnection: close",
        b"no\n",
    )
    assert (await said(get("/other")))[0] == b"HTTP/1.1 404 Not Found"


async def test_the_answer_may_depend_on_the_port() -> None:
    async with serving() as (server, one):
        for port in (one, await server.listen("127.0.0.1", 0)):
            async with connected(port) as (reader, writer):
                writer.write(get("/well"))
                assert f"X-Port: {port}\r\n".encode() in await reader.read()


async def test_a_head_without_a_body_is_answered_where_it_is_asked_for() -> None:
    line, fields, body = await said(get("/well", method="HEAD"))
    assert (line, body) == (b"HTTP/1.1 200 OK", b"")
    assert b"Content-Length: 3\r\n" in fields


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_nothing_but_questions_is_taken(method: str) -> None:
    line, fields, _ = await said(get("/well", method=method))
    assert line == b"HTTP/1.1 405 Method Not Allowed"
    assert b"Allow: GET, HEAD\r\n" in fields


@pytest.mark.parametrize(
    "rubbish",
    [b"\0\0\0\0\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + 20_000 * b"x", b"\x16\x03\x01\x02\0"],
)
async def test_rubbish_ends_the_connection(rubbish: bytes) -> None:
    line, _, _ = await said(rubbish)
    assert line == b"HTTP/1.1 400 Bad Request"


async def test_a_connection_carries_many_questions_in_whatever_pieces_they_come() -> None:
    async with serving() as (_, port), connected(port) as (reader, writer):
        for byte in 2 * get("/well", stays=True) + get("/ill", stays=True):
            writer.write(bytes([byte]))
            await writer.drain()
        for body in (b"ok\n", b"ok\n", b"no\n"):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(3) == body


async def test_who_asks_on_without_listening_is_cut_off() -> None:
    """The answers would fill our memory."""
    async with serving() as (_, port), connected(port) as (reader, writer):
        writer.write(100 * get("/long", stays=True))
        heard = 0
        with contextlib.suppress(ConnectionResetError):
            while chunk := await reader.read(1 << 20):
                heard += len(chunk)
        assert heard < 100_000_000


async def test_who_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "_IDLE_SECONDS", 0.05)
    async with serving() as (_, port), connected(port) as (reader, writer):
        writer.write(get("/well", stays=True))
        assert (await reader.read()).endswith(b"ok\n")


async def test_a_port_that_is_left_takes_nobody_in_and_others_stay() -> None:
    async with serving() as (server, one):
        other = await server.listen("127.0.0.1", 0)
        server.leave(other)
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", other)
        async with connected(one) as (reader, writer):
            writer.write(get("/well"))
            assert await reader.read()


async def test_connections_end_with_the_server() -> None:
    async with serving() as (server, port), connected(port) as (reader, writer):
        writer.write(get("/well", stays=True))
        await reader.readuntil(b"ok\n")
        server.close()
        assert await reader.read() == b""
