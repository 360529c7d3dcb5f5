"""The process that answers, spoken to over its pipe."""

import asyncio
import socket
import subprocess
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from math import inf

import msgspec
import pytest

from lbipam.adapters import l2_pipe
from lbipam.adapters.l2_pipe import Ask, Change, Done, Extend, FromWorker, Order, PortAt, Report, Told
from lbipam.adapters.l2_worker import Worker
from lbipam.core.l2 import frames, responder
from lbipam.core.l2.announcements import Stage
from lbipam.core.l2.frames import Arp, Ignored
from tests.lab.l2 import inside, lan
from tests.lab.l2.inside import MAC_A, MAC_B

missing = lan.why_no_lab()
pytestmark = [pytest.mark.lab, pytest.mark.skipif(missing is not None, reason=str(missing))]

FOUR, SIX = ip_address("192.0.2.80").packed, ip_address("2001:db8::80").packed
DECODER = msgspec.msgpack.Decoder(FromWorker)


class Pipe:
    """The agent's end of the pipe."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._generation = 0

    async def order(
        self, *, at: PortAt | None, added: list[bytes], removed: list[bytes], ours: bool = True
    ) -> None:
        self._generation += 1
        ports = {} if at is None else {"here0": at}
        change = {"here0": Change(added, removed)}
        l2_pipe.write(
            self._writer, Order(self._generation, ports, change, added if ours else [], valid_until=inf)
        )
        await self.hear(Done(self._generation))

    def send(self, message: Order | Extend | Ask) -> None:
        l2_pipe.write(self._writer, message)

    async def hear(self, expected: FromWorker) -> None:
        """Read until this has been told."""
        while await self.read() != expected:
            pass

    async def report(self) -> Report:
        self.send(Ask())
        while not isinstance(report := await self.read(), Report):
            pass
        return report

    async def read(self) -> FromWorker:
        async with asyncio.timeout(10):
            data = await l2_pipe.read(self._reader)
        assert data is not None
        message: FromWorker = DECODER.decode(data)
        return message


def with_worker(test: Callable[[Pipe, socket.socket], Awaitable[None]]) -> None:
    """Run a test with a worker on `here0` and a socket on the LAN; the worker ends when the pipe does."""

    async def run() -> None:
        ours, its = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        its_reader, its_writer = await asyncio.open_unix_connection(sock=its)
        worker = asyncio.create_task(Worker(its_writer, answers_echo=True).run(its_reader))
        with inside.lan_end() as end:
            try:
                await test(Pipe(reader, writer), end)
            finally:
                writer.close()
                await writer.wait_closed()
                async with asyncio.timeout(10):
                    await worker
                its_writer.close()

    inside.with_link(run)


def here() -> PortAt:
    return PortAt(socket.if_nametoindex("here0"), MAC_A)


async def answer_to(end: socket.socket, question: bytes) -> Arp:
    """Ask on the LAN, and wait for the ARP reply."""
    end.send(question)
    async with asyncio.timeout(10):
        while True:
            try:
                found = frames.decode(end.recv(2048))
            except BlockingIOError:
                await asyncio.sleep(0.01)
                continue
            if isinstance(found, Arp) and found.destination == MAC_B:
                return found


def test_what_is_ordered_is_answered() -> None:
    async def test(pipe: Pipe, end: socket.socket) -> None:
        await pipe.order(at=here(), added=[FOUR, SIX], removed=[])
        reply = await answer_to(end, responder.probe(FOUR, MAC_B))
        assert (reply.sender, reply.sender_hardware) == (FOUR, MAC_A)
        found = (await pipe.report()).lans["here0"]
        assert found.stages == {Stage.ANNOUNCED: 2}
        assert sum(found.answered.values()) >= 1

    with_worker(test)


def test_an_interface_on_which_nothing_is_wanted_is_left() -> None:
    async def test(pipe: Pipe, end: socket.socket) -> None:
        await pipe.order(at=here(), added=[FOUR, SIX], removed=[])
        await pipe.order(at=here(), added=[], removed=[FOUR])
        assert (await pipe.report()).lans["here0"].stages == {Stage.ANNOUNCED: 1}
        await pipe.order(at=here(), added=[], removed=[SIX])
        assert await pipe.report() == Report({})

    with_worker(test)


def test_an_interface_that_cannot_be_opened_is_told_of() -> None:
    async def test(pipe: Pipe, end: socket.socket) -> None:
        pipe.send(Order(1, {"c": PortAt(99, MAC_A)}, {"c": Change([FOUR], [])}, [], valid_until=inf))
        told = await pipe.read()
        assert isinstance(told, Told)
        assert told.interface == "c"
        assert "No such device" in told.lost
        assert (await pipe.report()).lans["c"].stages == {Stage.WAITING: 1}

    with_worker(test)


def test_an_interface_that_cannot_be_opened_is_tried_again() -> None:
    async def test(pipe: Pipe, end: socket.socket) -> None:
        inside.ip("link", "set", "here0", "down")
        pipe.send(Order(1, {"c": here()}, {"c": Change([FOUR], [])}, [FOUR], valid_until=inf))
        await pipe.hear(Told("c", lost="[Errno 19] No such device"))
        inside.ip("link", "set", "here0", "name", "c", "up")
        await pipe.hear(Told("c"))
        await answer_to(end, responder.probe(FOUR, MAC_B))

    with_worker(test)


def test_an_interface_that_cannot_be_opened_any_more_waits() -> None:
    async def test(pipe: Pipe, end: socket.socket) -> None:
        await pipe.order(at=here(), added=[FOUR], removed=[])
        inside.ip("link", "set", "here0", "down")
        inside.ip("link", "set", "here0", "name", "c")
        await pipe.order(at=PortAt(99, MAC_A), added=[], removed=[])
        assert (await pipe.report()).lans["here0"].stages == {Stage.WAITING: 1}

    with_worker(test)


def test_an_order_without_the_interface_waits_for_it() -> None:
    async def test(pipe: Pipe, end: socket.socket) -> None:
        await pipe.order(at=None, added=[FOUR], removed=[])
        assert (await pipe.report()).lans["here0"].stages == {Stage.WAITING: 1}
        await pipe.order(at=here(), added=[], removed=[], ours=False)
        await answer_to(end, responder.probe(FOUR, MAC_B))

    with_worker(test)


def test_of_many_addresses_given_up_on_a_slow_link_few_are_announced_still() -> None:
    many = [(ip_address("198.18.0.0") + index).packed for index in range(5000)]

    async def test(pipe: Pipe, end: socket.socket) -> None:
        slow = ("rate", "1mbit", "burst", "2kb", "latency", "20s")
        subprocess.run(["tc", "qdisc", "add", "dev", "here0", "root", "tbf", *slow], check=True)
        await pipe.order(at=here(), added=many, removed=[])
        await pipe.order(at=here(), added=[FOUR], removed=many)
        heard: list[bytes] = []
        while responder.announcement(FOUR, MAC_A)[0] not in heard:
            try:
                heard.append(end.recv(2048))
            except BlockingIOError:
                await asyncio.sleep(0.01)
        assert len(heard) < 2000

    with_worker(test)


def test_what_waits_for_a_slow_link_at_the_fence_is_not_sent() -> None:
    many = [(ip_address("198.18.0.0") + index).packed for index in range(256)]

    async def test(pipe: Pipe, end: socket.socket) -> None:
        slow = ("rate", "200kbit", "burst", "2kb", "latency", "20s")
        subprocess.run(["tc", "qdisc", "add", "dev", "here0", "root", "tbf", *slow], check=True)
        await pipe.order(at=here(), added=many, removed=[])
        pipe.send(Extend(l2_pipe.now()))
        await pipe.report()
        await pipe.order(at=here(), added=[FOUR], removed=many)
        sent = 0
        while True:
            try:
                frame = end.recv(2048)
            except BlockingIOError:
                await asyncio.sleep(0.01)
                continue
            if frame == responder.announcement(FOUR, MAC_A)[0]:
                break
            sent += 1
        assert sent < 2 * len(many), "all but what the kernel had by then"

    with_worker(test)


def test_the_fence_is_obeyed() -> None:
    async def test(pipe: Pipe, end: socket.socket) -> None:
        await pipe.order(at=here(), added=[FOUR], removed=[])
        pipe.send(Extend(l2_pipe.now()))
        await pipe.report()
        end.send(responder.probe(FOUR, MAC_B))
        while Ignored.FENCED not in (await pipe.report()).lans["here0"].ignored:
            await asyncio.sleep(0.01)

    with_worker(test)


def test_a_rival_is_told_of() -> None:
    async def test(pipe: Pipe, end: socket.socket) -> None:
        await pipe.order(at=here(), added=[FOUR], removed=[], ours=False)
        for frame in responder.announcement(FOUR, MAC_B):
            end.send(frame)
        await pipe.hear(Told("here0", FOUR, rival=MAC_B, stage=Stage.CONFLICT))

    with_worker(test)
