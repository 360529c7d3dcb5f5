"""Drives BFD sessions over UDP, in a thread of its own.

    caller's thread           │  thread "bfd", with an event loop of its own
    apply({name: Neighbour}) ─┼─▶ a session per path ── sockets 3784 (one hop), 4784 (many)
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
from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from math import inf
from types import MappingProxyType
from typing import Generic, TypeAlias, TypeVar

import structlog

from lbipam.adapters.bgp_socket import SocketAddress, socket_address
from lbipam.core.bfd import packets
from lbipam.core.bfd.packets import Ignored, Packet
from lbipam.core.bfd.session import Change, Session, Status, Timing, strictest

_log = structlog.get_logger()

Address: TypeAlias = IPv4Address | IPv6Address
Ancillary: TypeAlias = list[tuple[int, int, bytes]]
Name = TypeVar("Name", bound=Hashable)
"""Of the user's choice."""

ONE_HOP_PORT = 3784
"""RFC 5881 §4."""
MANY_HOPS_PORT = 4784
"""RFC 5883 §5."""
_FIRST_SOURCE_PORT, _SOURCE_PORT_BITS = 49152, 14
"""RFC 5881 §4: up to 65535."""
_TTL = 255
_IP_RECVTTL, _IP_TTL, _IP_PKTINFO = 12, 2, 8
_IPV6_RECVHOPLIMIT, _IPV6_HOPLIMIT = 51, 52
_ANCILLARY_LENGTH = 128
_ATTEMPTS = 64
_RETRY_SECONDS = 1.0
"""How soon a neighbour is tried again that could not be watched."""
_READS_AT_A_TIME = 64
"""So that who floods the port does not keep sessions from their timers."""
_FAREWELLS = 3
"""Of packets that say "down on purpose", in case one is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """What one session watches, however many want to know of it (RFC 5881 §3)."""

    address: Address
    local_address: Address | None
    is_many_hops: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Whom to watch, and how; another timing does not end the session."""

    address: Address
    """A link-local one with its zone (the interface) as its scope."""
    timing: Timing
    local_address: Address | None = None
    """None: the kernel chooses."""
    is_many_hops: bool = False
    """RFC 5883: the neighbour is not on a network of ours."""

    @property
    def path(self) -> Path:
        return Path(address=self.address, local_address=self.local_address, is_many_hops=self.is_many_hops)


class BfdThread(Generic[Name]):
    """Watches neighbours; must be closed."""

    def __init__(self, on_change: Callable[[Name, Change], None]) -> None:
        """`on_change` is called in the event loop that runs now."""
        self._on_change = on_change
        self._callers_loop = asyncio.get_running_loop()
        self._statuses: Mapping[Name, Status] = MappingProxyType({})
        self._errors: Mapping[Name, str] = MappingProxyType({})
        self._problem: str | None = None
        self._loop: asyncio.AbstractEventLoop
        self._watch: _Watch[Name]
        self._stopping: asyncio.Event
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="bfd", daemon=True)
        self._thread.start()
        ready.wait()
        if self._problem is not None:
            raise RuntimeError(self._problem)

    def apply(self, neighbours: Mapping[Name, Neighbour]) -> None:
        """All neighbours to be watched from now on; those that stay the same are not disturbed."""
        with suppress(RuntimeError):  # it has died, which is told elsewhere
            self._loop.call_soon_threadsafe(self._watch.apply, dict(neighbours))

    def status(self) -> Mapping[Name, Status]:
        """How each session stands; `since` is on the monotonic clock."""
        return self._statuses

    def errors(self) -> Mapping[Name, str]:
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

    def _publish(self, statuses: Mapping[Name, Status], errors: Mapping[Name, str]) -> None:
        self._statuses, self._errors = MappingProxyType(statuses), MappingProxyType(errors)

    def _report(self, name: Name, change: Change) -> None:
        with suppress(RuntimeError):  # the caller's loop is closed: nobody wants to know
            self._callers_loop.call_soon_threadsafe(self._on_change, name, change)


class _Watch(Generic[Name]):
    """All sessions, in the thread."""

    def __init__(
        self,
        publish: Callable[[Mapping[Name, Status], Mapping[Name, str]], None],
        report: Callable[[Name, Change], None],
    ) -> None:
        self._publish = publish
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._neighbours: Mapping[Name, Neighbour] = {}
        self._lines: dict[Path, _Line] = {}
        self._errors: dict[Path, str] = {}
        self._listeners: dict[tuple[int, int], socket.socket] = {}
        self._retry: asyncio.TimerHandle | None = None

    def apply(self, neighbours: Mapping[Name, Neighbour]) -> None:
        self._neighbours = neighbours
        paths = {one.path for one in neighbours.values()}
        for path, line in tuple(self._lines.items()):
            if path in paths:
                line.retime(self._timing(path))
            else:
                del self._lines[path]
                line.close()
        self._open_lines()

    def _timing(self, path: Path) -> Timing:
        return strictest(one.timing for one in self._neighbours.values() if one.path == path)

    def _open_lines(self) -> None:
        """Watch all who are not watched; again later who cannot be, for an interface or a port may come free."""
        before, self._errors = self._errors, {}
        for path in {one.path for one in self._neighbours.values()} - self._lines.keys():
            try:
                self._open_line(path)
            except OSError as error:
                self._errors[path] = error.strerror or str(error)
                if self._errors[path] != before.get(path):
                    _log.warning("bfd cannot watch", address=str(path.address), problem=self._errors[path])
        self._publish_now()
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._loop.call_later(_RETRY_SECONDS, self._open_lines) if self._errors else None

    def _open_line(self, path: Path) -> None:
        self._listen(path)
        self._lines[path] = _Line(path, self._timing(path), self._discriminator(), self._changed)

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        for line in self._lines.values():
            line.close()
        for listener in self._listeners.values():
            self._loop.remove_reader(listener)
            listener.close()

    def _publish_now(self) -> None:
        paths = {name: one.path for name, one in self._neighbours.items()}
        statuses = {path: line.session.status() for path, line in self._lines.items()}
        self._publish(
            {name: statuses[path] for name, path in paths.items() if path in statuses},
            {name: self._errors[path] for name, path in paths.items() if path in self._errors},
        )

    def _changed(self, path: Path, change: Change | None) -> None:
        self._publish_now()
        for name, neighbour in self._neighbours.items():
            if change is not None and neighbour.path == path:
                self._report(name, change)

    def _discriminator(self) -> int:
        taken = {line.session.discriminator for line in self._lines.values()} | {0}
        while (one := random.getrandbits(32)) in taken:
            pass
        return one

    def _listen(self, path: Path) -> None:
        version, port = path.address.version, _port_of(path)
        if (version, port) in self._listeners:
            return
        with ExitStack() as unless_done:
            listener = unless_done.enter_context(_new(version))
            if version == 4:
                listener.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
                listener.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
                listener.bind(("", port))
            else:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT, 1)
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                listener.bind(("::", port))
            unless_done.pop_all()
        self._listeners[version, port] = listener
        self._loop.add_reader(listener, self._readable, listener, port)

    def _readable(self, listener: socket.socket, port: int) -> None:
        with suppress(BlockingIOError):
            for _ in range(_READS_AT_A_TIME):
                data, ancillary, _, there = listener.recvmsg(1500, _ANCILLARY_LENGTH)
                packet = packets.decode(data)
                if isinstance(packet, Ignored):
                    continue
                # RFC 5881 §5: nobody farther away than the next hop can send with this TTL.
                if port == ONE_HOP_PORT and _ttl(ancillary) != _TTL:
                    continue
                line = self._line_of(packet, there, _here(ancillary), is_many_hops=port == MANY_HOPS_PORT)
                if line is not None:
                    line.receive(packet)

    def _line_of(
        self, packet: Packet, there: tuple[object, ...], here: bytes, *, is_many_hops: bool
    ) -> "_Line | None":
        """RFC 5880 §6.3; a discriminator of ours counts from the neighbour's own address only.

        Without one, a session with a local address of its own goes before one that has whichever the kernel chose.
        """
        lines = [
            one
            for one in self._lines.values()
            if one.path.is_many_hops is is_many_hops and one.comes_from(there)
        ]
        if packet.yours:
            return next((one for one in lines if one.session.discriminator == packet.yours), None)
        return next((one for local in (here, None) for one in lines if one.local == local), None)


class _Line:
    """One session with its socket and its timer."""

    def __init__(
        self,
        path: Path,
        timing: Timing,
        discriminator: int,
        tell: Callable[[Path, Change | None], None],
    ) -> None:
        self.path = path
        self.local = path.local_address.packed if path.local_address is not None else None
        self._loop = asyncio.get_running_loop()
        self._tell = tell
        self._there = _address_of(path)
        self._sock = _sender(path)
        self._timer: asyncio.TimerHandle | None = None
        self.session = Session(timing, discriminator=discriminator, dice=random.random, now=self._loop.time())
        self._settle()

    def comes_from(self, there: tuple[object, ...]) -> bool:
        return bool(there[0] == self._there[0] and there[3:] == self._there[3:])

    def receive(self, packet: Packet) -> None:
        before = self.session.status()
        self.session.receive(packet, self._loop.time())
        self._settle()
        if self.session.status() != before:
            self._tell(self.path, None)

    def retime(self, timing: Timing) -> None:
        self.session.retime(timing, self._loop.time())
        self._settle()

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
            self._tell(self.path, change)
        if self._timer is not None:
            self._timer.cancel()
        wake_at = self.session.wake_at()
        self._timer = self._loop.call_at(wake_at, self._tick) if wake_at < inf else None

    def _send(self, packet: Packet) -> None:
        # A neighbour that is not there, or no route to it: silence tells the session all it needs.
        with suppress(OSError):
            # The interface of this name may be another one by now.
            self._there = _address_of(self.path)
            self._sock.sendto(packets.encode(packet), self._there)


def _new(version: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(0)
    return sock


def _port_of(path: Path) -> int:
    return MANY_HOPS_PORT if path.is_many_hops else ONE_HOP_PORT


def _address_of(path: Path) -> SocketAddress:
    return socket_address(path.address, _port_of(path))


def _sender(path: Path) -> socket.socket:
    """A socket that sends as RFC 5881 §4 wants it: TTL 255, from a port of the dynamic range.

    It is not connected, for then it would keep to the address that it had at that moment.
    """
    version = path.address.version
    with ExitStack() as unless_done:
        sock = unless_done.enter_context(_new(version))
        if version == 4:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _TTL)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0xC0)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _TTL)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 0xC0)
        _bind(sock, path.local_address)
        unless_done.pop_all()
    return sock


def _bind(sock: socket.socket, local: Address | None) -> None:
    for _ in range(_ATTEMPTS):
        port = _FIRST_SOURCE_PORT | random.getrandbits(_SOURCE_PORT_BITS)
        here = socket_address(local, port) if local else ("", port)
        try:
            sock.bind(here)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return
    raise OSError(errno.EADDRINUSE, "no free source port")


def _ttl(ancillary: Ancillary) -> int | None:
    for level, kind, value in ancillary:
        if (level, kind) in ((socket.IPPROTO_IP, _IP_TTL), (socket.IPPROTO_IPV6, _IPV6_HOPLIMIT)):
            return int(struct.unpack("i", value[:4])[0])
    return None


def _here(ancillary: Ancillary) -> bytes:
    """The address that a packet came to: `in_pktinfo` of ip(7), `in6_pktinfo` of ipv6(7)."""
    for level, kind, value in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            return value[8:12]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return value[:16]
    return b""
