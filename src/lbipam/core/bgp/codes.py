"""The numbers: message types, attributes, capabilities, error codes.

Each list names its registry or RFC. Numbers that lbipam neither sends nor reads are left out. Nothing here
has behaviour.
"""

from collections.abc import Mapping
from enum import Enum, IntEnum, IntFlag

VERSION = 4
PORT = 179
MARKER = b"\xff" * 16
HEADER_LENGTH = 19
MAXIMUM_LENGTH = 4096
"""RFC 4271 §4.1."""
EXTENDED_LENGTH = 65535
"""RFC 8654 §4."""
AS_TRANS = 23456
"""RFC 6793 §9: stands for an ASN of four octets where only two fit."""
GRACEFUL_SHUTDOWN = 65535 << 16
"""RFC 8326 §5, a community."""


class Family(Enum):
    """Address family and subsequent family identifiers: unicast of both IP versions (RFC 4760 §3)."""

    IPV4 = (1, 1)
    IPV6 = (2, 1)

    @property
    def version(self) -> int:
        """Of IP: 4 or 6."""
        return 4 if self is Family.IPV4 else 6

    @property
    def address_length(self) -> int:
        """In octets."""
        return 4 if self is Family.IPV4 else 16


FAMILIES: Mapping[tuple[int, int], Family] = {family.value: family for family in Family}
"""Those that lbipam knows, by their numbers."""


class MessageType(IntEnum):
    """RFC 4271 §4.1, RFC 2918 §3."""

    OPEN = 1
    UPDATE = 2
    NOTIFICATION = 3
    KEEPALIVE = 4
    ROUTE_REFRESH = 5


class CapabilityCode(IntEnum):
    """IANA, Capability Codes."""

    MULTIPROTOCOL = 1
    ROUTE_REFRESH = 2
    EXTENDED_NEXT_HOP = 5
    EXTENDED_MESSAGE = 6
    GRACEFUL_RESTART = 64
    FOUR_OCTET_ASN = 65


class ParameterType(IntEnum):
    """Optional parameters of OPEN: RFC 5492 §4, RFC 9072 §2."""

    CAPABILITIES = 2
    EXTENDED_LENGTH = 255


class AttributeFlag(IntFlag):
    """RFC 4271 §4.3."""

    OPTIONAL = 0x80
    TRANSITIVE = 0x40
    PARTIAL = 0x20
    EXTENDED_LENGTH = 0x10


class AttributeType(IntEnum):
    """IANA, BGP Path Attributes."""

    ORIGIN = 1
    AS_PATH = 2
    NEXT_HOP = 3
    MULTI_EXIT_DISC = 4
    LOCAL_PREF = 5
    ATOMIC_AGGREGATE = 6
    AGGREGATOR = 7
    COMMUNITIES = 8
    ORIGINATOR_ID = 9
    CLUSTER_LIST = 10
    MP_REACH_NLRI = 14
    MP_UNREACH_NLRI = 15
    EXTENDED_COMMUNITIES = 16
    AS4_PATH = 17
    AS4_AGGREGATOR = 18
    LARGE_COMMUNITIES = 32


class Origin(IntEnum):
    """RFC 4271 §5.1.1."""

    IGP = 0
    EGP = 1
    INCOMPLETE = 2


class SegmentType(IntEnum):
    """RFC 4271 §4.3, RFC 5065 §3."""

    AS_SET = 1
    AS_SEQUENCE = 2
    AS_CONFED_SEQUENCE = 3
    AS_CONFED_SET = 4


class ErrorCode(IntEnum):
    """RFC 4271 §4.5."""

    MESSAGE_HEADER = 1
    OPEN_MESSAGE = 2
    UPDATE_MESSAGE = 3
    HOLD_TIMER_EXPIRED = 4
    FINITE_STATE_MACHINE = 5
    CEASE = 6
    ROUTE_REFRESH_MESSAGE = 7
    SEND_HOLD_TIMER_EXPIRED = 8


class HeaderError(IntEnum):
    """RFC 4271 §6.1."""

    CONNECTION_NOT_SYNCHRONIZED = 1
    BAD_MESSAGE_LENGTH = 2
    BAD_MESSAGE_TYPE = 3


class OpenError(IntEnum):
    """RFC 4271 §6.2, RFC 5492 §5."""

    UNSPECIFIC = 0
    UNSUPPORTED_VERSION_NUMBER = 1
    BAD_PEER_AS = 2
    BAD_BGP_IDENTIFIER = 3
    UNSUPPORTED_OPTIONAL_PARAMETER = 4
    UNACCEPTABLE_HOLD_TIME = 6
    UNSUPPORTED_CAPABILITY = 7


class UpdateError(IntEnum):
    """RFC 4271 §6.3."""

    MALFORMED_ATTRIBUTE_LIST = 1
    UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE = 2
    MISSING_WELL_KNOWN_ATTRIBUTE = 3
    ATTRIBUTE_FLAGS = 4
    ATTRIBUTE_LENGTH = 5
    INVALID_ORIGIN = 6
    INVALID_NEXT_HOP = 8
    OPTIONAL_ATTRIBUTE = 9
    INVALID_NETWORK_FIELD = 10
    MALFORMED_AS_PATH = 11


class StateError(IntEnum):
    """RFC 6608 §3: the state in which the message was not expected."""

    UNSPECIFIED = 0
    OPEN_SENT = 1
    OPEN_CONFIRM = 2
    ESTABLISHED = 3


class Cease(IntEnum):
    """RFC 4486 §3, RFC 8538 §3.1, RFC 9384 §3."""

    MAXIMUM_PREFIXES = 1
    ADMINISTRATIVE_SHUTDOWN = 2
    PEER_DE_CONFIGURED = 3
    ADMINISTRATIVE_RESET = 4
    CONNECTION_REJECTED = 5
    OTHER_CONFIGURATION_CHANGE = 6
    CONNECTION_COLLISION_RESOLUTION = 7
    OUT_OF_RESOURCES = 8
    HARD_RESET = 9
    BFD_DOWN = 10


class RefreshError(IntEnum):
    """RFC 7313 §5."""

    INVALID_MESSAGE_LENGTH = 1
