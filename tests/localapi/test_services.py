from typing import Any

import pytest

from tests.localapi.conftest import SERVICES, Client, service


async def refusals(client: Client, body: dict[str, Any]) -> list[str]:
    code, status = await client.ask("POST", SERVICES, body)
    assert (code, status["reason"]) == (422, "Invalid"), status
    return [f"{cause['field']}: {cause['message']}" for cause in status["details"]["causes"]]


def ports(*numbers: int, **more: Any) -> list[dict[str, Any]]:
    return [{"name": f"p{number}", "port": number, **more} for number in numbers]


async def test_a_service_gets_its_defaults(client: Client) -> None:
    made = await client.create(SERVICES, {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})
    spec = made["spec"]
    assert spec.pop("clusterIPs") == [spec.pop("clusterIP")]
    assert spec == {
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
    }
    assert made["status"] == {"loadBalancer": {}}


async def test_a_load_balancer_gets_node_ports_unless_it_declines(client: Client) -> None:
    made = await client.create(SERVICES, service("a", externalTrafficPolicy="Local"))
    assert 30000 <= made["spec"]["ports"][0]["nodePort"] <= 32767
    assert 30000 <= made["spec"]["healthCheckNodePort"] <= 32767
    assert made["spec"]["allocateLoadBalancerNodePorts"] is True
    other = await client.create(SERVICES, service("b", allocateLoadBalancerNodePorts=False))
    assert "nodePort" not in other["spec"]["ports"][0]
    assert other["spec"]["externalTrafficPolicy"] == "Cluster"


@pytest.mark.parametrize(
    ("spec", "families"),
    [
        ({"ipFamilyPolicy": "RequireDualStack"}, ["IPv4", "IPv6"]),
        ({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]}, ["IPv6", "IPv4"]),
        ({"ipFamilies": ["IPv6"]}, ["IPv6"]),
        ({"clusterIP": "fd00:96::9"}, ["IPv6"]),
        ({"clusterIP": "None", "type": "ClusterIP"}, ["IPv4", "IPv6"]),
        ({"clusterIP": "None", "type": "ClusterIP", "selector": {"a": "b"}}, ["IPv4"]),
    ],
)
async def test_families_are_chosen(client: Client, spec: dict[str, Any], families: list[str]) -> None:
    made = await client.create(SERVICES, service("a", **spec))
    assert made["spec"]["ipFamilies"] == families
    if spec.get("clusterIP") != "None":
        shown = [
            "IPv6" if address.startswith("fd00:96::") else "IPv4" for address in made["spec"]["clusterIPs"]
        ]
        assert shown == families


async def test_the_second_family_can_be_added_and_given_up(client: Client) -> None:
    made = await client.create(SERVICES, service("a"))
    _, both = await client.patch(f"{SERVICES}/a", {"spec": {"ipFamilyPolicy": "RequireDualStack"}})
    assert both["spec"]["clusterIPs"][0] == made["spec"]["clusterIP"]
    assert both["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
    _, one = await client.patch(f"{SERVICES}/a", {"spec": {"ipFamilyPolicy": "SingleStack"}})
    assert one["spec"]["clusterIPs"] == [made["spec"]["clusterIP"]]


async def test_what_a_deleted_service_held_is_free_again(client: Client) -> None:
    held = service("a", clusterIP="10.96.0.50", ports=ports(80, nodePort=30050))
    await client.create(SERVICES, held)
    clash = {**held, "metadata": {"name": "b"}}
    assert await refusals(client, clash) == [
        'spec.clusterIPs[0]: Invalid value: ["10.96.0.50"]: failed to allocate IP 10.96.0.50: provided IP is already allocated'
    ]
    del clash["spec"]["clusterIP"]
    assert await refusals(client, clash) == [
        "spec.ports[0].nodePort: Invalid value: 30050: provided port is already allocated"
    ]
    await client.ask("DELETE", f"{SERVICES}/a")
    await client.create(SERVICES, {**held, "metadata": {"name": "b"}})


async def test_a_refused_service_holds_nothing(client: Client) -> None:
    wrong = service("a", clusterIP="10.96.0.50", ports=ports(80, nodePort=1))
    assert await refusals(client, wrong)
    await client.create(SERVICES, service("b", clusterIP="10.96.0.50"))


async def test_protocols_of_one_port_share_a_node_port(client: Client) -> None:
    both = [{"name": "t", "port": 53, "protocol": "TCP"}, {"name": "u", "port": 53, "protocol": "UDP"}]
    made = await client.create(SERVICES, service("a", ports=both))
    first, second = (port["nodePort"] for port in made["spec"]["ports"])
    assert first == second


async def test_node_ports_run_out(client: Client) -> None:
    for index in range(28):
        await client.create(SERVICES, service(f"s{index}", ports=ports(*range(1, 99))))
    code, status = await client.ask("POST", SERVICES, service("last", ports=ports(*range(1, 99))))
    assert (code, status["reason"]) == (500, "InternalError")
    assert "range is full" in status["message"]


async def test_the_type_decides_what_a_service_keeps(client: Client) -> None:
    made = await client.create(SERVICES, service("a", loadBalancerClass="example.com/lb"))
    await client.patch(
        f"{SERVICES}/a/status", {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    )
    code, internal = await client.patch(f"{SERVICES}/a", {"spec": {"type": "ClusterIP"}})
    assert code == 200, internal
    assert internal["status"] == {"loadBalancer": {}}
    assert internal["spec"]["clusterIP"] == made["spec"]["clusterIP"]
    gone = {"loadBalancerClass", "allocateLoadBalancerNodePorts", "externalTrafficPolicy"}
    assert not gone & set(internal["spec"])
    assert "nodePort" not in internal["spec"]["ports"][0]
    node_port = made["spec"]["ports"][0]["nodePort"]
    await client.create(SERVICES, service("b", ports=ports(80, nodePort=node_port)))
    _, named = await client.patch(
        f"{SERVICES}/a", {"spec": {"type": "ExternalName", "externalName": "a.example", "ports": None}}
    )
    assert named["spec"] == {"type": "ExternalName", "externalName": "a.example", "sessionAffinity": "None"}


async def test_a_put_without_them_keeps_address_and_ports(client: Client) -> None:
    made = await client.create(SERVICES, service("a"))
    body = service("a")
    body["metadata"]["labels"] = {"new": "label"}
    code, put = await client.ask("PUT", f"{SERVICES}/a", body)
    assert code == 200, put
    assert put["spec"] == made["spec"]


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ({"clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"]}, "may not change once set"),
        ({"loadBalancerClass": "example.com/other"}, "may not change once set"),
        ({"ipFamilies": ["IPv6"]}, "may not change once set"),
        ({"healthCheckNodePort": 31111}, "field is immutable"),
    ],
)
async def test_some_fields_never_change(client: Client, patch: dict[str, Any], why: str) -> None:
    made = service("a", loadBalancerClass="example.com/lb", externalTrafficPolicy="Local")
    await client.create(SERVICES, made)
    code, status = await client.patch(f"{SERVICES}/a", {"spec": patch})
    assert (code, status["reason"]) == (422, "Invalid")
    assert why in status["message"]


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


async def test_an_address_in_the_status_is_a_virtual_one_by_default(client: Client) -> None:
    await client.create(SERVICES, service("a"))
    _, written = await client.patch(
        f"{SERVICES}/a/status", {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    )
    assert written["status"]["loadBalancer"] == {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}
