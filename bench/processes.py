"""What does another process cost: CPU, memory, pauses?

Read from /proc, to the nanosecond where the kernel tells it.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

_QUIET_SECONDS = 3
"""After which a process that does nothing is thought to have nothing to do."""


@contextmanager
def running(
    arguments: Sequence[str], log: Path, *, before: Sequence[str] = (), **environment: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """An `lbipam` command as a process of its own; it ends with the block.

    Args:
        arguments: Of the command.
        log: Where it says what it says.
        before: A command that turns into the one that it is given as arguments.
        environment: Variables besides our own.
    """
    # As where it is installed: modules are compiled once, not at each start.
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with log.open("wb") as file:
        words = [*before, sys.executable, "-m", "lbipam", *arguments]
        process = subprocess.Popen(words, stdout=file, stderr=file, env=ours | environment)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=10)


@contextmanager
def sandbox(kubeconfig: Path, *, inside: str | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """The embedded API, without a controller; it serves when this begins, in a network namespace if one is named."""
    log = kubeconfig.with_suffix(".log")
    words = ["sandbox", "--no-controller", "--kubeconfig-out", str(kubeconfig)]
    before = ["ip", "netns", "exec", inside] if inside is not None else ()
    with running(words, log, before=before) as process:
        while "Ctrl-C" not in log.read_text():
            _must_run(process)
            time.sleep(0.05)
        yield process


@contextmanager
def apart(servers: Sequence[int]) -> Iterator[None]:
    """Servers have half of the cores to themselves; ourselves, and what we start within the block, the others.

    Args:
        servers: Their process IDs. With a single core all share it.
    """
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    everybody = (*servers, os.getpid())
    for pid in everybody:
        _confine(pid, cores[:half] or cores if pid in servers else cores[half:])
    try:
        yield
    finally:
        for pid in everybody:
            _confine(pid, cores)


def _confine(pid: int, cores: Sequence[int]) -> None:
    """Threads of a process run on these cores, and so do those that they start."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        # One that has ended meanwhile runs nowhere.
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


def frozen(pids: Sequence[int]) -> AbstractContextManager[None]:
    """Processes do nothing within the block."""
    return _told(pids, signal.SIGSTOP, signal.SIGCONT)


def thawed(pids: Sequence[int]) -> AbstractContextManager[None]:
    """Frozen processes go on within the block."""
    return _told(pids, signal.SIGCONT, signal.SIGSTOP)


@contextmanager
def _told(pids: Sequence[int], at_first: int, in_the_end: int) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, at_first)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, in_the_end)


def cpu_seconds(pid: int) -> float:
    """The CPU that all threads of a process have taken."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def rss_mb(pid: int, *, peak: bool = False) -> float:
    """The memory that a process holds now, or has held at most, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:" if peak else "VmRSS:")[1].split()[0]) / 1024


async def settled(process: "subprocess.Popen[bytes]") -> float:
    """Wait until a process has nothing more to do; the CPU that it has taken until then."""
    quiet, last = 0, cpu_seconds(process.pid)
    while quiet < _QUIET_SECONDS:
        await asyncio.sleep(1)
        _must_run(process)
        now = cpu_seconds(process.pid)
        quiet, last = (quiet + 1, last) if now - last < 0.03 else (0, now)
    return last


async def cost(process: "subprocess.Popen[bytes]", work: Awaitable[object]) -> float:
    """The CPU that a process takes because of something done to it, beyond what it takes anyway."""
    idle, began = cpu_seconds(process.pid), time.monotonic()
    await asyncio.sleep(2)
    before, acted = cpu_seconds(process.pid), time.monotonic()
    rate = (before - idle) / (acted - began)
    await work
    last, now = before, float("inf")
    while now - last > 0.5 * rate + 0.005:
        last = cpu_seconds(process.pid)
        await asyncio.sleep(0.5)
        _must_run(process)
        now = cpu_seconds(process.pid)
    # A status of a pool is told up to a second later; that belongs to the cost, too.
    await asyncio.sleep(1.5)
    return cpu_seconds(process.pid) - before - rate * (time.monotonic() - acted)


def _must_run(process: "subprocess.Popen[bytes]") -> None:
    assert process.poll() is None, f"{process.args!r} has ended with {process.returncode}"


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
