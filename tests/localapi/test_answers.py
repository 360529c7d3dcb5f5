from typing import Any

import pytest

from tests.localapi.conftest import SERVICES, WIDGETS, Client, service, widget


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("PUT", SERVICES, 405),
        ("PATCH", SERVICES, 405),
        ("POST", f"{SERVICES}/kubernetes", 405),
        ("DELETE", f"{SERVICES}/kubernetes/status", 405),
        ("OPTIONS", SERVICES, 405),
        ("GET", f"{SERVICES}?limit=many", 400),
        ("GET", f"{SERVICES}?labelSelector=%3D", 400),
        ("PATCH", f"{SERVICES}/kubernetes?dryRun=Some", 422),
    ],
)
async def test_what_cannot_be_asked_is_refused(client: Client, method: str, path: str, code: int) -> None:
    answer, status = await client.ask(method, path, {}, kind="application/merge-patch+json")
    assert (answer, status["kind"], status["code"]) == (code, "Status", code)


async def test_an_apply_names_its_manager(client: Client) -> None:
    code, status = await client.patch(f"{SERVICES}/a", service("a"), "apply-patch+yaml")
    assert (code, status["details"]["causes"][0]["field"]) == (422, "fieldManager")


async def test_an_apply_of_an_unknown_field_fails(client: Client) -> None:
    code, status = await client.apply(f"{SERVICES}/a", {**service("a"), "odd": 1}, "me")
    assert code == 500
    assert ".odd: field not declared in schema" in status["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"apiVersion": "v2"},
        {"kind": "Pod"},
        {"metadata": {"name": "other"}},
        {"metadata": {"name": "a", "managedFields": [{}]}},
    ],
)
async def test_an_apply_speaks_of_the_object_that_its_path_names(
    client: Client, change: dict[str, Any]
) -> None:
    code, status = await client.apply(f"{SERVICES}/a", {**service("a"), **change}, "me")
    assert (code, status["reason"]) == (400, "BadRequest")


@pytest.mark.parametrize("change", [{"apiVersion": "v2"}, {"kind": "Pod"}])
async def test_a_body_is_of_the_kind_that_its_path_names(client: Client, change: dict[str, str]) -> None:
    code, status = await client.ask("POST", SERVICES, {**service("a"), **change})
    assert (code, status["reason"]) == (400, "BadRequest")


async def test_a_put_creates_where_the_kind_allows_it(client: Client) -> None:
    code, made = await client.ask("PUT", f"{SERVICES}/a", service("a"))
    assert (code, made["metadata"]["name"]) == (201, "a")
    await client.define_widgets({"type": "object"})
    assert (await client.ask("PUT", f"{WIDGETS}/a", widget("a")))[0] == 404


async def test_a_list_of_many_objects_is_streamed_whole(client: Client) -> None:
    for index in range(1100):
        await client.create("/api/v1/namespaces/default/configmaps", {"metadata": {"name": f"m{index:04}"}})
    found = await client.get("/api/v1/namespaces/default/configmaps")
    assert [item["metadata"]["name"] for item in found["items"]] == [f"m{index:04}" for index in range(1100)]


@pytest.mark.parametrize(
    ("patch", "kind", "why"),
    [
        (
            {"metadata": {"name": "b"}},
            "merge",
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        (
            {"metadata": None},
            "merge",
            "the name of the object (a based on URL) was undeterminable: name must be provided",
        ),
        (
            {"metadata": {"namespace": "other"}},
            "strategic-merge",
            "the namespace of the object (other) does not match the namespace on the request (default)",
        ),
    ],
)
async def test_a_patch_leaves_the_object_where_it_is(
    client: Client, patch: dict[str, Any], kind: str, why: str
) -> None:
    await client.create(SERVICES, service("a"))
    code, status = await client.patch(f"{SERVICES}/a", patch, f"{kind}-patch+json")
    assert (code, status["message"]) == (400, why)


_OMITS = "associative list with keys has an element that omits"


@pytest.mark.parametrize(
    ("ports", "why"),
    [
        (
            [{"port": 53, "name": "a"}, {"port": 53, "name": "b", "protocol": "TCP"}],
            'duplicate entries for key [port=53,protocol="TCP"]',
        ),
        ([{"name": "a"}], f'element 0: {_OMITS} key field "port" (and doesn\'t have default value)'),
    ],
)
async def test_an_apply_names_each_item_of_a_list_once(
    client: Client, ports: list[dict[str, Any]], why: str
) -> None:
    code, status = await client.apply(f"{SERVICES}/a", service("a", ports=ports), "me")
    what = "failed to create typed patch object (default/a; v1, Kind=Service)"
    assert (code, status["message"]) == (500, f"{what}: .spec.ports: {why}")


async def test_the_status_of_a_service_is_never_gone(client: Client) -> None:
    made = await client.create(SERVICES, service("a", type="ClusterIP"))
    code, value = await client.patch(f"{SERVICES}/a/status", {"status": None})
    assert (code, value["status"]) == (200, {"loadBalancer": {}})
    del made["status"], made["metadata"]["resourceVersion"]
    code, value = await client.ask("PUT", f"{SERVICES}/a/status", made)
    assert (code, value["status"]) == (200, {"loadBalancer": {}})
