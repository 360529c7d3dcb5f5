"""Sockets for BGP, on loopback."""

import socket
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from lbipam.adapters import bgp_socket
from lbipam.core.bgp.peers import Address, Peer
from tests.lab.l2 import inside, lan
from tests.lab.l2.inside import ip

missing = lan.why_no_lab()
needs_a_lab = pytest.mark.skipif(missing is not None, reason=str(missing))


def ttl_of(peer: Peer, local_asn: int) -> int:
    with bgp_socket.outgoing(peer, local_asn) as sock:
        if sock.family == socket.AF_INET:
            return sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL)
        return sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)


@pytest.mark.parametrize("address", [ip_address("127.0.0.1"), ip_address("::1")])
def test_how_far_packets_may_travel(address: Address) -> None:
    external = Peer(address=address, asn=64513)
    assert ttl_of(external, 64512) == 1
    assert ttl_of(Peer(address=address, asn=64513, hops=4), 64512) == 4
    assert ttl_of(Peer(address=address, asn=64512), 64512) == 255
    assert ttl_of(Peer(address=address, asn=64513, secure_hops=1), 64512) == 255


def test_addresses_with_a_zone_are_put_together_and_taken_apart() -> None:
    address = ip_address("fe80::1%lo")
    there = bgp_socket.socket_address(address, 179)
    assert there == ("fe80::1", 179, 0, socket.if_nametoindex("lo"))
    assert bgp_socket.address_of(there) == address
    assert bgp_socket.address_of(("192.0.2.1", 179)) == IPv4Address("192.0.2.1")
    with pytest.raises(OSError, match="no interface"):
        bgp_socket.socket_address(ip_address("fe80::1%no-such-link"), 179)


def test_our_end_knows_what_else_its_interface_has() -> None:
    with socket.socket() as listener, socket.socket() as sock:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sock.connect(listener.getsockname())
        local = bgp_socket.local_addresses(sock)
    assert (local.address, local.ipv4) == (IPv4Address("127.0.0.1"), IPv4Address("127.0.0.1"))
    assert local.ipv6 in (IPv6Address("::1"), None)


@pytest.mark.lab
@needs_a_lab
def test_an_address_that_was_found_before_goes_on_as_long_as_it_is_there() -> None:
    async def test() -> None:
        addresses = {IPv6Address("2001:db8::1"), IPv6Address("2001:db8::2")}
        ip("address", "add", "192.0.2.1/24", "dev", "here0")
        for address in addresses:
            ip("address", "add", f"{address}/64", "dev", "here0", "nodad")
        with socket.socket() as sock:
            sock.bind(("192.0.2.1", 0))
            here = bgp_socket.local_addresses(sock)
            assert here.ipv6 in addresses
            for address in addresses:
                before = replace(here, ipv6=address)
                assert bgp_socket.local_addresses(sock, before) == before
            ip("address", "del", f"{address}/64", "dev", "here0")
            assert bgp_socket.local_addresses(sock, before).ipv6 in addresses - {address}

    inside.with_link(test)
