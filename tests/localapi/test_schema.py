from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.localapi import schema


def told(value: Any, text: dict[str, Any]) -> list[str]:
    return [
        f"{each.field}: {each.message}" for each in schema.problems(value, schema.from_openapi(text), "f")
    ]


@pytest.mark.parametrize(
    ("text", "value", "wanted"),
    [
        ({"type": "string"}, 1, 'f: Invalid value: "integer": f in body must be of type string: "integer"'),
        (
            {"type": "boolean"},
            "yes",
            'f: Invalid value: "string": f in body must be of type boolean: "string"',
        ),
        ({"type": "integer"}, 1.5, 'f: Invalid value: "number": f in body must be of type integer: "number"'),
        (
            {"type": "integer"},
            True,
            'f: Invalid value: "boolean": f in body must be of type integer: "boolean"',
        ),
        ({"type": "object"}, [], 'f: Invalid value: "array": f in body must be of type object: "array"'),
        ({"type": "string"}, None, 'f: Invalid value: "null": f in body must be of type string: "null"'),
        (
            {"x-kubernetes-int-or-string": True},
            1.5,
            'f: Invalid value: "number": f in body must be of type integer or string: "number"',
        ),
        (
            {"type": "string", "enum": ["Yes", "No"]},
            "Maybe",
            'f: Unsupported value: "Maybe": supported values: "Yes", "No"',
        ),
        (
            {"type": "string", "pattern": "^a+$"},
            "b",
            "f: Invalid value: \"b\": f in body should match '^a+$'",
        ),
        (
            {"type": "string", "minLength": 2},
            "b",
            'f: Invalid value: "b": f in body should be at least 2 chars long',
        ),
        ({"type": "string", "maxLength": 2}, "bbb", "f: Too long: may not be more than 2 bytes"),
        (
            {"type": "string", "format": "cidr"},
            "10.0.0.0",
            'f: Invalid value: "10.0.0.0": f in body must be of type cidr: "10.0.0.0"',
        ),
        (
            {"type": "integer", "minimum": 1},
            0,
            "f: Invalid value: 0: f in body should be greater than or equal to 1",
        ),
        (
            {"type": "integer", "maximum": 1, "exclusiveMaximum": True},
            1,
            "f: Invalid value: 1: f in body should be less than 1",
        ),
        ({"type": "integer", "multipleOf": 5}, 7, "f: Invalid value: 7: f in body should be a multiple of 5"),
        (
            {"type": "integer", "format": "int32"},
            1 << 31,
            "f: Invalid value: 2147483648: f in body must be of type int32: 2147483648",
        ),
        (
            {"type": "array", "minItems": 1, "items": {}},
            [],
            "f: Invalid value: 0: f in body should have at least 1 items",
        ),
        ({"type": "array", "maxItems": 1, "items": {}}, [1, 2], "f: Too many: 2: must have at most 1 items"),
        (
            {"type": "array", "x-kubernetes-list-type": "set", "items": {}},
            ["a", "a"],
            'f[1]: Duplicate value: "a"',
        ),
        (
            {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k"],
                "items": {},
            },
            [{"k": 1}, {"k": 1, "v": 2}],
            'f[1]: Duplicate value: {"k":1}',
        ),
        ({"type": "object", "required": ["a"]}, {}, "f.a: Required value"),
        (
            {"type": "object", "maxProperties": 1},
            {"a": 1, "b": 2},
            "f: Too many: 2: must have at most 1 items",
        ),
        (
            {"type": "object", "properties": {"a": {"items": {"type": "string"}, "type": "array"}}},
            {"a": ["x", 1]},
            'f.a[1]: Invalid value: "integer": f.a[1] in body must be of type string: "integer"',
        ),
        (
            {"type": "object", "additionalProperties": {"type": "string"}},
            {"a": 1},
            'f.a: Invalid value: "integer": f.a in body must be of type string: "integer"',
        ),
    ],
)
def test_a_wrong_value_is_told_as_kubernetes_does(text: dict[str, Any], value: Any, wanted: str) -> None:
    assert told(value, text) == [wanted]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ({"type": "integer"}, 2.0),
        ({"type": "number"}, 1),
        ({"type": "string", "nullable": True}, None),
        ({"x-kubernetes-int-or-string": True}, "http"),
        ({"type": "string", "format": "unheard-of"}, "anything"),
        ({"x-kubernetes-preserve-unknown-fields": True}, {"a": [1, None]}),
        ({"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1, "b": 2}),
        ({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": 1}),
        ({"type": "object", "not": {"required": ["a"]}}, {"b": 1}),
        ({"type": "object", "allOf": [{"required": ["a"]}]}, {"a": 1}),
    ],
)
def test_a_right_value_is_let_through(text: dict[str, Any], value: Any) -> None:
    assert told(value, text) == []


@pytest.mark.parametrize(
    "text",
    [
        {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {"oneOf": [{"required": ["c"]}, {"minProperties": 1}]},
        {"not": {"required": ["c"]}},
        {"allOf": [{"required": ["a"]}]},
    ],
)
def test_logical_keywords_are_obeyed(text: dict[str, Any]) -> None:
    assert told({"c": 1}, {"type": "object", **text})


FORM = schema.from_openapi(
    {
        "type": "object",
        "properties": {
            "known": {"type": "string", "default": "d"},
            "inner": {
                "type": "object",
                "properties": {"x": {"type": "integer", "default": 1}},
                "default": {},
            },
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            "list": {
                "type": "array",
                "items": {"type": "object", "properties": {"y": {"type": "integer", "default": 2}}},
            },
            "map": {
                "type": "object",
                "additionalProperties": {"type": "object", "properties": {"z": {"default": 3}}},
            },
            "null": {"type": "string", "nullable": True, "default": "n"},
        },
    }
)


def test_unknown_fields_are_dropped_and_told() -> None:
    value = {
        "known": "a",
        "odd": 1,
        "free": {"any": 1},
        "list": [{"y": 1, "odd": 2}],
        "map": {"k": {"odd": 3}},
    }
    assert schema.prune(value, FORM) == ["odd", "list[0].odd", "map.k.odd"]
    assert value == {"known": "a", "free": {"any": 1}, "list": [{"y": 1}], "map": {"k": {}}}


def test_defaults_are_filled_in_at_every_depth() -> None:
    value: dict[str, Any] = {"list": [{}, {"y": 9}], "map": {"k": {}}, "known": None, "null": None}
    schema.set_defaults(value, FORM)
    assert value == {
        "list": [{"y": 2}, {"y": 9}],
        "map": {"k": {"z": 3}},
        "known": "d",
        "inner": {"x": 1},
        "null": None,
    }


def test_defaults_are_not_shared_between_objects() -> None:
    one: dict[str, Any] = {}
    other: dict[str, Any] = {}
    schema.set_defaults(one, FORM)
    one["inner"]["x"] = 7
    schema.set_defaults(other, FORM)
    assert other["inner"] == {"x": 1}


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=2),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["known", "inner", "x", "list", "y"]), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["known", "inner", "list", "map", "odd"]), VALUES))
def test_pruning_twice_drops_nothing_more(value: dict[str, Any]) -> None:
    schema.prune(value, FORM)
    assert schema.prune(value, FORM) == []
