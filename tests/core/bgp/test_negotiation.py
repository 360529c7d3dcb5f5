"""What two OPENs come to."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from lbipam.core.bgp import negotiation
from lbipam.core.bgp.codes import Family, OpenError
from lbipam.core.bgp.errors import ProtocolError
from lbipam.core.bgp.messages import (
    ExtendedMessage,
    ExtendedNextHop,
    FourOctetAsn,
    GracefulRestart,
    Multiprotocol,
    Open,
    RouteRefreshing,
)
from lbipam.core.bgp.peers import Identity, LocalAddresses, Peer

OURS = Identity(asn=64512, router_id=IPv4Address("192.0.2.1"))
PEER = Peer(address=ip_address("192.0.2.2"), asn=64513)
THEIRS = Open(
    asn=64513,
    hold_seconds=30,
    router_id=IPv4Address("192.0.2.2"),
    capabilities=(Multiprotocol(family=(1, 1)), Multiprotocol(family=(25, 70)), FourOctetAsn(asn=64513)),
)
HERE = IPv4Address("192.0.2.1")
GLOBAL, LINK_LOCAL = IPv6Address("2001:db8::1"), IPv6Address("fe80::1%eth0")


def test_route_refresh_and_extended_messages_are_offered_to_everybody() -> None:
    offered = negotiation.propose(PEER, OURS, restarted=False).capabilities
    assert {RouteRefreshing(), ExtendedMessage()} <= set(offered)


def test_the_shorter_hold_time_counts_and_keepalives_come_thrice_in_it() -> None:
    agreement = negotiation.agree(PEER, OURS, THEIRS)
    assert (agreement.hold_seconds, agreement.keepalive_seconds) == (30, 10)
    agreement = negotiation.agree(replace(PEER, hold_seconds=9, keepalive_seconds=1), OURS, THEIRS)
    assert (agreement.hold_seconds, agreement.keepalive_seconds) == (9, 1)


def test_a_hold_time_of_zero_is_for_ever() -> None:
    agreement = negotiation.agree(PEER, OURS, replace(THEIRS, hold_seconds=0))
    assert (agreement.hold_seconds, agreement.keepalive_seconds) == (0, 0)


def test_only_families_of_both_are_spoken_of() -> None:
    assert negotiation.agree(PEER, OURS, THEIRS).families == {Family.IPV4}


def test_a_peer_that_names_no_family_means_ipv4() -> None:
    assert negotiation.agree(PEER, OURS, replace(THEIRS, capabilities=())).families == {Family.IPV4}


def test_a_peer_of_any_as_is_taken_at_its_word() -> None:
    agreement = negotiation.agree(replace(PEER, asn=0), OURS, THEIRS)
    assert agreement.theirs == Identity(asn=64513, router_id=IPv4Address("192.0.2.2"))
    assert not agreement.context.internal
    same = negotiation.agree(
        replace(PEER, asn=0), OURS, replace(THEIRS, capabilities=(FourOctetAsn(asn=64512),))
    )
    assert same.context.internal


@pytest.mark.parametrize(
    ("theirs", "subcode"),
    [
        (replace(THEIRS, capabilities=(FourOctetAsn(asn=64514),)), OpenError.BAD_PEER_AS),
        (replace(THEIRS, capabilities=(FourOctetAsn(asn=0),)), OpenError.BAD_PEER_AS),
        (replace(THEIRS, router_id=IPv4Address(0)), OpenError.BAD_BGP_IDENTIFIER),
        (replace(THEIRS, hold_seconds=2), OpenError.UNACCEPTABLE_HOLD_TIME),
    ],
)
def test_an_open_that_cannot_be_accepted_says_why(theirs: Open, subcode: OpenError) -> None:
    with pytest.raises(ProtocolError) as raised:
        negotiation.agree(PEER, OURS, theirs)
    assert raised.value.notification.subcode == subcode


def test_our_own_router_id_is_refused_within_our_as_only() -> None:
    twin = replace(THEIRS, router_id=OURS.router_id)
    assert negotiation.agree(PEER, OURS, twin).theirs.router_id == OURS.router_id
    with pytest.raises(ProtocolError):
        negotiation.agree(
            replace(PEER, asn=64512), OURS, replace(twin, capabilities=(FourOctetAsn(asn=64512),))
        )


def test_graceful_restart_is_offered_where_it_is_asked_for() -> None:
    def offered(peer: Peer) -> list[GracefulRestart]:
        proposal = negotiation.propose(peer, OURS, restarted=True)
        return [one for one in proposal.capabilities if isinstance(one, GracefulRestart)]

    assert offered(PEER) == []
    assert offered(replace(PEER, restart_seconds=120)) == [
        GracefulRestart(restarted=True, seconds=120, families=(((1, 1), True), ((2, 1), True)))
    ]


def test_a_peer_keeps_our_routes_if_both_sides_restart_gracefully() -> None:
    helper = GracefulRestart(restarted=False, seconds=0, families=())
    theirs = replace(THEIRS, capabilities=(*THEIRS.capabilities, helper))
    assert negotiation.agree(replace(PEER, restart_seconds=120), OURS, theirs).keeps_routes
    assert not negotiation.agree(PEER, OURS, theirs).keeps_routes
    assert not negotiation.agree(replace(PEER, restart_seconds=120), OURS, THEIRS).keeps_routes


def test_long_messages_need_both_sides() -> None:
    assert negotiation.agree(PEER, OURS, THEIRS).maximum == 4096
    theirs = replace(THEIRS, capabilities=(*THEIRS.capabilities, ExtendedMessage()))
    assert negotiation.agree(PEER, OURS, theirs).maximum == 65535


def test_a_wide_asn_of_ours_is_hidden_in_the_old_field() -> None:
    proposal = negotiation.propose(PEER, Identity(asn=4200000001, router_id=OURS.router_id), restarted=False)
    assert proposal.asn == 23456
    assert FourOctetAsn(asn=4200000001) in proposal.capabilities


BOTH = tuple(Multiprotocol(family=family.value) for family in Family)
OVER_SIX = ExtendedNextHop(families=(((1, 1), 2),))


@pytest.mark.parametrize(
    ("local", "offers", "hops"),
    [
        (
            LocalAddresses(address=HERE, ipv4=HERE, ipv6=GLOBAL),
            BOTH,
            {Family.IPV4: HERE.packed, Family.IPV6: GLOBAL.packed},
        ),
        (
            LocalAddresses(address=HERE, ipv4=HERE),
            BOTH,
            {
                Family.IPV4: HERE.packed,
                Family.IPV6: "the interface of the session has no global IPv6 address",
            },
        ),
        (
            LocalAddresses(address=GLOBAL, ipv6=GLOBAL, ipv4=HERE),
            BOTH,
            {Family.IPV4: HERE.packed, Family.IPV6: GLOBAL.packed},
        ),
        (
            LocalAddresses(address=GLOBAL, ipv6=GLOBAL, ipv4=HERE),
            (*BOTH, OVER_SIX),
            {Family.IPV4: GLOBAL.packed, Family.IPV6: GLOBAL.packed},
        ),
        (
            LocalAddresses(address=GLOBAL),
            BOTH,
            {
                Family.IPV4: "the peer takes no IPv6 next hop for IPv4 (RFC 8950)",
                Family.IPV6: GLOBAL.packed,
            },
        ),
        (
            LocalAddresses(address=LINK_LOCAL, ipv6=GLOBAL),
            BOTH[1:],
            {Family.IPV6: GLOBAL.packed + LINK_LOCAL.packed},
        ),
        (LocalAddresses(address=LINK_LOCAL), BOTH[1:], {Family.IPV6: LINK_LOCAL.packed * 2}),
    ],
)
def test_where_routes_lead(
    local: LocalAddresses, offers: tuple[Multiprotocol, ...], hops: dict[Family, bytes | str]
) -> None:
    agreement = negotiation.agree(
        PEER, OURS, replace(THEIRS, capabilities=(*offers, FourOctetAsn(asn=64513)))
    )
    assert negotiation.next_hops(agreement, local) == hops
