"""Drives a session over TCP: listen, connect, MD5, TTL.

    apply(SpeakerState) ──▶ Speaker ──┬─ _Line (a peer) ──┬─ _Connection ── socket
    status(), events    ◀──           ├─ _Line …          └─ _Connection (while two collide)
                                      └─ two listeners, where a port is set

Everything happens in callbacks of one event loop: a socket is readable or writable, a timer has come, a
state is applied. After each, what the peering wishes for is done and its one timer set anew. Sockets are
written to directly, so what is not yet in the kernel's hands is at most one batch of output. What to say,
and when, is not decided here.
"""

import asyncio
import errno
import os
import random
import socket
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import inf

import structlog

from lbipam.adapters import bgp_socket
from lbipam.core.bgp import errors
from lbipam.core.bgp.codes import Cease, Family
from lbipam.core.bgp.errors import Notification
from lbipam.core.bgp.exports import Exports
from lbipam.core.bgp.peering import Peering
from lbipam.core.bgp.peers import (
    Address,
    Identity,
    Peer,
    PeerDown,
    PeerEvent,
    PeerStatus,
    PeerUp,
    SpeakerState,
)
from lbipam.core.bgp.routes import RouteSet
from lbipam.core.bgp.session import Session

_log = structlog.get_logger()

_READ_LENGTH = 65536
_READS_AT_A_TIME = 8
_WRITES_AT_A_TIME = 32
"""So that a peer with much to say, or to hear, does not keep others waiting."""
_FAREWELL_SECONDS = 0.5
"""How long the peer is given to close a connection that we have done with."""
_LISTEN_AGAIN_SECONDS = 1.0
"""How soon a port is tried again that another program has."""
_APPLY_AGAIN_SECONDS = 5.0
"""How soon it is tried again to do what is wanted of a peer that has met a bug."""
_ACCEPT_AGAIN_SECONDS = 1.0
"""How long peers wait that the kernel cannot hand over for want of memory or file descriptors."""
_CHANGED = "its configuration has changed"
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Speaker:
    """Holds sessions with all peers of one local AS; must be closed."""

    def __init__(self, on_event: Callable[[PeerEvent], None]) -> None:
        """`on_event` is called in the event loop whenever a session comes up or goes down."""
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._lines: dict[str, _Line] = {}
        self._exports = Exports()
        self._state: SpeakerState | None = None
        self._listeners: dict[int, socket.socket] = {}
        self._listen_error: str | None = None
        self._listening_again: asyncio.TimerHandle | None = None
        self._problems: dict[str, str] = {}
        self._applying_again: asyncio.TimerHandle | None = None
        self._is_complete = False

    @property
    def listen_error(self) -> str | None:
        """Why peers cannot connect to us though a port is set."""
        return self._listen_error

    @property
    def problems(self) -> Mapping[str, str]:
        """Peers with whom what is wanted cannot be done, and why."""
        return self._problems

    def apply(self, state: SpeakerState) -> None:
        """Everything that is wanted from now on. Sessions whose parameters stay the same stay up."""
        self._forget_problems()
        ours = Identity(asn=state.local_asn, router_id=state.router_id)
        self._remove_lines(state, ours)
        if self._state is None or self._state.listen_port != state.listen_port:
            self._listen(state.listen_port)
        self._state = state
        exports = self._exports.update(state)
        for name, peer in state.peers.items():
            with self._only(name):
                self._apply_to(name, peer, ours, exports[name])

    def status(self) -> Mapping[str, PeerStatus]:
        """How each peer stands."""
        return {name: line.status() for name, line in self._lines.items()}

    def synced(self) -> None:
        """The state applied last is all there is to announce: End-of-RIB may be sent."""
        self._is_complete = True
        for name, line in self._lines.items():
            with self._only(name):
                line.peering.complete()
                line.settle()

    def look_around(self) -> None:
        """The host may have other addresses now: routes are to lead to those that it has."""
        for name, line in self._lines.items():
            with self._only(name):
                line.look_around()

    def reset(self, name: str, cease: Cease, communication: str = "") -> None:
        """End the session with one peer, if there is one, and seek another: its BFD is down, or somebody asks."""
        if name in self._lines:
            self._lines[name].reset(errors.shutdown(cease, communication))

    async def close(
        self, *, keep_routes: bool, communication: str = "", heirs: Iterable[SpeakerState] = ()
    ) -> None:
        """End all sessions.

        With `keep_routes`, or where one of the `heirs` speaks with them next, peers that can are left without a
        word, and keep our routes until we are back; all others are told that we leave, and why.
        """
        notification = errors.shutdown(Cease.ADMINISTRATIVE_SHUTDOWN, communication)
        self._forget_problems()
        self._listen(None)
        lines, self._lines = tuple(self._lines.values()), {}
        staying = _acquaintances(*heirs)
        for line in lines:
            goes_on = _acquaintance(line.peering.peer, line.ours.asn) in staying
            line.stop(
                notification, keep_routes=keep_routes or goes_on, why=_CHANGED if goes_on else "restart"
            )
        for line in lines:
            await line.finished()

    # --- inside -------------------------------------------------------------------------------------------

    @contextmanager
    def _only(self, name: str) -> Iterator[None]:
        """Whatever goes wrong inside concerns one peer, and does not keep others from what is wanted of them."""
        try:
            yield
        except Exception as problem:  # noqa: BLE001 -- see above
            _log.exception("bgp cannot do what is wanted", peer=name)
            self._problems[name] = f"met a bug: {problem!r}"
            if self._applying_again is None and self._state is not None:
                self._applying_again = self._loop.call_later(_APPLY_AGAIN_SECONDS, self.apply, self._state)

    def _forget_problems(self) -> None:
        self._problems = {}
        if self._applying_again is not None:
            self._applying_again.cancel()
            self._applying_again = None

    def _apply_to(self, name: str, peer: Peer, ours: Identity, routes: Mapping[Family, RouteSet]) -> None:
        line = self._lines.get(name)
        if line is None:
            self._lines[name] = self._start_line(name, peer, ours, routes)
        else:
            line.peering.want(routes)
            line.settle()

    def _start_line(
        self, name: str, peer: Peer, ours: Identity, routes: Mapping[Family, RouteSet]
    ) -> "_Line":
        line = _Line(name, peer, ours, self._on_event)
        for listener in self._listeners_for(peer):
            line.expect_signatures(listener)
        if self._is_complete:
            line.peering.complete()
        line.peering.want(routes)
        line.start()
        return line

    def _remove_lines(self, state: SpeakerState, ours: Identity) -> None:
        staying = _acquaintances(state)
        for name, line in tuple(self._lines.items()):
            before, peer = line.peering.peer, state.peers.get(name)
            if peer is not None and line.ours == ours and line.peering.goes_on_as(peer):
                continue
            cease = Cease.PEER_DE_CONFIGURED if peer is None else Cease.OTHER_CONFIGURATION_CHANGE
            # A router that is spoken with again in a moment need not drop our routes meanwhile.
            line.stop(
                errors.shutdown(cease),
                keep_routes=_acquaintance(before, line.ours.asn) in staying,
                why=_CHANGED,
            )
            del self._lines[name]
            for listener in self._listeners_for(before):
                with suppress(OSError):  # there is none
                    bgp_socket.expect_signatures(listener, replace(before, password=b""))

    def _listeners_for(self, peer: Peer) -> list[socket.socket]:
        return [one for version, one in self._listeners.items() if version == peer.address.version]

    def _listen(self, port: int | None) -> None:
        for listener in self._listeners.values():
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        self._listen_error = None
        if self._listening_again is not None:
            self._listening_again.cancel()
        if port is not None:
            self._open_listeners(port)

    def _open_listeners(self, port: int) -> None:
        """Listen for both IP versions; again later where that cannot be done."""
        before, self._listen_error = self._listen_error, None
        for version in {4, 6} - self._listeners.keys():
            try:
                listener = bgp_socket.listening(version, port)
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT:  # a kernel without IPv6 needs no listener for it
                    self._listen_error = f"port {port}: {_words(error)}"
                continue
            self._listeners[version] = listener
            self._loop.add_reader(listener, self._accept, listener)
            for line in self._lines.values():
                if line.peering.peer.address.version == version:
                    line.expect_signatures(listener)
        if self._listen_error is None:
            return
        if self._listen_error != before:
            _log.warning("bgp cannot listen", problem=self._listen_error)
        self._listening_again = self._loop.call_later(_LISTEN_AGAIN_SECONDS, self._open_listeners, port)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, there = listener.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self._loop.remove_reader(listener)
                self._loop.call_later(_ACCEPT_AGAIN_SECONDS, self._accept_again, listener)
            return
        sock.settimeout(0)
        line = self._line_of(bgp_socket.address_of(there))
        if line is None:
            sock.close()
        else:
            line.accept(sock)

    def _accept_again(self, listener: socket.socket) -> None:
        if listener in self._listeners.values():
            self._loop.add_reader(listener, self._accept, listener)

    def _line_of(self, address: Address) -> "_Line | None":
        return next((one for one in self._lines.values() if one.peering.peer.address == address), None)


class _Line:
    """All connections with one peer, and its timer."""

    def __init__(self, name: str, peer: Peer, ours: Identity, on_event: Callable[[PeerEvent], None]) -> None:
        self.ours = ours
        self.peering = Peering(name, peer, ours, dice=random.random)
        self._log = _log.bind(peer=name, address=str(peer.address))
        self._on_event = on_event
        self._loop = asyncio.get_running_loop()
        self._connections: dict[Session, _Connection] = {}
        self._attempts: dict[Session, asyncio.Task[None]] = {}
        self._farewells: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._established_at: float | None = None
        self._accepts = True

    def expect_signatures(self, listener: socket.socket) -> None:
        """Take only signed connections of the peer where it has a password, and none where that cannot be had."""
        try:
            bgp_socket.expect_signatures(listener, self.peering.peer)
        except OSError as error:
            self._accepts = not self.peering.peer.password
            if not self._accepts:
                self._log.warning("bgp cannot check signatures", problem=_words(error))
        else:
            self._accepts = True

    def start(self) -> None:
        self.peering.start(self._loop.time())
        self.settle()

    def stop(self, notification: Notification, *, keep_routes: bool, why: str) -> None:
        """`why`: what is written down where the peer is told nothing."""
        if keep_routes:
            self.peering.pause(notification, self._loop.time(), why=why)
        else:
            self.peering.stop(notification, self._loop.time())
        self.settle()

    def reset(self, notification: Notification) -> None:
        self.peering.reset(notification, self._loop.time())
        self.settle()

    async def finished(self) -> None:
        """After `stop`: nothing is left behind."""
        await asyncio.gather(*self._attempts.values(), *self._farewells, return_exceptions=True)

    def status(self) -> PeerStatus:
        return replace(self.peering.status(), established_at=self._established_at)

    def accept(self, sock: socket.socket) -> None:
        if not self._accepts:
            sock.close()
            return
        try:
            bgp_socket.limit_hops(sock, self.peering.peer, self.ours.asn)
            local = bgp_socket.local_addresses(sock)
        except OSError:
            sock.close()
            return
        session = self.peering.accept(local, self._loop.time())
        if session is None:
            sock.close()
        else:
            self._connections[session] = _Connection(self, session, sock)
        self.settle()

    def look_around(self) -> None:
        for connection in self._connections.values():
            connection.look_around()
        self.settle()

    def received(self, session: Session, data: bytes) -> None:
        self.peering.receive(session, data, self._loop.time())

    def lost(self, session: Session, why: str) -> None:
        self.peering.closed(session, why, self._loop.time())

    def settle(self) -> None:
        """Do what the peering wishes for; to be called after all that may have changed it."""
        wishes = self.peering.take_wishes()
        for session in wishes.disconnect:
            if session in self._attempts:
                self._attempts[session].cancel()
            if session in self._connections:
                self._part_from(self._connections.pop(session))
        for session in wishes.connect:
            task = self._loop.create_task(self._connect(session))
            self._attempts[session] = task
        for connection in tuple(self._connections.values()):
            connection.pump()
        for event in self.peering.take_events():
            self._tell(event)
        self._set_timer()

    def _part_from(self, connection: "_Connection") -> None:
        connection.finish()
        farewell = self._loop.create_task(connection.closed())
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    def _tell(self, event: PeerEvent) -> None:
        match event:
            case PeerUp():
                self._established_at = time.time()
                self._log.info("bgp session up")
            case PeerDown(ending=ending):
                self._established_at = None
                self._log.warning("bgp session down", why=str(ending))
        self._on_event(event)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wake_at = self.peering.wake_at()
        self._timer = self._loop.call_at(wake_at, self._tick) if wake_at < inf else None

    def _tick(self) -> None:
        # What the peer sent while the loop was busy counts as heard in time.
        for connection in tuple(self._connections.values()):
            connection.read()
        self.peering.tick(self._loop.time())
        self.settle()

    async def _connect(self, session: Session) -> None:
        peer = self.peering.peer
        sock: socket.socket | None = None
        try:
            sock = bgp_socket.outgoing(peer, self.ours.asn)
            await self._loop.sock_connect(sock, bgp_socket.socket_address(peer.address, peer.port))
            local = bgp_socket.local_addresses(sock)
        except OSError as error:
            if sock is not None:
                sock.close()
            self._forget_attempt(session)
            self.lost(session, f"connecting: {_words(error)}")
        except asyncio.CancelledError:
            if sock is not None:
                sock.close()
            self._forget_attempt(session)
            return
        else:
            self._forget_attempt(session)
            self._connections[session] = _Connection(self, session, sock)
            self.peering.connected(session, local, self._loop.time())
        self.settle()

    def _forget_attempt(self, session: Session) -> None:
        if self._attempts.get(session) is asyncio.current_task():
            del self._attempts[session]


class _Connection:
    """A connected socket, and what the kernel has not yet taken of a session's output."""

    def __init__(self, line: _Line, session: Session, sock: socket.socket) -> None:
        self._line = line
        self._session = session
        self._sock = sock
        self._unsent = b""
        self._is_blocked = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._readable)

    def _readable(self) -> None:
        self.read()
        self._line.settle()

    def read(self) -> None:
        """Hand over what has come."""
        for _ in range(_READS_AT_A_TIME):
            if self._sock.fileno() < 0:
                return
            try:
                data = self._sock.recv(_READ_LENGTH)
            except BlockingIOError:
                return
            except OSError as error:
                self._line.lost(self._session, f"connection lost: {_words(error)}")
                return
            if not data:
                self._line.lost(self._session, "the peer closed the connection")
                return
            self._line.received(self._session, data)
            if len(data) < _READ_LENGTH:
                return

    def look_around(self) -> None:
        """Tell the session what addresses its interface has by now."""
        with suppress(OSError):  # the connection is gone, which the reader will learn
            self._session.located(bgp_socket.local_addresses(self._sock, self._session.local))

    def pump(self) -> None:
        """Give the kernel as much output as it takes."""
        if self._is_blocked:
            return
        for _ in range(_WRITES_AT_A_TIME):
            if not self._write():
                return
        self._wait_until_writable()

    def _write(self) -> bool:
        """Whether there may be more to write at once."""
        self._unsent = self._unsent or self._session.take_output()
        if not self._unsent:
            return False
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            self._wait_until_writable()
            return False
        except OSError:
            # The reader learns of the loss, and first of what the peer said before it.
            self._unsent = b""
            return False
        self._unsent = self._unsent[sent:]
        return True

    def _wait_until_writable(self) -> None:
        self._is_blocked = True
        self._loop.add_writer(self._sock, self._writable)

    def _writable(self) -> None:
        self._is_blocked = False
        self._loop.remove_writer(self._sock)
        self.pump()

    def finish(self) -> None:
        """Say what is left to be said, as far as the kernel takes it, and that there is no more."""
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        while self._write():
            pass
        self._loop.remove_writer(self._sock)
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    async def closed(self) -> None:
        """After `finish`: the peer has closed its side, too, or is waited for no longer.

        What is left unread would make the kernel reset the connection, and our last words with it.
        """
        try:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(_FAREWELL_SECONDS):
                    while await self._loop.sock_recv(self._sock, _READ_LENGTH):
                        pass
        finally:
            self._sock.close()


def _acquaintance(peer: Peer, local_asn: int) -> Hashable:
    """As whom two speakers know each other, however they speak."""
    return peer.address, peer.port, peer.asn, peer.local_address, local_asn


def _acquaintances(*states: SpeakerState) -> frozenset[Hashable]:
    return frozenset(_acquaintance(peer, one.local_asn) for one in states for peer in one.peers.values())


def _words(error: OSError) -> str:
    """What the system says, without what asyncio adds to it."""
    return os.strerror(error.errno) if error.errno else str(error)
