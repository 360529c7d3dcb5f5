from typing import Any

from lbipam.localapi import invariants
from lbipam.localapi.schema import from_openapi


def form(rule: str, **more: Any) -> Any:
    peer = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "a": {"type": "integer"}, "b": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": rule, "message": "no good", **more}],
    }
    peers = {
        "type": "array",
        "items": peer,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }
    return from_openapi({"type": "object", "properties": {"peers": peers}})


def told(value: Any, old: Any, schema: Any) -> list[str]:
    return [f"{each.field}: {each.message}" for each in invariants.broken(value, old, schema)]


def test_a_broken_rule_is_told_with_its_message_and_place() -> None:
    value = {"peers": [{"name": "x", "a": 1, "b": 2}, {"name": "y", "a": 3, "b": 2}]}
    assert told(value, None, form("self.a <= self.b")) == ['peers[1]: Invalid value: "object": no good']


def test_a_rule_that_cannot_be_evaluated_is_broken() -> None:
    assert (
        "rule evaluation error: no such key: a"
        in told({"peers": [{"name": "x"}]}, None, form("self.a == 1"))[0]
    )


def test_a_rule_on_changes_holds_for_the_same_item_only() -> None:
    old = {"peers": [{"name": "x", "a": 1}, {"name": "y", "a": 2}]}
    schema = form("self.a == oldSelf.a", fieldPath=".a", reason="FieldValueForbidden")
    assert told({"peers": [{"name": "y", "a": 2}, {"name": "z", "a": 9}]}, old, schema) == []
    assert told({"peers": [{"name": "y", "a": 3}]}, old, schema) == [
        'peers[0].a: Invalid value: "object": no good'
    ]
    assert told({"peers": [{"name": "y", "a": 3}]}, None, schema) == []


def test_a_rule_that_is_not_known_is_not_enforced() -> None:
    assert told({"peers": [{"name": "x"}]}, None, form("quantity(self.a).isLessThan(quantity('1'))")) == []
