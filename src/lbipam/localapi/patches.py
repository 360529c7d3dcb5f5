"""What does an object become under a merge patch, a JSON patch or a strategic merge patch?

RFC 7396, RFC 6902, and Kubernetes' strategic merge patch with its directives (`$patch`,
`$deleteFromPrimitiveList`, `$setElementOrder`, `$retainKeys`). Every function returns a new object and leaves
its arguments as they are. Server-side apply is told in `ownership`.
"""

import copy
from typing import Any

import msgspec

from lbipam.localapi import refusals
from lbipam.localapi.schema import Schema


def merge(value: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), change)
    return merged


def json_patch(value: Any, operations: Any) -> Any:
    """RFC 6902; raises `ApiError` 422 when an operation cannot be done, 400 when it is none."""
    if not isinstance(operations, list):
        raise refusals.bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    document = copy.deepcopy(value)
    for operation in operations:
        if not isinstance(operation, dict):
            raise refusals.bad_request("json: cannot unmarshal the operation of a JSON patch")
        document = _apply_operation(document, operation)
    return document


def _apply_operation(document: Any, operation: dict[str, Any]) -> Any:
    path, value = operation.get("path", ""), operation.get("value")
    match operation.get("op"):
        case "add":
            return _added(document, path, copy.deepcopy(value))
        case "replace":
            _at(document, path)
            return _replaced(document, path, copy.deepcopy(value))
        case "remove":
            return _removed(document, path)
        case "move":
            source = operation.get("from", "")
            moved = _at(document, source)
            return _added(_removed(document, source), path, moved)
        case "copy":
            return _added(document, path, copy.deepcopy(_at(document, operation.get("from", ""))))
        case "test" if _at(document, path, absent_is_null=True) == value:
            return document
        case _:
            raise refusals.unpatchable()


def _tokens(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise refusals.unpatchable()
    return [token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:]]


def _place(value: Any, token: str) -> Any:
    """The key or index that a token names in a map or list; it must exist."""
    if isinstance(value, dict) and token in value:
        return token
    if isinstance(value, list) and token.isdecimal() and int(token) < len(value):
        return int(token)
    raise refusals.unpatchable()


def _at(document: Any, path: str, *, absent_is_null: bool = False) -> Any:
    for token in _tokens(path):
        if absent_is_null and isinstance(document, dict) and token not in document:
            return None
        document = document[_place(document, token)]
    return document


def _parent(document: Any, path: str) -> tuple[Any, str]:
    *above, last = _tokens(path)
    for token in above:
        document = document[_place(document, token)]
    return document, last


def _added(document: Any, path: str, value: Any) -> Any:
    if not path:
        return value
    parent, last = _parent(document, path)
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        at_end = last in ("-", str(len(parent)))
        parent.insert(len(parent) if at_end else _place(parent, last), value)
    else:
        raise refusals.unpatchable()
    return document


def _replaced(document: Any, path: str, value: Any) -> Any:
    if not path:
        return value
    parent, last = _parent(document, path)
    parent[_place(parent, last)] = value
    return document


def _removed(document: Any, path: str) -> Any:
    if not path:
        raise refusals.unpatchable()
    parent, last = _parent(document, path)
    del parent[_place(parent, last)]
    return document


_DIRECTIVE = "$patch"
_ORDER = "$setElementOrder/"
_DELETE = "$deleteFromPrimitiveList/"
_RETAIN = "$retainKeys"


def strategic(value: Any, patch: Any, schema: Schema) -> Any:
    """Kubernetes' strategic merge patch of an object whose lists merge as `schema` says."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    directive = patch.get(_DIRECTIVE)
    if directive == "delete":
        return {}
    if directive == "replace":
        merged = {}
    elif directive not in (None, "merge"):
        raise refusals.untyped(f"unknown patch type: {directive}")
    elif _RETAIN in patch:
        merged = {name: merged[name] for name in merged if name in patch[_RETAIN]}
    for name, change in patch.items():
        if name in (_DIRECTIVE, _RETAIN) or name.startswith((_ORDER, _DELETE)):
            continue
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = _strategic_member(merged.get(name), change, schema.member(name))
    _apply_list_directives(value, merged, patch, schema)
    return merged


def _strategic_member(value: Any, change: Any, schema: Schema) -> Any:
    if isinstance(change, dict):
        return strategic(value, change, schema)
    if isinstance(change, list) and schema.merge_key:
        return _strategic_list(value if isinstance(value, list) else [], change, schema)
    if isinstance(change, list) and schema.merges_values and isinstance(value, list):
        return value + [each for each in change if each not in value]
    return change


def _strategic_list(value: list[Any], change: list[Any], schema: Schema) -> list[Any]:
    key = schema.merge_key
    if any(isinstance(item, dict) and item.get(_DIRECTIVE) == "replace" for item in change):
        return [item for item in change if not isinstance(item, dict) or item.get(_DIRECTIVE) != "replace"]
    merged = list(value)
    for item in change:
        if not isinstance(item, dict) or key not in item:
            raise refusals.bad_request(f"map: {item} does not contain declared merge key: {key}")
        index = next((at for at, known in enumerate(merged) if known.get(key) == item[key]), None)
        if item.get(_DIRECTIVE) == "delete":
            merged = [known for known in merged if known.get(key) != item[key]]
        elif index is None:
            merged.append(strategic({}, item, schema.item()))
        else:
            merged[index] = strategic(merged[index], item, schema.item())
    return _ordered(merged, change, value, key)


def _apply_list_directives(value: Any, merged: dict[str, Any], patch: dict[str, Any], schema: Schema) -> None:
    for name, given in patch.items():
        if name.startswith(_DELETE):
            field = name.removeprefix(_DELETE)
            merged[field] = [each for each in merged.get(field, []) if each not in given]
    for name, order in patch.items():
        if name.startswith(_ORDER):
            field = name.removeprefix(_ORDER)
            if isinstance(merged.get(field), list):
                before = value.get(field, []) if isinstance(value, dict) else []
                merged[field] = _ordered(merged[field], order, before, schema.member(field).merge_key)


def _ordered(items: list[Any], order: list[Any], before: list[Any], key: str) -> list[Any]:
    """The items named in `order` in that order; between them the others, which stay behind what was before them."""

    def identity(item: Any) -> bytes:
        return msgspec.json.encode(item.get(key) if key and isinstance(item, dict) else item)

    wanted = {identity(each): at for at, each in enumerate(order)}
    places = {identity(each): at for at, each in enumerate(before)}
    named = sorted(
        (item for item in items if identity(item) in wanted), key=lambda item: wanted[identity(item)]
    )
    others = [item for item in items if identity(item) not in wanted]
    merged: list[Any] = []
    while named and others:
        place, other = places.get(identity(named[0])), places.get(identity(others[0]))
        behind = place is not None and other is not None and place > other
        merged.append((others if behind else named).pop(0))
    return merged + named + others
