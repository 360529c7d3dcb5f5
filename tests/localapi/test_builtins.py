from typing import Any

import pytest

from tests.localapi.conftest import Client

DEFAULT = "/api/v1/namespaces/default"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, **more}


async def test_a_new_world_has_what_every_cluster_has(client: Client) -> None:
    namespaces = (await client.get("/api/v1/namespaces"))["items"]
    assert [each["metadata"]["name"] for each in namespaces] == [
        "default",
        "kube-node-lease",
        "kube-public",
        "kube-system",
    ]
    assert {each["status"]["phase"] for each in namespaces} == {"Active"}
    service = await client.get(f"{DEFAULT}/services/kubernetes")
    assert service["spec"]["clusterIP"] == "10.96.0.1"


async def test_a_namespace_is_labelled_with_its_name(client: Client) -> None:
    made = await client.create("/api/v1/namespaces", named("team"))
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "team"}
    assert made["spec"]["finalizers"] == ["kubernetes"]


async def test_plain_texts_of_a_secret_are_encoded(client: Client) -> None:
    made = await client.create(f"{DEFAULT}/secrets", named("a", stringData={"key": "value"}))
    assert (made["data"], made["type"]) == ({"key": "dmFsdWU="}, "Opaque")
    assert "stringData" not in made


@pytest.mark.parametrize("plural", ["configmaps", "secrets"])
async def test_what_is_immutable_stays_as_it_is(client: Client, plural: str) -> None:
    await client.create(f"{DEFAULT}/{plural}", named("a", data={"x": "YQ=="}, immutable=True))
    for patch in ({"data": {"x": "Yg=="}}, {"immutable": None}):
        code, status = await client.patch(f"{DEFAULT}/{plural}/a", patch)
        assert (code, status["reason"]) == (422, "Invalid")
    assert (await client.patch(f"{DEFAULT}/{plural}/a", {"metadata": {"labels": {"a": "b"}}}))[0] == 200


async def test_a_slice_gets_its_defaults_and_keeps_its_family(client: Client) -> None:
    slice_ = named("a", addressType="IPv4", endpoints=[{"addresses": ["192.0.2.1"]}], ports=[{"port": 80}])
    made = await client.create(SLICES, slice_)
    assert made["ports"] == [{"port": 80, "name": "", "protocol": "TCP"}]
    code, _ = await client.patch(f"{SLICES}/a", {"addressType": "IPv6"})
    assert code == 422


@pytest.mark.parametrize(
    "body",
    [
        named("a", endpoints=[]),
        named("a", addressType="IPv5"),
        named("a", addressType="IPv4", endpoints=[{"addresses": []}]),
        named("a", addressType="IPv4", endpoints=[{"addresses": ["fd00::1"]}]),
        named("a", addressType="IPv4", ports=[{"port": 80, "protocol": "X"}]),
    ],
)
async def test_a_wrong_slice_is_refused(client: Client, body: dict[str, Any]) -> None:
    assert (await client.ask("POST", SLICES, body))[0] == 422


@pytest.mark.parametrize("spec", [{"leaseDurationSeconds": 0}, {"leaseTransitions": -1}])
async def test_a_wrong_lease_is_refused(client: Client, spec: dict[str, Any]) -> None:
    assert (await client.ask("POST", LEASES, named("a", spec=spec)))[0] == 422


async def test_an_event_lives_where_its_object_does(client: Client) -> None:
    elsewhere = named("a", involvedObject={"namespace": "kube-system", "name": "x"})
    assert (await client.ask("POST", f"{DEFAULT}/events", elsewhere))[0] == 422
    await client.create(f"{DEFAULT}/events", named("a", involvedObject={"namespace": "default", "name": "x"}))


async def test_a_pod_gets_its_defaults(client: Client) -> None:
    pod = named("a", spec={"containers": [{"name": "c", "image": "registry.example/app:1"}]})
    made = await client.create(f"{DEFAULT}/pods", pod)
    assert made["status"]["phase"] == "Pending"
    assert made["spec"]["restartPolicy"] == "Always"
    assert made["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert (await client.ask("POST", f"{DEFAULT}/pods", named("b", spec={"containers": []})))[0] == 422


async def test_the_network_of_a_node_stays(client: Client) -> None:
    await client.create(
        "/api/v1/nodes", named("n", spec={"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]})
    )
    assert (await client.patch("/api/v1/nodes/n", {"spec": {"podCIDR": "10.0.1.0/24"}}))[0] == 422
    code, node = await client.patch(
        "/api/v1/nodes/n/status", {"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}
    )
    assert (code, node["status"]["addresses"][0]["address"]) == (200, "192.0.2.1")
