"""Which flags do several commands share, and what do they mean?

This file parses; it starts nothing.
"""

from enum import StrEnum
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from lbipam.core.ipam.addresses import Family
from lbipam.kube.ipam import BGP_CLASS, L2_CLASS, NODE_CLASS, Responsibility

Kubeconfig = Annotated[
    str | None, typer.Option(help="Path of a kubeconfig file.", metavar="FILE", rich_help_panel="Cluster")
]
Context = Annotated[
    str | None,
    typer.Option(help="Context of the kubeconfig to use.", metavar="NAME", rich_help_panel="Cluster"),
]


class GoFlags(TyperCommand):
    """A command whose switches may also be spelled as Kubernetes and Cilium do: `--flag=false`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [word for arg in args for word in self._spelled(arg)])

    def _spelled(self, arg: str) -> list[str]:
        flag, equals, value = arg.partition("=")
        if not equals or value.lower() not in ("true", "false"):
            return [arg]
        for option in self.params:
            if isinstance(option, TyperOption) and option.is_flag and flag in option.opts:
                # A switch that cannot be switched off is off where it is not named.
                return [flag] if value.lower() == "true" else option.secondary_opts[:1]
        return [arg]


class DefaultIpam(StrEnum):
    """Who serves Services without a class (`--default-lb-service-ipam`)."""

    LBIPAM = "lbipam"
    NODEIPAM = "nodeipam"
    NONE = "none"


class Datapath(StrEnum):
    """Who carries the traffic of Services on a node."""

    NONE = "none"
    NFTABLES = "nftables"


class LogLevel(StrEnum):
    """What a process logs."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Output(StrEnum):
    """How a command prints what it found."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


OutputOption = Annotated[
    Output,
    typer.Option("--output", "-o", help="How to print it: table, json or yaml.", metavar="FORM"),
]

DefaultIpamOption = Annotated[
    DefaultIpam,
    typer.Option(
        "--default-lb-service-ipam",
        help="Who serves Services without a loadBalancerClass: lbipam, nodeipam or none.",
        metavar="NAME",
    ),
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
WithoutEndpointsOption = Annotated[
    bool,
    typer.Option(
        "--announce-without-endpoints/--no-announce-without-endpoints",
        "--enable-no-service-endpoints-routable/--disable-no-service-endpoints-routable",
        help="Announce by BGP even what has no ready endpoint.",
    ),
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
