"""What is a node told to do, given the cluster's BGP configuration, and how do statuses say what is wrong?

    CiliumBGPClusterConfig + CiliumBGPNodeConfigOverride  ─┐
    CiliumBGPPeeringPolicy + annotations of the Node      ─┴─▶ instances of a CiliumBGPNodeConfig

Types, reasons and messages of the conditions are Cilium's. This file does not decide which node is told by
whom.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from lbipam.kube import bgp_forms, forms
from lbipam.kube.conditions import Stand, Status
from lbipam.kube.kinds import Kind

NO_MATCHING_NODE = "cilium.io/NoMatchingNode"
MISSING_PEER_CONFIGS = "cilium.io/MissingPeerConfigs"
CONFLICTING_CLUSTER_CONFIG = "cilium.io/ConflictingClusterConfig"
MISSING_AUTH_SECRET = "cilium.io/MissingAuthSecret"  # noqa: S105 (a condition type)
CLUSTER_CONDITIONS = frozenset({NO_MATCHING_NODE, MISSING_PEER_CONFIGS, CONFLICTING_CLUSTER_CONFIG})
PEER_CONDITIONS = frozenset({MISSING_AUTH_SECRET})

_ROUTER_ANNOTATION = "cilium.io/bgp-virtual-router."


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The object a node's configuration follows from, and goes with."""

    kind: Kind
    name: str
    uid: str

    def reference(self) -> Mapping[str, Any]:
        """As `metav1.OwnerReference`."""
        return {
            "apiVersion": self.kind.api_version,
            "kind": self.kind.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
        }


def owner_of(config: bgp_forms.NodeConfig) -> forms.OwnerReference | None:
    """The controlling owner of a node's configuration; None if nobody's controller wrote it."""
    for reference in config.metadata.owner_references:
        if reference.controller:
            return reference
    return None


def instances(
    cluster: bgp_forms.ClusterConfig, override: bgp_forms.NodeOverride | None
) -> tuple[bgp_forms.Instance, ...]:
    """The instances of a cluster's configuration with what is different on one node."""
    changes = {change.name: change for change in override.spec.bgp_instances} if override else {}
    return tuple(
        _overridden(instance, changes[instance.name]) if instance.name in changes else instance
        for instance in cluster.spec.bgp_instances
    )


def _overridden(instance: bgp_forms.Instance, change: bgp_forms.InstanceOverride) -> bgp_forms.Instance:
    sources = {peer.name: peer.local_address for peer in change.peers}
    return msgspec.structs.replace(
        instance,
        router_id=change.router_id,
        local_port=change.local_port or instance.local_port,
        local_asn=change.local_asn or instance.local_asn,
        peers=tuple(
            msgspec.structs.replace(peer, local_address=sources.get(peer.name)) for peer in instance.peers
        ),
    )


def legacy_instance_name(router: bgp_forms.VirtualRouter) -> str:
    """The name by which a policy's virtual router appears in a node's configuration."""
    return f"virtual-router-{router.local_asn}"


def legacy_peer_name(neighbor: bgp_forms.Neighbor) -> str:
    """The name by which a policy's neighbour appears: its address."""
    return neighbor.peer_address.partition("/")[0]


def legacy_routers(
    policy: bgp_forms.PeeringPolicy,
) -> tuple[tuple[bgp_forms.VirtualRouter, ...], tuple[tuple[str, str], ...]]:
    """The virtual routers of a policy that a node's configuration can name, and by instance what is wrong.

    Of two routers of one AS number, and of two neighbours at one address, the first counts.
    """
    routers: dict[int, bgp_forms.VirtualRouter] = {}
    problems: list[tuple[str, str]] = []
    for router in policy.spec.virtual_routers:
        name = legacy_instance_name(router)
        if not router.local_asn:
            problems.append((name, "0 is no localASN: the virtual router is left out"))
        elif router.local_asn in routers:
            problems.append((name, f"localASN {router.local_asn} is there twice: the first counts"))
        else:
            routers[router.local_asn], twice = _distinct(router)
            problems += ((name, f"neighbor {one} is there twice: the first counts") for one in twice)
    return tuple(routers.values()), tuple(problems)


def _distinct(router: bgp_forms.VirtualRouter) -> tuple[bgp_forms.VirtualRouter, tuple[str, ...]]:
    """A virtual router with one neighbour at each address, and the neighbours left out."""
    found: dict[str, bgp_forms.Neighbor] = {}
    twice = tuple(
        one.peer_address for one in router.neighbors if found.setdefault(_canonical(one), one) is not one
    )
    return msgspec.structs.replace(router, neighbors=tuple(found.values())), twice


def _canonical(neighbor: bgp_forms.Neighbor) -> str:
    text = legacy_peer_name(neighbor)
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def legacy_instances(
    policy: bgp_forms.PeeringPolicy, node: forms.Node
) -> tuple[tuple[bgp_forms.Instance, ...], tuple[str, ...]]:
    """The virtual routers of a policy on one node, and what of the node's annotations is malformed."""
    found: list[bgp_forms.Instance] = []
    problems: list[str] = []
    for router in legacy_routers(policy)[0]:
        router_id, port = _router_annotation(node, router.local_asn, problems)
        peers = tuple(
            bgp_forms.Peer(
                name=legacy_peer_name(neighbor),
                peer_address=legacy_peer_name(neighbor),
                peer_asn=neighbor.peer_asn,
            )
            for neighbor in router.neighbors
        )
        instance = bgp_forms.Instance(
            name=legacy_instance_name(router),
            local_asn=router.local_asn,
            local_port=port,
            router_id=router_id,
            peers=peers,
        )
        found.append(instance)
    return tuple(found), tuple(problems)


def _router_annotation(node: forms.Node, asn: int, problems: list[str]) -> tuple[str | None, int | None]:
    """`router-id=10.0.0.1,local-port=179` on the Node, for the virtual router of this AS number."""
    name = f"{_ROUTER_ANNOTATION}{asn}"
    text = (node.metadata.annotations or {}).get(name)
    router_id: str | None = None
    port: int | None = None
    for part in (text or "").split(","):
        key, _, value = part.strip().partition("=")
        try:
            match key:
                case "router-id":
                    router_id = str(ipaddress.IPv4Address(value))
                case "local-port":
                    port = _port(value)
                case "":
                    pass
                case _:
                    raise ValueError(f"'{key}' is unknown")
        except ValueError as problem:
            problems.append(f"The annotation {name} of node {node.metadata.name} is not valid: {problem}")
    return router_id, port


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise ValueError(f"{port} is not a port")
    return port


def node_config_body(
    kind: Kind, name: str, owner: Owner, spec: tuple[bgp_forms.Instance, ...]
) -> Mapping[str, Any]:
    """A node's configuration, to be created."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "ownerReferences": [owner.reference()]},
        "spec": _spec_body(spec),
    }


def node_config_patch(
    config: bgp_forms.NodeConfig, owner: Owner, spec: tuple[bgp_forms.Instance, ...]
) -> tuple[Mapping[str, Any], ...]:
    """The RFC 6902 operations that replace owner and specification, if nobody has changed the object since.

    Not an apply: where an apply takes a field away that has fields of its own, API servers of old leave a
    null behind, and then refuse it.
    """
    return (
        {"op": "test", "path": "/metadata/resourceVersion", "value": config.metadata.resource_version},
        {"op": "add", "path": "/metadata/ownerReferences", "value": [owner.reference()]},
        {"op": "replace", "path": "/spec", "value": _spec_body(spec)},
    )


def _spec_body(spec: tuple[bgp_forms.Instance, ...]) -> Mapping[str, Any]:
    body: Mapping[str, Any] = msgspec.to_builtins(bgp_forms.NodeSpec(bgp_instances=spec))
    return body


def cluster_stands(
    *, has_nodes: bool, missing_peer_configs: Iterable[str], conflicting: Iterable[str]
) -> tuple[Stand, ...]:
    """The three conditions of a cluster's configuration; True means trouble."""
    missing, others = sorted(set(missing_peer_configs)), sorted(set(conflicting))
    return (
        _trouble(
            NO_MATCHING_NODE,
            "NoMatchingNode",
            "" if has_nodes else "No node matches spec.nodeSelector",
        ),
        _trouble(
            MISSING_PEER_CONFIGS,
            "MissingPeerConfigs",
            f"Referenced CiliumBGPPeerConfig(s) are missing: {_listed(missing)}" if missing else "",
        ),
        _trouble(
            CONFLICTING_CLUSTER_CONFIG,
            "ConflictingClusterConfigs",
            f"Selecting the same node(s) with ClusterConfig(s): {_listed(others)}" if others else "",
        ),
    )


def peer_stands(missing_secret: str | None) -> tuple[Stand, ...]:
    """The condition of a peer's configuration; True means trouble."""
    message = f'Referenced Auth Secret "{missing_secret}" is missing' if missing_secret else ""
    return (_trouble(MISSING_AUTH_SECRET, "MissingAuthSecret", message),)


def _trouble(type_: str, reason: str, message: str) -> Stand:
    status = Status.TRUE if message else Status.FALSE
    return Stand(type=type_, status=status, reason=reason, message=message)


def _listed(names: list[str]) -> str:
    """As Go prints a list of strings."""
    return f"[{' '.join(names)}]"
