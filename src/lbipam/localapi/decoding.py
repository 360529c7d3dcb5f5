"""How do the Go types of a built-in kind read what a client sends?

They refuse values of another type, forget `null` and empty values, write times in UTC, and leave out fields
that they do not know; which those were is told to the caller, who knows what `fieldValidation` asks for.
Whether values make sense is not judged here.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from lbipam.localapi import formats, refusals
from lbipam.localapi.schema import Schema

_GO_TYPES = {"boolean": "bool", "string": "string", "int32": "int32", "int64": "int64"}
_FOUND = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}


_RANGES = {"int32": range(-(1 << 31), 1 << 31), "int64": range(-(1 << 63), 1 << 63)}


class WrongTypeError(ValueError):
    """A value has a type that the field's Go type cannot take."""


def _time_reader(form: str, layout: str, precision: str) -> Callable[[str], str]:
    """The reader of times that look like `form`, which Go's `layout` describes."""
    pattern = re.compile(form)

    @lru_cache(maxsize=1024)  # an object is read several times, and its times with it
    def read(text: str) -> str:
        try:
            if not pattern.fullmatch(text):
                raise ValueError
            moment = datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            told = f"parsing time {refusals.shown(text)} as {refusals.shown(layout)}"
            raise WrongTypeError(told) from None
        return moment.isoformat(timespec=precision).replace("+00:00", "Z")

    return read


def _base64(text: str) -> str:
    if not formats.CHECKS["byte"](text):
        raise WrongTypeError("illegal base64 data")
    return text


_SECONDS, _ZONE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", r"(Z|[-+]\d\d:\d\d)"

_FORMATS = {
    "byte": _base64,
    "date-time": _time_reader(rf"{_SECONDS}(\.\d+)?{_ZONE}", "2006-01-02T15:04:05Z07:00", "seconds"),
    "micro-time": _time_reader(
        rf"{_SECONDS}\.\d{{6}}{_ZONE}", "2006-01-02T15:04:05.000000Z07:00", "microseconds"
    ),
}
"""How texts are read that are more than texts: metav1.Time, metav1.MicroTime, []byte."""


def read(value: Any, schema: Schema, path: str, owner: str, unknown: list[str]) -> Any:
    """`value` as the Go type keeps it; paths of unknown fields are added to `unknown`.

    `owner` names the Go type that holds the field. Raises `WrongTypeError`.
    """
    kind = schema.type
    if not _is_read_as(value, kind):
        raise _wrong_type(value, schema, path, owner)
    if kind == "object":
        if schema.properties:
            return _read_fields(value, schema, path, unknown)
        return _read_entries(value, schema, path, owner, unknown)
    if kind == "array":
        inner = schema.item()
        return [read(item, inner, f"{path}[{index}]", owner, unknown) for index, item in enumerate(value)]
    if kind == "integer":
        number = int(value)
        if number not in _RANGES[schema.format]:
            raise _wrong_type(value, schema, path, owner)
        return number
    if kind == "string" and schema.format:
        return _FORMATS[schema.format](value)
    return value


_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int, float),
    "int-or-string": (int, str),
}


def _is_read_as(value: Any, kind: str) -> bool:
    types = _PYTHON_TYPES.get(kind)
    if types is None:
        return True
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, types) and not (isinstance(value, float) and not value.is_integer())


def _read_entries(value: dict[str, Any], schema: Schema, path: str, owner: str, unknown: list[str]) -> Any:
    below = schema.additional
    if below is None:
        return value
    if below.type == "string":  # of which an absent one is empty
        value = {name: "" if inner is None else inner for name, inner in value.items()}
        if not below.format and all(isinstance(each, str) for each in value.values()):
            return value
    return {
        name: read(inner, below, f"{path}.{name}", owner, unknown)
        for name, inner in value.items()
        if inner is not None
    }


def _read_fields(value: dict[str, Any], schema: Schema, path: str, unknown: list[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    properties = schema.properties
    owner = schema.name.rpartition(".")[2]
    for name, inner in value.items():
        below = properties.get(name)
        if below is None:
            unknown.append(f"{path}.{name}" if path else name)
            continue
        if inner is None:
            continue
        if type(inner) is str and below.type == "string":  # most fields are texts: read them without a detour
            if below.format:
                kept[name] = _FORMATS[below.format](inner)
            elif inner or name in schema.required:
                kept[name] = inner
            continue
        kept_inner = read(inner, below, f"{path}.{name}" if path else name, owner, unknown)
        if _is_omitted(kept_inner, below) and name not in schema.required:
            continue
        kept[name] = kept_inner
    return kept


def _is_omitted(value: Any, schema: Schema) -> bool:
    """Whether Go's `omitempty` leaves the value out."""
    if value:
        return False
    return isinstance(value, (str, list)) or (isinstance(value, dict) and schema.additional is not None)


def _wrong_type(value: Any, schema: Schema, path: str, owner: str) -> WrongTypeError:
    go_type = _GO_TYPES.get(schema.format) or _GO_TYPES.get(schema.type) or schema.name or schema.type
    trail = "".join(part.partition("[")[0] + "." for part in path.split(".")).rstrip(".")
    found = _FOUND.get(type(value), "null")
    if found == "number" and schema.type == "integer":
        found = f"number {refusals.shown(value)}"
    return WrongTypeError(
        f"json: cannot unmarshal {found} into Go struct field {owner}.{trail} of type {go_type}"
    )
