"""Which fields of the BGP kinds does lbipam read?

One `msgspec.Struct` per kind; v2 and v2alpha1 have the same fields, so that they share their forms. Defaults
are those of the CustomResourceDefinitions. This file does not judge whether what it decodes makes sense.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from lbipam.kube.forms import Condition, ConditionsStatus, Form, LabelSelector, Metadata
from lbipam.kube.kinds import Kind

# --- CiliumBGPClusterConfig, CiliumBGPNodeConfig ----------------------------------------------------------


class DefaultGateway(Form, frozen=True, omit_defaults=True):
    """Of which family's default route the gateway is the peer."""

    address_family: str = ""


class Unnumbered(Form, frozen=True, omit_defaults=True):
    """On which interface the peer is to be found."""

    interface: str = ""


class AutoDiscovery(Form, frozen=True, omit_defaults=True):
    """How to find the peer's address."""

    mode: str = ""
    default_gateway: DefaultGateway | None = None
    unnumbered: Unnumbered | None = None


class PeerConfigReference(Form, frozen=True, omit_defaults=True):
    """The `CiliumBGPPeerConfig` that a peer uses."""

    name: str = ""


class Peer(Form, frozen=True, omit_defaults=True):
    """A peer; `local_address` in a node's configuration only."""

    name: str = ""
    peer_address: str | None = None
    peer_asn: int = msgspec.field(default=0, name="peerASN")
    peer_interface: str | None = None
    local_address: str | None = None
    auto_discovery: AutoDiscovery | None = None
    peer_config_ref: PeerConfigReference | None = None


class Instance(Form, frozen=True, omit_defaults=True):
    """A virtual router; `router_id` in a node's configuration only."""

    name: str = ""
    local_asn: int | None = msgspec.field(default=None, name="localASN")
    local_port: int | None = None
    router_id: str | None = msgspec.field(default=None, name="routerID")
    peers: tuple[Peer, ...] = ()


class ClusterSpec(Form, frozen=True):
    """What the selected nodes are to do."""

    node_selector: LabelSelector | None = None
    bgp_instances: tuple[Instance, ...] = ()


class ClusterConfig(Form, frozen=True):
    """`CiliumBGPClusterConfig`."""

    metadata: Metadata
    spec: ClusterSpec = ClusterSpec()
    status: ConditionsStatus = ConditionsStatus()


class NodeSpec(Form, frozen=True, omit_defaults=True):
    """What one node is to do."""

    bgp_instances: tuple[Instance, ...] = ()


class RouteCount(Form, frozen=True):
    """Routes of one family, as far as the session has come."""

    afi: str
    safi: str
    received: int = 0
    advertised: int = 0


class AppliedTimers(Form, frozen=True, omit_defaults=True):
    """What the two sides agreed on, in seconds."""

    applied_hold_time_seconds: int | None = None
    applied_keepalive_seconds: int | None = None


class PeerStatus(Form, frozen=True, omit_defaults=True):
    """A session as its node sees it."""

    name: str
    peer_address: str
    peer_asn: int | None = msgspec.field(default=None, name="peerASN")
    peering_state: str | None = None
    timers: AppliedTimers | None = None
    established_time: str | None = None
    route_count: tuple[RouteCount, ...] = ()


class InstanceStatus(Form, frozen=True, omit_defaults=True):
    """A virtual router as its node sees it."""

    name: str
    local_asn: int | None = msgspec.field(default=None, name="localASN")
    peers: tuple[PeerStatus, ...] = ()


class NodeStatus(Form, frozen=True, omit_defaults=True):
    """What came of a node's configuration."""

    bgp_instances: tuple[InstanceStatus, ...] = ()
    conditions: tuple[Condition, ...] = ()


class NodeConfig(Form, frozen=True):
    """`CiliumBGPNodeConfig`."""

    metadata: Metadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


# --- CiliumBGPNodeConfigOverride --------------------------------------------------------------------------


class PeerOverride(Form, frozen=True):
    """What is different for one peer."""

    name: str = ""
    local_address: str | None = None


class InstanceOverride(Form, frozen=True):
    """What is different for one virtual router."""

    name: str = ""
    router_id: str | None = msgspec.field(default=None, name="routerID")
    local_port: int | None = None
    local_asn: int | None = msgspec.field(default=None, name="localASN")
    peers: tuple[PeerOverride, ...] = ()


class NodeOverrideSpec(Form, frozen=True):
    """What is different on one node."""

    bgp_instances: tuple[InstanceOverride, ...] = ()


class NodeOverride(Form, frozen=True):
    """`CiliumBGPNodeConfigOverride`."""

    metadata: Metadata
    spec: NodeOverrideSpec = NodeOverrideSpec()


# --- CiliumBGPPeerConfig ----------------------------------------------------------------------------------


class Transport(Form, frozen=True):
    """Where the peer listens."""

    peer_port: int = 179


class Timers(Form, frozen=True):
    """Timers, in seconds."""

    connect_retry_time_seconds: int = 120
    hold_time_seconds: int = 90
    keep_alive_time_seconds: int = 30


class GracefulRestart(Form, frozen=True):
    """Whether, and for how many seconds, the peer keeps the routes of a session that is away."""

    enabled: bool = False
    restart_time_seconds: int = 120


class Family(Form, frozen=True):
    """A family of a session and which advertisements it carries."""

    afi: str = ""
    safi: str = ""
    advertisements: LabelSelector | None = None


class PeerSpec(Form, frozen=True):
    """How to speak with a peer."""

    transport: Transport | None = None
    timers: Timers | None = None
    auth_secret_ref: str | None = None
    graceful_restart: GracefulRestart | None = None
    ebgp_multihop: int = 1
    families: tuple[Family, ...] = ()


class PeerConfig(Form, frozen=True):
    """`CiliumBGPPeerConfig`."""

    metadata: Metadata
    spec: PeerSpec = PeerSpec()
    status: ConditionsStatus = ConditionsStatus()


# --- CiliumBGPAdvertisement -------------------------------------------------------------------------------


class Communities(Form, frozen=True):
    """Communities as they are written."""

    standard: tuple[str, ...] = ()
    well_known: tuple[str, ...] = ()
    large: tuple[str, ...] = ()


class Attributes(Form, frozen=True):
    """What routes carry besides where they lead."""

    communities: Communities | None = None
    local_preference: int | None = None


class ServiceOptions(Form, frozen=True):
    """Which addresses of a Service, and in how large prefixes."""

    addresses: tuple[str, ...] = ()
    aggregation_length_ipv4: int | None = msgspec.field(default=None, name="aggregationLengthIPv4")
    aggregation_length_ipv6: int | None = msgspec.field(default=None, name="aggregationLengthIPv6")


class InterfaceOptions(Form, frozen=True):
    """Which interface."""

    name: str = ""


class AdvertisementItem(Form, frozen=True):
    """One source of routes."""

    advertisement_type: str = ""
    service: ServiceOptions | None = None
    interface: InterfaceOptions | None = None
    selector: LabelSelector | None = None
    attributes: Attributes | None = None


class AdvertisementSpec(Form, frozen=True):
    """Sources of routes."""

    advertisements: tuple[AdvertisementItem, ...] = ()


class Advertisement(Form, frozen=True):
    """`CiliumBGPAdvertisement`."""

    metadata: Metadata
    spec: AdvertisementSpec = AdvertisementSpec()


# --- CiliumBGPPeeringPolicy -------------------------------------------------------------------------------


class PathAttributes(Form, frozen=True):
    """Attributes for the routes of some objects."""

    selector_type: str = ""
    selector: LabelSelector | None = None
    communities: Communities | None = None
    local_preference: int | None = None


class Neighbor(Form, frozen=True):
    """A peer with all that newer kinds keep in `CiliumBGPPeerConfig`."""

    peer_address: str = ""
    peer_port: int = 179
    peer_asn: int = msgspec.field(default=0, name="peerASN")
    auth_secret_ref: str | None = None
    ebgp_multihop_ttl: int = msgspec.field(default=1, name="eBGPMultihopTTL")
    connect_retry_time_seconds: int = 120
    hold_time_seconds: int = 90
    keep_alive_time_seconds: int = 30
    graceful_restart: GracefulRestart | None = None
    families: tuple[Family, ...] = ()
    advertised_path_attributes: tuple[PathAttributes, ...] = ()


class VirtualRouter(Form, frozen=True):
    """A virtual router and what it sends to its neighbours."""

    local_asn: int = msgspec.field(default=0, name="localASN")
    export_pod_cidr: bool = msgspec.field(default=False, name="exportPodCIDR")
    service_selector: LabelSelector | None = None
    service_advertisements: tuple[str, ...] = ("LoadBalancerIP",)
    neighbors: tuple[Neighbor, ...] = ()


class PeeringPolicySpec(Form, frozen=True):
    """What the selected nodes are to do."""

    node_selector: LabelSelector | None = None
    virtual_routers: tuple[VirtualRouter, ...] = ()


class PeeringPolicy(Form, frozen=True):
    """`CiliumBGPPeeringPolicy`."""

    metadata: Metadata
    spec: PeeringPolicySpec = PeeringPolicySpec()


def _kind(word: str, plural: str, form: type[Any], version: str) -> Kind:
    return Kind(
        group="cilium.io",
        version=version,
        kind=f"CiliumBGP{word}",
        plural=plural,
        namespaced=False,
        form=form,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """The kinds of today, all in one version of the API."""

    cluster_config: Kind
    peer_config: Kind
    advertisement: Kind
    node_config: Kind
    node_override: Kind


def _kinds(version: str) -> Kinds:
    return Kinds(
        cluster_config=_kind("ClusterConfig", "ciliumbgpclusterconfigs", ClusterConfig, version),
        peer_config=_kind("PeerConfig", "ciliumbgppeerconfigs", PeerConfig, version),
        advertisement=_kind("Advertisement", "ciliumbgpadvertisements", Advertisement, version),
        node_config=_kind("NodeConfig", "ciliumbgpnodeconfigs", NodeConfig, version),
        node_override=_kind("NodeConfigOverride", "ciliumbgpnodeconfigoverrides", NodeOverride, version),
    )


V2 = _kinds("v2")
V2_ALPHA = _kinds("v2alpha1")
"""What clusters have whose definitions are from before Cilium 1.18."""
PEERING_POLICY = _kind("PeeringPolicy", "ciliumbgppeeringpolicies", PeeringPolicy, "v2alpha1")
