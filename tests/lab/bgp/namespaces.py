"""Network namespaces and wires between them, and programs that run inside."""

import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

_names = itertools.count(1)
DEADLINE_SECONDS = 30.0


def need(*programs: str) -> None:
    """Skip the test where something it stands on is missing."""
    missing = [
        one
        for one in programs
        if shutil.which(one, path=f"{os.environ['PATH']}:/usr/sbin:/usr/lib/frr") is None
    ]
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


def run(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(words)}: {done.stderr or done.stdout}")
    return done.stdout


def until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> float:
    """Poll until it holds; how long that took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - begun


class Namespace:
    """A network namespace with its loopback up."""

    def __init__(self, role: str) -> None:
        self.name = f"lbb{os.getpid()}-{role}{next(_names)}"
        run("ip", "netns", "add", self.name)
        self("ip", "link", "set", "lo", "up")

    def __call__(self, *words: str, check: bool = True) -> str:
        """Run a command inside and wait for it."""
        return run("ip", "netns", "exec", self.name, *words, check=check)

    def spawn(self, *words: str, log: Path, **options: object) -> "subprocess.Popen[bytes]":
        """Start a program inside."""
        with log.open("ab") as out:
            return subprocess.Popen(
                ("ip", "netns", "exec", self.name, *words), stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )

    def address(self, interface: str, *addresses: str) -> None:
        for one in addresses:
            self("ip", "address", "add", one, "dev", interface, *(("nodad",) if ":" in one else ()))

    def cut(self) -> None:
        """Lose every packet, in both directions, while links stay up."""
        self("nft", "add", "table", "inet", "cut")
        for hook in ("input", "output"):
            chain = f"{{ type filter hook {hook} priority 0; policy drop; }}"
            self("nft", "add", "chain", "inet", "cut", hook, chain)

    def mend(self) -> None:
        self("nft", "delete", "table", "inet", "cut")

    def link_local(self, interface: str) -> str:
        """The link-local address that the kernel gave."""
        words = self("ip", "-6", "-o", "address", "show", "dev", interface, "scope", "link").split()
        return words[words.index("inet6") + 1].partition("/")[0]

    def close(self) -> None:
        run("ip", "netns", "delete", self.name, check=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wire(one: Namespace, one_end: str, other: Namespace, other_end: str) -> None:
    """A link between two namespaces, both ends up."""
    run(
        "ip",
        "link",
        "add",
        one_end,
        "netns",
        one.name,
        "type",
        "veth",
        "peer",
        "name",
        other_end,
        "netns",
        other.name,
    )
    for namespace, end in ((one, one_end), (other, other_end)):
        namespace("sysctl", "-qw", f"net.ipv6.conf.{end}.accept_dad=0")
        namespace("ip", "link", "set", end, "up")
