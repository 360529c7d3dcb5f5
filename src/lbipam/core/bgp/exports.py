"""What should each peer of a speaker be told?

    routes: prefix → key      policy of a peer and family: key → what is said      ⟶  a `RouteSet`

Prefixes are put into bytes once, when they come; peers with equal policies share one set, so that a
hundred of them cost as much as one. What a peer has already been told is not known here.
"""

from collections.abc import Mapping
from itertools import chain
from typing import TypeAlias

from lbipam.core.bgp import nlri
from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.nlri import Nlri, Prefix
from lbipam.core.bgp.peers import Policy, RouteKey, SpeakerState
from lbipam.core.bgp.routes import NO_ROUTES, RouteAttributes, RouteSet

_Share: TypeAlias = tuple[Family, frozenset[tuple[RouteKey, RouteAttributes]]]
_VERSIONS = {Family.IPV4: 4, Family.IPV6: 6}


class Exports:
    """The route sets of the newest state."""

    def __init__(self) -> None:
        """No routes, no peers."""
        self._seen: Mapping[Prefix, RouteKey] = {}
        self._tables: dict[int, dict[Nlri, RouteKey]] = {4: {}, 6: {}}
        """By IP version."""
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

    def _take_routes(self, routes: Mapping[Prefix, RouteKey]) -> frozenset[int]:
        """Bring the tables up to date; the IP versions of which anything has changed.

        Prefixes are slow to hash, and most stay where they are: so the old and the new ones are walked side by
        side, and only what has no counterpart there is looked up.
        """
        seen, self._seen = self._seen, routes
        touched = set[int]()
        others: list[tuple[Prefix, RouteKey]] = []
        items = iter(routes.items())
        prefix, key = next(items, (None, None))
        for old, had in seen.items():
            if old is prefix:
                if had != key:
                    others.append((old, key))
                prefix, key = next(items, (None, None))
            elif old not in routes:
                del self._tables[old.version][nlri.encode(old)]
                touched.add(old.version)
        if prefix is not None:
            others.append((prefix, key))
        for one, said in chain(others, items):
            version, encoded = one.version, nlri.encode(one)
            table = self._tables[version]
            if encoded not in table or table[encoded] != said:
                table[encoded] = said
                touched.add(version)
        return frozenset(touched)

    def _share(
        self, family: Family, policy: Policy, touched: frozenset[int], kept: dict[_Share, RouteSet]
    ) -> RouteSet:
        if not policy:
            return NO_ROUTES
        share, version = (family, frozenset(policy.items())), _VERSIONS[family]
        found = kept.get(share)
        if found is None:
            found = self._sets.get(share)
            if found is None or version in touched:
                found = RouteSet(
                    {one: policy[key] for one, key in self._tables[version].items() if key in policy}
                )
            kept[share] = found
        return found
