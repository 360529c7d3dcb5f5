"""Which of two connections with one peer goes on?

RFC 4271 §6.8: both speakers may connect to each other at once, and must then close the same one of the two
connections without asking each other. When connections are compared is not decided here.
"""

from dataclasses import dataclass

from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.peers import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """A connection in which an OPEN has been received."""

    state: State
    is_incoming: bool
    outlives_restarts: bool = False
    """The peer has said that it can restart gracefully."""


def does_newer_survive(older: Rival, newer: Rival, *, ours: Identity, theirs: Identity) -> bool:
    """Whether it is the older one that is closed."""
    if older.state is State.ESTABLISHED:
        # RFC 4724 §5: a peer that restarts gracefully has lost the older connection if it makes another.
        return older.outlives_restarts and newer.is_incoming
    if older.is_incoming is newer.is_incoming:
        return True
    return newer.is_incoming is (_rank(ours) < _rank(theirs))


def _rank(one: Identity) -> tuple[int, int]:
    """RFC 6286 §2.3: with the same identifier, the larger ASN wins."""
    return int(one.router_id), one.asn
