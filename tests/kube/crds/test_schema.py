"""The builders of structural schemas, and of the definition around them."""

from typing import Any

import yaml

from lbipam.kube.crds import schema


def sample(**changes: Any) -> dict[str, Any]:
    spec = schema.record({"size": schema.integer(bounds=(1, 9))}, required=("size",))
    version = schema.Version(name="v1", properties={"spec": spec}, **changes)
    names = schema.Names(group="example.dev", kind="Box", plural="boxes", short=("bx",))
    return schema.definition(names, "A box.", (version, version))


def test_only_the_first_version_is_stored() -> None:
    assert [version["storage"] for version in sample()["spec"]["versions"]] == [True, False]


def test_versions_that_share_a_schema_print_without_yaml_anchors() -> None:
    assert "&id" not in yaml.safe_dump(sample())


def test_metadata_is_required_beside_what_the_kind_requires() -> None:
    whole = sample()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert whole["required"] == ["metadata", "spec"]
    assert whole["properties"]["metadata"] == {"type": "object"}


def test_the_status_is_a_subresource_only_where_the_kind_has_one() -> None:
    assert "subresources" not in sample()["spec"]["versions"][0]
    assert sample(status=True)["spec"]["versions"][0]["subresources"] == {"status": {}}


def test_a_text_may_have_an_open_lower_end() -> None:
    assert schema.text(length=(0, 5)) == {"type": "string", "maxLength": 5}
    assert schema.text(length=(1, 5)) == {"type": "string", "minLength": 1, "maxLength": 5}


def test_a_default_of_zero_or_false_is_said() -> None:
    assert schema.integer(default=0)["default"] == 0
    assert schema.boolean(default=False)["default"] is False
    assert "default" not in schema.boolean()


def test_rules_become_cel_validations() -> None:
    built = schema.record({}, rules=(("self.a", "a must be set"),))
    assert built["x-kubernetes-validations"] == [{"rule": "self.a", "message": "a must be set"}]


def test_wide_columns_carry_their_priority() -> None:
    wide = schema.Column(name="Size", type="integer", path=".spec.size", priority=1)
    columns = sample(columns=(schema.AGE, wide))["spec"]["versions"][0]["additionalPrinterColumns"]
    assert columns == [
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1},
    ]
