"""P8: how fast is the embedded API, and how much memory does a Service take in it?

It runs as its own process, as `lbipam sandbox` serves it; wrk loads it with eight connections.
"""

import asyncio
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from bench import processes
from bench.figures import Figure
from lbipam.adapters import kube_config
from lbipam.adapters.kube_client import Client

_SERVICES = "/api/v1/namespaces/default/services"

_CREATE = """
local n = {first}
request = function()
  n = n + 1
  local body = string.format([[{{"metadata":{{"name":"s%06d"}},"spec":
    {{"type":"LoadBalancer","ports":[{{"port":80}}],"allocateLoadBalancerNodePorts":false}}}}]], n)
  return wrk.format("POST", "{path}", {headers}, body)
end
"""

_PATCH = """
local n = 0
request = function()
  n = n + 1
  local name = string.format("s%06d", 2 + n % 500)
  local body = string.format([[{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"%s"}},
    "status":{{"loadBalancer":{{"ingress":[{{"ip":"10.0.%d.%d"}}]}}}}}}]], name, math.floor(n / 250) % 250, n % 250)
  return wrk.format("PATCH", "{path}/" .. name .. "/status?fieldManager=wrk&force=true", {headers}, body)
end
"""


def _wrk(url: str, script: str, file: Path, seconds: int) -> tuple[float, int]:
    """Requests a second, and how many there were."""
    file.write_text(script)
    words = ["wrk", "-t1", "-c8", f"-d{seconds}s", "-s", str(file), url]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in told, told
    total = int(told.split(" requests in ")[0].split()[-1])
    return float(told.split("Requests/sec:")[1].split()[0]), total


def _headers(token: str, content_type: str) -> str:
    return f'{{["Authorization"]="Bearer {token}", ["Content-Type"]="{content_type}"}}'


async def _measure(folder: Path, target: int) -> list[Figure]:
    kubeconfig = folder / "kubeconfig"
    with processes.sandbox(kubeconfig) as sandbox:
        connection = await kube_config.connect(str(kubeconfig))
        token = await connection.token(False) or ""
        async with Client(connection) as client:
            before = processes.rss_mb(sandbox.pid)
            cpu = processes.cpu_seconds(sandbox.pid)
            created, rates = 0, list[float]()
            while created < target:
                script = _CREATE.format(
                    first=created + 100 * len(rates),
                    path=_SERVICES,
                    headers=_headers(token, "application/json"),
                )
                rate, count = await asyncio.to_thread(_wrk, connection.url, script, folder / "create.lua", 2)
                rates.append(rate)
                created += count
            per_service = (processes.rss_mb(sandbox.pid) - before) * 1024 / created
            cpu = (processes.cpu_seconds(sandbox.pid) - cpu) / created
            script = _PATCH.format(path=_SERVICES, headers=_headers(token, "application/apply-patch+yaml"))
            patches, _ = await asyncio.to_thread(_wrk, connection.url, script, folder / "patch.lua", 3)
            began = time.monotonic()
            body = await client.request("GET", _SERVICES)
            seconds = time.monotonic() - began
            seconds *= 50_000 / len(json.loads(body)["items"])
    there = f"{created:,} Services"
    return [
        Figure(
            name="P8 creates",
            value=statistics.median(rates),
            unit="/s",
            at_least=3_000,
            beside=f"{there}; {cpu * 1e6:,.0f} µs of CPU each",
        ),
        Figure(name="P8 status patches", value=patches, unit="/s", at_least=1_500),
        Figure(name="P8 list of 50,000", value=seconds, unit="s", at_most=3, beside=f"from {there}"),
        Figure(name="P8 memory", value=per_service, unit="KB per Service", at_most=15),
    ]


def measure(*, quick: bool) -> list[Figure]:
    """All figures, on an embedded API of their own."""
    with tempfile.TemporaryDirectory(prefix="lbipam-bench-") as folder:
        return asyncio.run(_measure(Path(folder), 2_000 if quick else 50_000))
