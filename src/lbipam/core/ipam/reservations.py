"""A reservation: which addresses are set aside, for whom, and which of two counts.

This file does not know whether somebody holds a reserved address all the same.
"""

from dataclasses import dataclass

from lbipam.core.ipam.addresses import Address, Range
from lbipam.core.ipam.services import ServiceKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """An `IPReservation` in force."""

    name: str
    created: str = ""
    """RFC 3339 to the second."""
    ranges: tuple[Range, ...] = ()
    service: ServiceKey | None = None
    """Who may have the addresses; None means nobody."""
    reason: str = ""

    @property
    def age(self) -> tuple[str, str]:
        """Where two reservations cover one address, the one where this is smaller counts."""
        return self.created, self.name

    @property
    def singles(self) -> tuple[Address, ...]:
        """The addresses that are reserved one by one, each once."""
        return tuple(dict.fromkeys(range_.first for range_ in self.ranges if range_.size == 1))

    @property
    def stretches(self) -> tuple[Range, ...]:
        """The ranges of more than one address."""
        return tuple(range_ for range_ in self.ranges if range_.size > 1)

    def __str__(self) -> str:
        whom = f"for {self.service}" if self.service else "for nobody"
        return f"{whom} by IPReservation {self.name}" + (f" ({self.reason})" if self.reason else "")
