"""What do the agent and the process that answers on the LAN say to each other, and by which clock?

Messages of MessagePack, each after its length in four bytes, over a pair of Unix sockets. Addresses are
packed. What is to be done about a message is not decided here.
"""

import asyncio
import time
from typing import TypeAlias

import msgspec

from lbipam.adapters.l2_socket import Protocol
from lbipam.core.l2.announcements import Stage
from lbipam.core.l2.frames import Ignored


class PortAt(msgspec.Struct, frozen=True):
    """Where an interface is: its index and link-layer address."""

    index: int
    hardware: bytes


class Change(msgspec.Struct, frozen=True):
    """What is to be answered for on one interface from now on, and no more; addresses are packed."""

    added: list[bytes]
    removed: list[bytes]


class Order(msgspec.Struct, frozen=True, tag=True):
    """The difference from what was ordered before. `ports` is whole: an interface not in it cannot be used."""

    generation: int
    ports: dict[str, PortAt]
    changes: dict[str, Change]
    handed_over: list[bytes]
    valid_until: float


class Extend(msgspec.Struct, frozen=True, tag=True):
    """Move the fence."""

    valid_until: float


class Ask(msgspec.Struct, frozen=True, tag=True):
    """Ask for a `Report`."""


class Done(msgspec.Struct, frozen=True, tag=True):
    """Every frame from now on is answered as ordered."""

    generation: int


class Told(msgspec.Struct, frozen=True, tag=True):
    """An event of `core.l2.announcements`; which one is told by what is there."""

    interface: str
    address: bytes = b""
    rival: bytes = b""
    stage: Stage = Stage.ANNOUNCED
    lost: str = ""
    refused: str = ""


class Lan(msgspec.Struct, frozen=True):
    """An `InterfaceStatus`."""

    stages: dict[Stage, int]
    answered: dict[Protocol, int]
    ignored: dict[Ignored, int]
    unsent: int


class Report(msgspec.Struct, frozen=True, tag=True):
    """Everything that can be seen from outside, by interface."""

    lans: dict[str, Lan]


ToWorker: TypeAlias = Order | Extend | Ask
FromWorker: TypeAlias = Done | Told | Report


def now() -> float:
    """The clock of fences and times: it counts through a suspension of the machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def read(reader: asyncio.StreamReader) -> bytes | None:
    """The next message on the pipe; None when the other side has closed it."""
    try:
        length = int.from_bytes(await reader.readexactly(4))
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def write(writer: asyncio.StreamWriter, message: ToWorker | FromWorker) -> None:
    """Send a message on the pipe."""
    data = msgspec.msgpack.encode(message)
    writer.write(len(data).to_bytes(4) + data)
