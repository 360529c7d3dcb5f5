"""A reader and writer of bounded big-endian bytes.

A `Reader` never reads past what it was given; nested structures are read through a reader of their own.
It knows nothing of BGP.
"""


class TruncatedError(ValueError):
    """There are fewer bytes than the structure needs."""


class Reader:
    """Reads from the front of some bytes."""

    __slots__ = ("_data", "_end", "_position")

    def __init__(self, data: bytes) -> None:
        """`data` is not copied."""
        self._data = data
        self._position = 0
        self._end = len(data)

    def __bool__(self) -> bool:
        return self._position < self._end

    def __len__(self) -> int:
        return self._end - self._position

    def take(self, length: int) -> bytes:
        """The next `length` bytes; raises `TruncatedError`."""
        after = self._position + length
        if after > self._end:
            raise TruncatedError(f"{length} bytes expected, {len(self)} left")
        taken = self._data[self._position : after]
        self._position = after
        return taken

    def u8(self) -> int:
        return self.take(1)[0]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self))


def u8(value: int) -> bytes:
    """One octet."""
    return value.to_bytes(1, "big")


def u16(value: int) -> bytes:
    """Two octets."""
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    """Four octets."""
    return value.to_bytes(4, "big")
