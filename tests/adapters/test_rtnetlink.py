"""What the kernel says, through the bytes of netlink; those of another library are read alike."""

import asyncio
from ipaddress import ip_address, ip_interface
from socket import AF_INET, AF_INET6
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from lbipam.adapters import host_network, rtnetlink
from lbipam.adapters.rtnetlink import DefaultRoute, Groups, Link, Netlink, OwnAddress, Question
from lbipam.controllers import host
from tests.lab.l2 import inside, lan
from tests.lab.l2.inside import MAC_A, ip

missing = lan.why_no_lab()
needs_a_lab = pytest.mark.skipif(missing is not None, reason=str(missing))


@pytest.mark.parametrize("kind", ["vlan", "bridge", "bond"])
def test_the_kind_of_a_virtual_interface_is_read(kind: str) -> None:
    message = ifinfmsg()
    message["index"], message["ifi_type"], message["flags"] = 7, 1, 1 | 1 << 16
    message["attrs"] = [
        ("IFLA_IFNAME", "eth0.5"),
        ("IFLA_ADDRESS", MAC_A.hex(":")),
        ("IFLA_OPERSTATE", "UP"),
        ("IFLA_MASTER", 3),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", kind)]}),
    ]
    message["header"]["type"] = 16
    message.encode()
    (told,) = rtnetlink.told_in(bytes(message.data))
    assert told == Link(
        is_gone=False,
        family=0,
        index=7,
        type=1,
        flags=1 | 1 << 16,
        state=6,
        name="eth0.5",
        hardware=MAC_A,
        master=3,
        kind=kind,
    )


def of(netlink: Netlink, question: Question, kind: type[Any], family: int = 0) -> list[Any]:
    return [one for one in netlink.ask(question, family) if isinstance(one, kind)]


@pytest.mark.lab
@needs_a_lab
def test_links_addresses_and_default_routes_are_told() -> None:
    async def test() -> None:
        ip("address", "add", "192.0.2.1/24", "dev", "here0")
        ip("address", "add", "198.51.100.1", "peer", "198.51.100.2/32", "dev", "here0")
        ip("address", "add", "2001:db8::1/64", "dev", "here0", "nodad")
        ip("route", "add", "default", "via", "192.0.2.9", "metric", "50")
        ip("route", "add", "default", "via", "192.0.2.8", "table", "99")
        ip("route", "add", "203.0.113.0/24", "via", "192.0.2.7")
        ip("-6", "route", "add", "default", "via", "2001:db8::9", "metric", "70")
        with Netlink() as netlink:
            links = {one.name: one for one in of(netlink, Question.LINKS, Link)}
            addresses = of(netlink, Question.ADDRESSES, OwnAddress)
            routes = of(netlink, Question.ROUTES, DefaultRoute, AF_INET)
            routes += of(netlink, Question.ROUTES, DefaultRoute, AF_INET6)
        here = links["here0"]
        assert (here.hardware, here.kind, here.type, here.is_gone) == (MAC_A, "veth", 1, False)
        assert {"192.0.2.1/24", "198.51.100.1/32", "2001:db8::1/64"} <= {
            str(one.address) for one in addresses if one.index == here.index
        }
        assert routes == [
            DefaultRoute(gateway=ip_address("192.0.2.9"), index=here.index, metric=50),
            DefaultRoute(gateway=ip_address("2001:db8::9"), index=here.index, metric=70),
        ]
        read = host_network.read_host()
        interface = read.interface("here0")
        assert interface is not None
        assert interface.up
        assert interface.mac == MAC_A
        assert ip_address("2001:db8::1") in interface.addresses
        assert read.gateway(4) == host.DefaultRoute(
            gateway=ip_address("192.0.2.9"), interface="here0", metric=50
        )
        assert read.gateway(6) == host.DefaultRoute(
            gateway=ip_address("2001:db8::9"), interface="here0", metric=70
        )

    inside.with_link(test)


@pytest.mark.lab
@needs_a_lab
def test_an_address_that_another_host_may_have_is_none_of_ours_yet() -> None:
    async def test() -> None:
        ip("address", "add", "2001:db8::1/64", "dev", "here0", "nodad")
        ip("address", "add", "2001:db8::2/64", "dev", "here0")
        found = host_network.read_host().interface("here0")
        assert found is not None
        assert {ip_address("2001:db8::1")} == {one for one in found.addresses if not one.is_link_local}

    inside.with_link(test)


@pytest.mark.lab
@needs_a_lab
def test_who_is_next_to_the_host_is_known_by_its_networks() -> None:
    async def test() -> None:
        ip("address", "add", "192.0.2.1/24", "dev", "here0")
        ip("address", "add", "198.51.100.1", "peer", "203.0.113.1/32", "dev", "here0")
        host = host_network.read_host()
        near = ("192.0.2.9", "203.0.113.1", "fe80::9%here0")
        assert all(host.is_next_to(ip_address(one)) for one in near)
        assert not any(host.is_next_to(ip_address(one)) for one in ("198.51.100.2", "203.0.113.2"))

    inside.with_link(test)


@pytest.mark.lab
@needs_a_lab
def test_what_changes_is_told_unasked() -> None:
    async def test() -> None:
        with Netlink(Groups.LINKS | Groups.IPV4_ADDRESSES) as netlink:
            ip("address", "add", "192.0.2.1/24", "dev", "here0")
            ip("address", "del", "192.0.2.1/24", "dev", "here0")
            ip("link", "del", "here0")
            told: list[rtnetlink.Told] = []
            async with asyncio.timeout(20):
                while not any(isinstance(one, Link) and one.is_gone for one in told):
                    told += await netlink.hear()
        address = ip_interface("192.0.2.1/24")
        own = [one for one in told if isinstance(one, OwnAddress) and one.address == address]
        assert [one.is_gone for one in own] == [False, True]

    inside.with_link(test)
