"""Which endpoints does each Service have now?

An index that follows EndpointSlices, so that the change of one slice costs as much as that slice is long.
This file does not know what anybody does with the endpoints.
"""

from collections.abc import Iterator, Mapping

from lbipam.controllers.cache import Change
from lbipam.kube import endpoints, forms
from lbipam.kube.kinds import Key

SLICE_KINDS = frozenset({forms.ENDPOINT_SLICE, forms.ENDPOINT_SLICE_BETA})


class EndpointIndex:
    """The slices of each Service."""

    def __init__(self) -> None:
        self._slices: dict[Key, dict[Key, endpoints.Slice]] = {}

    def observe(self, change: Change) -> frozenset[Key]:
        """Take a change of a slice in; the Services whose endpoints it may have changed."""
        concerned: set[Key] = set()
        if change.before is not None and (service := endpoints.service_of(change.before)) is not None:
            of_service = self._slices.get(service, {})
            of_service.pop(change.key, None)
            if not of_service:
                self._slices.pop(service, None)
            concerned.add(service)
        if change.after is not None:
            read = endpoints.read_slice(change.after)
            if read.service is not None:
                self._slices.setdefault(read.service, {})[change.key] = read
                concerned.add(read.service)
        return frozenset(concerned)

    def slices(self, service: Key) -> Mapping[Key, endpoints.Slice]:
        """The slices of a Service, by their names."""
        return self._slices.get(service, {})

    def ready(self, service: Key) -> Iterator[endpoints.Endpoint]:
        """The endpoints that take new connections."""
        for slice_ in self.slices(service).values():
            for endpoint in slice_.endpoints:
                if endpoint.ready:
                    yield endpoint

    def has_ready(self, service: Key, *, node: str | None = None) -> bool:
        """Whether any endpoint takes new connections, on one node where one is named."""
        return any(node is None or endpoint.node == node for endpoint in self.ready(service))

    def ready_nodes(self, service: Key) -> frozenset[str]:
        """The nodes that have endpoints that take new connections."""
        return frozenset(endpoint.node for endpoint in self.ready(service) if endpoint.node)
