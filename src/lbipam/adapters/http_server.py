"""Answers the few questions over HTTP that a process is asked of itself: is it well, what does it count?

HTTP/1.1 without TLS, for GET and HEAD; requests are parsed by Node's parser, by way of httptools. A whole web
framework would do it too, and be a sixth of the memory that an agent takes. What is answered is not known here.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeAlias

import httptools

_LONGEST_REQUEST = 16 * 1024
_IDLE_SECONDS = 75.0
"""After which a connection that asks nothing is closed; Prometheus asks every 15 to 60 seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What is answered."""

    status: HTTPStatus = HTTPStatus.OK
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    fields: Mapping[str, str] = field(default_factory=dict)
    """Further fields of the head."""


NOT_FOUND = Reply(status=HTTPStatus.NOT_FOUND, body=b"404: Not Found")
_BAD_REQUEST = Reply(status=HTTPStatus.BAD_REQUEST, body=b"400: Bad Request")
_NOT_ALLOWED = Reply(
    status=HTTPStatus.METHOD_NOT_ALLOWED, body=b"405: Method Not Allowed", fields={"Allow": "GET, HEAD"}
)

Answer: TypeAlias = Callable[[str, int], Reply]
"""The reply to a request, by its path and the port that it came to."""


class HttpServer:
    """Listens on any number of ports; must be closed."""

    def __init__(self, answer: Answer) -> None:
        """`answer` is called in the event loop, once for each request."""
        self._answer = answer
        self._listening: dict[int, asyncio.Server] = {}
        self._open: set[asyncio.Transport] = set()

    async def listen(self, host: str | None, port: int) -> int:
        """Answer on a port as well.

        Args:
            host: An address, or None for every address of both families.
            port: 0 takes a free one.

        Returns:
            The port.

        Raises:
            OSError: it cannot be had.
        """
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self._answer, self._open), host, port)
        port = int(server.sockets[0].getsockname()[1])
        self._listening[port] = server
        return port

    def leave(self, port: int) -> None:
        """Take no more connections on a port; those there are stay."""
        self._listening.pop(port).close()

    def close(self) -> None:
        """Answer no more."""
        for port in tuple(self._listening):
            self.leave(port)
        for transport in tuple(self._open):
            transport.close()


class _Connection(asyncio.Protocol):
    """One connection, one request after the other."""

    def __init__(self, answer: Answer, open_transports: set[asyncio.Transport]) -> None:
        self._answer = answer
        self._open_transports = open_transports
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._length = 0
        self._is_behind = False
        """Whether the client has yet to read what was answered."""
        self._idle: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    # --- called by the transport --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open_transports.add(transport)
        self._wait()

    def connection_lost(self, _: Exception | None) -> None:
        self._open_transports.discard(self._transport)
        if self._idle is not None:
            self._idle.cancel()

    def data_received(self, data: bytes) -> None:
        self._length += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise  # a fault of ours, which asyncio logs
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._end()
        else:
            if self._length > _LONGEST_REQUEST:
                self._end()

    def pause_writing(self) -> None:
        self._is_behind = True

    def resume_writing(self) -> None:
        self._is_behind = False

    # --- called by the parser -----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""

    def on_url(self, url: bytes) -> None:
        """A part of the request's target."""
        self._url += url

    def on_message_complete(self) -> None:
        """All of a request is there."""
        if self._transport.is_closing():
            return
        if self._is_behind:
            # It asks on without having heard the answers, which would pile up in our memory.
            self._transport.abort()
            return
        self._length = 0
        method = self._parser.get_method()
        path = self._url.partition(b"?")[0].decode("latin-1")
        port = self._transport.get_extra_info("sockname")[1]
        reply = self._answer(path, port) if method in (b"GET", b"HEAD") else _NOT_ALLOWED
        stays_open = self._parser.should_keep_alive()
        self._send(reply, has_body=method != b"HEAD", stays_open=stays_open)
        if stays_open:
            self._wait()

    # --- inside -------------------------------------------------------------------------------------------

    def _end(self) -> None:
        if not self._transport.is_closing():
            self._send(_BAD_REQUEST, has_body=True, stays_open=False)

    def _send(self, reply: Reply, *, has_body: bool, stays_open: bool) -> None:
        fields = {
            "Content-Type": reply.content_type,
            "Content-Length": f"{len(reply.body)}",
            **reply.fields,
            **({} if stays_open else {"Connection": "close"}),
        }
        head = f"HTTP/1.1 {reply.status.value} {reply.status.phrase}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._transport.write(head.encode("latin-1") + b"\r\n" + (reply.body if has_body else b""))
        if not stays_open:
            self._transport.close()

    def _wait(self) -> None:
        """For the next request, but not for ever."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._transport.close)
