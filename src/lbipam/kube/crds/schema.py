"""How is a CustomResourceDefinition spelled: structural schemas, versions, columns?

Builders for the OpenAPI v3 subset that the API server calls structural, and for the definition around it.
What is not said is left out, so that a definition reads back from the server as it was sent. This file
knows no kind.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

QUALIFIED_NAME = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
)
LABEL_VALUE = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
CONDITION_REASON = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"


def text(
    description: str = "",
    *,
    enum: Sequence[str] = (),
    pattern: str = "",
    form: str = "",
    length: tuple[int, int] | None = None,
    default: str | None = None,
) -> Schema:
    """A string; `form` is OpenAPI's `format`, `length` the least and greatest number of characters."""
    schema: Schema = {"type": "string"}
    if enum:
        schema["enum"] = list(enum)
    if pattern:
        schema["pattern"] = pattern
    if form:
        schema["format"] = form
    if length is not None:
        least, most = length
        schema |= {"minLength": least} if least else {}
        schema["maxLength"] = most
    return _told(schema, description, default)


def integer(
    description: str = "",
    *,
    bounds: tuple[int, int] | None = None,
    default: int | None = None,
    least: int | None = None,
) -> Schema:
    """A whole number of 64 bits; `bounds` are inclusive, `least` alone leaves the upper end open."""
    schema: Schema = {"type": "integer", "format": "int64"}
    if bounds is not None:
        schema["minimum"], schema["maximum"] = bounds
    if least is not None:
        schema["minimum"] = least
    return _told(schema, description, default)


def boolean(description: str = "", *, default: bool | None = None) -> Schema:
    """True or false."""
    return _told({"type": "boolean"}, description, default)


def array(
    items: Schema,
    description: str = "",
    *,
    size: tuple[int, int | None] = (0, None),
    map_keys: Sequence[str] = (),
    atomic: bool = False,
    default: list[Any] | None = None,
) -> Schema:
    """A list; with `map_keys` a list whose elements server-side apply merges by those fields."""
    schema: Schema = {"type": "array", "items": items}
    least, most = size
    if least:
        schema["minItems"] = least
    if most is not None:
        schema["maxItems"] = most
    if map_keys:
        schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(map_keys)}
    elif atomic:
        schema["x-kubernetes-list-type"] = "atomic"
    return _told(schema, description, default)


def record(
    properties: Mapping[str, Schema],
    description: str = "",
    *,
    required: Sequence[str] = (),
    rules: Iterable[tuple[str, str]] = (),
    atomic: bool = False,
) -> Schema:
    """An object with these fields; `rules` are CEL expressions, each with its message.

    Servers before Kubernetes 1.25 ignore the rules, so whoever reads the objects checks again.
    """
    schema: Schema = {"type": "object", "properties": dict(properties)}
    if required:
        schema["required"] = sorted(required)
    validations = [{"rule": rule, "message": message} for rule, message in rules]
    if validations:
        schema["x-kubernetes-validations"] = validations
    if atomic:
        schema["x-kubernetes-map-type"] = "atomic"
    return _told(schema, description, None)


def mapping(values: Schema, description: str = "") -> Schema:
    """An object with any field names, whose values follow one schema."""
    return _told({"type": "object", "additionalProperties": values}, description, None)


def label_selector(description: str) -> Schema:
    """Cilium's copy of `metav1.LabelSelector`."""
    requirement = record(
        {
            "key": text("Label the requirement is about."),
            "operator": text(enum=("In", "NotIn", "Exists", "DoesNotExist")),
            "values": array(
                text(), "Needed by In and NotIn, forbidden with Exists and DoesNotExist.", atomic=True
            ),
        },
        required=("key", "operator"),
    )
    return record(
        {
            "matchLabels": mapping(
                text(pattern=LABEL_VALUE, length=(0, 63)), "Labels that must all have these values."
            ),
            "matchExpressions": array(requirement, "Requirements that must all be met.", atomic=True),
        },
        description,
        atomic=True,
    )


def conditions(description: str = "State of the object as its controllers see it.") -> Schema:
    """A list of `metav1.Condition`, one per type, each type with its own writer."""
    condition = record(
        {
            "type": text(pattern=QUALIFIED_NAME, length=(0, 316)),
            "status": text(enum=("True", "False", "Unknown")),
            "reason": text(pattern=CONDITION_REASON, length=(1, 1024)),
            # Some builds of old API servers take an empty string in a custom resource for null.
            "message": {**text(length=(0, 32768)), "nullable": True},
            "lastTransitionTime": text(form="date-time"),
            "observedGeneration": integer(least=0),
        },
        required=("type", "status", "reason", "message", "lastTransitionTime"),
    )
    return array(condition, description, map_keys=("type",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of `kubectl get`; `type` is one of integer, number, string, boolean, date."""

    name: str
    type: str
    path: str
    priority: int = 0
    """Above 0: only with `-o wide`."""


AGE = Column(name="Age", type="date", path=".metadata.creationTimestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One served version of a kind; the schema is that of the whole object below its metadata."""

    name: str
    properties: Mapping[str, Schema]
    required: tuple[str, ...] = ("spec",)
    rules: tuple[tuple[str, str], ...] = ()
    columns: tuple[Column, ...] = (AGE,)
    status: bool = False
    """Whether the status is a subresource with writers of its own."""
    deprecated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What a cluster-scoped kind is called."""

    group: str
    kind: str
    plural: str
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()


def definition(names: Names, description: str, versions: Sequence[Version]) -> dict[str, Any]:
    """The CustomResourceDefinition of a cluster-scoped kind; the first version is the stored one."""
    spelled: dict[str, Any] = {
        "kind": names.kind,
        "listKind": f"{names.kind}List",
        "plural": names.plural,
        "singular": names.kind.lower(),
    }
    if names.short:
        spelled["shortNames"] = list(names.short)
    if names.categories:
        spelled["categories"] = list(names.categories)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.plural}.{names.group}"},
        "spec": {
            "group": names.group,
            "names": spelled,
            "scope": "Cluster",
            # Versions may share schemas; each gets its own copy, so that YAML prints without anchors.
            "versions": [
                copy.deepcopy(_version(version, description, storage=number == 0))
                for number, version in enumerate(versions)
            ],
        },
    }


def _version(version: Version, description: str, *, storage: bool) -> dict[str, Any]:
    envelope: dict[str, Schema] = {
        "apiVersion": text(),
        "kind": text(),
        "metadata": {"type": "object"},
    }
    written: dict[str, Any] = {
        "name": version.name,
        "served": True,
        "storage": storage,
        "schema": {
            "openAPIV3Schema": record(
                envelope | dict(version.properties),
                description,
                required=("metadata", *version.required),
                rules=version.rules,
            )
        },
        "additionalPrinterColumns": [_column(column) for column in version.columns],
    }
    if version.deprecated:
        written["deprecated"] = True
    if version.status:
        written["subresources"] = {"status": {}}
    return written


def _column(column: Column) -> dict[str, Any]:
    written: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return written | ({"priority": column.priority} if column.priority else {})


def _told(schema: Schema, description: str, default: object) -> Schema:
    if default is not None:
        schema["default"] = default
    return {"description": description, **schema} if description else schema
