"""Terse API objects for tests of LB IPAM: decoded forms, with defaults that do not matter."""

from typing import Any

import msgspec

from lbipam.kube import forms, ipam


def kube_service(
    name: str = "s",
    *,
    ips: str | None = None,
    key: str | None = None,
    annotations: dict[str, str] | None = None,
    created: str = "2026-01-01T00:00:00Z",
    shown: tuple[str, ...] = (),
    conditions: tuple[dict[str, Any], ...] = (),
    generation: int = 0,
    spec: dict[str, Any] | None = None,
    **labels: str,
) -> forms.Service:
    """A Service of type LoadBalancer; `namespace/name` or a name in namespace `default`."""
    namespace, slash, rest = name.partition("/")
    notes = dict(annotations or {})
    if ips is not None:
        notes["lbipam.cilium.io/ips"] = ips
    if key is not None:
        notes["lbipam.cilium.io/sharing-key"] = key
    wish: dict[str, Any] = {"type": "LoadBalancer", "ports": [{"port": 80}], "ipFamilies": ["IPv4"]}
    return msgspec.convert(
        {
            "metadata": {
                "name": rest if slash else name,
                "namespace": namespace if slash else "default",
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "creationTimestamp": created,
                "labels": labels,
                "annotations": notes,
                "generation": generation,
            },
            "spec": wish | (spec or {}),
            "status": {
                "loadBalancer": {"ingress": [{"ip": one} for one in shown]},
                "conditions": list(conditions),
            },
        },
        forms.Service,
    )


def kube_pool(
    name: str = "p",
    *cidrs: str,
    color: str = "",
    created: str = "2026-01-01T00:00:00Z",
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> ipam.IPPool:
    wish: dict[str, Any] = {"blocks": [{"cidr": one} for one in cidrs], **spec}
    if color:
        wish["serviceSelector"] = {"matchLabels": {"color": color}}
    metadata = {
        "name": name,
        "uid": f"uid-{name}",
        "resourceVersion": "1",
        "creationTimestamp": created,
        "annotations": annotations or {},
    }
    return msgspec.convert({"metadata": metadata, "spec": wish}, ipam.IPPool)


def kube_reservation(
    name: str, *addresses: str, to: str = "", expires: str | None = None, reason: str = ""
) -> ipam.IPReservation:
    spec: dict[str, Any] = {"addresses": list(addresses), "reason": reason}
    if to:
        namespace, _, rest = to.partition("/")
        spec["serviceRef"] = {"namespace": namespace, "name": rest}
    if expires is not None:
        spec["expiresAt"] = expires
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": "1"}
    return msgspec.convert({"metadata": metadata, "spec": spec}, ipam.IPReservation)


def kube_namespace(name: str, **annotations: str) -> forms.Namespace:
    notes = {key.replace("_", "-"): value for key, value in annotations.items()}
    quota = {"lbipam.dev/max-addresses": notes["quota"]} if "quota" in notes else {}
    return msgspec.convert(
        {"metadata": {"name": name, "resourceVersion": "1", "annotations": quota}}, forms.Namespace
    )
