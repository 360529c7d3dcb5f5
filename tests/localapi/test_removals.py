import pytest

from tests.localapi.conftest import CRDS, SERVICES, WIDGETS, Client, service, widget
from tests.localapi.test_api import NAMESPACES, config_map, reason_of
from tests.localapi.test_crds import ANY


async def test_a_namespace_goes_with_all_it_holds(client: Client) -> None:
    await client.create(NAMESPACES, {"metadata": {"name": "team"}})
    held = config_map("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await client.create("/api/v1/namespaces/team/configmaps", held)
    await client.create("/api/v1/namespaces/team/configmaps", config_map("free"))
    _, marked = await client.ask("DELETE", f"{NAMESPACES}/team")
    assert marked["status"]["phase"] == "Terminating"
    refused = await client.ask("POST", "/api/v1/namespaces/team/configmaps", config_map("late"))
    assert reason_of(refused) == (403, "Forbidden")
    left = await client.get("/api/v1/namespaces/team/configmaps")
    assert [item["metadata"]["name"] for item in left["items"]] == ["held"]
    await client.patch("/api/v1/namespaces/team/configmaps/held", {"metadata": {"finalizers": None}})
    assert reason_of(await client.ask("GET", f"{NAMESPACES}/team")) == (404, "NotFound")


@pytest.mark.parametrize("name", ["default", "kube-public", "kube-system"])
async def test_no_cluster_is_without_these_namespaces(client: Client, name: str) -> None:
    refused = await client.ask("DELETE", f"{NAMESPACES}/{name}")
    assert reason_of(refused) == (403, "Forbidden")
    assert refused[1]["message"] == f'namespaces "{name}" is forbidden: this namespace may not be deleted'
    assert (await client.get(f"{NAMESPACES}/{name}"))["status"]["phase"] == "Active"


async def test_namespaces_go_one_by_one(client: Client) -> None:
    await client.create(NAMESPACES, {"metadata": {"name": "team"}})
    assert reason_of(await client.ask("DELETE", NAMESPACES)) == (405, "MethodNotAllowed")
    assert (await client.get(f"{NAMESPACES}/team"))["status"]["phase"] == "Active"
    resources = (await client.get("/api/v1"))["resources"]
    deleted_together = {each["name"] for each in resources if "deletecollection" in each["verbs"]}
    assert "services" in deleted_together
    assert "namespaces" not in deleted_together


async def test_a_kind_goes_with_all_its_objects(client: Client) -> None:
    await client.define_widgets(ANY)
    held = widget("held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await client.create(WIDGETS, held)
    await client.create(WIDGETS, widget("free"))
    _, marked = await client.ask("DELETE", f"{CRDS}/widgets.example.com")
    assert marked["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    assert [item["metadata"]["name"] for item in (await client.get(WIDGETS))["items"]] == ["held"]
    await client.patch(f"{WIDGETS}/held", {"metadata": {"finalizers": None}})
    assert (await client.ask("GET", f"{CRDS}/widgets.example.com"))[0] == 404
    assert (await client.ask("GET", WIDGETS))[0] == 404
    await client.define_widgets(ANY)
    assert (await client.get(WIDGETS))["items"] == []


async def test_endpoints_go_with_their_service(client: Client) -> None:
    await client.create(SERVICES, service("a"))
    endpoints = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "a"}}
    await client.create("/api/v1/namespaces/default/endpoints", endpoints)
    await client.ask("DELETE", f"{SERVICES}/a")
    assert reason_of(await client.ask("GET", "/api/v1/namespaces/default/endpoints/a")) == (404, "NotFound")
