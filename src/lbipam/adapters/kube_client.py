"""Requests to the API server over HTTP, and what its refusals say.

No compression: a loss on a local link. This file does not retry, except once with a renewed token after a 401.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Self
from urllib.parse import unquote, urlsplit

import msgspec

from lbipam.adapters.kube_config import Connection
from lbipam.adapters.kube_connections import Connections, LostError, SilenceError
from lbipam.adapters.kube_http import Head, request_bytes

REQUEST_SECONDS = 30.0
_LONGEST_WAIT = 60.0
"""No server is obeyed that asks for more: what stands before one may mean a browser."""

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
        self, code: int, reason: str, message: str, details: StatusDetails, retry_after: float
    ) -> None:
        super().__init__(f"{code} {reason}: {message}" if reason else f"{code}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after = retry_after
        """Seconds that the server asks to wait at least; 0 if it does not."""

    @property
    def may_pass(self) -> bool:
        """Whether the server may do later what it does not do now: it is too busy, or in trouble."""
        return self.code == 429 or self.code >= 500

    @classmethod
    def from_body(cls, code: int | None, body: bytes, retry_after: str | None = None) -> Self:
        """Read a `Status`; any other body is the message itself.

        Args:
            code: What HTTP says; None where only the `Status` does.
            body: What was answered.
            retry_after: The field of that name.
        """
        try:
            status = msgspec.json.decode(body, type=_Status)
        except msgspec.MsgspecError:
            status = _Status(message=body[:200].decode(errors="replace").strip())
        details = status.details or StatusDetails()
        seconds = float(details.retry_after_seconds)
        if retry_after is not None and retry_after.isdecimal():
            seconds = float(retry_after)
        wait = min(max(seconds, 0.0), _LONGEST_WAIT)
        return cls(code or status.code, status.reason, status.message, details, wait)


class UnreachableError(Exception):
    """No answer came; whether the request arrived is not known."""


class SilentError(UnreachableError):
    """The server took the request and then said nothing for too long."""


_FAILURES = (LostError, TimeoutError, OSError)

_REPEATABLE = frozenset({"GET", "PUT", "DELETE"})


class Client:
    """The way to one API server; an async context manager."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._connections = Connections(connection)
        # Rancher and others have many servers behind one name, each under a path.
        self._base = unquote(urlsplit(connection.url).path).rstrip("/")
        self._fields = (
            f"Host: {self._connections.authority}\r\n"
            "User-Agent: lbipam\r\n"
            "Accept: application/json\r\n"
            "Accept-Encoding: identity\r\n"
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connections.close()

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
            SilentError: there was no complete answer in time.
            UnreachableError: the connection broke, or there was none.
        """
        repeatable = method in _REPEATABLE
        try:
            async with asyncio.timeout(seconds):
                fields = await self._authorized(renew=False)
                request = request_bytes(method, self._base + path, params, fields, body, content_type)
                head, answer = await self._connections.exchange(request, repeatable=repeatable)
                if head.status == 401:
                    fields = await self._authorized(renew=True)
                    request = request_bytes(method, self._base + path, params, fields, body, content_type)
                    head, answer = await self._connections.exchange(request, repeatable=repeatable)
        except TimeoutError as problem:
            raise SilentError("no answer in time") from problem
        except _FAILURES as problem:
            raise UnreachableError(_told(problem)) from problem
        _refuse(head, answer)
        return answer

    async def why_not_ready(self) -> str | None:
        """Why the server has not started, or is not there: it may know less than it will. None if it has."""
        try:
            await self.request("GET", "/readyz")
        except ApiError as problem:
            # One that does not tell whether it is ready has answered all the same.
            return str(problem) if problem.may_pass else None
        except UnreachableError as problem:
            return str(problem)
        return None

    @asynccontextmanager
    async def stream(
        self, path: str, *, params: Mapping[str, str], silence_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an answer that goes on, as pieces of bytes just as they come.

        Raises:
            ApiError: the server refused it.
            SilentError: nothing came for `silence_seconds`.
            UnreachableError: the connection broke.
        """
        try:
            async with self._stream(path, params, silence_seconds, renew=False) as (head, pieces):
                if head.status != 401:
                    yield pieces
                    return
            async with self._stream(path, params, silence_seconds, renew=True) as (_, pieces):
                yield pieces
        except SilenceError as problem:
            raise SilentError(f"nothing came for {silence_seconds:g} s") from problem
        except _FAILURES as problem:
            raise UnreachableError(_told(problem)) from problem

    @asynccontextmanager
    async def _stream(
        self, path: str, params: Mapping[str, str], silence_seconds: float, *, renew: bool
    ) -> AsyncIterator[tuple[Head, AsyncIterator[bytes]]]:
        request = request_bytes("GET", self._base + path, params, await self._authorized(renew=renew))
        async with self._connections.stream(request, silence_seconds=silence_seconds) as (head, pieces):
            if head.status >= 300 and (renew or head.status != 401):
                _refuse(head, b"".join([piece async for piece in pieces]))
            yield head, pieces

    async def _authorized(self, *, renew: bool) -> str:
        """The fields that every request has."""
        token = await self.connection.token(renew)
        if renew:
            # A certificate is shown when a connection begins: where it was refused, a new one needs another.
            self._connections.forget()
        return f"{self._fields}Authorization: Bearer {token}\r\n" if token else self._fields


def _refuse(head: Head, body: bytes) -> None:
    """Raise what an answer that is none tells: API servers do not redirect, what stands before one may."""
    if head.status >= 300:
        raise ApiError.from_body(head.status, body, head.retry_after)


def _told(problem: BaseException) -> str:
    if isinstance(problem, TimeoutError):
        return "no answer in time"
    return str(problem) or type(problem).__name__
