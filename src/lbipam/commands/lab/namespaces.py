"""Network namespaces and the wires between them: hosts on one machine.

Names carry a prefix, so that what a crash has left behind is found and removed. This file does not know what
the hosts are for.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

PREFIX = "lbipam-"
_SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/lib/frr"


class LabError(Exception):
    """The lab cannot be built, or did not behave; the message is one line for the user."""


def why_not(programs: Sequence[str]) -> str | None:
    """Why there can be no lab on this machine; None if there can."""
    missing = [one for one in programs if shutil.which(one, path=_SEARCH) is None]
    if os.geteuid() != 0:
        return "network namespaces need root"
    return f"these programs are missing: {', '.join(missing)}" if missing else None


def run(*words: str, check: bool = True, seconds: float = 20.0) -> str:
    """Run a command to its end; what it printed.

    Raises:
        LabError: it failed, and `check` is set.
    """
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603
    if check and done.returncode:
        raise LabError(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def until(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> float:
    """Ask until it holds; how many seconds that took.

    Raises:
        LabError: it does not hold in time.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise LabError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - began


class Namespace:
    """A network namespace with its loopback up; a context manager."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name)
        self("ip", "link", "set", "lo", "up")

    def __call__(self, *words: str, check: bool = True) -> str:
        """Run a command inside to its end; what it printed."""
        return run("ip", "netns", "exec", self.name, *words, check=check)

    def spawn(self, *words: str, log: Path) -> "subprocess.Popen[bytes]":
        """Start a program inside."""
        with log.open("ab") as out:
            return subprocess.Popen(  # noqa: S603 -- what the lab itself starts
                ("ip", "netns", "exec", self.name, *words),  # noqa: S607
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )

    def address(self, interface: str, *addresses: str) -> None:
        """Give an interface its addresses, as `address/length`."""
        for one in addresses:
            self("ip", "address", "add", one, "dev", interface)

    def cut(self) -> None:
        """Lose every packet, in both directions, while links stay up."""
        self("nft", "add", "table", "inet", "cut")
        for hook in ("input", "output", "forward"):
            chain = f"{{ type filter hook {hook} priority 0; policy drop; }}"
            self("nft", "add", "chain", "inet", "cut", hook, chain)

    def mend(self) -> None:
        """Lose no more packets."""
        self("nft", "delete", "table", "inet", "cut")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        run("ip", "netns", "delete", self.name, check=False)


def wire(one: Namespace, one_end: str, other: Namespace, other_end: str) -> None:
    """A link between two namespaces, both ends up."""
    link = ("ip", "link", "add", one_end, "netns", one.name, "type", "veth")
    run(*link, "peer", "name", other_end, "netns", other.name)
    for namespace, end in ((one, one_end), (other, other_end)):
        namespace("ip", "link", "set", end, "up")


def remove_leftovers(prefix: str) -> list[str]:
    """End what runs in namespaces of a former lab, and remove them; their names."""
    words = (line.split() for line in run("ip", "netns", "list").splitlines())
    names = [one[0] for one in words if one and one[0].startswith(prefix)]
    for name in names:
        for process in run("ip", "netns", "pids", name, check=False).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), 9)
        run("ip", "netns", "delete", name, check=False)
    return names
