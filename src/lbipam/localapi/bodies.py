"""What does the body of a request say?

JSON, YAML, or the protobuf that kubectl sends for a few kinds. Whether what it says is allowed is not judged
here.
"""

from typing import Any

import msgspec
import yaml

from lbipam.localapi import protobuf, refusals

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"

PATCHES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
"""Media type of a patch to its kind."""


class _Loader(yaml.CSafeLoader):
    """YAML whose dates stay texts, as they are in JSON."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def media_type(content_type: str) -> str:
    """The media type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def decode(body: bytes, content_type: str) -> Any:
    """The body of a request as a value; raises `ApiError` 415 for an unknown type, 400 for a broken body."""
    kind = media_type(content_type) or JSON
    if kind == PROTOBUF:
        try:
            return protobuf.decode(body)
        except protobuf.UnreadableError as wrong:
            raise refusals.bad_request(f"couldn't read the protobuf body: {wrong}") from wrong
    if kind in (YAML, "application/apply-patch+yaml"):
        return from_yaml(body)
    if kind != JSON and not kind.endswith("+json"):
        raise refusals.unsupported_media_type([JSON, YAML, PROTOBUF])
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as wrong:
        raise refusals.bad_request(
            f"the object provided is unrecognized (must be of type JSON): {wrong}"
        ) from wrong


def from_yaml(body: bytes) -> Any:
    """One YAML document, which may as well be JSON."""
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        pass
    try:
        return yaml.load(body, Loader=_Loader)  # noqa: S506 - the loader is a safe one
    except yaml.YAMLError as wrong:
        raise refusals.bad_request(f"error decoding YAML: {wrong}") from wrong


def decode_object(body: bytes, content_type: str) -> dict[str, Any]:
    """The body of a request that must be an object."""
    value = decode(body, content_type)
    if not isinstance(value, dict):
        raise refusals.bad_request("the body of the request is no object")
    return value
