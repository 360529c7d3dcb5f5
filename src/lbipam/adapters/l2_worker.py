"""How are requests answered within microseconds while the agent is busy with other work?

    agent: l2_announcer ──orders──▶ this process ──frames──▶ LAN
                        ◀──news────

In a process of its own: a thread would wait for the interpreter lock whenever the agent computes, at each
of the three system calls a reply takes. The process ends when the agent does, for then its end of the pipe
closes; and it falls silent at the fence, `valid_until`, even if the agent hangs. It knows neither netlink
nor Kubernetes.
"""

import asyncio
import gc
import os
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from ipaddress import ip_address

import msgspec

from lbipam.adapters import l2_pipe
from lbipam.adapters.l2_pipe import (
    Ask,
    Change,
    Done,
    Extend,
    Lan,
    Order,
    PortAt,
    Report,
    Told,
    ToWorker,
    now,
)
from lbipam.adapters.l2_socket import Port, Protocol
from lbipam.core.l2.announcements import (
    Address,
    Announced,
    Conflict,
    Event,
    GroupRefused,
    InterfaceLost,
    InterfaceReady,
)
from lbipam.core.l2.frames import Ignored
from lbipam.core.l2.moderation import Moderation
from lbipam.core.l2.responder import Responder

_LARGEST_FRAME = {Protocol.ARP: 128, Protocol.IPV6: 16 << 10, Protocol.IPV4: 16 << 10}
_PAUSE_SECONDS = 0.002
"""How long requests are let gather under a rush; a socket's buffer holds some thousand of them."""
_RETRY_SECONDS = 1.0
"""Before an interface that could not be opened is tried again: it may be a matter of memory or of descriptors."""
_FRAMES_PER_TURN = 64
"""How much of one thing is done before the others have their turn."""


class _Announcer:
    """One interface: its responder, its port while it can be used, and what waits to be done there."""

    def __init__(self, name: str, *, answers_echo: bool, tell: Callable[[Event], None]) -> None:
        self._name = name
        self._protocols = set(Protocol) if answers_echo else {Protocol.ARP, Protocol.IPV6}
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._responder = Responder(interface=name, answers_echo=answers_echo)
        self._wanted: dict[bytes, Address] = {}
        self._port: Port | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._output: deque[bytes] = deque()
        self._joining: deque[bytes] = deque()
        self._answered: Counter[Protocol] = Counter()
        self._ignored: Counter[Ignored] = Counter()
        self._unsent = 0
        self.ours: frozenset[bytes] = frozenset()
        """The link-layer addresses of all the node's ports: two of them may be on one LAN."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is wanted here."""
        return not self._wanted

    def change(self, change: Change, handed_over: frozenset[Address], valid_until: float) -> None:
        """Answer for a changed set of addresses."""
        for packed in change.removed:
            self._wanted.pop(packed, None)
            if self._port is not None and len(packed) == 16:
                self._port.groups.leave(packed)
        self._wanted.update((packed, ip_address(packed)) for packed in change.added)
        self._responder.want(
            self._wanted.values(), handed_over=handed_over, valid_until=valid_until, now=now()
        )
        self._join(change.added)
        self._follow_up()

    def extend(self, valid_until: float) -> None:
        """Move the fence."""
        self._responder.extend(valid_until, now())
        self._follow_up()

    def move(self, place: PortAt | None) -> None:
        """The interface is now there; None: it cannot be used."""
        if self._port is not None:
            if place is not None and (place.index, place.hardware) == (self._port.index, self._port.hardware):
                return
            self._responder.link_down()
            if place is None:
                self._tell(InterfaceLost(interface=self._name, why="it is gone, down or without carrier"))
        self.close()
        if place is not None:
            self._open_port(place)

    def report(self) -> Lan:
        """What can be seen from outside."""
        return Lan(
            stages=dict(self._responder.stages()),
            answered=dict(self._answered),
            ignored=dict(self._ignored),
            unsent=self._unsent,
        )

    def close(self) -> None:
        """Be silent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._output.clear()
        self._joining.clear()
        if self._port is not None:
            self._loop.remove_writer(self._port.sender)
            for receiver in self._port.sockets.values():
                self._loop.remove_reader(receiver)
            self._port.close()
            self._port = None

    def _open_port(self, place: PortAt) -> None:
        try:
            self._port = Port(
                name=self._name, index=place.index, hardware=place.hardware, protocols=self._protocols
            )
        except OSError as error:
            self._tell(InterfaceLost(interface=self._name, why=str(error)))
            self._timer = self._loop.call_later(_RETRY_SECONDS, self._open_port, place)
            return
        for protocol in self._port.sockets:
            self._listen(self._port, protocol, Moderation())
        self._tell(InterfaceReady(interface=self._name))
        self._join(self._wanted)
        self._responder.link_up(place.hardware, now())
        self._follow_up()

    def _listen(self, port: Port, protocol: Protocol, moderation: Moderation) -> None:
        self._loop.add_reader(port.sockets[protocol], partial(self._receive, port, protocol, moderation))

    def _gather(self, port: Port, protocol: Protocol, moderation: Moderation) -> None:
        """Let requests gather, then answer them, as long as that pays."""
        self._loop.remove_reader(port.sockets[protocol])
        self._loop.call_later(_PAUSE_SECONDS, self._receive_gathered, port, protocol, moderation)

    def _receive_gathered(self, port: Port, protocol: Protocol, moderation: Moderation) -> None:
        if port is self._port:
            self._listen(port, protocol, moderation)
            self._receive(port, protocol, moderation)

    def _receive(self, port: Port, protocol: Protocol, moderation: Moderation) -> None:
        """The path of every request."""
        contested, received = False, 0
        receiver, largest, moment = port.sockets[protocol], _LARGEST_FRAME[protocol], now()
        for received in range(_FRAMES_PER_TURN):  # noqa: B007
            try:
                frame = receiver.recv(largest)
            except OSError:  # no more for now; or the interface is going, which netlink will tell
                break
            if frame[6:12] in self.ours:
                self._ignored[Ignored.OWN_FRAME] += 1
                continue
            outcome = self._responder.receive(frame, moment)
            if isinstance(outcome, Ignored):
                self._ignored[outcome] += 1
                contested |= outcome is Ignored.CONFLICT
                continue
            try:
                receiver.send(outcome)
            except OSError:  # no room, or no interface: who asked will ask again
                self._unsent += 1
            else:
                self._answered[protocol] += 1
        if contested:
            self._follow_up()
        if moderation.pays(received, moment):
            self._gather(port, protocol, moderation)

    def _follow_up(self) -> None:
        """After anything but a plain reply: tell events, send what is said unasked, set the alarm."""
        if self._port is None:
            return
        for event in self._responder.take_events():
            self._tell(event)
        self._output += self._responder.take_output()
        self._send()

    def _tick(self) -> None:
        self._timer = None
        self._responder.tick(now())
        self._follow_up()

    def _send(self) -> None:
        """Send what waits, some at a time; when the kernel has no room, when it has.

        Until then nothing more is due: what waits is sent though its address be given up meanwhile, but not
        behind the fence, where another node may have it.
        """
        if self._port is None:
            return
        self._loop.remove_writer(self._port.sender)
        if now() >= self._responder.valid_until:
            self._output.clear()
        for _ in range(min(_FRAMES_PER_TURN, len(self._output))):
            try:
                self._port.sender.send(self._output[0])
            except BlockingIOError:
                break
            except OSError:
                self._unsent += 1
            self._output.popleft()
        if self._output:
            self._loop.add_writer(self._port.sender, self._send)
        if self._timer is not None:
            self._timer.cancel()
        wake_at = None if self._output else self._responder.wake_at()
        self._timer = None if wake_at is None else self._loop.call_later(max(0, wake_at - now()), self._tick)

    def _join(self, addresses: Iterable[bytes]) -> None:
        idle = not self._joining
        self._joining += (packed for packed in addresses if len(packed) == 16)
        if self._joining and idle:
            self._join_some()

    def _join_some(self) -> None:
        if self._port is None:
            self._joining.clear()
            return
        for _ in range(min(_FRAMES_PER_TURN, len(self._joining))):
            packed = self._joining.popleft()
            if packed not in self._wanted:
                continue
            try:
                self._port.groups.join(packed)
            except OSError as error:
                address = self._wanted[packed]
                self._tell(GroupRefused(interface=self._name, address=address, why=str(error)))
                self._joining.clear()
                return
        if self._joining:
            self._loop.call_soon(self._join_some)


class Worker:
    """Carries out orders until the pipe closes."""

    def __init__(self, writer: asyncio.StreamWriter, *, answers_echo: bool) -> None:
        self._writer = writer
        self._answers_echo = answers_echo
        self._lans: dict[str, _Announcer] = {}

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Obey until the agent closes the pipe or ends."""
        decoder = msgspec.msgpack.Decoder(ToWorker)
        try:
            while (data := await l2_pipe.read(reader)) is not None:
                self._obey(decoder.decode(data))
        finally:
            for lan in self._lans.values():
                lan.close()

    def _obey(self, order: ToWorker) -> None:
        match order:
            case Order():
                self._change(order)
                l2_pipe.write(self._writer, Done(order.generation))
            case Extend(valid_until):
                for lan in self._lans.values():
                    lan.extend(valid_until)
            case Ask():
                lans = {name: lan.report() for name, lan in self._lans.items()}
                l2_pipe.write(self._writer, Report(lans))

    def _change(self, order: Order) -> None:
        handed_over = frozenset(ip_address(packed) for packed in order.handed_over)
        for name in order.changes.keys() - self._lans.keys():
            self._lans[name] = _Announcer(name, answers_echo=self._answers_echo, tell=self._tell)
        ours = frozenset(port.hardware for port in order.ports.values())
        for name, lan in list(self._lans.items()):
            lan.ours = ours
            lan.move(order.ports.get(name))
            lan.change(order.changes.get(name, Change([], [])), handed_over, order.valid_until)
            if lan.is_idle:
                lan.close()
                del self._lans[name]

    def _tell(self, event: Event) -> None:
        match event:
            case Announced():
                told = Told(event.interface, event.address.packed)
            case Conflict():
                told = Told(event.interface, event.address.packed, event.rival, event.stage)
            case InterfaceReady():
                told = Told(event.interface)
            case GroupRefused():
                told = Told(event.interface, event.address.packed, refused=event.why)
            case InterfaceLost():
                told = Told(event.interface, lost=event.why)
        l2_pipe.write(self._writer, told)


async def _serve(pipe: socket.socket, *, answers_echo: bool) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=pipe)
    gc.freeze()
    try:
        await Worker(writer, answers_echo=answers_echo).run(reader)
    finally:
        writer.close()


def _hurry() -> None:
    """Come before ordinary processes on a busy node; without CAP_SYS_NICE, be one of them.

    On two cores that both compute, the 99th percentile of the time to a reply is 10 ms without and 0.2 ms
    with it. The kernel keeps a twentieth of each core from real-time processes, whatever is asked of us.
    """
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def main() -> None:
    """Run as `python -m lbipam.adapters.l2_worker PIPE_FD (echo | no-echo)`."""
    pipe = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(pipe.fileno(), False)  # noqa: FBT003
    _hurry()
    asyncio.run(_serve(pipe, answers_echo=sys.argv[2] == "echo"))


if __name__ == "__main__":
    main()
