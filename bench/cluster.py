"""P2 and P4: what does the controller reach on a real API server, beside what the server itself can do?

The controller runs as its own process, as users run it, and the limit is measured in the same run: the same
server-side applies, sent by wrk.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lbipam.adapters import kube_config
from lbipam.adapters.kube_client import Client
from lbipam.kube.crds import catalog
from tests.real_api import RealApi

_SERVICES = "/api/v1/namespaces/default/services"
_POOLS = "/apis/cilium.io/v2/ciliumloadbalancerippools"


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured, and what it is to be held against."""

    name: str
    value: float
    unit: str
    beside: str = ""


def _pool(name: str, cidr: str) -> bytes:
    body = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumLoadBalancerIPPool",
        "metadata": {"name": name},
        "spec": {"blocks": [{"cidr": cidr}]},
    }
    return json.dumps(body).encode()


def _service(number: int) -> bytes:
    spec = {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False, "ports": [{"port": 80}]}
    return json.dumps({"metadata": {"name": f"s{number:05}"}, "spec": spec}).encode()


async def _create(client: Client, count: int) -> float:
    """Create Services; how many a second."""
    began = time.monotonic()
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await client.request("POST", _SERVICES, body=_service(number))

    await asyncio.gather(*(work() for _ in range(8)))
    return count / (time.monotonic() - began)


async def _addressed(client: Client) -> int:
    """How many Services have an address."""
    count, params = 0, {"limit": "5000"}
    while True:
        page = json.loads(await client.request("GET", _SERVICES, params=params))
        count += sum(1 for one in page["items"] if one["status"]["loadBalancer"].get("ingress"))
        if not page["metadata"].get("continue"):
            return count
        params["continue"] = page["metadata"]["continue"]


@contextmanager
def _controller(api: RealApi, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    log = (folder / "controller.log").open("wb")
    words = [sys.executable, "-m", "lbipam", "controller", "--no-leader-elect", "--log-level", "error"]
    # As where it is installed: modules are compiled once, not at each start.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        [*words, "--kubeconfig", str(api.kubeconfig)], stdout=log, stderr=log, env=environment
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=10)
        log.close()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _settled(pid: int) -> float:
    """Wait until a process has nothing more to do; the CPU that it has taken."""
    quiet, last = 0, -1.0
    while quiet < 3:
        await asyncio.sleep(1)
        now = _cpu_seconds(pid)
        quiet, last = (quiet + 1, now) if now - last < 0.05 else (0, now)
    return last


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _ceiling(api: RealApi, count: int, folder: Path) -> float:
    """Server-side applies of a Service's status a second, by wrk with eight connections."""
    condition = {
        "type": "cilium.io/IPAMRequestSatisfied",
        "status": "True",
        "reason": "satisfied",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    script = folder / "apply.lua"
    script.write_text(
        f"""
local n, round = 0, 0
request = function()
  local i = n % {count}
  if i == 0 then round = round + 1 end
  n = n + 1
  local name = string.format("s%05d", i)
  local body = string.format([[{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"%s"}},"status":
    {{"loadBalancer":{{"ingress":[{{"ip":"10.%d.%d.%d"}}]}},"conditions":[{json.dumps(condition)}]}}}}]],
    name, round % 250, math.floor(i / 250) % 250, i % 250)
  return wrk.format("PATCH", "{_SERVICES}/" .. name .. "/status?fieldManager=wrk&force=true",
    {{["Authorization"]="Bearer {api.token}", ["Content-Type"]="application/apply-patch+yaml"}}, body)
end
"""
    )
    words = ["wrk", "-t1", "-c8", "-d8s", "-s", str(script), api.url]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout.split("Requests/sec:")[1].split()[0])


async def _measure(api: RealApi, count: int, folder: Path) -> list[Figure]:
    figures: list[Figure] = []
    async with Client(await kube_config.connect(str(api.kubeconfig))) as client:
        for definition in catalog.all_crds()[:2]:
            path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            await client.request("POST", path, body=json.dumps(definition).encode())
        rate = await _create(client, count)
        figures.append(Figure("Services created by the bench", rate, "/s"))
        with _controller(api, folder) as controller:
            cpu = await _settled(controller.pid)
            began = time.monotonic()
            await client.request("POST", _POOLS, body=_pool("p", "10.0.0.0/15"))
            while await _addressed(client) < count:
                await asyncio.sleep(0.5)
            seconds = time.monotonic() - began
            spent = _cpu_seconds(controller.pid) - cpu
        limit = await asyncio.to_thread(_ceiling, api, count, folder)
        beside = f"{100 * count / seconds / limit:.0f} % of the server's own {limit:.0f}/s"
        figures.append(Figure("P2 addresses given", count / seconds, "/s", beside))
        figures.append(Figure("P2 CPU of the controller", spent / count * 1e6, "µs per Service"))
        figures += await _restart(api, client, folder)
    return figures


async def _restart(api: RealApi, client: Client, folder: Path) -> list[Figure]:
    """P4: start with Services that have their addresses."""
    before = await _version(client)
    with _controller(api, folder) as controller:
        cpu, peak = await _settled(controller.pid), _peak_mb(controller.pid)
    written = await _version(client) - before
    return [
        Figure("P4 CPU until settled", cpu, "s"),
        Figure("P4 peak RSS", peak, "MB"),
        Figure("P4 newest version moved by", written, "", "0: no Service was written"),
    ]


async def _version(client: Client) -> int:
    """The newest version of any Service."""
    newest, params = 0, {"limit": "5000"}
    while True:
        page = json.loads(await client.request("GET", _SERVICES, params=params))
        newest = max(newest, *(int(one["metadata"]["resourceVersion"]) for one in page["items"]))
        if not page["metadata"].get("continue"):
            return newest
        params["continue"] = page["metadata"]["continue"]


def measure(*, quick: bool) -> list[Figure]:
    """All figures, on a server of their own."""
    count: int = 1_000 if quick else 10_000
    flags: dict[str, Any] = {
        "service_cidrs": "10.128.0.0/15,fd00:96::/108",
        "feature_gates": "IPv6DualStack=true,ServiceLBNodePortControl=true",
        "etcd_flags": ["--quota-backend-bytes=8000000000"],
    }
    with RealApi(**flags) as api, tempfile.TemporaryDirectory(prefix="lbipam-bench-") as folder:
        return asyncio.run(_measure(api, count, Path(folder)))
