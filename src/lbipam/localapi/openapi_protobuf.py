"""How is an OpenAPI v2 document written in protobuf?

kubectl takes no other form of it. The numbers are those of gnostic's `OpenAPIv2.proto`; where that has a map,
the message is a list of names with values. Only what `openapi_v2` tells is written.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

ASKED = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""How clients ask for it."""
MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""How it is answered: RFC 2045 has no @ in the name of a type, and clients in Go refuse one."""

_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}

_Object = Mapping[str, Any]


def encode(document: _Object) -> bytes:
    """The bytes of a `Document`."""
    info = _text(1, document["info"]["title"]) + _text(2, document["info"]["version"])
    return b"".join(
        (
            _text(1, document["swagger"]),
            _message(2, info),
            _message(8, _named(2, document["paths"], _path)),
            _message(9, _named(1, document["definitions"], _schema)),
        )
    )


def _path(operations: _Object) -> bytes:
    return b"".join(_message(_METHODS[method], _operation(each)) for method, each in operations.items())


def _operation(told: _Object) -> bytes:
    return b"".join(
        (
            _texts(7, told.get("consumes", ())),
            *(_message(8, _parameter(each)) for each in told["parameters"]),
            _message(9, _named(1, told["responses"], _response)),
            _extensions(13, told),
        )
    )


def _parameter(told: _Object) -> bytes:
    """A `ParametersItem` of the query."""
    query = _text(2, told["in"]) + _text(4, told["name"]) + _text(6, told["type"])
    return _message(1, _message(2, _message(3, query)))


def _response(told: _Object) -> bytes:
    return _message(1, _text(1, told["description"]))


def _schema(told: _Object) -> bytes:
    parts = [_text(number, told[key]) for key, number in _SCHEMA_TEXTS.items() if key in told]
    parts.append(_texts(19, told.get("required", ())))
    if "additionalProperties" in told:
        parts.append(_message(21, _message(1, _schema(told["additionalProperties"]))))
    if "type" in told:
        parts.append(_message(22, _text(1, told["type"])))
    if "items" in told:
        parts.append(_message(23, _message(1, _schema(told["items"]))))
    if "properties" in told:
        parts.append(_message(25, _named(1, told["properties"], _schema)))
    parts.append(_extensions(31, told))
    return b"".join(parts)


_SCHEMA_TEXTS = {"$ref": 1, "format": 2, "description": 4}


def _extensions(number: int, told: _Object) -> bytes:
    """The fields whose names begin with `x-`: each an `Any`, whose value is YAML, and so may be JSON."""
    found = {key: value for key, value in told.items() if key.startswith("x-")}
    return _named(number, found, lambda value: _message(2, msgspec.json.encode(value)))


# --- the wire -----------------------------------------------------------------------------------------------


def _named(number: int, values: _Object, encoded: Callable[[Any], bytes]) -> bytes:
    """A map: for each entry a message with its name and its value."""
    return b"".join(
        _message(number, _text(1, name) + _message(2, encoded(value))) for name, value in values.items()
    )


def _texts(number: int, texts: Iterable[str]) -> bytes:
    return b"".join(_text(number, each) for each in texts)


def _text(number: int, text: str) -> bytes:
    return _message(number, text.encode())


def _message(number: int, body: bytes) -> bytes:
    """A field that tells its length: a message, a string, or bytes."""
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
