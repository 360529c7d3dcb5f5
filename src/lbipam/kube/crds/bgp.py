"""What do the BGP kinds look like to the API server?

    CiliumBGPClusterConfig ── names ──▶ CiliumBGPPeerConfig ── selects ──▶ CiliumBGPAdvertisement
            │ one per selected node, with the node's CiliumBGPNodeConfigOverride
            ▼
    CiliumBGPNodeConfig

Fields, validation and defaults are Cilium's; v2 is stored, v2alpha1 deprecated and but for one field the
same. The schemas that several of these kinds use are in `bgp_parts`. This file does not say what a session
makes of them.
"""

from typing import Any

from lbipam.kube.crds import bgp_parts
from lbipam.kube.crds.schema import (
    Names,
    Schema,
    Version,
    array,
    conditions,
    definition,
    integer,
    label_selector,
    record,
    text,
)

_DISCOVERY_RULES = (
    (
        "self.mode != 'DefaultGateway' || has(self.defaultGateway)",
        "defaultGateway must be set when mode is DefaultGateway",
    ),
    ("self.mode != 'Unnumbered' || has(self.unnumbered)", "unnumbered must be set when mode is Unnumbered"),
)
_LINK_LOCAL = "self.peerAddress.startsWith('fe80:') || self.peerAddress.startsWith('FE80:')"
_LINK_LOCAL_RULE = (
    f"!has(self.peerInterface) || !has(self.peerAddress) || {_LINK_LOCAL}",
    "peerAddress must be an IPv6 link-local address (fe80::/10) when peerInterface is set",
)
_SOURCE_RULE = (
    "!has(self.peerInterface) || !has(self.localAddress)",
    "localAddress must not be set when peerInterface is set",
)
_REACHABLE_RULE = (
    "has(self.peerAddress) || has(self.autoDiscovery)",
    "one of peerAddress or autoDiscovery must be set",
)


_ADVERTISEMENT_RULES = (
    (
        "self.advertisementType != 'Service' || has(self.service)",
        "service field is required for the 'Service' advertisementType",
    ),
    (
        "self.advertisementType == 'Service' || !has(self.service)",
        "service field is not allowed for non-'Service' advertisementType",
    ),
    (
        "self.advertisementType != 'Interface' || has(self.interface)",
        "interface field is required for the 'Interface' advertisementType",
    ),
    (
        "self.advertisementType == 'Interface' || !has(self.interface)",
        "interface field is not allowed for non-'Interface' advertisementType",
    ),
    (
        "self.advertisementType != 'PodCIDR' || !has(self.selector)",
        "selector field is not allowed for the 'PodCIDR' advertisementType",
    ),
)


def cluster_config() -> dict[str, Any]:
    """`CiliumBGPClusterConfig`: which nodes speak BGP with whom."""
    peer = record(_peer_fields(), required=("name",), rules=(_LINK_LOCAL_RULE,))
    spec = record(
        {
            "nodeSelector": label_selector("Nodes that speak BGP as told here; absent: all."),
            "bgpInstances": _instances(
                {
                    "peers": array(peer, "Routers to speak with.", map_keys=("name",)),
                    "bmpServers": array(
                        _monitoring_server(), "Collectors of BMP (RFC 7854).", map_keys=("name",)
                    ),
                }
            ),
        },
        required=("bgpInstances",),
    )
    return _kind("ClusterConfig", "cbgpcluster", "BGP of the selected nodes.", spec, _conditions_only())


def node_config() -> dict[str, Any]:
    """`CiliumBGPNodeConfig`: what one node is to do, written by the controller, and what came of it."""
    peer = record(
        {**_peer_fields(), "localAddress": bgp_parts.address("Source address of the session.")},
        required=("name",),
        rules=(_LINK_LOCAL_RULE, _SOURCE_RULE, _REACHABLE_RULE),
    )
    spec = record(
        {
            "bgpInstances": _instances(
                {
                    "routerID": text("BGP identifier.", form="ipv4"),
                    "peers": array(peer, "Routers to speak with.", map_keys=("name",)),
                    "bmpServers": array(
                        _monitoring_server(), "Collectors of BMP (RFC 7854).", map_keys=("name",)
                    ),
                }
            )
        },
        required=("bgpInstances",),
    )
    return _kind("NodeConfig", "cbgpnode", "BGP of one node.", spec, _node_status())


def node_override() -> dict[str, Any]:
    """`CiliumBGPNodeConfigOverride`: what is different on the node of the same name."""
    peer = record(
        {
            "name": _name("Name of the peer in the instance."),
            "localAddress": bgp_parts.address("Source address of the session."),
            "localPort": bgp_parts.port("Without effect."),
        },
        required=("name",),
    )
    instance = record(
        {
            "name": _name("Name of the instance in the CiliumBGPClusterConfig."),
            "routerID": text("BGP identifier.", form="ipv4"),
            "localPort": bgp_parts.port("Port to listen on."),
            "localASN": bgp_parts.asn("AS number of the node."),
            "peers": array(peer, map_keys=("name",)),
        },
        required=("name",),
    )
    spec = record(
        {"bgpInstances": array(instance, size=(1, None), map_keys=("name",))}, required=("bgpInstances",)
    )
    return _kind("NodeConfigOverride", "cbgpnodeoverride", "What BGP does differently on one node.", spec)


def peer_config() -> dict[str, Any]:
    """`CiliumBGPPeerConfig`: how to speak with a peer."""
    timers = record(
        bgp_parts.timers(),
        "Timers of RFC 4271, in seconds; a change of the last two resets the session.",
        rules=(
            (
                "self.keepAliveTimeSeconds <= self.holdTimeSeconds",
                "keepAliveTimeSeconds can not be larger than holdTimeSeconds",
            ),
        ),
    )
    family = record(
        {
            **bgp_parts.family_fields(),
            "advertisements": label_selector("CiliumBGPAdvertisements whose routes are sent; absent: none."),
        },
        required=("afi", "safi"),
    )
    transport = {"peerPort": bgp_parts.port("Port of the peer.", default=179)}
    fields = {
        "timers": timers,
        "authSecretRef": text("Secret whose key password signs the session (RFC 2385)."),
        "gracefulRestart": bgp_parts.graceful_restart(),
        "ebgpMultihop": integer(
            "Routers that an external session may cross, plus one.", bounds=(1, 255), default=1
        ),
        "families": array(family, "Families of the session; absent: IPv4 and IPv6 unicast."),
    }
    alpha = record({**transport, "localPort": bgp_parts.port("Without effect: an instance has the port.")})
    return _kind(
        "PeerConfig",
        "cbgppeer",
        "How to speak BGP with a peer.",
        record({"transport": record(transport), **fields}),
        _conditions_only(),
        alpha=record({"transport": alpha, **fields}),
    )


def advertisement() -> dict[str, Any]:
    """`CiliumBGPAdvertisement`: which routes are sent, and with which attributes."""
    service = record(
        {
            "addresses": array(
                text(enum=bgp_parts.ADDRESS_TYPES), "Which addresses of the Service.", size=(1, None)
            ),
            "aggregationLengthIPv4": integer("Length of the prefix sent in place of /32.", bounds=(0, 31)),
            "aggregationLengthIPv6": integer("Length of the prefix sent in place of /128.", bounds=(0, 127)),
        },
        required=("addresses",),
    )
    interface = record({"name": _name("Name of a network interface of the node.")}, required=("name",))
    attributes = record(
        {
            "communities": bgp_parts.communities(),
            "localPreference": integer("Preference inside the AS; internal sessions only."),
        }
    )
    item = record(
        {
            "advertisementType": text(enum=("PodCIDR", "CiliumPodIPPool", "Service", "Interface")),
            "service": service,
            "interface": interface,
            "selector": label_selector("Objects whose routes are sent; absent: none."),
            "attributes": attributes,
        },
        required=("advertisementType",),
        rules=_ADVERTISEMENT_RULES,
    )
    spec = record({"advertisements": array(item)}, required=("advertisements",))
    return _kind("Advertisement", "cbgpadvert", "Routes to send.", spec)


def _kind(
    word: str,
    short: str,
    description: str,
    spec: Schema,
    status: Schema | None = None,
    *,
    alpha: Schema | None = None,
) -> dict[str, Any]:
    """A kind in both versions; `alpha` is the older one's `spec` where it has more."""
    rest = {} if status is None else {"status": status}
    kind = f"CiliumBGP{word}"
    return definition(
        Names(
            group="cilium.io",
            kind=kind,
            plural=f"{kind.lower()}s",
            short=(short,),
            categories=("cilium", "ciliumbgp"),
        ),
        description,
        (
            Version(name="v2", properties={"spec": spec, **rest}, status=status is not None),
            Version(
                name="v2alpha1",
                properties={"spec": alpha or spec, **rest},
                status=status is not None,
                deprecated=True,
            ),
        ),
    )


def _instances(more: dict[str, Schema]) -> Schema:
    instance = record(
        {
            "name": _name("Name of the instance."),
            "localASN": bgp_parts.asn("AS number of the node; absent: the override gives it."),
            "localPort": bgp_parts.port("Port to listen on; absent: the node does not listen."),
            **more,
        },
        required=("name",),
    )
    return array(instance, "Virtual routers.", size=(1, 16), map_keys=("name",))


def _peer_fields() -> dict[str, Schema]:
    gateway = record(
        {"addressFamily": text("Family of the default route.", enum=("ipv4", "ipv6"))},
        required=("addressFamily",),
    )
    return {
        "name": _name("Name of the peer, unique in the instance."),
        "peerAddress": bgp_parts.address("Address of the peer; a zone may follow after %."),
        "peerASN": integer("AS number of the peer; 0: whatever it says.", bounds=(0, 2**32 - 1), default=0),
        "peerInterface": _name("Interface on which a link-local peer is found."),
        "autoDiscovery": record(
            {
                "mode": text(enum=("DefaultGateway", "Unnumbered")),
                "defaultGateway": gateway,
                "unnumbered": record(
                    {"interface": _name("Interface on which the peer is found.")}, required=("interface",)
                ),
            },
            "How to find the address of the peer.",
            required=("mode",),
            rules=_DISCOVERY_RULES,
        ),
        "peerConfigRef": record(
            {"name": text(), "group": text(), "kind": text()},
            "CiliumBGPPeerConfig to use; absent: its defaults.",
            required=("name",),
        ),
    }


def _monitoring_server() -> Schema:
    return record(
        {
            "name": _name("Name of the collector."),
            "peerAddress": bgp_parts.address("Address of the collector."),
            "peerPort": bgp_parts.port("Port of the collector.", default=11019),
            "monitoringPolicy": text(enum=("pre", "post", "both", "local", "all"), default="pre"),
            "statisticsTimeout": integer("Seconds between reports; absent: none.", bounds=(15, 65535)),
        },
        "Accepted so that manifests apply; nothing is exported.",
        required=("name", "peerAddress"),
    )


def _name(description: str) -> Schema:
    return text(description, length=(1, 255))


def _conditions_only() -> Schema:
    return record({"conditions": conditions()})


def _node_status() -> Schema:
    routes = record(
        {
            **bgp_parts.family_fields(),
            "received": integer("Routes that the peer has sent."),
            "advertised": integer("Routes that the peer has been sent."),
        },
        required=("afi", "safi"),
    )
    timers = record(
        {
            "appliedHoldTimeSeconds": integer("Agreed hold time."),
            "appliedKeepaliveSeconds": integer("Interval of keepalives that follows from it."),
        }
    )
    peer = record(
        {
            "name": text(),
            "peerAddress": text(),
            "peerASN": integer(),
            "peeringState": text("State of the session, as in RFC 4271 §8."),
            "timers": timers,
            "establishedTime": text("Since when the session is established (RFC 3339)."),
            "routeCount": array(routes, map_keys=("afi", "safi")),
        },
        required=("name", "peerAddress"),
    )
    instance = record(
        {"name": text(), "localASN": integer(), "peers": array(peer, map_keys=("name",))}, required=("name",)
    )
    return record({"bgpInstances": array(instance, map_keys=("name",)), "conditions": conditions()})
