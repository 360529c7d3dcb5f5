"""What goes wrong on the way to an API server that does nothing wrong itself?

A relay listens on loopback in plain HTTP and hands each request on to an API server, unless the fault that it
is armed with says otherwise: the same faults as those of the embedded API. It keeps nothing.
"""

import asyncio
import contextlib
import json
import socket
import threading
import weakref
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from lbipam.adapters import kube_config
from lbipam.localapi.faults import Delay, Drop, Faults, Refuse
from tests.patience import until

_EXPIRED = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 1 (2)"}


class Relay:
    """A relay on a thread of its own.

    Args:
        kubeconfig: How to reach the API server.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self.faults = Faults(forget_history=self._expire)
        self.loop = asyncio.new_event_loop()
        """Where the faults may be changed."""
        self._expirations: set[asyncio.Event] = set()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    @contextmanager
    def open(self) -> Iterator["Relay"]:
        """Hand on inside of the block."""
        thread = threading.Thread(target=self.loop.run_forever, name="relay")
        thread.start()
        try:
            self._call(self._start())
            yield self
        finally:
            self._call(self._end())
            self.loop.call_soon_threadsafe(self.loop.stop)
            thread.join()
            self.loop.close()

    def write_kubeconfig(self, path: Path) -> Path:
        """A kubeconfig that leads through the relay."""
        config = yaml.safe_load(self._kubeconfig.read_text())
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self._port}"}
        path.write_text(yaml.safe_dump(config))
        return path

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=20)

    async def _start(self) -> None:
        connection = await kube_config.connect(str(self._kubeconfig))
        self._url = connection.url
        connector = aiohttp.TCPConnector(
            ssl=connection.ssl or False, limit=0, socket_factory=self._open_socket
        )
        timeout = aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        # What a client has sent is done even if the client does not wait for it.
        server = web.Server(self._answer, handler_cancellation=False)
        self._runner = web.ServerRunner(server, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = int(self._runner.addresses[0][1])

    async def _end(self) -> None:
        self.faults.cut_watches()
        await self._runner.cleanup()
        await self._session.close()
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        await until(lambda: all(one.fileno() == -1 for one in self._sockets))

    def _open_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        made = socket.socket(family, kind, protocol)
        self._sockets.add(made)
        return made

    def _expire(self) -> None:
        for expiration in self._expirations:
            expiration.set()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        fault = self.faults.next_for(request.method, request.path_qs)
        match fault:
            case Refuse():
                return _refusal(fault)
            case Delay(seconds=seconds):
                await asyncio.sleep(seconds)
            case Drop(done=False):
                return _hang_up(request)
            case _:
                pass
        try:
            answer = await self._hand_on(request)
        except (aiohttp.ClientError, OSError):
            return _hang_up(request)
        return _hang_up(request) if isinstance(fault, Drop) else answer

    async def _hand_on(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {
            name: request.headers[name]
            for name in ("Accept", "Accept-Encoding", "Authorization", "Content-Type", "User-Agent")
            if name in request.headers
        }
        url = f"{self._url}{request.raw_path}"
        body = await request.read()
        async with self._session.request(request.method, url, headers=headers, data=body or None) as answer:
            if answer.status == 200 and "watch" in request.query:
                return await self._tell(request, answer)
            told = {name: answer.headers[name] for name in ("Retry-After",) if name in answer.headers}
            return web.Response(
                body=await answer.read(),
                status=answer.status,
                content_type=answer.content_type,
                headers=told,
            )

    async def _tell(self, request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        """Hand a watch on, until it is cut, breaks off, expires or ends."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        expiration = asyncio.Event()
        self._expirations.add(expiration)
        expired = asyncio.ensure_future(expiration.wait())
        telling = asyncio.ensure_future(self._tell_chunks(response, answer))
        try:
            with self.faults.watching(telling):
                await asyncio.wait((telling, expired), return_when=asyncio.FIRST_COMPLETED)
            if expired.done() and not telling.done():
                telling.cancel()
                line = json.dumps({"type": "ERROR", "object": _EXPIRED}).encode() + b"\n"
                with contextlib.suppress(OSError):
                    await response.write(line)
            elif telling.cancelled() or telling.exception() is not None or not telling.result():
                return _hang_up(request)
            return response
        finally:
            self._expirations.discard(expiration)
            for task in (telling, expired):
                task.cancel()
            await asyncio.gather(telling, expired, return_exceptions=True)

    async def _tell_chunks(self, response: web.StreamResponse, answer: aiohttp.ClientResponse) -> bool:
        """Whether the watch ended as it should."""
        async for chunk in answer.content.iter_any():
            if self.faults.halves_this():
                await response.write(chunk[: len(chunk) // 2])
                return False
            await response.write(chunk)
        return True


def _refusal(refuse: Refuse) -> web.Response:
    status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    status |= {"code": refuse.code, "reason": refuse.reason, "message": refuse.message}
    if refuse.retry_after_seconds:
        status["details"] = {"retryAfterSeconds": refuse.retry_after_seconds}
    return web.json_response(status, status=refuse.code)


def _hang_up(request: web.BaseRequest) -> web.Response:
    """Close the connection at once; the response is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
