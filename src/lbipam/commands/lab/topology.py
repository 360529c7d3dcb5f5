"""A cluster of namespaces: a control plane, two workers with a pod each, a router, and a client outside.

    client ── router ──┬── control plane (the embedded API and the controller)
                       ├── worker-1 (agent) ── pod-1
                       └── worker-2 (agent) ── pod-2

Everything in it is real but the machines. This file tells no story; it builds and takes down.
"""

import base64
import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from lbipam.adapters.kube_client import FIELD_MANAGER
from lbipam.commands.lab import real_api as real_api_server
from lbipam.commands.lab.endpoints import Pod
from lbipam.commands.lab.namespaces import LabError, Namespace, until, wire
from lbipam.commands.lab.router import Frr
from lbipam.kube.crds import catalog

ROUTER, CONTROL_PLANE = "198.18.0.1", "198.18.0.10"
WORKERS = ("198.18.0.11", "198.18.0.12")
CLIENT = "198.18.9.2"
ROUTER_ASN, NODE_ASN = 64512, 64513
PROGRAMS = ("ip", "nft", "zebra", "bgpd", "bfdd", "vtysh", "curl")

HOSTS = ("lan", "r", "cp", "worker-1", "worker-2", "pod-1", "pod-2", "client")
PODS = (
    Pod(name="pod-1", node="worker-1", address="10.244.1.2"),
    Pod(name="pod-2", node="worker-2", address="10.244.2.2"),
)
POD_PORT = 80

_ROUTER = f"""
router bgp {ROUTER_ASN}
 bgp router-id {ROUTER}
 no bgp ebgp-requires-policy
 bgp bestpath as-path multipath-relax
 timers bgp 3 9
 neighbor {WORKERS[0]} remote-as {NODE_ASN}
 neighbor {WORKERS[1]} remote-as {NODE_ASN}
 neighbor {WORKERS[0]} timers connect 1
 neighbor {WORKERS[1]} timers connect 1
 neighbor {WORKERS[0]} bfd 3 100 100
 neighbor {WORKERS[1]} bfd 3 100 100
 address-family ipv4 unicast
  maximum-paths 4
 exit-address-family
"""


def manifests() -> list[dict[str, Any]]:
    """What the lab's cluster is told."""
    text = resources.files("lbipam.commands.lab").joinpath("manifests.yaml").read_text(encoding="utf-8")
    return [document for document in yaml.safe_load_all(text) if document]


class Lab:
    """Everything, running; a context manager."""

    def __init__(self, folder: Path, prefix: str, *, real_api: bool = False) -> None:
        """`real_api`: the control plane is etcd and kube-apiserver, not the embedded API."""
        self._binaries = real_api_server.binaries() if real_api else None
        self.kubeconfig = folder / "kubeconfig"
        self.places: dict[str, Namespace] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.router: Frr
        self._folder = folder
        self._prefix = prefix
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            for role in HOSTS:
                self.places[role] = self._stack.enter_context(Namespace(f"{self._prefix}{role}"))
            self._stack.callback(self._end_all)
            self._wire()
            self.router = self._stack.enter_context(Frr(self.places["r"], _ROUTER))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def let_be(self) -> None:
        """Leave everything running when this process ends."""
        self._stack.pop_all()

    def _wire(self) -> None:
        lan = self.places["lan"]
        lan("ip", "link", "add", "bridge", "type", "bridge")
        lan("ip", "link", "set", "bridge", "up")
        addresses = {"r": ROUTER, "cp": CONTROL_PLANE, "worker-1": WORKERS[0], "worker-2": WORKERS[1]}
        for role, address in addresses.items():
            wire(self.places[role], "eth0", lan, f"to-{role}")
            lan("ip", "link", "set", f"to-{role}", "master", "bridge")
            self.places[role].address("eth0", f"{address}/24")
        wire(self.places["r"], "eth1", self.places["client"], "eth0")
        self.places["r"].address("eth1", "198.18.9.1/24")
        self.places["client"].address("eth0", f"{CLIENT}/24")
        for number in (1, 2):
            self._wire_pod(number)
        for role in ("worker-1", "worker-2", "cp"):
            self.places[role]("ip", "route", "add", "default", "via", ROUTER)
        self.places["client"]("ip", "route", "add", "default", "via", "198.18.9.1")
        for role in ("r", "worker-1", "worker-2"):
            self.places[role]("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0")
        self.places["r"]("sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1")

    def _wire_pod(self, number: int) -> None:
        worker, pod, other = self.places[f"worker-{number}"], self.places[f"pod-{number}"], 3 - number
        wire(worker, "pods", pod, "eth0")
        worker.address("pods", f"10.244.{number}.1/24")
        pod.address("eth0", f"10.244.{number}.2/24")
        pod("ip", "route", "add", "default", "via", f"10.244.{number}.1")
        worker("ip", "route", "add", f"10.244.{other}.0/24", "via", WORKERS[other - 1])
        self.places["cp"]("ip", "route", "add", f"10.244.{number}.0/24", "via", WORKERS[number - 1])
        names = (f"pod-{number}", f"worker-{number}")
        self._spawn(names[0], sys.executable, "-m", "lbipam.commands.lab.pods", *names, str(POD_PORT))

    def _spawn(self, role: str, *words: str, place: str = "") -> None:
        log = self._folder / f"{role}.log"
        self.processes[role] = self.places[place or role].spawn(*words, log=log)

    def _end_all(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(timeout=6)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # --- the cluster -----------------------------------------------------------------------------------

    def start_control_plane(self) -> None:
        """Serve the API, run the controller, and tell the cluster what it should be."""
        if self._binaries is not None:
            self._start_real_api(self._binaries)
        else:
            flags = ("--host", CONTROL_PLANE, "--kubeconfig-out", str(self.kubeconfig))
            self._spawn("cp", sys.executable, "-m", "lbipam", "sandbox", *flags)
            until(lambda: "Ctrl-C ends it" in self.log("cp"), "the API listens")
        for manifest in manifests():
            self.apply(manifest)
        for number, address in enumerate(WORKERS, start=1):
            ready = {"type": "Ready", "status": "True"}
            addresses = [{"type": "InternalIP", "address": address}]
            status = {"addresses": addresses, "conditions": [ready]}
            self.patch(f"/api/v1/nodes/worker-{number}/status", {"status": status})

    def _start_real_api(self, binaries: Path) -> None:
        folder = self._folder
        real_api_server.write_files(folder, CONTROL_PLANE, self.kubeconfig)
        self._spawn("etcd", str(binaries / "etcd"), *real_api_server.etcd_flags(folder), place="cp")
        flags = real_api_server.server_flags(folder, CONTROL_PLANE)
        self._spawn("kube-apiserver", str(binaries / "kube-apiserver"), *flags, place="cp")
        until(lambda: self._answers("/api/v1/namespaces/default"), "the API server is ready", 60)
        for crd in map(catalog.without_rules, catalog.all_crds()):
            self._request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd, "json")
            spec = crd["spec"]
            version = next(one["name"] for one in spec["versions"] if one["served"])
            path = f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"
            until(partial(self._answers, path), f"{spec['names']['kind']} is known")
        words = ("controller", "--no-leader-elect", "--kubeconfig", str(self.kubeconfig))
        self._spawn("cp", sys.executable, "-m", "lbipam", *words)

    def _answers(self, path: str) -> bool:
        try:
            self.get(path)
        except (LabError, ValueError):
            return False
        return True

    def start_endpoints(self) -> None:
        """Have the Service's endpoints follow the pods that answer."""
        words = ("-m", "lbipam.commands.lab.endpoints", str(self.kubeconfig), str(POD_PORT), *map(str, PODS))
        self._spawn("endpoints", sys.executable, *words, place="cp")

    def start_agent(self, number: int, *flags: str) -> None:
        """Run the agent of a worker."""
        words = ["agent", "--node-name", f"worker-{number}", "--kubeconfig", str(self.kubeconfig), *flags]
        self._spawn(f"worker-{number}", sys.executable, "-m", "lbipam", *words)

    def log(self, role: str) -> str:
        """What a host's program has printed."""
        return (self._folder / f"{role}.log").read_text(encoding="utf-8", errors="replace")

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """Server-side apply of one object."""
        plurals = {
            "CiliumBGPAdvertisement": "ciliumbgpadvertisements",
            "CiliumL2AnnouncementPolicy": "ciliuml2announcementpolicies",
        }
        version, kind = manifest["apiVersion"], manifest["kind"]
        plural = plurals.get(kind, kind.lower() + "s")
        namespaced = kind in ("Service", "EndpointSlice")
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        path += "/namespaces/default" if namespaced else ""
        query = f"?fieldManager={FIELD_MANAGER}-lab&force=true"
        self._request(
            "PATCH", f"{path}/{plural}/{manifest['metadata']['name']}{query}", manifest, "apply-patch+yaml"
        )

    def patch(self, path: str, body: Mapping[str, Any]) -> None:
        """Merge patch of one object."""
        self._request("PATCH", path, body, "merge-patch+json")

    def get(self, path: str) -> Any:
        """What the API tells of an object or a collection."""
        return json.loads(self._request("GET", path))

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, content_type: str = ""
    ) -> str:
        config = yaml.safe_load(self.kubeconfig.read_text(encoding="utf-8"))
        cluster, token = config["clusters"][0]["cluster"], config["users"][0]["user"]["token"]
        authority = self._folder / "ca.crt"
        if not authority.exists():
            authority.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
        words = ["curl", "-s", "--cacert", str(authority), "--fail-with-body", "-X", method]
        words += ["-H", f"Authorization: Bearer {token}"]
        if body is not None:
            words += ["-H", f"Content-Type: application/{content_type}", "-d", json.dumps(body)]
        return self.places["cp"](*words, cluster["server"] + path)

    # --- what can be seen ------------------------------------------------------------------------------

    def address(self) -> str:
        """The address that the Service has; empty if it has none."""
        service = self.get("/api/v1/namespaces/default/services/app")
        ingress = service["status"]["loadBalancer"].get("ingress", [])
        return str(ingress[0]["ip"]) if ingress else ""

    def next_hops(self, prefix: str = "30.0.10.0/32") -> set[str]:
        """Where the router sends packets for a prefix."""
        found = json.loads(self.places["r"]("ip", "-j", "route", "show", prefix) or "[]")
        hops = (hop for route in found for hop in (route.get("nexthops") or [route]))
        return {hop["gateway"] for hop in hops if "gateway" in hop}

    def ask(self, role: str, *, seconds: float = 2.0) -> str:
        """Ask for the Service from somewhere; what the pod said, nothing if none did in time."""
        url = "http://30.0.10.0:8080/"
        return self.places[role]("curl", "-s", "--max-time", str(seconds), url, check=False)
