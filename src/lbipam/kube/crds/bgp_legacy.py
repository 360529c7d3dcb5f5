"""What does `CiliumBGPPeeringPolicy`, the BGP kind of Cilium 1.13, look like to the API server?

One object says for a set of nodes what the newer kinds say with four. This file does not say what a session
makes of it.
"""

from typing import Any

from lbipam.kube.crds import bgp_parts
from lbipam.kube.crds.schema import (
    Names,
    Schema,
    Version,
    array,
    boolean,
    definition,
    integer,
    label_selector,
    record,
    text,
)

_ASN = (0, 2**32 - 1)


def peering_policy() -> dict[str, Any]:
    """`CiliumBGPPeeringPolicy`: which nodes speak BGP with whom, and what they send."""
    router = record(
        {
            "localASN": integer("AS number of the node.", bounds=_ASN),
            "exportPodCIDR": boolean("Whether the pod CIDRs of the node are sent.", default=False),
            "podIPPoolSelector": label_selector("Accepted so that manifests apply; nothing is sent."),
            "serviceSelector": label_selector("Services whose addresses are sent; absent: none."),
            "serviceAdvertisements": array(
                text(enum=bgp_parts.ADDRESS_TYPES),
                "Which addresses of the Services.",
                default=["LoadBalancerIP"],
            ),
            "neighbors": array(_neighbor(), "Routers to speak with.", size=(1, None)),
        },
        required=("localASN", "neighbors"),
    )
    spec = record(
        {
            "nodeSelector": label_selector("Nodes that speak BGP as told here; absent: all."),
            "virtualRouters": array(router, "Virtual routers.", size=(1, None)),
        },
        required=("virtualRouters",),
    )
    return definition(
        Names(
            group="cilium.io",
            kind="CiliumBGPPeeringPolicy",
            plural="ciliumbgppeeringpolicies",
            short=("bgpp",),
            categories=("cilium", "ciliumbgp"),
        ),
        "BGP of the selected nodes, superseded by CiliumBGPClusterConfig.",
        (Version(name="v2alpha1", properties={"spec": spec}, required=()),),
    )


def _neighbor() -> Schema:
    attributes = record(
        {
            "selectorType": text(enum=("PodCIDR", "CiliumLoadBalancerIPPool", "CiliumPodIPPool")),
            "selector": label_selector("Objects of that type whose routes get the attributes; absent: all."),
            "communities": bgp_parts.communities(),
            "localPreference": integer("Preference inside the AS; internal sessions only.", bounds=_ASN),
        },
        required=("selectorType",),
    )
    return record(
        {
            "peerAddress": text("Address of the peer, as a prefix of full length.", form="cidr"),
            "peerPort": bgp_parts.port("Port of the peer.", default=179),
            "peerASN": integer("AS number of the peer.", bounds=_ASN),
            "authSecretRef": text("Secret whose key password signs the session (RFC 2385)."),
            "eBGPMultihopTTL": integer(
                "Routers that an external session may cross, plus one.", bounds=(1, 255), default=1
            ),
            **bgp_parts.timers(),
            "gracefulRestart": bgp_parts.graceful_restart(),
            "families": bgp_parts.families(),
            "advertisedPathAttributes": array(attributes, "Attributes for some of the routes."),
        },
        required=("peerAddress", "peerASN"),
    )
