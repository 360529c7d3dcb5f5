"""Which lab does this machine hold?

One at most, found by the names of its namespaces and one folder: whoever built it may have crashed. This file
builds nothing inside a lab.
"""

import fcntl
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from lbipam.commands.lab import namespaces, router
from lbipam.commands.lab.namespaces import PREFIX, LabError
from lbipam.commands.lab.topology import HOSTS, PROGRAMS, Lab

FOLDER = Path("/run/lbipam-lab")
_LOCK = Path("/run/lbipam-lab.lock")


class NotPossibleError(LabError):
    """This machine, or this user, cannot have a lab."""


@contextmanager
def alone() -> Iterator[None]:
    """Be the only command that builds or removes a lab meanwhile; SIGTERM and SIGHUP end the block
    as Ctrl-C does.

    Raises:
        NotPossibleError: there can be no lab here.
        LabError: another command is at it.
    """
    reason = namespaces.why_not(PROGRAMS)
    if reason is not None:
        raise NotPossibleError(reason)
    with _LOCK.open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError("another lbipam lab is at work on this machine") from None
        before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def new_lab(*, real_api: bool = False) -> Lab:
    """A lab to enter, once nothing of a former one is left.

    Raises:
        LabError: there is no real API server to be had.
    """
    built = Lab(FOLDER, PREFIX, real_api=real_api)
    FOLDER.mkdir()
    return built


def remove() -> list[str]:
    """Remove all that there is of a lab, running or left behind; the names of its namespaces."""
    names = namespaces.existing(PREFIX)
    namespaces.remove(names)
    shutil.rmtree(router.folder_of(f"{PREFIX}r"), ignore_errors=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    return names


def running() -> dict[str, list[str]]:
    """The command lines of what runs on each host of the lab that is up.

    Raises:
        NotPossibleError: only root can know.
        LabError: no whole lab is up.
    """
    reason = namespaces.why_not(("ip",))
    if reason is not None:
        raise NotPossibleError(reason)
    if set(namespaces.existing(PREFIX)) != {PREFIX + host for host in HOSTS}:
        raise LabError("no lab is up: begin one with `lbipam lab up`")
    return {host: [_command(one) for one in namespaces.processes(PREFIX + host)] for host in HOSTS}


def _command(process: int) -> str:
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except FileNotFoundError:
        return "(has ended)"
    return " ".join(words).strip()


def execute(host: str, words: Sequence[str]) -> int:
    """Run a command on a host in the user's terminal, with kubectl's way to the API; its exit code."""
    environment = {**namespaces.environment(), "KUBECONFIG": str(FOLDER / "kubeconfig")}
    command = ("ip", "netns", "exec", PREFIX + host, *words)
    return subprocess.run(command, check=False, env=environment).returncode  # noqa: S603
