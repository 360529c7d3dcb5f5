"""Which interfaces, addresses and ways out has this host?

Reads the kernel's answers by netlink. This file watches nothing; it is asked again from time to time.
"""

import ipaddress
from typing import Any

from pyroute2 import IPRoute

from lbipam.controllers.host import DefaultRoute, Host, Interface

_IPV4, _IPV6 = 2, 10
_USABLE_STATES = ("UP", "UNKNOWN")


def read_host() -> Host:
    """The host's interfaces and default routes at this moment; blocks for some milliseconds.

    Raises:
        OSError: the kernel cannot be asked.
    """
    with IPRoute() as netlink:
        links = list(netlink.get_links())
        addresses = list(netlink.get_addr())
        routes = [route for family in (_IPV4, _IPV6) for route in netlink.get_default_routes(family=family)]
    names = {link["index"]: link.get("ifname") for link in links}
    return Host(
        interfaces=tuple(_interface(link, addresses) for link in links),
        default_routes=tuple(_default_routes(routes, names)),
    )


def _interface(link: Any, addresses: list[Any]) -> Interface:
    mac = link.get("address") or ""
    own = [one for one in addresses if one["index"] == link["index"]]
    return Interface(
        name=link.get("ifname"),
        up=link.get("operstate") in _USABLE_STATES,
        mac=bytes.fromhex(mac.replace(":", "")),
        addresses=tuple(ipaddress.ip_address(one.get("local") or one.get("address")) for one in own),
    )


def _default_routes(routes: list[Any], names: dict[int, str]) -> list[DefaultRoute]:
    found = []
    for route in routes:
        gateway, link = route.get("gateway"), route.get("oif")
        if gateway is not None and link in names:
            found.append(
                DefaultRoute(
                    gateway=ipaddress.ip_address(gateway),
                    interface=names[link],
                    metric=route.get("priority") or 0,
                )
            )
    return found
