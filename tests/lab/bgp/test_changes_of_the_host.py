"""What happens to a node's network under a speaker that runs: addresses and interfaces come, go and change."""

import re

import pytest

from lbipam.adapters.bfd_udp import Neighbour
from lbipam.core.bfd.packets import State as BfdState
from lbipam.core.bfd.session import Timing
from lbipam.core.bgp.codes import Family
from tests.lab.bgp.conftest import NODE, NODE6, ROUTER, VIP, VIP6, Lab, Wanted, frr_config, peer
from tests.lab.bgp.namespaces import until
from tests.lab.bgp.routers import Bird, Frr

pytestmark = pytest.mark.lab

FAST = Timing(interval_seconds=0.1, multiplier=3)


def is_watched(lab: Lab) -> bool:
    status = lab.node.watched().get("tor")
    return status is not None and status.state is BfdState.UP


def bird_of(lab: Lab, *neighbours: str) -> Bird:
    lines = " ".join(f'neighbor {one} dev "eth0";' for one in neighbours)
    config = f"""router id {ROUTER};
protocol bfd {{ interface "eth0" {{ interval 100 ms; multiplier 3; }}; {lines} }}"""
    return Bird(lab.router, lab.folder / "bird", config)


def test_a_path_is_watched_once_it_is_there(lab: Lab) -> None:
    lab.place("ip", "address", "del", f"{NODE}/24", "dev", "eth0")
    lab.node.watch({"tor": Neighbour(address=peer().address, timing=FAST)})
    with bird_of(lab, NODE):
        lab.place.address("eth0", f"{NODE}/24")
        until(lambda: is_watched(lab), "BFD is up", seconds=8)


def test_a_path_is_watched_from_a_new_address(lab: Lab) -> None:
    other = "198.18.0.3"
    with bird_of(lab, NODE, other) as bird:
        lab.node.watch({"tor": Neighbour(address=peer().address, timing=FAST)})
        until(lambda: is_watched(lab), "BFD is up")
        lab.place("ip", "address", "del", f"{NODE}/24", "dev", "eth0")
        lab.place.address("eth0", f"{other}/24")
        up = re.compile(rf"{re.escape(other)}\s+eth0\s+Up")
        until(lambda: up.search(bird.ask("show bfd sessions")) is not None, "the router sees the new address")
        until(lambda: is_watched(lab), "BFD is up on our side")


def test_a_link_local_neighbour_is_watched_through_an_interface_that_was_made_anew(lab: Lab) -> None:
    there = lab.router.link_local("eth0")
    here = lab.place.link_local("eth0")
    with bird_of(lab, here):
        address = peer(f"{there}%eth0").address
        lab.node.watch({"tor": Neighbour(address=address, timing=FAST)})
        until(lambda: is_watched(lab), "BFD is up")
        lab.place("ip", "link", "set", "eth0", "down")
        until(lambda: not is_watched(lab), "it is down", seconds=8)
        lab.place("ip", "link", "set", "eth0", "name", "port0")
        lab.place("ip", "link", "add", "eth0", "type", "bridge")
        lab.place("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
        lab.place("ip", "link", "set", "port0", "master", "eth0", "up")
        lab.place("ip", "link", "set", "eth0", "addrgenmode", "none", "up")
        lab.place.address("eth0", f"{here}/64")
        until(lambda: is_watched(lab), "BFD is up again", seconds=8)


def test_the_next_hop_of_ipv6_routes_follows_the_addresses_of_the_interface(lab: Lab) -> None:
    def hop() -> str:
        return str(frr.route(VIP6).get("nexthops", [{"ip": ""}])[0]["ip"])

    lab.place("ip", "address", "del", f"{NODE6}/64", "dev", "eth0")
    with Frr(lab.router, frr_config()) as frr:
        lab.node.apply(Wanted(peer()).state())
        until(lambda: bool(frr.route(VIP)), "the IPv4 route is there")
        assert "no global IPv6 address" in lab.node.status()["tor"].unspeakable[Family.IPV6]
        for address in ("fd00:18::7", "fd00:18::8"):
            lab.place.address("eth0", f"{address}/64")
            lab.node.look_around()
            until(lambda address=address: hop() == address, "the next hop is the new address")  # type: ignore[misc]
            lab.place("ip", "address", "del", f"{address}/64", "dev", "eth0")
            lab.node.look_around()
        assert lab.node.status()["tor"].flaps == 0
