"""Which addresses of nodes does a Service get that asks for those, and which nodes are left out?

As Cilium's Node IPAM: external addresses if any node that counts has one, else internal ones, of all families
asked for together. No pool is involved and nobody holds anything, so that the answer is a function of the nodes.
This file does not know how a node says that it is to be left out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from lbipam.core.ipam.addresses import Address, Family, family_of
from lbipam.core.ipam.labels import EVERYTHING, Selector


class LeftOut(Enum):
    """Why the addresses of a node are not a Service's."""

    BEING_DELETED = "being_deleted"
    EXCLUDED = "excluded"
    """By its label, from all load balancers."""
    TO_BE_REMOVED = "to_be_removed"
    """Tainted by the autoscaler that is about to delete it."""
    NOT_SELECTED = "not_selected"
    NO_ENDPOINT = "no_endpoint"
    """It has no ready endpoint, and traffic is not to be sent on to other nodes."""
    NO_ADDRESS = "no_address"
    """It has none of the families asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node and the addresses under which it can be reached."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    external: tuple[Address, ...] = ()
    internal: tuple[Address, ...] = ()
    barred: LeftOut | None = None
    """Why no Service gets its addresses; None if one may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a Service asks for."""

    families: frozenset[Family]
    selector: Selector = EVERYTHING
    nodes: frozenset[str] | None = None
    """The only nodes that may be used: those with ready endpoints; None means any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The addresses of a Service, in order, and how many nodes were left out for which reason."""

    addresses: tuple[Address, ...]
    left_out: Mapping[LeftOut, int]


def why_left_out(request: Request, node: Node) -> LeftOut | None:
    """Why a node is left out, the first reason that holds; None if its addresses may be used."""
    if node.barred is not None:
        return node.barred
    if not request.selector.matches(node.labels):
        return LeftOut.NOT_SELECTED
    if request.nodes is not None and node.name not in request.nodes:
        return LeftOut.NO_ENDPOINT
    if not any(family_of(address) in request.families for address in node.external + node.internal):
        return LeftOut.NO_ADDRESS
    return None


def choose(request: Request, nodes: Iterable[Node]) -> Choice:
    """The addresses of nodes that a Service gets."""
    left_out: Counter[LeftOut] = Counter()
    external: set[Address] = set()
    internal: set[Address] = set()
    for node in nodes:
        why = why_left_out(request, node)
        if why is not None:
            left_out[why] += 1
            continue
        external.update(one for one in node.external if family_of(one) in request.families)
        internal.update(one for one in node.internal if family_of(one) in request.families)
    return Choice(addresses=tuple(sorted(external or internal)), left_out=left_out)
