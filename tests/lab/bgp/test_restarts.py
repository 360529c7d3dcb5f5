"""Traffic through a restart of the agent: with graceful restart nothing is lost."""

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from typing import Any

import pytest

from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.peers import PeerDown, PeerUp, SpeakerState
from tests.lab.bgp.conftest import (
    NODE,
    NODE_ASN,
    ROUTER,
    ROUTER_ASN,
    VIP,
    VIP6,
    Lab,
    Wanted,
    frr_config,
    peer,
)
from tests.lab.bgp.namespaces import until
from tests.lab.bgp.routers import Bird, Frr

pytestmark = pytest.mark.lab

GRACEFUL = peer(restart_seconds=60)


class Probes:
    """Pings from the router to the address, every 10 ms."""

    def __init__(self, lab: Lab) -> None:
        lab.place.address("lo", VIP)
        self._process = subprocess.Popen(
            ("ip", "netns", "exec", lab.router.name, "ping", "-nq", "-i", "0.01", VIP.partition("/")[0]),
            stdout=subprocess.PIPE,
            text=True,
        )

    def lost(self) -> int:
        self._process.send_signal(2)
        out, _ = self._process.communicate(timeout=10)
        found = re.search(r"(\d+) packets transmitted, (\d+) received", out)
        assert found is not None, out
        sent, received = map(int, found.groups())
        assert sent > 100
        return sent - received


def is_up(lab: Lab) -> bool:
    return lab.node.status()["tor"].state is State.ESTABLISHED


def in_fib(lab: Lab) -> bool:
    return VIP.partition("/")[0] in lab.router("ip", "route", "show")


@pytest.mark.parametrize("how", ["kill -9", "told to stop"])
def test_nothing_is_lost_while_the_agent_restarts(lab: Lab, how: str) -> None:
    with Frr(lab.router, frr_config("graceful-restart-helper")) as frr:
        wanted = Wanted(GRACEFUL).state()
        lab.node.apply(wanted)
        lab.node.synced()
        until(lambda: in_fib(lab), "the router forwards")
        assert lab.node.status()["tor"].keeps_routes
        probes = Probes(lab)
        if how != "kill -9":
            lab.node.leave(keep_routes=True)
        lab.node.restart()
        until(lambda: not frr.is_up(NODE), "the router has noticed")
        _stay(lab, 1.0)
        lab.node.apply(replace(wanted, routes={}))
        until(lambda: is_up(lab), "the session is back")
        _stay(lab, 1.0)
        lab.node.apply(wanted)
        lab.node.synced()
        until(lambda: lab.node.status()["tor"].pending == 0, "all is announced")
        until(lambda: not frr.route(VIP).get("stale", False), "the route is fresh")
        _stay(lab, 0.5)
        assert probes.lost() == 0


def _stay(lab: Lab, seconds: float) -> None:
    """The router forwards all the while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert in_fib(lab)


def _renamed(state: SpeakerState) -> SpeakerState:
    return replace(
        state, peers={"spine": state.peers["tor"]}, policies={"spine": dict(state.policies["tor"])}
    )


def _with_peer(state: SpeakerState, **changes: Any) -> SpeakerState:
    return replace(state, peers={"tor": replace(state.peers["tor"], **changes)})


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (partial(_with_peer, hold_seconds=12), "tor"),
        (partial(_with_peer, families=frozenset({Family.IPV4})), "tor"),
        (partial(replace, router_id=IPv4Address("192.0.2.9")), "tor"),
        (_renamed, "spine"),
    ],
    ids=["hold time", "families", "router ID", "name"],
)
def test_nothing_is_lost_while_a_change_of_the_configuration_resets_the_session(
    lab: Lab, change: Callable[[SpeakerState], SpeakerState], name: str
) -> None:
    with Frr(lab.router, frr_config("graceful-restart-helper")) as frr:
        wanted = Wanted(GRACEFUL).state()
        lab.node.apply(wanted)
        lab.node.synced()
        until(lambda: in_fib(lab), "the router forwards")
        until(lambda: lab.node.status()["tor"].pending == 0, "all is announced")
        probes = Probes(lab)
        after = change(wanted)
        lab.node.apply(after)
        until(lambda: PeerUp(peer=name) in lab.node.events()[1:], "there is another session")
        until(lambda: not frr.route(VIP).get("stale", False), "the route is fresh")
        has_ipv6 = Family.IPV6 in after.peers[name].families
        until(lambda: bool(frr.route(VIP6)) is has_ipv6, "of IPv6 there is what is wanted")
        _stay(lab, 1.5)
        assert probes.lost() == 0


@pytest.mark.parametrize(
    "change",
    [
        partial(_with_peer, address=IPv4Address("198.18.0.9")),
        partial(_with_peer, local_address=IPv4Address("198.18.0.3")),
    ],
    ids=["another router", "another address of ours"],
)
def test_a_router_that_would_not_know_us_again_drops_the_routes_at_once(
    lab: Lab, change: Callable[[SpeakerState], SpeakerState]
) -> None:
    lab.place.address("eth0", "198.18.0.3/24")
    with Frr(lab.router, frr_config("graceful-restart-helper")) as frr:
        wanted = Wanted(GRACEFUL).state()
        lab.node.apply(wanted)
        lab.node.synced()
        until(lambda: bool(frr.route(VIP)), "the route is there")
        lab.node.apply(change(wanted))
        until(lambda: not frr.route(VIP), "the route is gone")
        down = lab.node.events()[1]
        assert isinstance(down, PeerDown)
        assert str(down.ending) == "sent Cease/Other Configuration Change (6/6)"


def test_what_is_gone_after_a_restart_is_withdrawn_by_the_end_of_rib(lab: Lab) -> None:
    with Frr(lab.router, frr_config("graceful-restart-helper")) as frr:
        wanted = Wanted(GRACEFUL).state()
        lab.node.apply(wanted)
        lab.node.synced()
        until(lambda: bool(frr.route(VIP)), "the route is there")
        lab.node.restart()
        lab.node.apply(replace(wanted, routes={}))
        until(lambda: is_up(lab), "the session is back")
        assert frr.route(VIP)
        lab.node.synced()
        until(lambda: not frr.route(VIP), "the route that is wanted no longer is gone")


def test_leaving_withdraws_at_once_even_where_routes_would_be_kept(lab: Lab) -> None:
    with Frr(lab.router, frr_config("graceful-restart-helper")) as frr:
        lab.node.apply(Wanted(GRACEFUL).state())
        lab.node.synced()
        until(lambda: bool(frr.route(VIP)), "the route is there")
        lab.node.leave(keep_routes=False, communication="node is drained")
        until(lambda: not frr.route(VIP), "the route is gone")
        assert frr.neighbour(NODE)["lastNotificationReason"] == "Cease/Administrative Shutdown"


def test_a_peer_that_does_not_keep_routes_is_told(lab: Lab) -> None:
    with Frr(lab.router, frr_config("graceful-restart-disable")) as frr:
        lab.node.apply(Wanted(GRACEFUL).state())
        lab.node.synced()
        until(lambda: bool(frr.route(VIP)), "the route is there")
        assert not lab.node.status()["tor"].keeps_routes
        lab.node.leave(keep_routes=True)
        until(lambda: not frr.route(VIP), "the route is gone")
        assert frr.neighbour(NODE)["lastNotificationReason"] == "Cease/Administrative Shutdown"


def test_bird_keeps_routes_too(lab: Lab) -> None:
    config = f"""router id {ROUTER};
protocol kernel {{ ipv4 {{ export all; }}; }}
protocol bgp tor {{ local {ROUTER} as {ROUTER_ASN}; neighbor {NODE} as {NODE_ASN}; connect retry time 1;
  error wait time 1, 2; ipv4 {{ import all; export none; }}; }}"""
    with Bird(lab.router, lab.folder / "bird", config) as bird:
        wanted = Wanted(replace(GRACEFUL, families=frozenset({Family.IPV4}))).state()
        lab.node.apply(wanted)
        lab.node.synced()
        until(lambda: in_fib(lab), "the router forwards")
        probes = Probes(lab)
        lab.node.restart()
        until(lambda: not bird.is_up("tor"), "the router has noticed")
        _stay(lab, 1.0)
        lab.node.apply(wanted)
        lab.node.synced()
        until(lambda: is_up(lab), "the session is back")
        _stay(lab, 1.0)
        assert probes.lost() == 0
