"""Whole clusters to test commands on: the embedded API and the real one, reached as users reach them.

A test that takes the `world` fixture runs on both. Each test has a namespace of its own and finds no pool.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

PATIENCE = 60.0
_SHOWN = 4000
"""How much of a log is shown."""

LBIPAM = Path(sys.executable).parent / "lbipam"
KUBECTL = Path(sys.executable).parent / "kubectl"
"""The newest kubectl, from PyPI."""


def eventually(check: Callable[[], Any], *, seconds: float = PATIENCE) -> Any:
    """Ask until the answer is true; the answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{check} did not come true within {seconds} s"
        time.sleep(0.05)


class Process:
    """A running `lbipam` command, or another program that takes its arguments."""

    def __init__(
        self, arguments: Sequence[str], *, log: Path, program: Sequence[str | Path] = (LBIPAM,)
    ) -> None:
        self.log = log
        self._file: IO[bytes] = log.open("wb")
        self.popen = subprocess.Popen(
            [*program, *arguments], stdout=self._file, stderr=self._file, env={**os.environ, "COLUMNS": "200"}
        )

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def says(self, pattern: str, *, seconds: float = PATIENCE) -> re.Match[str]:
        """Wait until it has printed something."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.output())
            assert found or self.popen.poll() is None, f"it ended: {self.output()}"
            return found

        found: re.Match[str] = eventually(look, seconds=seconds)
        return found

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.popen.kill()
        self.popen.wait()
        self._file.close()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; its exit code. It must end within five seconds."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            return self.popen.wait(timeout=5)
        finally:
            self.popen.kill()
            self._file.close()


@dataclass
class World:
    """A cluster and how to reach it."""

    name: str
    kubeconfig: Path
    folder: Path
    namespace: str = "default"
    processes: list[Process] = field(default_factory=list)

    def run(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run an `lbipam` command to its end."""
        return subprocess.run(
            [LBIPAM, *arguments, "--kubeconfig", str(self.kubeconfig)],
            capture_output=True,
            text=True,
            check=check,
            timeout=60,
        )

    def start(self, *arguments: str) -> Process:
        """Start an `lbipam` process; it ends with the test."""
        log = self.folder / f"{self.name}-{len(self.processes)}.log"
        process = Process([*arguments, "--kubeconfig", str(self.kubeconfig)], log=log)
        self.processes.append(process)
        return process

    def controller(self, *arguments: str) -> Process:
        """Start a controller; without election unless the arguments say otherwise."""
        elect = () if "--leader-elect" in arguments else ("--no-leader-elect",)
        return self.start("controller", *elect, *arguments)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl to its end, in the test's namespace; what it printed."""
        done = subprocess.run(
            [KUBECTL, "--kubeconfig", self.kubeconfig, "--namespace", self.namespace, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "KUBECACHEDIR": str(self.folder / "kube-cache")},
        )
        assert done.returncode == 0, f"kubectl {arguments}: {done.stderr}"
        return done.stdout

    def apply(self, manifests: str) -> None:
        self.kubectl("apply", "--validate=false", "-f", "-", stdin=manifests)

    def get(self, what: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", what, name, "-o", "json"))
        return found

    def addresses(self, name: str) -> list[str]:
        """What the status of a Service shows."""
        ingress = self.get("service", name)["status"]["loadBalancer"].get("ingress", [])
        return [entry["ip"] for entry in ingress]

    def condition(self, name: str) -> tuple[str, str, str]:
        """Status, reason and message of a Service's condition; empty if it has none."""
        for one in self.get("service", name)["status"].get("conditions", []):
            if one["type"] == "cilium.io/IPAMRequestSatisfied":
                return one["status"], one["reason"], one["message"]
        return "", "", ""

    @contextlib.contextmanager
    def clean(self) -> Iterator["World"]:
        """A namespace of its own, and nothing left behind."""
        self.namespace = f"test-{time.time_ns():x}"
        self.kubectl("create", "namespace", self.namespace)
        try:
            yield self
        finally:
            for process in self.processes:
                process.stop()
                # Shown with a test that fails, and else not.
                print(f"--- {process.log.name} ends:\n{process.output()[-_SHOWN:]}")
            self.processes.clear()
            self.kubectl("delete", "services", "--all", "--wait=false")
            self.kubectl("delete", "ippools,ipres", "--all", "--wait=false")


def pool(name: str, cidr: str, *, color: str = "", annotations: dict[str, str] | None = None) -> str:
    """A pool in the old form, as JSON, which is YAML."""
    spec: dict[str, Any] = {"cidrs": [{"cidr": cidr}]}
    if color:
        spec["serviceSelector"] = {"matchLabels": {"color": color}}
    metadata = {"name": name, "annotations": annotations or {}}
    return _document("cilium.io/v2alpha1", "CiliumLoadBalancerIPPool", metadata, spec)


def service(name: str, *, color: str = "", annotations: dict[str, str] | None = None, **spec: Any) -> str:
    """A Service of type LoadBalancer as JSON, which is YAML."""
    metadata = {
        "name": name,
        "labels": {"color": color} if color else {},
        "annotations": annotations or {},
    }
    wish = {"type": "LoadBalancer", "ports": [{"port": 8080, "targetPort": 80}], **spec}
    return _document("v1", "Service", metadata, wish)


def _document(version: str, kind: str, metadata: dict[str, Any], spec: dict[str, Any]) -> str:
    return (
        "---\n" + json.dumps({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}) + "\n"
    )
