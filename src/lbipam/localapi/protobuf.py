r"""What does a protobuf body of kubectl say?

kubectl sends a few kinds in Kubernetes' protobuf (`k8s\0` and a `runtime.Unknown`): those of `create
namespace`, `auth can-i` and the like. They are read into the same values as JSON, by the field numbers of
Kubernetes' `generated.proto` files. Answers are always JSON.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAGIC = b"k8s\x00"


class UnreadableError(ValueError):
    """The bytes are no protobuf, or of a kind whose fields are not known."""


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of a message."""

    name: str
    form: str = "string"
    """`string`, `int`, `bool`, `bytes`, `time`, `labels`, or the name of a message."""
    repeated: bool = False


def _text(**numbers: int) -> dict[int, _Field]:
    return {number: _Field(name) for name, number in numbers.items()}


_MESSAGES: dict[str, dict[int, _Field]] = {
    "ObjectMeta": {
        **_text(name=1, generateName=2, namespace=3, selfLink=4, uid=5, resourceVersion=6),
        8: _Field("creationTimestamp", "time"),
        11: _Field("labels", "labels"),
        12: _Field("annotations", "labels"),
        14: _Field("finalizers", repeated=True),
    },
    "DeleteOptions": {
        1: _Field("gracePeriodSeconds", "int"),
        2: _Field("preconditions", "Preconditions"),
        3: _Field("orphanDependents", "bool"),
        4: _Field("propagationPolicy"),
        5: _Field("dryRun", repeated=True),
    },
    "Preconditions": _text(uid=1, resourceVersion=2),
    "Namespace": {1: _Field("metadata", "ObjectMeta"), 2: _Field("spec", "NamespaceSpec")},
    "NamespaceSpec": {1: _Field("finalizers", repeated=True)},
    "ServiceAccount": {
        1: _Field("metadata", "ObjectMeta"),
        4: _Field("automountServiceAccountToken", "bool"),
    },
    "ConfigMap": {
        1: _Field("metadata", "ObjectMeta"),
        2: _Field("data", "labels"),
        3: _Field("binaryData", "bytes-map"),
        4: _Field("immutable", "bool"),
    },
    "Secret": {
        1: _Field("metadata", "ObjectMeta"),
        2: _Field("data", "bytes-map"),
        3: _Field("type"),
        4: _Field("stringData", "labels"),
        5: _Field("immutable", "bool"),
    },
    "Service": {1: _Field("metadata", "ObjectMeta"), 2: _Field("spec", "ServiceSpec")},
    "ServiceSpec": {
        1: _Field("ports", "ServicePort", repeated=True),
        2: _Field("selector", "labels"),
        3: _Field("clusterIP"),
        4: _Field("type"),
        5: _Field("externalIPs", repeated=True),
        7: _Field("sessionAffinity"),
        8: _Field("loadBalancerIP"),
        9: _Field("loadBalancerSourceRanges", repeated=True),
        10: _Field("externalName"),
        11: _Field("externalTrafficPolicy"),
        12: _Field("healthCheckNodePort", "int"),
        13: _Field("publishNotReadyAddresses", "bool"),
        17: _Field("ipFamilyPolicy"),
        18: _Field("clusterIPs", repeated=True),
        19: _Field("ipFamilies", repeated=True),
        20: _Field("allocateLoadBalancerNodePorts", "bool"),
        21: _Field("loadBalancerClass"),
        22: _Field("internalTrafficPolicy"),
        23: _Field("trafficDistribution"),
    },
    "ServicePort": {
        1: _Field("name"),
        2: _Field("protocol"),
        3: _Field("port", "int"),
        4: _Field("targetPort", "IntOrString"),
        5: _Field("nodePort", "int"),
        6: _Field("appProtocol"),
    },
    "SelfSubjectAccessReview": {1: _Field("metadata", "ObjectMeta"), 2: _Field("spec", "AccessReviewSpec")},
    "SubjectAccessReview": {1: _Field("metadata", "ObjectMeta"), 2: _Field("spec", "AccessReviewSpec")},
    "AccessReviewSpec": {
        1: _Field("resourceAttributes", "ResourceAttributes"),
        2: _Field("nonResourceAttributes", "NonResourceAttributes"),
    },
    "ResourceAttributes": _text(namespace=1, verb=2, group=3, version=4, resource=5, subresource=6, name=7),
    "NonResourceAttributes": _text(path=1, verb=2),
    "SelfSubjectRulesReview": {1: _Field("metadata", "ObjectMeta"), 2: _Field("spec", "RulesReviewSpec")},
    "RulesReviewSpec": _text(namespace=1),
    "SelfSubjectReview": {1: _Field("metadata", "ObjectMeta")},
}


def decode(body: bytes) -> dict[str, Any]:
    """Read a `runtime.Unknown` and the object in it; raises `UnreadableError`."""
    if not body.startswith(MAGIC):
        raise UnreadableError("it does not begin as Kubernetes' protobuf does")
    api_version = kind = ""
    raw = b""
    for number, value in _fields(body[len(MAGIC) :]):
        if number == 1 and isinstance(value, bytes):
            for inner, text in _fields(value):
                if isinstance(text, bytes):
                    api_version, kind = (
                        (_text_of(text), kind) if inner == 1 else (api_version, _text_of(text))
                    )
        elif number == 2 and isinstance(value, bytes):
            raw = value
    if kind not in _MESSAGES:
        raise UnreadableError(f"objects of kind {kind} can only be read as JSON or YAML")
    return {"apiVersion": api_version, "kind": kind, **_message(kind, raw)}


def _text_of(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as wrong:
        raise UnreadableError("a text is not UTF-8") from wrong


def _message(name: str, body: bytes) -> dict[str, Any]:
    known = _MESSAGES[name]
    read: dict[str, Any] = {}
    for number, value in _fields(body):
        field = known.get(number)
        if field is None:
            continue
        form = _value(field, value)
        if field.repeated:
            read.setdefault(field.name, []).append(form)
        elif isinstance(form, dict) and field.form in ("labels", "bytes-map"):
            read.setdefault(field.name, {}).update(form)
        elif form not in ("", None):
            read[field.name] = form
    return read


def _value(field: _Field, value: int | bytes) -> Any:
    if isinstance(value, int) != (field.form in ("bool", "int")):
        raise UnreadableError(f"{field.name} has another wire type")
    if isinstance(value, int):
        return bool(value) if field.form == "bool" else value
    match field.form:
        case "string":
            return _text_of(value)
        case "labels" | "bytes-map":
            return _entry(value, is_text=field.form == "labels")
        case "time":
            return None  # the server sets every time that these kinds carry
        case "IntOrString":
            return _int_or_string(value)
        case name:
            return _message(name, value)


def _entry(body: bytes, *, is_text: bool) -> dict[str, str]:
    """One entry of a map; bytes become base64, as in JSON."""
    parts = {number: value for number, value in _fields(body) if isinstance(value, bytes)}
    key, value = _text_of(parts.get(1, b"")), parts.get(2, b"")
    return {key: _text_of(value) if is_text else _base64(value)}


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _int_or_string(body: bytes) -> int | str | None:
    parts = dict(_fields(body))
    text = parts.get(3, b"")
    if parts.get(1) == 1 and isinstance(text, bytes):
        return _text_of(text)
    number = parts.get(2, 0)
    return number if isinstance(number, int) and number else None


def _fields(body: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: number, and an integer or the bytes."""
    at = 0
    while at < len(body):
        tag, at = _varint(body, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, at = _varint(body, at)
            yield number, value
        elif wire_type == 2:
            size, at = _varint(body, at)
            if at + size > len(body):
                raise UnreadableError("a field is longer than the message")
            yield number, body[at : at + size]
            at += size
        else:
            size = {1: 8, 5: 4}.get(wire_type, 0)
            if not size:
                raise UnreadableError(f"wire type {wire_type} is not known")
            at += size


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(body) and shift < 64:
        byte = body[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if not byte & 0x80:
            return value, at
        shift += 7
    raise UnreadableError("a number does not end")
