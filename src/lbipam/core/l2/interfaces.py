"""On which network interfaces may addresses be announced?

Unnamed, those that lead to a LAN: physical ones, bonds, VLANs, bridges with such a port, and a veth with a
subnet of its own, which is how a node that is itself a container sees its LAN. Never a port of a bridge or
bond, whose master stands for it; and neither pods' veths, bridges between pods only, tunnels nor dummies,
unless a pattern names them. This file finds no interfaces and does not care whether they are up now.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

_LEADS_TO_A_LAN = frozenset({"", "bond", "team", "vlan"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface of the node, as netlink tells it."""

    index: int
    name: str
    hardware: bytes
    """Its link-layer address."""
    kind: str
    """What the kernel calls its driver when it is virtual, such as `bridge`; empty for a physical one."""
    resolves: bool
    """Whether it is an Ethernet on which addresses are resolved: neither loopback nor point-to-point."""
    is_ready: bool
    """Whether it is up and has carrier."""
    master: int
    """The index of the bridge or bond that it is a port of; 0 for none."""
    has_subnet: bool
    """Whether it has an address with neighbours: of global scope, and not alone in its prefix."""


class Unsuitable(Enum):
    """Why nothing is announced on an interface."""

    NO_NEIGHBOURS = "not an Ethernet with neighbours"
    PORT = "a port of a bridge or bond"
    NOT_NAMED = "not named by a pattern"
    LEADS_NOWHERE = "does not lead to a LAN, and no pattern names it"


def why_bad_pattern(pattern: str) -> str | None:
    """What is wrong with a regular expression; None when nothing is."""
    try:
        re.compile(pattern)
    except re.error as error:
        return str(error)
    return None


def why_unsuitable(
    interface: Interface, every: Mapping[int, Interface], patterns: Collection[str]
) -> Unsuitable | None:
    """Why nothing is announced on `interface`; None when it may be.

    Patterns are regular expressions, any of which may match anywhere in the name (as in Cilium's
    `spec.interfaces`); without any, the default holds. `every` is all interfaces by index. The patterns
    are sound: `why_bad_pattern` has said so.
    """
    if not interface.resolves:
        return Unsuitable.NO_NEIGHBOURS
    if interface.master:
        return Unsuitable.PORT
    if patterns:
        named = any(re.search(pattern, interface.name) for pattern in patterns)
        return None if named else Unsuitable.NOT_NAMED
    return None if _leads_to_a_lan(interface, every) else Unsuitable.LEADS_NOWHERE


def suitable(every: Mapping[int, Interface], patterns: Collection[str]) -> frozenset[str]:
    """The names of all interfaces on which addresses may be announced, up or not."""
    return frozenset(
        interface.name for interface in every.values() if why_unsuitable(interface, every, patterns) is None
    )


def _leads_to_a_lan(interface: Interface, every: Mapping[int, Interface]) -> bool:
    match interface.kind:
        case "bridge":
            ports = (port for port in every.values() if port.master == interface.index)
            return any(port.kind in _LEADS_TO_A_LAN for port in ports)
        case "veth":
            return interface.has_subnet
        case kind:
            return kind in _LEADS_TO_A_LAN
