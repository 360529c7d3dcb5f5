"""What does a watch tell its client, line by line?

A watch reads a collection's history at its own place. An object that begins or ceases to match the watch's
filter is told as added or deleted. A place that is forgotten ends the watch with an `ERROR` event of code
410. Sending the lines is up to the server.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from lbipam.localapi import refusals, tables
from lbipam.localapi.listing import Filter
from lbipam.localapi.store import Collection, Event, Store, Stored
from lbipam.localapi.views import Form, View

BOOKMARK_SECONDS = 60.0
_INITIAL_END = {"k8s.io/initial-events-end": "true"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a client asked to be told."""

    view: View
    chosen: Filter
    start: int | None
    """The version after which to begin; `None` to be told first of what is there."""
    bookmarks: bool
    initial_bookmark: bool
    """Whether a bookmark is to mark the end of what was there at the beginning."""
    seconds: float


class Watch:
    """One watch on one collection."""

    def __init__(self, store: Store, collection: Collection, wanted: Wanted) -> None:
        self._store = store
        self._collection = collection
        self._wanted = wanted
        self._told_columns = False

    async def lines(self) -> AsyncIterator[bytes]:
        """The lines of the watch, several at a time; ends when the time is over."""
        wanted, collection = self._wanted, self._collection
        end = asyncio.get_running_loop().time() + wanted.seconds
        if wanted.start is None:
            place = collection.end
            async for lines in self._initial():
                yield lines
        elif wanted.start < collection.oldest:
            yield self._too_old(wanted.start)
            return
        else:
            place = collection.place_after(wanted.start)
        told = wanted.start or 0
        while True:
            events = collection.events_from(place)
            if events is None:
                yield self._too_old(told)
                return
            if events:
                lines = b"".join(self._lines(events))
                place += len(events)
                told = events[-1].version
                if lines:
                    yield lines
                continue
            now = asyncio.get_running_loop().time()
            if now >= end:
                return
            if not await self._change(min(end - now, BOOKMARK_SECONDS)) and wanted.bookmarks:
                yield self._bookmark({})

    async def _change(self, seconds: float) -> bool:
        """Wait for an event; `False` when none came in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._collection.change()
        except TimeoutError:
            return False
        return True

    async def _initial(self) -> AsyncIterator[bytes]:
        version = self._store.version
        items = list(self._wanted.chosen.chosen(self._collection))
        for start in range(0, len(items), 500):
            yield b"".join(self._line(b"ADDED", stored) for stored in items[start : start + 500])
        if self._wanted.initial_bookmark:
            yield self._bookmark(_INITIAL_END, version)

    def _lines(self, events: list[Event]) -> Iterator[bytes]:
        matches, after = self._wanted.chosen.matches, self._wanted.start or 0
        for event in events:
            if event.version <= after:  # the client knows a version that is still to come
                continue
            before = event.before is not None and matches(event.before)
            now = event.now is not None and matches(event.now)
            if now:
                assert event.now is not None
                yield self._line(b"MODIFIED" if before else b"ADDED", event.now)
            elif before:
                assert event.before is not None
                gone = event.before if event.now is None else _at_version(event.before, event.version)
                yield self._line(b"DELETED", gone)

    def _line(self, kind: bytes, stored: Stored) -> bytes:
        view = self._wanted.view
        shown = view.one(stored, with_definitions=not self._told_columns)
        self._told_columns = True
        return b'{"type":"' + kind + b'","object":' + shown + b"}\n"

    def _bookmark(self, annotations: dict[str, str], version: int | None = None) -> bytes:
        view = self._wanted.view
        metadata: dict[str, Any] = {
            "resourceVersion": str(version or self._store.version),
            "creationTimestamp": None,
        }
        if annotations:
            metadata["annotations"] = annotations
        told: dict[str, Any] = {
            "kind": view.resource.kind,
            "apiVersion": view.resource.api_version(view.version.name),
            "metadata": metadata,
        }
        if view.form is Form.TABLE:
            told = tables.table(view.resource, view.version, (), {}, view.include, with_definitions=False)
            row = {
                "cells": [],
                "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata,
                },
            }
            told = {**told, "metadata": {"resourceVersion": metadata["resourceVersion"]}, "rows": [row]}
        return msgspec.json.encode({"type": "BOOKMARK", "object": told}) + b"\n"

    def _too_old(self, version: int) -> bytes:
        message = f"too old resource version: {version} ({self._collection.oldest})"
        return msgspec.json.encode({"type": "ERROR", "object": refusals.expired(message).status}) + b"\n"


def _at_version(stored: Stored, version: int) -> Stored:
    """The object as it was, under the version of the change that took it out of the watch's sight."""
    value = stored.decode()
    value["metadata"]["resourceVersion"] = str(version)
    return Stored(stored.key, version, stored.labels, msgspec.json.encode(value))


def lasting(seconds: int) -> float:
    """How long a watch lasts: as asked, else 30 to 60 minutes, so that not all end at once."""
    return seconds or random.uniform(1800, 3600)  # noqa: S311 - spreads load, hides nothing
