"""Which fields of the built-in kinds does lbipam read?

One `msgspec.Struct` per kind, holding those fields and nothing else: what is not named here is skipped by
the decoder and costs neither time nor memory. The forms of `cilium.io` and `lbipam.dev` kinds lie beside
their translations. This file does not judge whether what it decodes makes sense.
"""

from sys import intern
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from lbipam.kube.kinds import Key, Kind


class Form(msgspec.Struct, rename="camel", gc=False, frozen=True):
    """A part of an object: unknown fields are skipped, names are camel case on the wire."""


def _keep_once(form: Form, *fields: str) -> None:
    """Let equal texts of many objects be one text in memory: the decoder makes a new one for each."""
    for field in fields:
        text = getattr(form, field)
        if text:
            force_setattr(form, field, intern(text))


_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""A copy of the whole object, of use to kubectl alone."""


class OwnerReference(Form, frozen=True):
    """`metav1.OwnerReference`."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Metadata(Form, frozen=True):
    """`metav1.ObjectMeta`."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    """RFC 3339, to the second."""
    deletion_timestamp: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[OwnerReference, ...] = ()

    def __post_init__(self) -> None:
        _keep_once(self, "namespace", "creation_timestamp")
        if self.annotations is not None and self.annotations.pop(_LAST_APPLIED, None) is not None:
            force_setattr(self, "annotations", self.annotations or None)

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.name)


class Condition(Form, frozen=True):
    """`metav1.Condition`."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None
    observed_generation: int = 0

    def __post_init__(self) -> None:
        _keep_once(self, "type", "status", "reason", "last_transition_time")


class ConditionsStatus(Form, frozen=True):
    """A status that has conditions and nothing else."""

    conditions: tuple[Condition, ...] = ()


class LabelSelectorRequirement(Form, frozen=True):
    """`metav1.LabelSelectorRequirement` (Cilium's copy of it)."""

    key: str = ""
    operator: str = ""
    values: tuple[str, ...] | None = None


class LabelSelector(Form, frozen=True):
    """`metav1.LabelSelector` (Cilium's copy of it)."""

    match_labels: dict[str, str] | None = None
    match_expressions: tuple[LabelSelectorRequirement, ...] | None = None


# --- v1 Service -------------------------------------------------------------------------------------------


class ServicePort(Form, frozen=True):
    """`corev1.ServicePort`."""

    port: int
    name: str = ""
    protocol: str = "TCP"
    node_port: int = 0

    def __post_init__(self) -> None:
        _keep_once(self, "name", "protocol")


class ClientIPConfig(Form, frozen=True):
    """`corev1.ClientIPConfig`."""

    timeout_seconds: int | None = None


class SessionAffinityConfig(Form, frozen=True):
    """`corev1.SessionAffinityConfig`."""

    client_ip: ClientIPConfig | None = msgspec.field(default=None, name="clientIP")


_FAMILIES: dict[tuple[str, ...], tuple[str, ...]] = {
    families: families for families in (("IPv4",), ("IPv6",), ("IPv4", "IPv6"), ("IPv6", "IPv4"))
}
"""All that there are, each once."""


class ServiceSpec(Form, frozen=True):
    """`corev1.ServiceSpec`."""

    type: str = "ClusterIP"
    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] | None = None
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")
    external_ips: tuple[str, ...] = msgspec.field(default=(), name="externalIPs")
    ip_families: tuple[str, ...] = ()
    ip_family_policy: str | None = None
    load_balancer_ip: str = msgspec.field(default="", name="loadBalancerIP")
    load_balancer_class: str | None = None
    load_balancer_source_ranges: tuple[str, ...] = ()
    external_traffic_policy: str = ""
    internal_traffic_policy: str | None = None
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    publish_not_ready_addresses: bool = False
    health_check_node_port: int = 0

    def __post_init__(self) -> None:
        _keep_once(self, "type", "load_balancer_class", "ip_family_policy", "session_affinity")
        _keep_once(self, "external_traffic_policy", "internal_traffic_policy")
        force_setattr(self, "ip_families", _FAMILIES.get(self.ip_families, self.ip_families))
        if self.cluster_ips[:1] == (self.cluster_ip,):
            force_setattr(self, "cluster_ip", self.cluster_ips[0])


class Ingress(Form, frozen=True, omit_defaults=True):
    """`corev1.LoadBalancerIngress`; what others wrote beside the address is kept as it is."""

    ip: str = ""
    hostname: str = ""
    ip_mode: str | None = None
    ports: tuple[dict[str, Any], ...] = ()


class LoadBalancerStatus(Form, frozen=True):
    """`corev1.LoadBalancerStatus`."""

    ingress: tuple[Ingress, ...] = ()


class ServiceStatus(Form, frozen=True):
    """`corev1.ServiceStatus`."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()
    conditions: tuple[Condition, ...] = ()


class Service(Form, frozen=True):
    """`corev1.Service`."""

    metadata: Metadata
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


def forget_what_agents_ignore(service: Service, *, carries_traffic: bool) -> None:
    """Let go of what an agent does not ask a Service for, which is a third of the memory that it takes.

    Args:
        service: Nobody else's yet.
        carries_traffic: Whether the agent does; announcing asks for no ports.
    """
    force_setattr(service.spec, "selector", None)
    force_setattr(service.status, "conditions", ())
    if not carries_traffic:
        force_setattr(service.spec, "ports", ())


# --- discovery.k8s.io EndpointSlice -----------------------------------------------------------------------


class EndpointConditions(Form, frozen=True):
    """`discoveryv1.EndpointConditions`: absent means unknown, to be read as ready."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(Form, frozen=True):
    """`discoveryv1.Endpoint`; `v1beta1` has the node's name in `topology`."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    node_name: str | None = None
    topology: dict[str, str] | None = None


class EndpointPort(Form, frozen=True):
    """`discoveryv1.EndpointPort`."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None


class EndpointSlice(Form, frozen=True):
    """`discoveryv1.EndpointSlice`."""

    metadata: Metadata
    address_type: str = ""
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[EndpointPort, ...] | None = None


# --- v1 Node, Namespace, Secret ---------------------------------------------------------------------------


class NodeAddress(Form, frozen=True):
    """`corev1.NodeAddress`."""

    type: str = ""
    address: str = ""


class NodeCondition(Form, frozen=True):
    """`corev1.NodeCondition`."""

    type: str = ""
    status: str = ""


class Taint(Form, frozen=True):
    """`corev1.Taint`."""

    key: str = ""


class NodeSpec(Form, frozen=True):
    """`corev1.NodeSpec`."""

    pod_cidr: str = msgspec.field(default="", name="podCIDR")
    pod_cidrs: tuple[str, ...] = msgspec.field(default=(), name="podCIDRs")
    taints: tuple[Taint, ...] = ()


class NodeStatus(Form, frozen=True):
    """`corev1.NodeStatus`."""

    addresses: tuple[NodeAddress, ...] = ()
    conditions: tuple[NodeCondition, ...] = ()


class Node(Form, frozen=True):
    """`corev1.Node`."""

    metadata: Metadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class Namespace(Form, frozen=True):
    """`corev1.Namespace`."""

    metadata: Metadata


class Secret(Form, frozen=True):
    """`corev1.Secret`; values are base64 on the wire."""

    metadata: Metadata
    data: dict[str, str] | None = None


# --- coordination.k8s.io Lease ----------------------------------------------------------------------------


class LeaseSpec(Form, frozen=True, omit_defaults=True):
    """`coordinationv1.LeaseSpec`."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(Form, frozen=True):
    """`coordinationv1.Lease`."""

    metadata: Metadata
    spec: LeaseSpec = LeaseSpec()


def _builtin(group: str, version: str, kind: str, plural: str, form: type[Any], *, namespaced: bool) -> Kind:
    return Kind(group=group, version=version, kind=kind, plural=plural, namespaced=namespaced, form=form)


SERVICE = _builtin("", "v1", "Service", "services", Service, namespaced=True)
NAMESPACE = _builtin("", "v1", "Namespace", "namespaces", Namespace, namespaced=False)
NODE = _builtin("", "v1", "Node", "nodes", Node, namespaced=False)
SECRET = _builtin("", "v1", "Secret", "secrets", Secret, namespaced=True)
ENDPOINT_SLICE = _builtin(
    "discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", EndpointSlice, namespaced=True
)
ENDPOINT_SLICE_BETA = _builtin(
    "discovery.k8s.io", "v1beta1", "EndpointSlice", "endpointslices", EndpointSlice, namespaced=True
)
LEASE = _builtin("coordination.k8s.io", "v1", "Lease", "leases", Lease, namespaced=True)
