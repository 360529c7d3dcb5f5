"""BFD control packets to and from bytes.

     0                   1                   2                   3
    +-------+---------+---+-+-+-+-+-+-+---------------+---------------+
    |Version|  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |    RFC 5880 §4.1
    +-------+---------+---+-+-+-+-+-+-+---------------+---------------+
    | My Discriminator, Your Discriminator, Desired Min TX Interval,  |
    | Required Min RX Interval, Required Min Echo RX Interval: 4 each |
    +-----------------------------------------------------------------+

Authentication is not spoken. Which packets make a session change its state is not decided here.
"""

import struct
from dataclasses import dataclass
from enum import Enum, IntEnum

_FORM = struct.Struct("!BBBBIIIII")
_VERSION = 1
_POLL, _FINAL, _AUTHENTICATED, _DEMAND, _MULTIPOINT = 0x20, 0x10, 0x04, 0x02, 0x01


class State(IntEnum):
    """RFC 5880 §4.1, Sta."""

    ADMIN_DOWN = 0
    DOWN = 1
    INIT = 2
    UP = 3


class Diagnostic(IntEnum):
    """RFC 5880 §4.1, Diag: why the sender left the state Up the last time."""

    NONE = 0
    CONTROL_DETECTION_TIME_EXPIRED = 1
    ECHO_FUNCTION_FAILED = 2
    NEIGHBOR_SIGNALED_SESSION_DOWN = 3
    FORWARDING_PLANE_RESET = 4
    PATH_DOWN = 5
    CONCATENATED_PATH_DOWN = 6
    ADMINISTRATIVELY_DOWN = 7
    REVERSE_CONCATENATED_PATH_DOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A control packet; intervals in microseconds."""

    state: State
    diagnostic: int = Diagnostic.NONE
    poll: bool = False
    final: bool = False
    demand: bool = False
    multiplier: int
    mine: int
    """Discriminator of the sender's session."""
    yours: int
    """Discriminator of the receiver's session, as far as the sender knows."""
    desired_transmit: int
    required_receive: int


class Ignored(Enum):
    """Why a packet is dropped (RFC 5880 §6.8.6)."""

    MALFORMED = "no BFD control packet"
    VERSION = "not version 1"
    AUTHENTICATED = "authenticated, which lbipam does not speak"
    MULTIPOINT = "multipoint"
    NO_MULTIPLIER = "detect multiplier of zero"
    NO_DISCRIMINATOR = "no discriminator"


def decode(data: bytes) -> Packet | Ignored:
    """Read a packet, or say why it is dropped."""
    if len(data) < _FORM.size:
        return Ignored.MALFORMED
    first, flags, multiplier, length, mine, yours, transmit, receive, _ = _FORM.unpack_from(data)
    state = State(flags >> 6)
    for is_so, why in (
        (first >> 5 != _VERSION, Ignored.VERSION),
        (not _FORM.size <= length <= len(data), Ignored.MALFORMED),
        (multiplier == 0, Ignored.NO_MULTIPLIER),
        (flags & _MULTIPOINT, Ignored.MULTIPOINT),
        (mine == 0, Ignored.NO_DISCRIMINATOR),
        (yours == 0 and state not in (State.DOWN, State.ADMIN_DOWN), Ignored.NO_DISCRIMINATOR),
        (flags & _AUTHENTICATED, Ignored.AUTHENTICATED),
    ):
        if is_so:
            return why
    return Packet(
        state=state,
        diagnostic=first & 0x1F,
        poll=bool(flags & _POLL),
        final=bool(flags & _FINAL),
        demand=bool(flags & _DEMAND),
        multiplier=multiplier,
        mine=mine,
        yours=yours,
        desired_transmit=transmit,
        required_receive=receive,
    )


def encode(packet: Packet) -> bytes:
    """The packet as it goes into a datagram."""
    flags = packet.state << 6 | packet.poll * _POLL | packet.final * _FINAL | packet.demand * _DEMAND
    return _FORM.pack(
        _VERSION << 5 | packet.diagnostic,
        flags,
        packet.multiplier,
        _FORM.size,
        packet.mine,
        packet.yours,
        packet.desired_transmit,
        packet.required_receive,
        0,
    )
