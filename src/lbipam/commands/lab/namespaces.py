"""Network namespaces and the wires between them: hosts on one machine.

Names carry a prefix, so that what a crash has left behind is found and removed. This file does not know what
the hosts are for.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

PREFIX = "lbipam-lab-"
_SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/lib/frr:{Path(sys.executable).parent}"
"""Where programs are: the paths of many users leave out those for root, and the path of root leaves out ours."""


class LabError(Exception):
    """The lab cannot be built, or did not behave; the message is one line for the user."""


def why_not(programs: Sequence[str]) -> str | None:
    """Why there can be no lab on this machine; None if there can."""
    missing = [one for one in programs if shutil.which(one, path=_SEARCH) is None]
    if os.geteuid() != 0:
        return "network namespaces need root"
    return f"these programs are missing: {', '.join(missing)}" if missing else None


def environment() -> dict[str, str]:
    """That of programs which the lab runs."""
    return {**os.environ, "PATH": _SEARCH}


def run(*words: str, check: bool = True, seconds: float = 20.0) -> str:
    """Run a command to its end; what it printed.

    Raises:
        LabError: it did not end in time, or failed, and `check` is set.
    """
    try:
        done = subprocess.run(  # noqa: S603
            words, capture_output=True, text=True, timeout=seconds, check=False, env=environment()
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(words)}: no end within {seconds:g} s") from None
    if check and done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise LabError(f"{' '.join(words)}: {said[:300]}")
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
        """Start a program inside; Ctrl-C in our terminal does not reach it."""
        with log.open("ab") as out:
            return subprocess.Popen(  # noqa: S603 -- what the lab itself starts
                ("ip", "netns", "exec", self.name, *words),  # noqa: S607
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                env=environment(),
                start_new_session=True,
            )

    def address(self, interface: str, *addresses: str) -> None:
        """Give an interface its addresses, as `address/length`."""
        for one in addresses:
            self("ip", "address", "add", one, "dev", interface)

    @contextmanager
    def cut_off(self) -> Iterator[float]:
        """Lose every packet inside of the block, in both directions, while links stay up; when that began.

        Seconds of the machine's monotonic clock.
        """
        hooks = ("input", "output", "forward")
        chains = [f"chain {hook} {{ type filter hook {hook} priority -500; policy drop; }}" for hook in hooks]
        self("nft", f"table inet cut {{ {'; '.join(chains)}; }}")
        try:
            yield time.monotonic()
        finally:
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


def existing(prefix: str) -> list[str]:
    """The names of the namespaces that begin with a prefix."""
    words = (line.split() for line in run("ip", "netns", "list").splitlines())
    return sorted(one[0] for one in words if one and one[0].startswith(prefix))


def processes(name: str) -> list[int]:
    """The ids of the processes in a namespace."""
    return [int(one) for one in run("ip", "netns", "pids", name, check=False).split()]


def remove(names: Sequence[str]) -> None:
    """End what runs in these namespaces, and remove them."""
    for name in names:
        for process in processes(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        run("ip", "netns", "delete", name, check=False)
