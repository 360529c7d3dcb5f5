"""What may an object of a kind hold, and what is missing or too much in this one?

A `Schema` is a structural schema of Kubernetes (apiextensions/v1): it says which fields there are, how lists
and maps merge, and what values are valid. It is read from a CRD's `openAPIV3Schema` or from the declarations
of the built-in kinds. Cross-field rules of built-in kinds are not told here.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from lbipam.localapi import formats, refusals
from lbipam.localapi.refusals import Problem

_ABSENT: Any = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """A rule of `x-kubernetes-validations`."""

    rule: str
    message: str = ""
    reason: str = "FieldValueInvalid"
    field_path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schema:
    """What one value may be; the defaults of the fields allow everything."""

    type: str = ""
    """A JSON type, `int-or-string`, or empty for any."""
    format: str = ""
    properties: Mapping[str, "Schema"] = field(default_factory=dict)
    additional: "Schema | None" = None
    """Schema of the values of a map; `None` when only `properties` may occur."""
    items: "Schema | None" = None
    required: tuple[str, ...] = ()
    preserve_unknown: bool = False
    embedded: bool = False
    """Whether the value is a whole Kubernetes object."""
    nullable: bool = False
    default: Any = None
    list_type: str = "atomic"
    """`atomic`, `set` or `map`: how a list merges."""
    list_keys: tuple[str, ...] = ()
    merge_key: str = ""
    """What strategic merge patch merges a list of objects by; empty when it replaces the list."""
    merges_values: bool = False
    """Whether strategic merge patch unites a list of plain values instead of replacing it."""
    map_type: str = "granular"
    enum: tuple[Any, ...] = ()
    pattern: re.Pattern[str] | None = None
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    multiple_of: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    min_items: int | None = None
    max_items: int | None = None
    unique_items: bool = False
    min_properties: int | None = None
    max_properties: int | None = None
    all_of: tuple["Schema", ...] = ()
    any_of: tuple["Schema", ...] = ()
    one_of: tuple["Schema", ...] = ()
    negated: "Schema | None" = None
    invariants: tuple[Invariant, ...] = ()
    has_invariants: bool = False
    """Whether there are invariants here or anywhere below."""
    name: str = ""
    """Name of the declared type, for built-in kinds."""
    description: str = ""

    @property
    def is_atomic(self) -> bool:
        """Whether a map has one owner as a whole."""
        return self.map_type == "atomic"

    def member(self, name: str) -> "Schema":
        """The schema of a field or map entry; one that allows everything when none is told."""
        return self.properties.get(name) or self.additional or ANYTHING

    def item(self) -> "Schema":
        """The schema of the items of a list."""
        return self.items or ANYTHING


ANYTHING = Schema(preserve_unknown=True)


def from_openapi(text: Mapping[str, Any]) -> Schema:
    """Read a `JSONSchemaProps`; keywords that it does not know are ignored."""
    additional = text.get("additionalProperties")
    negated = text.get("not")
    kind = text.get("type", "")
    properties = {name: from_openapi(below) for name, below in text.get("properties", {}).items()}
    values = from_openapi(additional) if isinstance(additional, dict) else ANYTHING if additional else None
    items = from_openapi(text["items"]) if text.get("items") else None
    invariants = tuple(_invariant(each) for each in text.get("x-kubernetes-validations", ()))
    below = (*properties.values(), *(each for each in (values, items) if each is not None))
    return Schema(
        type="int-or-string" if text.get("x-kubernetes-int-or-string") else kind,
        format=text.get("format", ""),
        properties=properties,
        additional=values,
        items=items,
        required=tuple(text.get("required", ())),
        preserve_unknown=bool(text.get("x-kubernetes-preserve-unknown-fields")) or not (kind or text),
        embedded=bool(text.get("x-kubernetes-embedded-resource")),
        nullable=bool(text.get("nullable")),
        default=text.get("default"),
        list_type=text.get("x-kubernetes-list-type", "atomic"),
        list_keys=tuple(text.get("x-kubernetes-list-map-keys", ())),
        map_type=text.get("x-kubernetes-map-type", "granular"),
        enum=tuple(text.get("enum") or ()),
        pattern=re.compile(text["pattern"]) if text.get("pattern") else None,
        minimum=text.get("minimum"),
        maximum=text.get("maximum"),
        exclusive_minimum=bool(text.get("exclusiveMinimum")),
        exclusive_maximum=bool(text.get("exclusiveMaximum")),
        multiple_of=text.get("multipleOf"),
        min_length=text.get("minLength"),
        max_length=text.get("maxLength"),
        min_items=text.get("minItems"),
        max_items=text.get("maxItems"),
        unique_items=bool(text.get("uniqueItems")),
        min_properties=text.get("minProperties"),
        max_properties=text.get("maxProperties"),
        all_of=tuple(from_openapi(each) for each in text.get("allOf", ())),
        any_of=tuple(from_openapi(each) for each in text.get("anyOf", ())),
        one_of=tuple(from_openapi(each) for each in text.get("oneOf", ())),
        negated=from_openapi(negated) if negated else None,
        invariants=invariants,
        has_invariants=bool(invariants) or any(each.has_invariants for each in below),
        description=text.get("description", ""),
    )


def _invariant(text: Mapping[str, Any]) -> Invariant:
    return Invariant(
        rule=text.get("rule", ""),
        message=text.get("message", ""),
        reason=text.get("reason", "FieldValueInvalid"),
        field_path=text.get("fieldPath", ""),
    )


def prune(value: Any, schema: Schema, path: str = "") -> list[str]:
    """Drop what the schema does not know from `value`, in place; returns the paths of what was dropped."""
    if isinstance(value, dict):
        return _prune_map(value, schema, path)
    if isinstance(value, list) and schema.items is not None:
        dropped = []
        for index, item in enumerate(value):
            dropped += prune(item, schema.items, f"{path}[{index}]")
        return dropped
    return []


def _prune_map(value: dict[str, Any], schema: Schema, path: str) -> list[str]:
    dropped: list[str] = []
    for name in list(value):
        below = schema.properties.get(name) or schema.additional
        inside = f"{path}.{name}" if path else name
        if below is not None:
            inner = value[name]
            if isinstance(inner, (dict, list)):
                dropped += prune(inner, below, inside)
        elif not (
            schema.preserve_unknown or (schema.embedded and name in ("apiVersion", "kind", "metadata"))
        ):
            del value[name]
            dropped.append(inside)
    return dropped


def set_defaults(value: Any, schema: Schema) -> None:
    """Fill in the defaults that are missing from `value`, in place."""
    if isinstance(value, dict):
        for name, below in schema.properties.items():
            present = value.get(name, _ABSENT)
            if below.default is not None and (present is _ABSENT or (present is None and not below.nullable)):
                value[name] = copy.deepcopy(below.default)
            if isinstance(inner := value.get(name), (dict, list)):
                set_defaults(inner, below)
        if schema.additional is not None:
            for name, inner in value.items():
                if name not in schema.properties and isinstance(inner, (dict, list)):
                    set_defaults(inner, schema.additional)
    elif isinstance(value, list) and schema.items is not None:
        for item in value:
            set_defaults(item, schema.items)


def problems(value: Any, schema: Schema, path: str = "") -> Iterator[Problem]:
    """What is wrong with `value`; nothing when it is valid."""
    if value is None:
        if not schema.nullable and schema.type:
            yield _not_of_type(value, schema, path)
        return
    if schema.type and not _has_type(value, schema.type):
        yield _not_of_type(value, schema, path)
        return
    if schema.enum and value not in schema.enum:
        yield refusals.unsupported(path, value, schema.enum)
    if isinstance(value, dict):
        yield from _map_problems(value, schema, path)
    elif isinstance(value, list):
        yield from _list_problems(value, schema, path)
    elif isinstance(value, str):
        yield from _string_problems(value, schema, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _number_problems(value, schema, path)
    yield from _logic_problems(value, schema, path)


def _has_type(value: Any, kind: str) -> bool:
    match kind:
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return (
                isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            ) and not isinstance(value, bool)
        case "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case _:
            return isinstance(value, (int, str)) and not isinstance(value, bool)


_JSON_TYPES = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}


def _not_of_type(value: Any, schema: Schema, path: str) -> Problem:
    found = _JSON_TYPES.get(type(value), "null")
    wanted = "integer or string" if schema.type == "int-or-string" else schema.type
    return refusals.wrong_type(path, found, f'{path} in body must be of type {wanted}: "{found}"')


def _map_problems(value: dict[str, Any], schema: Schema, path: str) -> Iterator[Problem]:
    prefix = f"{path}." if path else ""
    for name in schema.required:
        if name not in value:
            yield refusals.required(f"{prefix}{name}")
    count = len(value)
    if schema.min_properties is not None and count < schema.min_properties:
        yield refusals.invalid_value(
            path, value, f"{path} in body should have at least {schema.min_properties} properties"
        )
    if schema.max_properties is not None and count > schema.max_properties:
        yield refusals.too_many(path, count, schema.max_properties)
    for name, inner in value.items():
        below = schema.properties.get(name) or schema.additional
        if below is not None:
            yield from problems(inner, below, f"{prefix}{name}")


def _list_problems(value: list[Any], schema: Schema, path: str) -> Iterator[Problem]:
    if schema.min_items is not None and len(value) < schema.min_items:
        yield refusals.invalid_value(
            path, len(value), f"{path} in body should have at least {schema.min_items} items"
        )
    if schema.max_items is not None and len(value) > schema.max_items:
        yield refusals.too_many(path, len(value), schema.max_items)
    if schema.list_type in ("set", "map") or schema.unique_items:
        yield from _duplicates(value, schema, path)
    if schema.items is not None:
        for index, item in enumerate(value):
            yield from problems(item, schema.items, f"{path}[{index}]")


def _duplicates(value: list[Any], schema: Schema, path: str) -> Iterator[Problem]:
    seen: set[bytes] = set()
    for index, item in enumerate(value):
        identity = item
        if schema.list_type == "map":
            if not isinstance(item, dict):
                continue
            identity = {key: item[key] for key in schema.list_keys if key in item}
        known = msgspec.json.encode(identity, order="deterministic")
        if known in seen:
            yield refusals.duplicate(f"{path}[{index}]", identity)
        seen.add(known)


def _string_problems(value: str, schema: Schema, path: str) -> Iterator[Problem]:
    if schema.min_length is not None and len(value) < schema.min_length:
        yield refusals.invalid_value(
            path, value, f"{path} in body should be at least {schema.min_length} chars long"
        )
    if schema.max_length is not None and len(value) > schema.max_length:
        yield refusals.too_long(path, schema.max_length)
    if schema.pattern is not None and not schema.pattern.search(value):
        yield refusals.invalid_value(path, value, f"{path} in body should match '{schema.pattern.pattern}'")
    check = formats.CHECKS.get(schema.format)
    if check is not None and not check(value):
        why = f"{path} in body must be of type {schema.format}: {refusals.shown(value)}"
        yield refusals.invalid_value(path, value, why)


def _number_problems(value: float, schema: Schema, path: str) -> Iterator[Problem]:
    low, high = schema.minimum, schema.maximum
    if low is not None and (value < low or (schema.exclusive_minimum and value == low)):
        bound = "greater than" if schema.exclusive_minimum else "greater than or equal to"
        yield refusals.invalid_value(path, value, f"{path} in body should be {bound} {low}")
    if high is not None and (value > high or (schema.exclusive_maximum and value == high)):
        bound = "less than" if schema.exclusive_maximum else "less than or equal to"
        yield refusals.invalid_value(path, value, f"{path} in body should be {bound} {high}")
    if schema.multiple_of and value % schema.multiple_of:
        yield refusals.invalid_value(
            path, value, f"{path} in body should be a multiple of {schema.multiple_of}"
        )
    limit = {"int32": 1 << 31, "int64": 1 << 63}.get(schema.format)
    if limit is not None and not -limit <= value < limit:
        why = f"{path} in body must be of type {schema.format}: {refusals.shown(value)}"
        yield refusals.invalid_value(path, value, why)


def _logic_problems(value: Any, schema: Schema, path: str) -> Iterator[Problem]:
    for each in schema.all_of:
        yield from problems(value, each, path)
    if schema.any_of and not any(_is_valid(value, each) for each in schema.any_of):
        yield refusals.invalid_value(path, value, f"{path} in body must validate at least one schema (anyOf)")
    if schema.one_of and sum(_is_valid(value, each) for each in schema.one_of) != 1:
        yield refusals.invalid_value(
            path, value, f"{path} in body must validate one and only one schema (oneOf)"
        )
    if schema.negated is not None and _is_valid(value, schema.negated):
        yield refusals.invalid_value(path, value, f"{path} in body must not validate the schema (not)")


def _is_valid(value: Any, schema: Schema) -> bool:
    return next(problems(value, schema), None) is None
