"""Which of a schema's CEL rules (`x-kubernetes-validations`) does an object break?

Rules that speak of `oldSelf` hold for changes only. A rule that `cel` cannot read is not enforced. Everything
else that a schema demands is told in `schema`.
"""

from collections.abc import Iterator
from typing import Any

from lbipam.localapi import cel, fieldsets
from lbipam.localapi.refusals import Problem
from lbipam.localapi.schema import Invariant, Schema

_ABSENT: Any = object()


def broken(value: Any, old: Any, schema: Schema) -> Iterator[Problem]:
    """What the rules find wrong with `value`, which replaces `old` (`None` when it is new)."""
    return _broken(value, _ABSENT if old is None else old, schema, "")


def _broken(value: Any, old: Any, schema: Schema, path: str) -> Iterator[Problem]:
    if not schema.has_invariants:
        return
    for invariant in schema.invariants:
        yield from _broken_rule(invariant, value, old, schema, path)
    if isinstance(value, dict):
        for name, inner in value.items():
            before = old.get(name, _ABSENT) if isinstance(old, dict) else _ABSENT
            yield from _broken(inner, before, schema.member(name), f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        earlier = {}
        if schema.list_type == "map" and isinstance(old, list):
            earlier = {fieldsets.item_element(item, schema): item for item in old}
        for index, item in enumerate(value):
            before = earlier.get(fieldsets.item_element(item, schema), _ABSENT) if earlier else _ABSENT
            yield from _broken(item, before, schema.item(), f"{path}[{index}]")


def _broken_rule(invariant: Invariant, value: Any, old: Any, schema: Schema, path: str) -> Iterator[Problem]:
    scope = {"self": value}
    if "oldSelf" in invariant.rule:
        if old is _ABSENT:
            return
        scope["oldSelf"] = old
    why = invariant.message or f"failed rule: {invariant.rule}"
    try:
        if cel.compiled(invariant.rule)(scope) is True:
            return
    except cel.UnknownError:
        return
    except cel.EvaluationError as wrong:
        why = f"rule evaluation error: {wrong}"
    message = f'Invalid value: "{schema.type or "object"}": {why}'
    yield Problem(reason=invariant.reason, field=f"{path}{invariant.field_path}", message=message)
