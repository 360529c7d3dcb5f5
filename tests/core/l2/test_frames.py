"""Frames as Linux sends them, messages to bytes and back, and what happens to bytes that say nothing."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.core.l2 import frames
from lbipam.core.l2.frames import (
    BROADCAST,
    NO_HARDWARE,
    UNSPECIFIED_4,
    UNSPECIFIED_6,
    Arp,
    Echo,
    Ignored,
    Message,
    NeighbourAdvertisement,
    NeighbourSolicitation,
    Operation,
)

A, B, C = (bytes.fromhex(mac) for mac in ("02000000000a", "02000000000b", "02000000000c"))


def ip(text: str) -> bytes:
    return ip_address(text).packed


def group(text: str) -> bytes:
    return frames.multicast_hardware(ip(text))


# Captured with tcpdump between two network namespaces on Linux 6.18: iputils' arping and ping, ndisc6,
# and the kernel's own resolution, duplicate address detection and `ndisc_notify`.
CAPTURED: dict[str, tuple[str, Message]] = {
    "the kernel asks for an IPv4 neighbour": (
        "ffffffffffff 02000000000a 0806 0001 0800 06 04 0001 02000000000a c0000201 000000000000 c0000202",
        Arp(
            destination=BROADCAST,
            source=A,
            operation=Operation.REQUEST,
            sender_hardware=A,
            sender=ip("192.0.2.1"),
            target_hardware=NO_HARDWARE,
            target=ip("192.0.2.2"),
        ),
    ),
    "the kernel answers it": (
        "02000000000a 02000000000b 0806 0001 0800 06 04 0002 02000000000b c0000202 02000000000a c0000201",
        Arp(
            destination=A,
            source=B,
            operation=Operation.REPLY,
            sender_hardware=B,
            sender=ip("192.0.2.2"),
            target_hardware=A,
            target=ip("192.0.2.1"),
        ),
    ),
    "arping -D probes for a duplicate": (
        "ffffffffffff 02000000000a 0806 0001 0800 06 04 0001 02000000000a 00000000 ffffffffffff c0000209",
        Arp(
            destination=BROADCAST,
            source=A,
            operation=Operation.REQUEST,
            sender_hardware=A,
            sender=UNSPECIFIED_4,
            target_hardware=BROADCAST,
            target=ip("192.0.2.9"),
        ),
    ),
    "arping -U announces": (
        "ffffffffffff 02000000000a 0806 0001 0800 06 04 0001 02000000000a c0000201 ffffffffffff c0000201",
        Arp(
            destination=BROADCAST,
            source=A,
            operation=Operation.REQUEST,
            sender_hardware=A,
            sender=ip("192.0.2.1"),
            target_hardware=BROADCAST,
            target=ip("192.0.2.1"),
        ),
    ),
    "arping -A announces": (
        "ffffffffffff 02000000000a 0806 0001 0800 06 04 0002 02000000000a c0000201 02000000000a c0000201",
        Arp(
            destination=BROADCAST,
            source=A,
            operation=Operation.REPLY,
            sender_hardware=A,
            sender=ip("192.0.2.1"),
            target_hardware=A,
            target=ip("192.0.2.1"),
        ),
    ),
    "the kernel asks for an IPv6 neighbour": (
        (
            "3333ff000002 02000000000a 86dd 6000000000203aff20010db8000000000000000000000001ff0200000000000000000001"
            "ff000002 87001c1e0000000020010db8000000000000000000000002 010102000000000a"
        ),
        NeighbourSolicitation(
            destination=group("ff02::1:ff00:2"),
            source=A,
            sender=ip("2001:db8::1"),
            receiver=ip("ff02::1:ff00:2"),
            target=ip("2001:db8::2"),
            link_layer=A,
        ),
    ),
    "the kernel answers that too": (
        (
            "02000000000a 02000000000b 86dd 6000000000203aff20010db8000000000000000000000002"
            "20010db8000000000000000000000001 88008a686000000020010db8000000000000000000000002 020102000000000b"
        ),
        NeighbourAdvertisement(
            destination=A,
            source=B,
            sender=ip("2001:db8::2"),
            receiver=ip("2001:db8::1"),
            target=ip("2001:db8::2"),
            router=False,
            solicited=True,
            override=True,
            link_layer=B,
        ),
    ),
    "the kernel revalidates a neighbour": (
        (
            "02000000000b 02000000000a 86dd 6000000000203afffe80000000000000000000fffe00000a"
            "20010db8000000000000000000000002 87001c990000000020010db8000000000000000000000002 010102000000000a"
        ),
        NeighbourSolicitation(
            destination=B,
            source=A,
            sender=ip("fe80::ff:fe00:a"),
            receiver=ip("2001:db8::2"),
            target=ip("2001:db8::2"),
            link_layer=A,
        ),
    ),
    "the kernel answers one that knows its link-layer address": (
        (
            "02000000000a 02000000000b 86dd 6000000000183aff20010db8000000000000000000000002"
            "fe80000000000000000000fffe00000a 8800deab4000000020010db8000000000000000000000002"
        ),
        NeighbourAdvertisement(
            destination=A,
            source=B,
            sender=ip("2001:db8::2"),
            receiver=ip("fe80::ff:fe00:a"),
            target=ip("2001:db8::2"),
            router=False,
            solicited=True,
            override=False,
            link_layer=None,
        ),
    ),
    "the kernel announces its new link-layer address": (
        (
            "333300000001 02000000000c 86dd 6000000000203aff20010db8000000000000000000000001"
            "ff020000000000000000000000000001 8800f91f2000000020010db8000000000000000000000001 020102000000000c"
        ),
        NeighbourAdvertisement(
            destination=frames.ALL_NODES_HARDWARE,
            source=C,
            sender=ip("2001:db8::1"),
            receiver=frames.ALL_NODES,
            target=ip("2001:db8::1"),
            router=False,
            solicited=False,
            override=True,
            link_layer=C,
        ),
    ),
}

# The same capture; these carry what we read over (a nonce, RFC 7527; a flow label; an IP identification).
CAPTURED_ONE_WAY: dict[str, tuple[str, Message]] = {
    "the kernel detects duplicates": (
        (
            "3333ff000001 02000000000a 86dd 6000000000203aff00000000000000000000000000000000ff0200000000000000000001"
            "ff000001 8700d00e0000000020010db8000000000000000000000001 0e01bcd2e872c98f"
        ),
        NeighbourSolicitation(
            destination=group("ff02::1:ff00:1"),
            source=A,
            sender=UNSPECIFIED_6,
            receiver=ip("ff02::1:ff00:1"),
            target=ip("2001:db8::1"),
            link_layer=None,
        ),
    ),
    "ping": (
        (
            "02000000000b 02000000000a 0800 450000247883400040013e52c0000201c0000202 0800cd68"
            "1e8600010001020304050607"
        ),
        Echo(
            destination=B,
            source=A,
            operation=Operation.REQUEST,
            sender=ip("192.0.2.1"),
            receiver=ip("192.0.2.2"),
            body=bytes.fromhex("1e8600010001020304050607"),
        ),
    ),
    "ping answered": (
        (
            "02000000000a 02000000000b 0800 450000243a6f00004001bc66c0000202c0000201 0000d568"
            "1e8600010001020304050607"
        ),
        Echo(
            destination=A,
            source=B,
            operation=Operation.REPLY,
            sender=ip("192.0.2.2"),
            receiver=ip("192.0.2.1"),
            body=bytes.fromhex("1e8600010001020304050607"),
        ),
    ),
    "ping -6": (
        (
            "02000000000b 02000000000a 86dd 600c4b7900113a4020010db800000000000000000000000120010db8000000000000"
            "000000000002 8000f1a61e870001000102030405060708"
        ),
        Echo(
            destination=B,
            source=A,
            operation=Operation.REQUEST,
            sender=ip("2001:db8::1"),
            receiver=ip("2001:db8::2"),
            body=bytes.fromhex("1e870001000102030405060708"),
        ),
    ),
}


def captured(name: str) -> bytearray:
    return bytearray.fromhex((CAPTURED | CAPTURED_ONE_WAY)[name][0])


@pytest.mark.parametrize(("frame", "message"), (CAPTURED | CAPTURED_ONE_WAY).values())
def test_a_frame_of_a_linux_host_is_read(frame: str, message: Message) -> None:
    assert frames.decode(bytes.fromhex(frame)) == message


@pytest.mark.parametrize(("frame", "message"), CAPTURED.values())
def test_a_message_is_written_as_linux_writes_it(frame: str, message: Message) -> None:
    assert frames.encode(message) == bytes.fromhex(frame)


@pytest.mark.parametrize("name", CAPTURED | CAPTURED_ONE_WAY)
def test_padding_to_the_minimum_frame_changes_nothing(name: str) -> None:
    frame = bytes(captured(name))
    assert frames.decode(frame + bytes(46)) == frames.decode(frame)


def test_a_priority_tag_is_read_over() -> None:
    frame = bytes(captured("ping"))
    assert frames.decode(frame[:12] + bytes.fromhex("8100 e000") + frame[12:]) == frames.decode(frame)


def test_a_frame_of_another_vlan_is_not_read() -> None:
    frame = bytes(captured("ping"))
    assert frames.decode(frame[:12] + bytes.fromhex("8100 0005") + frame[12:]) is Ignored.OTHER_VLAN
    assert frames.decode(frame[:12] + bytes.fromhex("8100 0100") + frame[12:]) is Ignored.OTHER_VLAN


SPOILED: dict[str, tuple[str, int, bytes, Ignored]] = {
    "ARP for something that is not Ethernet": ("arping -U announces", 15, b"\x06", Ignored.OTHER_PROTOCOL),
    "ARP for something that is not IPv4": ("arping -U announces", 16, b"\x86", Ignored.OTHER_PROTOCOL),
    "reverse ARP": ("arping -U announces", 21, b"\x03", Ignored.OTHER_PROTOCOL),
    "a type nobody knows": ("arping -U announces", 12, b"\x99\x99", Ignored.OTHER_PROTOCOL),
    "IPv4 that says it is 6": ("ping", 14, b"\x65", Ignored.MALFORMED),
    "IPv4 with a short header": ("ping", 14, b"\x44", Ignored.MALFORMED),
    "IPv4 that is longer than the frame": ("ping", 16, b"\x01\x24", Ignored.TRUNCATED),
    "IPv4 that is shorter than its header": ("ping", 16, b"\x00\x10", Ignored.MALFORMED),
    "a first fragment": ("ping", 20, b"\x20\x00", Ignored.FRAGMENT),
    "a later fragment": ("ping", 20, b"\x00\x01", Ignored.FRAGMENT),
    "UDP": ("ping", 23, b"\x11", Ignored.OTHER_PROTOCOL),
    "a broken IPv4 header": ("ping", 22, b"\x39", Ignored.BAD_CHECKSUM),
    "a broken ICMP message": ("ping", 45, b"\xff", Ignored.BAD_CHECKSUM),
    "IPv6 that says it is 4": ("ping -6", 14, b"\x45", Ignored.MALFORMED),
    "UDP over IPv6": ("ping -6", 20, b"\x11", Ignored.OTHER_PROTOCOL),
    "IPv6 that is longer than the frame": ("ping -6", 18, b"\x01\x11", Ignored.TRUNCATED),
    "a broken ICMPv6 message": ("ping -6", 60, b"\xff", Ignored.BAD_CHECKSUM),
    "a solicitation from behind a router": (
        "the kernel asks for an IPv6 neighbour",
        21,
        b"\xfe",
        Ignored.NOT_FROM_THE_LINK,
    ),
}


@pytest.mark.parametrize(("name", "at", "value", "reason"), SPOILED.values(), ids=SPOILED.keys())
def test_a_spoiled_frame_is_ignored_for_what_is_wrong_with_it(
    name: str, at: int, value: bytes, reason: Ignored
) -> None:
    frame = captured(name)
    frame[at : at + len(value)] = value
    assert frames.decode(bytes(frame)) is reason


def icmpv6(name: str, at: int, value: bytes, cut: int | None = None) -> bytes:
    """A captured ICMPv6 frame with bytes changed from `at` of its message, cut to `cut`, checksums made good."""
    frame = captured(name)
    message = frame[54 : cut and 54 + cut]
    message[at : at + len(value)] = value
    message[2:4] = b"\x00\x00"
    pseudo = bytes(frame[22:54]) + len(message).to_bytes(4) + (58).to_bytes(4)
    message[2:4] = frames.checksum(pseudo + bytes(message)).to_bytes(2)
    return bytes(frame[:18]) + len(message).to_bytes(2) + bytes(frame[20:54]) + bytes(message)


ASKS, DETECTS = "the kernel asks for an IPv6 neighbour", "the kernel detects duplicates"
ANSWERS = "the kernel announces its new link-layer address"
UNSOUND = {
    "a code": (icmpv6(ASKS, 1, b"\x01"), Ignored.MALFORMED),
    "a multicast target": (icmpv6(ASKS, 8, b"\xff\x02"), Ignored.MALFORMED),
    "an option of no length": (icmpv6(ASKS, 25, b"\x00"), Ignored.MALFORMED),
    "an option past the end": (icmpv6(ASKS, 25, b"\x02"), Ignored.MALFORMED),
    "half an option": (icmpv6(ASKS, 0, b"", cut=28), Ignored.MALFORMED),
    "no room for a target": (icmpv6(ASKS, 0, b"", cut=16), Ignored.TRUNCATED),
    "no room for anything": (icmpv6(ASKS, 0, b"", cut=4), Ignored.TRUNCATED),
    "a link-layer address in duplicate address detection": (icmpv6(DETECTS, 24, b"\x01"), Ignored.MALFORMED),
    "a solicited advertisement to everybody": (icmpv6(ANSWERS, 4, b"\x60"), Ignored.MALFORMED),
    "a router advertisement": (icmpv6(ASKS, 0, b"\x86"), Ignored.OTHER_PROTOCOL),
    "an echo with a code": (icmpv6("ping -6", 1, b"\x01"), Ignored.MALFORMED),
}


@pytest.mark.parametrize(("frame", "reason"), UNSOUND.values(), ids=UNSOUND.keys())
def test_icmpv6_that_breaks_its_rfc_is_ignored(frame: bytes, reason: Ignored) -> None:
    assert frames.decode(frame) is reason


def icmp(kind: int, code: int, body: bytes) -> bytes:
    echo = Echo(
        destination=B, source=A, operation=Operation.REQUEST, sender=bytes(4), receiver=bytes(4), body=body
    )
    frame = bytearray(frames.encode(echo))
    frame[34:36] = bytes((kind, code))
    frame[36:38] = b"\x00\x00"
    frame[36:38] = frames.checksum(bytes(frame[34:])).to_bytes(2)
    return bytes(frame)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (icmp(3, 0, b"abcd"), Ignored.OTHER_PROTOCOL),
        (icmp(8, 1, b"abcd"), Ignored.MALFORMED),
        (icmp(8, 0, b"abc"), Ignored.TRUNCATED),
    ],
    ids=["unreachable", "an echo with a code", "no sequence number"],
)
def test_icmp_that_is_no_echo_is_ignored(frame: bytes, reason: Ignored) -> None:
    assert frames.decode(frame) is reason


def test_an_option_of_several_units_is_read_over() -> None:
    longer = icmpv6(ASKS, 24, b"\x0e\x02" + bytes(14) + bytes.fromhex("0101 02000000000c"))
    message = frames.decode(longer)
    assert isinstance(message, NeighbourSolicitation)
    assert message.link_layer == C


def test_an_odd_byte_is_padded_for_the_checksum() -> None:
    assert (
        frames.checksum(b"\x12\x34\x56") == frames.checksum(b"\x12\x34\x56\x00") == 0xFFFF - 0x1234 - 0x5600
    )


@pytest.mark.parametrize("name", CAPTURED | CAPTURED_ONE_WAY)
def test_a_frame_cut_anywhere_is_truncated(name: str) -> None:
    frame = bytes(captured(name))
    assert {frames.decode(frame[:end]) for end in range(len(frame))} == {Ignored.TRUNCATED}


hardware = st.binary(min_size=6, max_size=6)
ipv4 = st.binary(min_size=4, max_size=4)
ipv6 = st.binary(min_size=16, max_size=16)
unicast6 = ipv6.filter(lambda address: address[0] != 0xFF and address != UNSPECIFIED_6)


def echoes(address: st.SearchStrategy[bytes]) -> st.SearchStrategy[Echo]:
    return st.builds(
        Echo,
        destination=hardware,
        source=hardware,
        operation=st.sampled_from(Operation),
        sender=address,
        receiver=address,
        body=st.binary(min_size=4, max_size=70),
    )


messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Arp,
        destination=hardware,
        source=hardware,
        operation=st.sampled_from(Operation),
        sender_hardware=hardware,
        sender=ipv4,
        target_hardware=hardware,
        target=ipv4,
    ),
    st.builds(
        NeighbourSolicitation,
        destination=hardware,
        source=hardware,
        sender=unicast6,
        receiver=ipv6,
        target=unicast6,
        link_layer=st.none() | hardware,
    ),
    st.builds(
        NeighbourAdvertisement,
        destination=hardware,
        source=hardware,
        sender=unicast6,
        receiver=unicast6,
        target=unicast6,
        router=st.booleans(),
        solicited=st.booleans(),
        override=st.booleans(),
        link_layer=st.none() | hardware,
    ),
    echoes(ipv4),
    echoes(ipv6),
)


@given(messages)
def test_what_is_written_is_read_back(message: Message) -> None:
    assert frames.decode(frames.encode(message)) == message


@given(messages, st.data())
def test_bytes_changed_at_will_give_a_message_or_a_reason(message: Message, data: st.DataObject) -> None:
    frame = bytearray(frames.encode(message))
    for at in data.draw(st.lists(st.integers(min_value=0, max_value=len(frame) - 1), max_size=4)):
        frame[at] = data.draw(st.integers(min_value=0, max_value=255))
    assert isinstance(frames.decode(bytes(frame)), Message | Ignored)


@given(
    st.binary(max_size=120),
    st.sampled_from([b"", b"\x08\x00\x45", b"\x08\x06", b"\x86\xdd\x60", b"\x81\x00"]),
)
def test_any_bytes_give_a_message_or_a_reason(junk: bytes, start: bytes) -> None:
    assert isinstance(frames.decode(bytes(12) + start + junk), Message | Ignored)
    assert isinstance(frames.decode(junk), Message | Ignored)


def test_the_group_of_an_address_is_its_last_three_bytes() -> None:
    assert frames.solicited_node(ip("2001:db8::aabb:ccdd")) == ip("ff02::1:ffbb:ccdd")
    assert frames.multicast_hardware(ip("ff02::1:ffbb:ccdd")) == bytes.fromhex("3333ffbbccdd")
