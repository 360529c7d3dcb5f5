from typing import Any

import pytest

from tests.localapi.conftest import CRDS, WIDGETS, Client, widget, widgets

ANY = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


async def test_an_accepted_kind_is_served_at_once(client: Client) -> None:
    made = await client.define_widgets(ANY)
    conditions = {each["type"]: each["status"] for each in made["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert made["status"]["storedVersions"] == ["v1"]
    assert made["spec"]["names"] == {
        "plural": "widgets",
        "kind": "Widget",
        "singular": "widget",
        "listKind": "WidgetList",
    }
    assert (await client.get(WIDGETS))["kind"] == "WidgetList"


async def test_every_served_version_shows_the_same_object(client: Client) -> None:
    crd = widgets(ANY)
    older = {**crd["spec"]["versions"][0], "name": "v1alpha1", "storage": False, "deprecated": True}
    crd["spec"]["versions"].append(older)
    await client.create(CRDS, crd)
    await client.create(WIDGETS, widget("a", x=1))
    shown = await client.get(WIDGETS.replace("v1", "v1alpha1") + "/a")
    assert (shown["apiVersion"], shown["spec"]) == ("example.com/v1alpha1", {"x": 1})


async def test_a_changed_kind_is_served_as_it_is_now(client: Client) -> None:
    await client.define_widgets({"type": "object", "properties": {"x": {"type": "integer"}}})
    await client.create(WIDGETS, widget("a", x=1, y=2))
    assert (await client.get(f"{WIDGETS}/a"))["spec"] == {"x": 1}
    newer = widgets(
        {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer", "default": 5}}}
    )
    code, changed = await client.patch(f"{CRDS}/widgets.example.com", {"spec": newer["spec"]})
    assert (code, changed["metadata"]["generation"]) == (200, 2)
    assert (await client.create(WIDGETS, widget("b")))["spec"] == {"y": 5}


async def test_names_of_another_kind_are_not_accepted(client: Client) -> None:
    await client.define_widgets(ANY)
    other = widgets(ANY)
    other["metadata"]["name"] = "gadgets.example.com"
    other["spec"]["names"]["plural"] = "gadgets"
    made = await client.create(CRDS, other)
    conditions = {each["type"]: each["status"] for each in made["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "False", "Established": "False"}
    assert (await client.ask("GET", WIDGETS.replace("widgets", "gadgets")))[0] == 404


def changed(crd: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The CRD with another value at a path; the path's parts are keys and indices."""
    *above, last = path.split("/")
    inner: Any = crd
    for part in above:
        inner = inner[int(part)] if part.isdecimal() else inner[part]
    inner[last] = value
    return crd


SCHEMA = "spec/versions/0/schema/openAPIV3Schema"


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("metadata/name", "odd.example.com", "metadata.name"),
        ("spec/scope", "Galaxy", "spec.scope"),
        ("spec/group", "short", "spec.group"),
        ("spec/conversion", {"strategy": "Webhook"}, "spec.conversion.strategy"),
        ("spec/versions/0/storage", False, "spec.versions"),
        ("spec/versions/0/name", "V1", "spec.versions[0].name"),
        ("spec/versions/0/schema", {}, "spec.versions[0].schema.openAPIV3Schema"),
        (f"{SCHEMA}/type", "string", "spec.versions[0].schema.openAPIV3Schema.type"),
        (
            f"{SCHEMA}/properties",
            {"spec": {}},
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].type",
        ),
        (
            f"{SCHEMA}/properties",
            {"spec": {"type": "string", "pattern": "["}},
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].pattern",
        ),
        (
            f"{SCHEMA}/properties",
            {"spec": {"type": "array"}},
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].items",
        ),
        (f"{SCHEMA}/properties", [], "spec.versions[0].schema.openAPIV3Schema.properties"),
        (f"{SCHEMA}/required", 5, "spec.versions[0].schema.openAPIV3Schema.required"),
        (f"{SCHEMA}/not", "x", "spec.versions[0].schema.openAPIV3Schema.not"),
        (f"{SCHEMA}/anyOf", [[]], "spec.versions[0].schema.openAPIV3Schema.anyOf[0]"),
        (
            f"{SCHEMA}/properties",
            {"spec": []},
            "spec.versions[0].schema.openAPIV3Schema.properties[spec]",
        ),
        (
            f"{SCHEMA}/properties",
            {"spec": {"type": "object", "additionalProperties": {"type": "string", "pattern": []}}},
            "spec.versions[0].schema.openAPIV3Schema.properties[spec].additionalProperties.pattern",
        ),
        (
            f"{SCHEMA}/x-kubernetes-validations",
            ["x"],
            "spec.versions[0].schema.openAPIV3Schema.x-kubernetes-validations[0]",
        ),
        ("spec/versions/0/schema/openAPIV3Schema", 5, "spec.versions[0].schema.openAPIV3Schema"),
        (
            "spec/versions/0/additionalPrinterColumns",
            [{"type": "string", "jsonPath": ".spec.x"}],
            "spec.versions[0].additionalPrinterColumns[0].name",
        ),
        ("spec/versions/0/selectableFields", [{}], "spec.versions[0].selectableFields[0].jsonPath"),
        (
            "spec/versions/0/additionalPrinterColumns",
            [{"name": "X", "type": "string", "jsonPath": "spec.x"}],
            "spec.versions[0].additionalPrinterColumns[0].jsonPath",
        ),
    ],
)
async def test_a_wrong_definition_is_refused(client: Client, path: str, value: Any, field: str) -> None:
    code, status = await client.ask("POST", CRDS, changed(widgets(ANY), path, value))
    assert (code, status["reason"]) == (422, "Invalid"), status
    assert field in [cause["field"] for cause in status["details"]["causes"]]


async def test_rules_are_enforced(client: Client) -> None:
    timers = {
        "type": "object",
        "properties": {"keep": {"type": "integer"}, "hold": {"type": "integer"}},
        "x-kubernetes-validations": [
            {"rule": "self.keep <= self.hold", "message": "keep can not be larger than hold"}
        ],
    }
    await client.define_widgets({"type": "object", "properties": {"timers": timers}})
    await client.create(WIDGETS, widget("a", timers={"keep": 1, "hold": 3}))
    code, status = await client.patch(f"{WIDGETS}/a", {"spec": {"timers": {"keep": 9}}})
    assert (code, status["details"]["causes"]) == (
        422,
        [
            {
                "reason": "FieldValueInvalid",
                "message": 'Invalid value: "object": keep can not be larger than hold',
                "field": "spec.timers",
            }
        ],
    )


async def test_a_kind_offers_fields_to_select_by(client: Client) -> None:
    text = {"type": "object", "properties": {"color": {"type": "string"}}}
    await client.define_widgets(text, selectableFields=[{"jsonPath": ".spec.color"}])
    for name, color in (("a", "red"), ("b", "blue")):
        await client.create(WIDGETS, widget(name, color=color))
    found = await client.get(f"{WIDGETS}?fieldSelector=spec.color%3Dblue")
    assert [item["metadata"]["name"] for item in found["items"]] == ["b"]


async def test_a_version_that_does_not_say_so_is_not_served(client: Client) -> None:
    crd = widgets(ANY)
    del crd["spec"]["versions"][0]["served"]
    await client.create(CRDS, crd)
    assert (await client.ask("GET", WIDGETS))[0] == 404


async def test_a_version_has_a_name(client: Client) -> None:
    crd = widgets(ANY)
    del crd["spec"]["versions"][0]["name"]
    code, status = await client.ask("POST", CRDS, crd)
    assert (code, status["details"]["causes"][0]["field"]) == (422, "spec.versions[0].name")
