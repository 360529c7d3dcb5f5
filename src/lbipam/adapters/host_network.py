"""Which interfaces, addresses and ways out has this host?

Reads the kernel's answers by netlink. This file watches nothing; it is asked again from time to time.
"""

from collections.abc import Iterator
from socket import AF_INET, AF_INET6

from lbipam.adapters import rtnetlink
from lbipam.adapters.rtnetlink import Netlink, Question
from lbipam.controllers.host import DefaultRoute, Host, Interface

_UNKNOWN, _UP = 0, 6
"""RFC 2863, by the kernel's numbers."""


def read_host() -> Host:
    """The host's interfaces and default routes at this moment; blocks for some milliseconds.

    Raises:
        OSError: the kernel cannot be asked.
    """
    with Netlink() as netlink:
        told = netlink.ask(Question.LINKS) + netlink.ask(Question.ADDRESSES)
        for family in (AF_INET, AF_INET6):
            told += netlink.ask(Question.ROUTES, family)
    links = {one.index: one for one in told if isinstance(one, rtnetlink.Link)}
    own = [one for one in told if isinstance(one, rtnetlink.OwnAddress) and one.is_usable]
    routes = [one for one in told if isinstance(one, rtnetlink.DefaultRoute)]
    return Host(
        interfaces=tuple(_interface(link, own) for link in links.values()),
        default_routes=tuple(_default_routes(routes, links)),
    )


def _interface(link: rtnetlink.Link, addresses: list[rtnetlink.OwnAddress]) -> Interface:
    return Interface(
        name=link.name,
        up=link.state in (_UNKNOWN, _UP),
        mac=link.hardware,
        addresses=tuple(one.address.ip for one in addresses if one.index == link.index),
        networks=tuple(one.network for one in addresses if one.index == link.index),
    )


def _default_routes(
    routes: list[rtnetlink.DefaultRoute], links: dict[int, rtnetlink.Link]
) -> Iterator[DefaultRoute]:
    for route in routes:
        if route.index in links:
            name = links[route.index].name
            yield DefaultRoute(gateway=route.gateway, interface=name, metric=route.metric)
