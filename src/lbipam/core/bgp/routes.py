"""Routes wanted against routes sent: the UPDATEs that close the gap.

    want({a, b, c})     peer has {a, b}      owed: announce c
    want({a', b})       peer has {a, b, c}   owed: announce a', withdraw c

What the peer has is not kept: it is what is wanted, but for the routes still owed, and of these the gap
remembers what the peer has instead. So a peer that does not read costs no second copy of the routes, and
what changes while it does not read is said once. Time and sessions are unknown here.
"""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address
from itertools import islice
from typing import Literal, TypeAlias
from weakref import ReferenceType, ref

from lbipam.core.bgp import attributes, messages
from lbipam.core.bgp.attributes import Context, LargeCommunity, PathAttributes, Reach, Segment, Unreach
from lbipam.core.bgp.codes import (
    HEADER_LENGTH,
    MAXIMUM_LENGTH,
    Family,
    MessageType,
    Origin,
    SegmentType,
)
from lbipam.core.bgp.nlri import Nlri
from lbipam.core.bgp.wire import u16

DEFAULT_LOCAL_PREFERENCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteAttributes:
    """What is said about a route; all routes of which the same is said share their UPDATEs."""

    communities: frozenset[int] = frozenset()
    large_communities: frozenset[LargeCommunity] = frozenset()
    local_preference: int | None = None
    """For peers of our own AS, which are told 100 where it is None (RFC 4271 §5.1.5)."""

    @property
    def octets(self) -> int:
        """How long the values are that differ from route to route in length."""
        return 4 * len(self.communities) + 12 * len(self.large_communities)


PLAIN = RouteAttributes()


class RouteSet:
    """Routes of one family at one moment, with what is said about each; never changed."""

    __slots__ = ("__weakref__", "_changes", "routes")

    def __init__(self, routes: Mapping[Nlri, RouteAttributes]) -> None:
        """`routes` is not copied: it belongs to the set from here on."""
        self.routes = routes
        self._changes: tuple[ReferenceType[RouteSet], Collection[Nlri]] | None = None

    def without(self, unsayable: AbstractSet[RouteAttributes]) -> "RouteSet":
        """The routes of which none of these is said."""
        if not unsayable:
            return self
        return RouteSet({one: said for one, said in self.routes.items() if said not in unsayable})

    def __len__(self) -> int:
        return len(self.routes)

    def changed_since(self, older: "RouteSet") -> Collection[Nlri]:
        """The prefixes that are in only one of the sets, or of which something else is said.

        The last answer is kept: many peers want the same set and had the same set before.
        """
        if older is self:
            return ()
        if self._changes is None or self._changes[0]() is not older:
            mine, others = self.routes, older.routes
            changed = [
                one for one, said in mine.items() if (had := others.get(one)) is not said and had != said
            ]
            changed += [one for one in others if one not in mine]
            self._changes = (ref(older), changed)
        return self._changes[1]


NO_ROUTES = RouteSet({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """How one session says the routes of a family."""

    context: Context
    local_asn: int
    family: Family
    next_hop: bytes
    maximum: int = MAXIMUM_LENGTH
    """Octets in a message."""

    @property
    def is_classic(self) -> bool:
        """Whether routes stand where RFC 4271 puts them, not in attributes of RFC 4760."""
        return self.family is Family.IPV4 and len(self.next_hop) == 4

    def room(self, said: RouteAttributes) -> int:
        """How many octets of routes fit into an UPDATE that says this."""
        if said.octets > self.maximum:
            return 0  # else no bytes could be made of them
        room = self.maximum - _ROOM_FOR_LENGTHS - len(_spoken(said, self))
        return room if self.is_classic else room - _REACH_OVERHEAD - len(self.next_hop)


class _Again(Enum):
    """The peer has the route, and is to be told again all the same."""

    AGAIN = "again"


_Had: TypeAlias = RouteAttributes | Literal[_Again.AGAIN] | None


class Gap:
    """What one peer is still to be told about the routes of one family."""

    def __init__(self) -> None:
        """Nothing is wanted, and there is nobody yet to be told."""
        self._is_open = False
        self._asked = NO_ROUTES
        self._wanted = NO_ROUTES
        """What is asked for, but for what the peer cannot be told."""
        self._unsayable = set[RouteAttributes]()
        self._owed: dict[RouteAttributes | None, dict[Nlri, _Had]] = {}

    @property
    def pending(self) -> int:
        """Routes still to be announced or withdrawn."""
        return sum(map(len, self._owed.values()))

    @property
    def advertised(self) -> int:
        """Routes that the peer has been told and not been told to forget."""
        unknown = (
            had is None for said, group in self._owed.items() if said is not None for had in group.values()
        )
        return len(self._wanted) - sum(unknown) + len(self._owed.get(None, ()))

    @property
    def refused(self) -> int:
        """Routes that the peer is not told, because what is said of them leaves no room for them in a message."""
        return len(self._asked) - len(self._wanted)

    def want(self, routes: RouteSet) -> None:
        """The whole set that the peer should have."""
        self._asked, routes = routes, routes.without(self._unsayable)
        if self._is_open and not self._wanted.routes and not self._owed:
            self._wanted = routes
            self._owe_all()
        elif self._is_open:
            self._owe(routes.changed_since(self._wanted), self._wanted.routes, routes.routes)
        self._wanted = routes

    def _owe(
        self,
        changed: Collection[Nlri],
        before: Mapping[Nlri, RouteAttributes],
        after: Mapping[Nlri, RouteAttributes],
    ) -> None:
        owed = self._owed
        was_owed = frozenset(one for group in owed.values() for one in group)
        last: RouteAttributes | None = None
        group = owed.setdefault(None, {})
        for one in changed:
            said, had = after.get(one), before.get(one)
            if said is not last:
                last, group = said, owed.setdefault(said, {})
            known: _Had = owed[had].pop(one) if one in was_owed else had
            if known is not said and (known is None or known != said):
                group[one] = known
        self._owed = {said: group for said, group in owed.items() if group}

    def start_over(self) -> None:
        """A session begins: the peer has nothing. Before that, nothing is owed."""
        self._is_open = True
        self._unsayable.clear()
        self._wanted = self._asked
        self._owed.clear()
        self._owe_all()

    def _owe_all(self) -> None:
        """The peer has nothing, and nothing is owed so far."""
        last: RouteAttributes | None = None
        group: dict[Nlri, _Had] = {}
        for one, said in self._wanted.routes.items():
            if said is not last:
                last, group = said, self._owed.setdefault(said, {})
            group[one] = None

    def say_again(self) -> None:
        """The peer has asked to hear everything again (RFC 2918 §4)."""
        for one, said in self._wanted.routes.items():
            self._owed.setdefault(said, {}).setdefault(one, _Again.AGAIN)

    def next_update(self, voice: Voice) -> bytes | None:
        """A whole UPDATE with as many routes as fit, withdrawals first; None when nothing is owed."""
        while self._owed:
            said = None if None in self._owed else next(iter(self._owed))
            if said is not None and voice.room(said) < 1 + voice.family.address_length:
                # What the peer has been told of these routes before is withdrawn (RFC 8654 §4).
                self._unsayable.add(said)
                self.want(self._asked)
                continue
            group = self._owed[said]
            update = _withdrawal(group, voice) if said is None else _announcement(said, group, voice)
            if not group:
                del self._owed[said]
            return messages.frame(MessageType.UPDATE, update)
        return None


_ROOM_FOR_LENGTHS = HEADER_LENGTH + 4
_REACH_OVERHEAD = 4 + 5
"""An attribute's head, and what stands before the routes besides the next hop."""


def _withdrawal(group: dict[Nlri, _Had], voice: Voice) -> bytes:
    if voice.family is Family.IPV4:
        withdrawn = b"".join(_cut(group, voice.maximum - _ROOM_FOR_LENGTHS, voice.family))
        return b"".join((u16(len(withdrawn)), withdrawn, b"\0\0"))
    cut = _cut(group, voice.maximum - _ROOM_FOR_LENGTHS - 4 - 3, voice.family)
    unreach = attributes.encode_unreach(Unreach(family=voice.family, nlri=tuple(cut)))
    return b"".join((b"\0\0", u16(len(unreach)), unreach))


def _announcement(said: RouteAttributes, group: dict[Nlri, _Had], voice: Voice) -> bytes:
    spoken, cut = _spoken(said, voice), _cut(group, voice.room(said), voice.family)
    if voice.is_classic:
        return b"".join((b"\0\0", u16(len(spoken)), spoken, *cut))
    reach = attributes.encode_reach(Reach(family=voice.family, next_hop=voice.next_hop, nlri=tuple(cut)))
    return b"".join((b"\0\0", u16(len(reach) + len(spoken)), reach, spoken))


def _cut(group: dict[Nlri, _Had], room: int, family: Family) -> list[Nlri]:
    """Take out as many routes as fit into `room` octets, which is enough for one."""
    longest = 1 + family.address_length
    cut: list[Nlri] = []
    while group:
        part = list(islice(group, room // longest or 1))
        size = sum(map(len, part))
        if cut and size > room:
            break
        room -= size
        cut += part
        for one in part:
            del group[one]
        if room <= 0:
            break
    return cut


@lru_cache(maxsize=256)
def _spoken(said: RouteAttributes, voice: Voice) -> bytes:
    """All attributes but MP_REACH_NLRI."""
    internal = voice.context.internal
    path = () if internal else (Segment(type=SegmentType.AS_SEQUENCE, asns=(voice.local_asn,)),)
    hidden = not voice.context.four_octet_asns and voice.local_asn > 0xFFFF
    preference = DEFAULT_LOCAL_PREFERENCE if said.local_preference is None else said.local_preference
    spoken = PathAttributes(
        origin=Origin.IGP,
        as_path=path,
        next_hop=IPv4Address(voice.next_hop) if voice.is_classic else None,
        local_preference=preference if internal else None,
        communities=tuple(sorted(said.communities)),
        as4_path=path if hidden and path else None,
        large_communities=tuple(sorted(said.large_communities)),
    )
    return attributes.encode(spoken, voice.context)
