"""Which fields do the built-in kinds have?

The answer is kept in `builtin.schema`, one type after another: its name, then a line for each field with the
field's type and how it merges (`map=KEYS`, `merge=KEY`, `set`, `atomic`; `default=VALUE` for keys), whether
it is `required`, and after ` # ` what it means. A type is a name, `[]T`, `{}T` or one of the plain ones
below. Types follow Kubernetes' OpenAPI. What values are valid is told by the rules of the kinds, not here.
"""

from dataclasses import replace
from functools import cache
from importlib.resources import files

from lbipam.localapi.schema import ANYTHING, Schema

_PLAIN = {
    "any": ANYTHING,
    "boolean": Schema(type="boolean"),
    "byte": Schema(type="string", format="byte"),
    "date-time": Schema(type="string", format="date-time"),
    "int-or-string": Schema(type="int-or-string"),
    "int32": Schema(type="integer", format="int32"),
    "int64": Schema(type="integer", format="int64"),
    "micro-time": Schema(type="string", format="micro-time"),
    "quantity": Schema(type="int-or-string", format="quantity"),
    "string": Schema(type="string"),
}

_COMMENT = " # "


@cache
def _lines() -> dict[str, tuple[str, ...]]:
    """The lines of every declared type, of which the first tells its name."""
    text = files("lbipam.localapi").joinpath("builtin.schema").read_text(encoding="utf-8")
    blocks = (block.splitlines() for block in text.split("\n\n"))
    return {
        block[0].partition(_COMMENT)[0]: tuple(line.strip() for line in block) for block in blocks if block
    }


@cache
def declared(name: str) -> Schema:
    """The schema of a declared type, such as `core.v1.Service`."""
    heading, *lines = _lines()[name]
    properties, required = {}, []
    for line in lines:
        words, _, meaning = line.partition(_COMMENT)
        field, kind, *flags = words.split()
        schema = _field(kind, tuple(flags))
        properties[field] = replace(schema, description=meaning) if meaning else schema
        if "required" in flags:
            required.append(field)
    meaning = heading.partition(_COMMENT)[2]
    return Schema(
        type="object", name=name, properties=properties, required=tuple(required), description=meaning
    )


@cache
def _field(kind: str, flags: tuple[str, ...]) -> Schema:
    """The schema of a field of the given type that merges as its flags say."""
    options = dict(flag.split("=") for flag in flags if "=" in flag)
    atomic = "atomic" in flags
    if kind.startswith("[]"):
        merge_key = options.get("merge", "")
        keys = tuple(filter(None, options.get("map", merge_key).split(",")))
        is_set = "set" in flags or "merge" in flags
        return Schema(
            type="array",
            items=_field(kind[2:], ()),
            list_type="map" if keys and not atomic else "set" if is_set else "atomic",
            list_keys=keys,
            merge_key=merge_key,
            merges_values="merge" in flags,
        )
    if kind.startswith("{}"):
        return Schema(
            type="object", additional=_field(kind[2:], ()), map_type="atomic" if atomic else "granular"
        )
    if default := options.get("default"):
        return Schema(type=kind, default=default)
    if kind in _PLAIN:
        return _PLAIN[kind]
    schema = declared(kind)
    return replace(schema, map_type="atomic") if atomic else schema
