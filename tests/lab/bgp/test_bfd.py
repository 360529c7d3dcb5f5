"""BFD with FRR's bfdd and with BIRD: through a busy agent, a cut link, and a stop on purpose."""

import time
from ipaddress import ip_address, ip_network

import pytest

from lbipam.adapters.bfd_udp import Neighbour
from lbipam.controllers import bfd
from lbipam.controllers.host import Host, Interface
from lbipam.core.bfd.packets import State as BfdState
from lbipam.core.bfd.session import Timing
from lbipam.core.bgp.fsm import State
from tests.lab.bgp.conftest import (
    NODE,
    NODE6,
    ROUTER,
    ROUTER6,
    ROUTER_ASN,
    VIP,
    Lab,
    Wanted,
    frr_config,
    peer,
)
from tests.lab.bgp.namespaces import until
from tests.lab.bgp.routers import Bird, Frr

pytestmark = pytest.mark.lab

FAST = Timing(interval_seconds=0.1, multiplier=3)
BFD_PROFILE = """
bfd
 profile fast
  transmit-interval 100
  receive-interval 100
  detect-multiplier 3
 exit
exit
"""


def is_watched(lab: Lab) -> bool:
    status = lab.node.watched().get("tor")
    return status is not None and status.state is BfdState.UP


def frr_of(lab: Lab, *lines: str, address: str = NODE) -> Frr:
    config = frr_config("bfd", "bfd profile fast", *lines, address=address)
    frr = Frr(lab.router, config, bfd=True)
    frr.vty("configure", *BFD_PROFILE.split("\n"))
    return frr


@pytest.mark.parametrize(("address", "neighbour"), [(ROUTER, NODE), (ROUTER6, NODE6)])
def test_a_busy_agent_does_not_flap(lab: Lab, address: str, neighbour: str) -> None:
    with frr_of(lab, address=neighbour) as frr:
        lab.node.apply(Wanted(peer(address)).state())
        lab.node.watch({"tor": Neighbour(address=peer(address).address, timing=FAST)})
        until(lambda: is_watched(lab) and bool(frr.route(VIP)), "BFD and BGP are up")
        lab.node.be_busy(4)
        assert is_watched(lab)
        assert lab.node.watched()["tor"].downs == 0
        assert [one.get("status") for one in frr.show("bfd peers")] == ["up"]
        status = lab.node.watched()["tor"]
        assert (status.transmit_seconds, round(status.detection_seconds, 3)) == (0.1, 0.3)


def test_a_cut_link_is_seen_on_both_sides_long_before_the_hold_time(lab: Lab) -> None:
    with frr_of(lab) as frr:
        lab.node.apply(Wanted(peer(hold_seconds=90, keepalive_seconds=30)).state())
        lab.node.watch({"tor": Neighbour(address=peer().address, timing=FAST)})
        until(lambda: is_watched(lab) and bool(frr.route(VIP)), "BFD and BGP are up")
        begun = time.monotonic()
        lab.place.cut()
        until(
            lambda: lab.node.status()["tor"].state is not State.ESTABLISHED,
            "our session has ended",
            seconds=3,
        )
        until(lambda: not frr.route(VIP), "the router has dropped the route", seconds=3)
        print(f"down after {time.monotonic() - begun:.2f} s")
        assert "Bfd Down (6/10)" in str(lab.node.status()["tor"].last_ending)
        lab.place.mend()
        until(lambda: is_watched(lab) and bool(frr.route(VIP)), "both are back")


def test_an_agent_that_stops_to_come_back_keeps_its_routes_although_it_is_watched(lab: Lab) -> None:
    with frr_of(lab, "graceful-restart-helper") as frr:
        lab.node.apply(Wanted(peer(restart_seconds=60)).state())
        lab.node.synced()
        lab.node.watch({"tor": Neighbour(address=peer().address, timing=FAST)})
        until(lambda: is_watched(lab) and bool(frr.route(VIP)), "BFD and BGP are up")
        lab.node.leave(keep_routes=True)
        until(lambda: not frr.is_up(NODE), "the router has noticed")
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            assert frr.route(VIP)


def test_a_neighbour_that_switches_bfd_off_is_no_failed_path(lab: Lab) -> None:
    with frr_of(lab) as frr:
        lab.node.watch({"tor": Neighbour(address=peer().address, timing=FAST)})
        lab.node.apply(Wanted(peer()).state())
        until(lambda: is_watched(lab) and bool(frr.route(VIP)), "BFD and BGP are up")
        frr.vty("configure", "bfd", "profile fast", "shutdown")
        until(lambda: not is_watched(lab), "BFD is down")
        (_, change) = lab.node.changes()[-1]
        assert change.is_on_purpose
        assert lab.node.status()["tor"].last_ending is None or "Bfd Down" not in str(
            lab.node.status()["tor"].last_ending
        )


def reach_loopbacks(lab: Lab) -> None:
    """Each side has an address that lies on no network of the other."""
    lab.router.address("lo", "203.0.113.1/32")
    lab.place.address("lo", "203.0.113.2/32")
    lab.router("ip", "route", "add", "203.0.113.2", "via", NODE)
    lab.place("ip", "route", "add", "203.0.113.1", "via", ROUTER)


@pytest.mark.parametrize(
    ("there", "here", "is_far"), [(ROUTER, NODE, False), ("203.0.113.1", "203.0.113.2", True)]
)
def test_frr_watches_an_internal_peer_as_we_do(lab: Lab, there: str, here: str, is_far: bool) -> None:
    reach_loopbacks(lab)
    lan = Interface(name="eth0", up=True, networks=(ip_network(f"{NODE}/24", strict=False),))
    config = frr_config("bfd", f"update-source {there}", "passive", address=here, asn=ROUTER_ASN)
    with Frr(lab.router, config, bfd=True) as frr:
        tor = peer(there, local_address=ip_address(here), asn=ROUTER_ASN)
        is_many_hops = bfd.is_many_hops(tor, ROUTER_ASN, Host(interfaces=(lan,)))
        lab.node.apply(Wanted(tor, asn=ROUTER_ASN).state())
        until(lambda: frr.is_up(here), "BGP is up")
        lab.node.watch(
            {
                "tor": Neighbour(
                    address=tor.address,
                    local_address=tor.local_address,
                    timing=FAST,
                    is_many_hops=is_many_hops,
                )
            }
        )
        until(lambda: is_watched(lab), "BFD is up")
        assert [one["multihop"] for one in frr.show("bfd peers")] == [is_many_hops] == [is_far]


def test_another_timing_is_taken_up_while_the_session_goes_on(lab: Lab) -> None:
    with frr_of(lab) as frr:
        lab.node.apply(Wanted(peer()).state())
        lab.node.watch({"tor": Neighbour(address=peer().address, timing=FAST)})
        until(lambda: is_watched(lab) and bool(frr.route(VIP)), "BFD and BGP are up")
        slower = Timing(interval_seconds=0.4, multiplier=4)
        lab.node.watch({"tor": Neighbour(address=peer().address, timing=slower)})
        until(lambda: frr.show("bfd peers")[0]["remote-receive-interval"] == 400, "FRR knows of it")
        until(lambda: lab.node.watched()["tor"].transmit_seconds == 0.4, "and we that it does")
        assert frr.show("bfd peers counters")[0]["session-down"] == 0
        assert [change.state for _, change in lab.node.changes()] == [BfdState.UP]
        assert lab.node.status()["tor"].flaps == 0


def test_neighbours_many_hops_away(lab: Lab) -> None:
    reach_loopbacks(lab)
    with Frr(lab.router, frr_config(), bfd=True) as frr:
        frr.vty(
            "configure",
            "bfd",
            "peer 203.0.113.2 multihop local-address 203.0.113.1",
            "transmit-interval 100",
            "receive-interval 100",
        )
        here, there = peer("203.0.113.2").address, peer("203.0.113.1").address
        far = Neighbour(address=there, local_address=here, timing=FAST, is_many_hops=True)
        lab.node.watch({"tor": far})
        until(lambda: is_watched(lab), "BFD is up")
        until(lambda: frr.show("bfd peers")[0]["status"] == "up", "on both sides")


def test_bird_is_watched(lab: Lab) -> None:
    config = f"""router id {ROUTER};
protocol bfd {{ interface "eth0" {{ interval 100 ms; multiplier 3; }}; neighbor {NODE} dev "eth0"; }}"""
    with Bird(lab.router, lab.folder / "bird", config) as bird:
        lab.node.watch({"tor": Neighbour(address=peer().address, timing=FAST)})
        until(lambda: is_watched(lab), "BFD is up")
        until(lambda: "Up" in bird.ask("show bfd sessions"), "on both sides")
        lab.place.cut()
        until(lambda: not is_watched(lab), "the cut is seen", seconds=3)
