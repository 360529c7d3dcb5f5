"""A segment that conntrack cannot match to its connection, as retransmissions after a stall are.

It is made from the last segment that was sent: far out of the window, yet one whose reset the sender would
believe. IPv4 only.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.lab.datapath.topology import Lab

_ETHERNET, _FAR = 14, 300_000_000
_ACK = 0x10


@dataclass(frozen=True, slots=True)
class Overheard:
    """What a host says on its wire."""

    _wire: socket.socket
    _raw: socket.socket

    def send_what_nobody_waits_for(self) -> None:
        """Send it to whom the host spoke last."""
        last = b""
        with suppress(BlockingIOError):
            while True:
                frame, (_, _, direction, *_) = self._wire.recvfrom(4096)
                if direction == socket.PACKET_OUTGOING and frame[_ETHERNET + 9] == socket.IPPROTO_TCP:
                    last = frame[_ETHERNET:]
        source, destination = last[12:16], last[16:20]
        ports, sequence, acknowledged = last[20:24], *struct.unpack_from("!II", last, 24)
        segment = ports + struct.pack(
            "!IIBBHHH", (sequence + _FAR) % 2**32, acknowledged, 0x50, _ACK, 1000, 0, 0
        )
        pseudo = source + destination + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(segment))
        segment = segment[:16] + struct.pack("!H", _checksum(pseudo + segment)) + segment[18:]
        # The kernel fills in length, identification and checksum.
        header = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_TCP, 0) + source + destination
        self._raw.sendto(header + segment, (socket.inet_ntoa(destination), 0))


@contextmanager
def overheard(lab: Lab, where: str) -> Iterator[Overheard]:
    """Listen to all that is said there from now on."""
    with lab.entered(where):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    wire.setblocking(False)
    with wire, raw:
        yield Overheard(wire, raw)


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
