"""The router upstream: FRR, in a namespace.

This file does not know what is announced to it.
"""

import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from lbipam.commands.lab.namespaces import Namespace, run, until

_FRR = "/usr/lib/frr"


def folder_of(place: str) -> Path:
    """Where the router in a namespace keeps its sockets; everybody may enter it."""
    return Path("/run") / place


def ask(place: str, command: str) -> str:
    """What the shell of the router in a namespace answers."""
    return run("vtysh", "--vty_socket", str(folder_of(place)), "-c", command)


class Frr:
    """zebra, bgpd and bfdd of one router; a context manager."""

    def __init__(self, place: Namespace, config: str) -> None:
        self._folder = folder_of(place.name)
        self._place = place
        self._config = f"frr defaults datacenter\nbgp route-map delay-timer 0\n{config}\n"
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._folder.mkdir(mode=0o755)
        # The daemons give up root for a user of their own.
        shutil.chown(self._folder, "frr", "frr")
        for name, text in (("empty", "frr defaults datacenter\n"), ("bgpd", self._config)):
            (self._folder / f"{name}.conf").write_text(text, encoding="utf-8")
        try:
            self._start("zebra", "empty", until_there="zserv")
            self._start("bfdd", "empty", "--bfdctl", str(self._folder / "bfdd.sock"), until_there="bfdd.vty")
            self._start("bgpd", "bgpd", until_there="bgpd.vty")
        except BaseException:
            self._end()
            raise
        return self

    def _start(self, daemon: str, config: str, *flags: str, until_there: str) -> None:
        folder = self._folder
        words = [f"{_FRR}/{daemon}", "-z", str(folder / "zserv"), "--vty_socket", str(folder)]
        words += ["-i", str(folder / f"{daemon}.pid"), "-f", str(folder / f"{config}.conf"), "-P", "0"]
        self._running.append(self._place.spawn(*words, *flags, log=folder / f"{daemon}.log"))
        until((folder / until_there).exists, f"{daemon} is up")

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for process in reversed(self._running):
            process.kill()
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def vty(self, command: str) -> str:
        """What the router's shell answers."""
        return ask(self._place.name, command)
