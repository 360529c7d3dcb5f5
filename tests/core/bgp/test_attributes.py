"""Path attributes, and what RFC 7606 makes of malformed ones."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.core.bgp import attributes
from lbipam.core.bgp.attributes import Context, Decoded, PathAttributes, Reach, Remedy, Segment, Unreach
from lbipam.core.bgp.codes import ErrorCode, Family, Origin, SegmentType, UpdateError
from lbipam.core.bgp.errors import ProtocolError
from lbipam.core.bgp.nlri import Nlri

EXTERNAL, INTERNAL = Context(), Context(internal=True)
NARROW = Context(four_octet_asns=False)
_U32 = st.integers(0, 2**32 - 1)
_PATH = st.lists(
    st.builds(
        Segment,
        type=st.sampled_from(SegmentType),
        asns=st.lists(_U32, min_size=1, max_size=255).map(tuple),
    ),
    max_size=3,
).map(tuple)
_ROUTES = st.lists(st.binary(min_size=4, max_size=4).map(lambda raw: Nlri(b"\x20" + raw)), max_size=9).map(
    tuple
)
_ATTRIBUTES = st.builds(
    PathAttributes,
    origin=st.none() | st.sampled_from(Origin),
    as_path=st.none() | _PATH,
    next_hop=st.none() | st.ip_addresses(v=4),
    multi_exit_discriminator=st.none() | _U32,
    local_preference=st.none() | _U32,
    communities=st.lists(_U32, max_size=100).map(tuple),
    as4_path=st.none() | _PATH.filter(bool),
    large_communities=st.lists(st.tuples(_U32, _U32, _U32), max_size=40).map(tuple),
    reach=st.none()
    | st.builds(
        Reach, family=st.just(Family.IPV4), next_hop=st.binary(min_size=16, max_size=16), nlri=_ROUTES
    ),
    unreach=st.none() | st.builds(Unreach, family=st.sampled_from(Family), nlri=_ROUTES),
)


@given(_ATTRIBUTES)
def test_attributes_are_read_as_they_are_written(written: PathAttributes) -> None:
    decoded = attributes.decode(attributes.encode(written, INTERNAL), INTERNAL)
    assert decoded.faults == []
    assert decoded.attributes == written


def test_a_peer_of_two_octets_sees_as_trans() -> None:
    path = (Segment(type=SegmentType.AS_SEQUENCE, asns=(4200000001, 64512)),)
    written = PathAttributes(as_path=path, as4_path=path)
    read = attributes.decode(attributes.encode(written, NARROW), NARROW).attributes
    assert read.as_path == (Segment(type=SegmentType.AS_SEQUENCE, asns=(23456, 64512)),)
    assert read.as4_path == path


MALFORMED = {
    "ORIGIN of two octets": ("400102 0000", Remedy.WITHDRAW),
    "ORIGIN of no meaning": ("400101 03", Remedy.WITHDRAW),
    "ORIGIN as optional": ("c00101 00", Remedy.WITHDRAW),
    "AS_PATH segment of no ASN": ("400202 0200", Remedy.WITHDRAW),
    "AS_PATH segment of unknown type": ("400206 0901 0000fde8", Remedy.WITHDRAW),
    "AS_PATH running past its end": ("400206 0202 0000fde8", Remedy.WITHDRAW),
    "AS_PATH with an odd octet": ("400207 0201 0000fde8 02", Remedy.WITHDRAW),
    "NEXT_HOP of three octets": ("400303 c00002", Remedy.WITHDRAW),
    "MULTI_EXIT_DISC of three octets": ("800403 000001", Remedy.WITHDRAW),
    "LOCAL_PREF of three octets": ("400503 000001", Remedy.WITHDRAW),
    "ATOMIC_AGGREGATE with a value": ("400601 00", Remedy.DISCARD),
    "AGGREGATOR of six octets": ("c00706 fde8 c0000201", Remedy.DISCARD),
    "COMMUNITIES of six octets": ("c00806 000000000000", Remedy.WITHDRAW),
    "COMMUNITIES of none": ("c00800", Remedy.WITHDRAW),
    "ORIGINATOR_ID of three octets": ("800903 000000", Remedy.WITHDRAW),
    "CLUSTER_LIST of five octets": ("800a05 0000000000", Remedy.WITHDRAW),
    "EXTENDED_COMMUNITIES of seven octets": ("c01007 00000000000000", Remedy.WITHDRAW),
    "AS4_PATH running past its end": ("c01106 0202 0000fde8", Remedy.DISCARD),
    "AS4_AGGREGATOR of six octets": ("c01206 000000000000", Remedy.DISCARD),
    "LARGE_COMMUNITIES of eleven octets": ("c0200b 0000000000000000000000", Remedy.WITHDRAW),
    "an attribute cut short": ("c0c8ff 00", Remedy.WITHDRAW),
    "a head cut short": ("c0", Remedy.WITHDRAW),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_attribute_costs_what_rfc_7606_says(case: str) -> None:
    text, remedy = MALFORMED[case]
    decoded = attributes.decode(bytes.fromhex(text), INTERNAL)
    assert [fault.remedy for fault in decoded.faults] == [remedy]
    assert decoded.attributes == attributes.NONE


def test_an_aggregator_is_as_long_as_the_as_numbers_agreed_on() -> None:
    wide, narrow = (bytes.fromhex(one) for one in ("c00708 0000fde8 c0000201", "c00706 fde8 c0000201"))
    assert not attributes.decode(wide, EXTERNAL).faults
    assert not attributes.decode(narrow, NARROW).faults
    (fault,) = attributes.decode(wide, NARROW).faults
    assert fault.remedy is Remedy.DISCARD


@pytest.mark.parametrize("text", ["400504 000000c8", "800904 c0000201", "800a04 c0000201", "800a01 00"])
def test_an_external_peer_has_no_say_in_what_is_for_internal_ones(text: str) -> None:
    decoded = attributes.decode(bytes.fromhex(text), EXTERNAL)
    assert [fault.remedy for fault in decoded.faults] == [Remedy.DISCARD]
    assert decoded.attributes == attributes.NONE


def test_of_an_attribute_that_comes_twice_the_first_counts() -> None:
    decoded = attributes.decode(bytes.fromhex("400101 00 400101 02 400304 c0000201"), EXTERNAL)
    assert decoded.attributes == PathAttributes(origin=Origin.IGP, next_hop=IPv4Address("192.0.2.1"))
    assert [fault.remedy for fault in decoded.faults] == [Remedy.DISCARD]


@pytest.mark.parametrize(
    ("text", "subcode"),
    [
        ("800f03 000101" * 2, UpdateError.MALFORMED_ATTRIBUTE_LIST),
        ("800e05 000201 04 00", UpdateError.OPTIONAL_ATTRIBUTE),
        ("800e0a 000201 04 c0000201 00 00", UpdateError.OPTIONAL_ATTRIBUTE),
        ("800f04 000201 81", UpdateError.OPTIONAL_ATTRIBUTE),
        ("400b00", UpdateError.UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE),
    ],
)
def test_what_leaves_open_which_routes_are_meant_ends_the_session(text: str, subcode: UpdateError) -> None:
    with pytest.raises(ProtocolError) as raised:
        attributes.decode(bytes.fromhex(text), EXTERNAL)
    notification = raised.value.notification
    assert (notification.code, notification.subcode) == (ErrorCode.UPDATE_MESSAGE, subcode)


PASSED_OVER = {
    "routes of an unknown family": "800e06 001946 00 00 ff",
    "an unknown optional attribute": "c0c802 0102",
    "the same with a long length": "d0c80002 0102",
    "ATOMIC_AGGREGATE": "400600",
    "CLUSTER_LIST": "800a04 c0000201",
    "EXTENDED_COMMUNITIES": "c01008 0002fde800000001",
}


@pytest.mark.parametrize("case", PASSED_OVER)
def test_what_is_of_no_use_is_passed_over(case: str) -> None:
    assert attributes.decode(bytes.fromhex(PASSED_OVER[case]), INTERNAL) == Decoded()
