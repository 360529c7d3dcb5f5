"""Which network interfaces has this node, and how do they change?

Netlink tells it: all links and addresses once, then each change. Nothing is chosen here.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_interface
from types import MappingProxyType
from typing import Any, Self

import structlog
from pyroute2 import AsyncIPRoute, NetlinkError
from pyroute2.netlink.rtnl import RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_LINK

from lbipam.core.l2.interfaces import Interface

_AF_BRIDGE = 7
_ARPHRD_ETHER = 1
_IFF_UP, _IFF_LOOPBACK, _IFF_POINTOPOINT, _IFF_NOARP, _IFF_LOWER_UP = 1, 1 << 3, 1 << 4, 1 << 7, 1 << 16
_RETRY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


def interface(message: Any, *, has_subnet: bool) -> Interface | None:
    """A link message of netlink as an `Interface`; None for one without a link-layer address of six bytes."""
    hardware = bytes.fromhex((message.get("address") or "").replace(":", ""))
    if len(hardware) != 6:
        return None
    flags = message["flags"]
    quiet = _IFF_LOOPBACK | _IFF_POINTOPOINT | _IFF_NOARP
    return Interface(
        index=message["index"],
        name=message.get("ifname"),
        hardware=hardware,
        kind=message.get(("linkinfo", "kind")) or "",
        resolves=message["ifi_type"] == _ARPHRD_ETHER and not flags & quiet,
        is_ready=flags & (_IFF_UP | _IFF_LOWER_UP) == _IFF_UP | _IFF_LOWER_UP,
        master=message.get("master") or 0,
        has_subnet=has_subnet,
    )


def _subnet_address(message: Any) -> str | None:
    """The address of an address message if it has neighbours; None otherwise."""
    text = message.get("local") or message.get("address")
    address = ip_interface(f"{text}/{message['prefixlen']}")
    alone = address.network.num_addresses == 1
    return None if alone or address.is_link_local or address.is_loopback else str(address)


class InterfaceWatch:
    """The node's interfaces, kept up to date while open.

        async with InterfaceWatch(on_change) as watch: ... watch.interfaces ...

    `on_change` is called on the event loop after each change of `interfaces`.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._links: dict[int, Interface] = {}
        self._subnets: dict[int, set[str]] = {}
        self._task: asyncio.Task[None] | None = None
        self._route: Any = None

    @property
    def interfaces(self) -> Mapping[int, Interface]:
        """All Ethernet-like interfaces by index, whatever their state."""
        return MappingProxyType(self._links)

    async def __aenter__(self) -> Self:
        await self._open()
        self._task = asyncio.create_task(self._follow(), name="l2 interfaces")
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._close()

    async def _open(self) -> None:
        self._route = AsyncIPRoute()
        try:
            await self._route.bind(groups=RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)
            links = [message async for message in await self._route.get_links()]
            addresses = [message async for message in await self._route.get_addr()]
        except BaseException:
            self._close()
            raise
        self._links.clear()
        self._subnets.clear()
        for message in [*addresses, *links]:
            self._learn(message)

    def _close(self) -> None:
        route, self._route = self._route, None
        if route is not None:
            route.close()

    async def _follow(self) -> None:
        while True:
            try:
                while True:
                    before = dict(self._links)
                    async for message in self._route.get():
                        self._learn(message)
                    if before != self._links:
                        self._on_change()
            except (NetlinkError, OSError) as error:
                _log.warning("interfaces lost from sight", error=str(error))
                await self._reopen()

    async def _reopen(self) -> None:
        """Changes may have been missed: look at everything again."""
        while True:
            self._close()
            await asyncio.sleep(_RETRY_SECONDS)
            try:
                await self._open()
            except (NetlinkError, OSError) as error:
                _log.warning("interfaces still out of sight", error=str(error))
            else:
                self._on_change()
                return

    def _learn(self, message: Any) -> None:
        if message["family"] == _AF_BRIDGE:  # about a port of a bridge, not about the interface
            return
        index = message["index"]
        match message["event"]:
            case "RTM_NEWLINK":
                link = interface(message, has_subnet=bool(self._subnets.get(index)))
                if link is not None:
                    self._links[index] = link
            case "RTM_DELLINK":
                self._links.pop(index, None)
            case "RTM_NEWADDR" | "RTM_DELADDR" as event:
                self._learn_address(index, _subnet_address(message), is_new=event == "RTM_NEWADDR")

    def _learn_address(self, index: int, address: str | None, *, is_new: bool) -> None:
        if address is None:
            return
        subnets = self._subnets.setdefault(index, set())
        if is_new:
            subnets.add(address)
        else:
            subnets.discard(address)
        known = self._links.get(index)
        if known is not None and known.has_subnet != bool(subnets):
            self._links[index] = replace(known, has_subnet=bool(subnets))
