"""What does an agent know of the host it runs on?

Facts that adapters read from the kernel, as plain values: interfaces, their addresses, default routes; and
which addresses it carries the traffic of. This file reads nothing.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from lbipam.kube.kinds import Key

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Carried: TypeAlias = Mapping[Key, tuple[Address, ...]]
"""Of each Service the addresses whose rules stand on the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface."""

    name: str
    up: bool
    """Operational state up, or unknown, as loopback and tunnels have it."""
    mac: bytes = b""
    addresses: tuple[Address, ...] = ()
    networks: tuple[Network, ...] = ()
    """Who is there without a router in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultRoute:
    """A way out; of several in one family the one with the lowest metric is taken."""

    gateway: Address
    interface: str
    metric: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Everything at one moment."""

    interfaces: tuple[Interface, ...] = ()
    default_routes: tuple[DefaultRoute, ...] = ()

    def interface(self, name: str) -> Interface | None:
        """The interface of this name, if there is one."""
        return next((one for one in self.interfaces if one.name == name), None)

    def is_next_to(self, address: Address) -> bool:
        """Whether no router is between the host and an address."""
        return address.is_link_local or any(
            address in network for interface in self.interfaces for network in interface.networks
        )

    def gateway(self, version: int) -> DefaultRoute | None:
        """The default route of a family (4 or 6) that is taken."""
        routes = [one for one in self.default_routes if one.gateway.version == version]
        return min(
            routes, key=lambda route: (route.metric, route.interface, int(route.gateway)), default=None
        )


NO_HOST = Host()
"""Before anything has been read."""
