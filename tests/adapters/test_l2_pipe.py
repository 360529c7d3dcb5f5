"""Messages between the agent and the process that answers, there and back."""

import asyncio
from math import inf

import msgspec
import pytest

from lbipam.adapters import l2_pipe
from lbipam.adapters.l2_pipe import (
    Ask,
    Change,
    Done,
    Extend,
    FromWorker,
    Lan,
    Order,
    PortAt,
    Report,
    Told,
    ToWorker,
)
from lbipam.adapters.l2_socket import Protocol
from lbipam.core.l2.announcements import Stage
from lbipam.core.l2.frames import Ignored

ADDRESS, MAC = bytes(range(16)), bytes(range(6))
ORDERS: list[ToWorker] = [
    Order(1, {"eth0": PortAt(2, MAC)}, {"eth0": Change([ADDRESS], [])}, [ADDRESS], inf),
    Extend(12.5),
    Ask(),
]
NEWS: list[FromWorker] = [
    Done(1),
    Told("eth0", ADDRESS, MAC, Stage.CONFLICT),
    Report({"eth0": Lan({Stage.CONFLICT: 1}, {Protocol.ARP: 3}, {Ignored.FENCED: 1}, 0)}),
]


async def told(*messages: ToWorker | FromWorker) -> list[bytes]:
    """What one end reads of what the other writes, until that closes."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (data := await l2_pipe.read(reader)) is not None:
            heard.append(data)
        writer.close()
        done.set()

    done = asyncio.Event()
    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for message in messages:
            l2_pipe.write(writer, message)
        writer.close()
        await writer.wait_closed()
        await done.wait()
    return heard


@pytest.mark.parametrize(
    ("messages", "form"), [(ORDERS, ToWorker), (NEWS, FromWorker)], ids=["orders", "news"]
)
async def test_what_is_written_is_read(messages: list[ToWorker | FromWorker], form: object) -> None:
    decoder: msgspec.msgpack.Decoder[object] = msgspec.msgpack.Decoder(form)
    assert [decoder.decode(data) for data in await told(*messages)] == messages


async def test_a_pipe_that_closes_within_a_message_is_a_closed_pipe() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data((100).to_bytes(4) + b"half")
    reader.feed_eof()
    assert await l2_pipe.read(reader) is None


def test_the_clock_does_not_go_back() -> None:
    assert l2_pipe.now() <= l2_pipe.now()
