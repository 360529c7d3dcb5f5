"""What does the server's OpenAPI v3 document of one group and version say?

It holds what clients look for: the schemas of the kinds with their merge keys, and the paths of the resources
with the parameters that tell kubectl to leave validation to the server. Nothing is validated by these
documents here.
"""

from collections.abc import Mapping
from typing import Any

from lbipam.localapi.declarations import declared
from lbipam.localapi.resources import Registry, Resource, Version
from lbipam.localapi.schema import Schema

_METADATA = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_PATCH_TYPES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
)
_STRATEGIC = "application/strategic-merge-patch+json"
"""Only built-in kinds take it; kubectl reads here which patch it may send."""


def path_of(group: str, version: str) -> str:
    """The path of a group and version, without a slash in front."""
    return f"apis/{group}/{version}" if group else f"api/{version}"


def index(versions: Mapping[str, list[str]], revision: int) -> dict[str, Any]:
    """The answer to `/openapi/v3`: where the documents are. The revision lets clients keep what has not changed."""
    paths = {
        path_of(group, version): {
            "serverRelativeURL": f"/openapi/v3/{path_of(group, version)}?hash={revision}"
        }
        for group, names in versions.items()
        for version in names
    }
    return {"paths": paths}


def document(registry: Registry, group: str, version: str) -> dict[str, Any]:
    """The document of one group and version."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for resource in registry.groups().get(group, ()):
        found = resource.versions.get(version)
        if found is not None and found.served:
            name = _add_kind(schemas, resource, found)
            paths.update(_paths(resource, version, name))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _kind(resource: Resource, version: str) -> dict[str, str]:
    return {"group": resource.group, "version": version, "kind": resource.kind}


def _add_kind(schemas: dict[str, Any], resource: Resource, version: Version) -> str:
    """Add the schema of a kind and of its list; returns the kind's name among the schemas."""
    if version.openapi is None:
        name = _add_declared(schemas, version.schema)
    else:
        name = f"{'.'.join(reversed(resource.group.split('.')))}.{version.name}.{resource.kind}"
        _add_declared(schemas, declared("meta.v1.ObjectMeta"))
        properties = {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            **version.openapi.get("properties", {}),
            "metadata": {"allOf": [{"$ref": f"#/components/schemas/{_METADATA}"}]},
        }
        schemas[name] = {**version.openapi, "properties": properties}
    kind = _kind(resource, version.name)
    schemas[name]["x-kubernetes-group-version-kind"] = [kind]
    schemas[f"{name}List"] = {
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "items": {"type": "array", "items": {"$ref": f"#/components/schemas/{name}"}},
        },
        "x-kubernetes-group-version-kind": [{**kind, "kind": resource.list_kind}],
    }
    return name


def _full_name(name: str) -> str:
    if name.startswith("meta."):
        return f"io.k8s.apimachinery.pkg.apis.{name}"
    if name.startswith("apiextensions."):
        return f"io.k8s.apiextensions-apiserver.pkg.apis.{name}"
    return f"io.k8s.api.{name}"


def _add_declared(schemas: dict[str, Any], schema: Schema) -> str:
    name = _full_name(schema.name)
    if name not in schemas:
        text: dict[str, Any] = {"type": "object", "description": schema.description}
        schemas[name] = text
        if schema.required:
            text["required"] = list(schema.required)
        if schema.is_atomic:
            text["x-kubernetes-map-type"] = "atomic"
        text["properties"] = {field: _text(schemas, below) for field, below in schema.properties.items()}
    return name


_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"


def _text(schemas: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """A schema as OpenAPI; named types become references."""
    text: dict[str, Any] = {"description": schema.description} if schema.description else {}
    if schema.name:
        name = _add_declared(schemas, declared(schema.name))
        return {**text, "allOf": [{"$ref": f"#/components/schemas/{name}"}], "default": {}}
    if schema.type == "int-or-string":
        schemas[_INT_OR_STRING] = {
            "format": "int-or-string",
            "oneOf": [{"type": "integer"}, {"type": "string"}],
        }
        return {**text, "allOf": [{"$ref": f"#/components/schemas/{_INT_OR_STRING}"}]}
    text["type"] = schema.type or "object"
    if schema.format:
        text["format"] = "date-time" if schema.format == "micro-time" else schema.format
    if schema.items is not None:
        text |= _list_text(schemas, schema, schema.items)
    if schema.additional is not None:
        text["additionalProperties"] = _text(schemas, schema.additional)
        if schema.is_atomic:
            text["x-kubernetes-map-type"] = "atomic"
    return text


def _list_text(schemas: dict[str, Any], schema: Schema, items: Schema) -> dict[str, Any]:
    text: dict[str, Any] = {"items": _text(schemas, items), "x-kubernetes-list-type": schema.list_type}
    if schema.list_keys:
        text["x-kubernetes-list-map-keys"] = list(schema.list_keys)
    if schema.merge_key:
        text["x-kubernetes-patch-merge-key"] = schema.merge_key
    if schema.merge_key or schema.merges_values:
        text["x-kubernetes-patch-strategy"] = "merge"
    return text


def _paths(resource: Resource, version: str, name: str) -> dict[str, Any]:
    root = f"/{path_of(resource.group, version)}"
    collection = (
        f"{root}/namespaces/{{namespace}}/{resource.plural}"
        if resource.namespaced
        else f"{root}/{resource.plural}"
    )
    kind = _kind(resource, version)
    body = {"schema": {"$ref": f"#/components/schemas/{name}"}}

    def operation(action: str, *parameters: str, body_types: tuple[str, ...] = ()) -> dict[str, Any]:
        told: dict[str, Any] = {
            "parameters": [
                {"name": each, "in": "query", "schema": {"type": "string"}} for each in parameters
            ],
            "responses": {"200": {"description": "OK", "content": {"application/json": body}}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind,
        }
        if body_types:
            told["requestBody"] = {"content": dict.fromkeys(body_types, body)}
        return told

    write = ("dryRun", "fieldManager", "fieldValidation")
    one = {
        "get": operation("get"),
        "put": operation("put", *write, body_types=("*/*",)),
        "patch": operation(
            "patch",
            *write,
            "force",
            body_types=_PATCH_TYPES if resource.custom else (*_PATCH_TYPES, _STRATEGIC),
        ),
        "delete": operation("delete", "dryRun", "propagationPolicy"),
    }
    paths = {
        collection: {
            "get": operation("list", "labelSelector", "fieldSelector", "limit", "continue", "watch"),
            "post": operation("post", *write, body_types=("*/*",)),
            "delete": operation("deletecollection", "labelSelector", "fieldSelector"),
        },
        f"{collection}/{{name}}": one,
    }
    if resource.has_status:
        paths[f"{collection}/{{name}}/status"] = {verb: one[verb] for verb in ("get", "put", "patch")}
    return paths
