"""Terse builders of what L2 announcement looks at, decoded as the API server would send it."""

from typing import Any

import msgspec

from lbipam.core.l2.interfaces import Interface
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
    name: str,
    *,
    ready: bool = True,
    address: str = "192.0.2.1",
    annotations: dict[str, str] | None = None,
    **labels: str,
) -> forms.Node:
    """A Node with one address."""
    body = {
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels, "annotations": annotations or {}},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
    }
    return msgspec.convert(body, forms.Node)


def lan_interfaces(*names: str, down: tuple[str, ...] = ()) -> dict[int, Interface]:
    """Physical Ethernet interfaces of these names, all up but those that are down."""
    return {
        index: Interface(
            index=index,
            name=name,
            hardware=MAC,
            kind="",
            resolves=True,
            is_ready=name not in down,
            master=0,
            has_subnet=True,
        )
        for index, name in enumerate(names, start=1)
    }
