"""Drives BFD sessions over UDP, in a thread of its own.

    caller's thread           │  thread "bfd", with an event loop of its own
    apply({name: Neighbour}) ─┼─▶ sessions ── sockets 3784 (one hop), 4784 (many)
    on_change(name, change) ◀─┼── in the caller's event loop

The thread is there so that a busy agent does not look like a dead path: the neighbour is answered even
while the agent's event loop stands still. What a failure means for routing is not decided here.
"""

import asyncio
import errno
import random
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from math import inf
from types import MappingProxyType
from typing import TypeAlias

import structlog

from lbipam.core.bfd import packets
from lbipam.core.bfd.packets import Ignored, Packet
from lbipam.core.bfd.session import Change, Session, Status, Timing

_log = structlog.get_logger()

Address: TypeAlias = IPv4Address | IPv6Address

ONE_HOP_PORT = 3784
"""RFC 5881 §4."""
MANY_HOPS_PORT = 4784
"""RFC 5883 §5."""
_FIRST_SOURCE_PORT, _SOURCE_PORT_BITS = 49152, 14
"""RFC 5881 §4: up to 65535."""
_TTL = 255
_IP_RECVTTL, _IP_TTL = 12, 2
_IPV6_RECVHOPLIMIT, _IPV6_HOPLIMIT = 51, 52
_ATTEMPTS = 64
_RETRY_SECONDS = 1.0
"""How soon a neighbour is tried again that could not be watched."""
_READS_AT_A_TIME = 64
"""So that who floods the port does not keep sessions from their timers."""
_FAREWELLS = 3
"""Of packets that say "down on purpose", in case one is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Whom to watch, and how; any change starts the session anew."""

    address: Address
    """A link-local one with its zone (the interface) as its scope."""
    timing: Timing
    local_address: Address | None = None
    """None: the kernel chooses."""
    is_many_hops: bool = False
    """RFC 5883: the neighbour is not on a network of ours."""


class BfdThread:
    """Watches neighbours; must be closed."""

    def __init__(self, on_change: Callable[[str, Change], None]) -> None:
        """`on_change` is called in the event loop that runs now."""
        self._on_change = on_change
        self._callers_loop = asyncio.get_running_loop()
        self._statuses: Mapping[str, Status] = MappingProxyType({})
        self._errors: Mapping[str, str] = MappingProxyType({})
        self._problem: str | None = None
        self._loop: asyncio.AbstractEventLoop
        self._watch: _Watch
        self._stopping: asyncio.Event
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="bfd", daemon=True)
        self._thread.start()
        ready.wait()
        if self._problem is not None:
            raise RuntimeError(self._problem)

    def apply(self, neighbours: Mapping[str, Neighbour]) -> None:
        """All neighbours to be watched from now on; those that stay the same are not disturbed."""
        with suppress(RuntimeError):  # it has died, which is told elsewhere
            self._loop.call_soon_threadsafe(self._watch.apply, dict(neighbours))

    def status(self) -> Mapping[str, Status]:
        """How each session stands; `since` is on the monotonic clock."""
        return self._statuses

    def errors(self) -> Mapping[str, str]:
        """Neighbours that cannot be watched, and why."""
        return self._errors

    def why_dead(self) -> str | None:
        """Why nobody is watched any more, though nobody asked for that; None while all is well."""
        return self._problem

    async def close(self) -> None:
        """Tell all neighbours that we stop on purpose, and stop."""
        with suppress(RuntimeError):  # it has died
            self._loop.call_soon_threadsafe(self._stopping.set)
        await asyncio.to_thread(self._thread.join)

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._main(ready))
        except BaseException as problem:  # noqa: BLE001 -- whatever it was, nobody else would see it
            self._problem = f"the thread that watches paths by BFD has died: {problem!r}"
            self._publish({}, {})
            _log.exception("bfd has died")
        finally:
            ready.set()

    async def _main(self, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._watch = _Watch(self._publish, self._report)
        ready.set()
        try:
            await self._stopping.wait()
        finally:
            self._watch.close()

    def _publish(self, statuses: Mapping[str, Status], errors: Mapping[str, str]) -> None:
        self._statuses, self._errors = MappingProxyType(statuses), MappingProxyType(errors)

    def _report(self, name: str, change: Change) -> None:
        with suppress(RuntimeError):  # the caller's loop is closed: nobody wants to know
            self._callers_loop.call_soon_threadsafe(self._on_change, name, change)


class _Watch:
    """All sessions, in the thread."""

    def __init__(
        self,
        publish: Callable[[Mapping[str, Status], Mapping[str, str]], None],
        report: Callable[[str, Change], None],
    ) -> None:
        self._publish = publish
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._neighbours: Mapping[str, Neighbour] = {}
        self._lines: dict[str, _Line] = {}
        self._errors: dict[str, str] = {}
        self._listeners: dict[tuple[int, int], socket.socket] = {}
        self._retry: asyncio.TimerHandle | None = None

    def apply(self, neighbours: Mapping[str, Neighbour]) -> None:
        self._neighbours = neighbours
        for name, line in tuple(self._lines.items()):
            if neighbours.get(name) != line.neighbour:
                del self._lines[name]
                line.close()
        self._open_lines()

    def _open_lines(self) -> None:
        """Watch all who are not watched; again later who cannot be, for an interface or a port may come free."""
        before, self._errors = self._errors, {}
        for name in self._neighbours.keys() - self._lines.keys():
            try:
                self._open_line(name, self._neighbours[name])
            except OSError as error:
                self._errors[name] = error.strerror or str(error)
                if self._errors[name] != before.get(name):
                    _log.warning("bfd cannot watch", peer=name, error=str(error))
        self._publish_now()
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._loop.call_later(_RETRY_SECONDS, self._open_lines) if self._errors else None

    def _open_line(self, name: str, neighbour: Neighbour) -> None:
        self._listen(neighbour)
        self._lines[name] = _Line(neighbour, self._discriminator(), self._changed(name))

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        for line in self._lines.values():
            line.close()
        for listener in self._listeners.values():
            self._loop.remove_reader(listener)
            listener.close()

    def _publish_now(self) -> None:
        statuses = {name: line.session.status() for name, line in self._lines.items()}
        self._publish(statuses, dict(self._errors))

    def _changed(self, name: str) -> Callable[[Change | None], None]:
        def tell(change: Change | None) -> None:
            self._publish_now()
            if change is not None:
                _log.info("bfd", peer=name, state=change.state.name, why=change.diagnostic.name)
                self._report(name, change)

        return tell

    def _discriminator(self) -> int:
        taken = {line.session.discriminator for line in self._lines.values()} | {0}
        while (one := random.getrandbits(32)) in taken:
            pass
        return one

    def _listen(self, neighbour: Neighbour) -> None:
        version = neighbour.address.version
        port = MANY_HOPS_PORT if neighbour.is_many_hops else ONE_HOP_PORT
        if (version, port) in self._listeners:
            return
        with ExitStack() as unless_done:
            listener = unless_done.enter_context(_new(version))
            if version == 4:
                listener.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
                listener.bind(("", port))
            else:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT, 1)
                listener.bind(("::", port))
            unless_done.pop_all()
        self._listeners[version, port] = listener
        self._loop.add_reader(listener, self._readable, listener, port)

    def _readable(self, listener: socket.socket, port: int) -> None:
        with suppress(BlockingIOError):
            for _ in range(_READS_AT_A_TIME):
                data, ancillary, _, there = listener.recvmsg(1500, 64)
                packet = packets.decode(data)
                if isinstance(packet, Ignored):
                    continue
                # RFC 5881 §5: nobody farther away than the next hop can send with this TTL.
                if port == ONE_HOP_PORT and _ttl(ancillary) != _TTL:
                    continue
                line = self._line_of(packet, there, is_many_hops=port == MANY_HOPS_PORT)
                if line is not None:
                    line.receive(packet)

    def _line_of(self, packet: Packet, there: tuple[object, ...], *, is_many_hops: bool) -> "_Line | None":
        """RFC 5880 §6.3; a discriminator of ours counts from the neighbour's own address only."""
        for line in self._lines.values():
            if (
                line.neighbour.is_many_hops is is_many_hops
                and line.comes_from(there)
                and packet.yours in (0, line.session.discriminator)
            ):
                return line
        return None


class _Line:
    """One session with its socket and its timer."""

    def __init__(
        self, neighbour: Neighbour, discriminator: int, tell: Callable[[Change | None], None]
    ) -> None:
        self.neighbour = neighbour
        self._loop = asyncio.get_running_loop()
        self._tell = tell
        self._there = _address_of(neighbour)
        self._sock = _sender(neighbour)
        self._timer: asyncio.TimerHandle | None = None
        self.session = Session(
            neighbour.timing, discriminator=discriminator, dice=random.random, now=self._loop.time()
        )
        self._settle()

    def comes_from(self, there: tuple[object, ...]) -> bool:
        return bool(there[0] == self._there[0] and there[3:] == self._there[3:])

    def receive(self, packet: Packet) -> None:
        before = self.session.status()
        self.session.receive(packet, self._loop.time())
        self._settle()
        if self.session.status() != before:
            self._tell(None)

    def close(self) -> None:
        self.session.stop(self._loop.time())
        for packet in self.session.take_output() * _FAREWELLS:
            self._send(packet)
        if self._timer is not None:
            self._timer.cancel()
        self._sock.close()

    def _tick(self) -> None:
        self.session.tick(self._loop.time())
        self._settle()

    def _settle(self) -> None:
        for packet in self.session.take_output():
            self._send(packet)
        for change in self.session.take_changes():
            self._tell(change)
        if self._timer is not None:
            self._timer.cancel()
        wake_at = self.session.wake_at()
        self._timer = self._loop.call_at(wake_at, self._tick) if wake_at < inf else None

    def _send(self, packet: Packet) -> None:
        # A neighbour that is not there, or no route to it: silence tells the session all it needs.
        with suppress(OSError):
            # The interface of this name may be another one by now.
            self._there = _address_of(self.neighbour)
            self._sock.sendto(packets.encode(packet), self._there)


def _new(version: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(0)
    return sock


def _address_of(neighbour: Neighbour) -> tuple[str, int] | tuple[str, int, int, int]:
    return _socket_address(neighbour.address, MANY_HOPS_PORT if neighbour.is_many_hops else ONE_HOP_PORT)


def _sender(neighbour: Neighbour) -> socket.socket:
    """A socket that sends as RFC 5881 §4 wants it: TTL 255, from a port of the dynamic range.

    It is not connected, for then it would keep to the address that it had at that moment.
    """
    version = neighbour.address.version
    with ExitStack() as unless_done:
        sock = unless_done.enter_context(_new(version))
        if version == 4:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _TTL)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xC0)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _TTL)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0xC0)
        _bind(sock, neighbour.local_address)
        unless_done.pop_all()
    return sock


def _bind(sock: socket.socket, local: Address | None) -> None:
    for _ in range(_ATTEMPTS):
        port = _FIRST_SOURCE_PORT | random.getrandbits(_SOURCE_PORT_BITS)
        here = _socket_address(local, port) if local else ("", port)
        try:
            sock.bind(here)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return
    raise OSError(errno.EADDRINUSE, "no free source port")


def _socket_address(address: Address, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    if isinstance(address, IPv4Address):
        return (str(address), port)
    zone = address.scope_id
    return (str(address).partition("%")[0], port, 0, socket.if_nametoindex(zone) if zone else 0)


def _ttl(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, value in ancillary:
        if (level, kind) in ((socket.IPPROTO_IP, _IP_TTL), (socket.IPPROTO_IPV6, _IPV6_HOPLIMIT)):
            return int(struct.unpack("i", value[:4])[0])
    return None
