"""What is a speaker wanted to do, and how does each of its peers stand?

These are the values that pass between a speaker and those who use it: `SpeakerState` in, `PeerStatus` and
`PeerEvent` out. They hold no rules.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from lbipam.core.bgp.codes import PORT, Family
from lbipam.core.bgp.errors import Notification
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.nlri import Prefix
from lbipam.core.bgp.routes import RouteAttributes

Address: TypeAlias = IPv4Address | IPv6Address
RouteKey: TypeAlias = Hashable
"""Tells routes apart by what may be said about them; the user's own."""
Policy: TypeAlias = Mapping[RouteKey, RouteAttributes]
"""What a peer is told about the routes of a key; routes of other keys are not announced to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """How one session is to be held; any change resets it, but of what counts only while there is none."""

    address: Address
    """A link-local one with its zone (the interface) as its scope."""
    asn: int = 0
    """0: whatever the peer says."""
    port: int = PORT
    local_address: Address | None = None
    """None: the kernel chooses."""
    password: bytes = field(default=b"", repr=False)
    """For TCP-MD5 (RFC 2385), at most 80 octets; empty: none."""
    hold_seconds: int = 90
    """0 (never give up) or at least 3."""
    keepalive_seconds: int = 30
    """At most; a third of the hold time agreed on where that is less."""
    connect_retry_seconds: int = 120
    """The longest wait between attempts; the first ones follow faster."""
    restart_seconds: int | None = None
    """How long the peer is to keep our routes while we restart (RFC 4724); None: no graceful restart."""
    families: frozenset[Family] = frozenset(Family)
    hops: int = 1
    """How far away an external peer may be; no limit for internal ones."""
    secure_hops: int | None = None
    """Packets from farther away than this are dropped (RFC 5082); goes before `hops`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakerState:
    """Everything that one speaker is wanted to do."""

    local_asn: int
    router_id: IPv4Address
    listen_port: int | None = None
    """None: only connects out."""
    peers: Mapping[str, Peer] = field(default_factory=dict)
    """By names of the user's choice."""
    routes: Mapping[Prefix, RouteKey] = field(default_factory=dict)
    """Not copied: whoever makes the state lets it be."""
    policies: Mapping[str, Mapping[Family, Policy]] = field(default_factory=dict)
    """By peer; a family without one announces nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who we are to all peers of a speaker."""

    asn: int
    router_id: IPv4Address


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAddresses:
    """Where routes can lead: our end of a connection, and what else its interface has."""

    address: Address
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why a session, or an attempt at one, came to its end."""

    why: str
    notification: Notification | None = None
    is_ours: bool = False
    """Whether we sent the NOTIFICATION."""

    def __str__(self) -> str:
        if self.notification is None:
            return self.why
        if not self.is_ours:
            return f"received {self.notification}"
        return f"{self.why}; sent {self.notification}" if self.why else f"sent {self.notification}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Routes of one family that a peer is not told, though it is told others."""

    count: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatus:
    """How one peer stands."""

    state: State
    asn: int | None = None
    """What the peer says it is; None before the session is agreed on, like all that follows."""
    router_id: IPv4Address | None = None
    local_address: Address | None = None
    hold_seconds: int | None = None
    keepalive_seconds: float | None = None
    families: frozenset[Family] = frozenset()
    keeps_routes: bool = False
    """Whether the peer keeps our routes while we restart."""
    advertised: Mapping[Family, int] = field(default_factory=dict)
    received: Mapping[Family, int] = field(default_factory=dict)
    pending: int = 0
    """Routes still to be announced or withdrawn."""
    unspeakable: Mapping[Family, str] = field(default_factory=dict)
    """Families agreed on whose routes cannot be announced, and why."""
    refused: Mapping[Family, Refusal] = field(default_factory=dict)
    """Single routes that cannot be announced."""
    flaps: int = 0
    """How often an established session was lost."""
    last_ending: Ending | None = None
    last_notification: Ending | None = None
    """The newest ending since the session was up, or of it, that came with a NOTIFICATION."""
    established_at: float | None = None
    """In seconds since 1970; None while no session is established, and where there is no such clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerUp:
    """A session is established."""

    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerDown:
    """An established session has ended."""

    peer: str
    ending: Ending


PeerEvent: TypeAlias = PeerUp | PeerDown
