import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import pytest

from lbipam.adapters import kube_connections
from lbipam.adapters.kube_config import Connection
from lbipam.adapters.kube_connections import Connections, LostError
from lbipam.adapters.kube_http import request_bytes

Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

GET = request_bytes("GET", "/", None, "Host: a\r\n")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def no_token(renew: bool) -> str | None:
    return None


class Server:
    """Serves one connection after the other by a script; the last entry serves all that follow."""

    def __init__(self, *script: Serve) -> None:
        self.opened = 0
        self._script = list(script)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        serve = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def connected(*script: Serve) -> AsyncIterator[tuple[Connections, Server]]:
    server = Server(*script)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        connections = Connections(Connection(url=f"http://127.0.0.1:{port}", ssl=None, token=no_token))
        try:
            yield connections, server
        finally:
            await connections.close()


async def head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def answering(answer: bytes, times: int = 1000) -> Serve:
    """Answers so many requests, then closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(times):
            await head(reader)
            writer.write(answer)

    return serve


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head(reader)


async def answer_once_then_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await answering(OK, times=1)(reader, writer)
    await hang_up(reader, writer)


async def test_requests_one_after_the_other_share_a_connection() -> None:
    async with connected(answering(OK)) as (connections, server):
        for _ in range(3):
            assert (await connections.exchange(GET, repeatable=False)).body == b"ok"
        assert server.opened == 1


async def test_requests_at_the_same_time_do_not() -> None:
    async with connected(answering(OK)) as (connections, server):
        await asyncio.gather(*(connections.exchange(GET, repeatable=False) for _ in range(3)))
        assert server.opened == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"and something that nobody asked for",
    ],
)
async def test_a_connection_that_the_server_wants_closed_is_not_used_again(answer: bytes) -> None:
    async with connected(answering(answer)) as (connections, server):
        for _ in range(2):
            assert (await connections.exchange(GET, repeatable=False)).body == b"ok"
        assert server.opened == 2


async def test_an_answer_may_end_with_its_connection() -> None:
    async with connected(answering(b"HTTP/1.1 200 OK\r\n\r\nok", times=1)) as (connections, _):
        assert (await connections.exchange(GET, repeatable=False)).body == b"ok"


async def test_what_can_be_repeated_is_when_a_used_connection_turns_out_to_be_closed() -> None:
    async with connected(answer_once_then_hang_up, answering(OK)) as (connections, server):
        await connections.exchange(GET, repeatable=True)
        assert (await connections.exchange(GET, repeatable=True)).body == b"ok"
        assert server.opened == 2


async def test_what_cannot_be_repeated_is_not() -> None:
    async with connected(answer_once_then_hang_up, answering(OK)) as (connections, server):
        await connections.exchange(GET, repeatable=False)
        with pytest.raises(LostError):
            await connections.exchange(GET, repeatable=False)
        assert server.opened == 1


async def test_a_new_connection_that_breaks_is_no_reason_to_try_again() -> None:
    async with connected(hang_up) as (connections, server):
        with pytest.raises(LostError, match="before its answer was complete"):
            await connections.exchange(GET, repeatable=True)
        assert server.opened == 1


async def test_a_request_that_is_cancelled_takes_its_connection_along() -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        asked.set()
        try:
            await reader.read()
        finally:
            ended.set()

    async with connected(never, answering(OK)) as (connections, server):
        request = asyncio.create_task(connections.exchange(GET, repeatable=True))
        await asked.wait()
        request.cancel()
        await asyncio.wait_for(ended.wait(), 10)
        assert request.cancelled()
        assert (await connections.exchange(GET, repeatable=True)).body == b"ok"
        assert server.opened == 2


async def test_connections_that_lay_idle_while_one_died_are_not_tried_in_turn() -> None:
    async def answer_once_then_never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(OK, times=1)(reader, writer)
        await reader.read()
        await reader.read()

    async with connected(*[answer_once_then_never] * 3, answering(OK)) as (connections, server):
        await asyncio.gather(*(connections.exchange(GET, repeatable=True) for _ in range(3)))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await connections.exchange(GET, repeatable=True)
        async with asyncio.timeout(10):
            assert (await connections.exchange(GET, repeatable=True)).body == b"ok"
        assert server.opened == 4


async def test_what_came_before_a_stream_broke_is_not_lost() -> None:
    begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    async with connected(answering(begun, times=1)) as (connections, _):
        heard = b""
        with pytest.raises(LostError, match="before its answer was complete"):
            async with connections.stream(GET, silence_seconds=10) as (answer, pieces):
                assert answer.status == 200
                async for piece in pieces:
                    heard += piece
        assert heard == b"abc"


async def test_a_stream_that_ends_properly_ends() -> None:
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with (
        connected(answering(whole)) as (connections, _),
        connections.stream(GET, silence_seconds=10) as (_, pieces),
    ):
        assert b"".join([piece async for piece in pieces]) == b"abc"


async def test_a_stream_goes_on_where_a_request_has_just_ended() -> None:
    async with connected(answering(OK)) as (connections, server):
        await connections.exchange(GET, repeatable=True)
        async with connections.stream(GET, silence_seconds=10) as (_, pieces):
            assert b"".join([piece async for piece in pieces]) == b"ok"
            # It has the connection for itself.
            await connections.exchange(GET, repeatable=True)
        assert server.opened == 2


async def test_a_stream_begins_anew_where_that_connection_turns_out_to_be_closed() -> None:
    async with connected(answer_once_then_hang_up, answering(OK)) as (connections, server):
        await connections.exchange(GET, repeatable=True)
        async with connections.stream(GET, silence_seconds=10) as (_, pieces):
            assert b"".join([piece async for piece in pieces]) == b"ok"
        assert server.opened == 2


async def test_a_stream_takes_no_connection_that_may_have_died_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its silence would be borne for longer than a new one takes."""
    monkeypatch.setattr(kube_connections, "_MOMENT_SECONDS", -1.0)
    async with connected(answering(OK)) as (connections, server):
        await connections.exchange(GET, repeatable=True)
        async with connections.stream(GET, silence_seconds=10) as (head, _):
            assert head.status == 200
        assert server.opened == 2
        assert (await connections.exchange(GET, repeatable=True)).body == b"ok"
        assert server.opened == 2, "requests still take it"


async def test_a_proxy_that_refuses_is_told() -> None:
    refusing = answering(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    server = Server(refusing)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        proxy = f"http://user:pass%20word@127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        to = Connection(url="http://server.invalid", ssl=None, token=no_token, proxy=proxy)
        connections = Connections(to)
        with pytest.raises(LostError, match="the proxy answers 407"):
            await connections.exchange(GET, repeatable=True)
        await connections.close()


async def test_a_proxy_is_told_who_asks_and_for_what() -> None:
    asked: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await head(reader))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await answering(OK)(reader, writer)

    server = Server(tunnel)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        proxy = f"http://user:pass%20word@127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        to = Connection(url="http://server.invalid:6443", ssl=None, token=no_token, proxy=proxy)
        connections = Connections(to)
        assert (await connections.exchange(GET, repeatable=True)).body == b"ok"
        await connections.close()
    (request,) = asked
    assert request.split(b"\r\n") == [
        b"CONNECT server.invalid:6443 HTTP/1.1",
        b"Host: server.invalid:6443",
        b"Proxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=",
        b"",
        b"",
    ]


async def test_a_proxy_of_another_kind_is_told() -> None:
    to = Connection(url="http://127.0.0.1:1", ssl=None, token=no_token, proxy="socks5://127.0.0.1:1")
    with pytest.raises(LostError, match="is none for HTTP"):
        await Connections(to).exchange(GET, repeatable=True)
