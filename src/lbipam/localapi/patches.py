"""What does an object become under a merge patch, a JSON patch or a strategic merge patch?

RFC 7396, RFC 6902, and Kubernetes' strategic merge patch with its directives (`$patch`, `$deleteFromPrimitiveList`,
`$setElementOrder`, `$retainKeys`). Every function returns a new object and leaves its arguments as they are. Server-side
apply is told in `ownership`.
"""

import copy
from typing import Any

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
    kind, path = operation.get("op"), operation.get("path", "")
    if kind in ("add", "replace", "test") and "value" not in operation:
        operation = {**operation, "value": None}
    match kind:
        case "add":
            return _added(document, path, copy.deepcopy(operation["value"]))
        case "replace":
            _at(document, path, kind)
            return _replaced(document, path, copy.deepcopy(operation["value"]))
        case "remove":
            _at(document, path, kind)
            return _removed(document, path)
        case "move":
            moved = _at(document, operation.get("from", ""), kind)
            return _added(_removed(document, operation.get("from", "")), path, moved)
        case "copy":
            return _added(document, path, copy.deepcopy(_at(document, operation.get("from", ""), kind)))
        case "test":
            if _at(document, path, kind) != operation["value"]:
                raise refusals.unprocessable(f"testing value {path} failed: test failed")
            return document
        case _:
            raise refusals.unprocessable(f"Unexpected kind: {kind}")


def _tokens(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise refusals.unprocessable(f"unable to parse path: {path}")
    return [token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:]]


def _step(value: Any, token: str, path: str, operation: str) -> Any:
    if isinstance(value, dict) and token in value:
        return value[token]
    if isinstance(value, list):
        return value[_index(value, token, path, operation)]
    if operation == "test" and isinstance(value, dict):
        return None
    why = f"{operation} operation does not apply: doc is missing path: {path}: missing value"
    raise refusals.unprocessable(f"the server rejected our request due to an error in our request: {why}")


def _index(value: list[Any], token: str, path: str, operation: str) -> int:
    if not token.lstrip("-").isdecimal() or not -len(value) <= int(token) < len(value):
        raise refusals.unprocessable(
            f"{operation} operation does not apply: doc is missing path: {path}: invalid index referenced"
        )
    return int(token)


def _at(document: Any, path: str, operation: str) -> Any:
    for token in _tokens(path):
        document = _step(document, token, path, operation)
    return document


def _parent(document: Any, path: str, operation: str) -> tuple[Any, str]:
    *above, last = _tokens(path)
    for token in above:
        document = _step(document, token, path, operation)
    return document, last


def _added(document: Any, path: str, value: Any) -> Any:
    if not path:
        return value
    parent, last = _parent(document, path, "add")
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        parent.insert(
            len(parent) if last == "-" or last == str(len(parent)) else _index(parent, last, path, "add"),
            value,
        )
    else:
        raise refusals.unprocessable(
            f"add operation does not apply: doc is missing path: {path}: missing value"
        )
    return document


def _replaced(document: Any, path: str, value: Any) -> Any:
    if not path:
        return value
    parent, last = _parent(document, path, "replace")
    parent[last if isinstance(parent, dict) else _index(parent, last, path, "replace")] = value
    return document


def _removed(document: Any, path: str) -> Any:
    parent, last = _parent(document, path, "remove")
    del parent[last if isinstance(parent, dict) else _index(parent, last, path, "remove")]
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
    elif _RETAIN in patch:
        merged = {name: merged[name] for name in merged if name in patch[_RETAIN]}
    for name, change in patch.items():
        if name in (_DIRECTIVE, _RETAIN) or name.startswith((_ORDER, _DELETE)):
            continue
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = _strategic_member(merged.get(name), change, schema.member(name))
    _apply_list_directives(merged, patch, schema)
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
        return [item for item in change if item.get(_DIRECTIVE) != "replace"]
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
    return merged


def _apply_list_directives(merged: dict[str, Any], patch: dict[str, Any], schema: Schema) -> None:
    for name, given in patch.items():
        if name.startswith(_DELETE):
            field = name.removeprefix(_DELETE)
            merged[field] = [each for each in merged.get(field, []) if each not in given]
    for name, order in patch.items():
        if name.startswith(_ORDER):
            field = name.removeprefix(_ORDER)
            if isinstance(merged.get(field), list):
                merged[field] = _ordered(merged[field], order, schema.member(field).merge_key)


def _ordered(items: list[Any], order: list[Any], key: str) -> list[Any]:
    """`items` with those named in `order` in that order; the others stay where they are relative to their neighbours."""
    wanted = [each.get(key) if key else each for each in order]
    named = {each: at for at, each in enumerate(wanted)}

    def identity(item: Any) -> Any:
        return item.get(key) if key else item

    listed = iter(
        sorted((item for item in items if identity(item) in named), key=lambda item: named[identity(item)])
    )
    return [next(listed) if identity(item) in named else item for item in items]
