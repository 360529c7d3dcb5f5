"""BGP objects into values: what is understood, and what is reported."""

import base64
from ipaddress import IPv6Address, ip_address
from typing import Any

import pytest

from lbipam.core.bgp.codes import Family
from lbipam.core.ipam.labels import EVERYTHING
from lbipam.kube import bgp, bgp_forms, forms
from tests.builders_bgp import World, instance, peer


def settings(annotations: dict[str, str] | None = None, **spec: Any) -> bgp.PeerSettingsReading:
    return bgp.read_peer_config(World().peer_config("x", annotations=annotations, **spec).after)


def node_config(*instances: dict[str, Any]) -> bgp.NodeReading:
    change = World().put(bgp_forms.V2.node_config, "n1", spec={"bgpInstances": list(instances)})
    return bgp.read_node_config(change.after)


def one_peer(**written: Any) -> bgp.NodeReading:
    return node_config({"name": "main", "localASN": 64512, "peers": [{"name": "tor", **written}]})


# --- peers ------------------------------------------------------------------------------------------------


def test_an_empty_peer_configuration_has_ciliums_defaults() -> None:
    found = settings()
    assert found.problems == ()
    assert found.settings == bgp.PeerSettings()
    assert [one.family for one in found.settings.families] == [Family.IPV6, Family.IPV4]


def test_a_peer_configuration_is_read_whole() -> None:
    found = settings(
        {"lbipam.dev/bfd": "300ms/3", "lbipam.dev/ttl-security": "2"},
        transport={"peerPort": 1179},
        timers={"connectRetryTimeSeconds": 5, "holdTimeSeconds": 9, "keepAliveTimeSeconds": 3},
        authSecretRef="md5",
        gracefulRestart={"enabled": True, "restartTimeSeconds": 60},
        ebgpMultihop=4,
        families=[{"afi": "ipv4", "safi": "unicast", "advertisements": {}}],
    )
    assert found.problems == ()
    assert found.settings == bgp.PeerSettings(
        port=1179,
        connect_retry_seconds=5,
        hold_seconds=9,
        keepalive_seconds=3,
        secret="md5",
        restart_seconds=60,
        multihop=4,
        families=(bgp.FamilyAdverts(family=Family.IPV4, selector=EVERYTHING),),
        bfd=bgp.Bfd(interval_seconds=0.3, multiplier=3),
        secure_hops=2,
    )


def test_graceful_restart_that_is_not_enabled_is_off() -> None:
    assert settings(gracefulRestart={"enabled": False}).settings.restart_seconds is None


def test_a_keepalive_longer_than_the_hold_time_is_a_problem() -> None:
    found = settings(timers={"holdTimeSeconds": 3, "keepAliveTimeSeconds": 30})
    assert (found.settings.hold_seconds, found.settings.keepalive_seconds) == (3, 1)
    assert "keepAliveTimeSeconds can not be larger than holdTimeSeconds" in found.problems[0]


def test_families_that_are_not_spoken_are_reported() -> None:
    found = settings(families=[{"afi": "l2vpn", "safi": "evpn"}, {"afi": "ipv6", "safi": "unicast"}])
    assert [one.family for one in found.settings.families] == [Family.IPV6]
    assert "l2vpn/evpn" in found.problems[0]


def test_a_family_whose_selector_does_not_compile_announces_nothing() -> None:
    bad = {"matchExpressions": [{"key": "a", "operator": "In"}]}
    found = settings(families=[{"afi": "ipv4", "safi": "unicast", "advertisements": bad}])
    assert [one.selector for one in found.settings.families] == [None]
    assert len(found.problems) == 1


@pytest.mark.parametrize("text", ["", "300ms", "300/3", "fast/3", "300ms/0", "1ms/3", "2m/3", "300ms/x"])
def test_a_malformed_bfd_annotation_is_reported_and_bfd_is_off(text: str) -> None:
    found = settings({"lbipam.dev/bfd": text})
    assert found.settings.bfd is None
    assert "lbipam.dev/bfd" in found.problems[0]


@pytest.mark.parametrize("text", ["", "0", "255", "-1", "one", "1.0", " 1", "+1"])
def test_a_malformed_number_of_hops_is_reported_and_hops_are_not_looked_at(text: str) -> None:
    found = settings({"lbipam.dev/ttl-security": text})
    assert found.settings.secure_hops is None
    assert "lbipam.dev/ttl-security" in found.problems[0]


# --- a node's configuration -------------------------------------------------------------------------------


def test_a_nodes_configuration_is_read_whole() -> None:
    more = {"localAddress": "10.0.0.9", "peerConfigRef": {"name": "x"}}
    found = node_config(instance("main", peer("tor", "10.0.0.1", **more), localPort=179, routerID="10.0.0.9"))
    assert found.problems == ()
    (main,) = found.instances
    assert (main.local_asn, main.local_port, str(main.router_id)) == (64512, 179, "10.0.0.9")
    assert main.peers == (
        bgp.Peer(
            name="tor",
            location=bgp.FixedAddress(address=ip_address("10.0.0.1")),
            asn=64500,
            local_address=ip_address("10.0.0.9"),
            config="x",
        ),
    )


def test_a_link_local_peer_carries_its_interface() -> None:
    (main,) = one_peer(peerAddress="fe80::1", peerInterface="eth0").instances
    assert main.peers[0].location == bgp.FixedAddress(address=IPv6Address("fe80::1%eth0"))


def test_the_default_gateway_can_be_the_peer() -> None:
    discovery = {"mode": "DefaultGateway", "defaultGateway": {"addressFamily": "ipv6"}}
    (main,) = one_peer(autoDiscovery=discovery).instances
    assert main.peers[0].location == bgp.GatewayAddress(family=Family.IPV6)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ({}, "one of peerAddress or autoDiscovery must be set"),
        ({"peerAddress": "router"}, "does not appear to be"),
        (
            {"peerAddress": "10.0.0.1", "peerInterface": "eth0"},
            "peerAddress must be an IPv6 link-local address (fe80::/10) when peerInterface is set",
        ),
        (
            {"peerAddress": "fe80::1", "peerInterface": "eth0", "localAddress": "fe80::2"},
            "localAddress must not be set when peerInterface is set",
        ),
        ({"peerAddress": "10.0.0.1", "localAddress": "me"}, "does not appear to be"),
        (
            {"peerAddress": "fe80::1"},
            "peerAddress is link-local and does not name its interface, as in fe80::1%eth0",
        ),
        (
            {"peerAddress": "fe80::1%eth0", "localAddress": "fe80::2"},
            "localAddress is link-local and does not name its interface, as in fe80::2%eth0",
        ),
        (
            {"autoDiscovery": {"mode": "DefaultGateway"}},
            "defaultGateway must be set when mode is DefaultGateway",
        ),
        (
            {"autoDiscovery": {"mode": "DefaultGateway", "defaultGateway": {"addressFamily": "ipx"}}},
            "'ipx' is not an addressFamily",
        ),
        ({"autoDiscovery": {"mode": "Unnumbered", "unnumbered": {"interface": "eth0"}}}, "unnumbered"),
        ({"autoDiscovery": {"mode": "Magic"}}, "'Magic' is not a mode"),
    ],
)
def test_a_malformed_peer_is_reported_under_its_instance(written: dict[str, Any], problem: str) -> None:
    found = one_peer(**written)
    assert [one.peers for one in found.instances] == [()]
    ((name, text),) = found.problems
    assert name == "main"
    assert text.startswith("peer tor: ")
    assert problem in text


def test_an_instance_without_an_as_number_is_reported_and_the_others_stand() -> None:
    found = node_config({"name": "bare"}, instance("main"))
    assert [one.name for one in found.instances] == ["main"]
    assert found.problems[0][0] == "bare"


def test_a_malformed_router_id_is_reported_and_left_out() -> None:
    found = node_config(instance("main", routerID="fd00::1"))
    assert found.instances[0].router_id is None
    assert "routerID" in found.problems[0][1]


# --- secrets and nodes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "password"),
    [
        ({"password": base64.b64encode(b"secret").decode()}, b"secret"),
        ({"password": "%%%"}, b""),
        ({}, b""),
        (None, b""),
    ],
)
def test_the_password_is_read_from_its_key(data: dict[str, str] | None, password: bytes) -> None:
    secret = World().put(forms.SECRET, "md5", namespace="kube-system", data=data).after
    assert bgp.read_password(secret) == password


def test_without_a_secret_the_password_is_empty() -> None:
    assert bgp.read_password(None) == b""


@pytest.mark.parametrize(("text", "drains"), [("true", True), ("false", False), ("yes", False)])
def test_only_true_drains_a_node(text: str, drains: bool) -> None:
    assert bgp.wants_drain(World().node("n1", annotations={"lbipam.dev/drain": text}).after) is drains
