"""A client for the lab that asks more and faster than the kernel would.

    ip netns exec CLIENT python -m tests.lab.l2.asker RATE SECONDS ADDRESS...

Sends ARP requests for the IPv4 addresses in turn, evenly spaced, and prints one JSON object: how many were
sent and answered, and the 50th and 99th percentile of the time to the reply in microseconds.
"""

import json
import socket
import struct
import sys
import time
from collections import defaultdict
from ipaddress import ip_address

from lbipam.core.l2 import frames
from lbipam.core.l2.frames import Arp, Operation

_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33


def request(hardware: bytes, target: bytes, sender: bytes) -> bytes:
    return frames.encode(
        Arp(
            destination=frames.BROADCAST,
            source=hardware,
            operation=Operation.REQUEST,
            sender_hardware=hardware,
            sender=sender,
            target_hardware=frames.NO_HARDWARE,
            target=target,
        )
    )


def ask(rate: int, seconds: float, targets: list[bytes], sender: bytes) -> dict[str, float]:
    """Times are from the kernel's stamp on the request going out to its stamp on the reply coming in."""
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as asker,  # a socket does not see what it sent
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3)) as wire,
    ):
        asker.bind(("eth0", 0))
        wire.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        wire.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        wire.bind(("eth0", 3))
        hardware = asker.getsockname()[4]
        requests = [request(hardware, target, sender) for target in targets]
        asked: defaultdict[bytes, list[int]] = defaultdict(list)
        times: list[float] = []

        def listen() -> None:
            while True:
                try:
                    frame, ancillary, _, _ = wire.recvmsg(128, 64)
                except BlockingIOError:
                    return
                whole, part = struct.unpack("qq", ancillary[0][2])
                stamp = whole * 10**9 + part
                if frame[6:14] == hardware + b"\x08\x06":
                    asked[frame[38:42]].append(stamp)
                elif frame[:6] == hardware and frame[12:14] == b"\x08\x06" and asked.get(frame[28:32]):
                    times.append((stamp - asked[frame[28:32]].pop(0)) / 1000)

        count = int(rate * seconds)
        start = time.perf_counter()
        for number in range(count):
            listen()
            time.sleep(max(0, start + number / rate - time.perf_counter()))
            asker.send(requests[number % len(targets)])
        end = time.perf_counter() + 1
        while len(times) < count and time.perf_counter() < end:
            listen()
            time.sleep(0.001)
    times.sort()
    return {
        "sent": count,
        "answered": len(times),
        "p50_us": times[len(times) // 2] if times else float("nan"),
        "p99_us": times[len(times) * 99 // 100] if times else float("nan"),
    }


if __name__ == "__main__":
    source = ip_address("192.0.2.101").packed
    print(
        json.dumps(
            ask(int(sys.argv[1]), float(sys.argv[2]), [ip_address(a).packed for a in sys.argv[3:]], source)
        )
    )
