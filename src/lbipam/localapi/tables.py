"""How is an object or a list printed as a Table?

A Table has the columns of the resource's version and, for each object, a row of cells with the object's
metadata. What built-in kinds show is told in `columns`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from lbipam.localapi import columns, jsonpath
from lbipam.localapi.resources import Column, Object, Resource, Version

TABLE = {"kind": "Table", "apiVersion": "meta.k8s.io/v1"}


def printer_columns(declared: Iterable[Mapping[str, Any]]) -> tuple[Column, ...]:
    """The columns of a custom resource: its name, then those that its CRD states, or its age when it states none."""
    stated = tuple(
        Column(
            name=each["name"],
            type=each["type"],
            cell=_cell(each["jsonPath"], each["type"]),
            priority=each.get("priority", 0),
            format=each.get("format", ""),
            description=each.get("description", ""),
        )
        for each in declared
    )
    return (columns.NAME, *(stated or (columns.AGE,)))


def _cell(text: str, kind: str) -> Any:
    """What a printer column shows: the first value at the path, or nothing."""
    path = jsonpath.parse(text)

    def cell(value: Object) -> Any:
        inner = next(iter(path.find(value)), None)
        if kind == "date":
            return columns.age(inner) if inner else "<unknown>"
        if isinstance(inner, (dict, list)) or (kind == "string" and isinstance(inner, (bool, int, float))):
            return msgspec.json.encode(inner).decode()
        return inner

    return cell


def definitions(version: Version) -> list[dict[str, Any]]:
    """The column definitions of a Table."""
    return [
        {
            "name": column.name,
            "type": column.type,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        }
        for column in version.columns
    ]


def row(resource: Resource, version: Version, value: Object, include: str) -> dict[str, Any]:
    """The row of one object; `include` tells what of it goes along: `None`, `Metadata` or `Object`."""
    cells = {"cells": [column.cell(value) for column in version.columns]}
    match include:
        case "None":
            return cells
        case "Object":
            shown = {"kind": resource.kind, "apiVersion": resource.api_version(version.name), **value}
            return {**cells, "object": shown}
        case _:
            return {**cells, "object": partial(value)}


def partial(value: Object) -> dict[str, Any]:
    """The object's metadata alone, as a `PartialObjectMetadata`."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": value["metadata"]}


def table(
    resource: Resource,
    version: Version,
    values: Iterable[Object],
    metadata: Mapping[str, Any],
    include: str,
    *,
    with_definitions: bool = True,
) -> dict[str, Any]:
    """The Table of some objects."""
    return {
        **TABLE,
        "metadata": metadata,
        "columnDefinitions": definitions(version) if with_definitions else None,
        "rows": [row(resource, version, value, include) for value in values],
    }
