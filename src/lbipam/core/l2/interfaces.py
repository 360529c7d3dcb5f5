"""On which network interfaces may addresses be announced?

Unnamed, those that lead to a LAN: physical ones, bonds, VLANs, bridges with such a port, and a veth with a
subnet of its own, which is how a node that is itself a container sees its LAN. Never a port of a bridge or
bond, whose master stands for it, as a VRF does not; and neither pods' veths, bridges between pods only,
tunnels nor dummies, unless a pattern names them. This file finds no interfaces and does not care whether they
are up now.
"""

from collections.abc import Mapping
from dataclasses import dataclass

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
    """The index of the bridge or bond that it is a port of, or of its VRF; 0 for none."""
    has_subnet: bool
    """Whether it has an address with neighbours: of global scope, and not alone in its prefix."""


def nameable(every: Mapping[int, Interface]) -> frozenset[str]:
    """The names of the interfaces on which addresses may be announced if a pattern names them, up or not.

    Args:
        every: All interfaces of the node, by index.
    """
    return frozenset(one.name for one in every.values() if _has_neighbours(one, every))


def chosen(every: Mapping[int, Interface]) -> frozenset[str]:
    """The names of those among them on which addresses are announced where nothing is named."""
    return frozenset(
        one.name for one in every.values() if _has_neighbours(one, every) and _leads_to_a_lan(one, every)
    )


def _has_neighbours(interface: Interface, every: Mapping[int, Interface]) -> bool:
    master = every.get(interface.master)
    is_port = bool(interface.master) and (master is None or master.kind != "vrf")
    return interface.resolves and not is_port


def _leads_to_a_lan(interface: Interface, every: Mapping[int, Interface]) -> bool:
    match interface.kind:
        case "bridge":
            ports = (port for port in every.values() if port.master == interface.index)
            return any(port.kind in _LEADS_TO_A_LAN for port in ports)
        case "veth":
            return interface.has_subnet
        case kind:
            return kind in _LEADS_TO_A_LAN
