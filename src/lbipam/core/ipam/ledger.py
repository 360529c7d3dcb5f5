"""Who holds which address now. The only truth about claims.

A claim is a Service's hold on an address, from the moment it is granted until the Service's status no longer
shows it. The ledger keeps what is needed to answer in constant or logarithmic time who holds an address,
what a Service holds, who shares, and how much a namespace holds. It writes down; it never chooses.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from lbipam.core.ipam.addresses import Address, Range
from lbipam.core.ipam.services import ServiceKey, Sharing
from lbipam.core.ipam.sharing import Apart, Group
from lbipam.core.ipam.sharing_index import SharedAddresses
from lbipam.core.ipam.space import Space


class Ledger:
    """All claims, and the space they are made on."""

    def __init__(self) -> None:
        self._groups: dict[Address, Group] = {}
        self._claims: dict[ServiceKey, tuple[Address, ...]] = {}
        self._of_key: dict[str, SharedAddresses] = {}
        self._of_namespace: dict[str, Counter[Address]] = {}
        self._contested: set[tuple[ServiceKey, Address]] = set()
        self.quotas: dict[str, int] = {}
        """By namespace: how many distinct addresses its Services may hold."""
        self.space = Space(self._groups.keys())

    def claims_of(self, service: ServiceKey) -> tuple[Address, ...]:
        """What a Service holds, in the order in which it came to it."""
        return self._claims.get(service, ())

    def holders_of(self, address: Address) -> tuple[ServiceKey, ...]:
        """Who holds an address, the longest holder first."""
        return tuple(self._groups.get(address, ()))

    def is_held(self, address: Address) -> bool:
        """Whether anybody holds it."""
        return address in self._groups

    def holdings(self) -> Iterator[tuple[Address, Group]]:
        """Every held address with its holders, in no order."""
        yield from self._groups.items()

    def holders_in(self, range_: Range) -> Iterator[ServiceKey]:
        """Every Service that holds an address of a range."""
        addresses: Iterable[Address] = self._groups
        if range_.size < len(self._groups):
            addresses = map(Address, range(range_.first, range_.last + 1))
        for address in addresses:
            if address in range_:
                yield from self._groups.get(address, ())

    def addresses_to_join(self, service: ServiceKey, sharing: Sharing) -> Iterator[Address]:
        """The addresses of its sharing key that a Service may join, the first one shared first."""
        shared = self._of_key.get(sharing.key) if sharing.key else None
        if shared is not None:
            for address in shared.worth_asking(service.namespace, sharing):
                if self.why_apart(address, service, sharing) is None:
                    yield address

    def held_in(self, namespace: str) -> Mapping[Address, int]:
        """The distinct addresses that a namespace's Services hold, each with how many of them hold it."""
        return self._of_namespace.get(namespace, Counter())

    def why_apart(self, address: Address, service: ServiceKey, sharing: Sharing) -> Apart | None:
        """Why a Service may not hold an address beside its present holders; None if it may.

        A holder may, unless its claim is contested: then it is asked as if it came now.
        """
        group = self._groups.get(address)
        if group is None:
            return None
        if service not in group:
            return group.why_apart(service, sharing)
        if (service, address) not in self._contested:
            return None
        was = group.leave(service)
        reason = group.why_apart(service, sharing)
        group.join(service, was)
        if reason is None:
            self._contested.discard((service, address))
        return reason

    def claim(self, service: ServiceKey, address: Address, sharing: Sharing) -> None:
        """Write down that a Service holds an address, whether or not it should.

        A claim that the other holders do not permit is contested: it counts, so that nobody else gets the
        address, but it gives no right to keep it.
        """
        group = self._groups.get(address)
        if group is None:
            group = self._groups[address] = Group()
            self.space.take(address)
        elif service in group:
            return
        elif group.why_apart(service, sharing) is not None:
            self._contested.add((service, address))
        group.join(service, sharing)
        self._claims[service] = (*self._claims.get(service, ()), address)
        self._count(service, address, sharing, 1)

    def release(self, service: ServiceKey, address: Address) -> Sharing:
        """Strike a claim out; how the Service shared the address."""
        group = self._groups[address]
        sharing = group.leave(service)
        self._contested.discard((service, address))
        rest = tuple(claim for claim in self._claims[service] if claim != address)
        if rest:
            self._claims[service] = rest
        else:
            del self._claims[service]
        self._count(service, address, sharing, -1)
        if not len(group):
            del self._groups[address]
            self.space.put(address)
        return sharing

    def refresh(self, service: ServiceKey, sharing: Sharing) -> tuple[tuple[Address, Sharing], ...]:
        """Note how a holder shares now; the addresses where that has changed, each with how it shared.

        A holder that changes its mind comes anew, after the others: it is the one to leave if they do not
        go together any more.
        """
        changed = []
        for address in self.claims_of(service):
            group = self._groups[address]
            was = group.sharing_of(service)
            if was == sharing:
                continue
            group.leave(service)
            self._count(service, address, was, -1)
            if group.why_apart(service, sharing) is None:
                self._contested.discard((service, address))
            else:
                self._contested.add((service, address))
            group.join(service, sharing)
            self._count(service, address, sharing, 1)
            changed.append((address, was))
        return tuple(changed)

    def _count(self, service: ServiceKey, address: Address, sharing: Sharing, by: int) -> None:
        held = self._of_namespace.setdefault(service.namespace, Counter())
        held[address] += by
        if not held[address]:
            del held[address]
        if not sharing.key:
            return
        shared = self._of_key.setdefault(sharing.key, SharedAddresses())
        if by > 0:
            shared.joined(address, service.namespace, sharing)
        else:
            shared.left(address, service.namespace, sharing)
        if not shared:
            del self._of_key[sharing.key]
