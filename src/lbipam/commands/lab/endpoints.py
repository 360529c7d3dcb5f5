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
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_US = "lbipam-lab"


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
            "labels": {"kubernetes.io/service-name": metadata["name"], _MANAGED_BY: _US},
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


async def tell(client: Client, kind: Kind, ready: Sequence[Pod], port: int) -> None:
    """Let there be a slice for each Service of these pods, and no other of ours."""
    services = await _list(client, forms.SERVICE)
    written = await _list(client, kind, labelSelector=f"{_MANAGED_BY}={_US}")
    wanted = {
        kind.path(slice_["metadata"]["namespace"], slice_["metadata"]["name"]): slice_
        for service in services
        if service["spec"].get("selector") == LABELS
        for slice_ in (endpoint_slice(service, ready, port, kind),)
    }
    for path, slice_ in wanted.items():
        # One that is so already stays as it is.
        await client.request(
            "PATCH",
            path,
            params={"fieldManager": _US, "force": "true"},
            body=msgspec.json.encode(slice_),
            content_type="application/apply-patch+yaml",
        )
    there = {kind.path(one["metadata"]["namespace"], one["metadata"]["name"]) for one in written}
    for path in sorted(there - wanted.keys()):
        await client.request("DELETE", path)


async def _list(client: Client, kind: Kind, **params: str) -> list[dict[str, Any]]:
    found: dict[str, list[dict[str, Any]]] = msgspec.json.decode(
        await client.request("GET", kind.path(), params=params)
    )
    return found["items"]


async def run(kubeconfig: str, port: int, pods: Sequence[Pod]) -> None:
    """Probe and tell, for ever."""
    async with Client(await connect(kubeconfig)) as client:
        kind = await served_slice_kind(client)
        while True:
            answers = await asyncio.gather(*(is_ready(pod, port) for pod in pods))
            ready = [pod for pod, answers_now in zip(pods, answers, strict=True) if answers_now]
            try:
                await tell(client, kind, ready, port)
            except (ApiError, UnreachableError) as problem:
                print(f"endpoints not written: {problem}", file=sys.stderr, flush=True)
            await asyncio.sleep(_EVERY_SECONDS)


def _pod(text: str) -> Pod:
    name, node, address = text.split("=")
    return Pod(name=name, node=node, address=address)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), [_pod(one) for one in sys.argv[3:]]))
