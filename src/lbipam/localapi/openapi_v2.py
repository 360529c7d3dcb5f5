"""What does the server's OpenAPI v2 document of all groups and versions say?

kubectl reads it before it applies a `List`, and before Kubernetes 1.27 for everything else, too. It is made
from the documents of version 3, and like them holds what clients look for. Its bytes are made in
`openapi_protobuf`.
"""

from collections.abc import Mapping
from typing import Any

from lbipam.localapi import discovery, openapi
from lbipam.localapi.resources import Registry

_KEPT = ("description", "format", "type", "required")
_OF_SCHEMAS = "#/components/schemas/"


def document(registry: Registry) -> dict[str, Any]:
    """The whole document, as JSON values."""
    definitions: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for group, versions in discovery.group_versions(registry).items():
        for version in versions:
            told = openapi.document(registry, group, version)
            for name, schema in told["components"]["schemas"].items():
                definitions[name] = _schema(schema)
            for path, operations in told["paths"].items():
                paths[path] = {method: _operation(each) for method, each in operations.items()}
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "definitions": definitions,
    }


def _schema(text: Mapping[str, Any]) -> dict[str, Any]:
    """A schema as version 2 has it; what it cannot say, such as null or one of several types, becomes anything."""
    reference = _reference(text)
    if reference:
        return {key: text[key] for key in ("description",) if key in text} | {"$ref": reference}
    told = {key: text[key] for key in _KEPT if key in text}
    told |= {key: value for key, value in text.items() if key.startswith("x-")}
    if text.get("format") == "int-or-string":
        return told | {"type": "string"}
    if text.get("nullable") or text.get("x-kubernetes-int-or-string"):
        told.pop("type", None)
        return told
    if isinstance(text.get("additionalProperties"), dict):
        told["additionalProperties"] = _schema(text["additionalProperties"])
    if "items" in text:
        told["items"] = _schema(text["items"])
    if text.get("properties") and not text.get("x-kubernetes-preserve-unknown-fields"):
        told["properties"] = {name: _schema(below) for name, below in text["properties"].items()}
    return told


def _reference(text: Mapping[str, Any]) -> str:
    """The definition that a schema stands for, if that is all it does."""
    (only,) = text.get("allOf", ()) if len(text.get("allOf", ())) == 1 else ({},)
    found = str(text.get("$ref") or only.get("$ref", ""))
    return found.replace(_OF_SCHEMAS, "#/definitions/")


def _operation(text: Mapping[str, Any]) -> dict[str, Any]:
    """An operation with the parameters of its query; bodies are left out."""
    told = {key: value for key, value in text.items() if key.startswith("x-")}
    told["parameters"] = [
        {"name": each["name"], "in": each["in"], "type": each["schema"]["type"]}
        for each in text["parameters"]
    ]
    told["responses"] = {
        code: {"description": each["description"]} for code, each in text["responses"].items()
    }
    if "requestBody" in text:
        told["consumes"] = list(text["requestBody"]["content"])
    return told
