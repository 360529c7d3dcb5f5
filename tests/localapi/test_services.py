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


async def test_an_address_in_the_status_is_a_virtual_one_by_default(client: Client) -> None:
    await client.create(SERVICES, service("a"))
    _, written = await client.patch(
        f"{SERVICES}/a/status", {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    )
    assert written["status"]["loadBalancer"] == {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}
