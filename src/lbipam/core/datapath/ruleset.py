"""Services and endpoints as tables, maps and chains.

An `Update` says what should stand otherwise than before in the node's table; the first one says all. Elements
are made when they are asked for. An element of a map belongs to one frontend; those of `addresses` and
`hairpins`, like shared chains, stand as long as any frontend needs them.

    services    address . protocol . port                            : chain of the frontend's shape
    endpoints   address . port . slot                                : address . port of the endpoint
    allowed     address . protocol . port . source range
    sources     address . port                                       : chain that keeps or hides the client
    addresses   every address that was given to Services only: cluster IPs, addresses of load balancers
    nodes       every node's addresses, whatever else they are
    hairpins    address . address of each endpoint that is, or may be, on this node
    echo        protocol of pings : address of the node
    pods        blocks of this node's pods
    refused     blocks that answer for nothing but must not be sent on

This file does not write nft commands.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from lbipam.core.datapath import chains
from lbipam.core.datapath.frontends import Frontend
from lbipam.core.datapath.services import PROTOCOL_NUMBERS, IPAddress, IPNetwork, Node, collapsed


class Element(NamedTuple):
    """One element of a set, or of a map if it has data; written as numeric reports write it."""

    set: str
    key: str
    data: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Update:
    """What the node's table should hold from now on."""

    node: Node
    services: Mapping[str, tuple[Frontend, ...]]
    """By the keys of Services the frontends of those that are new or changed, none of those that are gone.

    Services that are not named stay as they are: ten thousand of them cost a change of one nothing.
    """
    nodes: tuple[IPAddress, ...] = ()
    """The addresses of all nodes: where no Service answers, packets for them go to the node."""
    refused: tuple[IPNetwork, ...] | None = None
    """Blocks whose packets are refused where no Service answers, so that they do not travel in circles.

    None: those that are refused stay, be it from an earlier process that knew which.
    """


def node_elements(update: Update) -> Iterator[Element]:
    """The elements that tell the nodes, and the pods of this one."""
    for block in collapsed(update.node.pods):
        yield Element(f"pods{block.version}", block_text(block))
    for address in dict.fromkeys((*update.node.addresses, *update.nodes)):
        yield Element(f"nodes{address.version}", f"{address}")
    for family in chains.FAMILIES:
        of_family = (address for address in update.node.addresses if address.version == family.version)
        for address in islice(of_family, 1):
            yield Element(f"echo{family.version}", f"{family.icmp}", f"{address}")


def refused_elements(blocks: Iterable[IPNetwork]) -> Iterator[Element]:
    """The elements that tell the blocks whose unused addresses are refused."""
    for block in collapsed(blocks):
        yield Element(f"refused{block.version}", block_text(block))


def is_refused(element: Element) -> bool:
    """Whether it is one of `refused_elements`."""
    return element.set in ("refused4", "refused6")


def own_elements(frontend: Frontend) -> Iterator[Element]:
    """The elements that are this frontend's alone."""
    if not frontend.served:
        return
    family, protocol = frontend.address.version, frontend.protocol.value
    port = f"{frontend.text} . {frontend.port}"
    full = f"{frontend.text} . {PROTOCOL_NUMBERS[frontend.protocol]} . {frontend.port}"
    yield Element(f"services{family}", full, chains.entry(frontend))
    endpoints = f"endpoints-{protocol}{family}"
    for slot, endpoint in enumerate(frontend.slots):
        yield Element(endpoints, f"{port} . {slot}", f"{endpoint.text} . {endpoint.port}")
    source = chains.source_verdict(frontend)
    if source:
        yield Element(f"sources-{protocol}{family}", port, source)
    for block in frontend.source_ranges:
        yield Element(f"allowed{family}", f"{full} . {block_text(block)}")


def shared_elements(frontend: Frontend) -> Iterator[Element]:
    """The elements that the frontend needs, as others may; each once."""
    family = frontend.address.version
    if frontend.is_guarded:
        yield Element(f"addresses{family}", frontend.text)
    for address in {e.text for e in frontend.slots if e.local or e.maybe_local}:
        yield Element(f"hairpins{family}", f"{address} . {address}")


def block_text(block: IPNetwork) -> str:
    """The block as the kernel's report shows it: one address goes without a prefix length."""
    return f"{block.network_address}" if block.prefixlen == block.max_prefixlen else f"{block}"
