"""An `IPReservation`'s wish → what the ledger sets aside; and a deleted Service's address → an `IPReservation`.

This file gives nothing to anybody; it tells who should be looked at.
"""

from collections.abc import Iterable, Sequence

from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.ipam_claims import Claims
from lbipam.controllers.ipam_pools import Pools
from lbipam.controllers.ports import Action, Apply, Create, Delete, MergePatch
from lbipam.core.ipam.addresses import Address, Range, format_address
from lbipam.core.ipam.reservations import Reservation
from lbipam.core.ipam.services import ServiceKey
from lbipam.kube import ipam, ipam_status
from lbipam.kube.ipam import IP_RESERVATION
from lbipam.kube.kinds import Key


class Reservations:
    """The reservations, and those for deleted Services that are not written down yet."""

    def __init__(self, *, cache: Cache, claims: Claims, pools: Pools) -> None:
        self._cache = cache
        self._claims = claims
        self._pools = pools
        self._held_back: dict[str, float] = {}
        """By name: reservations for deleted Services under way to the API, with their end."""

    def read_all(self) -> Iterable[Reservation]:
        """Understand all reservations that there are."""
        return [ipam.read_reservation(one).reservation for one in self._known().values()]

    def look_at_all(self) -> None:
        """See anew who holds what is reserved."""
        unwritten = (Key("", name) for name in self._held_back)
        self._claims.queue.add_all((IP_RESERVATION, key) for key in (*self._known(), *unwritten))

    def _known(self) -> dict[Key, ipam.IPReservation]:
        return dict(self._cache.objects(IP_RESERVATION))

    def changed(self, change: Change) -> None:
        """Take note of what a reservation sets aside now."""
        item = (IP_RESERVATION, change.key)
        self._claims.queue.add(item)
        spec_before = change.before.spec if change.before is not None else None
        spec_after = change.after.spec if change.after is not None else None
        if spec_before == spec_after:
            return
        former = self._claims.ledger.space.unreserve(change.key.name)
        if former is not None:
            self._began_or_ended(former)
        if change.after is not None:
            self._held_back.pop(change.key.name, None)
            reservation = ipam.read_reservation(change.after).reservation
            self._claims.ledger.space.reserve(reservation)
            self._began_or_ended(reservation)

    def _began_or_ended(self, reservation: Reservation) -> None:
        """Count the pools anew, and look at whom it is for and at those who wait for what it covers."""
        if reservation.service is not None:
            self._claims.look_at((reservation.service,))
        if reservation.stretches:
            self._claims.wake_everyone()
            self._pools.look_at_all()
        for address in reservation.singles:
            self._claims.changed_at(address)

    def reconcile(self, key: Key, now: float) -> Sequence[Action]:
        """Write, end or delete a reservation, or bring its status up to date."""
        written: ipam.IPReservation | None = self._cache.objects(IP_RESERVATION).get(key)
        ends = self._held_back.get(key.name)
        if ends is not None:
            return self._write_held_back(key, written, ends, now)
        if written is None:
            return ()
        reading = ipam.read_reservation(written)
        active = reading.expires_at is None or now < reading.expires_at
        if reading.expires_at is not None and active:
            self._claims.queue.add_at((IP_RESERVATION, key), reading.expires_at)
        if not active:
            expired = self._claims.ledger.space.unreserve(key.name)
            if expired is not None:
                self._began_or_ended(expired)
        ranges, ledger = reading.reservation.ranges, self._claims.ledger
        holders = sorted({holder for range_ in ranges for holder in ledger.holders_in(range_)})
        if reading.by_controller and (not active or reading.reservation.service in holders):
            return [Delete(kind=IP_RESERVATION, key=key, uid=written.metadata.uid)]
        body = ipam_status.reservation_apply(
            # One that has expired sets nothing aside that anybody could hold.
            written,
            active=active,
            problems=reading.problems,
            holders=holders if active else (),
            now=now,
        )
        if body is None:
            return ()
        return [Apply(kind=IP_RESERVATION, key=key, body=body, subresource="status")]

    def _write_held_back(
        self, key: Key, written: ipam.IPReservation | None, ends: float, now: float
    ) -> Sequence[Action]:
        """Write down, for whoever leads next, that a deleted Service's address is kept for it."""
        reservation = self._claims.ledger.space.reservation(key.name)
        if reservation is None or ends <= now:
            del self._held_back[key.name]
            self._claims.ledger.space.unreserve(key.name)
            if reservation is not None:
                self._began_or_ended(reservation)
            return ()
        pools = self._claims.ledger.space.pools_of(reservation.ranges[0].first)
        body = ipam_status.released_reservation(reservation, pools[0].pool.name if pools else "", ends)
        if written is None:
            return [Create(kind=IP_RESERVATION, key=key, body=body)]
        return [MergePatch(kind=IP_RESERVATION, key=key, body={"spec": body["spec"]})]

    def hold_back(self, key: ServiceKey, address: Address, now: float) -> None:
        """Reserve the address of a deleted Service, where its pool wants that and nobody shares it."""
        spaces = self._claims.ledger.space.pools_of(address)
        seconds = max((space.pool.hold_released_seconds for space in spaces), default=0.0)
        if not seconds or len(self._claims.ledger.holders_of(address)) > 1:
            return
        name = _name_for(address)
        reserved = self._claims.ledger.space.reservation_of(address)
        if reserved is not None and reserved.name != name:
            return
        reservation = Reservation(
            name=name,
            ranges=(Range(address, address),),
            service=key,
            reason="released when the Service was deleted",
        )
        self._claims.ledger.space.reserve(reservation)
        self._held_back[name] = now + seconds
        self._claims.queue.add((IP_RESERVATION, Key("", name)))


def _name_for(address: Address) -> str:
    """The name of the reservation of a released address: no other has the same, and it ends as a name must."""
    text = format_address(address)
    before, after = ("0" if text.startswith(":") else ""), ("0" if text.endswith(":") else "")
    return "released-" + f"{before}{text}{after}".replace(":", "-").replace(".", "-")
