"""A LAN of network namespaces: a switch, three nodes and two clients, each with an `eth0` on the switch."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from lbipam.commands.lab import namespaces

NODES = ("n1", "n2", "n3")
CLIENTS = ("c1", "c2")
FIRST_HOST = {"n1": 1, "n2": 2, "n3": 3, "c1": 101, "c2": 102}
PROGRAMS = ("ip", "bridge", "sysctl", "arping", "ndisc6", "ping")
DEADLINE_SECONDS = 20.0

_ENVIRONMENT = {
    **namespaces.environment(),
    "PYTHONPATH": f"{Path.cwd() / 'src'}:{Path.cwd()}",
    "PYTHONWARNINGS": "error",
}
_numbers = count()


def why_no_lab() -> str | None:
    """What is missing for this lab; None when nothing is."""
    return namespaces.why_not(PROGRAMS)


def eventually(question: Callable[[], Any], what: str) -> Any:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if answer := question():
            return answer
        threading.Event().wait(0.02)
    raise AssertionError(f"not in {DEADLINE_SECONDS} s: {what}")


class Node:
    """An announcer in a node's namespace."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._told: list[dict[str, Any]] = []
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def apply(
        self,
        wanted: Mapping[str, Iterable[str]],
        *,
        handed_over: Iterable[str] = (),
        valid_for: float | None = None,
    ) -> float:
        """Announce exactly these; returns once requests are answered so, and how long that took."""
        orders = {name: list(addresses) for name, addresses in wanted.items()}
        answer = self._ask("applied", apply=orders, handed_over=list(handed_over), valid_for=valid_for)
        return float(answer["applied"])

    def announce(self, *addresses: str, handed_over: bool = True) -> float:
        """Announce exactly these on eth0; returns once requests are answered so, and how long that took."""
        return self.apply({"eth0": addresses}, handed_over=addresses if handed_over else ())

    def extend(self, seconds: float) -> None:
        self._ask("extended", extend=seconds)

    def status(self, interface: str = "eth0") -> dict[str, Any]:
        found: dict[str, Any] = self._ask("status", status=True)["status"].get(interface, {})
        return found

    def told(self, **what: str) -> list[dict[str, Any]]:
        """The events told so far that say this."""
        return [event for event in list(self._told) if what.items() <= event.items()]

    def wait_until_told(self, **what: str) -> dict[str, Any]:
        found: dict[str, Any] = eventually(lambda: self.told(**what), f"{what} among {self._told}")[0]
        return found

    @property
    def worker(self) -> int:
        """The process id of the process that answers."""
        pid = self._process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())

    def close(self) -> None:
        """End it, and see that it ends well; nothing the second time."""
        if self._process.returncode is not None:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            code = self._process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._process.wait()
            self._listener.join()
            self._process.stdout.close()
        assert code == 0

    def _ask(self, answered_by: str, **order: object) -> dict[str, Any]:
        before = len(self.answers(answered_by))
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return eventually(lambda: self.answers(answered_by)[before:], f"an answer to {answered_by}")[0]  # type: ignore[no-any-return]

    def answers(self, word: str) -> list[dict[str, Any]]:
        return [line for line in list(self._told) if word in line]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._told.append(json.loads(line))


class Lan:
    """The namespaces, for as long as `lan()` is open."""

    def __init__(self, prefix: str, undo: ExitStack) -> None:
        self._prefix = prefix
        self._undo = undo
        for name in ("sw", *FIRST_HOST):
            self.run(None, "ip", "netns", "add", self.namespace(name))
            undo.callback(self.run, None, "ip", "netns", "del", self.namespace(name))
        self.run("sw", "ip", "link", "add", "br0", "up", "type", "bridge", "mcast_snooping", "0")
        for name in FIRST_HOST:
            self.plug(name)

    def namespace(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def run(self, name: str | None, *command: str, check: bool = True) -> str:
        """Run a program in a namespace to its end; returns what it printed."""
        enter = () if name is None else ("ip", "netns", "exec", self.namespace(name))
        done = subprocess.run(
            [*enter, *command], text=True, capture_output=True, check=False, env=_ENVIRONMENT
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def plug(self, name: str) -> None:
        """Give a host an eth0, its addresses on it, and routes to the addresses of Services."""
        host = FIRST_HOST[name]
        peer = ("peer", "name", name, "netns", self.namespace("sw"))
        self.run(name, "ip", "link", "add", "eth0", "address", self.mac(name), "type", "veth", *peer)
        self.run("sw", "ip", "link", "set", name, "master", "br0", "up")
        self.run(name, "ip", "link", "set", "lo", "up")
        self.run(name, "ip", "link", "set", "eth0", "up")
        self.run(name, "ip", "addr", "add", f"192.0.2.{host}/24", "dev", "eth0")
        self.run(name, "ip", "addr", "add", f"2001:db8::{host:x}/64", "dev", "eth0", "nodad")
        self.run(name, "ip", "route", "add", "198.18.0.0/16", "dev", "eth0")

    def mac(self, name: str) -> str:
        return f"02:00:00:00:00:{FIRST_HOST[name]:02x}"

    def spawn(self, name: str, *command: str) -> subprocess.Popen[str]:
        """Run a program beside the test."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.namespace(name), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_ENVIRONMENT,
        )

    def node(self, name: str, *options: str) -> Node:
        """Start an announcer on a node."""
        node = Node(self.spawn(name, sys.executable, "-m", "tests.lab.l2.node", *options))
        self._undo.callback(node.close)
        return node

    def who_has(self, client: str, address: str) -> str:
        """Whom the client's kernel finds when it asks for an address anew: its MAC, or nothing."""
        self.run(client, "ip", "neigh", "flush", "to", address)
        self.run(client, "ping", "-c", "1", "-W", "1", address, check=False)
        return self.neighbour(client, address)

    def neighbour(self, client: str, address: str) -> str:
        """The MAC that the client has for an address in its table; nothing when it has none."""
        words = self.run(client, "ip", "neigh", "show", address).split()
        return words[words.index("lladdr") + 1] if "lladdr" in words else ""

    def ask(self, client: str, rate: int, seconds: float, addresses: Iterable[str]) -> dict[str, float]:
        """ARP requests at a rate; see `asker`."""
        asker = self.spawn(
            client, sys.executable, "-m", "tests.lab.l2.asker", str(rate), str(seconds), *addresses
        )
        out, _ = asker.communicate(timeout=seconds + DEADLINE_SECONDS)
        found: dict[str, float] = json.loads(out)
        return found


@contextmanager
def lan() -> Iterator[Lan]:
    """A LAN; everything on it ends with it."""
    with ExitStack() as undo:
        yield Lan(f"l2-{os.getpid()}-{next(_numbers)}-", undo)
