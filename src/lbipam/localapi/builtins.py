"""Which kinds does the server have from the start, and what are their rules?

Services have a file of their own. The others have few rules: defaults, names, what may not change, and what
deleting a Namespace or a Service takes along. The kinds that a CRD defines are told in `crds`.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lbipam.localapi import columns, formats, jsonpath, refusals
from lbipam.localapi.declarations import declared
from lbipam.localapi.refusals import Problem
from lbipam.localapi.resources import Column, Object, Resource, Rules, Version

_BARE: Mapping[str, Any] = {"metadata": {}}
_WITH_SPEC: Mapping[str, Any] = {"metadata": {}, "spec": {}}
_WITH_STATUS: Mapping[str, Any] = {"metadata": {}, "spec": {}, "status": {}}

_IMMORTAL = ("default", "kube-public", "kube-system")
"""The Namespaces that no cluster can be without."""

_EVENT_FIELDS = (
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
)


def built_in(
    kind: str,
    *,
    declaration: str,
    rules: Rules,
    shown: tuple[Column, ...],
    group: str = "",
    plural: str = "",
    namespaced: bool = True,
    short_names: tuple[str, ...] = (),
    categories: tuple[str, ...] = (),
    has_status: bool = False,
    creates_on_put: bool = False,
    deletes_many: bool = True,
    counts_generations: bool = False,
    why_not_name: Callable[[str], str] = formats.why_not_dns_subdomain,
    initial: Mapping[str, Any] = _BARE,
    selectable: tuple[str, ...] = (),
) -> Resource:
    """A resource of a built-in kind, all of which have one version, `v1`."""
    fields = {name: jsonpath.parse(f".{name}") for name in selectable}
    version = Version(name="v1", schema=declared(declaration), columns=shown, selectable=fields)
    return Resource(
        group=group,
        plural=plural or f"{kind.lower()}s",
        singular=kind.lower(),
        kind=kind,
        list_kind=f"{kind}List",
        namespaced=namespaced,
        versions={"v1": version},
        short_names=short_names,
        categories=categories,
        has_status=has_status,
        creates_on_put=creates_on_put,
        deletes_many=deletes_many,
        counts_generations=counts_generations,
        why_not_name=why_not_name,
        initial=initial,
        rules=rules,
    )


def resources(services: Rules, namespaces: Callable[[Object | None, Object | None], None]) -> list[Resource]:
    """The built-in resources that a CRD is not; `namespaces` is told of every change to a Namespace."""
    return [
        built_in(
            "ConfigMap",
            declaration="core.v1.ConfigMap",
            short_names=("cm",),
            shown=columns.CONFIG_MAPS,
            rules=Rules(problems=_frozen_problems),
        ),
        built_in(
            "Endpoints",
            declaration="core.v1.Endpoints",
            plural="endpoints",
            short_names=("ep",),
            creates_on_put=True,
            shown=columns.ENDPOINTS,
            rules=Rules(complete=_complete_endpoints),
        ),
        built_in(
            "Event",
            declaration="core.v1.Event",
            short_names=("ev",),
            creates_on_put=True,
            selectable=_EVENT_FIELDS,
            shown=columns.EVENTS,
            initial={"metadata": {}, "involvedObject": {}, "source": {}},
            rules=Rules(problems=_event_problems),
        ),
        built_in(
            "Namespace",
            declaration="core.v1.Namespace",
            namespaced=False,
            short_names=("ns",),
            has_status=True,
            deletes_many=False,
            why_not_name=formats.why_not_dns_label,
            selectable=("status.phase",),
            shown=columns.NAMESPACES,
            initial=_WITH_STATUS,
            rules=Rules(prepare=_prepare_namespace, detain=_keep_system_namespaces, committed=namespaces),
        ),
        built_in(
            "Node",
            declaration="core.v1.Node",
            namespaced=False,
            short_names=("no",),
            has_status=True,
            selectable=("spec.unschedulable",),
            shown=columns.NODES,
            initial=_WITH_STATUS,
            rules=Rules(problems=_node_problems),
        ),
        built_in(
            "Pod",
            declaration="core.v1.Pod",
            short_names=("po",),
            categories=("all",),
            has_status=True,
            selectable=(
                "spec.nodeName",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "status.phase",
                "status.podIP",
            ),
            shown=columns.PODS,
            initial=_WITH_STATUS,
            rules=Rules(complete=_complete_pod, prepare=_prepare_pod, problems=_pod_problems),
        ),
        built_in(
            "Secret",
            declaration="core.v1.Secret",
            selectable=("type",),
            shown=columns.SECRETS,
            rules=Rules(complete=_complete_secret, problems=_secret_problems),
        ),
        built_in(
            "ServiceAccount",
            declaration="core.v1.ServiceAccount",
            short_names=("sa",),
            shown=columns.SERVICE_ACCOUNTS,
            rules=Rules(),
        ),
        built_in(
            "Service",
            declaration="core.v1.Service",
            short_names=("svc",),
            categories=("all",),
            has_status=True,
            creates_on_put=True,
            why_not_name=formats.why_not_dns_1035_label,
            selectable=("spec.clusterIP", "spec.type"),
            shown=columns.SERVICES,
            initial={"metadata": {}, "spec": {}, "status": {"loadBalancer": {}}},
            rules=services,
        ),
        built_in(
            "Lease",
            group="coordination.k8s.io",
            declaration="coordination.v1.Lease",
            creates_on_put=True,
            shown=columns.LEASES,
            initial=_WITH_SPEC,
            rules=Rules(problems=_lease_problems),
        ),
        built_in(
            "EndpointSlice",
            group="discovery.k8s.io",
            declaration="discovery.v1.EndpointSlice",
            shown=columns.ENDPOINT_SLICES,
            rules=Rules(complete=_complete_slice, problems=_slice_problems),
        ),
    ]


def _frozen_problems(new: Object, old: Object | None) -> Iterator[Problem]:
    """What an immutable ConfigMap or Secret does not allow."""
    if old is None or not old.get("immutable"):
        return
    if not new.get("immutable"):
        yield refusals.forbidden_field("immutable", "field is immutable when `immutable` is set")
    for field in ("data", "binaryData"):
        if new.get(field) != old.get(field):
            yield refusals.forbidden_field(field, "field is immutable when `immutable` is set")


def _complete_endpoints(new: Object, _old: Object | None) -> None:
    for subset in new.get("subsets", ()):
        for port in subset.get("ports", ()):
            port.setdefault("protocol", "TCP")


def _event_problems(new: Object, old: Object | None) -> Iterator[Problem]:
    involved, namespace = new.get("involvedObject", {}).get("namespace", ""), new["metadata"]["namespace"]
    if old is None and involved not in ("", namespace):
        yield refusals.invalid_value("involvedObject.namespace", involved, "does not match event.namespace")
    if old is None and not involved and namespace != "default":
        yield refusals.invalid_value("involvedObject.namespace", involved, "does not match event.namespace")


def _prepare_namespace(new: Object, old: Object | None) -> None:
    new["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = new["metadata"]["name"]
    if old is None:
        new["spec"] = {"finalizers": ["kubernetes"]}
        new["status"] = {"phase": "Active"}
        return
    new["spec"] = dict(old.get("spec", {}))
    if "deletionTimestamp" in new["metadata"]:
        new["status"] = {**new.get("status", {}), "phase": "Terminating"}


def _keep_system_namespaces(value: Object) -> None:
    name = value["metadata"]["name"]
    if name in _IMMORTAL:
        subject = refusals.Subject(group="", resource="namespaces", kind="Namespace", name=name)
        raise refusals.forbidden(subject, "this namespace may not be deleted")


def _node_problems(new: Object, old: Object | None) -> Iterator[Problem]:
    was, is_now = (old or {}).get("spec", {}).get("podCIDR"), new.get("spec", {}).get("podCIDR")
    if was and was != is_now:
        yield refusals.forbidden_field(
            "spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid'
        )


def _complete_pod(new: Object, _old: Object | None) -> None:
    spec = new.setdefault("spec", {})
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("securityContext", {})
    for container in (*spec.get("initContainers", ()), *spec.get("containers", ())):
        container.setdefault("resources", {})
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        image = container.get("image", "")
        latest = ":" not in image.rpartition("/")[2] or image.endswith(":latest")
        container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
        for port in container.get("ports", ()):
            port.setdefault("protocol", "TCP")


def _prepare_pod(new: Object, old: Object | None) -> None:
    if old is None:
        new["status"] = {"phase": "Pending", "qosClass": "BestEffort"}


def _pod_problems(new: Object, old: Object | None) -> Iterator[Problem]:
    containers = new["spec"].get("containers", ())
    if not containers:
        yield refusals.required("spec.containers")
    for index, container in enumerate(containers):
        field = f"spec.containers[{index}]"
        if not container.get("name"):
            yield refusals.required(f"{field}.name")
        elif why := formats.why_not_dns_label(container["name"]):
            yield refusals.invalid_value(f"{field}.name", container["name"], why)
        if not container.get("image"):
            yield refusals.required(f"{field}.image")
    if (
        old is not None
        and old["spec"].get("nodeName")
        and new["spec"].get("nodeName") != old["spec"]["nodeName"]
    ):
        yield refusals.forbidden_field("spec", "pod updates may not change the node that the pod is bound to")


def _complete_secret(new: Object, _old: Object | None) -> None:
    new.setdefault("type", "Opaque")
    plain = new.pop("stringData", None)
    if plain:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
        new["data"] = {**new.get("data", {}), **encoded}


def _secret_problems(new: Object, old: Object | None) -> Iterator[Problem]:
    if old is not None and new.get("type") != old.get("type"):
        yield refusals.invalid_value("type", new.get("type"), "field is immutable")
    yield from _frozen_problems(new, old)


def _lease_problems(new: Object, _old: Object | None) -> Iterator[Problem]:
    spec = new.get("spec", {})
    if "leaseDurationSeconds" in spec and spec["leaseDurationSeconds"] <= 0:
        yield refusals.invalid_value(
            "spec.leaseDurationSeconds", spec["leaseDurationSeconds"], "must be greater than 0"
        )
    if spec.get("leaseTransitions", 0) < 0:
        yield refusals.invalid_value(
            "spec.leaseTransitions", spec["leaseTransitions"], "must be greater than or equal to 0"
        )


def _complete_slice(new: Object, _old: Object | None) -> None:
    for port in new.get("ports", ()):
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")
    for endpoint in new.setdefault("endpoints", []):
        endpoint.setdefault("conditions", {})


def _slice_problems(new: Object, old: Object | None) -> Iterator[Problem]:
    kind = new.get("addressType", "")
    if not kind:
        yield refusals.required("addressType")
    elif kind not in ("FQDN", "IPv4", "IPv6"):
        yield refusals.unsupported("addressType", kind, ("FQDN", "IPv4", "IPv6"))
    elif old is not None and old["addressType"] != kind:
        yield refusals.invalid_value("addressType", kind, "field is immutable")
    for index, endpoint in enumerate(new.get("endpoints", ())):
        addresses = endpoint.get("addresses", ())
        field = f"endpoints[{index}].addresses"
        if not addresses:
            yield refusals.required(field, "must contain at least 1 address")
        for at, address in enumerate(addresses):
            if kind in ("IPv4", "IPv6") and not formats.is_address(address, int(kind[-1])):
                why = f"must be a valid {kind} address"
                yield refusals.invalid_value(f"{field}[{at}]", address, why)
    for index, port in enumerate(new.get("ports", ())):
        if port["protocol"] not in ("SCTP", "TCP", "UDP"):
            yield refusals.unsupported(f"ports[{index}].protocol", port["protocol"], ("SCTP", "TCP", "UDP"))
