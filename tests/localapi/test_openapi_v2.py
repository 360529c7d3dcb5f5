from typing import Any

from tests.localapi.conftest import Client
from tests.localapi.test_openapi import references


async def test_every_definition_that_is_referred_to_is_there(client: Client) -> None:
    await client.define_widgets({"type": "object"})
    document = await client.get("/openapi/v2")
    found = list(references(document))
    assert "#/definitions/io.k8s.api.core.v1.ServiceSpec" in found
    for reference in found:
        assert reference.removeprefix("#/definitions/") in document["definitions"]


async def test_kinds_are_found_by_group_version_and_kind(client: Client) -> None:
    await client.define_widgets({"type": "object"})
    definitions = (await client.get("/openapi/v2"))["definitions"]
    (widget,) = definitions["com.example.v1.Widget"]["x-kubernetes-group-version-kind"]
    assert widget == {"group": "example.com", "version": "v1", "kind": "Widget"}
    (service,) = definitions["io.k8s.api.core.v1.Service"]["x-kubernetes-group-version-kind"]
    assert service == {"group": "", "version": "v1", "kind": "Service"}


async def test_old_clients_learn_that_the_server_can_try_a_write(client: Client) -> None:
    paths = (await client.get("/openapi/v2"))["paths"]
    patch = paths["/api/v1/namespaces/{namespace}/services/{name}"]["patch"]
    assert {"name": "dryRun", "in": "query", "type": "string"} in patch["parameters"]
    assert patch["x-kubernetes-group-version-kind"]["kind"] == "Service"
    assert "application/strategic-merge-patch+json" in patch["consumes"]


async def test_what_version_2_cannot_say_becomes_anything(client: Client) -> None:
    spec: dict[str, Any] = {
        "type": "object",
        "properties": {
            "port": {"x-kubernetes-int-or-string": True, "description": "Where."},
            "note": {"type": "string", "nullable": True},
            "free": {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
                "properties": {"known": {"type": "string"}},
            },
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "either": {"type": "string", "anyOf": [{"pattern": "^a"}, {"pattern": "^b"}]},
        },
    }
    await client.define_widgets(spec)
    definitions = (await client.get("/openapi/v2"))["definitions"]
    found = definitions["com.example.v1.Widget"]["properties"]["spec"]["properties"]
    assert found == {
        "port": {"x-kubernetes-int-or-string": True, "description": "Where."},
        "note": {},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "either": {"type": "string"},
    }
    target = definitions["io.k8s.api.core.v1.ServicePort"]["properties"]["targetPort"]["$ref"]
    assert definitions[target.removeprefix("#/definitions/")] == {"type": "string", "format": "int-or-string"}
