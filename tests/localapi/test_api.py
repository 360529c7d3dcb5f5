"""The life of objects, through HTTP."""

from typing import Any

import pytest

from tests.localapi.conftest import SERVICES, WIDGETS, Client, service, widget

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
NAMESPACES = "/api/v1/namespaces"


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def reason_of(answer: tuple[int, Any]) -> tuple[int, str]:
    code, status = answer
    assert status["kind"] == "Status"
    assert status["code"] == code
    return code, status["reason"]


async def test_a_created_object_has_what_the_server_gives_it(client: Client) -> None:
    made = await client.create(CONFIG_MAPS, config_map("a", x="1"))
    metadata = made["metadata"]
    assert metadata["namespace"] == "default"
    assert metadata["uid"] and metadata["creationTimestamp"] and metadata["resourceVersion"]
    assert await client.get(f"{CONFIG_MAPS}/a") == made


async def test_a_generated_name_begins_as_asked(client: Client) -> None:
    body = config_map("", x="1")
    body["metadata"] = {"generateName": "many-"}
    names = {(await client.create(CONFIG_MAPS, body))["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("many-") and len(name) == len("many-") + 5 for name in names)


async def test_a_name_is_taken_once(client: Client) -> None:
    await client.create(CONFIG_MAPS, config_map("a"))
    assert reason_of(await client.ask("POST", CONFIG_MAPS, config_map("a"))) == (409, "AlreadyExists")


async def test_what_is_wrong_is_told_before_that_the_name_is_taken(client: Client) -> None:
    await client.create(CONFIG_MAPS, config_map("a"))
    wrong = config_map("a")
    wrong["metadata"]["labels"] = {"-wrong": ""}
    assert reason_of(await client.ask("POST", CONFIG_MAPS, wrong)) == (422, "Invalid")


async def test_an_object_that_is_written_says_its_name(client: Client) -> None:
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    await client.create(CONFIG_MAPS, config_map("a"))
    assert reason_of(await client.ask("PUT", f"{CONFIG_MAPS}/a", {"data": {}})) == (400, "BadRequest")
    assert reason_of(await client.ask("PUT", f"{leases}/a", {"spec": {}})) == (400, "BadRequest")
    assert reason_of(await client.patch(f"{CONFIG_MAPS}/a", {"metadata": None})) == (400, "BadRequest")
    nameless = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"x": "1"}}
    code, status = await client.apply(f"{CONFIG_MAPS}/b", nameless, "m")
    assert code == 400
    assert status["message"] == (
        "the name of the object (b based on URL) was undeterminable: name must be provided"
    )
    assert (await client.apply(f"{CONFIG_MAPS}/a", nameless, "m"))[0] == 200


async def test_what_is_not_there_is_not_found(client: Client) -> None:
    assert reason_of(await client.ask("GET", f"{CONFIG_MAPS}/a")) == (404, "NotFound")
    assert reason_of(await client.ask("DELETE", f"{CONFIG_MAPS}/a")) == (404, "NotFound")
    assert reason_of(await client.patch(f"{CONFIG_MAPS}/a", {})) == (404, "NotFound")
    nowhere = "/api/v1/namespaces/nowhere/configmaps"
    assert reason_of(await client.ask("POST", nowhere, config_map("a"))) == (404, "NotFound")
    assert await client.ask("GET", "/apis/example.com/v1/widgets") == (404, "404 page not found\n")


async def test_a_stale_write_is_refused(client: Client) -> None:
    made = await client.create(CONFIG_MAPS, config_map("a", x="1"))
    await client.patch(f"{CONFIG_MAPS}/a", {"data": {"x": "2"}})
    assert reason_of(await client.ask("PUT", f"{CONFIG_MAPS}/a", made)) == (409, "Conflict")
    patch = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}, "data": {"x": "3"}}
    assert reason_of(await client.patch(f"{CONFIG_MAPS}/a", patch)) == (409, "Conflict")


async def test_another_uid_is_refused(client: Client) -> None:
    made = await client.create(CONFIG_MAPS, config_map("a"))
    other = {"metadata": {"uid": "another"}}
    assert reason_of(await client.patch(f"{CONFIG_MAPS}/a", other)) == (422, "Invalid")
    made["metadata"]["uid"] = "another"
    assert reason_of(await client.ask("PUT", f"{CONFIG_MAPS}/a", made)) == (409, "Conflict")
    precondition = {"preconditions": {"uid": "another"}}
    assert reason_of(await client.ask("DELETE", f"{CONFIG_MAPS}/a", precondition)) == (409, "Conflict")


async def test_a_write_that_changes_nothing_is_none(client: Client) -> None:
    made = await client.create(CONFIG_MAPS, config_map("a", x="1"))
    _, same = await client.patch(f"{CONFIG_MAPS}/a", {"data": {"x": "1"}})
    assert same == made


async def test_a_dry_run_leaves_everything_as_it_is(client: Client) -> None:
    before = await client.get(SERVICES)
    code, made = await client.ask("POST", f"{SERVICES}?dryRun=All", service("dry"))
    assert (code, made["spec"]["type"]) == (201, "LoadBalancer")
    await client.ask("DELETE", f"{SERVICES}/kubernetes?dryRun=All")
    code, _ = await client.patch(f"{SERVICES}/kubernetes?dryRun=All", {"metadata": {"labels": {"a": "b"}}})
    assert code == 200
    assert await client.get(SERVICES) == before


async def test_an_unknown_field_is_refused_told_or_ignored(client: Client) -> None:
    body = {**config_map("a"), "odd": 1}
    code, status = await client.ask("POST", f"{CONFIG_MAPS}?fieldValidation=Strict", body)
    assert (code, status["reason"]) == (400, "BadRequest")
    assert 'strict decoding error: unknown field "odd"' in status["message"]
    made = await client.create(f"{CONFIG_MAPS}?fieldValidation=Ignore", body)
    assert "odd" not in made


async def test_a_value_of_another_type_is_refused(client: Client) -> None:
    code, status = await client.ask("POST", SERVICES, service("a", ports=[{"port": "eighty"}]))
    assert (code, status["reason"]) == (400, "BadRequest")
    assert (
        "cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32"
        in status["message"]
    )


async def test_an_object_goes_when_its_last_finalizer_does(client: Client) -> None:
    body = config_map("a")
    body["metadata"]["finalizers"] = ["example.com/one", "example.com/two"]
    await client.create(CONFIG_MAPS, body)
    code, marked = await client.ask("DELETE", f"{CONFIG_MAPS}/a")
    assert code == 200
    assert marked["metadata"]["deletionTimestamp"]
    await client.patch(f"{CONFIG_MAPS}/a", {"metadata": {"finalizers": ["example.com/two"]}})
    assert (await client.get(f"{CONFIG_MAPS}/a"))["metadata"]["finalizers"] == ["example.com/two"]
    more = {"metadata": {"finalizers": ["example.com/two", "example.com/three"]}}
    assert reason_of(await client.patch(f"{CONFIG_MAPS}/a", more)) == (422, "Invalid")
    await client.patch(f"{CONFIG_MAPS}/a", {"metadata": {"finalizers": None}})
    assert reason_of(await client.ask("GET", f"{CONFIG_MAPS}/a")) == (404, "NotFound")


async def test_many_are_deleted_by_label(client: Client) -> None:
    for name, color in (("a", "red"), ("b", "blue"), ("c", "red")):
        body = config_map(name)
        body["metadata"]["labels"] = {"color": color}
        await client.create(CONFIG_MAPS, body)
    code, gone = await client.ask("DELETE", f"{CONFIG_MAPS}?labelSelector=color%3Dred")
    assert (code, [item["metadata"]["name"] for item in gone["items"]]) == (200, ["a", "c"])
    assert [item["metadata"]["name"] for item in (await client.get(CONFIG_MAPS))["items"]] == ["b"]


async def test_generations_count_changes_of_the_spec_only(client: Client) -> None:
    await client.define_widgets({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    made = await client.create(WIDGETS, widget("a", x=1))
    assert made["metadata"]["generation"] == 1
    _, labelled = await client.patch(f"{WIDGETS}/a", {"metadata": {"labels": {"a": "b"}}})
    assert labelled["metadata"]["generation"] == 1
    _, changed = await client.patch(f"{WIDGETS}/a", {"spec": {"x": 2}})
    assert changed["metadata"]["generation"] == 2
    _, status = await client.patch(f"{WIDGETS}/a/status", {"status": {"ok": True}, "spec": {"x": 3}})
    assert (status["metadata"]["generation"], status["spec"], status["status"]) == (2, {"x": 2}, {"ok": True})
    _, spec = await client.patch(f"{WIDGETS}/a", {"status": {"ok": False}})
    assert spec["status"] == {"ok": True}


async def test_put_of_a_custom_object_needs_its_version(client: Client) -> None:
    await client.define_widgets({"type": "object"})
    made = await client.create(WIDGETS, widget("a"))
    del made["metadata"]["resourceVersion"]
    assert reason_of(await client.ask("PUT", f"{WIDGETS}/a", made)) == (422, "Invalid")


async def test_an_apply_with_a_uid_never_creates(client: Client) -> None:
    body = service("gone")
    body["metadata"]["uid"] = "0e4b8f38-0000-0000-0000-000000000000"
    code, status = await client.apply(f"{SERVICES}/gone", body, "lbipam")
    assert (code, status["reason"]) == (409, "Conflict")
    assert "uid mismatch" in status["message"]


async def test_status_is_applied_apart_and_merges_by_type(client: Client) -> None:
    await client.create(SERVICES, service("a"))

    def status(kind: str, *addresses: str) -> dict[str, Any]:
        condition = {
            "type": kind,
            "status": "True",
            "reason": "R",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        balancer = {"loadBalancer": {"ingress": [{"ip": each} for each in addresses]}} if addresses else {}
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "a"},
            "status": {"conditions": [condition], **balancer},
        }

    await client.apply(f"{SERVICES}/a/status", status("x.y/A", "192.0.2.1"), "one")
    _, both = await client.apply(f"{SERVICES}/a/status", status("x.y/B"), "two")
    assert [each["type"] for each in both["status"]["conditions"]] == ["x.y/A", "x.y/B"]
    code, refused = await client.apply(f"{SERVICES}/a/status", status("x.y/B", "192.0.2.2"), "two")
    assert (code, refused["details"]["causes"][0]["field"]) == (409, ".status.loadBalancer.ingress")
    _, released = await client.apply(f"{SERVICES}/a/status", status("x.y/A"), "one")
    assert released["status"]["loadBalancer"] == {}
    assert [each["type"] for each in released["status"]["conditions"]] == ["x.y/A", "x.y/B"]


async def test_managed_fields_can_be_rewritten_and_reset(client: Client) -> None:
    await client.create(f"{CONFIG_MAPS}?fieldManager=me", config_map("a", x="1"))
    entry = {
        "manager": "other",
        "operation": "Apply",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:x": {}}},
    }
    patch = [{"op": "replace", "path": "/metadata/managedFields", "value": [entry]}]
    _, rewritten = await client.patch(f"{CONFIG_MAPS}/a", patch, "json-patch+json")
    assert [each["manager"] for each in rewritten["metadata"]["managedFields"]] == ["other"]
    patch = [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]
    _, reset = await client.patch(f"{CONFIG_MAPS}/a", patch, "json-patch+json")
    assert "managedFields" not in reset["metadata"]


@pytest.mark.parametrize(
    ("kind", "code"), [("strategic-merge-patch+json", 415), ("json", 415), ("merge-patch+json", 200)]
)
async def test_custom_objects_take_no_strategic_patch(client: Client, kind: str, code: int) -> None:
    await client.define_widgets({"type": "object"})
    await client.create(WIDGETS, widget("a"))
    answer = await client.patch(f"{WIDGETS}/a", {"metadata": {"labels": {"a": "b"}}}, kind)
    assert answer[0] == code
