"""Nodes that announce addresses on a LAN, as real Linux clients see them."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.lab.l2 import lan as labs
from tests.lab.l2.lan import Lan, eventually

missing = labs.why_no_lab()
pytestmark = [pytest.mark.lab, pytest.mark.skipif(missing is not None, reason=str(missing))]

FOUR, SIX = "192.0.2.80", "2001:db8::80"
MANY = [f"198.18.{number // 250}.{number % 250 + 1}" for number in range(1000)]
BOTH = pytest.mark.parametrize("address", [FOUR, SIX])


@pytest.fixture
def lan() -> Iterator[Lan]:
    with labs.lan() as found:
        yield found


def wait_until_found(lan: Lan, address: str, mac: str) -> None:
    eventually(lambda: lan.who_has("c1", address) == mac, f"{mac} to answer for {address}")


@BOTH
def test_a_client_finds_the_node_that_announces(lan: Lan, address: str) -> None:
    n1, n2 = lan.node("n1"), lan.node("n2")
    assert lan.who_has("c1", address) == ""
    n1.announce(address)
    assert lan.who_has("c1", address) == lan.mac("n1")
    n1.announce()
    n2.announce(address)
    assert lan.who_has("c2", address) == lan.mac("n2")


def test_arping_and_ndisc6_are_answered_once(lan: Lan) -> None:
    lan.node("n1").announce(FOUR, SIX)
    lan.node("n2").announce()
    arping = lan.run("c1", "arping", "-c", "2", "-I", "eth0", FOUR)
    assert "Received 2 response(s)" in arping
    assert lan.mac("n1") in arping.lower()
    ndisc6 = lan.run("c1", "ndisc6", "-m", "-1", SIX, "eth0")
    assert lan.mac("n1") in ndisc6.lower()


@BOTH
def test_ping_is_answered_whatever_its_size(lan: Lan, address: str) -> None:
    lan.node("n1").announce(address)
    for size in ("0", "57", "1400"):
        assert " 0% packet loss" in lan.run("c1", "ping", "-c", "3", "-i", "0.05", "-s", size, address)


@BOTH
def test_ping_is_left_to_others_when_told_so(lan: Lan, address: str) -> None:
    node = lan.node("n1", "--no-echo")
    node.announce(address)
    assert lan.who_has("c1", address) == lan.mac("n1")
    assert "100% packet loss" in lan.run("c1", "ping", "-c", "1", "-W", "0.3", address, check=False)


@BOTH
def test_an_address_that_moves_loses_at_most_one_ping_a_move(lan: Lan, address: str) -> None:
    nodes = [lan.node(name) for name in labs.NODES]
    nodes[0].announce(address)
    lan.who_has("c1", address)
    ping = lan.spawn("c1", "ping", "-i", "0.1", "-D", "-O", address)
    try:
        assert ping.stdout is not None
        answered: list[int] = []
        for held, taking in [(0, 1), (1, 2), (2, 0)]:
            while len(answered) % 8 != 7:
                answered += map(int, re.findall(r"bytes from .*icmp_seq=(\d+)", ping.stdout.readline()))
            answered += map(int, re.findall(r"bytes from .*icmp_seq=(\d+)", ping.stdout.readline()))
            nodes[held].announce()
            nodes[taking].announce(address)
        ping.send_signal(signal.SIGINT)
        rest, _ = ping.communicate(timeout=labs.DEADLINE_SECONDS)
    finally:
        ping.kill()
        ping.wait()
    answered += map(int, re.findall(r"bytes from .*icmp_seq=(\d+)", rest))
    assert max(later - earlier for earlier, later in pairwise(answered)) <= 2
    assert lan.neighbour("c1", address) == lan.mac("n1")


@BOTH
def test_an_address_that_moves_is_known_to_clients_without_their_asking(lan: Lan, address: str) -> None:
    n1, n2 = lan.node("n1"), lan.node("n2")
    n1.announce(address)
    assert lan.who_has("c1", address) == lan.mac("n1")
    n1.announce()
    n2.announce(address)
    eventually(lambda: lan.neighbour("c1", address) == lan.mac("n2"), "the client to have heard")


@BOTH
def test_an_address_that_another_host_has_is_not_announced(lan: Lan, address: str) -> None:
    length = "32" if address == FOUR else "128"
    lan.run(
        "c2",
        "ip",
        "addr",
        "add",
        f"{address}/{length}",
        "dev",
        "eth0",
        *(["nodad"] if address == SIX else []),
    )
    node = lan.node("n1")
    node.announce(address, handed_over=False)
    conflict = node.wait_until_told(conflict=address)
    assert (conflict["rival"], conflict["stage"]) == (lan.mac("c2"), "conflict")
    assert lan.who_has("c1", address) == lan.mac("c2")
    assert node.status()["stages"] == {"conflict": 1}
    assert node.told(announced=address) == []


@BOTH
def test_an_address_that_nobody_has_is_announced_after_asking(lan: Lan, address: str) -> None:
    node = lan.node("n1")
    node.announce(address, handed_over=False)
    node.wait_until_told(announced=address)
    assert lan.who_has("c1", address) == lan.mac("n1")


def test_a_host_that_takes_an_announced_address_is_told_of_and_answered(lan: Lan) -> None:
    node = lan.node("n1")
    node.announce(FOUR)
    assert "Received 1 response(s)" in lan.run(
        "c2", "arping", "-D", "-c", "1", "-I", "eth0", FOUR, check=False
    )
    lan.run("c2", "ip", "addr", "add", f"{FOUR}/32", "dev", "eth0")
    lan.run("c2", "arping", "-U", "-c", "1", "-I", "eth0", FOUR, check=False)
    assert node.wait_until_told(conflict=FOUR)["rival"] == lan.mac("c2")
    assert node.status()["stages"] == {"announced": 1}


def test_a_linux_host_does_not_take_an_announced_ipv6_address(lan: Lan) -> None:
    lan.node("n1").announce(SIX)
    lan.run("c2", "ip", "addr", "add", f"{SIX}/64", "dev", "eth0")
    eventually(
        lambda: "dadfailed" in lan.run("c2", "ip", "addr", "show", "dev", "eth0", "to", SIX),
        "duplicate address detection to fail",
    )


def test_nothing_is_answered_behind_the_fence(lan: Lan) -> None:
    node = lan.node("n1")
    node.apply({"eth0": [FOUR, SIX]}, handed_over=[FOUR, SIX], valid_for=3600)
    assert lan.who_has("c1", FOUR) == lan.mac("n1")
    node.extend(0)
    assert lan.who_has("c1", FOUR) == lan.who_has("c1", SIX) == ""
    node.extend(3600)
    assert lan.who_has("c1", FOUR) == ""
    assert node.status()["ignored"]["fenced"] > 0
    node.announce(FOUR)
    assert lan.who_has("c1", FOUR) == lan.mac("n1")


def test_solicited_node_groups_are_joined_and_left(lan: Lan) -> None:
    lan.run("sw", "ip", "link", "set", "br0", "type", "bridge", "mcast_snooping", "1", "mcast_querier", "1")
    lan.run("sw", "sysctl", "-q", "-w", "net.ipv6.conf.br0.disable_ipv6=0")
    node = lan.node("n1")
    neighbours = ("2001:db8::1:0:80", SIX)  # of one group

    def reported() -> bool:
        return "port n1 grp ff02::1:ff00:80" in lan.run("sw", "bridge", "mdb", "show")

    node.announce(*neighbours)
    eventually(reported, "the group in the bridge's table")
    node.announce(SIX)
    assert lan.mac("n1") in lan.run("c1", "ndisc6", "-m", "-1", SIX, "eth0").lower()
    assert reported()
    node.announce()
    eventually(lambda: not reported(), "the group to be left")


def test_a_node_announces_on_its_bridge(lan: Lan) -> None:
    lan.run("n1", "ip", "link", "add", "lan", "address", "02:00:00:00:00:0b", "up", "type", "bridge")
    lan.run("n1", "ip", "link", "set", "eth0", "master", "lan")
    node = lan.node("n1")
    node.apply({"lan": [FOUR, SIX]}, handed_over=[FOUR, SIX])
    for address in (FOUR, SIX):
        wait_until_found(lan, address, "02:00:00:00:00:0b")


def test_frames_of_a_vlan_are_not_answered_on_the_interface_below(lan: Lan) -> None:
    node = lan.node("n1")
    node.announce(FOUR)
    asked = lan.run("c1", sys.executable, "-m", "tests.lab.l2.tagged", "5", FOUR)
    assert asked.strip() == "silence"
    asked = lan.run("c1", sys.executable, "-m", "tests.lab.l2.tagged", "0", FOUR)
    assert asked.strip() == lan.mac("n1")


def test_an_address_is_announced_on_the_interface_that_it_is_wanted_on_and_on_no_other(lan: Lan) -> None:
    lan.run(
        "n1",
        "ip",
        "link",
        "add",
        "eth0.5",
        "type",
        "veth",
        "peer",
        "name",
        "n1.5",
        "netns",
        lan.namespace("c1"),
    )
    lan.run("n1", "ip", "link", "set", "eth0.5", "up")
    lan.run("c1", "ip", "link", "set", "n1.5", "up")
    lan.run("c1", "ip", "addr", "add", "203.0.113.101/24", "dev", "n1.5")
    lan.run("c2", "ip", "addr", "add", "203.0.113.102/24", "dev", "eth0")
    mac = lan.run("n1", "cat", "/sys/class/net/eth0.5/address").strip()
    node = lan.node("n1")
    node.apply({"eth0.5": ["203.0.113.80"]}, handed_over=["203.0.113.80"])
    assert lan.who_has("c1", "203.0.113.80") == mac
    assert lan.who_has("c2", "203.0.113.80") == ""


def test_an_interface_that_comes_later_is_waited_for_and_one_that_goes_is_told_of(lan: Lan) -> None:
    lan.run("n1", "ip", "link", "del", "eth0")
    node = lan.node("n1")
    node.announce(FOUR, SIX)
    assert node.status()["stages"] == {"waiting": 2}
    lan.plug("n1")
    node.wait_until_told(ready="eth0")
    for address in (FOUR, SIX):
        wait_until_found(lan, address, lan.mac("n1"))
    lan.run("n1", "ip", "link", "del", "eth0")
    node.wait_until_told(lost="eth0")
    assert node.status()["stages"] == {"waiting": 2}
    lan.plug("n1")
    wait_until_found(lan, SIX, lan.mac("n1"))


def test_a_carrier_that_returns_is_told_what_is_announced(lan: Lan) -> None:
    node = lan.node("n1")
    node.announce(FOUR)
    lan.run("sw", "ip", "link", "set", "n1", "down")
    node.wait_until_told(lost="eth0")
    lan.run("c1", "ip", "neigh", "replace", FOUR, "lladdr", lan.mac("n2"), "dev", "eth0", "nud", "stale")
    lan.run("sw", "ip", "link", "set", "n1", "up")
    eventually(lambda: lan.neighbour("c1", FOUR) == lan.mac("n1"), "the client to have heard")


@BOTH
def test_an_interface_with_a_new_mac_is_announced_under_it(lan: Lan, address: str) -> None:
    node = lan.node("n1")
    node.announce(address)
    assert lan.who_has("c1", address) == lan.mac("n1")
    lan.run("n1", "ip", "link", "set", "eth0", "address", "02:00:00:00:00:77")
    eventually(lambda: lan.neighbour("c1", address) == "02:00:00:00:00:77", "the client to have heard")
    assert lan.who_has("c1", address) == "02:00:00:00:00:77"


def test_a_worker_that_is_killed_is_replaced_and_its_addresses_announced_again(lan: Lan) -> None:
    node = lan.node("n1")
    node.announce(FOUR)
    os.kill(node.worker, signal.SIGKILL)
    eventually(lambda: len(node.told(announced=FOUR)) == 2, "a second announcement")
    assert lan.who_has("c1", FOUR) == lan.mac("n1")


def test_a_thousand_addresses_are_announced_and_answered(lan: Lan) -> None:
    node = lan.node("n1")
    node.announce(*MANY, handed_over=False)
    eventually(lambda: set(node.status()["stages"]) == {"announced"}, "all to be announced")
    assert lan.ask("c1", 500, 2, MANY)["answered"] == 1000


def test_ten_thousand_requests_a_second_are_all_answered(lan: Lan) -> None:
    lan.node("n1").announce(*MANY)
    found = lan.ask("c1", 10_000, 2, MANY)
    assert found["answered"] == found["sent"] == 20_000
