"""What should each peer of a speaker be told?

    routes: prefix → key      policy of a peer and family: key → what is said      ⟶  a `RouteSet`

Prefixes are put into bytes once, when they come; peers with equal policies share one set, so that a
hundred of them cost as much as one. What a peer has already been told is not known here.
"""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from itertools import chain
from typing import TypeAlias

from lbipam.core.bgp import nlri
from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.nlri import Nlri, Prefix
from lbipam.core.bgp.peers import Policy, RouteKey, SpeakerState
from lbipam.core.bgp.routes import NO_ROUTES, RouteAttributes, RouteSet

_Share: TypeAlias = tuple[Family, frozenset[tuple[RouteKey, RouteAttributes]]]
_Kind: TypeAlias = type[Prefix]
_KINDS: Mapping[Family, _Kind] = {Family.IPV4: IPv4Network, Family.IPV6: IPv6Network}


class Exports:
    """The route sets of the newest state."""

    def __init__(self) -> None:
        """No routes, no peers."""
        self._seen: Mapping[Prefix, RouteKey] = {}
        self._tables: dict[_Kind, dict[Nlri, RouteKey]] = {kind: {} for kind in _KINDS.values()}
        self._sets: dict[_Share, RouteSet] = {}

    def update(self, state: SpeakerState) -> Mapping[str, Mapping[Family, RouteSet]]:
        """For each peer the sets of all families; a set that has not changed is the same object as before."""
        touched = self._take_routes(state.routes)
        kept: dict[_Share, RouteSet] = {}
        exports = {}
        for peer in state.peers:
            policies = state.policies.get(peer, {})
            exports[peer] = {
                family: self._share(family, policies.get(family, {}), touched, kept) for family in Family
            }
        self._sets = kept
        return exports

    def _take_routes(self, routes: Mapping[Prefix, RouteKey]) -> frozenset[_Kind]:
        """Bring the tables up to date; the kinds of prefixes of which anything has changed.

        Prefixes are slow to hash, and most stay where they are: so the old and the new ones are walked side by
        side, and only what has no counterpart there is looked up.
        """
        seen, self._seen = self._seen, routes
        touched = set[_Kind]()
        others: list[tuple[Prefix, RouteKey]] = []
        items = iter(routes.items())
        prefix, key = next(items, (None, None))
        for old, had in seen.items():
            if old is prefix:
                if had != key:
                    others.append((old, key))
                prefix, key = next(items, (None, None))
            elif old not in routes:
                del self._tables[type(old)][nlri.encode(old)]
                touched.add(type(old))
        if prefix is not None:
            others.append((prefix, key))
        for one, said in chain(others, items):
            kind, encoded = type(one), nlri.encode(one)
            table = self._tables[kind]
            if encoded not in table or table[encoded] != said:
                table[encoded] = said
                touched.add(kind)
        return frozenset(touched)

    def _share(
        self, family: Family, policy: Policy, touched: frozenset[_Kind], kept: dict[_Share, RouteSet]
    ) -> RouteSet:
        if not policy:
            return NO_ROUTES
        share, kind = (family, frozenset(policy.items())), _KINDS[family]
        found = kept.get(share)
        if found is None:
            found = self._sets.get(share)
            if found is None or kind in touched:
                found = RouteSet(
                    {one: policy[key] for one, key in self._tables[kind].items() if key in policy}
                )
            kept[share] = found
        return found
