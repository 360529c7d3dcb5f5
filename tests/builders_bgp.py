"""Terse builders of BGP objects, decoded as the API server would send them."""

from typing import Any

import msgspec

from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.ports import Deleted, Synced, Upserted
from lbipam.kube import bgp_forms, forms
from lbipam.kube.kinds import Key, Kind

CREATED = "2026-01-01T00:00:00Z"


class World:
    """A cache that tests fill; every change gives the object a newer version."""

    def __init__(self, *kinds: Kind) -> None:
        self.cache = Cache()
        self._version = 0
        for kind in kinds:
            self.cache.store(Synced(kind=kind))

    def put(self, kind: Kind, name: str, *, namespace: str = "", **body: Any) -> Change:
        """Create or replace an object; `metadata` adds to what every object has."""
        self._version += 1
        metadata = {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "resourceVersion": str(self._version),
            "creationTimestamp": CREATED,
            **body.pop("metadata", {}),
        }
        thing = msgspec.convert({"metadata": metadata, **body}, kind.form)
        change = self.cache.store(Upserted(kind=kind, object=thing))
        assert change is not None
        return change

    def remove(self, kind: Kind, name: str, *, namespace: str = "") -> Change:
        change = self.cache.store(Deleted(kind=kind, key=Key(namespace, name)))
        assert change is not None
        return change

    # --- one word per object ------------------------------------------------------------------------------

    def node(self, name: str, *, annotations: dict[str, str] | None = None, **labels: str) -> Change:
        return self.put(
            forms.NODE, name, metadata={"labels": labels, "annotations": annotations or {}}, status={}
        )

    def cluster(
        self, name: str, *instances: dict[str, Any], created: str = CREATED, **selector: Any
    ) -> Change:
        spec: dict[str, Any] = {"bgpInstances": list(instances or (instance(),))}
        if selector:
            spec["nodeSelector"] = selector
        metadata = {"creationTimestamp": created}
        return self.put(bgp_forms.V2.cluster_config, name, spec=spec, metadata=metadata)

    def node_config(
        self, *instances: dict[str, Any], node: str = "n1", owner: str = "CiliumBGPClusterConfig", **more: Any
    ) -> Change:
        """What the controller tells a node."""
        reference = {"kind": owner, "name": "owner", "uid": "u", "controller": True}
        metadata = {"ownerReferences": [reference]}
        spec = {"bgpInstances": list(instances)}
        return self.put(bgp_forms.V2.node_config, node, spec=spec, metadata=metadata, **more)

    def advert(self, name: str, *items: dict[str, Any], **labels: str) -> Change:
        spec = {"advertisements": list(items)}
        return self.put(bgp_forms.V2.advertisement, name, spec=spec, metadata={"labels": labels})

    def policy(self, name: str, *routers: dict[str, Any], **selector: Any) -> Change:
        spec: dict[str, Any] = {"virtualRouters": list(routers or (router(),))}
        if selector:
            spec["nodeSelector"] = selector
        return self.put(bgp_forms.PEERING_POLICY, name, spec=spec)

    def peer_config(self, name: str, *, annotations: dict[str, str] | None = None, **spec: Any) -> Change:
        return self.put(
            bgp_forms.V2.peer_config, name, spec=spec, metadata={"annotations": annotations or {}}
        )


def instance(name: str = "main", *peers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "localASN": 64512, "peers": list(peers or (peer(),)), **more}


def peer(name: str = "tor", address: str = "10.0.0.1", **more: Any) -> dict[str, Any]:
    return {"name": name, "peerAddress": address, "peerASN": 64500, **more}


def router(asn: int = 64512, *neighbors: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"localASN": asn, "neighbors": list(neighbors or (neighbor(),)), **more}


def neighbor(address: str = "10.0.0.1/32", asn: int = 64500, **more: Any) -> dict[str, Any]:
    return {"peerAddress": address, "peerASN": asn, **more}
