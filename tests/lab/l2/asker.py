"""A client for the lab that asks more and faster than the kernel would.

    ip netns exec CLIENT python -m tests.lab.l2.asker RATE SECONDS ADDRESS...

Sends ARP requests for the IPv4 addresses in turn, evenly spaced, and prints one JSON object: how many were
sent and answered, and the 50th and 99th percentile of the time to the reply in microseconds.
"""

import json
import select
import socket
import struct
import sys
import time
from ipaddress import ip_address

from lbipam.core.l2 import frames
from lbipam.core.l2.frames import Arp, Operation

_SO_TIMESTAMPNS = 35


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
    asker = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(0x0806))
    with asker:
        asker.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)
        asker.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        asker.bind(("eth0", 0x0806))
        hardware = asker.getsockname()[4]
        requests = [request(hardware, target, sender) for target in targets]
        asked: dict[bytes, list[int]] = {target: [] for target in targets}
        times: list[float] = []
        ready = select.poll()
        ready.register(asker, select.POLLIN)

        def listen(until: float) -> None:
            while (left := until - time.perf_counter()) > 0:
                if not ready.poll(left * 1000):
                    return
                frame, ancillary, _, _ = asker.recvmsg(128, 64)
                if frame[20:22] == b"\x00\x02" and asked.get(frame[28:32]):
                    whole, part = struct.unpack("qq", ancillary[0][2])
                    times.append((whole * 10**9 + part - asked[frame[28:32]].pop(0)) / 1000)

        count = int(rate * seconds)
        start = time.perf_counter()
        for number in range(count):
            listen(start + number / rate)
            target = targets[number % len(targets)]
            asked[target].append(time.clock_gettime_ns(time.CLOCK_REALTIME))
            asker.send(requests[number % len(targets)])
        end = time.perf_counter() + 1
        while len(times) < count and time.perf_counter() < end:
            listen(min(end, time.perf_counter() + 0.01))
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
