"""What does a CustomResourceDefinition define, and is it one that can be accepted?

It gives the resource that a CRD stands for, with schemas, columns and names, and says what is wrong with a
CRD (the rules of apiextensions/v1, structural schemas included). Serving the resource is up to the registry;
CEL rules are told in `cel`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lbipam.localapi import columns, discovery, formats, jsonpath, refusals, tables
from lbipam.localapi.builtins import built_in
from lbipam.localapi.declarations import declared
from lbipam.localapi.metadata import now
from lbipam.localapi.refusals import Problem
from lbipam.localapi.resources import Object, Registry, Resource, Rules, Version
from lbipam.localapi.schema import Schema, from_openapi

GROUP = "apiextensions.k8s.io"
PLURAL = "customresourcedefinitions"
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
"""The finalizer of a CRD that is going."""


def definitions(registry: Registry, committed: Callable[[Object | None, Object | None], None]) -> Resource:
    """The resource of CRDs themselves; `committed` is told of every change to one."""

    def prepare(new: Object, old: Object | None) -> None:
        new["status"] = _status(new, old, registry)

    return built_in(
        "CustomResourceDefinition",
        group=GROUP,
        declaration="apiextensions.v1.CustomResourceDefinition",
        plural=PLURAL,
        namespaced=False,
        short_names=("crd", "crds"),
        categories=("api-extensions",),
        has_status=True,
        counts_generations=True,
        shown=columns.DEFINITIONS,
        initial={"metadata": {}, "spec": {}, "status": {}},
        rules=Rules(
            complete=_complete, prepare=prepare, problems=_problems, detain=_detain, committed=committed
        ),
    )


def is_established(definition: Object) -> bool:
    """Whether objects of the kind may be written."""
    conditions = definition.get("status", {}).get("conditions", ())
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


def resource_of(definition: Object) -> Resource:
    """The resource that an accepted CRD defines."""
    spec = definition["spec"]
    names = spec["names"]
    versions = {version["name"]: _version(version, spec) for version in spec["versions"]}
    return Resource(
        group=spec["group"],
        plural=names["plural"],
        singular=names["singular"],
        kind=names["kind"],
        list_kind=names["listKind"],
        namespaced=spec["scope"] == "Namespaced",
        versions=versions,
        short_names=tuple(names.get("shortNames", ())),
        categories=tuple(names.get("categories", ())),
        has_status=any("status" in version.get("subresources", {}) for version in spec["versions"]),
        custom=True,
        counts_generations=True,
        why_not_name=formats.why_not_dns_subdomain,
        initial={"metadata": {}},
    )


def _version(version: Mapping[str, Any], spec: Mapping[str, Any]) -> Version:
    openapi = version["schema"]["openAPIV3Schema"]
    deprecation = ""
    if version.get("deprecated"):
        deprecation = version.get("deprecationWarning") or _deprecation(version["name"], spec)
    return Version(
        name=version["name"],
        schema=_whole(from_openapi(openapi)),
        served=version.get("served", False),
        deprecation=deprecation,
        openapi=openapi,
        columns=tables.printer_columns(version.get("additionalPrinterColumns", ())),
        selectable={
            each["jsonPath"].removeprefix("."): jsonpath.parse(each["jsonPath"])
            for each in version.get("selectableFields", ())
        },
    )


def _deprecation(version: str, spec: Mapping[str, Any]) -> str:
    """What users of a deprecated version are told, and which version they are pointed to."""
    group, kind = spec["group"], spec["names"]["kind"]
    better = [each["name"] for each in spec["versions"] if each.get("served") and not each.get("deprecated")]
    best = max(better, key=discovery.stability, default=None)
    instead = f"; use {group}/{best} {kind}" if best else ""
    return f"{group}/{version} {kind} is deprecated{instead}"


def _whole(stated: Schema) -> Schema:
    """The schema of the whole object: what the CRD states, and the metadata that every object has."""
    properties = {
        name: each for name, each in stated.properties.items() if name not in ("apiVersion", "kind")
    }
    return Schema(
        type="object",
        properties={**properties, "metadata": declared("meta.v1.ObjectMeta")},
        required=tuple(name for name in stated.required if name not in ("apiVersion", "kind")),
        preserve_unknown=stated.preserve_unknown,
        all_of=stated.all_of,
        any_of=stated.any_of,
        one_of=stated.one_of,
        negated=stated.negated,
        invariants=stated.invariants,
        has_invariants=stated.has_invariants,
        description=stated.description,
    )


def _complete(new: Object, _old: Object | None) -> None:
    spec = new.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if names.get("kind"):
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", f"{names['kind']}List")
    spec.setdefault("conversion", {"strategy": "None"})
    if not spec.get("preserveUnknownFields", True):
        del spec["preserveUnknownFields"]


def _detain(value: Object) -> None:
    finalizers = value["metadata"].setdefault("finalizers", [])
    if CLEANUP not in finalizers and "deletionTimestamp" not in value["metadata"]:
        finalizers.append(CLEANUP)


def _status(new: Object, old: Object | None, registry: Registry) -> Object:
    """The status that Kubernetes' CRD controllers come to, all at once."""
    spec = new["spec"]
    why = _why_names_are_taken(new, registry)
    before = (old or {}).get("status", {})
    stored = list(before.get("storedVersions", ()))
    storage = [version.get("name", "") for version in spec.get("versions", ()) if version.get("storage")]
    accepted = ("False", why[0], why[1]) if why else ("True", "NoConflicts", "no conflicts found")
    established = (
        ("False", "NotAccepted", "not all names are accepted")
        if why
        else ("True", "InitialNamesAccepted", "the initial names have been accepted")
    )
    wanted = {"NamesAccepted": accepted, "Established": established}
    if "deletionTimestamp" in new["metadata"]:
        wanted["Terminating"] = (
            "True",
            "InstanceDeletionInProgress",
            "CustomResource deletion is in progress",
        )
    return {
        "acceptedNames": before.get("acceptedNames", {"kind": "", "plural": ""})
        if why
        else dict(spec["names"]),
        "conditions": [_condition(kind, *told, before) for kind, told in wanted.items()],
        "storedVersions": stored + [name for name in storage if name not in stored],
    }


def _condition(kind: str, status: str, reason: str, message: str, before: Object) -> Object:
    known = next((each for each in before.get("conditions", ()) if each["type"] == kind), None)
    since = known["lastTransitionTime"] if known and known["status"] == status else now()
    return {"type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message}


def _why_names_are_taken(new: Object, registry: Registry) -> tuple[str, str] | None:
    """The reason and message when another resource of the group has one of the names."""
    spec = new["spec"]
    names = spec.get("names", {})
    words = {names.get("plural"), names.get("singular"), *names.get("shortNames", ())}
    for other in registry:
        if other.group != spec.get("group") or other.plural == names.get("plural"):
            continue
        for word in sorted(words & {other.plural, other.singular, *other.short_names}):
            return "NameConflict", f"{refusals.shown(word)} is already in use"
        if {names.get("kind"), names.get("listKind")} & {other.kind, other.list_kind}:
            return "KindConflict", f"{refusals.shown(names.get('kind'))} is already in use"
    return None


def _problems(new: Object, old: Object | None) -> Iterator[Problem]:
    spec = new["spec"]
    yield from _name_problems(new["metadata"]["name"], spec)
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        yield refusals.unsupported("spec.scope", spec.get("scope", ""), ("Cluster", "Namespaced"))
    if spec["conversion"].get("strategy") != "None":
        yield refusals.unsupported("spec.conversion.strategy", spec["conversion"].get("strategy"), ("None",))
    yield from _version_problems(spec.get("versions", ()))
    if old is not None and is_established(old):
        for field in ("group", "scope"):
            if old["spec"][field] != spec.get(field):
                yield refusals.invalid_value(f"spec.{field}", spec.get(field), "field is immutable")


def _name_problems(name: str, spec: Object) -> Iterator[Problem]:
    names = spec["names"]
    group, plural = spec.get("group", ""), names.get("plural", "")
    stated = (("spec.group", group), ("spec.names.plural", plural), ("spec.names.kind", names.get("kind")))
    for field, value in stated:
        if not value:
            yield refusals.required(field)
    if name != f"{plural}.{group}":
        yield refusals.invalid_value("metadata.name", name, 'must be spec.names.plural+"."+spec.group')
    if group and "." not in group:
        yield refusals.invalid_value("spec.group", group, "should be a domain with at least one dot")
    for field in ("plural", "singular"):
        if names.get(field) and (why := formats.why_not_dns_1035_label(names[field])):
            yield refusals.invalid_value(f"spec.names.{field}", names[field], why)


def _version_problems(versions: Any) -> Iterator[Problem]:
    if sum(bool(version.get("storage")) for version in versions) != 1:
        yield refusals.invalid_value(
            "spec.versions", versions, "must have exactly one version marked as storage version"
        )
    seen: set[str] = set()
    for index, version in enumerate(versions):
        field = f"spec.versions[{index}]"
        name = version.get("name", "")
        if why := formats.why_not_dns_1035_label(name):
            yield refusals.invalid_value(f"{field}.name", name, why)
        if name in seen:
            yield refusals.invalid_value(f"{field}.name", name, "must contain unique version names")
        seen.add(name)
        stated = version.get("schema", {}).get("openAPIV3Schema")
        malformed = tuple(_malformed(stated, f"{field}.schema.openAPIV3Schema"))
        if stated is None:
            yield refusals.required(f"{field}.schema.openAPIV3Schema", "schemas are required")
        elif malformed:
            yield from malformed
        elif stated.get("type") != "object":
            path = f"{field}.schema.openAPIV3Schema.type"
            yield refusals.invalid_value(path, stated.get("type", ""), "must be object at the root")
        else:
            yield from _schema_problems(stated, f"{field}.schema.openAPIV3Schema")
        for at, column in enumerate(version.get("additionalPrinterColumns", ())):
            yield from _column_problems(column, f"{field}.additionalPrinterColumns[{at}]")
        for at, selectable in enumerate(version.get("selectableFields", ())):
            yield from _path_problems(
                selectable.get("jsonPath", ""), f"{field}.selectableFields[{at}].jsonPath"
            )


def _column_problems(column: Mapping[str, Any], field: str) -> Iterator[Problem]:
    for name in ("name", "type"):
        if not column.get(name):
            yield refusals.required(f"{field}.{name}")
    yield from _path_problems(column.get("jsonPath", ""), f"{field}.jsonPath")


def _path_problems(path: str, field: str) -> Iterator[Problem]:
    if not path.startswith("."):
        yield refusals.invalid_value(field, path, "must be a simple json path starting with .")
        return
    try:
        jsonpath.parse(path)
    except ValueError as wrong:
        yield refusals.invalid_value(field, path, str(wrong))


_SHAPES: Mapping[str, type] = {
    **dict.fromkeys(("format", "pattern", "type", "x-kubernetes-list-type", "x-kubernetes-map-type"), str),
    **dict.fromkeys(("enum", "required", "x-kubernetes-list-map-keys", "x-kubernetes-validations"), list),
    **dict.fromkeys(("allOf", "anyOf", "oneOf"), list),
    "properties": dict,
}
"""What the keywords of a schema are, of those that are not single numbers or truths."""


def _malformed(stated: Any, path: str) -> Iterator[Problem]:
    """Where a schema is not even one."""
    if not isinstance(stated, dict):
        yield refusals.wrong_type(path, stated, "must be a schema")
        return
    wrong = {name for name, kind in _SHAPES.items() if not isinstance(stated.get(name, kind()), kind)}
    for name in sorted(wrong):
        yield refusals.wrong_type(f"{path}.{name}", stated[name], f"must be of type {_SHAPES[name].__name__}")
    for name, inner in stated.get("properties", {}).items() if "properties" not in wrong else ():
        yield from _malformed(inner, f"{path}.properties[{name}]")
    for name in ("allOf", "anyOf", "oneOf", "x-kubernetes-validations"):
        for index, inner in enumerate(stated.get(name, ()) if name not in wrong else ()):
            yield from _malformed(inner, f"{path}.{name}[{index}]")
    for name in ("items", "not"):
        if stated.get(name):
            yield from _malformed(stated[name], f"{path}.{name}")
    if not isinstance(more := stated.get("additionalProperties", True), bool):
        yield from _malformed(more, f"{path}.additionalProperties")


def _schema_problems(stated: Mapping[str, Any], path: str) -> Iterator[Problem]:
    """What keeps a schema from being structural."""
    free = stated.get("x-kubernetes-int-or-string") or stated.get("x-kubernetes-preserve-unknown-fields")
    if not stated.get("type") and not free:
        yield refusals.required(f"{path}.type", "must not be empty for specified object fields")
    if pattern := stated.get("pattern"):
        try:
            re.compile(pattern)
        except re.error as wrong:
            yield refusals.invalid_value(
                f"{path}.pattern", pattern, f"must be a valid regular expression, but isn't: {wrong}"
            )
    if stated.get("type") == "array" and not isinstance(stated.get("items"), dict):
        yield refusals.required(f"{path}.items", "must be specified")
    if stated.get("x-kubernetes-list-type") == "map" and not stated.get("x-kubernetes-list-map-keys"):
        why = "must not be empty if x-kubernetes-list-type is map"
        yield refusals.required(f"{path}.x-kubernetes-list-map-keys", why)
    if "properties" in stated and "additionalProperties" in stated:
        why = "must not be used together with properties"
        yield refusals.forbidden_field(f"{path}.additionalProperties", why)
    for name, inner in (stated.get("properties") or {}).items():
        yield from _schema_problems(inner, f"{path}.properties[{name}]")
    if isinstance(stated.get("items"), dict):
        yield from _schema_problems(stated["items"], f"{path}.items")
    if isinstance(stated.get("additionalProperties"), dict):
        yield from _schema_problems(stated["additionalProperties"], f"{path}.additionalProperties")
