"""Traffic through a restart of the agent: with graceful restart nothing is lost."""

import re
import subprocess
import time
from dataclasses import replace

import pytest

from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.fsm import State
from tests.lab.bgp.conftest import NODE, NODE_ASN, ROUTER, ROUTER_ASN, VIP, Lab, Wanted, frr_config, peer
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
