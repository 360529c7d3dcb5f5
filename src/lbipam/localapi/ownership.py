"""Who owns which fields of an object, and what does an apply make of it?

The records are `metadata.managedFields`; the rules are those of structured-merge-diff's updater: whoever
changes a field takes it over, an apply that would change somebody else's field is a conflict unless forced,
and what an applier owned alone and no longer states is removed. How fields are named is told in `fieldsets`;
nothing here stores objects.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from lbipam.localapi import fieldsets, refusals
from lbipam.localapi.fieldsets import Fields
from lbipam.localapi.resources import Object
from lbipam.localapi.schema import Schema

_UNOWNED: Fields = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {
        ".": {},
        "f:name": {},
        "f:namespace": {},
        "f:creationTimestamp": {},
        "f:selfLink": {},
        "f:uid": {},
        "f:generation": {},
        "f:managedFields": {},
        "f:resourceVersion": {},
        "f:deletionTimestamp": {},
        "f:deletionGracePeriodSeconds": {},
    },
}
"""Fields that belong to the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """One entry of `managedFields`."""

    manager: str
    operation: str
    api_version: str
    subresource: str
    time: str
    fields: Fields

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """Two entries of the same identity are one owner; an applier is one whatever the version it applies."""
        version = "" if self.operation == "Apply" else self.api_version
        return (self.manager, self.operation, version, self.subresource)

    @property
    def told(self) -> str:
        """How conflicts name the owner."""
        name = refusals.shown(self.manager)
        if self.subresource:
            name += f" with subresource {refusals.shown(self.subresource)}"
        if self.operation == "Update":
            name += f" using {self.api_version}"
        return name

    def entry(self) -> dict[str, Any]:
        """The entry as it stands in the object."""
        entry: dict[str, Any] = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields,
        }
        if not self.time:
            del entry["time"]
        if self.subresource:
            entry["subresource"] = self.subresource
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Who writes, and how."""

    manager: str
    operation: str
    """`Apply` or `Update`."""
    api_version: str
    subresource: str
    time: str
    force: bool = False

    def owns(self, fields: Fields) -> Owner:
        """The writer as the owner of some fields."""
        return Owner(
            manager=self.manager,
            operation=self.operation,
            api_version=self.api_version,
            subresource=self.subresource,
            time=self.time,
            fields=fields,
        )


def owners(entries: Iterable[Any]) -> list[Owner]:
    """Read `managedFields`; entries that cannot be read are left out."""
    return [
        Owner(
            manager=entry.get("manager", ""),
            operation=entry.get("operation", ""),
            api_version=entry.get("apiVersion", ""),
            subresource=entry.get("subresource", ""),
            time=entry.get("time", ""),
            fields=entry.get("fieldsV1", {}),
        )
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("fieldsV1", {}), dict) and entry.get("operation")
    ]


def owners_after_update(
    known: list[Owner],
    old: Object,
    new: Object,
    *,
    schema: Schema,
    writer: Writer,
    out_of_reach: AbstractSet[str],
) -> list[Owner]:
    """The owners after `writer` replaced `old` by `new`; it cannot own the top-level fields that are `out_of_reach`."""
    changed, removed = _difference(old, new, schema)
    taken = _reached(changed, out_of_reach)
    mine = writer.owns(taken)
    before, others = _set_apart(mine, known)
    if before is not None:
        fields = fieldsets.union(fieldsets.difference(before.fields, removed), taken)
        unchanged = fields == before.fields and not taken
        mine = replace(mine, fields=fields, time=before.time if unchanged else writer.time)
    kept = _left_with(others, taken, removed)
    if mine.fields:
        kept.append(mine)
    return _sorted(kept)


def _set_apart(mine: Owner, known: list[Owner]) -> tuple[Owner | None, list[Owner]]:
    """What the owner had before, if it was one, and the others."""
    before = next((owner for owner in known if owner.identity == mine.identity), None)
    return before, [owner for owner in known if owner.identity != mine.identity]


def _left_with(owners: list[Owner], taken: Fields, removed: Fields) -> list[Owner]:
    """The owners without fields that somebody took over or that are gone; who has none left is none."""
    left = []
    for owner in owners:
        fields = fieldsets.difference(fieldsets.difference(owner.fields, taken), removed)
        if fields:
            left.append(owner if fields == owner.fields else replace(owner, fields=fields))
    return left


def _reached(fields: Fields, out_of_reach: AbstractSet[str]) -> Fields:
    return {element: below for element, below in fields.items() if element[2:] not in out_of_reach}


def _difference(old: Object, new: Object, schema: Schema) -> tuple[Fields, Fields]:
    changed, removed = fieldsets.compared(old, new, schema)
    return fieldsets.difference(changed, _UNOWNED), fieldsets.difference(removed, _UNOWNED)


def _sorted(known: list[Owner]) -> list[Owner]:
    """Appliers first, then by time, then by name, as Kubernetes lists them."""
    return sorted(
        known,
        key=lambda owner: (
            owner.operation != "Apply",
            owner.time if owner.operation == "Update" else "",
            owner.manager,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What an apply comes to."""

    value: Object
    owners: list[Owner]


def applied(
    known: list[Owner],
    live: Object,
    config: Object,
    *,
    schema: Schema,
    writer: Writer,
    out_of_reach: AbstractSet[str],
    takeable: Fields | None = None,
) -> Applied:
    """Merge what the writer applies into the object; raises `ApiError` 409 on conflicts over what is not `takeable`."""
    claimed = _reached(fieldsets.difference(fieldsets.owned(config, schema), _UNOWNED), out_of_reach)
    config = {name: value for name, value in config.items() if name not in out_of_reach}
    mine = writer.owns(claimed)
    before, others = _set_apart(mine, known)
    merged = merged_values(live, config, schema)
    if before is not None:
        still_owned = fieldsets.union(claimed, _UNOWNED)
        for owner in others:
            still_owned = fieldsets.union(still_owned, owner.fields)
        merged = _without_abandoned(merged, before.fields, still_owned, schema)
    changed, removed = _difference(live, merged, schema)
    taken = _reached(changed, out_of_reach)
    if not writer.force:
        _refuse_conflicts(others, fieldsets.difference(taken, takeable or {}))
    kept = _left_with(others, taken, removed)
    if before is not None and before.fields == claimed and not changed:
        mine = replace(mine, time=before.time)
    if claimed:
        kept.append(mine)
    return Applied(value=merged, owners=_sorted(kept))


def _refuse_conflicts(others: list[Owner], changed: Fields) -> None:
    conflicts = [(owner, fieldsets.intersection(owner.fields, changed)) for owner in others]
    conflicts = [(owner, fields) for owner, fields in conflicts if fields]
    if conflicts:
        raise _conflict(conflicts)


def _conflict(conflicts: list[tuple[Owner, Fields]]) -> refusals.ApiError:
    told = [(owner.told, path) for owner, fields in conflicts for path in fieldsets.paths(fields)]
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {name}", "field": path}
        for name, path in told
    ]
    if len(told) == 1:
        message = f"Apply failed with 1 conflict: conflict with {told[0][0]}: {told[0][1]}"
    else:
        by_owner: dict[str, list[str]] = {}
        for name, path in told:
            by_owner.setdefault(name, []).append(path)
        lists = "\n".join(
            f"conflicts with {name}:\n" + "\n".join(f"- {path}" for path in by_owner[name])
            for name in sorted(by_owner)
        )
        message = f"Apply failed with {len(told)} conflicts: {lists}"
    return refusals.apply_conflict(message, causes)


def merged_values(live: Any, config: Any, schema: Schema) -> Any:
    """`config` laid over `live`: maps and keyed lists are united, everything else is replaced."""
    if isinstance(live, dict) and isinstance(config, dict) and not schema.is_atomic:
        merged = dict(live)
        for name, value in config.items():
            merged[name] = (
                merged_values(merged[name], value, schema.member(name)) if name in merged else value
            )
        return merged
    if isinstance(live, list) and isinstance(config, list) and schema.list_type in ("map", "set"):
        return _merged_lists(live, config, schema)
    return config


def _merged_lists(live: list[Any], config: list[Any], schema: Schema) -> list[Any]:
    """Items keep their places in `live`; new ones follow, in the order of `config`."""
    there = {fieldsets.item_element(item, schema): item for item in live}
    merged = dict(there)
    for item in config:
        element = fieldsets.item_element(item, schema)
        merged[element] = merged_values(there[element], item, schema.item()) if element in there else item
    return list(merged.values())


def _without_abandoned(value: Any, before: Fields, owned: Fields, schema: Schema) -> Any:
    """`value` without what was owned `before` and is `owned` by nobody now."""
    if isinstance(value, dict):
        kept = dict(value)
        for element, fields in before.items():
            name = element[2:]
            if element == "." or name not in kept:
                continue
            owned_here = owned.get(element)
            if owned_here is None:
                del kept[name]
            elif fields:
                kept[name] = _without_abandoned(kept[name], fields, owned_here, schema.member(name))
        return kept
    if isinstance(value, list):
        items = []
        for item in value:
            element = fieldsets.item_element(item, schema)
            fields, owned_here = before.get(element), owned.get(element)
            if fields is None:
                items.append(item)
            elif owned_here is not None:
                items.append(_without_abandoned(item, fields, owned_here, schema.item()))
        return items
    return value
