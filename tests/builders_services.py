"""Terse builders of Services and their endpoints, decoded as the API server would send them."""

from typing import Any

import msgspec

from lbipam.kube import forms


def service(
    name: str = "web",
    *ingress: str,
    namespace: str = "default",
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    deleting: bool = False,
    **spec: Any,
) -> forms.Service:
    """A Service of type LoadBalancer with these addresses in its status; `spec` is spelled as in JSON."""
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{name}",
        "labels": labels or {},
        "annotations": annotations or {},
    }
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    body = {
        "metadata": metadata,
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], **spec},
        "status": {"loadBalancer": {"ingress": [{"ip": address} for address in ingress]}},
    }
    return msgspec.convert(body, forms.Service)


def endpoint(address: str = "10.1.0.1", node: str = "n1", **conditions: bool) -> dict[str, Any]:
    """One endpoint of a slice; ready unless told otherwise."""
    return {"addresses": [address], "nodeName": node, "conditions": {"ready": True, **conditions}}


def endpoint_slice(
    of: str, *endpoints: dict[str, Any], name: str = "", namespace: str = "default", **more: Any
) -> forms.EndpointSlice:
    """A slice of a Service's endpoints."""
    body = {
        "metadata": {
            "name": name or f"{of}-1",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": of},
        },
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"name": "", "port": 8080}],
        **more,
    }
    return msgspec.convert(body, forms.EndpointSlice)
