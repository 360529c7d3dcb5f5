"""A node: a speaker in a process of its own, in its namespace, and the test's line to it."""

import asyncio
import base64
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Self

from lbipam.adapters.bfd_udp import BfdThread, Neighbour
from lbipam.adapters.bgp_tcp import Speaker
from lbipam.core.bfd.packets import State as BfdState
from lbipam.core.bfd.session import Change, Status
from lbipam.core.bgp.codes import Cease
from lbipam.core.bgp.peers import PeerEvent, PeerStatus, SpeakerState
from tests.lab.bgp.namespaces import Namespace


class Node:
    """The test's side."""

    def __init__(self, place: Namespace, log: Path) -> None:
        self.place = place
        self._log = log
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as errors:
            return subprocess.Popen(
                ("ip", "netns", "exec", self.place.name, sys.executable, "-m", "tests.lab.bgp.node"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def _ask(self, verb: str, *arguments: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(base64.b64encode(pickle.dumps((verb, arguments))) + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the speaker has died: {self._log.read_text()[-2000:]}"
        return pickle.loads(base64.b64decode(line))

    def apply(self, state: SpeakerState) -> None:
        self._ask("apply", state)

    def prepare(self, state: SpeakerState) -> None:
        """Hand a state over without applying it."""
        self._ask("prepare", state)

    def apply_prepared(self) -> float:
        """Seconds that it took the process, to the last byte that the kernel takes at once."""
        found: float = self._ask("apply_prepared")
        return found

    def apply_one_more(self, prefix: str) -> float:
        """As above, for the state prepared last and one more route like its others."""
        found: float = self._ask("apply_one_more", prefix)
        return found

    @property
    def process_id(self) -> int:
        return self._process.pid

    def synced(self) -> None:
        self._ask("synced")

    def status(self) -> Mapping[str, PeerStatus]:
        found: Mapping[str, PeerStatus] = self._ask("status")
        return found

    def events(self) -> list[PeerEvent]:
        found: list[PeerEvent] = self._ask("events")
        return found

    def listen_error(self) -> str | None:
        found: str | None = self._ask("listen_error")
        return found

    def look_around(self) -> None:
        """The host has other addresses now."""
        self._ask("look_around")

    def reset(self, peer: str, cease: Cease) -> None:
        self._ask("reset", peer, cease)

    def leave(self, *, keep_routes: bool, communication: str = "") -> None:
        """End as an agent does that is told to stop."""
        self._ask("close", keep_routes, communication)
        self._process.wait(timeout=10)

    def watch(self, neighbours: Mapping[str, Neighbour]) -> None:
        """Watch by BFD; a neighbour that fails costs the BGP session of the same name."""
        self._ask("watch", neighbours)

    def watched(self) -> Mapping[str, Status]:
        found: Mapping[str, Status] = self._ask("watched")
        return found

    def changes(self) -> list[tuple[str, Change]]:
        found: list[tuple[str, Change]] = self._ask("changes")
        return found

    def be_busy(self, seconds: float) -> None:
        """Keep the event loop of the process from running."""
        self._ask("busy", seconds)

    def kill(self) -> None:
        """As if the machine ran out of memory."""
        self._process.kill()
        self._process.wait(timeout=10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def restart(self) -> None:
        self.kill()
        self._process = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class _Program:
    """The other side: takes requests line by line."""

    def __init__(self) -> None:
        self._events: list[PeerEvent] = []
        self._speaker = Speaker(self._events.append)
        self._prepared: SpeakerState | None = None
        self._changes: list[tuple[str, Change]] = []
        self._bfd = BfdThread(self._changed)

    def _changed(self, name: str, change: Change) -> None:
        self._changes.append((name, change))
        if change.state is not BfdState.UP and not change.is_on_purpose:
            self._speaker.reset(name, Cease.BFD_DOWN)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=1 << 28)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            verb, arguments = pickle.loads(base64.b64decode(line))
            answer = await self._answer(verb, arguments)
            sys.stdout.write(base64.b64encode(pickle.dumps(answer)).decode() + "\n")
            sys.stdout.flush()
            if verb == "close":
                return

    async def _answer(self, verb: str, arguments: tuple[Any, ...]) -> object:
        match verb:
            case "apply":
                self._speaker.apply(*arguments)
            case "prepare":
                (self._prepared,) = arguments
            case "apply_one_more":
                begun = time.monotonic()
                assert self._prepared is not None
                routes = self._prepared.routes
                more = {**routes, ip_network(arguments[0]): next(iter(routes.values()))}
                self._prepared = replace(self._prepared, routes=more)
                self._speaker.apply(self._prepared)
                return time.monotonic() - begun
            case "apply_prepared":
                begun = time.monotonic()
                assert self._prepared is not None
                self._speaker.apply(self._prepared)
                return time.monotonic() - begun
            case "synced":
                self._speaker.synced()
            case "look_around":
                self._speaker.look_around()
            case "reset":
                self._speaker.reset(*arguments)
            case "status":
                return dict(self._speaker.status())
            case "events":
                return list(self._events)
            case "watch":
                self._bfd.apply(*arguments)
            case "watched":
                return dict(self._bfd.status())
            case "changes":
                return list(self._changes)
            case "busy":
                until = time.monotonic() + arguments[0]
                while time.monotonic() < until:
                    pass
            case "listen_error":
                return self._speaker.listen_error
            case _:
                keep_routes, communication = arguments
                # In this order: some routers take the end of BFD for a failure as long as they hold a session.
                await self._speaker.close(keep_routes=keep_routes, communication=communication)
                await self._bfd.close()
        return None


async def _serve() -> None:
    await _Program().run()


if __name__ == "__main__":
    import structlog

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(_serve())
