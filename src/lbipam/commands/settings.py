"""Which flags do several commands share, and what do they mean?

This file parses; it starts nothing.
"""

from enum import StrEnum
from typing import Annotated

import typer

from lbipam.core.ipam.addresses import Family
from lbipam.kube.ipam import BGP_CLASS, L2_CLASS, NODE_CLASS, Responsibility

Kubeconfig = Annotated[
    str | None, typer.Option(help="Path of a kubeconfig file.", metavar="FILE", rich_help_panel="Cluster")
]
Context = Annotated[
    str | None,
    typer.Option(help="Context of the kubeconfig to use.", metavar="NAME", rich_help_panel="Cluster"),
]


class DefaultIpam(StrEnum):
    """Who serves Services without a class (`--default-lb-service-ipam`)."""

    LBIPAM = "lbipam"
    NODEIPAM = "nodeipam"
    NONE = "none"


class Datapath(StrEnum):
    """Who carries the traffic of Services on a node."""

    NONE = "none"
    NFTABLES = "nftables"


class Output(StrEnum):
    """How a command prints what it found."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print it.")]

DefaultIpamOption = Annotated[
    DefaultIpam,
    typer.Option("--default-lb-service-ipam", help="Who serves Services without a loadBalancerClass."),
]
RequireClassOption = Annotated[
    bool,
    typer.Option("--lbipam-require-lb-class", help="Serve only Services with a loadBalancerClass of ours."),
]
BgpOption = Annotated[
    bool,
    typer.Option(
        "--enable-bgp-control-plane/--disable-bgp-control-plane", help=f"Serve Services of class {BGP_CLASS}."
    ),
]
L2Option = Annotated[
    bool,
    typer.Option(
        "--enable-l2-announcements/--disable-l2-announcements", help=f"Serve Services of class {L2_CLASS}."
    ),
]
SecretsOption = Annotated[
    str,
    typer.Option("--bgp-secrets-namespace", help="Where the secrets of BGP peers lie.", metavar="NAMESPACE"),
]
NodeIpamOption = Annotated[
    bool,
    typer.Option(
        "--enable-node-ipam/--disable-node-ipam",
        help=f"Give addresses of nodes to Services of class {NODE_CLASS}.",
    ),
]
IPv4Option = Annotated[bool, typer.Option("--enable-ipv4/--disable-ipv4", help="The cluster has IPv4.")]
IPv6Option = Annotated[bool, typer.Option("--enable-ipv6/--disable-ipv6", help="The cluster has IPv6.")]


def responsibility(
    *,
    default_ipam: DefaultIpam,
    require_class: bool,
    bgp: bool,
    l2: bool,
    ipv4: bool,
    ipv6: bool,
) -> Responsibility:
    """Which Services are ours, by Cilium's flags."""
    families = ((Family.IPV4,) if ipv4 else ()) + ((Family.IPV6,) if ipv6 else ())
    if not families:
        raise typer.BadParameter("one of IPv4 and IPv6 must be enabled")
    classes = ((BGP_CLASS,) if bgp else ()) + ((L2_CLASS,) if l2 else ())
    return Responsibility(
        without_class=default_ipam is DefaultIpam.LBIPAM and not require_class,
        classes=frozenset(classes),
        families=families,
    )
