"""What might an API server say that a healthy one does not?

An HTTP server on loopback that answers request after request by a script, in the bytes of the protocol. This
file keeps no objects and judges no request.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from aiohttp import web

from lbipam.adapters.kube_config import Connection

Answer: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


async def hold(request: web.Request) -> web.StreamResponse:
    """Take the request and never answer: a black hole."""
    await asyncio.Event().wait()
    raise AssertionError


def reply(body: Any, code: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """Answer with JSON, or with these very bytes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(body=raw, status=code, headers=headers, content_type="application/json")

    return answer


def status(code: int, reason: str = "", message: str = "", **more: Any) -> dict[str, Any]:
    """A `metav1.Status`."""
    form = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**form, "code": code, "reason": reason, "message": message, **more}


def refuse(code: int, reason: str = "", message: str = "", headers: dict[str, str] | None = None) -> Answer:
    """Answer with a `Status`."""
    return reply(status(code, reason, message), code, headers)


def page(*items: Any, version: int | str, more: str = "") -> Answer:
    """Answer with a page of a list."""
    metadata = {"resourceVersion": str(version), "continue": more}
    return reply({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": list(items)})


def event(kind: str, item: Any) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def watch(*chunks: bytes, stay: bool = True, reset: bool = False, pause: float = 0.0) -> Answer:
    """Answer with a stream of these chunks; then stay open, end properly, or break the connection.

    Args:
        pause: Seconds between two chunks.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(pause)
        if reset:
            assert request.transport is not None
            request.transport.abort()
        elif stay:
            await hold(request)
        return response

    return answer


class ScriptedApi:
    """Answers the first request with the first answer and so on; what comes after, with `then`."""

    def __init__(self, *script: Answer, then: Answer = hold, token: str | None = None) -> None:
        self.asked: list[Asked] = []
        self._script = list(script)
        self._then = then
        self._token = token

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self.connection = Connection(url=self.url, ssl=None, token=self._give_token)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _give_token(self, renew: bool) -> str | None:
        return self._token

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers, query = dict(request.headers), dict(request.query)
        self.asked.append(Asked(request.method, request.path, query, headers, body))
        answer = self._script.pop(0) if self._script else self._then
        return await answer(request)
