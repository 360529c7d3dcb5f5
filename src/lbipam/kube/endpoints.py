"""Which endpoints does an EndpointSlice name, and may they be sent traffic?

`discovery.k8s.io/v1` and `v1beta1` differ in where the node's name is; here they are alike. A slice of
host names, and an address or port that is none, are left out and reported. This file does not choose among endpoints.
"""

import ipaddress
from dataclasses import dataclass
from typing import TypeAlias

from lbipam.kube import forms
from lbipam.kube.kinds import Key

SERVICE_LABEL = "kubernetes.io/service-name"
_HOSTNAME = "kubernetes.io/hostname"

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One place that answers for a Service."""

    address: Address
    node: str
    """Empty where the slice does not tell."""
    ready: bool
    """Takes new connections: ready and not about to end."""
    serving: bool
    """Still answers, though it may be about to end."""
    terminating: bool = False
    """About to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port of all endpoints of a slice, by the name the Service's port has."""

    name: str
    protocol: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What an EndpointSlice says."""

    service: Key | None
    """None: it belongs to no Service."""
    ports: tuple[Port, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    problems: tuple[str, ...] = ()


def service_of(written: forms.EndpointSlice) -> Key | None:
    """The Service whose endpoints these are; None if the slice has no label that says so."""
    name = (written.metadata.labels or {}).get(SERVICE_LABEL)
    return Key(written.metadata.namespace, name) if name else None


def read_slice(written: forms.EndpointSlice) -> Slice:
    """The endpoints and ports of a slice, without what cannot be understood."""
    problems: list[str] = []
    endpoints = tuple(
        found
        for one in written.endpoints or ()
        if (found := _endpoint(one, written.address_type, problems)) is not None
    )
    ports = tuple(
        Port(name=port.name or "", protocol=port.protocol or "TCP", number=port.port)
        for port in written.ports or ()
        if port.port is not None and _is_port(port.port, problems)
    )
    return Slice(service=service_of(written), ports=ports, endpoints=endpoints, problems=tuple(problems))


def _is_port(number: int, problems: list[str]) -> bool:
    # API servers look at the ports of Services, but take any number in a slice.
    if 1 <= number <= 65535:
        return True
    problems.append(f"An endpoint's port is not valid: {number}")
    return False


def _endpoint(written: forms.Endpoint, address_type: str, problems: list[str]) -> Endpoint | None:
    # Only the first address counts: consumers of slices are told to look at no other.
    if not written.addresses or address_type not in ("IPv4", "IPv6"):
        return None
    try:
        address = ipaddress.ip_address(written.addresses[0])
    except ValueError as problem:
        problems.append(f"An endpoint's address is not valid: {problem}")
        return None
    state = written.conditions
    ready = state.ready is not False
    return Endpoint(
        address=address,
        node=written.node_name or (written.topology or {}).get(_HOSTNAME, ""),
        ready=ready and not state.terminating,
        serving=ready if state.serving is None else state.serving,
        terminating=bool(state.terminating),
    )
