from collections.abc import Iterator
from typing import Any

from tests.localapi.conftest import Client


def references(text: Any) -> Iterator[str]:
    if isinstance(text, dict):
        if isinstance(text.get("$ref"), str):
            yield text["$ref"]
        for inner in text.values():
            yield from references(inner)
    elif isinstance(text, list):
        for inner in text:
            yield from references(inner)


async def test_every_document_is_complete_in_itself(client: Client) -> None:
    await client.define_widgets({"type": "object"})
    paths = (await client.get("/openapi/v3"))["paths"]
    assert {"api/v1", "apis/example.com/v1", "apis/discovery.k8s.io/v1"} <= set(paths)
    for where in paths.values():
        document = await client.get(where["serverRelativeURL"])
        schemas = document["components"]["schemas"]
        for reference in references(document):
            assert reference.removeprefix("#/components/schemas/") in schemas


async def test_clients_learn_how_to_patch_and_who_validates(client: Client) -> None:
    await client.define_widgets({"type": "object"})
    core = await client.get("/openapi/v3/api/v1")
    patch = core["paths"]["/api/v1/namespaces/{namespace}/services/{name}"]["patch"]
    assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]
    assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]
    ports = core["components"]["schemas"]["io.k8s.api.core.v1.ServiceSpec"]["properties"]["ports"]
    assert ports["x-kubernetes-patch-merge-key"] == "port"
    custom = await client.get("/openapi/v3/apis/example.com/v1")
    patch = custom["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"]
    assert "application/strategic-merge-patch+json" not in patch["requestBody"]["content"]


async def test_the_address_of_a_document_changes_with_it(client: Client) -> None:
    before = (await client.get("/openapi/v3"))["paths"]["api/v1"]
    await client.define_widgets({"type": "object"})
    assert (await client.get("/openapi/v3"))["paths"]["api/v1"] != before
    assert (await client.ask("GET", "/openapi/v3/apis/nobody.example/v1"))[0] == 404
