"""Which network interfaces has this node, and how do they change?

Netlink tells it: all links and addresses once, then each change. Nothing is chosen here.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface
from types import MappingProxyType
from typing import Self

import structlog

from lbipam.adapters.rtnetlink import Groups, Link, Netlink, OwnAddress, Question, Told
from lbipam.core.l2.interfaces import Interface

_AF_BRIDGE = 7
_ARPHRD_ETHER = 1
_IFF_UP, _IFF_LOOPBACK, _IFF_POINTOPOINT, _IFF_NOARP, _IFF_LOWER_UP = 1, 1 << 3, 1 << 4, 1 << 7, 1 << 16
_RETRY_SECONDS = 1.0

_log = structlog.get_logger(__name__)


def interface(link: Link, *, has_subnet: bool) -> Interface | None:
    """A link as an `Interface`; None for one without a link-layer address of six bytes."""
    if len(link.hardware) != 6:
        return None
    quiet = _IFF_LOOPBACK | _IFF_POINTOPOINT | _IFF_NOARP
    return Interface(
        index=link.index,
        name=link.name,
        hardware=link.hardware,
        kind=link.kind,
        resolves=link.type == _ARPHRD_ETHER and not link.flags & quiet,
        is_ready=link.flags & (_IFF_UP | _IFF_LOWER_UP) == _IFF_UP | _IFF_LOWER_UP,
        master=link.master,
        has_subnet=has_subnet,
    )


def _has_neighbours(address: IPv4Interface | IPv6Interface) -> bool:
    alone = address.network.num_addresses == 1
    return not (alone or address.is_link_local or address.is_loopback)


class InterfaceWatch:
    """The node's interfaces, kept up to date while open.

        async with InterfaceWatch(on_change) as watch: ... watch.interfaces ...

    `on_change` is called on the event loop after each change of `interfaces`.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._links: dict[int, Interface] = {}
        self._subnets: dict[int, set[IPv4Interface | IPv6Interface]] = {}
        self._task: asyncio.Task[None] | None = None
        self._netlink: Netlink | None = None

    @property
    def interfaces(self) -> Mapping[int, Interface]:
        """All Ethernet-like interfaces by index, whatever their state."""
        return MappingProxyType(self._links)

    async def __aenter__(self) -> Self:
        self._open()
        self._task = asyncio.create_task(self._follow(), name="l2 interfaces")
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._close()

    def _open(self) -> None:
        netlink = self._netlink = Netlink(Groups.LINKS | Groups.IPV4_ADDRESSES | Groups.IPV6_ADDRESSES)
        try:
            told = netlink.ask(Question.ADDRESSES) + netlink.ask(Question.LINKS)
        except BaseException:
            self._close()
            raise
        self._links.clear()
        self._subnets.clear()
        for one in told:
            self._learn(one)

    def _close(self) -> None:
        netlink, self._netlink = self._netlink, None
        if netlink is not None:
            netlink.close()

    async def _follow(self) -> None:
        while True:
            assert self._netlink is not None
            try:
                while True:
                    before = dict(self._links)
                    for one in await self._netlink.hear():
                        self._learn(one)
                    if before != self._links:
                        self._on_change()
            except OSError as error:
                _log.warning("interfaces lost from sight", error=str(error))
                await self._reopen()

    async def _reopen(self) -> None:
        """Changes may have been missed: look at everything again."""
        while True:
            self._close()
            await asyncio.sleep(_RETRY_SECONDS)
            try:
                self._open()
            except OSError as error:
                _log.warning("interfaces still out of sight", error=str(error))
            else:
                self._on_change()
                return

    def _learn(self, told: Told) -> None:
        match told:
            case OwnAddress(index=index, address=address, is_gone=is_gone):
                if _has_neighbours(address):
                    self._learn_address(index, address, is_new=not is_gone)
            case Link(family=family) if family == _AF_BRIDGE:
                pass  # about a port of a bridge, not about the interface
            case Link(index=index, is_gone=True):
                self._links.pop(index, None)
            case Link(index=index):
                link = interface(told, has_subnet=bool(self._subnets.get(index)))
                if link is not None:
                    self._links[index] = link
            case _:
                pass

    def _learn_address(self, index: int, address: IPv4Interface | IPv6Interface, *, is_new: bool) -> None:
        subnets = self._subnets.setdefault(index, set())
        if is_new:
            subnets.add(address)
        else:
            subnets.discard(address)
        known = self._links.get(index)
        if known is not None and known.has_subnet != bool(subnets):
            self._links[index] = replace(known, has_subnet=bool(subnets))
