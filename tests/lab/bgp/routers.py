"""Real routers, each in a namespace: FRR, BIRD and GoBGP."""

import json
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.lab.bgp.namespaces import Namespace, run, until

FRR = "/usr/lib/frr"


class _Router:
    """Programs of one router; ended in all cases."""

    def __init__(self, place: Namespace, folder: Path) -> None:
        self.place = place
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._running: list[subprocess.Popen[bytes]] = []

    def _spawn(self, *words: str) -> subprocess.Popen[bytes]:
        process = self.place.spawn(*words, log=self.folder / f"{Path(words[0]).name}.log")
        self._running.append(process)
        return process

    @property
    def process_id(self) -> int:
        """Of the program started last."""
        return self._running[-1].pid

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End all programs."""
        for process in reversed(self._running):
            with suppress(ProcessLookupError):
                process.send_signal(number)
        for process in self._running:
            process.wait(timeout=10)
        self._running.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Frr(_Router):
    """FRR: zebra, bgpd and, where asked, bfdd."""

    def __init__(self, place: Namespace, config: str, *, port: int = 179, bfd: bool = False) -> None:
        # The daemons give up root for a user of their own, who cannot enter pytest's folders.
        super().__init__(place, Path(tempfile.mkdtemp(prefix="lbipam-frr-")))
        shutil.copymode("/", self.folder)
        shutil.chown(self.folder, "frr", "frr")
        self._config = config
        self._port = port
        self._bfd = bfd
        self.start()

    def start(self) -> None:
        folder = self.folder
        empty, config = folder / "empty.conf", folder / "bgpd.conf"
        empty.write_text("frr defaults datacenter\nlog file /dev/null\n")
        config.write_text(f"frr defaults datacenter\nbgp route-map delay-timer 0\n{self._config}\n")
        common = ("-z", str(folder / "zserv"), "--vty_socket", str(folder))
        self._spawn(f"{FRR}/zebra", *common, "-i", str(folder / "zebra.pid"), "-f", str(empty), "-P", "0")
        until((folder / "zserv").exists, "zebra is up")
        if self._bfd:
            control = ("--bfdctl", str(folder / "bfdd.sock"))
            self._spawn(
                f"{FRR}/bfdd", *common, *control, "-i", str(folder / "bfdd.pid"), "-f", str(empty), "-P", "0"
            )
            until((folder / "bfdd.vty").exists, "bfdd is up")
        self._spawn(
            f"{FRR}/bgpd",
            *common,
            "-i",
            str(folder / "bgpd.pid"),
            "-f",
            str(config),
            "-P",
            "0",
            "-p",
            str(self._port),
        )
        until((folder / "bgpd.vty").exists, "bgpd is up")

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        super().kill(number)
        for name in ("zserv", "bgpd.vty", "zebra.vty", "bfdd.vty"):
            (self.folder / name).unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        shutil.rmtree(self.folder)

    def vty(self, *commands: str) -> str:
        words = [word for command in commands for word in ("-c", command)]
        return run("vtysh", "--vty_socket", str(self.folder), *words)

    def show(self, command: str) -> Any:
        text = self.vty(f"show {command} json")
        return json.loads(text) if text.strip() else {}

    def neighbour(self, address: str) -> dict[str, Any]:
        found: dict[str, Any] = self.show(f"bgp neighbors {address}").get(address, {})
        return found

    def is_up(self, address: str) -> bool:
        return bool(self.neighbour(address).get("bgpState") == "Established")

    def accepted(self, address: str, family: str = "ipv4Unicast") -> int:
        """Prefixes that bgpd has from a neighbour."""
        families = self.neighbour(address).get("addressFamilyInfo", {})
        return int(families.get(family, {}).get("acceptedPrefixCounter", 0))

    def route(self, prefix: str) -> dict[str, Any]:
        """The first path of a prefix."""
        family = "ipv6" if ":" in prefix else "ipv4"
        paths = self.show(f"bgp {family} unicast {prefix}").get("paths", [])
        return dict(paths[0]) if paths else {}


class Bird(_Router):
    """BIRD 2."""

    def __init__(self, place: Namespace, folder: Path, config: str) -> None:
        super().__init__(place, folder)
        self._config = config
        self.start()

    def start(self) -> None:
        config = self.folder / "bird.conf"
        config.write_text(f"log stderr all;\nprotocol device {{}}\n{self._config}\n")
        self._spawn(
            "/usr/sbin/bird",
            "-f",
            "-c",
            str(config),
            "-s",
            str(self.folder / "ctl"),
            "-P",
            str(self.folder / "pid"),
        )
        until((self.folder / "ctl").exists, "BIRD is up")

    def ask(self, command: str) -> str:
        return run("/usr/sbin/birdc", "-s", str(self.folder / "ctl"), command, check=False)

    def is_up(self, protocol: str) -> bool:
        return "Established" in self.ask(f"show protocols all {protocol}")

    def count(self, table: str = "master4") -> int:
        words = self.ask(f"show route count table {table}").split()
        return int(words[words.index("of") + 1]) if "of" in words else 0


class Gobgp(_Router):
    """GoBGP; its control port is on the namespace's loopback."""

    def __init__(self, place: Namespace, folder: Path, config: str) -> None:
        super().__init__(place, folder)
        self._config = config
        self.start()

    def start(self) -> None:
        config = self.folder / "gobgpd.toml"
        config.write_text(self._config)
        self._spawn("/usr/bin/gobgpd", "-t", "toml", "-f", str(config), "--api-hosts", "127.0.0.1:50051")

    def ask(self, *words: str) -> Any:
        text = self.place("gobgp", "-j", *words, check=False)
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return None

    def is_up(self, address: str) -> bool:
        found = self.ask("neighbor", address)
        state = (found or {}).get("state", {})
        return str(state.get("session_state", state.get("session-state", ""))) in (
            "6",
            "established",
            "ESTABLISHED",
        )

    def routes(self, family: str) -> dict[str, Any]:
        found = self.ask("global", "rib", "-a", family)
        return dict(found) if isinstance(found, dict) else {}
