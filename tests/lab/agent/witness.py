"""A client for the lab that asks for one address all the time and notes who answers each question.

    ip netns exec CLIENT python -m tests.lab.agent.witness ADDRESS

Sends an ARP request every 5 ms until its input closes, each from another sender's address, so that a reply
tells which one it answers. Prints a line when the first has been answered, and at the end one JSON list of
`[when asked, [link-layer addresses that answered]]`.
"""

import json
import select
import socket
import sys
import time
from ipaddress import ip_address

from tests.lab.l2.asker import request

_EVERY_SECONDS = 0.005
_FIRST_SENDER = int(ip_address("100.64.0.1"))
_LAST_ANSWERS_SECONDS = 0.2


def watch(target: bytes) -> list[tuple[float, list[str]]]:
    answers: list[tuple[float, list[str]]] = []
    told: list[str] = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as wire:
        wire.bind(("eth0", 0x0806))
        hardware = wire.getsockname()[4]

        def listen(until: float) -> None:
            while (left := until - time.monotonic()) > 0:
                if not select.select([wire], [], [], left)[0]:
                    return
                frame = wire.recv(128)
                number = int.from_bytes(frame[38:42]) - _FIRST_SENDER
                is_reply = frame[:6] == hardware and frame[20:22] == b"\x00\x02" and frame[28:32] == target
                if is_reply and 0 <= number < len(answers):
                    answers[number][1].append(frame[22:28].hex(":"))
                    if not told:
                        told.append("answered")
                        print(*told, flush=True)

        while not select.select([sys.stdin], [], [], 0)[0]:
            now = time.monotonic()
            answers.append((now, []))
            wire.send(request(hardware, target, (_FIRST_SENDER + len(answers) - 1).to_bytes(4)))
            listen(now + _EVERY_SECONDS)
        listen(time.monotonic() + _LAST_ANSWERS_SECONDS)
    return answers


if __name__ == "__main__":
    print(json.dumps(watch(ip_address(sys.argv[1]).packed)))
