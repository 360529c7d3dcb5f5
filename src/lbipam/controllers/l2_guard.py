"""Leases and Nodes → whose guardian this node is, and who its own guardian is.

Which Leases name whom and where each node hears beats is read from what the watch tells; when a Lease may be
ended is decided by `core.l2.guardian`. This file sends no beat and ends no Lease.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from lbipam.controllers.cache import Change
from lbipam.core.l2.guardian import Beat, Guardian, Ward
from lbipam.kube import l2
from lbipam.kube.l2 import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """Where a node hears beats; each must carry the token."""

    address: Address
    port: int
    token: str


class Guard:
    """One node's part in it, as a ward and as a guardian.

    Args:
        node: This node.
        now: Seconds of the clock of fences.
    """

    def __init__(self, node: str, now: float) -> None:
        self._node = node
        self._ward = Ward(node)
        self._guardian = Guardian(now)
        self._leases: dict[str, l2.NodeLease] = {}
        self._addresses: dict[str, Address] = {}
        self._own_version = ""
        self.port, self.token = 0, ""
        """Where we hear beats, and what they must carry, as our Lease tells it; 0: nowhere."""

    # --- what has happened --------------------------------------------------------------------------------

    def observe_node(self, change: Change) -> None:
        """Take a change of a Node in."""
        address = l2.internal_address(change.after) if change.after is not None else None
        if address is None:
            self._addresses.pop(change.key.name, None)
        else:
            self._addresses[change.key.name] = address

    def observe_lease(self, reading: l2.NodeLease | l2.Released) -> None:
        """Take a node's Lease in, our own included."""
        match reading:
            case l2.NodeLease(lease=lease) if lease.node == self._node:
                self._own_version = lease.version
            case l2.NodeLease(lease=lease):
                self._leases[lease.node] = reading
            case l2.Released(node=node):
                self._leases.pop(node, None)

    def forget(self, node: str) -> None:
        """A node that is dead will be heard of no more."""
        self._leases.pop(node, None)

    def naming(self, guardian: str) -> None:
        """A renewal that names this guardian, or nobody, is about to be sent."""
        self._ward.naming(guardian)

    def named(self, guardian: str, version: str) -> None:
        """It has been accepted, and made this version."""
        self._own_version = version
        self._ward.named(guardian)

    def promised(self, guardian: str, number: int, now: float) -> None:
        """A guardian has answered a beat."""
        self._ward.promised(guardian, number, now)

    # --- what follows -------------------------------------------------------------------------------------

    def beat(self, live: AbstractSet[str], now: float) -> tuple[Hearing, Beat] | None:
        """The beat that is due, and where it goes; None if none is. `live` are the nodes whose Leases live."""
        hearings = {node: found for node in live if (found := self._hearing(node)) is not None}
        self._ward.may_ask(hearings.keys(), now)
        due = self._ward.beat(self._own_version, now)
        if due is None or due[0] not in hearings:
            return None
        return hearings[due[0]], due[1]

    def _hearing(self, node: str) -> Hearing | None:
        lease, address = self._leases.get(node), self._addresses.get(node)
        if lease is None or address is None or not lease.port:
            return None
        return Hearing(address=address, port=lease.port, token=lease.token)

    def promises(self, beat: Beat, now: float) -> bool:
        """Whether this node promises anything on a beat that has come."""
        lease = self._leases.get(beat.ward)
        return self._guardian.promises(beat, lease.lease.version if lease is not None else None, now)

    def to_name(self, now: float) -> str:
        """Whom the next renewal should name; empty: nobody."""
        return self._ward.to_name(now)

    @property
    def holds_until(self) -> float:
        """Nothing may be answered at or after this time, whatever our Lease says."""
        return self._ward.holds_until

    def to_end(self, live: AbstractSet[str], now: float) -> Mapping[str, str]:
        """Nodes whose Leases are to be ended, each against a resourceVersion."""
        return self._guardian.to_end(self._wards(live), now)

    def wake_at(self, live: AbstractSet[str], now: float) -> float:
        """When there is something to do next, if nothing happens before."""
        return min(self._ward.wake_at(now), self._guardian.wake_at(self._wards(live)))

    def _wards(self, live: AbstractSet[str]) -> Mapping[str, str]:
        return {
            node: one.lease.version
            for node, one in self._leases.items()
            if one.guardian == self._node and node in live
        }
