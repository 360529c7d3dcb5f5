"""Which objects belong in the answer to a list, page by page?

A list is a snapshot: later pages come from the state that the first page was taken from, however much is
written meanwhile. A `continue` token names the snapshot and the place in it; tokens expire. How objects are
printed is told in `views`.
"""

import base64
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec

from lbipam.localapi import refusals
from lbipam.localapi.jsonpath import JsonPath
from lbipam.localapi.resources import Object, Resource, Version
from lbipam.localapi.selectors import FieldSelector, LabelSelector
from lbipam.localapi.store import Collection, Key, Stored

SNAPSHOTS = 64
"""Unfinished lists that are remembered; the longest unused is forgotten first."""

SNAPSHOT_SECONDS = 300.0

_IDENTITY = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What a list, a watch or a deletion of many is limited to."""

    namespace: str = ""
    labels: LabelSelector | None = None
    fields: FieldSelector | None = None
    paths: tuple[tuple[str, JsonPath], ...] = ()
    """The fields of the object, besides name and namespace, that the field selector compares."""

    def matches(self, stored: Stored) -> bool:
        if self.namespace and stored.key.namespace != self.namespace:
            return False
        if self.labels is not None and not self.labels.matches(stored.labels):
            return False
        return self.fields is None or self.fields.matches(self._fields_of(stored))

    def _fields_of(self, stored: Stored) -> dict[str, str]:
        fields = {"metadata.name": stored.key.name, "metadata.namespace": stored.key.namespace}
        if self.paths:
            value = stored.decode()
            for name, path in self.paths:
                found = path.find(value)
                fields[name] = _as_text(found[0]) if found else ""
        return fields

    def chosen(self, collection: Collection) -> Iterator[Stored]:
        """The objects of a collection that match, in order of namespace and name."""
        name = self.fields.only("metadata.name") if self.fields else ""
        if name and self.namespace:
            found = collection.objects.get(Key(self.namespace, name))
            return iter((found,) if found is not None and self.matches(found) else ())
        everything = collection.in_namespace(self.namespace)
        if self.labels is None and self.fields is None:
            return everything
        return (stored for stored in everything if self.matches(stored))


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return str(value.get("component", ""))
    return str(value)


def filter_for(
    resource: Resource,
    version: Version,
    namespace: str,
    labels: LabelSelector | None,
    fields: FieldSelector | None,
) -> Filter:
    """The filter of a request; raises `ApiError` 400 when the kind does not offer a field."""
    paths = []
    for term in fields.terms if fields else ():
        path = version.selectable.get(term.field)
        if path is not None:
            paths.append((term.field, path))
        elif term.field not in _IDENTITY or (term.field == "metadata.namespace" and not resource.namespaced):
            raise refusals.bad_request(f"field label not supported: {term.field}")
    return Filter(namespace=namespace, labels=labels, fields=fields, paths=tuple(paths))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a list."""

    items: list[Stored]
    version: int
    token: str = ""
    """What to ask the next page with; empty on the last one."""
    remaining: int | None = None
    """How many items follow, where that may be told."""

    @property
    def metadata(self) -> Object:
        """The list's metadata."""
        metadata: Object = {"resourceVersion": str(self.version)}
        if self.token:
            metadata["continue"] = self.token
        if self.remaining:
            metadata["remainingItemCount"] = self.remaining
        return metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    items: list[Stored]
    version: int
    whole: bool
    taken: float


class Pages:
    """The lists whose next page may still be asked for."""

    def __init__(self) -> None:
        self._snapshots: OrderedDict[str, _Snapshot] = OrderedDict()

    def first(self, collection: Collection, version: int, chosen: Filter, limit: int) -> Page:
        """The first page of what the filter chooses; everything when there is no limit."""
        items = list(chosen.chosen(collection))
        if not limit or len(items) <= limit:
            return Page(items=items, version=version)
        identity = secrets.token_hex(8)
        whole = chosen.labels is None and chosen.fields is None
        self._snapshots[identity] = _Snapshot(items=items, version=version, whole=whole, taken=monotonic())
        if len(self._snapshots) > SNAPSHOTS:
            self._snapshots.popitem(last=False)
        return self._page(identity, 0, limit)

    def next(self, token: str, limit: int) -> Page:
        """The page that a token names; raises `ApiError` 410 when the token has expired, 400 when it is none."""
        try:
            identity, start = msgspec.json.decode(base64.urlsafe_b64decode(token), type=tuple[str, int])
        except (ValueError, msgspec.MsgspecError) as wrong:
            raise refusals.bad_request(f"continue key is not valid: {wrong}") from wrong
        snapshot = self._snapshots.get(identity)
        if snapshot is None or monotonic() - snapshot.taken > SNAPSHOT_SECONDS:
            raise refusals.expired(
                "The provided continue parameter is too old to display a consistent list result. You must start a new"
                " list without the continue parameter."
            )
        self._snapshots.move_to_end(identity)
        return self._page(identity, start, limit)

    def forget_all(self) -> None:
        """Let every token expire."""
        self._snapshots.clear()

    def _page(self, identity: str, start: int, limit: int) -> Page:
        snapshot = self._snapshots[identity]
        end = start + limit if limit else len(snapshot.items)
        items, remaining = snapshot.items[start:end], max(len(snapshot.items) - end, 0)
        if not remaining:
            return Page(items=items, version=snapshot.version)
        token = base64.urlsafe_b64encode(msgspec.json.encode((identity, end))).decode()
        told = remaining if snapshot.whole else None
        return Page(items=items, version=snapshot.version, token=token, remaining=told)
