"""Who is looked at again when a claim comes, goes or changes?

The ledger, with those who wait at it. A change of a claim is counted anew in its pools and reservations, and
wakes as many of those that wait as it can help. This file does not decide who gets what.
"""

from collections.abc import Iterable, Iterator

from lbipam.controllers.ports import Item
from lbipam.controllers.workqueue import WorkQueue
from lbipam.core.ipam import allocation
from lbipam.core.ipam.addresses import Address, family_of
from lbipam.core.ipam.allocation import ChangeAmongSharers, ChangeAt, Decision, FreeAddressIn, RoomInQuota
from lbipam.core.ipam.ledger import Ledger
from lbipam.core.ipam.services import Service, ServiceKey, Sharing
from lbipam.core.ipam.waiting import Waiting
from lbipam.kube import forms
from lbipam.kube.ipam import IP_RESERVATION
from lbipam.kube.kinds import Key, Kind

_TURN_SECONDS = 1.0


class Claims:
    """What is held and who waits; `queue` is where it puts what should be looked at again."""

    def __init__(self, *, queue: WorkQueue[Item], pool_kind: Kind) -> None:
        self.queue = queue
        self.pool_kind = pool_kind
        self.ledger = Ledger()
        self.waiting = Waiting()

    def clear(self) -> None:
        """Know of no claim, pool or wait."""
        self.ledger, self.waiting = Ledger(), Waiting()

    def claim(self, key: ServiceKey, address: Address, sharing: Sharing) -> None:
        """Note that a Service has been granted an address."""
        self.ledger.claim(key, address, sharing)
        first = len(self.ledger.holders_of(address)) == 1
        self.changed_at(address, sharing.key if first else "")

    def release(self, key: ServiceKey, address: Address) -> None:
        """Note that a Service has an address no longer."""
        sharing = self.ledger.release(key, address)
        # Whoever was in the way of other sharers need not have had their key.
        self.changed_at(address, sharing.key, self.ledger.sharing_key_at(address))
        self.wake((RoomInQuota(key.namespace),))

    def refresh(self, key: ServiceKey, sharing: Sharing) -> None:
        """Note how a Service shares now what it holds."""
        for address, was in self.ledger.refresh(key, sharing):
            self.changed_at(address, was.key, sharing.key, self.ledger.sharing_key_at(address))

    def wait(self, request: Service, decision: Decision) -> None:
        """Note what a Service waits for after a decision, if for anything."""
        if not decision.refusals:
            self.stop_waiting(request.key)
            return
        remedies = tuple(remedy for refusal in decision.refusals for remedy in refusal.remedies)
        before = self.waiting.remedies_of(request.key)
        self.waiting.wait(request.key, request.age, remedies)
        self.wake(set(before) - set(remedies))

    def wait_to_be_given(self, request: Service, granted: Iterable[Address]) -> None:
        """Note that a Service waits for what it could have, so that nobody younger is given it first."""
        remedies: list[allocation.Remedy] = []
        for address in granted:
            if address in request.addresses:
                remedies.append(ChangeAt(address))
                continue
            family, spaces = family_of(address), self.ledger.space.pools_of(address)
            remedies += (FreeAddressIn(space.pool.name, family) for space in spaces)
        self.waiting.wait(request.key, request.age, tuple(remedies))

    def waits_its_turn(self, request: Service, granted: Iterable[Address], now: float) -> bool:
        """Whether older Services have been woken for what it could have, and come first; it waits until then."""
        remedies = [remedy for address in granted for remedy in self._wanted_by_older(request, address)]
        if remedies:
            self.waiting.wait(request.key, request.age, tuple(remedies))
            # Their look ends its wait; this is for when that fails.
            self.queue.add_at((forms.SERVICE, Key(*request.key)), now + _TURN_SECONDS)
        return bool(remedies)

    def _wanted_by_older(self, request: Service, address: Address) -> Iterator[allocation.Remedy]:
        if self.ledger.is_held(address) or self.ledger.space.reservation_of(address) is not None:
            return
        family = family_of(address)
        for space in self.ledger.space.pools_of(address):
            remedy = FreeAddressIn(space.pool.name, family)
            older = self.waiting.older(remedy, request.age)
            if older and older >= space.giveable(family) and self._are_woken(remedy, older):
                yield remedy
        older = self.waiting.older(ChangeAt(address), request.age)
        if older and self._are_woken(ChangeAt(address), older):
            yield ChangeAt(address)

    def _are_woken(self, remedy: allocation.Remedy, count: int) -> bool:
        """Whether any of the oldest that wait for a remedy is to be looked at."""
        return any((forms.SERVICE, Key(*key)) in self.queue for key in self.waiting.next(remedy, count))

    def stop_waiting(self, key: ServiceKey) -> None:
        """A Service waits no longer; what it was woken for may be there for the next in the queue."""
        remedies = self.waiting.remedies_of(key)
        self.waiting.leave(key)
        self.wake(remedies)

    def wake(self, remedies: Iterable[allocation.Remedy]) -> None:
        """Look again at as many of those that wait as can be helped, the oldest first."""
        for remedy in remedies:
            self.look_at(self.waiting.wake(remedy, self._helps(remedy)))

    def wake_everyone(self) -> None:
        """Look again at all that wait."""
        self.look_at(self.waiting)

    def look_at(self, services: Iterable[ServiceKey]) -> None:
        """Look at Services again, in this order."""
        self.queue.add_all((forms.SERVICE, Key(*key)) for key in services)

    def changed_at(self, address: Address, *sharing_keys: str) -> None:
        """A holder came, went, or shares otherwise: count anew, wake who waited for that.

        So do those who wait to join a Service of one of these sharing keys, as far as they are not empty.
        """
        spaces = self.ledger.space.pools_of(address)
        self.queue.add_all((self.pool_kind, Key("", space.pool.name)) for space in spaces)
        for one in self.ledger.space.reservations_of(address):
            self.queue.add((IP_RESERVATION, Key("", one.name)))
        if not self.ledger.is_held(address):
            reservation = self.ledger.space.reservation_of(address)
            if reservation is not None and reservation.service is not None:
                self.look_at((reservation.service,))
            family = family_of(address)
            self.wake(FreeAddressIn(space.pool.name, family) for space in spaces)
        self.wake((ChangeAt(address),))
        self.wake(ChangeAmongSharers(key) for key in dict.fromkeys(sharing_keys) if key)

    def _helps(self, remedy: allocation.Remedy) -> int | None:
        """How many of those that wait for it a remedy can help now; None if that takes a look at each."""
        match remedy:
            case FreeAddressIn(pool=name, family=family):
                space = self.ledger.space.pools.get(name)
                return space.giveable(family) if space is not None else 0
            case RoomInQuota(namespace=namespace):
                most = self.ledger.quotas.get(namespace)
                return None if most is None else max(most - len(self.ledger.held_in(namespace)), 0)
            case ChangeAt() | ChangeAmongSharers():
                return None
