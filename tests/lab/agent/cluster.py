"""A cluster of namespaces: a control plane, two workers with a pod each, a router, and a client outside.

client ── router ──┬── control plane (the embedded API and the controller)
                   ├── worker-1 ── pod-1
                   └── worker-2 ── pod-2
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.lab.bgp.namespaces import Namespace, need, until, wire
from tests.lab.bgp.routers import Frr
from tests.worlds import KUBECTL, LBIPAM

ROUTER, CONTROL_PLANE = "198.18.0.1", "198.18.0.10"
WORKERS = ("198.18.0.11", "198.18.0.12")
CLIENT = "198.18.9.2"

_POD = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{sys.argv[1]} sees {self.client_address[0]}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 80), Answer).serve_forever()
"""

_ROUTER = f"""
router bgp 64512
 bgp router-id {ROUTER}
 no bgp ebgp-requires-policy
 bgp bestpath as-path multipath-relax
 timers bgp 3 9
 neighbor {WORKERS[0]} remote-as 64513
 neighbor {WORKERS[1]} remote-as 64513
 neighbor {WORKERS[0]} timers connect 1
 neighbor {WORKERS[1]} timers connect 1
 address-family ipv4 unicast
  maximum-paths 4
 exit-address-family
"""


def _manifest(version: str, kind: str, name: str, spec: Any = None, **more: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name} | more.pop("metadata", {})
    body = {"apiVersion": version, "kind": kind, "metadata": metadata}
    return body | ({"spec": spec} if spec is not None else {}) | more


def _node(number: int) -> dict[str, Any]:
    pods = f"10.244.{number}.0/24"
    spec = {"podCIDR": pods, "podCIDRs": [pods]}
    return _manifest("v1", "Node", f"worker-{number}", spec)


def endpoints(*workers: int) -> dict[str, Any]:
    """The EndpointSlice of `app`, with the pods of these workers."""
    return _manifest(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "app-1",
        metadata={"labels": {"kubernetes.io/service-name": "app"}},
        addressType="IPv4",
        ports=[{"name": "http", "port": 80, "protocol": "TCP"}],
        endpoints=[
            {
                "addresses": [f"10.244.{number}.2"],
                "nodeName": f"worker-{number}",
                "conditions": {"ready": True},
            }
            for number in workers
        ],
    )


def service(**spec: Any) -> dict[str, Any]:
    """The Service of the walk-through."""
    wish = {"type": "LoadBalancer", "ports": [{"name": "http", "port": 8080, "targetPort": 80}], **spec}
    return _manifest("v1", "Service", "app", wish, metadata={"labels": {"color": "red"}})


def manifests() -> list[dict[str, Any]]:
    """Nodes, the pools of the walk-through in their old form, and who speaks BGP with whom."""
    old = "cilium.io/v2alpha1"
    everything = {"matchExpressions": [{"key": "never", "operator": "NotIn", "values": ["used"]}]}
    return [
        _node(1),
        _node(2),
        _manifest(
            old,
            "CiliumLoadBalancerIPPool",
            "red-pool",
            {
                "cidrs": [{"cidr": "30.0.10.0/24"}],
                "serviceSelector": {"matchLabels": {"color": "red"}},
            },
        ),
        _manifest(
            "cilium.io/v2",
            "CiliumBGPClusterConfig",
            "rack",
            {
                "bgpInstances": [
                    {
                        "name": "main",
                        "localASN": 64513,
                        "peers": [
                            {
                                "name": "router",
                                "peerASN": 64512,
                                "peerAddress": ROUTER,
                                "peerConfigRef": {"name": "router"},
                            }
                        ],
                    }
                ]
            },
        ),
        _manifest(
            "cilium.io/v2",
            "CiliumBGPPeerConfig",
            "router",
            {
                "timers": {"connectRetryTimeSeconds": 1, "holdTimeSeconds": 9, "keepAliveTimeSeconds": 3},
                "gracefulRestart": {"enabled": True, "restartTimeSeconds": 30},
                "families": [
                    {
                        "afi": "ipv4",
                        "safi": "unicast",
                        "advertisements": {"matchLabels": {"advertise": "bgp"}},
                    }
                ],
            },
        ),
        _manifest(
            "cilium.io/v2",
            "CiliumBGPAdvertisement",
            "services",
            {
                "advertisements": [
                    {
                        "advertisementType": "Service",
                        "service": {"addresses": ["LoadBalancerIP"]},
                        "selector": everything,
                    }
                ]
            },
            metadata={"labels": {"advertise": "bgp"}},
        ),
        service(),
        endpoints(1, 2),
    ]


class Cluster:
    """Everything, running."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = stack
        self.places = {
            role: stack.enter_context(Namespace(role))
            for role in ("lan", "r", "cp", "worker-1", "worker-2", "pod-1", "pod-2", "client")
        }
        stack.callback(self._end_all)
        self._wire()
        self.router = stack.enter_context(Frr(self.places["r"], _ROUTER))

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
            worker, pod = self.places[f"worker-{number}"], self.places[f"pod-{number}"]
            wire(worker, "pods", pod, "eth0")
            worker.address("pods", f"10.244.{number}.1/24")
            pod.address("eth0", f"10.244.{number}.2/24")
            pod("ip", "route", "add", "default", "via", f"10.244.{number}.1")
            other = 3 - number
            worker("ip", "route", "add", f"10.244.{other}.0/24", "via", WORKERS[other - 1])
            self._spawn(f"pod-{number}", sys.executable, "-c", _POD, f"pod-{number}")
        for role in ("worker-1", "worker-2", "cp"):
            self.places[role]("ip", "route", "add", "default", "via", ROUTER)
        self.places["client"]("ip", "route", "add", "default", "via", "198.18.9.1")
        for role in ("r", "worker-1", "worker-2"):
            self.places[role]("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0")
        self.places["r"]("sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1")

    def _spawn(self, role: str, *words: str) -> None:
        process = self.places[role].spawn(*words, log=self.folder / f"{role}.log")
        self.processes[role] = process

    def _end_all(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(timeout=6)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def start_control_plane(self) -> None:
        self._spawn(
            "cp", str(LBIPAM), "sandbox", "--host", CONTROL_PLANE, "--kubeconfig-out", str(self.kubeconfig)
        )
        until(lambda: "Ctrl-C ends it" in self.log("cp"), "the API listens")
        self.apply(*manifests())
        for number, address in enumerate(WORKERS, start=1):
            ready = {"type": "Ready", "status": "True"}
            addresses = [{"type": "InternalIP", "address": address}]
            status = {"status": {"addresses": addresses, "conditions": [ready]}}
            patch = ["patch", "node", f"worker-{number}", "--subresource=status", "--type=merge"]
            self.kubectl(*patch, "-p", json.dumps(status))

    def start_agent(self, number: int, *flags: str) -> None:
        arguments = ["agent", "--node-name", f"worker-{number}", "--kubeconfig", str(self.kubeconfig), *flags]
        self._spawn(f"worker-{number}", str(LBIPAM), *arguments)

    def stop_agent(self, number: int, how: signal.Signals = signal.SIGTERM) -> int:
        process = self.processes.pop(f"worker-{number}")
        process.send_signal(how)
        return process.wait(timeout=6)

    def log(self, role: str) -> str:
        return (self.folder / f"{role}.log").read_text(errors="replace")

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", self.places["cp"].name, KUBECTL, "--kubeconfig", self.kubeconfig, *words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "KUBECACHEDIR": str(self.folder / "kube-cache")},
        )
        assert done.returncode == 0, f"kubectl {words}: {done.stderr}"
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        documents = "\n---\n".join(json.dumps(one) for one in objects)
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=documents)

    def get(self, *words: str) -> Any:
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def address(self) -> str:
        ingress = self.get("service", "app")["status"]["loadBalancer"].get("ingress", [])
        return str(ingress[0]["ip"]) if ingress else ""

    def next_hops(self, prefix: str = "30.0.10.0/32") -> set[str]:
        """Where the router sends packets for a prefix."""
        routes = self.places["r"]("ip", "-j", "route", "show", prefix)
        found = json.loads(routes or "[]")
        return {
            hop["gateway"]
            for route in found
            for hop in (route.get("nexthops") or [route])
            if "gateway" in hop
        }

    def ask(self, role: str, url: str = "http://30.0.10.0:8080/") -> str:
        """Ask for the Service from somewhere; what the pod said."""
        return self.places[role]("curl", "-s", "--max-time", "2", url, check=False)


@contextmanager
def running_cluster(folder: Path, *flags: str) -> Iterator[Cluster]:
    """A cluster whose agents run with these flags."""
    need("ip", "nft", "zebra", "bgpd", "vtysh", "curl")
    assert shutil.which("curl")
    with ExitStack() as stack:
        cluster = Cluster(folder, stack)
        cluster.start_control_plane()
        for number in (1, 2):
            cluster.start_agent(number, *flags)
        yield cluster
