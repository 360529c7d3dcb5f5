"""The lab's cluster, with what tests ask of it besides."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lbipam.commands.lab import namespaces, topology
from lbipam.commands.lab.endpoints import endpoint_slice
from lbipam.commands.lab.topology import Lab, manifests
from tests.worlds import KUBECTL


def _of_kind(kind: str) -> dict[str, Any]:
    return next(one for one in manifests() if one["kind"] == kind)


def endpoints(*workers: int) -> dict[str, Any]:
    """The EndpointSlice of `app`, with the pods of these workers."""
    app = service()
    app["metadata"]["namespace"] = "default"
    ready = [topology.PODS[number - 1] for number in workers]
    return endpoint_slice(app, ready, topology.POD_PORT)


def service(**spec: Any) -> dict[str, Any]:
    """The Service of the walk-through, with parts of its wish changed."""
    made = _of_kind("Service")
    made["spec"] |= spec
    return made


class Cluster(Lab):
    """A lab in which kubectl and the router's shell can be asked, and agents ended."""

    def stop_agent(self, number: int, how: signal.Signals = signal.SIGTERM) -> int:
        """End the agent of a worker; its exit code."""
        process = self.processes.pop(f"worker-{number}")
        process.send_signal(how)
        return process.wait(timeout=6)

    def kubectl(self, *words: str) -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", self.places["cp"].name, KUBECTL, "--kubeconfig", self.kubeconfig, *words],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "KUBECACHEDIR": str(self.kubeconfig.parent / "kube-cache")},
        )
        assert done.returncode == 0, f"kubectl {words}: {done.stderr}"
        return done.stdout

    def objects(self, *words: str) -> Any:
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def session_is_up(self, address: str) -> bool:
        told = json.loads(self.router.vty(f"show bgp neighbors {address} json"))
        return bool(told[address]["bgpState"] == "Established")

    def communities(self) -> str:
        """All that the router knows of the route, as text."""
        return self.router.vty("show bgp ipv4 unicast 30.0.10.0/32")


@contextmanager
def running_cluster(folder: Path, *flags: str) -> Iterator[Cluster]:
    """A cluster whose agents run with these flags."""
    reason = namespaces.why_not((*topology.PROGRAMS, "arping"))
    if reason is not None:
        pytest.skip(reason)
    with Cluster(folder, f"lba{os.getpid()}-") as cluster:
        cluster.start_control_plane()
        cluster.apply(endpoints(1, 2))
        for number in (1, 2):
            cluster.start_agent(number, *flags)
        yield cluster
