"""Path attributes to and from bytes.

    +-----------+----------+--------------------+-------+
    | flags (1) | type (1) | length (1, or 2    | value |    RFC 4271 §4.3
    |           |          | with EXTENDED)     |       |
    +-----------+----------+--------------------+-------+

A fault in an attribute carries its remedy (RFC 7606 §2): leave the attribute out, take the routes as
withdrawn, or end the session, which alone is raised. What the attributes mean for a route is not
decided here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import IPv4Address
from typing import Any, TypeAlias

from lbipam.core.bgp import nlri
from lbipam.core.bgp.codes import (
    AS_TRANS,
    FAMILIES,
    AttributeFlag,
    AttributeType,
    ErrorCode,
    Family,
    Origin,
    SegmentType,
    UpdateError,
)
from lbipam.core.bgp.errors import ProtocolError
from lbipam.core.bgp.nlri import Nlri
from lbipam.core.bgp.wire import Reader, TruncatedError, u8, u16, u32

LargeCommunity: TypeAlias = tuple[int, int, int]
_WELL_KNOWN = AttributeFlag.TRANSITIVE
_OPTIONAL = AttributeFlag.OPTIONAL
_OPTIONAL_TRANSITIVE = AttributeFlag.OPTIONAL | AttributeFlag.TRANSITIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What two speakers have agreed on that changes how attributes are written."""

    four_octet_asns: bool = True
    """RFC 6793."""
    internal: bool = False
    """Both sides are of one AS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Part of an AS_PATH."""

    type: SegmentType
    asns: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """MP_REACH_NLRI (RFC 4760 §3) of a family that lbipam knows."""

    family: Family
    next_hop: bytes
    """One address or, for a link-local next hop beside a global one, two (RFC 2545 §3)."""
    nlri: tuple[Nlri, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreach:
    """MP_UNREACH_NLRI (RFC 4760 §4) of a family that lbipam knows."""

    family: Family
    nlri: tuple[Nlri, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathAttributes:
    """The attributes of one UPDATE; None and empty: not there."""

    origin: Origin | None = None
    as_path: tuple[Segment, ...] | None = None
    next_hop: IPv4Address | None = None
    multi_exit_discriminator: int | None = None
    local_preference: int | None = None
    communities: tuple[int, ...] = ()
    as4_path: tuple[Segment, ...] | None = None
    large_communities: tuple[LargeCommunity, ...] = ()
    reach: Reach | None = None
    unreach: Unreach | None = None


NONE = PathAttributes()


class Remedy(Enum):
    """What a fault costs (RFC 7606 §2); "session reset" is a `ProtocolError`."""

    DISCARD = "attribute discard"
    WITHDRAW = "treat-as-withdraw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A malformed attribute that the session survives."""

    remedy: Remedy
    type: int
    why: str


@dataclass(slots=True)
class Decoded:
    """What was read, and what was wrong with it."""

    attributes: PathAttributes = NONE
    faults: list[Fault] = field(default_factory=list)


# --- writing ----------------------------------------------------------------------------------------------


def encode(attributes: PathAttributes, context: Context) -> bytes:
    """The attributes, those of RFC 4760 first (RFC 7606 §5.1), the others by type."""
    parts = []
    if attributes.reach is not None:
        parts.append(encode_reach(attributes.reach))
    if attributes.unreach is not None:
        parts.append(encode_unreach(attributes.unreach))
    parts += (
        _attribute(form.flags, type_, form.write(value, context))
        for type_, form in _FORMS.items()
        if (value := getattr(attributes, form.name)) is not None and (value != () or form.may_be_empty)
    )
    return b"".join(parts)


def encode_reach(reach: Reach) -> bytes:
    """MP_REACH_NLRI as a whole."""
    afi, safi = reach.family.value
    value = b"".join((u16(afi), u8(safi), u8(len(reach.next_hop)), reach.next_hop, b"\0", *reach.nlri))
    return _attribute(_OPTIONAL, AttributeType.MP_REACH_NLRI, value)


def encode_unreach(unreach: Unreach) -> bytes:
    """MP_UNREACH_NLRI as a whole."""
    afi, safi = unreach.family.value
    value = b"".join((u16(afi), u8(safi), *unreach.nlri))
    return _attribute(_OPTIONAL, AttributeType.MP_UNREACH_NLRI, value)


def _attribute(flags: AttributeFlag, type_: int, value: bytes) -> bytes:
    if len(value) > 255:
        return bytes((flags | AttributeFlag.EXTENDED_LENGTH, type_)) + u16(len(value)) + value
    return bytes((flags & ~AttributeFlag.EXTENDED_LENGTH & 0xFF, type_, len(value))) + value


# --- reading ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Raw:
    """An attribute as it came."""

    flags: AttributeFlag
    type: int
    value: bytes

    @property
    def encoded(self) -> bytes:
        return _attribute(self.flags, self.type, self.value)


def decode(data: bytes, context: Context) -> Decoded:
    """Read the attributes of an UPDATE; raises `ProtocolError` where the session must end."""
    decoded = Decoded()
    seen: set[int] = set()
    reader = Reader(data)
    while reader:
        try:
            flags, type_ = reader.u8(), reader.u8()
            value = reader.take(reader.u16() if flags & AttributeFlag.EXTENDED_LENGTH else reader.u8())
        except TruncatedError as truncated:
            # RFC 7606 §4: the prefixes stand elsewhere and can still be told.
            decoded.faults.append(Fault(remedy=Remedy.WITHDRAW, type=0, why=f"attribute list: {truncated}"))
            break
        if type_ not in seen:
            seen.add(type_)
            _read(decoded, _Raw(flags=AttributeFlag(flags), type=type_, value=value), context)
        elif type_ in (AttributeType.MP_REACH_NLRI, AttributeType.MP_UNREACH_NLRI):
            raise ProtocolError(
                ErrorCode.UPDATE_MESSAGE, UpdateError.MALFORMED_ATTRIBUTE_LIST, f"attribute {type_} twice"
            )
        else:
            decoded.faults.append(Fault(remedy=Remedy.DISCARD, type=type_, why="a second time"))
    return decoded


def _read(decoded: Decoded, raw: _Raw, context: Context) -> None:
    """Take one attribute in, pass it over, or say what is wrong with it."""
    if raw.type in (AttributeType.MP_REACH_NLRI, AttributeType.MP_UNREACH_NLRI):
        _read_multiprotocol(decoded, raw)
    elif raw.type in _INTERNAL and not context.internal:
        # RFC 7606 §7.5, §7.9, §7.10: an external peer has no say in it.
        decoded.faults.append(Fault(remedy=Remedy.DISCARD, type=raw.type, why="from an external peer"))
    elif (form := _FORMS.get(raw.type) or _PASSED_OVER.get(raw.type)) is not None:
        try:
            _read_form(decoded, form, raw, context)
        except ValueError as problem:
            decoded.faults.append(Fault(remedy=form.remedy, type=raw.type, why=str(problem)))
    elif not raw.flags & AttributeFlag.OPTIONAL:
        raise ProtocolError(
            ErrorCode.UPDATE_MESSAGE,
            UpdateError.UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE,
            f"unknown well-known attribute {raw.type}",
            raw.encoded,
        )


def _read_form(decoded: Decoded, form: "_Form | _Passed", raw: _Raw, context: Context) -> None:
    if raw.flags & _OPTIONAL_TRANSITIVE != form.flags:
        raise ValueError(f"flags {raw.flags:#04x}")
    if isinstance(form, _Form):
        value: Any = form.read(raw.value, context)
        decoded.attributes = replace(decoded.attributes, **{form.name: value})
    else:
        _expect(form.fits(len(raw.value), context), raw.value)


def _read_multiprotocol(decoded: Decoded, raw: _Raw) -> None:
    """RFC 7606 §5.3, §7.11: what says which routes are meant must be readable, else the session ends."""
    reader = Reader(raw.value)
    try:
        family = FAMILIES.get((reader.u16(), reader.u8()))
        if family is None:
            return
        if raw.type == AttributeType.MP_UNREACH_NLRI:
            unreach = Unreach(family=family, nlri=tuple(nlri.split(reader.rest(), family)))
            decoded.attributes = replace(decoded.attributes, unreach=unreach)
        else:
            next_hop = reader.take(reader.u8())
            if len(next_hop) not in _NEXT_HOP_LENGTHS[family]:
                raise ValueError(f"next hop of {len(next_hop)} octets")
            reader.u8()
            reach = Reach(family=family, next_hop=next_hop, nlri=tuple(nlri.split(reader.rest(), family)))
            decoded.attributes = replace(decoded.attributes, reach=reach)
    except ValueError as problem:
        raise ProtocolError(
            ErrorCode.UPDATE_MESSAGE,
            UpdateError.OPTIONAL_ATTRIBUTE,
            f"attribute {raw.type}: {problem}",
            raw.encoded,
        ) from problem


_NEXT_HOP_LENGTHS = {Family.IPV4: (4, 16, 32), Family.IPV6: (16, 32)}
"""IPv4 routes may lead to an IPv6 next hop (RFC 8950 §3)."""

# --- the single attributes --------------------------------------------------------------------------------


def _read_origin(value: bytes, _context: Context) -> Origin:
    _expect(len(value) == 1, value)
    return Origin(value[0])


def _read_path(value: bytes, context: Context) -> tuple[Segment, ...]:
    """RFC 7606 §7.2: a segment of no known type, of no ASN, or running past the end is malformed."""
    width = 4 if context.four_octet_asns else 2
    segments = []
    reader = Reader(value)
    while reader:
        type_, count = SegmentType(reader.u8()), reader.u8()
        if not count:
            raise ValueError("empty segment")
        raw = reader.take(count * width)
        asns = tuple(int.from_bytes(raw[at : at + width], "big") for at in range(0, len(raw), width))
        segments.append(Segment(type=type_, asns=asns))
    return tuple(segments)


def _write_path(path: tuple[Segment, ...], context: Context) -> bytes:
    parts: list[bytes] = []
    for segment in path:
        parts += (u8(segment.type), u8(len(segment.asns)))
        if context.four_octet_asns:
            parts += map(u32, segment.asns)
        else:
            parts += (u16(asn if asn <= 0xFFFF else AS_TRANS) for asn in segment.asns)
    return b"".join(parts)


_WIDE = Context()


def _read_as4_path(value: bytes, _context: Context) -> tuple[Segment, ...]:
    return _read_path(value, _WIDE)


def _write_as4_path(path: tuple[Segment, ...], _context: Context) -> bytes:
    return _write_path(path, _WIDE)


def _read_next_hop(value: bytes, _context: Context) -> IPv4Address:
    _expect(len(value) == 4, value)
    return IPv4Address(value)


def _read_number(value: bytes, _context: Context) -> int:
    _expect(len(value) == 4, value)
    return int.from_bytes(value, "big")


def _read_communities(value: bytes, _context: Context) -> tuple[int, ...]:
    _expect(bool(value) and len(value) % 4 == 0, value)
    return tuple(int.from_bytes(value[at : at + 4], "big") for at in range(0, len(value), 4))


def _read_large_communities(value: bytes, _context: Context) -> tuple[LargeCommunity, ...]:
    _expect(bool(value) and len(value) % 12 == 0, value)
    reader = Reader(value)
    return tuple((reader.u32(), reader.u32(), reader.u32()) for _ in range(len(value) // 12))


def _expect(fits: bool, value: bytes) -> None:  # noqa: FBT001
    if not fits:
        raise ValueError(f"length {len(value)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How one attribute is written, and what its being malformed costs (RFC 7606 §7)."""

    name: str
    flags: AttributeFlag
    read: Callable[[bytes, Context], Any]
    write: Callable[..., bytes]
    remedy: Remedy = Remedy.WITHDRAW
    may_be_empty: bool = False


_INTERNAL = frozenset({AttributeType.LOCAL_PREF, AttributeType.ORIGINATOR_ID, AttributeType.CLUSTER_LIST})
_FORMS: Mapping[int, _Form] = {
    AttributeType.ORIGIN: _Form(
        name="origin", flags=_WELL_KNOWN, read=_read_origin, write=lambda value, _: u8(value)
    ),
    AttributeType.AS_PATH: _Form(
        name="as_path", flags=_WELL_KNOWN, read=_read_path, write=_write_path, may_be_empty=True
    ),
    AttributeType.NEXT_HOP: _Form(
        name="next_hop", flags=_WELL_KNOWN, read=_read_next_hop, write=lambda value, _: value.packed
    ),
    AttributeType.MULTI_EXIT_DISC: _Form(
        name="multi_exit_discriminator",
        flags=_OPTIONAL,
        read=_read_number,
        write=lambda value, _: u32(value),
    ),
    AttributeType.LOCAL_PREF: _Form(
        name="local_preference", flags=_WELL_KNOWN, read=_read_number, write=lambda value, _: u32(value)
    ),
    AttributeType.COMMUNITIES: _Form(
        name="communities",
        flags=_OPTIONAL_TRANSITIVE,
        read=_read_communities,
        write=lambda value, _: b"".join(map(u32, value)),
    ),
    AttributeType.AS4_PATH: _Form(
        name="as4_path",
        flags=_OPTIONAL_TRANSITIVE,
        read=_read_as4_path,
        write=_write_as4_path,
        remedy=Remedy.DISCARD,
    ),
    AttributeType.LARGE_COMMUNITIES: _Form(
        name="large_communities",
        flags=_OPTIONAL_TRANSITIVE,
        read=_read_large_communities,
        write=lambda value, _: b"".join(u32(part) for one in value for part in one),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passed:
    """An attribute of which only the form is looked at."""

    flags: AttributeFlag
    fits: Callable[[int, Context], bool]
    """By its length."""
    remedy: Remedy = Remedy.WITHDRAW


_PASSED_OVER: Mapping[int, _Passed] = {
    AttributeType.ATOMIC_AGGREGATE: _Passed(
        flags=_WELL_KNOWN, fits=lambda length, _: length == 0, remedy=Remedy.DISCARD
    ),
    AttributeType.AGGREGATOR: _Passed(
        flags=_OPTIONAL_TRANSITIVE,
        fits=lambda length, context: length == (8 if context.four_octet_asns else 6),
        remedy=Remedy.DISCARD,
    ),
    AttributeType.AS4_AGGREGATOR: _Passed(
        flags=_OPTIONAL_TRANSITIVE, fits=lambda length, _: length == 8, remedy=Remedy.DISCARD
    ),
    AttributeType.ORIGINATOR_ID: _Passed(flags=_OPTIONAL, fits=lambda length, _: length == 4),
    AttributeType.CLUSTER_LIST: _Passed(
        flags=_OPTIONAL, fits=lambda length, _: length > 0 and length % 4 == 0
    ),
    AttributeType.EXTENDED_COMMUNITIES: _Passed(
        flags=_OPTIONAL_TRANSITIVE, fits=lambda length, _: length > 0 and length % 8 == 0
    ),
}
