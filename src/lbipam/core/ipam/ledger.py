"""Who holds which address now. The only truth about claims.

A claim is a Service's hold on an address, from the moment it is granted until the Service's status no longer
shows it. A claim that the other holders do not permit is *contested*: it counts, so that nobody else gets the
address, but gives no right to keep it until those who are in its way have gone. The ledger answers in constant
or logarithmic time who holds an address, what a Service holds, who shares, and how much a namespace holds. It
writes down; it never chooses.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from lbipam.core.ipam.addresses import Address, Range
from lbipam.core.ipam.services import ServiceKey, Sharing
from lbipam.core.ipam.sharing import Apart, Group
from lbipam.core.ipam.sharing_index import SharedAddresses
from lbipam.core.ipam.space import Space


class Ledger:
    """All claims, and the space they are made on."""

    def __init__(self) -> None:
        self._groups: dict[Address, Group] = {}
        """Those who hold an address by right; nobody contests an address that nobody holds by right."""
        self._contested: dict[Address, Group] = {}
        self._claims: dict[ServiceKey, dict[Address, None]] = {}
        self._of_key: dict[str, SharedAddresses] = {}
        self._of_namespace: dict[str, Counter[Address]] = {}
        self.quotas: dict[str, int] = {}
        """By namespace: how many distinct addresses its Services may hold."""
        self.space = Space(self._groups.keys())

    def claims_of(self, service: ServiceKey) -> tuple[Address, ...]:
        """What a Service holds, in the order in which it came to it."""
        return tuple(self._claims.get(service, ()))

    def holders_of(self, address: Address) -> tuple[ServiceKey, ...]:
        """Who holds an address, the longest holder first; those who contest it come last."""
        return (*self._groups.get(address, ()), *self._contested.get(address, ()))

    def is_held(self, address: Address) -> bool:
        """Whether anybody holds it."""
        return address in self._groups

    def sharing_key_at(self, address: Address) -> str:
        """The key of those who hold an address by right; empty if they have none, or nobody holds it."""
        group = self._groups.get(address)
        return next((group.sharing_of(service).key for service in group), "") if group is not None else ""

    def holdings(self) -> Iterator[tuple[Address, tuple[ServiceKey, ...]]]:
        """Every held address with its holders, in no order."""
        return ((address, self.holders_of(address)) for address in self._groups)

    def holders_in(self, range_: Range) -> Iterator[ServiceKey]:
        """Every Service that holds an address of a range, once for each that it holds."""
        addresses: Iterable[Address] = self._groups
        if range_.size < len(self._groups):
            addresses = map(Address, range(range_.first, range_.last + 1))
        for address in addresses:
            if address in range_:
                yield from self.holders_of(address)

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

        Who holds it by right may. Who contests it needs the leave of those, anybody else that of all.
        """
        group = self._groups.get(address)
        if group is None or service in group:
            return None
        apart = group.why_apart(service, sharing)
        contested = self._contested.get(address)
        if apart is None and contested is not None and service not in contested:
            apart = contested.why_apart(service, sharing)
        return apart

    def claim(self, service: ServiceKey, address: Address, sharing: Sharing) -> None:
        """Write down that a Service holds an address, whether or not it should."""
        if address in self._claims.get(service, ()):
            return
        if address not in self._groups:
            self._groups[address] = Group()
            self.space.take(address)
        self._join(service, address, sharing)
        self._claims.setdefault(service, {})[address] = None

    def release(self, service: ServiceKey, address: Address) -> Sharing:
        """Strike a claim out; how the Service shared the address."""
        group = self._groups[address]
        by_right = service in group
        sharing = self._leave(service, address)
        if by_right:
            self._settle(address)
        claims = self._claims[service]
        del claims[address]
        if not claims:
            del self._claims[service]
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
            by_right = service in group
            was = (group if by_right else self._contested[address]).sharing_of(service)
            if was == sharing:
                continue
            self._leave(service, address)
            self._join(service, address, sharing)
            if by_right:
                self._settle(address)
            changed.append((address, was))
        return tuple(changed)

    def let_the_many_hold(self, is_given: Callable[[ServiceKey], bool]) -> tuple[ServiceKey, ...]:
        """Let those who contest an address hold it by right, where more of them go together than hold it.

        For when it is not known who came first, nor who has changed its mind: one who did while nobody looked
        is the one to leave, not all the others.

        Args:
            is_given: Whether a Service is known to have been given what it holds; others, however many, drive
                none away that is.

        Returns:
            Who held an address by right, and does no more.
        """
        left: list[ServiceKey] = []
        for address, contested in tuple(self._contested.items()):
            few, many = self._groups[address], Group()
            any_given = any(map(is_given, few))
            for service in contested:
                if any_given and not is_given(service):
                    continue
                sharing = contested.sharing_of(service)
                if many.why_apart(service, sharing) is None:
                    many.join(service, sharing)
            if len(many) <= len(few):
                continue
            held = tuple(few)
            for service in contested:
                if service not in many:
                    few.join(service, contested.sharing_of(service))
            self._groups[address], self._contested[address] = many, few
            self._settle(address)
            left += [service for service in held if service not in many]
        return tuple(left)

    def _join(self, service: ServiceKey, address: Address, sharing: Sharing) -> None:
        group = self._groups[address]
        if group.why_apart(service, sharing) is not None:
            group = self._contested.setdefault(address, Group())
        group.join(service, sharing)
        self._count(service, address, sharing, 1)

    def _leave(self, service: ServiceKey, address: Address) -> Sharing:
        group = self._groups[address]
        if service not in group:
            group = self._contested[address]
            if len(group) == 1:
                del self._contested[address]
        sharing = group.leave(service)
        self._count(service, address, sharing, -1)
        return sharing

    def _settle(self, address: Address) -> None:
        """Let those who contest an address hold it by right, in the order of their coming, as far as they may."""
        contested = self._contested.get(address)
        if contested is None:
            return
        group = self._groups[address]
        for service in tuple(contested):
            sharing = contested.sharing_of(service)
            if group.why_apart(service, sharing) is None:
                group.join(service, contested.leave(service))
        if not len(contested):
            del self._contested[address]

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
