"""Which connections to the API server are open, and which of them is free?

A connection carries one request at a time and is used again. What is left in the middle is cut off, never
closed politely: a farewell in TLS would wait for a server that may be dead. This file does not know what is
asked.
"""

import asyncio
import base64
import ipaddress
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from lbipam.adapters.kube_config import Connection
from lbipam.adapters.kube_http import AnswerReader, BrokenAnswerError, Head

_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 60.0
"""How long a free connection is kept: servers and what stands before them keep it longer."""
_MOMENT_SECONDS = 1.0
"""How long after its last answer a connection is surely alive, so that a long silence on it means something."""
_SECOND_ATTEMPT_SECONDS = 0.25
"""After which time the next address of a name is tried beside the first (RFC 8305)."""


class LostError(Exception):
    """The connection broke, or there was none; whether the request arrived is not known."""


class SilenceError(Exception):
    """Nothing came for too long."""


class Answer(NamedTuple):
    """A complete answer."""

    head: Head
    body: bytes


class _Wire(asyncio.Protocol):
    """One connection."""

    def __init__(self, open_wires: "set[_Wire]") -> None:
        self._open_wires = open_wires
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader: AnswerReader | None = None
        self._whole = True
        self._waiter: asyncio.Future[None] | None = None
        self._lost = ""
        """Why it is no longer usable."""
        self._heard_at = 0.0
        self.free_since = 0.0

    # --- called by the transport --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open_wires.add(self)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        reader = self._reader
        if reader is None or reader.done:
            self._lose("the server speaks unasked")
            return
        try:
            reader.feed(data)
        except BrokenAnswerError as problem:
            self._lose(str(problem))
        if not self._whole or reader.done:
            self._wake()

    def connection_lost(self, problem: Exception | None) -> None:
        self._open_wires.discard(self)
        if not self._lost:
            self._lost = str(problem) if problem else "the server closed the connection"
            if self._reader is not None and not self._reader.done:
                try:
                    self._reader.end()
                except BrokenAnswerError as told:
                    self._lost = str(problem or told)
        self._wake()

    def _lose(self, problem: str) -> None:
        self._lost = problem
        self.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- called by whoever asks ---------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether it can carry another request."""
        return not self._lost

    def abort(self) -> None:
        """Cut it off."""
        if self._transport is not None:
            self._transport.abort()

    async def secure(self, context: ssl.SSLContext, name: str) -> None:
        """Speak TLS from now on, as with a server behind a proxy."""
        assert self._transport is not None
        secured = await self._loop.start_tls(self._transport, self, context, server_hostname=name)
        assert secured is not None
        self._transport = secured

    async def exchange(self, request: bytes, *, bodiless: bool = False) -> Answer:
        """Send a request and return its answer.

        Raises:
            LostError: the connection broke before the answer was complete.
        """
        reader = self._send(request, bodiless=bodiless, whole=True)
        while not reader.done:
            await self._more(reader)
        assert reader.head is not None
        return self._ended(Answer(reader.head, reader.take()))

    async def begin(self, request: bytes) -> Head:
        """Send a request and return the head of its answer; `pieces` gives the rest.

        Raises:
            LostError: the connection broke before that.
        """
        reader = self._send(request, bodiless=False, whole=False)
        while reader.head is None:
            await self._more(reader)
        return reader.head

    async def pieces(self, silence: float) -> AsyncGenerator[bytes, None]:
        """The body of the answer as it comes.

        Args:
            silence: After so many seconds without any, it is given up.

        Raises:
            LostError: the connection broke before the answer was complete.
            SilenceError: nothing came for too long.
        """
        reader = self._reader
        assert reader is not None
        self._heard_at = self._loop.time()
        watchdog = self._loop.call_later(silence, self._wake)
        try:
            while True:
                piece = reader.take()
                if piece:
                    yield piece
                elif reader.done:
                    return
                else:
                    await self._more(reader)
                    left = self._heard_at + silence - self._loop.time()
                    if left <= 0:
                        raise SilenceError
                    if watchdog.when() <= self._loop.time():
                        watchdog = self._loop.call_later(left, self._wake)
        finally:
            watchdog.cancel()

    def _send(self, request: bytes, *, bodiless: bool, whole: bool) -> AnswerReader:
        if self._lost:
            raise LostError(self._lost)
        assert self._transport is not None
        self._reader, self._whole = AnswerReader(bodiless=bodiless), whole
        self._transport.write(request)
        return self._reader

    async def _more(self, reader: AnswerReader) -> None:
        """Wait until something has happened."""
        if self._lost and not reader.done:
            raise LostError(self._lost)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _ended(self, answer: Answer) -> Answer:
        self._reader = None
        if not answer.head.stays_open and not self._lost:
            self._lose("the server wanted it closed")
        return answer


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Connections:
    """The connections to one API server."""

    def __init__(self, to: Connection) -> None:
        self._to = to
        server = urlsplit(to.url)
        self._host, self._port = server.hostname or "", server.port or (443 if to.ssl else 80)
        self.authority = server.netloc.rpartition("@")[2]
        """What the server is called in requests."""
        self._open: set[_Wire] = set()
        self._free: list[_Wire] = []

    def forget(self) -> None:
        """Let no other request go where others went: cut off what is free."""
        while self._free:
            self._free.pop().abort()

    async def close(self) -> None:
        """Cut all off."""
        while self._open:
            for wire in self._open:
                wire.abort()
            await asyncio.sleep(0)

    async def exchange(self, request: bytes, *, repeatable: bool) -> Answer:
        """Send a request and return its answer.

        Args:
            request: As it is sent.
            repeatable: It does no harm to send it twice: so it is, if a connection that was used before turns
                out to be closed.

        Raises:
            LostError: the connection broke before the answer was complete.
            OSError, TimeoutError: there was none.
        """
        wire = self._take_free()
        if wire is not None:
            try:
                return await self._exchange(wire, request)
            except LostError:
                if not repeatable:
                    raise
        return await self._exchange(await self._connect(), request)

    async def _exchange(self, wire: _Wire, request: bytes) -> Answer:
        try:
            answer = await wire.exchange(request)
        except BaseException:
            wire.abort()
            # What has made this one useless did so to those that lie idle: nobody need find out one by one.
            self.forget()
            raise
        if wire.usable:
            wire.free_since = asyncio.get_running_loop().time()
            self._free.append(wire)
        return answer

    @asynccontextmanager
    async def stream(
        self, request: bytes, *, silence_seconds: float
    ) -> AsyncIterator[tuple[Head, AsyncIterator[bytes]]]:
        """Send a request on a connection for it alone; the head of its answer, and the rest as it comes.

        It must do no harm to send it twice.

        Raises:
            LostError: the connection broke before the answer was complete.
            SilenceError: nothing came for `silence_seconds`.
            OSError, TimeoutError: there was no connection.
        """
        wire, head = await self._begin(request, silence_seconds)
        try:
            async with aclosing(wire.pieces(silence_seconds)) as pieces:
                yield head, pieces
        finally:
            wire.abort()

    async def _begin(self, request: bytes, silence_seconds: float) -> tuple[_Wire, Head]:
        """On a connection used a moment ago, if there is one, as by the list before a watch; else on a new one."""
        moment = asyncio.get_running_loop().time() - _MOMENT_SECONDS
        wire = self._take_free() if self._free and self._free[-1].free_since >= moment else None
        if wire is not None:
            try:
                return wire, await self._head(wire, request, silence_seconds)
            except LostError:
                pass  # the server closed it after its answer
        wire = await self._connect()
        return wire, await self._head(wire, request, silence_seconds)

    async def _head(self, wire: _Wire, request: bytes, silence_seconds: float) -> Head:
        try:
            async with asyncio.timeout(silence_seconds):
                return await wire.begin(request)
        except TimeoutError:
            wire.abort()
            raise SilenceError from None
        except BaseException:
            wire.abort()
            raise

    def _take_free(self) -> _Wire | None:
        """The connection that was used last, so that those of a burst grow old."""
        oldest = asyncio.get_running_loop().time() - _IDLE_SECONDS
        while self._free:
            wire = self._free.pop()
            if wire.usable and wire.free_since >= oldest:
                return wire
            wire.abort()
        return None

    async def _connect(self) -> _Wire:
        self._to.refresh()
        async with asyncio.timeout(_CONNECT_SECONDS):
            if self._to.proxy is not None:
                return await self._connect_through(self._to.proxy)
            return await self._open_wire(self._host, self._port, self._to.ssl, self._server_name)

    @property
    def _server_name(self) -> str:
        return self._to.server_name or self._host

    async def _open_wire(self, host: str, port: int, context: ssl.SSLContext | None, name: str) -> _Wire:
        _, wire = await asyncio.get_running_loop().create_connection(
            lambda: _Wire(self._open),
            host,
            port,
            ssl=context,
            server_hostname=name if context is not None else None,
            # Without a second address there is nothing to race, and less to clean up on cancellation.
            happy_eyeballs_delay=None if _is_address(host) else _SECOND_ATTEMPT_SECONDS,
        )
        return wire

    async def _connect_through(self, url: str) -> _Wire:
        """A tunnel that a proxy gives, whatever the server speaks."""
        proxy = urlsplit(url)
        if proxy.scheme not in ("http", "https") or not proxy.hostname:
            raise LostError(f"the proxy {url!r} is none for HTTP")
        context = ssl.create_default_context() if proxy.scheme == "https" else None
        port = proxy.port or (443 if context is not None else 80)
        wire = await self._open_wire(proxy.hostname, port, context, proxy.hostname)
        try:
            server = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
            fields = f"Host: {server}\r\n"
            if proxy.username is not None:
                password = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
                fields += f"Proxy-Authorization: Basic {base64.b64encode(password).decode()}\r\n"
            head, _ = await wire.exchange(
                f"CONNECT {server} HTTP/1.1\r\n{fields}\r\n".encode("latin-1"), bodiless=True
            )
            if head.status != 200:
                raise LostError(f"the proxy answers {head.status}")
            if self._to.ssl is not None:
                await wire.secure(self._to.ssl, self._server_name)
        except BaseException:
            wire.abort()
            raise
        return wire
