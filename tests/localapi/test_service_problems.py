from typing import Any

import pytest

from tests.localapi.conftest import SERVICES, Client, service
from tests.localapi.test_services import ports, refusals


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"ports": []}, "spec.ports: Required value"),
        (
            {"ports": ports(0, targetPort=1)},
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            {"ports": ports(80, protocol="X")},
            'spec.ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"',
        ),
        ({"ports": [{"port": 1}, {"port": 2, "name": "b"}]}, "spec.ports[0].name: Required value"),
        (
            {"ports": ports(80, targetPort="no--good")},
            'spec.ports[0].targetPort: Invalid value: "no--good": must not contain consecutive hyphens',
        ),
        (
            {"ports": [*ports(80), {"name": "x", "port": 80}]},
            'spec.ports[1]: Duplicate value: {"protocol":"TCP","port":80}',
        ),
        ({"ports": [*ports(80), {"name": "p80", "port": 81}]}, 'spec.ports[1].name: Duplicate value: "p80"'),
        (
            {"type": "Odd"},
            'spec.type: Unsupported value: "Odd": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"',
        ),
        (
            {"sessionAffinity": "Odd"},
            'spec.sessionAffinity: Unsupported value: "Odd": supported values: "ClientIP", "None"',
        ),
        (
            {"externalTrafficPolicy": "Odd"},
            'spec.externalTrafficPolicy: Unsupported value: "Odd": supported values: "Cluster", "Local"',
        ),
        (
            {"ipFamilies": ["IPv5"]},
            'spec.ipFamilies[0]: Unsupported value: "IPv5": supported values: "IPv4", "IPv6"',
        ),
        (
            {"type": "ClusterIP", "loadBalancerClass": "a/b"},
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            {"type": "ClusterIP", "ports": ports(80, nodePort=30001)},
            "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        ({"type": "ExternalName", "ports": []}, "spec.externalName: Required value"),
        (
            {"clusterIP": "None"},
            "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for LoadBalancer services",
        ),
        (
            {"clusterIP": "nonsense"},
            'spec.clusterIPs[0]: Invalid value: "nonsense": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)',
        ),
        (
            {"externalIPs": ["127.0.0.1"]},
            'spec.externalIPs[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)',
        ),
        (
            {"loadBalancerSourceRanges": ["10.0.0.0"]},
            'spec.loadBalancerSourceRanges[0]: Invalid value: "10.0.0.0": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)',
        ),
        ({"selector": {"-a": "b"}}, 'spec.selector: Invalid value: "-a": name part must consist'),
        (
            {"ports": ports(80, nodePort=99)},
            "spec.ports[0].nodePort: Invalid value: 99: provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
        (
            {"clusterIP": "10.97.0.1"},
            'spec.clusterIPs[0]: Invalid value: ["10.97.0.1"]: failed to allocate IP 10.97.0.1: the provided IP (10.97.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/16',
        ),
        (
            {"ipFamilies": ["IPv4", "IPv6"]},
            "spec.ipFamilyPolicy: Invalid value: null: must be RequireDualStack or PreferDualStack when multiple 'ipFamilies' are specified",
        ),
        (
            {"clusterIP": "10.96.0.9", "ipFamilies": ["IPv6"]},
            'spec.clusterIPs[0]: Invalid value: "10.96.0.9": expected an IPv6 value as indicated by `ipFamilies[0]`',
        ),
    ],
)
async def test_a_wrong_service_is_refused(client: Client, spec: dict[str, Any], problem: str) -> None:
    told = await refusals(client, service("a", **spec))
    assert any(each.startswith(problem) for each in told), told


@pytest.mark.parametrize(
    ("kind", "status", "problem"),
    [
        (
            "ClusterIP",
            {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
            'status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is "LoadBalancer"',
        ),
        (
            "LoadBalancer",
            {"loadBalancer": {"ingress": [{"ip": "x"}]}},
            'status.loadBalancer.ingress[0].ip: Invalid value: "x"',
        ),
        (
            "LoadBalancer",
            {"loadBalancer": {"ingress": [{"hostname": "a.example", "ipMode": "VIP"}]}},
            "status.loadBalancer.ingress[0].ipMode: Forbidden",
        ),
        (
            "LoadBalancer",
            {"conditions": [{"type": "A", "status": "Maybe"}]},
            'status.conditions[0].status: Unsupported value: "Maybe"',
        ),
    ],
)
async def test_a_wrong_status_is_refused(
    client: Client, kind: str, status: dict[str, Any], problem: str
) -> None:
    await client.create(SERVICES, service("a", type=kind))
    code, answer = await client.patch(f"{SERVICES}/a/status", {"status": status})
    assert (code, answer["reason"]) == (422, "Invalid")
    told = [f"{cause['field']}: {cause['message']}" for cause in answer["details"]["causes"]]
    assert any(each.startswith(problem) for each in told), told
