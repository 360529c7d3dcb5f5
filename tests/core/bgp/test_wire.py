"""A reader that stays inside what it was given."""

import pytest

from lbipam.core.bgp.wire import Reader, TruncatedError, u8, u16, u32


def test_numbers_are_read_as_they_are_written() -> None:
    reader = Reader(u8(7) + u16(0x0102) + u32(0x03040506))
    assert (reader.u8(), reader.u16(), reader.u32()) == (7, 0x0102, 0x03040506)
    assert not reader


def test_reading_past_the_end_is_refused() -> None:
    reader = Reader(b"\x00")
    with pytest.raises(TruncatedError):
        reader.u16()
    assert reader.rest() == b"\x00"
