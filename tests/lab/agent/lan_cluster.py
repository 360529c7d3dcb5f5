"""A cluster on a LAN: agents on three nodes that two clients can ask, and an API that is reached another way.

    c1 ──┐                   ┌── n1 (agent) ──┐
    c2 ──┴── LAN, a switch ──┼── n2 (agent) ──┼── another network ── cp (the embedded API and the controller)
                             └── n3 (agent) ──┘

So each of a node's two links can be cut alone.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from tests.lab.l2 import lan as labs
from tests.lab.l2.lan import NODES, Lan, eventually
from tests.worlds import KUBECTL

API = "198.51.100.1"
MANY = 1000
_PORT = 80


def service(name: str, address: str = "", *, at: str = "", **spec: Any) -> dict[str, Any]:
    """A Service that wants this address, answered for at this node as long as that may."""
    wishes = {"lbipam.cilium.io/ips": address, "lbipam.dev/prefer-node": at}
    annotations = {key: value for key, value in wishes.items() if value}
    ports = [{"name": "http", "port": _PORT}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {"type": "LoadBalancer", "ports": ports, "selector": {"app": name}, **spec},
    }


def endpoints(name: str, *nodes: str) -> dict[str, Any]:
    """The EndpointSlice of a Service that has a ready endpoint on each of these nodes."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": _PORT, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [f"10.244.0.{number}"], "nodeName": node, "conditions": {"ready": True}}
            for number, node in enumerate(nodes, start=1)
        ],
    }


def _manifests() -> Iterator[dict[str, Any]]:
    for name in NODES:
        yield {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
    pool = {"blocks": [{"cidr": "198.18.0.0/16"}]}
    yield {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumLoadBalancerIPPool",
        "metadata": {"name": "lan"},
        "spec": pool,
    }
    yield {
        "apiVersion": "cilium.io/v2alpha1",
        "kind": "CiliumL2AnnouncementPolicy",
        "metadata": {"name": "lan"},
        "spec": {"loadBalancerIPs": True, "interfaces": ["^eth0$"]},
    }
    for number in range(MANY):
        yield service(f"s{number}")


class Agents:
    """The LAN, its agents and their API; open with `agents`."""

    def __init__(self, lan: Lan, folder: Path, undo: ExitStack) -> None:
        self.lan = lan
        self._folder = folder
        self._kubeconfig = folder / "kubeconfig"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        undo.callback(self._end_all)
        self._wire(undo)
        self._start_api()

    def _wire(self, undo: ExitStack) -> None:
        lan, control = self.lan, self.lan.namespace("cp")
        lan.run(None, "ip", "netns", "add", control)
        undo.callback(lan.run, None, "ip", "netns", "del", control)
        lan.run("cp", "ip", "link", "set", "lo", "up")
        lan.run("cp", "ip", "link", "add", "api", "up", "type", "bridge")
        lan.run("cp", "ip", "addr", "add", f"{API}/24", "dev", "api")
        for number, name in enumerate(NODES, start=11):
            peer = ("peer", "name", name, "netns", control)
            lan.run(name, "ip", "link", "add", "api0", "type", "veth", *peer)
            lan.run(name, "ip", "link", "set", "api0", "up")
            lan.run("cp", "ip", "link", "set", name, "master", "api", "up")
            lan.run(name, "ip", "addr", "add", f"198.51.100.{number}/24", "dev", "api0")

    def _start_api(self) -> None:
        manifests = self._folder / "manifests.yaml"
        manifests.write_text("---\n".join(json.dumps(one) + "\n" for one in _manifests()))
        flags = ("--host", API, "--kubeconfig-out", str(self._kubeconfig), "-f", str(manifests))
        self._start("cp", "sandbox", *flags)
        eventually(lambda: "Ctrl-C ends it" in self.log("cp"), "the API to listen")
        for name in NODES:
            self.set_ready(name)

    def _start(self, name: str, *words: str) -> None:
        enter = ("ip", "netns", "exec", self.lan.namespace(name))
        with (self._folder / f"{name}.log").open("ab") as out:
            self._running[name] = subprocess.Popen(
                [*enter, sys.executable, "-m", "lbipam", *words],
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    def _end_all(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(timeout=6)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # --- what is done to it -----------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """Run the agents of these nodes, where they do not run."""
        for name in names:
            if name not in self._running:
                flags = ("--no-bgp", "--metrics-bind", "127.0.0.1:9100")
                self._start(name, "agent", "--node-name", name, "--kubeconfig", str(self._kubeconfig), *flags)

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> int:
        """End an agent; its exit code."""
        process = self._running.pop(name)
        process.send_signal(how)
        return process.wait(timeout=10)

    @contextmanager
    def without_beats(self, name: str, other: str) -> Iterator[None]:
        """A node that another does not hear inside of the block, nor is heard by."""
        lost = ("INPUT", "-s", f"192.0.2.{labs.FIRST_HOST[other]}", "-j", "DROP")
        self.lan.run(name, "iptables", "-A", *lost)
        try:
            yield
        finally:
            self.lan.run(name, "iptables", "-D", *lost)

    @contextmanager
    def without_link(self, name: str, to: str) -> Iterator[None]:
        """A node whose link to `sw` (the LAN) or `cp` (the API) has no carrier inside of the block."""
        self.lan.run(to, "ip", "link", "set", name, "down")
        try:
            yield
        finally:
            self.lan.run(to, "ip", "link", "set", name, "up")

    def set_ready(self, name: str) -> None:
        addresses = [{"type": "InternalIP", "address": f"192.0.2.{labs.FIRST_HOST[name]}"}]
        status = {"status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": addresses}}
        self.kubectl(
            "patch", "node", name, "--subresource", "status", "--type", "merge", "-p", json.dumps(status)
        )

    def apply(self, *manifests: dict[str, Any]) -> None:
        path = self._folder / "apply.yaml"
        path.write_text(yaml.safe_dump_all(manifests))
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))

    def kubectl(self, *words: str) -> str:
        return self.lan.run("cp", str(KUBECTL), "--kubeconfig", str(self._kubeconfig), *words)

    def lbipam(self, *words: str, check: bool = True) -> str:
        """What a command of ours prints."""
        kubeconfig = ("--kubeconfig", str(self._kubeconfig))
        return self.lan.run("cp", sys.executable, "-m", "lbipam", *words, *kubeconfig, check=check)

    # --- what can be seen of it -------------------------------------------------------------------------

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def objects(self, *words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", *words, "-o", "json"))["items"]
        return found

    def addresses(self) -> list[str]:
        """Those that Services have."""
        entries = (one["status"]["loadBalancer"].get("ingress", []) for one in self.objects("services"))
        return [entry["ip"] for ingress in entries for entry in ingress]

    def holder(self, address: str) -> str:
        """The node that a client finds at an address; empty if it finds none."""
        names = {self.lan.mac(name): name for name in NODES}
        return names.get(self.lan.who_has("c1", address), "")

    def reports(self) -> dict[str, dict[str, Any]]:
        """What `get announcements` tells, by address."""
        told = json.loads(self.lbipam("get", "announcements", "-o", "json", check=False))
        return {one["address"]: one for one in told["announcements"]}

    def metrics(self, name: str) -> str:
        return self.lan.run(name, "curl", "-s", "http://127.0.0.1:9100/metrics")

    def number(self, name: str, metric: str) -> float:
        """A number that the agent of a node shows; 0 for one that it does not show yet."""
        found = re.search(rf"^lbipam_l2_{re.escape(metric)} (\S+)$", self.metrics(name), re.MULTILINE)
        return float(found[1]) if found is not None else 0.0

    def guardian(self, name: str) -> str:
        """The node that watches over another, as its Lease tells; empty if none does."""
        for lease in self.objects("leases", "-n", "kube-system"):
            if lease["metadata"]["name"] == f"lbipam-l2-{name}":
                told = lease["metadata"].get("annotations", {}).get("lbipam.dev/l2", "{}")
                return str(json.loads(told).get("guardian", ""))
        return ""

    def renewals(self, name: str) -> float:
        """How often a node has renewed its Lease."""
        return self.number(name, 'lease_renewals_total{result="accepted"}')

    @contextmanager
    def watched(self, address: str) -> Iterator["Watch"]:
        """Ask for an address all the time inside of the block, and see who answers each question."""
        words = (sys.executable, "-m", "tests.lab.agent.witness", address)
        process = self.lan.spawn("c2", *words)
        watch = Watch({self.lan.mac(name): name for name in NODES})
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "answered\n"
            yield watch
            out, _ = process.communicate(timeout=labs.DEADLINE_SECONDS)
            watch.learn(json.loads(out))
        finally:
            process.kill()
            process.wait()


class Watch:
    """Who answered each of many questions for one address; known once the block has ended."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names
        self.answers: list[tuple[float, list[str]]] = []
        """When each was asked, and by whom it was answered."""

    def learn(self, answers: Iterable[tuple[float, list[str]]]) -> None:
        self.answers = [(at, [self._names.get(mac, mac) for mac in macs]) for at, macs in answers]

    @property
    def order(self) -> list[str]:
        """Who answered, one after the other."""
        order: list[str] = []
        for _, names in self.answers:
            order += (name for name in names if order[-1:] != [name])
        return order

    @property
    def silence(self) -> float:
        """The longest time without an answer, in seconds."""
        heard = [at for at, names in self.answers if names]
        return max((later - earlier for earlier, later in pairwise(heard)), default=0.0)

    @property
    def doubles(self) -> list[tuple[float, list[str]]]:
        """The questions that two answered."""
        return [(at, names) for at, names in self.answers if len(names) > 1]


@contextmanager
def agents(folder: Path) -> Iterator[Agents]:
    """A LAN with 1,000 Services, and an agent on each node; all ends with it."""
    with labs.lan() as lan, ExitStack() as undo:
        made = Agents(lan, folder, undo)
        made.start(*NODES)
        yield made
