"""What may a router say by BFD that a healthy one does not, and what is it told?

It lies on the other end of the link of `tests.lab.l2.inside` and says only what a test wants it to.
"""

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Self

from lbipam.adapters.bfd_udp import ONE_HOP_PORT
from lbipam.core.bfd import packets
from lbipam.core.bfd.packets import Packet, State
from tests.lab.l2 import inside
from tests.patience import until

HERE, HERE_TOO, THERE = "192.0.2.1", "192.0.2.2", "192.0.2.9"
PATIENT = 255
"""Missed packets until the router is thought dead: longer than any test lasts."""


@dataclass(frozen=True)
class Heard:
    """A packet, and how it travelled."""

    packet: Packet
    source: str
    destination: str
    port: int


class Router:
    """A router next to a host with two addresses."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self._told = 0

    def __enter__(self) -> Self:
        inside.ip("link", "set", "lo", "up")
        for address in (HERE, HERE_TOO):
            inside.ip("address", "add", f"{address}/24", "dev", "here0")
        inside.ip("neighbour", "add", THERE, "lladdr", inside.MAC_B.hex(":"), "dev", "here0")
        inside.ip("route", "add", "default", "via", THERE)
        self._end = inside.lan_end()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()

    def say(
        self,
        state: State,
        *,
        to: str = HERE,
        mine: int = 9,
        yours: int = 0,
        final: bool = False,
        ttl: int = 255,
    ) -> None:
        packet = Packet(
            state=state,
            final=final,
            multiplier=PATIENT,
            mine=mine,
            yours=yours,
            desired_transmit=100_000,
            required_receive=100_000,
        )
        payload = packets.encode(packet)
        addresses = ip_address(THERE).packed + ip_address(to).packed
        head = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(payload), 0, 0, ttl, 17, 0) + addresses
        total = sum(struct.unpack("!10H", head))
        checksum = ~(total % 0xFFFF) & 0xFFFF
        datagram = struct.pack("!HHHH", 50000, ONE_HOP_PORT, 8 + len(payload), 0) + payload
        self._end.send(
            inside.MAC_A
            + inside.MAC_B
            + b"\x08\x00"
            + head[:10]
            + checksum.to_bytes(2, "big")
            + head[12:]
            + datagram
        )

    @property
    def packets(self) -> list[Packet]:
        """All that it was told."""
        return [one.packet for one in self.heard]

    def listen(self) -> None:
        with suppress(BlockingIOError):
            while frame := self._end.recv(2048):
                if frame[12:14] == b"\x08\x00" and frame[23] == 17:
                    packet = packets.decode(frame[42:])
                    assert isinstance(packet, Packet)
                    source, destination = (str(ip_address(frame[at : at + 4])) for at in (26, 30))
                    port = int.from_bytes(frame[36:38], "big")
                    self.heard.append(Heard(packet, source, destination, port))

    async def until_told(self, what: Callable[[Packet], bool], *, by: str = HERE) -> Packet:
        """The next packet of which it holds."""

        def next_one() -> int | None:
            self.listen()
            later = enumerate(self.heard[self._told :], start=self._told)
            return next((at for at, one in later if one.source == by and what(one.packet)), None)

        await until(lambda: next_one() is not None, told=lambda: self.heard[self._told :])
        found = next_one()
        assert found is not None
        self._told = found + 1
        return self.heard[found].packet

    async def come_up(self, *, here: str = HERE) -> int:
        """Both ends of the session are up; its discriminator here."""
        await self.until_told(lambda packet: packet.state is State.DOWN, by=here)
        self.say(State.DOWN, to=here)
        ours = (await self.until_told(lambda packet: packet.yours == 9, by=here)).mine
        self.say(State.UP, to=here, yours=ours)
        await self.until_told(lambda packet: packet.state is State.UP, by=here)
        self.say(State.UP, to=here, yours=ours, final=True)
        await self.until_told(lambda packet: not packet.poll, by=here)
        return ours
