"""What do `kubectl get` and `kubectl get -o wide` show of the built-in kinds?

Columns and cells are those of Kubernetes' printers; columns of priority 1 are the wide ones. How a Table is
put together, and what custom resources show, is told in `tables`.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from lbipam.localapi.resources import Column, Object


def age(timestamp: Any) -> str:
    """The time since `timestamp` as kubectl prints ages (apimachinery's `HumanDuration`)."""
    if not timestamp:
        return "<unknown>"
    try:
        then = datetime.fromisoformat(str(timestamp).replace("Z", "+00:00"))
    except ValueError:
        return "<invalid>"
    seconds = int((datetime.now(UTC) - then).total_seconds())
    return _duration(max(seconds, 0)) if seconds >= -1 else "<invalid>"


_DURATIONS = (
    # below (seconds), unit, its seconds, smaller unit, its seconds
    (120, "s", 1, "", 1),
    (600, "m", 60, "s", 1),
    (10_800, "m", 60, "", 1),
    (28_800, "h", 3600, "m", 60),
    (172_800, "h", 3600, "", 1),
    (691_200, "d", 86_400, "h", 3600),
    (63_072_000, "d", 86_400, "", 1),
    (252_288_000, "y", 31_536_000, "d", 86_400),
)


def _duration(seconds: int) -> str:
    for below, unit, size, smaller, smaller_size in _DURATIONS:
        if seconds < below:
            rest = seconds % size // smaller_size if smaller else 0
            return f"{seconds // size}{unit}{rest}{smaller}" if rest else f"{seconds // size}{unit}"
    return f"{seconds // 31_536_000}y"


def _dig(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _text(*path: str, absent: str = "<none>") -> Callable[[Object], str]:
    return lambda value: _dig(value, *path) or absent


def _count(*paths: str) -> Callable[[Object], int]:
    return lambda value: sum(len(value.get(path) or ()) for path in paths)


def _joined(parts: Iterable[str]) -> str:
    return ",".join(parts) or "<none>"


def _some(parts: list[str], absent: str) -> str:
    """The first three, and how many more there are."""
    more = f" + {len(parts) - 3} more..." if len(parts) > 3 else ""
    return ",".join(parts[:3]) + more or absent


def _labels(labels: Any) -> str:
    return _joined(f"{key}={value}" for key, value in sorted((labels or {}).items()))


def _column(name: str, cell: Callable[[Object], Any], *, wide: bool = False, kind: str = "string") -> Column:
    return Column(
        name=name, type=kind, cell=cell, priority=int(wide), format="name" if name == "Name" else ""
    )


NAME = _column("Name", _text("metadata", "name", absent=""))
AGE = _column("Age", lambda value: age(value["metadata"].get("creationTimestamp")))


def _external_address(service: Object) -> str:
    spec = service["spec"]
    kind, extra = spec.get("type"), spec.get("externalIPs", [])
    if kind == "ExternalName":
        return str(spec.get("externalName", "<none>"))
    if kind != "LoadBalancer":
        return _joined(extra)
    ingress = _dig(service, "status", "loadBalancer", "ingress") or ()
    addresses = [each.get("ip") or each.get("hostname", "") for each in ingress]
    return ",".join([*addresses, *extra]) or "<pending>"


def _service_ports(service: Object) -> str:
    return _joined(
        f"{port['port']}:{port['nodePort']}/{port['protocol']}"
        if port.get("nodePort")
        else f"{port['port']}/{port['protocol']}"
        for port in service["spec"].get("ports", ())
    )


SERVICES = (
    NAME,
    _column("Type", _text("spec", "type")),
    _column("Cluster-IP", _text("spec", "clusterIP")),
    _column("External-IP", _external_address),
    _column("Port(s)", _service_ports),
    AGE,
    _column("Selector", lambda value: _labels(value["spec"].get("selector")), wide=True),
)

CONFIG_MAPS = (NAME, _column("Data", _count("data", "binaryData")), AGE)
SECRETS = (NAME, _column("Type", _text("type")), _column("Data", _count("data")), AGE)
SERVICE_ACCOUNTS = (NAME, _column("Secrets", _count("secrets")), AGE)
NAMESPACES = (NAME, _column("Status", _text("status", "phase", absent="")), AGE)
LEASES = (NAME, _column("Holder", _text("spec", "holderIdentity", absent="")), AGE)
DEFINITIONS = (
    NAME,
    _column("Created At", _text("metadata", "creationTimestamp", absent=""), kind="date"),
)


def _endpoints(value: Object) -> str:
    pairs = [
        f"{f'[{address}]' if ':' in address else address}:{port.get('port', 0)}"
        for subset in value.get("subsets", ())
        for port in subset.get("ports", ())
        for address in (each.get("ip", "") for each in subset.get("addresses", ()))
    ]
    return _some(pairs, "<none>")


ENDPOINTS = (NAME, _column("Endpoints", _endpoints), AGE)


def _slice_ports(value: Object) -> str:
    return _some([str(port.get("port", "*")) for port in value.get("ports", ())], "<unset>")


def _slice_addresses(value: Object) -> str:
    endpoints = value.get("endpoints", ())
    return _some([address for each in endpoints for address in each.get("addresses", ())], "<unset>")


ENDPOINT_SLICES = (
    NAME,
    _column("AddressType", _text("addressType", absent="")),
    _column("Ports", _slice_ports),
    _column("Endpoints", _slice_addresses),
    AGE,
)


def _event_object(event: Object) -> str:
    involved = event.get("involvedObject", {})
    kind, name = involved.get("kind", "").lower(), involved.get("name", "")
    return f"{kind}/{name}" if name else kind


def _event_source(event: Object) -> str:
    component = _dig(event, "source", "component") or event.get("reportingComponent", "")
    host = _dig(event, "source", "host") or event.get("reportingInstance", "")
    return ", ".join(filter(None, (component, host)))


def _last_seen(event: Object) -> str:
    series = _dig(event, "series", "lastObservedTime")
    return age(series or event.get("lastTimestamp") or event.get("eventTime"))


EVENTS = (
    _column("Last Seen", _last_seen),
    _column("Type", _text("type", absent="")),
    _column("Reason", _text("reason", absent="")),
    _column("Object", _event_object),
    _column("Subobject", _text("involvedObject", "fieldPath", absent=""), wide=True),
    _column("Source", _event_source, wide=True),
    _column("Message", lambda value: str(value.get("message", "")).strip()),
    _column(
        "First Seen", lambda value: age(value.get("firstTimestamp") or value.get("eventTime")), wide=True
    ),
    _column(
        "Count",
        lambda value: _dig(value, "series", "count") or value.get("count") or 1,
        wide=True,
        kind="integer",
    ),
    _column("Name", _text("metadata", "name", absent=""), wide=True),
)


def _node_status(node: Object) -> str:
    conditions = {each.get("type"): each.get("status") for each in _dig(node, "status", "conditions") or ()}
    ready = {"True": "Ready", None: "Unknown"}.get(conditions.get("Ready"), "NotReady")
    return f"{ready},SchedulingDisabled" if _dig(node, "spec", "unschedulable") else ready


def _node_roles(node: Object) -> str:
    prefix = "node-role.kubernetes.io/"
    labels = node["metadata"].get("labels", {})
    roles = [key.removeprefix(prefix) for key in labels if key.startswith(prefix)]
    if role := labels.get("kubernetes.io/role"):
        roles.append(role)
    return _joined(sorted(filter(None, roles)))


def _node_address(kind: str) -> Callable[[Object], str]:
    def cell(node: Object) -> str:
        addresses = _dig(node, "status", "addresses") or ()
        return next((each.get("address", "") for each in addresses if each.get("type") == kind), "<none>")

    return cell


def _node_info(field: str) -> Callable[[Object], str]:
    return _text("status", "nodeInfo", field, absent="<unknown>")


NODES = (
    NAME,
    _column("Status", _node_status),
    _column("Roles", _node_roles),
    AGE,
    _column("Version", _text("status", "nodeInfo", "kubeletVersion", absent="")),
    _column("Internal-IP", _node_address("InternalIP"), wide=True),
    _column("External-IP", _node_address("ExternalIP"), wide=True),
    _column("OS-Image", _node_info("osImage"), wide=True),
    _column("Kernel-Version", _node_info("kernelVersion"), wide=True),
    _column("Container-Runtime", _node_info("containerRuntimeVersion"), wide=True),
)


def _pod_ready(pod: Object) -> str:
    statuses = _dig(pod, "status", "containerStatuses") or ()
    return f"{sum(bool(each.get('ready')) for each in statuses)}/{len(pod['spec'].get('containers', ()))}"


def _pod_status(pod: Object) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return "Terminating"
    return str(_dig(pod, "status", "reason") or _dig(pod, "status", "phase") or "")


PODS = (
    NAME,
    _column("Ready", _pod_ready),
    _column("Status", _pod_status),
    _column(
        "Restarts",
        lambda pod: str(
            sum(each.get("restartCount", 0) for each in _dig(pod, "status", "containerStatuses") or ())
        ),
    ),
    AGE,
    _column("IP", _text("status", "podIP"), wide=True),
    _column("Node", _text("spec", "nodeName"), wide=True),
    _column("Nominated Node", _text("status", "nominatedNodeName"), wide=True),
    _column("Readiness Gates", lambda _pod: "<none>", wide=True),
)
