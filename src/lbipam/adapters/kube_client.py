"""Requests to the API server over HTTP, and what its refusals say.

One connection pool, HTTP/1.1, no compression (a loss on a local link). This file does not retry, except once
with a renewed token after a 401.
"""

import asyncio
import contextlib
import socket
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from lbipam.adapters.kube_config import Connection

_CONNECT_SECONDS = 10.0
_CLOSE_SECONDS = 1.0
REQUEST_SECONDS = 30.0

FIELD_MANAGER = "lbipam"


class StatusCause(msgspec.Struct, frozen=True):
    """`metav1.StatusCause`."""

    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(msgspec.Struct, frozen=True, rename="camel"):
    """`metav1.StatusDetails`."""

    causes: tuple[StatusCause, ...] = ()
    retry_after_seconds: int = 0


class _Status(msgspec.Struct, frozen=True):
    """`metav1.Status`."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: StatusDetails | None = None


class ApiError(Exception):
    """The server answered with a refusal."""

    def __init__(
        self, code: int, reason: str, message: str, details: StatusDetails, retry_after: float | None
    ) -> None:
        super().__init__(f"{code} {reason}: {message}" if reason else f"{code}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after = retry_after
        """Seconds that the server asks to wait."""

    @classmethod
    def from_body(cls, code: int, body: bytes, retry_after: str | None = None) -> Self:
        """Read a `Status`; any other body is the message itself."""
        try:
            status = msgspec.json.decode(body, type=_Status)
        except msgspec.MsgspecError:
            status = _Status(message=body[:200].decode(errors="replace").strip())
        details = status.details or StatusDetails()
        seconds = float(details.retry_after_seconds) or None
        if retry_after is not None and retry_after.isdecimal():
            seconds = float(retry_after)
        return cls(status.code or code, status.reason, status.message, details, seconds)


class UnreachableError(Exception):
    """No answer came; whether the request arrived is not known."""


class SilentError(UnreachableError):
    """The server took the request and then said nothing for too long."""


_FAILURES = (aiohttp.ClientError, TimeoutError, OSError)


class Client:
    """The connection to one API server; an async context manager."""

    def __init__(self, connection: Connection, *, user_agent: str = "lbipam") -> None:
        self.connection = connection
        self._headers = {
            "User-Agent": user_agent,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        self._session: aiohttp.ClientSession | None = None
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            ssl=self.connection.ssl or False, limit=0, keepalive_timeout=60, socket_factory=self._open_socket
        )
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()
        # What was cut off in the middle says farewell in TLS, and would wait for an answer to it.
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                # A transport tells nobody that it has closed.
                while any(one.fileno() != -1 for one in self._sockets):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)

    def _open_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        self._sockets.add(made)
        return made

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        seconds: float = REQUEST_SECONDS,
    ) -> bytes:
        """Send a request and return the body of its answer.

        Raises:
            ApiError: the server refused it.
            UnreachableError: there was no complete answer in time.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        try:
            # Not aiohttp's `total`: that is rounded up to whole seconds, and leaves out what a token takes.
            async with (
                asyncio.timeout(seconds),
                self._send(method, path, params, body, content_type, timeout) as response,
            ):
                answer = await response.read()
        except _FAILURES as problem:
            raise UnreachableError(_told(problem)) from problem
        if response.status >= 400:
            raise ApiError.from_body(response.status, answer, response.headers.get("Retry-After"))
        return answer

    async def why_not_ready(self) -> str | None:
        """Why the server has not started, or is not there: it may know less than it will. None if it has."""
        try:
            await self.request("GET", "/readyz")
        except ApiError as problem:
            # One that does not tell whether it is ready has answered all the same.
            return str(problem) if problem.code == 429 or problem.code >= 500 else None
        except UnreachableError as problem:
            return str(problem)
        return None

    @asynccontextmanager
    async def stream(
        self, path: str, *, params: Mapping[str, str], silence_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an answer that goes on, as chunks of bytes just as they come.

        Raises:
            ApiError: the server refused it.
            SilentError: nothing came for `silence_seconds`.
            UnreachableError: the connection broke.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=silence_seconds)
        try:
            async with self._send("GET", path, params, None, "", timeout) as response:
                if response.status >= 400:
                    raise ApiError.from_body(
                        response.status, await response.read(), response.headers.get("Retry-After")
                    )
                yield response.content.iter_any()
        except aiohttp.SocketTimeoutError as problem:
            raise SilentError(f"nothing came for {silence_seconds:g} s") from problem
        except _FAILURES as problem:
            raise UnreachableError(_told(problem)) from problem

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        body: bytes | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 -- it is aiohttp's, applied by aiohttp
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None, "the client is not open"
        options: dict[str, Any] = {"params": params, "data": body, "timeout": timeout}
        if self.connection.proxy is not None:
            options["proxy"] = self.connection.proxy
        if self.connection.server_name is not None:
            options["server_hostname"] = self.connection.server_name
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = content_type
        url = self.connection.url + path
        response = await self._session.request(
            method, url, headers=await self._authorized(headers, renew=False), **options
        )
        if response.status == 401:
            response.release()
            response = await self._session.request(
                method, url, headers=await self._authorized(headers, renew=True), **options
            )
        async with response:
            try:
                yield response
            finally:
                # A watch that is left ends now: a farewell in TLS would wait for a server that may be dead.
                if response.connection is not None and response.connection.transport is not None:
                    response.connection.transport.abort()

    async def _authorized(self, headers: dict[str, str], *, renew: bool) -> dict[str, str]:
        token = await self.connection.token(renew)
        return {**headers, "Authorization": f"Bearer {token}"} if token else headers


def _told(problem: BaseException) -> str:
    if isinstance(problem, TimeoutError | asyncio.TimeoutError):
        return "no answer in time"
    return str(problem) or type(problem).__name__
