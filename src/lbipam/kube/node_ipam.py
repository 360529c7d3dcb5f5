"""Services that ask for addresses of nodes, and Nodes, as written in the API, into values, and back.

The class, annotation, label and taint are Cilium's. This file does not choose among nodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lbipam.core.ipam.addresses import Address, Family, format_address, parse_address
from lbipam.core.ipam.labels import EVERYTHING
from lbipam.core.ipam.nodes import Choice, LeftOut, Node, Request
from lbipam.kube import forms
from lbipam.kube.conditions import status_apply
from lbipam.kube.forms import Ingress
from lbipam.kube.ipam import NODE_CLASS, named_families
from lbipam.kube.selectors import parse_selector

MATCH_NODE_LABELS = "io.cilium.nodeipam/match-node-labels"
_EXCLUDED_LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
_TO_BE_DELETED_TAINT = "ToBeDeletedByClusterAutoscaler"


def asks_for_nodes(service: forms.Service, *, without_class: bool) -> bool:
    """Whether a Service gets addresses of nodes.

    Args:
        service: Any Service.
        without_class: Those that name no class do, too (`--default-lb-service-ipam=nodeipam`).
    """
    spec = service.spec
    if spec.type != "LoadBalancer" or service.metadata.deletion_timestamp is not None:
        return False
    if spec.load_balancer_class is None:
        return without_class
    return spec.load_balancer_class == NODE_CLASS


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestReading:
    """What a Service asks for, and what of that cannot be understood."""

    request: Request
    problem: str = ""


def read_request(
    service: forms.Service, enabled: Sequence[Family], ready_nodes: frozenset[str]
) -> RequestReading:
    """What a Service asks for.

    Args:
        service: One that asks for addresses of nodes.
        enabled: The families of the cluster, for servers that fill no `ipFamilies` in.
        ready_nodes: The nodes with ready endpoints of it; only these with `externalTrafficPolicy: Local`.
    """
    selector, problem = EVERYTHING, ""
    text = (service.metadata.annotations or {}).get(MATCH_NODE_LABELS)
    if text is not None:
        try:
            selector = parse_selector(text)
        except ValueError as fault:
            problem = f"The annotation {MATCH_NODE_LABELS} is not valid: {fault}"
    request = Request(
        families=frozenset(named_families(service.spec) or enabled[:1]),
        selector=selector,
        nodes=ready_nodes if service.spec.external_traffic_policy == "Local" else None,
    )
    return RequestReading(request=request, problem=problem)


def read_node(node: forms.Node) -> Node:
    """A node with its well-formed addresses; one that is not ready counts, as for Cilium."""
    return Node(
        name=node.metadata.name,
        labels=node.metadata.labels or {},
        external=_addresses(node, "ExternalIP"),
        internal=_addresses(node, "InternalIP"),
        barred=_barred(node),
    )


def _addresses(node: forms.Node, type_: str) -> tuple[Address, ...]:
    found: list[Address] = []
    for one in node.status.addresses:
        if one.type != type_:
            continue
        try:
            found.append(parse_address(one.address))
        except ValueError:
            continue
    return tuple(found)


def _barred(node: forms.Node) -> LeftOut | None:
    if node.metadata.deletion_timestamp is not None:
        return LeftOut.BEING_DELETED
    if _EXCLUDED_LABEL in (node.metadata.labels or {}):
        return LeftOut.EXCLUDED
    if any(taint.key == _TO_BE_DELETED_TAINT for taint in node.spec.taints):
        return LeftOut.TO_BE_REMOVED
    return None


def sentence(choice: Choice) -> str:
    """Why a Service gets no address, for people."""
    if not choice.left_out:
        return "The cluster has no node"
    counts = ", ".join(f"{choice.left_out[why]} {phrase(why)}" for why in LeftOut if choice.left_out[why])
    return f"No node has an address for this service: {counts}"


def phrase(why: LeftOut) -> str:
    """Why a node is left out, for people: to come after the node or their number."""
    match why:
        case LeftOut.BEING_DELETED:
            return "being deleted"
        case LeftOut.EXCLUDED:
            return f"with the label {_EXCLUDED_LABEL}"
        case LeftOut.TO_BE_REMOVED:
            return f"with the taint {_TO_BE_DELETED_TAINT}"
        case LeftOut.NOT_SELECTED:
            return f"not selected by the annotation {MATCH_NODE_LABELS}"
        case LeftOut.NO_ENDPOINT:
            return "without a ready endpoint, which externalTrafficPolicy Local asks for"
        case LeftOut.NO_ADDRESS:
            return "without an address of the families asked for"


def ingress(shown: Sequence[Ingress], addresses: Sequence[Address]) -> tuple[Ingress, ...]:
    """The list that shows exactly these addresses, sorted as text, as Cilium's is.

    Args:
        shown: The list as it is: an entry that stays keeps what the server or others have filled in.
        addresses: Of nodes.
    """
    entries = {entry.ip: entry for entry in shown}
    texts = sorted(format_address(address) for address in addresses)
    return tuple(entries.get(text) or Ingress(ip=text) for text in texts)


def ingress_apply(service: forms.Service, wanted: Sequence[Ingress]) -> Mapping[str, Any]:
    """The apply of an ingress list and nothing else; refused if the Service has changed since."""
    status = {"loadBalancer": {"ingress": wanted}} if wanted else {}
    return status_apply(forms.SERVICE, service.metadata, status, guarded=True)
