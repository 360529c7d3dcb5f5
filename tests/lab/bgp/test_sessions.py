"""Sessions with FRR, BIRD and GoBGP, and what these make of our routes."""

from dataclasses import replace

import pytest

from lbipam.core.bgp.codes import GRACEFUL_SHUTDOWN, Family
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.peers import PeerDown, PeerUp
from lbipam.core.bgp.routes import RouteAttributes
from tests.lab.bgp.conftest import (
    NODE,
    NODE6,
    NODE_ASN,
    ROUTER,
    ROUTER6,
    ROUTER_ASN,
    VIP,
    VIP6,
    Lab,
    Wanted,
    frr_config,
    peer,
)
from tests.lab.bgp.namespaces import until
from tests.lab.bgp.routers import Bird, Frr, Gobgp

pytestmark = pytest.mark.lab

MARKED = RouteAttributes(
    communities=frozenset({GRACEFUL_SHUTDOWN, 64512 << 16 | 7}),
    large_communities=frozenset({(4200000001, 2, 3)}),
    local_preference=250,
)


def is_up(lab: Lab) -> bool:
    return lab.node.status()["tor"].state is State.ESTABLISHED


def test_frr_has_both_families_over_ipv4_with_all_that_is_said(lab: Lab) -> None:
    with Frr(lab.router, frr_config()) as frr:
        lab.node.apply(Wanted(peer(), said=MARKED).state())
        until(lambda: bool(frr.route(VIP) and frr.route(VIP6)), "FRR has both routes")
        for prefix, hop in ((VIP, NODE), (VIP6, NODE6)):
            route = frr.route(prefix)
            assert route["aspath"]["string"] == str(NODE_ASN)
            assert route["nexthops"][0]["ip"] == hop
            assert set(route["community"]["list"]) == {"gracefulShutdown", "64512:7"}
            assert route["largeCommunity"]["string"] == "4200000001:2:3"
            assert route["valid"]
        status = lab.node.status()["tor"]
        assert status.advertised == {Family.IPV4: 1, Family.IPV6: 1}
        assert (status.asn, status.hold_seconds, status.keepalive_seconds) == (ROUTER_ASN, 9, 3)
        lab.node.apply(Wanted(peer(), prefixes=(VIP6,)).state())
        until(lambda: not frr.route(VIP), "the IPv4 route is withdrawn")
        assert "community" not in frr.route(VIP6)
        assert lab.node.events() == [PeerUp(peer="tor")]


def test_an_internal_peer_hears_the_preference(lab: Lab) -> None:
    with Frr(lab.router, frr_config(asn=ROUTER_ASN)) as frr:
        lab.node.apply(Wanted(peer(asn=0), said=MARKED, asn=ROUTER_ASN).state())
        until(lambda: bool(frr.route(VIP)), "FRR has the route")
        assert frr.route(VIP)["locPrf"] == 250
        assert frr.route(VIP)["aspath"]["length"] == 0


@pytest.mark.parametrize(
    ("line", "hop"), [("capability extended-nexthop", NODE6), ("description classic", NODE)]
)
def test_over_ipv6_transport_ipv4_routes_lead_where_the_peer_can_follow(
    lab: Lab, line: str, hop: str
) -> None:
    with Frr(lab.router, frr_config(line, address=NODE6)) as frr:
        lab.node.apply(Wanted(peer(ROUTER6)).state())
        until(lambda: bool(frr.route(VIP) and frr.route(VIP6)), "FRR has both routes")
        assert frr.route(VIP)["nexthops"][0]["ip"] == hop
        assert frr.route(VIP6)["nexthops"][0]["ip"] == NODE6


def test_link_local_peers_are_met_in_their_zone(lab: Lab) -> None:
    here, there = lab.place.link_local("eth0"), lab.router.link_local("eth0")
    config = frr_config("interface eth0", "capability extended-nexthop", address=here)
    with Frr(lab.router, config) as frr:
        lab.node.apply(Wanted(peer(f"{there}%eth0", password=b"")).state())
        until(lambda: bool(frr.route(VIP6)), "FRR has the route")
        assert {hop["ip"] for hop in frr.route(VIP6)["nexthops"]} == {NODE6, here}


@pytest.mark.parametrize(("address", "neighbour"), [(ROUTER, NODE), (ROUTER6, NODE6)])
def test_a_password_must_be_the_same_on_both_sides(lab: Lab, address: str, neighbour: str) -> None:
    with Frr(lab.router, frr_config("password secret", "passive", address=neighbour)) as frr:
        lab.node.apply(Wanted(peer(address, password=b"wrong")).state())
        until(
            lambda: "TCPMD5" in lab.router("nstat", "-az", "TcpExtTCPMD5Failure") and _md5_failures(lab) > 0,
            "a bad signature is seen",
        )
        assert not is_up(lab)
        lab.node.apply(Wanted(peer(address, password=b"secret")).state())
        until(lambda: frr.is_up(neighbour), "FRR accepts the right password")


def _md5_failures(lab: Lab) -> int:
    words = lab.router("nstat", "-az", "TcpExtTCPMD5Failure").split()
    return int(words[words.index("TcpExtTCPMD5Failure") + 1])


def test_a_peer_that_connects_to_us_is_checked_for_its_password_too(lab: Lab) -> None:
    with Frr(lab.router, frr_config("password secret")) as frr:
        wrong = Wanted(peer(password=b"wrong", connect_retry_seconds=2), listen_port=179)
        lab.node.apply(wrong.state())
        until(lambda: _md5_failures_at_node(lab) > 0, "a bad signature is seen")
        assert not frr.is_up(NODE)
        lab.node.apply(Wanted(peer(password=b"secret"), listen_port=179).state())
        until(lambda: frr.is_up(NODE), "FRR is accepted with the right password")


def _md5_failures_at_node(lab: Lab) -> int:
    words = lab.place("nstat", "-az", "TcpExtTCPMD5Failure").split()
    return int(words[words.index("TcpExtTCPMD5Failure") + 1])


def test_multihop_sessions_between_loopbacks(lab: Lab) -> None:
    lab.router.address("lo", "203.0.113.1/32")
    lab.place.address("lo", "203.0.113.2/32")
    lab.router("ip", "route", "add", "203.0.113.2", "via", NODE)
    lab.place("ip", "route", "add", "203.0.113.1", "via", ROUTER)
    config = frr_config("ebgp-multihop 2", "update-source 203.0.113.1", "passive", address="203.0.113.2")
    with Frr(lab.router, config) as frr:
        far = peer("203.0.113.1", local_address=peer("203.0.113.2").address, hops=2)
        lab.node.apply(Wanted(far).state())
        until(lambda: frr.is_up("203.0.113.2"), "the session is up")
        assert frr.route(VIP)["nexthops"][0]["ip"] == "203.0.113.2"


def test_ttl_security_on_both_sides(lab: Lab) -> None:
    with Frr(lab.router, frr_config("ttl-security hops 1")) as frr:
        lab.node.apply(Wanted(peer(secure_hops=1), listen_port=179).state())
        until(lambda: frr.is_up(NODE), "the session is up")


def test_ttl_security_keeps_others_out(lab: Lab) -> None:
    with Frr(lab.router, frr_config("passive")) as frr:
        lab.node.apply(Wanted(peer(secure_hops=1)).state())
        until(
            lambda: lab.node.status()["tor"].last_ending is not None or _drops(lab) > 0, "packets are dropped"
        )
        assert not frr.is_up(NODE)


def _drops(lab: Lab) -> int:
    words = lab.place("nstat", "-az", "TcpExtTCPMinTTLDrop").split()
    return int(words[words.index("TcpExtTCPMinTTLDrop") + 1])


def test_bird_has_both_families_with_all_that_is_said(lab: Lab) -> None:
    config = f"""router id {ROUTER};
protocol bgp tor {{ local {ROUTER} as {ROUTER_ASN}; neighbor {NODE} as {NODE_ASN}; hold time 9; connect retry time 1;
  error wait time 1, 2; ipv4 {{ import all; export none; }}; ipv6 {{ import all; export none; }}; }}"""
    with Bird(lab.router, lab.folder / "bird", config) as bird:
        lab.node.apply(Wanted(peer(), said=MARKED).state())
        until(lambda: bird.count("master4") == bird.count("master6") == 1, "BIRD has both routes")
        for prefix, hop in ((VIP, NODE), (VIP6, NODE6)):
            said = bird.ask(f"show route {prefix} all")
            assert f"BGP.as_path: {NODE_ASN}" in said
            assert hop in said
            assert "(64512,7) (65535,0)" in said
            assert "(4200000001, 2, 3)" in said
        lab.node.apply(Wanted(peer(), prefixes=()).state())
        until(lambda: bird.count("master4") == bird.count("master6") == 0, "both are withdrawn")


def test_gobgp_has_both_families(lab: Lab) -> None:
    families = "".join(
        f"""
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = "{family}-unicast\""""
        for family in ("ipv4", "ipv6")
    )
    config = f"""
[global.config]
  as = {ROUTER_ASN}
  router-id = "{ROUTER}"
[[neighbors]]
  [neighbors.config]
    neighbor-address = "{NODE}"
    peer-as = {NODE_ASN}
  [neighbors.transport.config]
    passive-mode = true
{families}
"""
    with Gobgp(lab.router, lab.folder / "gobgp", config) as gobgp:
        lab.node.apply(Wanted(peer(), said=MARKED).state())
        until(lambda: VIP in gobgp.routes("ipv4") and VIP6 in gobgp.routes("ipv6"), "GoBGP has both routes")
        lab.node.apply(Wanted(peer(), prefixes=()).state())
        until(lambda: not gobgp.routes("ipv4") and not gobgp.routes("ipv6"), "both are withdrawn")


def test_of_two_connections_made_at_once_one_is_left(lab: Lab) -> None:
    with Frr(lab.router, frr_config("timers delayopen 1")) as frr:
        lab.node.apply(Wanted(peer(), listen_port=179).state())
        until(lambda: frr.is_up(NODE), "the session is up")
        until(lambda: len(_sockets(lab)) == 1, "one connection is left")
        until(lambda: bool(frr.route(VIP)), "and works")
        assert is_up(lab)


def _sockets(lab: Lab) -> list[str]:
    return lab.place("ss", "-Htn", "state", "established", "( sport = :179 or dport = :179 )").splitlines()


def test_a_peer_can_come_to_us(lab: Lab) -> None:
    with Frr(lab.router, frr_config()) as frr:
        lab.node.apply(Wanted(peer(port=9), listen_port=179).state())
        until(lambda: bool(frr.route(VIP)), "FRR has connected and has the route")


def test_silence_for_the_hold_time_ends_a_session_and_speech_brings_it_back(lab: Lab) -> None:
    with Frr(lab.router, frr_config("timers 1 3", "timers connect 1")) as frr:
        lab.node.apply(Wanted(peer(hold_seconds=3, keepalive_seconds=1)).state())
        until(lambda: is_up(lab), "the session is up")
        lab.place.cut()
        until(
            lambda: any(isinstance(one, PeerDown) for one in lab.node.events()), "our hold timer has expired"
        )
        until(lambda: not frr.route(VIP), "the route is gone")
        ending = lab.node.status()["tor"].last_ending
        assert ending is not None
        lab.place.mend()
        until(lambda: bool(frr.route(VIP)), "the route is back")
        assert lab.node.status()["tor"].flaps == 1


def test_a_router_that_restarts_is_told_everything_again(lab: Lab) -> None:
    with Frr(lab.router, frr_config()) as frr:
        lab.node.apply(Wanted(peer()).state())
        until(lambda: bool(frr.route(VIP)), "the route is there")
        frr.kill()
        until(lambda: not is_up(lab), "the loss is seen")
        frr.start()
        until(lambda: bool(frr.route(VIP)), "the route is there again")


def test_a_router_that_refuses_us_is_quoted(lab: Lab) -> None:
    with Frr(lab.router, frr_config("passive")) as frr:
        lab.node.apply(Wanted(peer(), asn=64999).state())
        until(lambda: lab.node.status()["tor"].last_ending is not None, "FRR has refused")
        assert "Open Message/Bad Peer As (2/2)" in str(lab.node.status()["tor"].last_ending)
        assert not frr.is_up(NODE)


def test_a_change_of_one_peer_leaves_the_others_alone(lab: Lab) -> None:
    with Frr(lab.router, frr_config() + frr_config(address=NODE6)) as frr:
        wanted = Wanted(peer(), others={"six": peer(ROUTER6)})
        lab.node.apply(wanted.state())
        until(lambda: frr.is_up(NODE) and frr.is_up(NODE6), "both sessions are up")
        lab.node.apply(replace(wanted, others={"six": peer(ROUTER6, hold_seconds=30)}).state())
        until(lambda: lab.node.status()["six"].state is State.ESTABLISHED, "the changed one is back")
        assert [one for one in lab.node.events() if isinstance(one, PeerDown) and one.peer == "tor"] == []
        assert lab.node.status()["tor"].flaps == 0


def test_a_hundred_routers(lab: Lab) -> None:
    count = 100
    addresses = [(f"198.19.{n}.1", f"198.19.{n}.2") for n in range(count)]
    for there, here in addresses:
        lab.router("ip", "address", "add", f"{there}/30", "dev", "eth0")
        lab.place("ip", "address", "add", f"{here}/30", "dev", "eth0")
    neighbours = "\n".join(
        f" neighbor {here} remote-as {NODE_ASN}\n neighbor {here} passive\n neighbor {here} update-source {there}"
        for there, here in addresses
    )
    config = f"router bgp {ROUTER_ASN}\n bgp router-id {ROUTER}\n no bgp ebgp-requires-policy\n{neighbours}\n"
    with Frr(lab.router, config) as frr:
        peers = {
            f"r{n}": peer(there, local_address=peer(here).address)
            for n, (there, here) in enumerate(addresses)
        }
        prefixes = tuple(f"10.0.{n // 256}.{n % 256}/32" for n in range(100))
        lab.node.apply(Wanted(peers.pop("r0"), prefixes=prefixes, others=peers).state())

        def accepted() -> list[int]:
            found = frr.show("bgp ipv4 unicast summary").get("peers", {})
            return [int(one.get("pfxRcd", 0)) for one in found.values()]

        until(lambda: accepted() == [100] * count, "every one of them has every route")
