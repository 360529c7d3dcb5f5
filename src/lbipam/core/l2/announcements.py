"""What can be told about an address that is answered for on an interface, and about the interface?

These are the words in which an announcer reports: stages, statuses and events. Nothing is decided here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from lbipam.core.l2.frames import Ignored

Address: TypeAlias = IPv4Address | IPv6Address


class Stage(Enum):
    """How far the announcement of one address has come."""

    WAITING = "waiting"
    """For the interface: it does not exist, is down, or has no carrier."""
    PROBING = "probing"
    """Asking whether somebody else on the LAN has the address (RFC 5227 §2.1, RFC 4862 §5.4)."""
    ANNOUNCED = "announced"
    """Every request is answered."""
    CONFLICT = "conflict"
    """Somebody else has the address: nothing is answered; asked again from time to time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """From now on requests for the address are answered."""

    interface: str
    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Somebody else on the LAN claims the address."""

    interface: str
    address: Address
    rival: bytes
    """The claimant's link-layer address."""
    stage: Stage
    """`CONFLICT`: it is not announced for that reason. `ANNOUNCED`: it was before, and is defended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceLost:
    """The interface cannot be used; what is wanted on it is announced again when it returns."""

    interface: str
    why: str
    """In words: it is gone, it has no carrier, or what the operating system said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceReady:
    """The interface exists, is up and has carrier: what is wanted on it can be announced."""

    interface: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRefused:
    """The kernel does not let us join the solicited-node group of this address, and perhaps of others.

    The address is answered for all the same, but bridges and switches that snoop may keep requests from us.
    """

    interface: str
    address: Address
    why: str
    """What the operating system said."""


Event: TypeAlias = Announced | Conflict | InterfaceLost | InterfaceReady | GroupRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceStatus:
    """One interface that something is wanted on, and what its announcer has done there since it started."""

    interface: str
    stages: Mapping[Stage, int]
    """How many addresses are in each stage."""
    answered: Mapping[str, int]
    """Requests answered, by protocol: `arp`, `ipv6` (solicitations and echo), `ipv4` (echo)."""
    ignored: Mapping[Ignored, int]
    unsent: int
    """Frames the kernel would not take."""
