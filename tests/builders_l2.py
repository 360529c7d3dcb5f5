"""Terse builders of what L2 announcement looks at, decoded as the API server would send it."""

from ipaddress import ip_address
from typing import Any

import msgspec

from lbipam.controllers.host import DefaultRoute, Host, Interface
from lbipam.kube import forms, l2

MAC = b"\x02\x00\x00\x00\x00\x01"


def policy(name: str = "lan", *, status: dict[str, Any] | None = None, **spec: Any) -> l2.AnnouncementPolicy:
    """A policy that announces load balancer addresses unless told otherwise."""
    body = {
        "metadata": {"name": name, "uid": f"uid-{name}", "generation": 2},
        "spec": {"loadBalancerIPs": True, **spec},
        "status": status or {},
    }
    return msgspec.convert(body, l2.AnnouncementPolicy)


def node(
    name: str, *, ready: bool = True, annotations: dict[str, str] | None = None, **labels: str
) -> forms.Node:
    """A Node with the address 192.0.2.1 on no particular interface."""
    body = {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels, "annotations": annotations or {}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }
    return msgspec.convert(body, forms.Node)


def host(*names: str, routed: str = "") -> Host:
    """A host whose Ethernet interfaces are these, all up; one may have the default route."""
    routes = (DefaultRoute(gateway=ip_address("192.0.2.254"), interface=routed),) if routed else ()
    return Host(
        interfaces=tuple(Interface(name=name, up=True, mac=MAC) for name in names), default_routes=routes
    )
