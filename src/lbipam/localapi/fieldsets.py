"""Which fields of an object does a set of fields name, and what do two sets have in common?

A set is a tree in the form of Kubernetes' `FieldsV1` (structured-merge-diff's serialisation): `f:NAME` is a
member of a map, `k:{KEYS}` an item of a list that is a map, `v:VALUE` an item of a list that is a set. A node
without children is a member; a node with children is one when it also holds `.`. The empty tree is the empty
set. Trees are never changed in place. Which fields an object has is told by `owned`, `compared` and the
schema; who owns what is not decided here.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from lbipam.localapi.schema import Schema

Fields = dict[str, Any]
"""A set of fields: path element to set, recursively."""

_MEMBER: Fields = {}


def is_member(node: Fields) -> bool:
    """Whether the node itself, not only something below it, belongs to the set that it is a node of."""
    return not node or "." in node


def union(a: Fields, b: Fields) -> Fields:
    """The fields in either set."""
    if not a or not b:
        return a or b
    both = dict(a)
    for element, below in b.items():
        ours = both.get(element)
        both[element] = below if ours is None else _joined(ours, below)
    return both


def _joined(a: Fields, b: Fields) -> Fields:
    """The union of two nodes, either of which may be a bare member."""
    joined = union(a, b)
    if joined and "." not in joined and (is_member(a) or is_member(b)):
        return {".": _MEMBER, **joined}
    return joined


def difference(a: Fields, b: Fields) -> Fields:
    """The fields of the first set that are not in the second."""
    if not a or not b:
        return a
    rest: Fields = {}
    for element, ours in a.items():
        theirs = b.get(element)
        if theirs is None:
            rest[element] = ours
            continue
        if element == ".":
            continue
        below = difference(_below(ours), _below(theirs))
        member = is_member(ours) and not is_member(theirs)
        if below or member:
            rest[element] = _node(below, member=member)
    return rest


def intersection(a: Fields, b: Fields) -> Fields:
    """The fields in both sets."""
    shared: Fields = {}
    for element, ours in a.items():
        theirs = b.get(element)
        if theirs is None:
            continue
        if element == ".":
            shared["."] = _MEMBER
            continue
        below = intersection(_below(ours), _below(theirs))
        member = is_member(ours) and is_member(theirs)
        if below or member:
            shared[element] = _node(below, member=member)
    return shared


def _below(node: Fields) -> Fields:
    if "." not in node:
        return node
    return {element: below for element, below in node.items() if element != "."}


def _node(below: Fields, *, member: bool) -> Fields:
    return {".": _MEMBER, **below} if member and below else below


def paths(fields: Fields, above: str = "") -> Iterator[str]:
    """Every member as a path in Kubernetes' notation, such as `.spec.ports[port=80,protocol="TCP"].name`."""
    for element, below in sorted(fields.items()):
        if element == ".":
            continue
        path = above + _printed(element)
        if is_member(below):
            yield path
        yield from paths(below, path)


def _printed(element: str) -> str:
    kind, _, text = element.partition(":")
    if kind == "f":
        return f".{text}"
    value = msgspec.json.decode(text)
    if kind == "k":
        inside = ",".join(
            f"{key}={msgspec.json.encode(each).decode()}" for key, each in sorted(value.items())
        )
        return f"[{inside}]"
    return f"[={msgspec.json.encode(value).decode()}]"


def item_element(item: Any, schema: Schema) -> str:
    """The path element of an item of a list that is a map or a set."""
    if schema.list_type == "set":
        return f"v:{msgspec.json.encode(item).decode()}"
    keys: dict[str, Any] = {}
    properties = schema.items.properties if schema.items else {}
    for key in sorted(schema.list_keys):
        value = item.get(key) if isinstance(item, dict) else None
        if value is None and key in properties:
            value = properties[key].default
        if value is not None:
            keys[key] = value
    return f"k:{msgspec.json.encode(keys).decode()}"


def unclear_items(value: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """Which items of lists cannot be told from each other, as structured-merge-diff words it."""
    if isinstance(value, dict):
        for name, below in value.items():
            if isinstance(below, (dict, list)):
                yield from unclear_items(below, schema.member(name), f"{path}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, (dict, list)):
                yield from unclear_items(item, schema.item(), f"{path}[{index}]")
        if schema.list_type in ("map", "set"):
            yield from _unclear_in(value, schema, path)


def _unclear_in(items: list[Any], schema: Schema, path: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, item in enumerate(items):
        stated = item if isinstance(item, dict) else {}
        for key in schema.list_keys:
            if stated.get(key) is None and schema.item().member(key).default is None:
                why = f'an element that omits key field "{key}" (and doesn\'t have default value)'
                yield f"{path}: element {index}: associative list with keys has {why}"
        if len(items) > 1:
            element = item_element(item, schema)
            if element in seen:
                yield f"{path}: duplicate entries for key {_printed(element)}"
            seen.add(element)


def owned(value: Any, schema: Schema) -> Fields:
    """The fields that whoever applies `value` lays claim to (structured-merge-diff's `ToFieldSet`)."""
    if isinstance(value, dict) and value and not schema.is_atomic:
        claimed: Fields = {}
        for name, below in value.items():
            inner = schema.properties.get(name)
            node = owned(below, inner or schema.member(name))
            claimed[f"f:{name}"] = {".": _MEMBER, **node} if node and inner is None else node
        return claimed
    if isinstance(value, list) and value and schema.list_type in ("map", "set"):
        claimed = {}
        item_schema = schema.item()
        for item in value:
            node = owned(item, item_schema) if schema.list_type == "map" else _MEMBER
            claimed[item_element(item, schema)] = {".": _MEMBER, **node} if node else node
        return claimed
    return _MEMBER


def everything(value: Any, schema: Schema) -> Fields:
    """Every field of `value`, containers included: what has been added when it was not there before."""
    if isinstance(value, dict) and value and not schema.is_atomic:
        nodes = {f"f:{name}": everything(below, schema.member(name)) for name, below in value.items()}
        return {".": _MEMBER, **nodes}
    if isinstance(value, list) and value and schema.list_type in ("map", "set"):
        inner = schema.item()
        is_map = schema.list_type == "map"
        items = {item_element(item, schema): everything(item, inner) if is_map else _MEMBER for item in value}
        return {".": _MEMBER, **items}
    return _MEMBER


def compared(old: Any, new: Any, schema: Schema) -> tuple[Fields, Fields]:
    """The fields of `new` that are added or other than in `old`, and the fields of `old` that are gone."""
    if isinstance(old, dict) and isinstance(new, dict) and not schema.is_atomic:
        before = {f"f:{name}": (name, below) for name, below in old.items()}
        after = {f"f:{name}": (name, below) for name, below in new.items()}
        return _compared_members(before, after, schema)
    if isinstance(old, list) and isinstance(new, list) and schema.list_type in ("map", "set"):
        before = {item_element(item, schema): ("", item) for item in old}
        after = {item_element(item, schema): ("", item) for item in new}
        return _compared_members(before, after, schema)
    return _MEMBER, _MEMBER


def _compared_members(
    before: dict[str, tuple[str, Any]], after: dict[str, tuple[str, Any]], schema: Schema
) -> tuple[Fields, Fields]:
    changed: Fields = {}
    removed: Fields = {}
    for element, (name, value) in after.items():
        known = before.get(element)
        if known is None:
            changed[element] = everything(value, schema.member(name) if name else schema.item())
        elif known[1] != value:
            inner = schema.member(name) if name else schema.item()
            if not _comparable(known[1], value, inner):
                changed[element] = _MEMBER
                continue
            more, less = compared(known[1], value, inner)
            if more:
                changed[element] = more
            if less:
                removed[element] = less
    for element, (name, value) in before.items():
        if element not in after:
            removed[element] = everything(value, schema.member(name) if name else schema.item())
    return changed, removed


def _comparable(old: Any, new: Any, schema: Schema) -> bool:
    """Whether two values differ inside rather than as a whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        return not schema.is_atomic
    return isinstance(old, list) and isinstance(new, list) and schema.list_type in ("map", "set")
