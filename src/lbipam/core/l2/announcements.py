"""What can be told about an address that is answered for on an interface, and about the interface?

These are the words in which an announcer reports: stages, statuses and events. Nothing is decided here.
"""

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address


class Stage(Enum):
    """How far the announcement of one address has come."""

    PROBING = "probing"
    """Asking whether somebody else on the LAN has the address (RFC 5227 §2.1, RFC 4862 §5.4)."""
    ANNOUNCED = "announced"
    """Every request is answered."""
    CONFLICT = "conflict"
    """Somebody else has the address: nothing is answered; asked again from time to time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressStatus:
    """One wanted address on one interface."""

    address: Address
    stage: Stage
    since: float
    """When this stage was entered, in seconds of the announcer's clock."""
    rival: bytes | None
    """The link-layer address of who else has claimed the address last; None when nobody has."""


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
    """The interface, or its carrier, is gone; what is wanted on it is announced again when it returns."""

    interface: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceReady:
    """The interface exists, is up and has carrier: what is wanted on it can be announced."""

    interface: str


Event: TypeAlias = Announced | Conflict | InterfaceLost | InterfaceReady
