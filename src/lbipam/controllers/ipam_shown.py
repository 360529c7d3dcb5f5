"""Whose is what the statuses show?

Every address of our pools that a status shows is claimed as soon as it is known, whoever wrote it there: nobody
else is given it meanwhile. What we did not give is *foreign*: claimed, and not ours to keep. What is of no pool
is *strange*: a pool may come that has it. This file gives nothing to anybody, and decides nothing.
"""

from collections.abc import Callable, Collection, Iterable, Sequence

from lbipam.controllers.ipam_claims import Claims
from lbipam.core.ipam import allocation
from lbipam.core.ipam.addresses import Address
from lbipam.core.ipam.services import ALONE, Service, ServiceKey, Sharing
from lbipam.kube import forms, ipam, ipam_status
from lbipam.kube.ipam import Responsibility


class Shown:
    """What statuses show, as far as it is not known from the claims alone."""

    def __init__(self, *, claims: Claims, responsibility: Responsibility, leads: Callable[[], bool]) -> None:
        """Know of nothing.

        Args:
            claims: Where claims are made.
            responsibility: Which Services ask us.
            leads: Whether claims are made that no status shows yet, and others wait for what comes free.
        """
        self._claims = claims
        self._responsibility = responsibility
        self._foreign: dict[ServiceKey, set[Address]] = {}
        """Addresses of our pools that statuses show and that we did not give."""
        self._strange: set[ServiceKey] = set()
        """Services whose statuses show addresses of no pool."""
        self._leads = leads

    @property
    def strange(self) -> Iterable[ServiceKey]:
        """Services whose statuses show what a pool that comes may have."""
        return self._strange

    def clear(self) -> None:
        """Know of nothing."""
        self._foreign, self._strange = {}, set()

    def claim(self, service: forms.Service) -> bool:
        """Claim what a status shows as soon as it is known; whether it was new."""
        key, shown = ServiceKey(*service.metadata.key), ipam.shown_addresses(service)
        ledger = self._claims.ledger
        claims = ledger.claims_of(key)
        if not any(one not in claims and ledger.space.pools_of(one) for one in shown):
            self._note_strange(key, shown)
            return False
        reading = ipam.read_service(service, self._responsibility)
        if reading is not None:
            self.claim_for(reading.request, service)
        else:
            self.claim_foreign(key, shown)
        return True

    def claim_for(self, request: Service, service: forms.Service) -> None:
        """Claim what the status of a Service shows that asks us; note how the Service shares now."""
        shown = ipam.shown_addresses(service)
        known = frozenset(self._claims.ledger.claims_of(request.key))
        for address in shown:
            if address not in known:
                self._claim_one(request, address, is_ours=ipam_status.says_satisfied(service))
        if not self._leads():
            for address in sorted(known.difference(shown)):
                self.release(request.key, address)
        self._note_strange(request.key, shown)
        self._claims.refresh(request.key, request.sharing)

    def _claim_one(self, request: Service, address: Address, *, is_ours: bool) -> None:
        ledger = self._claims.ledger
        if allocation.why_unlawful(request, address, ledger) is None or ledger.is_held(address):
            self._claim(request.key, address, request.sharing)
        elif ledger.space.pools_of(address):
            # No pool gives it to this Service (any more), but until its status shows it no longer it is
            # nobody else's. Who wrote it is told by the condition alone.
            self._claim(request.key, address, request.sharing)
            if not is_ours:
                self._foreign.setdefault(request.key, set()).add(address)

    def claim_foreign(self, key: ServiceKey, shown: Sequence[Address]) -> None:
        """Claim what the status of a Service shows that does not ask us."""
        ledger = self._claims.ledger
        claims = ledger.claims_of(key)
        for address in shown:
            if address not in claims and ledger.space.pools_of(address):
                self._claim(key, address, ALONE)
                self._foreign.setdefault(key, set()).add(address)
        self._note_strange(key, shown)

    def _claim(self, key: ServiceKey, address: Address, sharing: Sharing) -> None:
        self._claims.ledger.claim(key, address, sharing)
        if self._leads():
            self._claims.changed_at(address)

    def _note_strange(self, key: ServiceKey, shown: Sequence[Address]) -> None:
        claims = self._claims.ledger.claims_of(key)
        if all(address in claims for address in shown):
            self._strange.discard(key)
        else:
            self._strange.add(key)

    def ours(self, key: ServiceKey) -> tuple[Address, ...]:
        """What a Service has from us, or what was taken over as if it had."""
        claims, foreign = self._claims.ledger.claims_of(key), self._foreign.get(key)
        return tuple(claim for claim in claims if claim not in foreign) if foreign else claims

    def given(self, key: ServiceKey, addresses: Iterable[Address]) -> None:
        """A Service is to have these from us, whoever wrote them."""
        if key in self._foreign:
            self._foreign[key].difference_update(addresses)

    def release(self, key: ServiceKey, address: Address) -> None:
        """Let go of an address that a Service does not have any more."""
        self._claims.release(key, address)
        self._foreign.get(key, set()).discard(address)

    def release_all_but(self, key: ServiceKey, staying: Collection[Address]) -> None:
        """Let go of all others that a Service has."""
        for address in self._claims.ledger.claims_of(key):
            if address not in staying:
                self.release(key, address)

    def forget(self, key: ServiceKey) -> None:
        """The Service is gone, and has let go of all."""
        self._strange.discard(key)
        self._foreign.pop(key, None)
