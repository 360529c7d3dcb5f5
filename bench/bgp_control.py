"""How many routes has the router, and how is it asked without disturbing what is measured?

FRR and BIRD are spoken with over sockets that stay open. A process for each question, as vtysh and birdc are, would
take more of the CPU than the routes do, and a question would last longer than they need.
"""

import json
import re
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bench import processes
from tests.lab.bgp.namespaces import until
from tests.lab.bgp.routers import Frr

_LENGTH = 1 << 16
_IDLE_SECONDS = 0.3
_IDLE_CPU_SECONDS = 0.002


class _Line:
    """A connection to a control socket; a context manager."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._socket.close()


class Bgpd(_Line):
    """The bgpd of an FRR, as vtysh speaks with it: a question ends with NUL, an answer with three and a result."""

    def __init__(self, router: Frr) -> None:
        super().__init__(router.folder / "bgpd.vty")
        self._process_id = router.process_id
        self._ask("enable")

    @property
    def cpu_seconds(self) -> float:
        """What it has taken so far."""
        return processes.cpu_seconds(self._process_id)

    def paths(self) -> int:
        """Prefixes from all neighbours together, told in a tenth of the time that `received` takes."""
        found = re.search(r"^(\d+) BGP routes,", self._ask("show bgp memory"), re.MULTILINE)
        assert found
        return int(found[1])

    def received(self) -> list[int]:
        """Prefixes from each neighbour."""
        text = self._ask("show bgp ipv4 unicast summary json")
        return [int(one.get("pfxRcd", 0)) for one in json.loads(text).get("peers", {}).values()]

    def settle(self) -> None:
        """Wait until no routes are left of what was before, nor work because of them."""
        until(lambda: not any(self.received()), "the router has forgotten")
        until(self._is_idle, "the router has nothing more to do")

    def _is_idle(self) -> bool:
        before = self.cpu_seconds
        time.sleep(_IDLE_SECONDS)
        return self.cpu_seconds - before < _IDLE_CPU_SECONDS

    def _ask(self, command: str) -> str:
        self._socket.sendall(command.encode() + b"\0")
        answer = bytearray()
        while answer[-4:-1] != b"\0\0\0":
            data = self._socket.recv(_LENGTH)
            assert data, "bgpd has ended"
            answer += data
        return answer[:-4].decode()


class Birdc(_Line):
    """A BIRD, as birdc speaks with it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "ctl")
        assert self._socket.recv(_LENGTH).startswith(b"0001 ")

    def tell(self, command: str) -> None:
        """A command; returns when BIRD has it, not when it is done."""
        self._socket.sendall(command.encode() + b"\n")
