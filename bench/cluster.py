"""An API server to measure on, real or embedded: filling it, watching it, running the controller beside it.

The controller runs as its own process, as users run it. What is measured is said elsewhere.
"""

import asyncio
import json
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from lbipam.adapters import kube_config
from lbipam.adapters.kube_client import Client
from lbipam.adapters.kube_reflector import Reflector
from lbipam.controllers.ports import Deleted, Event, Upserted
from lbipam.kube import forms, ipam
from lbipam.kube.crds import catalog
from tests import real_apply
from tests.real_api import RealApi

SERVICES = "/api/v1/namespaces/default/services"
POOLS = "/apis/cilium.io/v2/ciliumloadbalancerippools"
APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"

CONDITION = {
    "type": "cilium.io/IPAMRequestSatisfied",
    "status": "True",
    "reason": "satisfied",
    "message": "",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}

_STALLED_SECONDS = 60.0


class Watcher:
    """What a watch of all Services and pools has shown so far."""

    def __init__(self) -> None:
        self.addressed: dict[str, float] = {}
        """By name of a Service that has an address, when it was first seen."""
        self.seen: dict[str, float] = {}
        """By name of a Service, when it was last seen."""
        self.has_pool = False
        self.service_events = 0
        self.pool_events = 0

    def deliver(self, event: Event) -> None:
        if isinstance(event, Upserted | Deleted) and event.kind is not forms.SERVICE:
            self.pool_events += 1
            self.has_pool = isinstance(event, Upserted)
        elif isinstance(event, Deleted):
            self.service_events += 1
            self.addressed.pop(event.key.name, None)
        elif isinstance(event, Upserted):
            self.service_events += 1
            self._service(event.object)  # type: ignore[arg-type]

    def _service(self, service: forms.Service) -> None:
        name, now = service.metadata.name, time.monotonic()
        self.seen[name] = now
        if service.status.load_balancer.ingress:
            self.addressed.setdefault(name, now)
        else:
            self.addressed.pop(name, None)


@dataclass(frozen=True, slots=True)
class Cluster:
    """An API server, a client of it, a watch of its Services and pools, and room for files."""

    kubeconfig: Path
    connection: kube_config.Connection
    client: Client
    watcher: Watcher
    folder: Path
    servers: Sequence[int]
    """The processes that make up the API server."""

    @contextmanager
    def controller(self, *more: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A controller, as users run it, but for the election."""
        words = ["controller", "--no-leader-elect", "--log-level", "error", *more]
        log = self.folder / "controller.log"
        with processes.running([*words, "--kubeconfig", str(self.kubeconfig)], log) as process:
            yield process

    async def create(self, names: Iterable[str], label: str) -> None:
        """Create Services that only a pool for the same label serves."""
        await _eight_at_a_time(
            self.client.request("POST", SERVICES, body=_service(name, label)) for name in names
        )

    async def remove(self, names: Iterable[str]) -> None:
        """Delete Services."""
        await _eight_at_a_time(self.delete(f"{SERVICES}/{name}") for name in names)

    async def delete(self, path: str) -> None:
        await self.client.request("DELETE", path)

    async def create_pool(self, name: str, cidr: str, label: str) -> None:
        await self.client.request("POST", POOLS, body=_pool(name, cidr, label))

    async def edit(self, path: str, change: Mapping[str, object]) -> None:
        await self.client.request("PATCH", path, body=json.dumps(change).encode(), content_type=_MERGE)

    async def apply_status(self, name: str, address: str) -> None:
        """What the controller writes for a Service that gets an address, by another hand."""
        status = {"loadBalancer": {"ingress": [{"ip": address}]}, "conditions": [CONDITION]}
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "status": status}
        await self.client.request(
            "PATCH",
            f"{SERVICES}/{name}/status",
            params={"fieldManager": "bench", "force": "true"},
            body=json.dumps(body).encode(),
            content_type=APPLY,
        )

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait while events come; a bench that nothing moves any more ends with what the controller said."""
        events, since = -1, 0.0
        while not reached():
            if events != self.watcher.service_events:
                events, since = self.watcher.service_events, time.monotonic()
            if time.monotonic() - since > _STALLED_SECONDS:
                log = self.folder / "controller.log"
                raise AssertionError(
                    f"nothing moves any more; the controller said:\n{log.read_text()[-4000:]}"
                )
            await asyncio.sleep(0.02)


async def _eight_at_a_time(work: Iterable[Awaitable[object]]) -> None:
    left = iter(work)

    async def some() -> None:
        for one in left:
            await one

    await asyncio.gather(*(some() for _ in range(8)))


def _pool(name: str, cidr: str, label: str) -> bytes:
    spec = {"blocks": [{"cidr": cidr}], "serviceSelector": {"matchLabels": {"bench": label}}}
    body = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumLoadBalancerIPPool",
        "metadata": {"name": name},
        "spec": spec,
    }
    return json.dumps(body).encode()


def _service(name: str, label: str) -> bytes:
    spec = {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False, "ports": [{"port": 80}]}
    return json.dumps({"metadata": {"name": name, "labels": {"bench": label}}, "spec": spec}).encode()


@asynccontextmanager
async def real() -> AsyncIterator[Cluster]:
    """A real API server, roomy enough for very many Services, that knows our kinds."""
    with (
        RealApi(
            service_cidrs="10.128.0.0/14,fd00:96::/108",
            feature_gates="IPv6DualStack=true,ServiceLBNodePortControl=true",
            etcd_flags=["--quota-backend-bytes=8000000000"],
        ) as api,
        tempfile.TemporaryDirectory(prefix="lbipam-bench-") as folder,
    ):
        real_apply.define(api, catalog.all_crds()[:2])
        async with _watched(api.kubeconfig, Path(folder), api.pids) as found:
            yield found


@asynccontextmanager
async def embedded() -> AsyncIterator[Cluster]:
    """The embedded API in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="lbipam-bench-") as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        with processes.sandbox(kubeconfig) as server:
            async with _watched(kubeconfig, Path(folder), [server.pid]) as found:
                yield found


@asynccontextmanager
async def _watched(kubeconfig: Path, folder: Path, servers: Sequence[int]) -> AsyncIterator[Cluster]:
    connection = await kube_config.connect(str(kubeconfig))
    async with Client(connection) as client:
        watcher = Watcher()
        watches = [
            asyncio.create_task(Reflector(client, kind, watcher.deliver).run())
            for kind in (forms.SERVICE, ipam.IP_POOL)
        ]
        try:
            yield Cluster(kubeconfig, connection, client, watcher, folder, servers)
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
