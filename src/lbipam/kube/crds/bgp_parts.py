"""Which fields do several BGP kinds have in common?

Schemas of addresses, AS numbers, ports, timers, families and communities. This file knows no kind.
"""

from lbipam.kube.bgp_adverts import WELL_KNOWN_COMMUNITIES
from lbipam.kube.crds.schema import Schema, array, boolean, integer, record, text

ADDRESS_TYPES = ("LoadBalancerIP", "ClusterIP", "ExternalIP")
_AFIS = ("ipv4", "ipv6", "l2vpn", "ls", "opaque")
_SAFIS = (
    "unicast",
    "multicast",
    "mpls_label",
    "encapsulation",
    "vpls",
    "evpn",
    "ls",
    "sr_policy",
    "mup",
    "mpls_vpn",
    "mpls_vpn_multicast",
    "route_target_constraints",
    "flowspec_unicast",
    "flowspec_vpn",
    "key_value",
)

_OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_ADDRESS = rf"^({_OCTET}(\.{_OCTET}){{3}}|[0-9A-Fa-f]{{0,4}}:[0-9A-Fa-f:.]+(%[^\s/%]+)?)$"
_U16 = r"(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}|0)"
_U32 = (
    r"(429496729[0-5]|42949672[0-8][0-9]|4294967[01][0-9]{2}|429496[0-6][0-9]{3}|42949[0-5][0-9]{4}"
    r"|4294[0-8][0-9]{5}|429[0-3][0-9]{6}|42[0-8][0-9]{7}|4[01][0-9]{8}|[1-3][0-9]{9}|[1-9][0-9]{0,8}|0)"
)


def address(description: str) -> Schema:
    """An IPv4 or IPv6 address; the latter may have a zone. The pattern is looser than a parser."""
    return text(description, pattern=_ADDRESS, length=(0, 80))


def asn(description: str) -> Schema:
    """An AS number of RFC 6793, without 0."""
    return integer(description, bounds=(1, 2**32 - 1))


def port(description: str, *, default: int | None = None) -> Schema:
    """A TCP port."""
    return integer(description, bounds=(1, 65535), default=default)


def timers() -> dict[str, Schema]:
    """The three timers that a peer may be given."""
    return {
        "connectRetryTimeSeconds": integer(
            "Wait between attempts to connect.", bounds=(1, 2**31 - 1), default=120
        ),
        "holdTimeSeconds": integer("Silence after which the peer is dead.", bounds=(3, 65535), default=90),
        "keepAliveTimeSeconds": integer("Interval of keepalives.", bounds=(1, 65535), default=30),
    }


def graceful_restart() -> Schema:
    """Graceful restart (RFC 4724)."""
    return record(
        {
            "enabled": boolean(),
            "restartTimeSeconds": integer(
                "How long the peer keeps routes while the session is away.", bounds=(1, 4095), default=120
            ),
        },
        required=("enabled",),
    )


def family_fields() -> dict[str, Schema]:
    """Address family and sub-family; unicast of IPv4 and IPv6 is what lbipam speaks."""
    return {"afi": text(enum=_AFIS), "safi": text(enum=_SAFIS)}


def communities() -> Schema:
    """Communities of the three spellings."""
    return record(
        {
            "standard": _each(rf"^({_U32}|{_U16}:{_U16})$", "RFC 1997: a number, or two as a:b."),
            "wellKnown": array(
                text(enum=tuple(WELL_KNOWN_COMMUNITIES)), "Communities with registered names."
            ),
            "large": _each(rf"^{_U32}:{_U32}:{_U32}$", "RFC 8092: a:b:c."),
        }
    )


def families() -> Schema:
    """A list of families without anything else."""
    return array(record(family_fields(), required=("afi", "safi")), "Families of the session.")


def _each(pattern: str, description: str) -> Schema:
    return array(text(pattern=pattern), description)
