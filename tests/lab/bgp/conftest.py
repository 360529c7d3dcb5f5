"""A router and a node on one wire."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

import pytest

from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.peers import Peer, SpeakerState
from lbipam.core.bgp.routes import PLAIN, RouteAttributes
from tests.lab.bgp.namespaces import Namespace, need, wire
from tests.lab.bgp.node import Node

ROUTER, NODE = "198.18.0.1", "198.18.0.2"
ROUTER6, NODE6 = "fd00:18::1", "fd00:18::2"
ROUTER_ASN, NODE_ASN = 64512, 4200000001
VIP, VIP6 = "192.0.2.1/32", "2001:db8::1/128"


@dataclass(frozen=True)
class Lab:
    """`router` is an empty namespace; `node` runs a speaker with nothing to do."""

    router: Namespace
    place: Namespace
    node: Node
    folder: Path


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    need("ip", "nft", "zebra", "bgpd", "bfdd", "vtysh", "bird", "gobgpd")
    with Namespace("r") as router, Namespace("n") as place:
        wire(router, "eth0", place, "eth0")
        router.address("eth0", f"{ROUTER}/24", f"{ROUTER6}/64")
        place.address("eth0", f"{NODE}/24", f"{NODE6}/64")
        with Node(place, tmp_path / "node.log") as node:
            yield Lab(router, place, node, tmp_path)


@dataclass(frozen=True)
class Wanted:
    """A state with one peer, tersely."""

    peer: Peer
    prefixes: tuple[str, ...] = (VIP, VIP6)
    said: RouteAttributes = PLAIN
    asn: int = NODE_ASN
    listen_port: int | None = None
    others: dict[str, Peer] = field(default_factory=dict)

    def state(self) -> SpeakerState:
        peers = {"tor": self.peer, **self.others}
        return SpeakerState(
            local_asn=self.asn,
            router_id=IPv4Address(NODE),
            listen_port=self.listen_port,
            peers=peers,
            routes=dict.fromkeys(map(ip_network, self.prefixes), "all"),
            policies={name: {family: {"all": self.said} for family in Family} for name in peers},
        )


def peer(address: str = ROUTER, **options: object) -> Peer:
    """A peer whose timers do not keep a test waiting."""
    given = {
        "asn": ROUTER_ASN,
        "hold_seconds": 9,
        "keepalive_seconds": 3,
        "connect_retry_seconds": 2,
        **options,
    }
    return Peer(address=ip_address(address), **given)  # type: ignore[arg-type]


def frr_config(*neighbour_lines: str, address: str = NODE, asn: int = NODE_ASN, extra: str = "") -> str:
    """An FRR router with one neighbour, in both families."""
    lines = "\n".join(f" neighbor {address} {line}" for line in neighbour_lines)
    return f"""
router bgp {ROUTER_ASN}
 bgp router-id {ROUTER}
 no bgp ebgp-requires-policy
 no bgp network import-check
 {extra}
 neighbor {address} remote-as {asn}
 neighbor {address} timers 3 9
 neighbor {address} timers connect 1
{lines}
 address-family ipv4 unicast
  neighbor {address} activate
  neighbor {address} soft-reconfiguration inbound
 exit-address-family
 address-family ipv6 unicast
  neighbor {address} activate
 exit-address-family
"""
