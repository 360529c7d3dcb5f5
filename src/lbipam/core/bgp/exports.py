"""What should each peer of a speaker be told?

    routes: prefix → key      policy of a peer and family: key → what is said      ⟶  a `RouteSet`

Prefixes are put into bytes once, when they come; peers with equal policies share one set, so that a
hundred of them cost as much as one. What a peer has already been told is not known here.
"""

from collections.abc import Mapping
from typing import TypeAlias

from lbipam.core.bgp import nlri
from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.nlri import Nlri, Prefix
from lbipam.core.bgp.peers import Policy, RouteKey, SpeakerState
from lbipam.core.bgp.routes import NO_ROUTES, RouteAttributes, RouteSet

_Share: TypeAlias = tuple[Family, frozenset[tuple[RouteKey, RouteAttributes]]]
_ABSENT = object()
_VERSIONS = {Family.IPV4: 4, Family.IPV6: 6}


class Exports:
    """The route sets of the newest state."""

    def __init__(self) -> None:
        """No routes, no peers."""
        self._seen: dict[Prefix, RouteKey] = {}
        self._tables: dict[Family, dict[Nlri, RouteKey]] = {family: {} for family in Family}
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

    def _take_routes(self, routes: Mapping[Prefix, RouteKey]) -> frozenset[Family]:
        """Bring the tables up to date; the families in which anything has changed."""
        seen, fresh = self._seen, dict(routes)
        changed = {one: key for one, key in fresh.items() if seen.get(one, _ABSENT) != key} if seen else fresh
        gone = set(seen).difference(fresh)
        ipv4, ipv6 = self._tables[Family.IPV4], self._tables[Family.IPV6]
        for prefix, key in changed.items():
            (ipv4 if prefix.version == 4 else ipv6)[nlri.encode(prefix)] = key
        for prefix in gone:
            del (ipv4 if prefix.version == 4 else ipv6)[nlri.encode(prefix)]
        self._seen = fresh
        versions = {prefix.version for prefix in (*changed, *gone)}
        return frozenset(family for family, version in _VERSIONS.items() if version in versions)

    def _share(
        self, family: Family, policy: Policy, touched: frozenset[Family], kept: dict[_Share, RouteSet]
    ) -> RouteSet:
        if not policy:
            return NO_ROUTES
        share = (family, frozenset(policy.items()))
        found = kept.get(share)
        if found is None:
            found = self._sets.get(share)
            if found is None or family in touched:
                found = RouteSet(
                    {one: policy[key] for one, key in self._tables[family].items() if key in policy}
                )
            kept[share] = found
        return found
