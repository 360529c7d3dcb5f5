"""What does the API server make of a Service: defaults, what it refuses, what it hands out?

These are the rules of Kubernetes' core registry for Services (1.31 and later): which fields depend on the
type, how the two address families are chosen, and which cluster addresses and node ports a Service gets. Load
balancer addresses are given by others.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from lbipam.localapi import refusals, service_problems
from lbipam.localapi.allocators import AddressAllocator, PortAllocator
from lbipam.localapi.refusals import Problem, Subject
from lbipam.localapi.resources import Object, Rules

CLUSTER_RANGES = {"IPv4": "10.96.0.0/16", "IPv6": "fd00:96::/108"}
NODE_PORTS = (30000, 32767)

_FAMILIES = tuple(CLUSTER_RANGES)


def complete(new: Object, _old: Object | None) -> None:
    """Fill in the defaults of v1 Services."""
    spec = new.setdefault("spec", {})
    kind = spec.setdefault("type", "ClusterIP")
    _complete_affinity(spec)
    for port in spec.get("ports", ()):
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, "", 0) and "port" in port:
            port["targetPort"] = port["port"]
        _drop_zero(port, "nodePort")
    _drop_zero(spec, "healthCheckNodePort")
    _drop_zero(spec, "publishNotReadyAddresses")
    if kind != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if _is_reached_from_outside(spec):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
        balancer = new.setdefault("status", {}).setdefault("loadBalancer", {})
        for ingress in balancer.get("ingress", ()):
            if ingress.get("ip"):
                ingress.setdefault("ipMode", "VIP")


def _complete_affinity(spec: Object) -> None:
    affinity = spec.setdefault("sessionAffinity", "None")
    if affinity == "ClientIP":
        client = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        client.setdefault("timeoutSeconds", 10800)
    elif affinity == "None":
        spec.pop("sessionAffinityConfig", None)


def _drop_zero(value: Object, field: str) -> None:
    """Go leaves these fields out when they are zero."""
    if not value.get(field, True):
        del value[field]


def _is_reached_from_outside(spec: Object) -> bool:
    return _needs_node_port(spec) or bool(spec["type"] == "ClusterIP" and spec.get("externalIPs"))


def prepare(new: Object, old: Object | None) -> None:
    """Carry over what was handed out, and drop what the type no longer has."""
    if old is None:
        new["status"] = {"loadBalancer": {}}
    else:
        _keep_handed_out(new["spec"], old["spec"])
        _drop_for_type(new["spec"], old["spec"])
        if new["spec"]["type"] != "LoadBalancer":
            new.setdefault("status", {})["loadBalancer"] = {}
    _match_cluster_addresses(new["spec"], old["spec"] if old else None)


def _needs_cluster_address(spec: Object) -> bool:
    return bool(spec["type"] != "ExternalName")


def _needs_node_port(spec: Object) -> bool:
    return spec["type"] in ("NodePort", "LoadBalancer")


def _needs_health_check(spec: Object) -> bool:
    return bool(spec["type"] == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local")


def _keep_handed_out(new: Object, old: Object) -> None:
    if _needs_cluster_address(new) and _needs_cluster_address(old):
        if not new.get("clusterIP") and "clusterIP" in old and not new.get("clusterIPs"):
            new["clusterIP"] = old["clusterIP"]
        if not new.get("clusterIPs") and new.get("clusterIP") == old.get("clusterIP") and "clusterIPs" in old:
            new["clusterIPs"] = list(old["clusterIPs"])
        if "ipFamilyPolicy" not in new and "ipFamilyPolicy" in old:
            new["ipFamilyPolicy"] = old["ipFamilyPolicy"]
        if not new.get("ipFamilies") and "ipFamilies" in old:
            new["ipFamilies"] = list(old["ipFamilies"])
    if _needs_node_port(new) and _needs_node_port(old):
        held = {(port["protocol"], port["port"]): port.get("nodePort") for port in old.get("ports", ())}
        taken = {port.get("nodePort") for port in new.get("ports", ())}
        for port in new.get("ports", ()):
            kept = held.get((port["protocol"], port.get("port")))
            if not port.get("nodePort") and kept and kept not in taken:
                port["nodePort"] = kept
    if _needs_health_check(new) and _needs_health_check(old) and "healthCheckNodePort" in old:
        new.setdefault("healthCheckNodePort", old["healthCheckNodePort"])


def _drop_for_type(new: Object, old: Object) -> None:
    """Forget fields that only the old type had, unless the writer changed them in the same write."""
    gone: list[str] = []
    if _needs_cluster_address(old) and not _needs_cluster_address(new):
        gone += ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")
    if _needs_health_check(old) and not _needs_health_check(new):
        gone.append("healthCheckNodePort")
    if old["type"] == "LoadBalancer" and new["type"] != "LoadBalancer":
        gone += ("allocateLoadBalancerNodePorts", "loadBalancerClass")
    if _is_reached_from_outside(old) and not _is_reached_from_outside(new):
        gone.append("externalTrafficPolicy")
    for field in gone:
        if new.get(field) == old.get(field):
            new.pop(field, None)
    if _needs_node_port(old) and not _needs_node_port(new):
        _drop_node_ports(new, old)


def _drop_node_ports(new: Object, old: Object) -> None:
    held = [port.get("nodePort") for port in old.get("ports", ())]
    if held == [port.get("nodePort") for port in new.get("ports", ())]:
        for port in new.get("ports", ()):
            port.pop("nodePort", None)


def _match_cluster_addresses(new: Object, old: Object | None) -> None:
    """Make `clusterIP` and `clusterIPs` tell the same where the writer gave only one of them."""
    address, addresses = new.get("clusterIP", ""), new.get("clusterIPs", [])
    if address and not addresses:
        new["clusterIPs"] = [address]
    elif old is not None and address != old.get("clusterIP", "") and addresses == old.get("clusterIPs", []):
        if address:
            new["clusterIPs"] = [address, *addresses[1:]]
        else:
            new.pop("clusterIPs", None)
    elif addresses and not address and old is None:
        new["clusterIP"] = addresses[0]


class Services:
    """The rules of Services, and what is handed out to them."""

    def __init__(self) -> None:
        self._addresses = {family: AddressAllocator(block) for family, block in CLUSTER_RANGES.items()}
        self._ports = PortAllocator(*NODE_PORTS)

    def rules(self) -> Rules:
        """The rules, for the registry."""
        return Rules(
            complete=complete,
            prepare=prepare,
            problems=service_problems.problems,
            status_problems=service_problems.status_problems,
            settle=self.settle,
            committed=self.committed,
        )

    def settle(self, new: Object, old: Object | None) -> None:
        """Choose families, cluster addresses and node ports that are missing; raises `ApiError` 422 on a clash."""
        spec, before = new["spec"], old["spec"] if old else {}
        subject = Subject(group="", resource="services", kind="Service", name=new["metadata"]["name"])
        if _needs_cluster_address(spec):
            wrong = list(_choose_families(spec, before))
            if wrong:
                raise refusals.invalid(subject, wrong)
            self._settle_addresses(spec, before, subject)
        self._settle_ports(spec, before, subject)

    def _settle_addresses(self, spec: Object, before: Object, subject: Subject) -> None:
        if spec.get("clusterIP") == "None":
            spec["clusterIPs"] = ["None"]
            return
        held = set(before.get("clusterIPs", ()))
        addresses = list(spec.get("clusterIPs", ()))
        for index, family in enumerate(spec["ipFamilies"]):
            allocator = self._addresses[family]
            if index >= len(addresses):
                addresses.append(allocator.free())
            elif addresses[index] not in held and (why := allocator.why_not(addresses[index])):
                why = f"failed to allocate IP {addresses[index]}: {why}"
                problem = refusals.invalid_value(f"spec.clusterIPs[{index}]", addresses, why)
                raise refusals.invalid(subject, [problem])
        spec["clusterIPs"] = addresses
        spec["clusterIP"] = addresses[0]

    def _settle_ports(self, spec: Object, before: Object, subject: Subject) -> None:
        choice = _PortChoice(self._ports, held=_ports_of(before))
        ports = spec.get("ports", ()) if _needs_node_port(spec) else ()
        allocates = spec["type"] == "NodePort" or spec.get("allocateLoadBalancerNodePorts", True)
        wrong = list(choice.settle(ports, allocates=allocates))
        if _needs_health_check(spec):
            asked = spec.get("healthCheckNodePort")
            if asked is None:
                spec["healthCheckNodePort"] = choice.free()
            elif why := choice.why_not(asked):
                wrong.append(refusals.invalid_value("spec.healthCheckNodePort", asked, why))
        if wrong:
            raise refusals.invalid(subject, wrong)

    def committed(self, new: Object | None, old: Object | None) -> None:
        """Take what the new Service holds, release what only the old one held."""
        after, before = (new or {}).get("spec", {}), (old or {}).get("spec", {})
        if after.get("clusterIPs") != before.get("clusterIPs"):
            for address in before.get("clusterIPs", ()):
                self._allocator_of(address).release(address)
            for address in after.get("clusterIPs", ()):
                self._allocator_of(address).take(address)
        self._ports.change(release=_ports_of(before), take=_ports_of(after))

    def _allocator_of(self, address: str) -> AddressAllocator:
        return self._addresses["IPv6" if ":" in address else "IPv4"]


class _PortChoice:
    """The node ports of one Service while they are chosen."""

    def __init__(self, ports: PortAllocator, *, held: set[int]) -> None:
        self._ports = ports
        self._held = held
        self._chosen: set[int] = set()

    def settle(self, ports: Sequence[dict[str, Any]], *, allocates: bool) -> Iterator[Problem]:
        """Give every port its node port, in place; ports of one number share one over all protocols."""
        by_number: dict[int, int] = {}
        for port in ports:
            if "nodePort" in port:
                by_number.setdefault(port["port"], port["nodePort"])
        for index, port in enumerate(ports):
            if "nodePort" not in port:
                if not allocates:
                    continue
                if port["port"] not in by_number:
                    by_number[port["port"]] = self.free()
                port["nodePort"] = by_number[port["port"]]
            if why := self.why_not(port["nodePort"]):
                yield refusals.invalid_value(f"spec.ports[{index}].nodePort", port["nodePort"], why)
            self._chosen.add(port["nodePort"])

    def why_not(self, port: int) -> str:
        """Why the Service cannot have the port; empty when it can."""
        return "" if port in self._held or port in self._chosen else self._ports.why_not(port)

    def free(self) -> int:
        port = self._ports.free(self._chosen)
        if port is None:
            raise refusals.internal("failed to allocate a nodePort: range is full")
        self._chosen.add(port)
        return port


def _ports_of(spec: Object) -> set[int]:
    ports = {port["nodePort"] for port in spec.get("ports", ()) if port.get("nodePort")}
    if spec.get("healthCheckNodePort"):
        ports.add(spec["healthCheckNodePort"])
    return ports


def _choose_families(spec: Object, before: Object) -> Iterator[Problem]:
    """Fill in `ipFamilyPolicy` and `ipFamilies`, as far as the writer left them open."""
    policy, headless = spec.get("ipFamilyPolicy"), spec.get("clusterIP") == "None"
    if policy == "SingleStack" and before.get("ipFamilyPolicy") not in (None, "SingleStack"):
        _keep_first(spec, before)
    if policy in (None, "SingleStack"):
        for field in ("clusterIPs", "ipFamilies"):
            if len(spec.get(field, ())) > 1:
                why = f"must be RequireDualStack or PreferDualStack when multiple '{field}' are specified"
                yield refusals.invalid_value("spec.ipFamilyPolicy", policy, why)
                return
    families = list(spec.get("ipFamilies", ()))
    addresses = [] if headless else spec.get("clusterIPs", [])
    families += ["IPv6" if ":" in address else "IPv4" for address in addresses[len(families) :]]
    if headless and not families and not spec.get("selector"):
        families, policy = list(_FAMILIES), policy or "RequireDualStack"
    spec["ipFamilyPolicy"] = policy or "SingleStack"
    spec["ipFamilies"] = _families_for(spec["ipFamilyPolicy"], families or [_FAMILIES[0]])
    yield from _family_changes(spec, before, addresses)


def _families_for(policy: str, families: list[str]) -> list[str]:
    if policy == "SingleStack":
        return families[:1]
    return families + [family for family in _FAMILIES if family not in families]


def _family_changes(spec: Object, before: Object, addresses: Sequence[str]) -> Iterator[Problem]:
    families = spec["ipFamilies"]
    if before.get("ipFamilies") and before["ipFamilies"][0] != families[0]:
        yield refusals.invalid_value("spec.ipFamilies[0]", families[0], "may not change once set")
    for index, (address, family) in enumerate(zip(addresses, families, strict=False)):
        if (":" in address) != (family == "IPv6"):
            why = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
            yield refusals.invalid_value(f"spec.clusterIPs[{index}]", address, why)


def _keep_first(spec: Object, before: Object) -> None:
    """Going back to one family gives up the second one, unless the writer changed it in the same write."""
    for field in ("clusterIPs", "ipFamilies"):
        if spec.get(field) == before.get(field) and field in spec:
            spec[field] = spec[field][:1]
