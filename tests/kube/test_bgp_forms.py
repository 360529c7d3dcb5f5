"""The BGP kinds as they come from the API server."""

import msgspec

from lbipam.kube import bgp_forms


def test_names_with_capitals_are_read_as_they_are_spelled() -> None:
    text = b"""{"metadata": {"name": "n1"}, "spec": {"bgpInstances": [{
        "name": "main", "localASN": 64512, "routerID": "10.0.0.9", "localPort": 179,
        "peers": [{"name": "tor", "peerASN": 64500, "peerAddress": "10.0.0.1", "localAddress": "10.0.0.9",
                   "autoDiscovery": {"mode": "DefaultGateway", "defaultGateway": {"addressFamily": "ipv6"}},
                   "peerConfigRef": {"name": "x", "kind": "CiliumBGPPeerConfig"}}]}]}}"""
    config = msgspec.json.decode(text, type=bgp_forms.NodeConfig)
    (instance,) = config.spec.bgp_instances
    (peer,) = instance.peers
    assert (instance.local_asn, instance.router_id, instance.local_port) == (64512, "10.0.0.9", 179)
    assert (peer.peer_asn, peer.local_address) == (64500, "10.0.0.9")
    assert peer.auto_discovery is not None
    assert peer.auto_discovery.default_gateway == bgp_forms.DefaultGateway(address_family="ipv6")


def test_a_specification_is_written_as_it_was_read() -> None:
    spec = {"bgpInstances": [{"name": "main", "localASN": 1, "peers": [{"name": "p", "peerASN": 2}]}]}
    written = msgspec.json.encode(msgspec.convert(spec, bgp_forms.NodeSpec))
    assert msgspec.json.decode(written) == spec


def test_absent_fields_have_the_defaults_of_the_definition() -> None:
    config = msgspec.json.decode(
        b'{"metadata": {"name": "x"}, "spec": {"timers": {}}}', type=bgp_forms.PeerConfig
    )
    assert config.spec.timers == bgp_forms.Timers(
        connect_retry_time_seconds=120, hold_time_seconds=90, keep_alive_time_seconds=30
    )


def test_every_kind_knows_where_the_server_keeps_it() -> None:
    assert bgp_forms.V2.node_config.path(name="n1", subresource="status") == (
        "/apis/cilium.io/v2/ciliumbgpnodeconfigs/n1/status"
    )
    assert bgp_forms.PEERING_POLICY.path() == "/apis/cilium.io/v2alpha1/ciliumbgppeeringpolicies"
