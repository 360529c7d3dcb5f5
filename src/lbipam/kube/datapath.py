"""Services, EndpointSlices and Nodes as written in the API, into what a node must know to carry traffic.

A Service that is not for node proxies (headless, a mere name) is none, and one of another proxy has no ports
here. What cannot be understood is reported and left out, never so that more clients are let in. This file makes no rules.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from lbipam.core.datapath import services
from lbipam.core.datapath.services import IPAddress, IPNetwork
from lbipam.core.ipam.addresses import as_ipaddress, parse_address
from lbipam.kube import endpoints, forms

ALGORITHM = "lbipam.dev/algorithm"
PROXY_NAME = "service.kubernetes.io/service-proxy-name"
"""Label of Services that another proxy carries."""
SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
"""Annotation from before `spec.loadBalancerSourceRanges`, which counts where that is empty."""

_NOBODY = ipaddress.IPv4Network("0.0.0.0/32")
"""No packet has this source."""
_AFFINITY_SECONDS = 10800
"""Kubernetes' default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A Service as the node must know it; None if node proxies have nothing to do with it."""

    service: services.Service | None
    problems: tuple[str, ...] = ()


def read_service(written: forms.Service, slices: Iterable[endpoints.Slice], node: str) -> Reading:
    """A Service with its endpoints, as seen from one node."""
    spec, metadata = written.spec, written.metadata
    if spec.type == "ExternalName" or spec.cluster_ip == "None":
        return Reading(service=None)
    slices = tuple(slices)
    problems = [problem for slice_ in slices for problem in slice_.problems]
    service = services.Service(
        namespace=metadata.namespace,
        name=metadata.name,
        ports=tuple(_ports(spec, slices, node, problems)),
        cluster_ips=tuple(_addresses((spec.cluster_ip, *spec.cluster_ips), problems)),
        external_ips=tuple(_addresses(spec.external_ips, problems)),
        load_balancer=tuple(_load_balancer(written)),
        external_policy=_policy(spec.external_traffic_policy),
        internal_policy=_policy(spec.internal_traffic_policy or ""),
        source_ranges=_source_ranges(written, problems),
        affinity_seconds=_affinity_seconds(spec),
        publish_not_ready=spec.publish_not_ready_addresses,
        health_check_node_port=spec.health_check_node_port,
        algorithm=_algorithm(metadata.annotations or {}, problems),
    )
    if PROXY_NAME in (metadata.labels or {}):
        # Its addresses may be announced as they are: there are no rules of ours to wait for.
        return Reading(service=replace(service, ports=(), health_check_node_port=0))
    return Reading(service=service, problems=tuple(problems))


def _ports(
    spec: forms.ServiceSpec, slices: tuple[endpoints.Slice, ...], node: str, problems: list[str]
) -> Iterator[services.ServicePort]:
    for port in spec.ports:
        try:
            protocol = services.Protocol[port.protocol]
        except KeyError:
            problems.append(f"Port {port.port} has the protocol '{port.protocol}', which is not carried")
            continue
        yield services.ServicePort(
            name=port.name,
            protocol=protocol,
            port=port.port,
            node_port=port.node_port,
            endpoints=tuple(_endpoints(port, slices, node)),
        )


def _endpoints(
    port: forms.ServicePort, slices: tuple[endpoints.Slice, ...], node: str
) -> Iterator[services.Endpoint]:
    """The endpoints behind a port; slices name their ports as the Service does."""
    found: dict[tuple[IPAddress, int], services.Endpoint] = {}
    for slice_ in slices:
        number = next(
            (one.number for one in slice_.ports if (one.name, one.protocol) == (port.name, port.protocol)),
            None,
        )
        if number is None:
            continue
        for endpoint in slice_.endpoints:
            one = services.Endpoint(
                address=endpoint.address,
                port=number,
                local=endpoint.node == node,
                maybe_local=not endpoint.node,
                ready=endpoint.ready,
                serving=endpoint.serving,
                terminating=endpoint.terminating,
            )
            # While slices are rewritten, an endpoint may be in two of them (KEP-752): every node has to take the
            # same, whichever it hears of first.
            other = found.setdefault((one.address, number), one)
            found[one.address, number] = max(other, one, key=_usefulness)
    return iter(found.values())


def _usefulness(endpoint: services.Endpoint) -> tuple[bool, ...]:
    return endpoint.ready, endpoint.serving, not endpoint.terminating, endpoint.local


def _addresses(texts: Iterable[str], problems: list[str]) -> Iterator[IPAddress]:
    for text in dict.fromkeys(texts):
        if not text:
            continue
        try:
            yield as_ipaddress(parse_address(text))
        except ValueError as problem:
            problems.append(str(problem))


def _load_balancer(written: forms.Service) -> Iterator[services.LoadBalancerAddress]:
    if written.spec.type != "LoadBalancer":
        return
    for entry in written.status.load_balancer.ingress:
        mode = services.IPMode.PROXY if entry.ip_mode == "Proxy" else services.IPMode.VIP
        for address in _addresses((entry.ip,), []):
            yield services.LoadBalancerAddress(address=address, mode=mode)


def _policy(text: str) -> services.TrafficPolicy:
    return services.TrafficPolicy.LOCAL if text == "Local" else services.TrafficPolicy.CLUSTER


def _source_ranges(written: forms.Service, problems: list[str]) -> tuple[IPNetwork, ...]:
    texts: Iterable[str] = written.spec.load_balancer_source_ranges
    if not texts:
        texts = (written.metadata.annotations or {}).get(SOURCE_RANGES, "").split(",")
    ranges: list[IPNetwork] = []
    is_restricted = False
    for text in (one.strip() for one in texts):
        if not text:
            continue
        is_restricted = True
        try:
            ranges.append(ipaddress.ip_network(text, strict=False))
        except ValueError as problem:
            problems.append(f"A source range is not valid: {problem}")
    if is_restricted and not ranges:
        return (_NOBODY,)
    return tuple(ranges)


def _affinity_seconds(spec: forms.ServiceSpec) -> int:
    if spec.session_affinity != "ClientIP":
        return 0
    config = spec.session_affinity_config
    timeout = config.client_ip.timeout_seconds if config and config.client_ip else None
    return timeout or _AFFINITY_SECONDS


def _algorithm(annotations: dict[str, str], problems: list[str]) -> services.Algorithm:
    text = annotations.get(ALGORITHM)
    if text is None:
        return services.Algorithm.RANDOM
    try:
        return services.Algorithm(text)
    except ValueError:
        problems.append(f"The annotation {ALGORITHM} says '{text}', which is not an algorithm")
        return services.Algorithm.RANDOM


def read_node(written: forms.Node, cluster_blocks: Iterable[IPNetwork] = ()) -> services.Node:
    """The addresses of a node, and the blocks its pods have their addresses from; some may be all nodes' blocks."""
    # Those that the node has itself come first; external ones may be translated on the way to it.
    entries = sorted(written.status.addresses, key=lambda entry: entry.type != "InternalIP")
    addresses = _addresses((entry.address for entry in entries), [])
    blocks = written.spec.pod_cidrs or ((written.spec.pod_cidr,) if written.spec.pod_cidr else ())
    shared = tuple(cluster_blocks)
    return services.Node(
        addresses=tuple(addresses), pods=(*_networks(blocks), *shared), shares_blocks=bool(shared)
    )


def _networks(texts: Iterable[str]) -> Iterator[IPNetwork]:
    for text in texts:
        try:
            yield ipaddress.ip_network(text, strict=False)
        except ValueError:
            continue
