"""How many routes does the peer announce?

Routes received are counted and dropped. To count a prefix once however often it is announced, the prefixes
themselves are kept, up to a limit past which the count stays where it is. What a route says is not looked at.
"""

from lbipam.core.bgp.attributes import Remedy
from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.messages import Update
from lbipam.core.bgp.nlri import Nlri

LIMIT = 65536
"""Prefixes of a family; a router that sends a full table to a node is misconfigured."""


class Heard:
    """The prefixes that one peer has announced in one session."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._prefixes: dict[Family, set[Nlri]] = {family: set() for family in Family}
        self._overflown: set[Family] = set()

    def count(self, family: Family) -> int:
        """Exact below `LIMIT`; `LIMIT` where there are, or have been, more."""
        return LIMIT if family in self._overflown else len(self._prefixes[family])

    def take(self, update: Update) -> None:
        """Count the routes of an UPDATE; those with a fault that asks for it are withdrawn (RFC 7606 §2)."""
        reach, unreach = update.attributes.reach, update.attributes.unreach
        is_withdrawn = any(fault.remedy is Remedy.WITHDRAW for fault in update.faults)
        self._remove(Family.IPV4, update.withdrawn)
        if unreach:
            self._remove(unreach.family, unreach.nlri)
        change = self._remove if is_withdrawn else self._add
        change(Family.IPV4, update.nlri)
        if reach:
            change(reach.family, reach.nlri)

    def _add(self, family: Family, routes: tuple[Nlri, ...]) -> None:
        if family in self._overflown:
            return
        prefixes = self._prefixes[family]
        prefixes.update(routes)
        if len(prefixes) > LIMIT:
            self._overflown.add(family)
            prefixes.clear()

    def _remove(self, family: Family, routes: tuple[Nlri, ...]) -> None:
        self._prefixes[family].difference_update(routes)
