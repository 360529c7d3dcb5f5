"""Flows in the kernel's connection table, made by hand and forgotten."""

import os
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import count

import pytest
from pyroute2 import netns

from lbipam.adapters import conntrack
from lbipam.core.datapath.nft import Forget
from lbipam.core.datapath.services import Protocol

pytestmark = pytest.mark.lab

_numbers = count()


@pytest.fixture(autouse=True)
def own_netns() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")
    name = f"ct{os.getpid()}-{next(_numbers)}"
    netns.create(name)
    netns.pushns(name)
    try:
        yield
    finally:
        netns.popns()
        netns.remove(name)


def flow(client: str, vip: str, endpoint: str, *, protocol: str = "udp", port: int = 53) -> None:
    """A flow from the client to the address, which goes on to the endpoint."""
    state = "--state ESTABLISHED" if protocol == "tcp" else ""
    there = f"-s {client} -d {vip} --sport 4000 --dport {port}"
    back = f"-r {endpoint} -q {client} --reply-port-src 5353 --reply-port-dst 4000"
    command = f"conntrack -I -p {protocol} -t 600 {there} {back} {state}"
    subprocess.run(command.split(), check=True, capture_output=True)


def endpoints_seen() -> list[str]:
    listing = subprocess.run(["conntrack", "-L"], check=True, capture_output=True, text=True).stdout
    listing += subprocess.run(
        ["conntrack", "-L", "-f", "ipv6"], check=True, capture_output=True, text=True
    ).stdout
    return sorted(line.split("src=")[2].split()[0] for line in listing.splitlines() if "src=" in line)


def stale(vip: str, *keep: str, protocol: Protocol = Protocol.UDP) -> Forget:
    kept = frozenset((ip_address(address), 5353) for address in keep)
    return Forget(address=ip_address(vip), protocol=protocol, port=53, keep=kept)


def test_flows_to_endpoints_that_left_are_forgotten_and_no_others() -> None:
    flow("192.0.2.1", "198.19.0.1", "10.1.0.2")
    flow("192.0.2.2", "198.19.0.1", "10.1.0.3")
    flow("192.0.2.3", "198.19.0.2", "10.1.0.2")
    flow("192.0.2.4", "198.19.0.1", "10.1.0.2", port=54)
    flow("192.0.2.5", "198.19.0.1", "10.1.0.9", protocol="tcp")
    assert conntrack.forget([stale("198.19.0.1", "10.1.0.3")]) == 1
    assert endpoints_seen() == ["10.1.0.2", "10.1.0.2", "10.1.0.3", "10.1.0.9"]


def test_both_families_are_forgotten_at_once() -> None:
    flow("192.0.2.1", "198.19.0.1", "10.1.0.2")
    flow("fd00:9::1", "fd00:19::1", "fd00:1::2")
    assert conntrack.forget([stale("198.19.0.1"), stale("fd00:19::1")]) == 2
    assert endpoints_seen() == []


def test_an_empty_table_has_nothing_to_forget() -> None:
    assert conntrack.forget([stale("198.19.0.1")]) == 0


def test_a_table_larger_than_one_message_is_read_to_its_end() -> None:
    for number in range(256):
        flow(f"192.0.2.{number}", "198.19.0.1", "10.1.0.2")
    assert conntrack.forget([stale("198.19.0.1", "10.1.0.2")]) == 0
    assert conntrack.forget([stale("198.19.0.1")]) == 256
