"""Why two Services may not answer on one address.

The rules are Cilium's newest (`isCompatible`): the first that fails gives the reason. A `Group` keeps what
its members have in common as counts, so that a newcomer is checked against all of them at once, at a cost
that does not grow with their number. This file does not choose addresses.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from lbipam.core.ipam.services import Port, ServiceKey, Sharing, TrafficPolicy

_EVERY_NAMESPACE = "*"

_Item = TypeVar("_Item")


class Apart(Enum):
    """Why two Services may not share; the values are Cilium's texts."""

    KEY = "different sharing key"
    NAMESPACE = "different and not permitted namespace"
    PORT = "same port and protocol"
    POLICY = "different ExternalTrafficPolicy"
    NO_SELECTOR = "ExternalTrafficPolicy local but a service has no selector"
    PODS = (
        "ExternalTrafficPolicy local but selecting different set of pods without "
        "lbipam.cilium.io/sharing-permit-different-pods on both services"
    )


@dataclass(slots=True)
class _Tally:
    """What the members of a group have in common, as counts of members."""

    keys: Counter[str] = field(default_factory=Counter)
    namespaces: Counter[str] = field(default_factory=Counter)
    permitting: Counter[str] = field(default_factory=Counter)
    """By namespace: members that let Services of it share, `*` for those that let all."""
    ports: Counter[Port] = field(default_factory=Counter)
    policies: Counter[TrafficPolicy] = field(default_factory=Counter)
    selectors: Counter[tuple[tuple[str, str], ...]] = field(default_factory=Counter)
    strict: Counter[tuple[tuple[str, str], ...]] = field(default_factory=Counter)
    """Selectors of the members that do not permit different pods."""

    def count(self, namespace: str, sharing: Sharing, by: int) -> None:
        _add(self.keys, sharing.key, by)
        _add(self.namespaces, namespace, by)
        if _EVERY_NAMESPACE in sharing.namespaces:
            _add(self.permitting, _EVERY_NAMESPACE, by)
        else:
            for permitted in sharing.namespaces | {namespace}:
                _add(self.permitting, permitted, by)
        for port in sharing.ports:
            _add(self.ports, port, by)
        _add(self.policies, sharing.policy, by)
        _add(self.selectors, sharing.selector, by)
        if not sharing.permits_different_pods:
            _add(self.strict, sharing.selector, by)


def _add(counter: Counter[_Item], item: _Item, by: int) -> None:
    counter[item] += by
    if not counter[item]:
        del counter[item]


class Group:
    """The Services on one address, in the order in which they came."""

    __slots__ = ("_members", "_tally")

    def __init__(self) -> None:
        self._members: dict[ServiceKey, Sharing] = {}
        self._tally: _Tally | None = None

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[ServiceKey]:
        return iter(self._members)

    def __contains__(self, key: ServiceKey) -> bool:
        return key in self._members

    def sharing_of(self, key: ServiceKey) -> Sharing:
        """How a member shares."""
        return self._members[key]

    def join(self, key: ServiceKey, sharing: Sharing) -> None:
        """Add a member, whether or not it may be one."""
        self._members[key] = sharing
        if self._tally is not None:
            self._tally.count(key.namespace, sharing, 1)

    def leave(self, key: ServiceKey) -> Sharing:
        """Take a member out."""
        sharing = self._members.pop(key)
        if self._tally is not None:
            self._tally.count(key.namespace, sharing, -1)
        return sharing

    def why_apart(self, key: ServiceKey, newcomer: Sharing) -> Apart | None:
        """Why a Service that is no member may not become one; None if it may."""
        total = len(self._members)
        if not total:
            return None
        tally = self._counted()
        if not newcomer.key or tally.keys[newcomer.key] < total:
            return Apart.KEY
        if self._namespaces_apart(tally, key.namespace, newcomer):
            return Apart.NAMESPACE
        if not tally.ports.keys().isdisjoint(newcomer.ports):
            return Apart.PORT
        if tally.policies[newcomer.policy] < total:
            return Apart.POLICY
        if newcomer.policy is TrafficPolicy.LOCAL:
            return self._pods_apart(tally, newcomer)
        return None

    def _counted(self) -> _Tally:
        # Most addresses have one holder for ever, and never need the counts.
        if self._tally is None:
            self._tally = _Tally()
            for key, sharing in self._members.items():
                self._tally.count(key.namespace, sharing, 1)
        return self._tally

    def _namespaces_apart(self, tally: _Tally, namespace: str, newcomer: Sharing) -> bool:
        if tally.permitting[namespace] + tally.permitting[_EVERY_NAMESPACE] < len(self._members):
            return True
        if _EVERY_NAMESPACE in newcomer.namespaces:
            return False
        permitted = newcomer.namespaces | {namespace}
        # More namespaces here than it permits cannot all be permitted: no need to look at each.
        return len(tally.namespaces) > len(permitted) or not tally.namespaces.keys() <= permitted

    def _pods_apart(self, tally: _Tally, newcomer: Sharing) -> Apart | None:
        if not newcomer.selector or tally.selectors[()]:
            return Apart.NO_SELECTOR
        # Of those who do not permit different pods, all must select the newcomer's; of the others, if it
        # does not permit them either.
        selectors = tally.strict if newcomer.permits_different_pods else tally.selectors
        strangers = len(selectors) - (newcomer.selector in selectors)
        return Apart.PODS if strangers else None
