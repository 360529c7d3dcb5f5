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
