"""What does a whole agent cost?

It runs as in its Pod: it finds the API server, an embedded one, by its service account, serves metrics and health,
and has BGP and L2 switched on. All are in one namespace, and the router is in another.
"""

import asyncio
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self, TypeAlias

import msgspec
import yaml

from bench import processes
from lbipam.adapters import kube_config
from lbipam.adapters.kube_client import Client

NODE = "n1"
FIRST_VIP = ip_address("10.0.0.0")

_BGP = "/apis/cilium.io/v2"
_ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount"
# The namespace of mounts belongs to this one process and those that it becomes.
_IN_A_POD = f"""
mount -t tmpfs none /run && mkdir -p {_ACCOUNT} && cp -r "$1"/. {_ACCOUNT} && shift && exec "$@"
"""

Objects: TypeAlias = Sequence[tuple[str, dict[str, Any]]]
"""Each with the path of its kind."""


def _service(number: int) -> dict[str, Any]:
    name = f"web-{number}"
    return {
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": name}},
        "spec": {
            "type": "LoadBalancer",
            "allocateLoadBalancerNodePorts": False,
            "selector": {"app.kubernetes.io/name": name},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        },
        "status": {
            "loadBalancer": {"ingress": [{"ip": str(FIRST_VIP + number)}]},
            "conditions": [
                {
                    "type": "cilium.io/IPAMRequestSatisfied",
                    "status": "True",
                    "reason": "satisfied",
                    "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ],
        },
    }


def configuration(peers: Sequence[tuple[str, str]], asn: int, peer_asn: int) -> Objects:
    """Whom the node is to speak with, and what about.

    Args:
        peers: Their ends and ours.
        asn: Ours.
        peer_asn: Theirs.
    """
    everything = {"matchExpressions": [{"key": "never", "operator": "NotIn", "values": ["used"]}]}
    family = {"afi": "ipv4", "safi": "unicast", "advertisements": {"matchLabels": {"advertise": "bgp"}}}
    advertised = {
        "advertisementType": "Service",
        "service": {"addresses": ["LoadBalancerIP"]},
        "selector": everything,
    }
    written = [
        {
            "name": there,
            "peerASN": peer_asn,
            "peerAddress": there,
            "localAddress": here,
            "peerConfigRef": {"name": "router"},
        }
        for there, here in peers
    ]
    instance = {"name": "main", "localASN": asn, "routerID": peers[0][1], "peers": written}
    return [
        ("/api/v1/nodes", {"metadata": {"name": NODE}}),
        (
            f"{_BGP}/ciliumbgppeerconfigs",
            {
                "metadata": {"name": "router"},
                "spec": {"timers": {"connectRetryTimeSeconds": 1}, "families": [family]},
            },
        ),
        (
            f"{_BGP}/ciliumbgpadvertisements",
            {
                "metadata": {"name": "services", "labels": {"advertise": "bgp"}},
                "spec": {"advertisements": [advertised]},
            },
        ),
        (
            f"{_BGP}/ciliumbgpnodeconfigs",
            {"metadata": {"name": NODE}, "spec": {"bgpInstances": [instance]}},
        ),
    ]


def services(count: int) -> Objects:
    """Services with addresses, as the API has them."""
    return [("/api/v1/namespaces/default/services", _service(number)) for number in range(count)]


class Cluster:
    """The embedded API in a namespace; a context manager."""

    def __init__(self, namespace: str, folder: Path) -> None:
        self._namespace = namespace
        self._kubeconfig = folder / "kubeconfig"
        self._account = folder / "account"
        self._log = folder / "agent.log"
        self._stack = ExitStack()
        self._port = ""

    def __enter__(self) -> Self:
        self._stack.enter_context(processes.sandbox(self._kubeconfig, inside=self._namespace))
        config = yaml.safe_load(self._kubeconfig.read_text(encoding="utf-8"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._port = cluster["server"].rpartition(":")[2]
        self._account.mkdir()
        (self._account / "ca.crt").write_bytes(b64decode(cluster["certificate-authority-data"]))
        (self._account / "token").write_text(user["token"], encoding="utf-8")
        (self._account / "namespace").write_text("kube-system", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def kubeconfig(self) -> str:
        """The file that tells how to reach the API from inside the namespace."""
        return str(self._kubeconfig)

    def fill(self, objects: Objects) -> None:
        """Create objects, with their statuses."""
        words = ["ip", "netns", "exec", self._namespace, sys.executable, "-m", "bench.bgp_agent"]
        subprocess.run([*words, str(self._kubeconfig)], input=msgspec.json.encode(objects), check=True)

    @contextmanager
    def agent(self, *flags: str) -> Iterator["subprocess.Popen[bytes]"]:
        """An agent while the block runs."""
        before = ["ip", "netns", "exec", self._namespace, "sh", "-c", _IN_A_POD, "sh", str(self._account)]
        with processes.running(
            ["agent", "--node-name", NODE, "--metrics-bind", "127.0.0.1:9968", *flags],
            self._log,
            before=before,
            HOME="/nonexistent",
            KUBERNETES_SERVICE_HOST="127.0.0.1",
            KUBERNETES_SERVICE_PORT=self._port,
        ) as process:
            yield process


async def _create(kubeconfig: str, objects: Objects) -> None:
    waiting = iter(objects)

    async def work(client: Client) -> None:
        for path, body in waiting:
            await client.request("POST", path, body=msgspec.json.encode(body))
            if "status" in body:
                await client.request(
                    "PATCH",
                    f"{path}/{body['metadata']['name']}/status",
                    body=msgspec.json.encode({"status": body["status"]}),
                    content_type="application/merge-patch+json",
                )

    async with Client(await kube_config.connect(kubeconfig)) as client:
        await asyncio.gather(*(work(client) for _ in range(8)))


if __name__ == "__main__":
    asyncio.run(_create(sys.argv[1], msgspec.json.decode(sys.stdin.buffer.read())))
