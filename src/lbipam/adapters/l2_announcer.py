"""How does the agent say which addresses this node answers for, and hear what comes of it?

`Announcer` is the port towards the LAN: whole wanted sets in, events and status out. It keeps the worker
process alive that does the answering (`l2_worker`) and tells it where the interfaces are
(`l2_interfaces`). Who should announce what is decided elsewhere.
"""

import asyncio
import math
import socket
import sys
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, suppress
from ipaddress import ip_address
from typing import Self

import msgspec
import structlog

from lbipam.adapters import l2_pipe, l2_worker
from lbipam.adapters.l2_interfaces import InterfaceWatch
from lbipam.adapters.l2_pipe import Ask, Change, Done, Extend, Order, PortAt, Report, Told
from lbipam.core.l2.announcements import (
    Address,
    Announced,
    Conflict,
    Event,
    GroupRefused,
    InterfaceLost,
    InterfaceReady,
    InterfaceStatus,
    Stage,
)
from lbipam.core.l2.interfaces import Interface

_FIRST_RESTART_SECONDS = 0.1
_LAST_RESTART_SECONDS = 5.0
_END_SECONDS = 2.0

_log = structlog.get_logger(__name__)


class Announcer:
    """Answers for addresses on this node's interfaces while open.

        async with Announcer(answers_echo=True, on_event=...) as announcer:
            await announcer.apply({"eth0": {ip_address("192.0.2.80")}}, valid_until=...)

    `on_event` is called on the event loop with what happens to announcements and interfaces, `on_interfaces`
    when the node's interfaces change. Times are those of `CLOCK_BOOTTIME`.
    """

    def __init__(
        self,
        *,
        answers_echo: bool,
        on_event: Callable[[Event], None],
        on_interfaces: Callable[[], None] = lambda: None,
    ) -> None:
        self._answers_echo = answers_echo
        self._on_event = on_event
        self._on_interfaces = on_interfaces
        self._watch = InterfaceWatch(self._interfaces_changed)
        self._wanted: dict[str, frozenset[bytes]] = {}
        self._ordered: dict[str, frozenset[bytes]] = {}
        self._ports: dict[str, PortAt] = {}
        self._ours: set[bytes] = set()
        """What a new worker need not ask the LAN for: announced or handed over, and not in conflict since."""
        self._valid_until = -math.inf
        self._generation = 0
        self._done = 0
        self._progress = asyncio.Condition()
        self._writer: asyncio.StreamWriter | None = None
        self._cannot_start = False
        """Whether there is no worker, nor one to be expected at once."""
        self._settled = asyncio.Event()
        """Set while a worker runs, and when none will any more."""
        self._asked: list[asyncio.Future[Report]] = []
        self._keeper: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._watch.__aenter__()
        self._keeper = asyncio.create_task(self._keep(), name="l2 worker")
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    @property
    def interfaces(self) -> Mapping[int, Interface]:
        """The node's interfaces by index, whatever their state: `core.l2.interfaces` chooses among them."""
        return self._watch.interfaces

    async def apply(
        self,
        wanted: Mapping[str, AbstractSet[Address]],
        *,
        handed_over: AbstractSet[Address] = frozenset(),
        valid_until: float = math.inf,
    ) -> None:
        """Answer for exactly these addresses per interface until `valid_until`; returns once it is so.

        Those in `handed_over`, which one of our nodes answered for before, are announced at once, the other
        new ones after duplicate address detection. An interface that does not exist yet is waited for. While
        no worker can be started, nothing is answered; the next one begins with what was applied last.
        """
        self._wanted = {
            name: frozenset(address.packed for address in addresses)
            for name, addresses in wanted.items()
            if addresses
        }
        self._valid_until = valid_until
        packed = frozenset(address.packed for address in handed_over)
        self._ours |= packed
        self._order(handed_over=packed)
        generation = self._generation
        async with self._progress:
            await self._progress.wait_for(lambda: self._done >= generation or self._cannot_start)

    def extend(self, valid_until: float) -> bool:
        """Move the fence, if it has not been reached; then only `apply` says what is still ours.

        Returns:
            Whether it has been moved.
        """
        if l2_pipe.now() >= self._valid_until:
            return False
        if self._writer is not None and valid_until != self._valid_until:
            l2_pipe.write(self._writer, Extend(valid_until))
        self._valid_until = valid_until
        return True

    async def status(self) -> tuple[InterfaceStatus, ...]:
        """How much is announced where, answered and ignored, as soon as there is a worker to ask."""
        await self._settled.wait()
        if self._writer is None:
            return ()
        asked: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        l2_pipe.write(self._writer, Ask())
        report = await asked
        return tuple(_status(name, lan) for name, lan in report.lans.items())

    async def close(self) -> None:
        """Stop answering: nothing is answered when this returns."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        self._settled.set()
        await self._watch.__aexit__()

    def _interfaces_changed(self) -> None:
        if self._places() != self._ports:
            self._order()
        self._on_interfaces()

    def _places(self) -> dict[str, PortAt]:
        return {
            interface.name: PortAt(interface.index, interface.hardware)
            for interface in self._watch.interfaces.values()
            if interface.is_ready and interface.name in self._wanted
        }

    def _order(self, *, handed_over: AbstractSet[bytes] = frozenset()) -> None:
        """Send the worker the difference between what is wanted and what it was told."""
        self._generation += 1
        self._ports = self._places()
        nothing: frozenset[bytes] = frozenset()
        self._ours.intersection_update(nothing.union(*self._wanted.values()))
        if self._writer is None:
            return
        changes = {
            name: Change(list(wanted - ordered), list(ordered - wanted))
            for name in self._wanted.keys() | self._ordered.keys()
            if (wanted := self._wanted.get(name, nothing)) != (ordered := self._ordered.get(name, nothing))
        }
        self._ordered = dict(self._wanted)
        order = Order(self._generation, self._ports, changes, list(handed_over), self._valid_until)
        l2_pipe.write(self._writer, order)

    async def _keep(self) -> None:
        """Run the worker, and another when it ends before us."""
        delay = _FIRST_RESTART_SECONDS
        while True:
            started = l2_pipe.now()
            try:
                await self._run_worker()
            except OSError as error:  # no memory, no file descriptor: for now
                _log.warning("the process that answers on the LAN cannot be started", error=str(error))
                async with self._progress:
                    self._cannot_start = True
                    self._progress.notify_all()
            if l2_pipe.now() - started > _LAST_RESTART_SECONDS:
                delay = _FIRST_RESTART_SECONDS
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LAST_RESTART_SECONDS)

    async def _run_worker(self) -> None:
        """Start a worker, tell it everything, listen until it ends."""
        reader, self._writer, process = await self._start_worker()
        self._cannot_start = False
        self._settled.set()
        self._ordered = {}
        self._order(handed_over=self._ours)
        try:
            await self._listen(reader)
            _log.warning("the process that answers on the LAN has ended")
        finally:
            await self._end(process)

    async def _start_worker(
        self,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.subprocess.Process]:
        ours, its = socket.socketpair()
        with ExitStack() as undo:
            undo.enter_context(ours)
            with its:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    l2_worker.__name__,
                    str(its.fileno()),
                    "echo" if self._answers_echo else "no-echo",
                    pass_fds=[its.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    start_new_session=True,  # a Ctrl-C is for the agent, which ends the worker when it is done
                )
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            undo.pop_all()
        return reader, writer, process

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        writer, self._writer = self._writer, None
        self._settled.clear()
        for asked in self._asked:
            asked.set_result(Report({}))
        self._asked.clear()
        if writer is not None:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        decoder = msgspec.msgpack.Decoder(l2_pipe.FromWorker)
        while (data := await l2_pipe.read(reader)) is not None:
            match decoder.decode(data):
                case Done(generation):
                    async with self._progress:
                        self._done = generation
                        self._progress.notify_all()
                case Report() as report:
                    self._asked.pop(0).set_result(report)
                case Told() as told:
                    self._hear(_event(told))

    def _hear(self, event: Event) -> None:
        match event:
            case Announced(address=address):
                self._ours.add(address.packed)
            case Conflict(address=address, stage=Stage.CONFLICT):
                self._ours.discard(address.packed)
            case _:
                pass
        self._on_event(event)


def _event(told: Told) -> Event:
    if told.lost:
        return InterfaceLost(interface=told.interface, why=told.lost)
    if not told.address:
        return InterfaceReady(interface=told.interface)
    address = ip_address(told.address)
    if told.refused:
        return GroupRefused(interface=told.interface, address=address, why=told.refused)
    if told.rival:
        return Conflict(interface=told.interface, address=address, rival=told.rival, stage=told.stage)
    return Announced(interface=told.interface, address=address)


def _status(name: str, lan: l2_pipe.Lan) -> InterfaceStatus:
    return InterfaceStatus(
        interface=name,
        stages=lan.stages,
        answered={protocol.value: count for protocol, count in lan.answered.items()},
        ignored=lan.ignored,
        unsent=lan.unsent,
    )
