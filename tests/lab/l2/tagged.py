"""A client for the lab that asks in a VLAN without having one.

    ip netns exec CLIENT python -m tests.lab.l2.tagged VLAN ADDRESS

Sends one ARP request with an 802.1Q tag and prints the MAC in the reply, or `silence`.
"""

import socket
import sys
from ipaddress import ip_address

from tests.lab.l2.asker import request


def main() -> str:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as asker:
        asker.bind(("eth0", 0x0806))
        asker.settimeout(0.5)
        frame = request(asker.getsockname()[4], ip_address(sys.argv[2]).packed, bytes((192, 0, 2, 101)))
        asker.send(frame[:12] + b"\x81\x00" + int(sys.argv[1]).to_bytes(2) + frame[12:])
        try:
            while True:
                reply = asker.recv(128)
                if reply[20:22] == b"\x00\x02":
                    return reply[22:28].hex(":")
        except TimeoutError:
            return "silence"


if __name__ == "__main__":
    print(main())
