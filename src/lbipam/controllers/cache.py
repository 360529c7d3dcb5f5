"""The last known objects, and whether each kind has synced.

An object never goes back to an older version: what our own write returned is not undone by a watch event
that was under way. Unless the store itself went back: what a list tells that is newer than all we know, counts.
This file does not know what the objects mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lbipam.controllers.ports import Deleted, Event, Listed, Malformed, Missing, Synced, Upserted
from lbipam.kube.kinds import Key, Kind


@dataclass(frozen=True, slots=True)
class Change:
    """An object as it was and as it is; None where it did not or does not exist."""

    kind: Kind
    key: Key
    before: Any
    after: Any


def _is_older(version: str, than: str) -> bool:
    # Resource versions of one kind on one server are integers in order (KEP-5504); anything else is taken
    # as it comes.
    if not (version.isdecimal() and than.isdecimal()):
        return False
    return int(version) < int(than)


class Cache:
    """All objects of the kinds that are watched."""

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[Key, Any]] = {}
        self._synced: set[Kind] = set()

    def objects(self, kind: Kind) -> Mapping[Key, Any]:
        """The objects of a kind by namespace and name."""
        return self._objects.get(kind, {})

    def has_synced(self, *kinds: Kind) -> bool:
        """Whether all objects of these kinds are known, or the server does not know the kind."""
        return all(kind in self._synced for kind in kinds)

    def store(self, event: Event) -> Change | None:
        """Take an event in; the change it makes, None if it makes none to any object."""
        match event:
            case Upserted(kind=kind, object=new):
                as_of = event.as_of if isinstance(event, Listed) else new.metadata.resource_version
                return self._upsert(kind, new, as_of)
            case Deleted(kind=kind, key=key):
                before = self._objects.get(kind, {}).pop(key, None)
                return Change(kind, key, before, None) if before is not None else None
            case Synced(kind=kind) | Missing(kind=kind):
                self._synced.add(kind)
                return None
            case Malformed():
                return None

    def _upsert(self, kind: Kind, new: Any, as_of: str) -> Change | None:
        objects = self._objects.setdefault(kind, {})
        metadata = new.metadata
        key = Key(metadata.namespace, metadata.name)
        before = objects.get(key)
        if before is not None and before.metadata.uid == metadata.uid:
            known = before.metadata.resource_version
            if metadata.resource_version == known or _is_older(as_of, known):
                return None
        objects[key] = new
        return Change(kind, key, before, new)
