"""BFD packets, read and written."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.core.bfd import packets
from lbipam.core.bfd.packets import Ignored, Packet, State

UP = "20c00318 00000001 00000002 000186a0 000186a0 00000000"
PACKET = Packet(
    state=State.UP,
    final=False,
    multiplier=3,
    mine=1,
    yours=2,
    desired_transmit=100_000,
    required_receive=100_000,
)
_U32 = st.integers(0, 2**32 - 1)
_PACKETS = st.builds(
    Packet,
    state=st.sampled_from(State),
    diagnostic=st.integers(0, 31),
    poll=st.booleans(),
    final=st.booleans(),
    demand=st.booleans(),
    multiplier=st.integers(1, 255),
    mine=st.integers(1, 2**32 - 1),
    yours=st.integers(1, 2**32 - 1),
    desired_transmit=_U32,
    required_receive=_U32,
)


@given(_PACKETS)
def test_a_packet_is_read_as_it_is_written(packet: Packet) -> None:
    assert packets.decode(packets.encode(packet)) == packet


def test_the_octets_stand_where_rfc_5880_puts_them() -> None:
    assert packets.encode(PACKET) == bytes.fromhex(UP)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("20c003", Ignored.MALFORMED),
        (UP.replace("20c003", "40c003"), Ignored.VERSION),
        (UP.replace("20c00318", "20c00317"), Ignored.MALFORMED),
        (UP.replace("20c00318", "20c00319"), Ignored.MALFORMED),
        (UP.replace("20c00318", "20c00018"), Ignored.NO_MULTIPLIER),
        (UP.replace("20c00318", "20c10318"), Ignored.MULTIPOINT),
        (UP.replace("20c00318", "20c40318"), Ignored.AUTHENTICATED),
        (UP.replace("00000001", "00000000"), Ignored.NO_DISCRIMINATOR),
        (UP.replace("00000002", "00000000"), Ignored.NO_DISCRIMINATOR),
    ],
)
def test_what_is_not_for_us_is_dropped_with_a_reason(text: str, why: Ignored) -> None:
    assert packets.decode(bytes.fromhex(text)) is why


@pytest.mark.slow
def test_any_datagram_is_a_packet_or_ignored() -> None:
    dice = random.Random(5880)
    for _ in range(100_000):
        data = bytearray(bytes.fromhex(UP))
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(24)] = dice.randrange(256)
        assert isinstance(packets.decode(bytes(data[: dice.randint(0, 30)])), Packet | Ignored)
