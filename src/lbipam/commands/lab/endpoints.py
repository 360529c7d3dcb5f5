"""Which pods are ready? Stands in for the kubelets and the EndpointSlice controller of the lab.

    python -m lbipam.commands.lab.endpoints KUBECONFIG PORT POD=NODE=ADDRESS…

Every pod is asked for a connection about twice a second, as a readiness probe does. The pods that answer are
written to an EndpointSlice of each Service that selects them. This file knows IPv4 only, and pods with one
port.
"""

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from lbipam.adapters.kube_client import ApiError, Client, UnreachableError
from lbipam.adapters.kube_config import connect
from lbipam.commands.served import served_slice_kind
from lbipam.kube import forms
from lbipam.kube.kinds import Kind

_EVERY_SECONDS = 0.5
_GIVE_UP_SECONDS = 0.5
LABELS = {"app": "demo"}
"""Those of all pods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod of the lab."""

    name: str
    node: str
    address: str

    def __str__(self) -> str:
        return f"{self.name}={self.node}={self.address}"


async def is_ready(pod: Pod, port: int) -> bool:
    """Does it take a connection?"""
    try:
        async with asyncio.timeout(_GIVE_UP_SECONDS):
            _, writer = await asyncio.open_connection(pod.address, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def endpoint_slice(
    service: Mapping[str, Any], ready: Sequence[Pod], port: int, kind: Kind = forms.ENDPOINT_SLICE
) -> dict[str, Any]:
    """The EndpointSlice that tells of these pods, in the version that the server has."""
    metadata = service["metadata"]
    names = [one.get("name", "") for one in service["spec"]["ports"]]
    return {
        "apiVersion": kind.api_version,
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{metadata['name']}-1",
            "namespace": metadata["namespace"],
            "labels": {"kubernetes.io/service-name": metadata["name"]},
        },
        "addressType": "IPv4",
        "ports": [{"name": name, "port": port, "protocol": "TCP"} for name in names],
        "endpoints": [
            {
                "addresses": [pod.address],
                **_place(pod, kind),
                "targetRef": {"kind": "Pod", "namespace": metadata["namespace"], "name": pod.name},
                "conditions": {"ready": True},
            }
            for pod in ready
        ],
    }


def _place(pod: Pod, kind: Kind) -> dict[str, Any]:
    """Where an endpoint is: older versions tell it among the labels of its node."""
    if kind is forms.ENDPOINT_SLICE:
        return {"nodeName": pod.node}
    return {"topology": {"kubernetes.io/hostname": pod.node}}


async def tell(
    client: Client, kind: Kind, written: dict[str, dict[str, Any]], ready: Sequence[Pod], port: int
) -> None:
    """Write the slices that are not yet so; `written` holds those that are, by path."""
    found = msgspec.json.decode(await client.request("GET", forms.SERVICE.path()))
    for service in found["items"]:
        if service["spec"].get("selector") != LABELS:
            continue
        wanted = endpoint_slice(service, ready, port, kind)
        path = kind.path(wanted["metadata"]["namespace"], wanted["metadata"]["name"])
        if written.get(path) == wanted:
            continue
        await client.request(
            "PATCH",
            path,
            params={"fieldManager": "lbipam-lab", "force": "true"},
            body=msgspec.json.encode(wanted),
            content_type="application/apply-patch+yaml",
        )
        written[path] = wanted


async def run(kubeconfig: str, port: int, pods: Sequence[Pod]) -> None:
    """Probe and tell, for ever."""
    written: dict[str, dict[str, Any]] = {}
    async with Client(await connect(kubeconfig)) as client:
        kind = await served_slice_kind(client)
        while True:
            answers = await asyncio.gather(*(is_ready(pod, port) for pod in pods))
            ready = [pod for pod, answers_now in zip(pods, answers, strict=True) if answers_now]
            try:
                await tell(client, kind, written, ready, port)
            except (ApiError, UnreachableError) as problem:
                print(f"endpoints not written: {problem}", file=sys.stderr, flush=True)
            await asyncio.sleep(_EVERY_SECONDS)


def _pod(text: str) -> Pod:
    name, node, address = text.split("=")
    return Pod(name=name, node=node, address=address)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), [_pod(one) for one in sys.argv[3:]]))
