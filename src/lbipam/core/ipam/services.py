"""What a Service asks for: families, named addresses, sharing key, ports.

These are the few facts about a Service that decide about its addresses; whether it is ours to serve at all
is decided where it is translated. This file does not know what it holds or gets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from lbipam.core.ipam.addresses import Address, Family


class ServiceKey(NamedTuple):
    """Namespace and name: a Service re-created under its old name is the same holder."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Port(NamedTuple):
    """A port that a Service listens on: protocol and number."""

    protocol: str
    number: int


class TrafficPolicy(Enum):
    """`spec.externalTrafficPolicy`."""

    CLUSTER = "Cluster"
    LOCAL = "Local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """With whom a Service may answer on one address; an empty key means with nobody."""

    key: str
    ports: frozenset[Port] = frozenset()
    policy: TrafficPolicy = TrafficPolicy.CLUSTER
    selector: tuple[tuple[str, str], ...] = ()
    """Of the Service's pods, sorted; empty if it selects none."""
    namespaces: frozenset[str] = frozenset()
    """Other namespaces whose Services may share; `*` means all."""
    permits_different_pods: bool = False


ALONE = Sharing(key="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The request of one Service of type LoadBalancer that is ours to serve."""

    key: ServiceKey
    created: str = ""
    """RFC 3339 to the second, for the order in which Services are served."""
    labels: Mapping[str, str]
    """Its own, with the two synthetic ones laid over them."""
    families: tuple[Family, ...] = ()
    """For a generic request: at least one address of each."""
    addresses: tuple[Address, ...] = ()
    """For a specific request: these and no others."""
    pools: tuple[str, ...] = ()
    """Only from these pools, in this order; empty means any."""
    sharing: Sharing = ALONE

    @property
    def age(self) -> tuple[str, ServiceKey]:
        """Services are served in ascending order of this: the oldest first."""
        return self.created, self.key
