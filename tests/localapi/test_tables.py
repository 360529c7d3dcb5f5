from typing import Any

import pytest

from lbipam.localapi import tables
from tests.localapi.conftest import SERVICES, WIDGETS, Client, service, widget

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


async def cells(client: Client, path: str) -> list[list[Any]]:
    return [row["cells"] for row in (await client.get(path, **TABLE))["rows"]]


async def test_a_service_is_shown_with_its_addresses(client: Client) -> None:
    await client.create(
        SERVICES, service("a", ports=[{"port": 80, "nodePort": 30080}], selector={"b": "2", "a": "1"})
    )
    ((name, kind, _, pending, ports, _, selector), _) = await cells(client, SERVICES)
    assert (name, kind, pending, ports, selector) == (
        "a",
        "LoadBalancer",
        "<pending>",
        "80:30080/TCP",
        "a=1,b=2",
    )
    ingress = [{"ip": "192.0.2.1"}, {"hostname": "a.example"}]
    await client.patch(f"{SERVICES}/a/status", {"status": {"loadBalancer": {"ingress": ingress}}})
    assert (await cells(client, f"{SERVICES}/a"))[0][3] == "192.0.2.1,a.example"


async def test_a_custom_object_is_shown_as_its_definition_says(client: Client) -> None:
    shown = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "On", "type": "boolean", "jsonPath": ".spec.on"},
        {"name": "Since", "type": "date", "jsonPath": ".spec.since"},
        {"name": "List", "type": "string", "jsonPath": ".spec.list"},
        {"name": "Text", "type": "string", "jsonPath": ".spec.size", "priority": 1},
    ]
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    await client.define_widgets(schema, additionalPrinterColumns=shown)
    await client.create(WIDGETS, widget("a", size=3, on=True, list=[1, 2]))
    assert await cells(client, WIDGETS) == [["a", 3, True, "<unknown>", "[1,2]", "3"]]
    definitions = (await client.get(WIDGETS, **TABLE))["columnDefinitions"]
    assert [(each["name"], each["priority"]) for each in definitions][-2:] == [("List", 0), ("Text", 1)]


@pytest.mark.parametrize("include", ["None", "Metadata", "Object"])
async def test_rows_carry_as_much_of_the_object_as_asked(client: Client, include: str) -> None:
    (row,) = (await client.get(f"{SERVICES}?includeObject={include}", **TABLE))["rows"]
    kinds = {"None": None, "Metadata": "PartialObjectMetadata", "Object": "Service"}
    assert row.get("object", {}).get("kind") == kinds[include]


def test_a_definition_without_columns_shows_the_age() -> None:
    assert [column.name for column in tables.printer_columns([])] == ["Name", "Age"]


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/api/v1/nodes", {"status": {"conditions": [{}], "addresses": [{}]}}),
        ("/api/v1/namespaces/default/endpoints", {"subsets": [{"addresses": [{}], "ports": [{}]}]}),
    ],
)
async def test_an_object_that_leaves_much_out_is_printed(
    client: Client, path: str, parts: dict[str, Any]
) -> None:
    await client.create(path, {"metadata": {"name": "bare"}})
    for whole in (f"{path}/bare", f"{path}/bare/status"):
        await client.patch(whole, parts)
    table = await client.get(path, Accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert [row["cells"][0] for row in table["rows"]] == ["bare"]
