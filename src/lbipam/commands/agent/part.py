"""What is a part of the agent?

BGP, L2 and the datapath are parts: each is shown every change, and now and then asked to act on what has
come of them. This file does nothing by itself.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Protocol

from lbipam.controllers.cache import Change
from lbipam.controllers.host import Carried
from lbipam.controllers.ports import Sample
from lbipam.kube.kinds import Key, Kind


class Part(Protocol):
    """One thing that an agent does on its node."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that it looks at."""

    def observe(self, change: Change) -> None:
        """Take note of a changed object."""

    def carry(self, carried: Carried, news: AbstractSet[Key]) -> None:
        """The node carries the traffic of these addresses.

        Args:
            carried: By Service; it is looked at later, too.
            news: The Services of which it tells otherwise than before.
        """

    async def step(self) -> None:
        """Make the world as it should be by now."""

    def samples(self) -> Iterable[Sample]:
        """How it stands, as numbers."""

    def wake_at(self) -> float:
        """When it wants to be asked again though nothing changes: seconds of the event loop's clock."""

    async def close(self) -> None:
        """Stop, so that traffic suffers as little as can be."""
