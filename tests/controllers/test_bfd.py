"""How paths are watched by BFD, and what is told of them."""

from ipaddress import ip_address, ip_network

import pytest

from lbipam.controllers import bfd
from lbipam.controllers.host import Host, Interface
from lbipam.core.bgp.peers import Peer

LAN = Interface(name="eth0", up=True, networks=(ip_network("192.0.2.0/24"), ip_network("fd00::/64")))
HOST = Host(interfaces=(LAN,))
OURS, THEIRS = 64512, 64513


@pytest.mark.parametrize(
    ("peer", "is_many_hops"),
    [
        (Peer(address=ip_address("192.0.2.9"), asn=OURS), False),
        (Peer(address=ip_address("fd00::9"), asn=OURS), False),
        (Peer(address=ip_address("fe80::9%eth0"), asn=OURS), False),
        (Peer(address=ip_address("203.0.113.1"), asn=OURS), True),
        (Peer(address=ip_address("203.0.113.1"), asn=0), True),
        (Peer(address=ip_address("203.0.113.1"), asn=THEIRS), False),
        (Peer(address=ip_address("192.0.2.9"), asn=THEIRS, hops=2), True),
        (Peer(address=ip_address("192.0.2.9"), asn=OURS, secure_hops=2), True),
        (Peer(address=ip_address("203.0.113.1"), asn=OURS, secure_hops=1), False),
        (Peer(address=ip_address("192.0.2.9"), asn=THEIRS, hops=9, secure_hops=1), False),
    ],
)
def test_internal_peers_are_many_hops_away_where_no_network_of_ours_has_them(
    peer: Peer, is_many_hops: bool
) -> None:
    assert bfd.is_many_hops(peer, OURS, HOST) is is_many_hops
