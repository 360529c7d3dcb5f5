"""Code of a test run inside a network namespace of its own, with one link: `here0` here, `lan0` as the LAN."""

import asyncio
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Coroutine
from typing import Any

_CLONE_NEWNET = 0x40000000
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23

MAC_A, MAC_B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")


def ip(*command: str) -> None:
    subprocess.run(["ip", *command], check=True, capture_output=True)


def with_link(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a coroutine function in a new namespace, in which `here0` and `lan0` are the ends of one link.

    The namespace is a thread's, and ends with it.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(_CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            ip("link", "add", "here0", "address", MAC_A.hex(":"), "type", "veth", "peer", "name", "lan0")
            ip("link", "set", "lan0", "addrgenmode", "none", "address", MAC_B.hex(":"), "up")
            ip("link", "set", "here0", "up")
            asyncio.run(test())
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


async def until(question: Callable[[], object], what: str) -> None:
    """Ask until the answer is true."""
    try:
        async with asyncio.timeout(10):
            while not question():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not in 10 s: {what}") from None


def lan_end() -> socket.socket:
    """A socket on `lan0` that hears and says anything but what it said itself."""
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3))
    end.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    end.bind(("lan0", 3))
    return end
