"""Which NOTIFICATION does a fault deserve, and what does a NOTIFICATION say?

Faults of the peer are raised as `ProtocolError` and end the session, except those in path attributes that
RFC 7606 lets a session survive: these are not raised. This file does not decide which is which.
"""

from dataclasses import dataclass
from enum import IntEnum

from lbipam.core.bgp.codes import (
    Cease,
    ErrorCode,
    HeaderError,
    OpenError,
    RefreshError,
    StateError,
    UpdateError,
)

COMMUNICATION_LENGTH = 255
"""RFC 9003 §2, in octets of UTF-8."""

_SUBCODES: dict[int, type[IntEnum]] = {
    ErrorCode.MESSAGE_HEADER: HeaderError,
    ErrorCode.OPEN_MESSAGE: OpenError,
    ErrorCode.UPDATE_MESSAGE: UpdateError,
    ErrorCode.FINITE_STATE_MACHINE: StateError,
    ErrorCode.CEASE: Cease,
    ErrorCode.ROUTE_REFRESH_MESSAGE: RefreshError,
}
_WITH_COMMUNICATION = (Cease.ADMINISTRATIVE_SHUTDOWN, Cease.ADMINISTRATIVE_RESET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """Why a session ends (RFC 4271 §4.5)."""

    code: int
    subcode: int = 0
    data: bytes = b""

    def __str__(self) -> str:
        """In words, with the numbers: `Cease/Administrative Shutdown (6/2): "text"`."""
        words = [_word(ErrorCode, self.code)]
        if self.subcode and self.code in _SUBCODES:
            words.append(_word(_SUBCODES[self.code], self.subcode))
        text = f"{'/'.join(words)} ({self.code}/{self.subcode})"
        communication = self.communication
        if communication:
            return f'{text}: "{communication}"'
        return f"{text}, data {self.data.hex()}" if self.data else text

    @property
    def communication(self) -> str:
        """What the operator on the other side has to say (RFC 9003 §2); control characters are replaced."""
        if self.code != ErrorCode.CEASE or self.subcode not in _WITH_COMMUNICATION or not self.data:
            return ""
        length = self.data[0]
        text = self.data[1 : 1 + length].decode("utf-8", "replace")
        return "".join(
            character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
        )


class ProtocolError(Exception):
    """The peer broke the protocol; `notification` is what it is told."""

    def __init__(self, code: ErrorCode, subcode: int, why: str, data: bytes = b"") -> None:
        """`why` is for people."""
        super().__init__(why)
        self.notification = Notification(code=code, subcode=subcode, data=data)


def shutdown(subcode: Cease, communication: str = "") -> Notification:
    """A Cease; `communication` goes with the subcodes that can carry one, cut at 255 octets."""
    if subcode not in _WITH_COMMUNICATION or not communication:
        return Notification(code=ErrorCode.CEASE, subcode=subcode)
    text = communication.encode()[:COMMUNICATION_LENGTH].decode("utf-8", "ignore").encode()
    return Notification(code=ErrorCode.CEASE, subcode=subcode, data=bytes((len(text),)) + text)


def _word(numbers: type[IntEnum], number: int) -> str:
    try:
        return numbers(number).name.replace("_", " ").title()
    except ValueError:
        return "Unknown"
