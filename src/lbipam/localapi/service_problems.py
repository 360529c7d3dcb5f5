"""What is wrong with a Service?

The checks and messages are those of Kubernetes' core validation of Services. Whether an address or a port is
still free is told by the allocators, not here.
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from lbipam.localapi import formats, refusals
from lbipam.localapi.refusals import Problem
from lbipam.localapi.resources import Object

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_POLICIES = ("Cluster", "Local")
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("SingleStack", "PreferDualStack", "RequireDualStack")
_DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
_PORT_RANGE = "must be between 1 and 65535, inclusive"
_NO_ADDRESS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_BALANCED_ONLY = "may only be used when `type` is 'LoadBalancer'"
_NEVER_CHANGES = "may not change once set"


def problems(new: Object, old: Object | None) -> Iterator[Problem]:
    """Everything that is wrong with a Service that is created or changed."""
    spec = new["spec"]
    yield from _ports_problems(spec)
    yield from _choice_problems(spec)
    yield from _selector_problems(spec)
    yield from _address_problems(spec)
    yield from _family_problems(spec)
    yield from _balancer_problems(spec)
    yield from status_problems(new, old)
    if old is not None:
        yield from _change_problems(spec, old["spec"])


def _ports_problems(spec: Object) -> Iterator[Problem]:
    ports = spec.get("ports", ())
    headless = spec.get("clusterIP") == "None"
    if not ports and not headless and spec["type"] != "ExternalName":
        yield refusals.required("spec.ports")
    names: set[str] = set()
    pairs: set[tuple[str, int]] = set()
    node_ports: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        field = f"spec.ports[{index}]"
        yield from _name_problems(port, field, names, alone=len(ports) == 1)
        yield from _port_problems(port, field)
        pair = (port["protocol"], port.get("port", 0))
        if pair in pairs:
            yield refusals.duplicate(field, {"protocol": pair[0], "port": pair[1]})
        pairs.add(pair)
        if node_port := port.get("nodePort"):
            if spec["type"] not in ("NodePort", "LoadBalancer"):
                yield refusals.forbidden_field(
                    f"{field}.nodePort", f"may not be used when `type` is '{spec['type']}'"
                )
            elif (port["protocol"], node_port) in node_ports:
                yield refusals.duplicate(f"{field}.nodePort", node_port)
            node_ports.add((port["protocol"], node_port))


def _name_problems(port: dict[str, Any], field: str, names: set[str], *, alone: bool) -> Iterator[Problem]:
    name = port.get("name", "")
    if not name:
        if not alone:
            yield refusals.required(f"{field}.name")
        return
    if why := formats.why_not_dns_label(name):
        yield refusals.invalid_value(f"{field}.name", name, why)
    if name in names:
        yield refusals.duplicate(f"{field}.name", name)
    names.add(name)


def _port_problems(port: dict[str, Any], field: str) -> Iterator[Problem]:
    number, target = port.get("port", 0), port.get("targetPort", 0)
    if not 0 < number < 65536:
        yield refusals.invalid_value(f"{field}.port", number, _PORT_RANGE)
    if port["protocol"] not in _PROTOCOLS:
        yield refusals.unsupported(f"{field}.protocol", port["protocol"], _PROTOCOLS)
    if isinstance(target, int):
        if not 0 < target < 65536:
            yield refusals.invalid_value(f"{field}.targetPort", target, _PORT_RANGE)
    elif why := _why_not_port_name(target):
        yield refusals.invalid_value(f"{field}.targetPort", target, why)
    if (application := port.get("appProtocol")) and (why := formats.why_not_qualified_name(application)):
        yield refusals.invalid_value(f"{field}.appProtocol", application, why)


def _why_not_port_name(name: str) -> str:
    """RFC 6335 §5.1, as far as Kubernetes checks it."""
    if len(name) > 15:
        return "must be no more than 15 characters"
    if not formats.LABEL_1123.fullmatch(name):
        return "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    if "--" in name:
        return "must not contain consecutive hyphens"
    if not re.search("[a-z]", name):
        return "must contain at least one letter (a-z)"
    return ""


def _choice_problems(spec: Object) -> Iterator[Problem]:
    if spec["type"] not in _TYPES:
        yield refusals.unsupported("spec.type", spec["type"], _TYPES)
    if spec["sessionAffinity"] not in ("ClientIP", "None"):
        yield refusals.unsupported("spec.sessionAffinity", spec["sessionAffinity"], ("ClientIP", "None"))
    elif spec["sessionAffinity"] == "ClientIP":
        seconds = spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]
        if not 0 < seconds <= 86400:
            field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
            yield refusals.invalid_value(field, seconds, "must be greater than 0 and less than 86400")
    for field in ("internalTrafficPolicy", "externalTrafficPolicy"):
        if spec.get(field, "Cluster") not in _POLICIES:
            yield refusals.unsupported(f"spec.{field}", spec[field], _POLICIES)
    reachable = spec["type"] in ("NodePort", "LoadBalancer") or spec.get("externalIPs")
    if "externalTrafficPolicy" in spec and not reachable:
        yield refusals.invalid_value(
            "spec.externalTrafficPolicy",
            spec["externalTrafficPolicy"],
            "may only be set for externally-accessible services",
        )
    if spec.get("trafficDistribution", "PreferClose") not in _DISTRIBUTIONS:
        yield refusals.unsupported("spec.trafficDistribution", spec["trafficDistribution"], _DISTRIBUTIONS)


def _selector_problems(spec: Object) -> Iterator[Problem]:
    for key, value in spec.get("selector", {}).items():
        if why := formats.why_not_qualified_name(key):
            yield refusals.invalid_value("spec.selector", key, why)
        if why := formats.why_not_label_value(value):
            yield refusals.invalid_value("spec.selector", value, why)


def _address_problems(spec: Object) -> Iterator[Problem]:
    address, addresses = spec.get("clusterIP", ""), spec.get("clusterIPs", [])
    if spec["type"] == "ExternalName":
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if spec.get(field):
                yield refusals.forbidden_field(f"spec.{field}", "may not be set for ExternalName services")
        yield from _external_name_problems(spec)
        return
    if addresses and address != addresses[0]:
        yield refusals.invalid_value("spec.clusterIP", address, "must be equal to `clusterIPs[0]`")
    if address == "None" and spec["type"] != "ClusterIP":
        why = f"may not be set to 'None' for {spec['type']} services"
        yield refusals.invalid_value("spec.clusterIPs[0]", address, why)
    if len(addresses) > 2:
        yield refusals.invalid_value("spec.clusterIPs", addresses, "may only hold up to 2 values")
    for index, each in enumerate(addresses):
        if each != "None" and not formats.is_address(each):
            yield refusals.invalid_value(f"spec.clusterIPs[{index}]", each, _NO_ADDRESS)
    for index, each in enumerate(spec.get("externalIPs", ())):
        yield from _external_address_problems(each, f"spec.externalIPs[{index}]")


def _external_name_problems(spec: Object) -> Iterator[Problem]:
    name = spec.get("externalName", "").removesuffix(".")
    if not name:
        yield refusals.required("spec.externalName")
    elif why := formats.why_not_dns_subdomain(name):
        yield refusals.invalid_value("spec.externalName", name, why)


def _external_address_problems(text: str, field: str) -> Iterator[Problem]:
    if not formats.is_address(text):
        yield refusals.invalid_value(field, text, _NO_ADDRESS)
        return
    address = ipaddress.ip_address(text)
    kinds = (
        (address.is_unspecified, f"may not be unspecified ({address})"),
        (address.is_loopback, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (address.is_link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
    )
    for holds, why in kinds:
        if holds:
            yield refusals.invalid_value(field, text, why)


def _family_problems(spec: Object) -> Iterator[Problem]:
    policy, families = spec.get("ipFamilyPolicy"), spec.get("ipFamilies", [])
    if policy is not None and policy not in _FAMILY_POLICIES:
        yield refusals.unsupported("spec.ipFamilyPolicy", policy, _FAMILY_POLICIES)
    for index, family in enumerate(families):
        if family not in _FAMILIES:
            yield refusals.unsupported(f"spec.ipFamilies[{index}]", family, _FAMILIES)
        elif family in families[:index]:
            yield refusals.duplicate(f"spec.ipFamilies[{index}]", family)


def _balancer_problems(spec: Object) -> Iterator[Problem]:
    balanced = spec["type"] == "LoadBalancer"
    for field in ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
        if field in spec and not balanced:
            yield refusals.forbidden_field(f"spec.{field}", _BALANCED_ONLY)
    if (name := spec.get("loadBalancerClass")) and (why := formats.why_not_qualified_name(name)):
        yield refusals.invalid_value("spec.loadBalancerClass", name, why)
    if ranges := spec.get("loadBalancerSourceRanges"):
        if not balanced:
            yield refusals.forbidden_field("spec.loadBalancerSourceRanges", _BALANCED_ONLY)
        for index, text in enumerate(ranges):
            if not formats.CHECKS["cidr"](text.strip()):
                why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
                yield refusals.invalid_value(f"spec.loadBalancerSourceRanges[{index}]", text, why)
    if "healthCheckNodePort" in spec and not (balanced and spec.get("externalTrafficPolicy") == "Local"):
        why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield refusals.invalid_value("spec.healthCheckNodePort", spec["healthCheckNodePort"], why)


def _change_problems(new: Object, old: Object) -> Iterator[Problem]:
    if new["type"] != "ExternalName" and old["type"] != "ExternalName":
        was, now = old.get("clusterIPs", []), new.get("clusterIPs", [])
        if was and now[:1] != was[:1]:
            yield refusals.invalid_value("spec.clusterIPs[0]", now, _NEVER_CHANGES)
        elif len(was) > 1 and len(now) > 1 and now[1] != was[1]:
            yield refusals.invalid_value("spec.clusterIPs[1]", now, _NEVER_CHANGES)
    was_of, is_of = old.get("loadBalancerClass"), new.get("loadBalancerClass")
    if new["type"] == old["type"] == "LoadBalancer" and is_of != was_of:
        yield refusals.invalid_value("spec.loadBalancerClass", is_of, _NEVER_CHANGES)
    kept = "healthCheckNodePort" in old and "healthCheckNodePort" in new
    if kept and new["healthCheckNodePort"] != old["healthCheckNodePort"]:
        yield refusals.forbidden_field("spec.healthCheckNodePort", "field is immutable")


def status_problems(new: Object, old: Object | None) -> Iterator[Problem]:
    """What is wrong with the status of a Service."""
    status = new.get("status", {})
    ingress = status.get("loadBalancer", {}).get("ingress", ())
    before = (old or {}).get("status", {}).get("loadBalancer", {}).get("ingress", ())
    if ingress and new["spec"]["type"] != "LoadBalancer" and ingress != before:
        yield refusals.forbidden_field(
            "status.loadBalancer.ingress", 'may only be used when `spec.type` is "LoadBalancer"'
        )
    for index, each in enumerate(ingress):
        yield from _ingress_problems(each, f"status.loadBalancer.ingress[{index}]")
    yield from _condition_problems(status.get("conditions", ()))


def _ingress_problems(each: Object, field: str) -> Iterator[Problem]:
    if "ip" in each and not formats.is_address(each["ip"]):
        yield refusals.invalid_value(f"{field}.ip", each["ip"], _NO_ADDRESS)
    if "ipMode" in each:
        if "ip" not in each:
            yield refusals.forbidden_field(f"{field}.ipMode", "may not be specified when `ip` is not set")
        elif each["ipMode"] not in ("Proxy", "VIP"):
            yield refusals.unsupported(f"{field}.ipMode", each["ipMode"], ("Proxy", "VIP"))
    if hostname := each.get("hostname"):
        if why := formats.why_not_dns_subdomain(hostname):
            yield refusals.invalid_value(f"{field}.hostname", hostname, why)
        if formats.is_address(hostname):
            yield refusals.invalid_value(
                f"{field}.hostname", hostname, "must be a DNS name, not an IP address"
            )


def _condition_problems(conditions: Any) -> Iterator[Problem]:
    """The checks of `metav1.Condition`."""
    for index, condition in enumerate(conditions):
        field = f"status.conditions[{index}]"
        if why := formats.why_not_qualified_name(condition.get("type", "")):
            yield refusals.invalid_value(f"{field}.type", condition.get("type", ""), why)
        if condition.get("status") not in ("True", "False", "Unknown"):
            yield refusals.unsupported(
                f"{field}.status", condition.get("status", ""), ("False", "True", "Unknown")
            )
        if not condition.get("lastTransitionTime"):
            yield refusals.required(f"{field}.lastTransitionTime", "must be set")
        if not condition.get("reason"):
            yield refusals.required(f"{field}.reason", "must be set")
        if condition.get("observedGeneration", 0) < 0:
            yield refusals.invalid_value(
                f"{field}.observedGeneration",
                condition["observedGeneration"],
                "must be greater than or equal to zero",
            )
