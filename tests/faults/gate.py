"""What lies between one controller and its API server, and who decides when its writes arrive?

A gate listens on loopback in plain HTTP and passes bytes on to an API server over TLS. It can hold back the
writes to the status of Services, those to Leases, or everything, and let them through later. It changes no
byte.
"""

import asyncio
import base64
import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

_CHUNK = 1 << 20


class Gate:
    """A relay with a gate in it; a context manager that runs on a thread of its own.

    Args:
        kubeconfig: How to reach the API server, by a token.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self._config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
        cluster = self._config["clusters"][0]["cluster"]
        url = urlsplit(cluster["server"])
        assert url.hostname is not None
        assert url.port is not None
        self._host, self._port = url.hostname, url.port
        self._tls = ssl.create_default_context(cafile=cluster.get("certificate-authority"))
        if "certificate-authority-data" in cluster:
            self._tls.load_verify_locations(
                cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
            )
        self.held: list[bytes] = []
        """The first lines of the status writes that were held back."""
        self.late_answers: list[bytes] = []
        """The first lines of what the API server answered to them."""
        self.passed: list[tuple[float, bytes]] = []
        """The first lines of the status writes that were passed on at once, and when, in seconds since 1970."""
        self._holds: Callable[[bytes], bool] = _nothing

    @contextmanager
    def open(self) -> Iterator["Gate"]:
        """Pass on inside of the block."""
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        self._connections: set[asyncio.Task[None]] = set()
        try:
            self._call(self._start())
            yield self
        finally:
            self._call(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def write_kubeconfig(self, path: Path) -> Path:
        """A kubeconfig that leads through the gate."""
        self._config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self.port}"}
        path.write_text(yaml.safe_dump(self._config))
        return path

    def hold_status_writes(self) -> None:
        """Hold back writes to the status of Services from now on."""
        self._call(self._set(_is_status_write))

    def hold_renewals(self) -> None:
        """Hold back writes to Leases from now on."""
        self._call(self._set(_is_renewal))

    def hold_everything(self) -> None:
        """Hold back all requests from now on."""
        self._call(self._set(_everything))

    def let_through(self) -> None:
        """Pass on what was held back, and all that follows."""
        self._call(self._set(_nothing))

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=20)

    async def _set(self, holds: Callable[[bytes], bool]) -> None:
        self._holds = holds
        if holds is _nothing:
            self._opened.set()
        else:
            self._opened.clear()

    async def _start(self) -> None:
        self._opened = asyncio.Event()
        self._opened.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _end(self) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._relay(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _relay(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        outs = [near_out]
        try:
            far, far_out = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
            outs.append(far_out)
            late: list[bool] = []
            requests = asyncio.create_task(self._pass_requests(near, far_out, late))
            answers = asyncio.create_task(self._pass_answers(far, near_out, late))
            try:
                # A client that goes away does not take back what it has sent.
                await answers
            finally:
                requests.cancel()
                answers.cancel()
                await asyncio.gather(requests, answers, return_exceptions=True)
        except OSError:
            pass
        finally:
            for out in outs:
                out.close()
                with contextlib.suppress(OSError):
                    await out.wait_closed()

    async def _pass_requests(
        self, near: asyncio.StreamReader, out: asyncio.StreamWriter, late: list[bool]
    ) -> None:
        while data := await near.read(_CHUNK):
            line = data.split(b"\r\n", 1)[0]
            if self._holds(line):
                if _is_status_write(line):
                    self.held.append(line)
                    late.append(True)
                await self._opened.wait()
            elif _is_status_write(line):
                self.passed.append((time.time(), line))
            out.write(data)
            await out.drain()

    async def _pass_answers(
        self, far: asyncio.StreamReader, out: asyncio.StreamWriter, late: list[bool]
    ) -> None:
        while data := await far.read(_CHUNK):
            if late:
                late.clear()
                self.late_answers.append(data.split(b"\r\n", 1)[0])
            with contextlib.suppress(OSError):
                out.write(data)
                await out.drain()


def _nothing(line: bytes) -> bool:
    return False


def _everything(line: bytes) -> bool:
    return True


def _is_status_write(line: bytes) -> bool:
    return line.startswith(b"PATCH ") and b"/services/" in line and b"/status" in line


def _is_renewal(line: bytes) -> bool:
    return line.startswith(b"PUT ") and b"/leases/" in line
