"""Which node answers on the LAN for which address, and since when?

Who holds an address is computed by the election that agents hold, as an onlooker sees it who takes no part;
since when is read from the Events that agents record. This file prints nothing.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import msgspec

from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.l2 import L2Reconciler, Options
from lbipam.core.l2 import election
from lbipam.kube.events import EVENT, Event
from lbipam.kube.kinds import Kind

_ONLOOKER = ""
"""The name of no node."""
_ANY_TIMING = election.Timing(duration_seconds=2.0, renew_deadline_seconds=1.0)
"""An onlooker renews nothing; how long a Lease lasts is told by the Lease."""


_ANNOUNCED = re.compile(r"Node (?P<node>\S+) announces (?P<address>\S+) on \S+")
_CONFLICT = re.compile(r"\S+ on \S+ of node (?P<node>\S+) claims (?P<address>\S+) too")
"""As `L2Reconciler.tell` writes them."""


class AnnouncementReport(msgspec.Struct, rename="camel", omit_defaults=True):
    """An address that a policy has announced."""

    address: str
    node: str
    """Empty: no node that lives may answer for it."""
    services: list[str]
    since: str = ""
    """When the node began to answer for it; empty where no Event tells any more."""
    problem: str = ""


class AnnouncementsReport(msgspec.Struct, rename="camel"):
    """All addresses that are answered for on LANs."""

    announcements: list[AnnouncementReport]

    @property
    def all_held(self) -> bool:
        """Whether every address has its node, and no rival."""
        return not any(one.problem for one in self.announcements)


def options(*, slices: Kind, namespace: str) -> Options:
    """Those of an onlooker."""
    return Options(node=_ONLOOKER, timing=_ANY_TIMING, slices=slices, namespace=namespace)


def announcements(cache: Cache, changes: Iterable[Change], how: Options) -> AnnouncementsReport:
    """Who answers for what. `changes` are all objects of the cache but the Leases of nodes that are dead."""
    reconciler = L2Reconciler(cache, how, 0.0)
    for change in changes:
        reconciler.observe(change, 0.0)
    reconciler.reconcile(0.0)
    told = {(node, address): latest for node, address, latest in _told(cache.objects(EVENT).values())}
    holders = reconciler.holders
    found = []
    for address in sorted(holders, key=lambda one: (one.version, int(one))):
        node = holders[address] or ""
        latest = told.get((node, str(address)), _NOTHING)
        found.append(
            AnnouncementReport(
                address=str(address),
                node=node,
                services=[str(key) for key in reconciler.services_on(address)],
                since=latest.since,
                problem=latest.problem if node else "no node that lives may answer for it",
            )
        )
    return AnnouncementsReport(announcements=found)


def problems(events: Iterable[Event], addresses: Collection[str]) -> tuple[str, ...]:
    """What the nodes told last of these addresses, where that is a problem on the LAN."""
    latest = {address: one for _, address, one in _told(events)}
    return tuple(one.problem for address, one in latest.items() if address in addresses and one.problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Latest:
    """What was told last of one node and one address."""

    since: str = ""
    problem: str = ""


_NOTHING = _Latest()


def _told(events: Iterable[Event]) -> Iterator[tuple[str, str, _Latest]]:
    """Which node told what of which address, oldest first."""
    for event in sorted(events, key=lambda one: one.last_timestamp or ""):
        if (found := _ANNOUNCED.fullmatch(event.message)) is not None:
            yield found["node"], found["address"], _Latest(since=event.last_timestamp or "")
        elif (found := _CONFLICT.fullmatch(event.message)) is not None:
            yield found["node"], found["address"], _Latest(problem=event.message)
