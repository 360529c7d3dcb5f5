"""Messages of real routers, read and written; streams cut in every way."""

from ipaddress import IPv4Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.core.bgp import messages, nlri
from lbipam.core.bgp.attributes import Context, Remedy
from lbipam.core.bgp.codes import MARKER, ErrorCode, Family, HeaderError, MessageType, OpenError, UpdateError
from lbipam.core.bgp.errors import Notification, ProtocolError
from lbipam.core.bgp.messages import (
    ExtendedMessage,
    ExtendedNextHop,
    FourOctetAsn,
    GracefulRestart,
    Multiprotocol,
    Open,
    RouteRefresh,
    RouteRefreshing,
    Splitter,
    UnknownCapability,
    Update,
)
from tests.core.bgp.captures import BIRD, CAPTURES, FRR, GOBGP

INTERNAL, EXTERNAL = Context(internal=True), Context()
STREAM = b"".join(MARKER + bytes.fromhex(text) for text in CAPTURES.values())


def read(text: str, context: Context = EXTERNAL) -> messages.Message:
    splitter = Splitter()
    splitter.feed(MARKER + bytes.fromhex(text))
    ((type_, body),) = splitter
    return messages.decode(type_, body, context)


def context_of(capture: str) -> Context:
    return INTERNAL if capture.startswith("BIRD") else EXTERNAL


@pytest.mark.parametrize("capture", CAPTURES)
def test_a_message_of_a_router_is_read_without_fault_and_means_the_same_when_written(capture: str) -> None:
    context = context_of(capture)
    message = read(CAPTURES[capture], context)
    assert not (isinstance(message, Update) and message.faults)
    written = messages.encode(message, context)
    assert read(written.removeprefix(MARKER).hex(), context) == message


@pytest.mark.parametrize(
    "capture",
    [name for name in CAPTURES if name.split()[-1] in ("KEEPALIVE", "NOTIFICATION", "ROUTE_REFRESH")]
    + [name for name in CAPTURES if name.startswith("BIRD") and "OPEN" in name],
)
def test_where_there_is_one_way_to_write_it_we_write_it_to_the_octet(capture: str) -> None:
    message = read(CAPTURES[capture])
    assert messages.encode(message, EXTERNAL).removeprefix(MARKER).hex() == CAPTURES[capture]


def test_what_bird_offers() -> None:
    assert read(BIRD[0][1]) == Open(
        asn=65000,
        hold_seconds=9,
        router_id=IPv4Address("198.18.0.1"),
        capabilities=(
            Multiprotocol(family=(1, 1)),
            Multiprotocol(family=(2, 1)),
            RouteRefreshing(),
            GracefulRestart(restarted=False, seconds=120, families=(((1, 1), False), ((2, 1), False))),
            FourOctetAsn(asn=65000),
            UnknownCapability(code=70, value=b""),
            UnknownCapability(code=71, value=b""),
        ),
    )


def test_what_frr_offers() -> None:
    message = read(FRR[0][1])
    assert isinstance(message, Open)
    assert message.asn == 23456
    assert FourOctetAsn(asn=4200000512) in message.capabilities
    assert ExtendedMessage() in message.capabilities


def test_what_gobgp_offers() -> None:
    message = read(GOBGP[0][1])
    assert isinstance(message, Open)
    assert ExtendedNextHop(families=(((1, 1), 2),)) in message.capabilities


@pytest.mark.parametrize("capture", [name for name in CAPTURES if name.endswith("NOTIFICATION")])
def test_how_the_routers_say_goodbye(capture: str) -> None:
    message = read(CAPTURES[capture])
    assert isinstance(message, Notification)
    words = "" if capture.startswith("GoBGP") else ': "maintenance, back at noon"'
    assert str(message) == f"Cease/Administrative Shutdown (6/2){words}"


@pytest.mark.parametrize("router", ["FRR", "BIRD", "GoBGP"])
def test_the_routers_end_their_ribs(router: str) -> None:
    context = context_of(router)
    updates = [read(text, context) for name, text in CAPTURES.items() if name.startswith(router)]
    assert all(messages.end_of_rib(family) in updates for family in Family)


def test_our_end_of_rib_is_theirs_to_the_octet() -> None:
    ours = {
        messages.encode(messages.end_of_rib(family), EXTERNAL).removeprefix(MARKER).hex() for family in Family
    }
    assert ours <= set(CAPTURES.values())


def test_the_attributes_that_bird_sent() -> None:
    message = next(
        one
        for _, text in BIRD
        if isinstance(one := read(text, INTERNAL), Update) and one.attributes.large_communities
    )
    assert message.nlri == (nlri.encode(ip_network("203.0.113.0/24")),)
    assert message.attributes.communities == (64512 << 16 | 100,)
    assert message.attributes.large_communities == ((4200000512, 1, 2),)
    assert message.attributes.local_preference == 200
    assert message.attributes.multi_exit_discriminator == 50


# --- streams ----------------------------------------------------------------------------------------------


def cut(*pieces: bytes) -> list[tuple[MessageType, bytes]]:
    splitter = Splitter()
    found = []
    for piece in pieces:
        splitter.feed(piece)
        found += list(splitter)
    return found


def test_byte_by_byte_is_the_same_as_at_once() -> None:
    at_once = cut(STREAM)
    assert len(at_once) == len(CAPTURES)
    assert cut(*(bytes((one,)) for one in STREAM)) == at_once


@given(st.integers(0, len(STREAM)))
def test_a_stream_cut_anywhere_waits_for_the_rest(at: int) -> None:
    assert cut(STREAM[:at], STREAM[at:]) == cut(STREAM)


def test_rubbish_after_good_messages_is_an_error_and_takes_none_of_them_away() -> None:
    splitter = Splitter()
    splitter.feed(STREAM + b"rubbish and more rubbish")
    found = []
    with pytest.raises(ProtocolError, match="no marker"):
        for one in splitter:
            found.append(one)  # noqa: PERF402 — the last one raises
    assert found == cut(STREAM)


@pytest.mark.parametrize(
    ("header", "subcode"),
    [
        ("00" * 16 + "001304", HeaderError.CONNECTION_NOT_SYNCHRONIZED),
        ("ff" * 16 + "001204", HeaderError.BAD_MESSAGE_LENGTH),
        ("ff" * 16 + "001404", HeaderError.BAD_MESSAGE_LENGTH),
        ("ff" * 16 + "001c01", HeaderError.BAD_MESSAGE_LENGTH),
        ("ff" * 16 + "100102", HeaderError.BAD_MESSAGE_LENGTH),
        ("ff" * 16 + "001306", HeaderError.BAD_MESSAGE_TYPE),
    ],
)
def test_a_bad_header_is_refused(header: str, subcode: HeaderError) -> None:
    with pytest.raises(ProtocolError) as raised:
        cut(bytes.fromhex(header))
    assert raised.value.notification.subcode == subcode


def test_longer_messages_are_taken_where_agreed_on_but_never_a_longer_open() -> None:
    splitter = Splitter()
    splitter.maximum = 65535
    body = bytes(5000)
    splitter.feed(messages.frame(MessageType.UPDATE, body))
    assert list(splitter) == [(MessageType.UPDATE, body)]
    splitter.feed(messages.frame(MessageType.OPEN, body))
    with pytest.raises(ProtocolError):
        list(splitter)


# --- what is wrong inside ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "subcode"),
    [
        ("03 fde8 005a c6120001 00", OpenError.UNSUPPORTED_VERSION_NUMBER),
        ("04 fde8 005a c6120001 04 0100", OpenError.UNSPECIFIC),
        ("04 fde8 005a c6120001 02 0100", OpenError.UNSUPPORTED_OPTIONAL_PARAMETER),
        ("04 fde8 005a c6120001 04 0202 0104", OpenError.UNSPECIFIC),
        ("04 fde8 005a c6120001 00 00", OpenError.UNSPECIFIC),
        ("04 fde8 005a c6120001 ff 01 00", OpenError.UNSPECIFIC),
    ],
)
def test_a_malformed_open_is_refused(body: str, subcode: OpenError) -> None:
    with pytest.raises(ProtocolError) as raised:
        messages.decode_open(bytes.fromhex(body))
    assert raised.value.notification.code == ErrorCode.OPEN_MESSAGE
    assert raised.value.notification.subcode == subcode


@pytest.mark.parametrize("length", ["ff", "0c", "01"])
def test_an_open_with_extended_parameters_is_read_whatever_the_old_length_says(length: str) -> None:
    body = bytes.fromhex(f"04 fde8 005a c6120001 {length} ff 0009 02 0006 4104 0000fde8")
    assert messages.decode_open(body).capabilities == (FourOctetAsn(asn=65000),)


def test_as_many_parameters_as_fit_need_not_be_extended() -> None:
    body = bytes.fromhex("04 fde8 005a c6120001 ff 02 06 4104 0000fde8 02 f5 80f3") + bytes(0xF3)
    capabilities = messages.decode_open(body).capabilities
    assert capabilities == (FourOctetAsn(asn=65000), UnknownCapability(code=128, value=bytes(0xF3)))


def test_a_capability_of_unexpected_form_counts_as_unknown() -> None:
    body = bytes.fromhex("04 fde8 005a c6120001 05 02 03 4101 00")
    assert messages.decode_open(body).capabilities == (UnknownCapability(code=65, value=b"\0"),)


@pytest.mark.parametrize(
    ("body", "subcode"),
    [
        ("0005 00", UpdateError.MALFORMED_ATTRIBUTE_LIST),
        ("0000 0005 00", UpdateError.MALFORMED_ATTRIBUTE_LIST),
        ("0001 21 0000", UpdateError.INVALID_NETWORK_FIELD),
        ("0000 0000 20c000", UpdateError.INVALID_NETWORK_FIELD),
    ],
)
def test_an_update_whose_routes_cannot_be_told_is_refused(body: str, subcode: UpdateError) -> None:
    with pytest.raises(ProtocolError) as raised:
        messages.decode_update(bytes.fromhex(body), EXTERNAL)
    assert raised.value.notification.subcode == subcode


@pytest.mark.parametrize(("context", "missing"), [(EXTERNAL, {1, 2, 3}), (INTERNAL, {1, 2, 3, 5})])
def test_routes_without_what_every_route_has_are_withdrawn(context: Context, missing: set[int]) -> None:
    update = messages.decode_update(bytes.fromhex("0000 0000 20c0000201"), context)
    assert {fault.type for fault in update.faults} == missing
    assert {fault.remedy for fault in update.faults} == {Remedy.WITHDRAW}


def test_a_route_refresh_of_the_wrong_length_is_given_back() -> None:
    with pytest.raises(ProtocolError) as raised:
        messages.decode_route_refresh(b"\0\1\0\1\0")
    assert raised.value.notification == Notification(
        code=7, subcode=1, data=messages.frame(MessageType.ROUTE_REFRESH, b"\0\1\0\1\0")
    )


def test_what_a_notification_gives_back_is_cut_so_that_any_peer_takes_it() -> None:
    written = messages.encode(Notification(code=7, subcode=1, data=b"\1" * 65535), EXTERNAL)
    assert cut(written) == [(MessageType.NOTIFICATION, b"\7\1" + b"\1" * (4096 - 21))]


_FAMILY = st.tuples(st.integers(0, 65535), st.integers(0, 255))
_CAPABILITY = st.one_of(
    st.builds(Multiprotocol, family=_FAMILY),
    st.just(RouteRefreshing()),
    st.just(ExtendedMessage()),
    st.builds(FourOctetAsn, asn=st.integers(0, 2**32 - 1)),
    st.builds(
        ExtendedNextHop, families=st.lists(st.tuples(_FAMILY, st.integers(0, 65535)), max_size=3).map(tuple)
    ),
    st.builds(
        GracefulRestart,
        restarted=st.booleans(),
        seconds=st.integers(0, 4095),
        families=st.lists(st.tuples(_FAMILY, st.booleans()), max_size=3).map(tuple),
        notification=st.booleans(),
    ),
    st.builds(UnknownCapability, code=st.integers(128, 255), value=st.binary(max_size=20)),
)
_MESSAGE = st.one_of(
    st.builds(
        Open,
        asn=st.integers(0, 65535),
        hold_seconds=st.integers(0, 65535),
        router_id=st.ip_addresses(v=4),
        capabilities=st.lists(_CAPABILITY, max_size=8).map(tuple),
    ),
    st.builds(
        Notification, code=st.integers(0, 255), subcode=st.integers(0, 255), data=st.binary(max_size=99)
    ),
    st.builds(RouteRefresh, family=_FAMILY, subtype=st.integers(0, 255)),
)


@given(_MESSAGE)
def test_any_message_is_read_as_it_is_written(message: messages.Message) -> None:
    assert read(messages.encode(message, EXTERNAL).removeprefix(MARKER).hex()) == message
