"""In which form does the client want to see objects, and what do they look like in it?

A view is chosen by the `Accept` header: whole objects, Tables, or metadata alone. Objects are kept encoded,
so the whole-object form only puts bytes together. Which objects are shown is decided by the caller.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from lbipam.localapi import refusals, tables
from lbipam.localapi.listing import Page
from lbipam.localapi.resources import Resource, Version
from lbipam.localapi.store import Stored

JSON = "application/json"
_CHUNK_ITEMS = 500


class Form(Enum):
    """What is shown of an object."""

    WHOLE = "whole"
    TABLE = "Table"
    METADATA = "PartialObjectMetadata"


def form_of(accept: str) -> Form:
    """The first form of the `Accept` header that the server can give; raises `ApiError` 406 when there is none."""
    if not accept:
        return Form.WHOLE
    for choice in accept.split(","):
        media, *parameters = (part.strip() for part in choice.split(";"))
        if media not in (JSON, "application/*", "*/*"):
            continue
        wanted = dict(parameter.partition("=")[::2] for parameter in parameters)
        match wanted.get("as"):
            case None:
                return Form.WHOLE
            case "Table":
                return Form.TABLE
            case "PartialObjectMetadata" | "PartialObjectMetadataList":
                return Form.METADATA
            case _:
                continue
    raise refusals.not_acceptable([JSON])


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How the objects of one resource are shown to one client."""

    resource: Resource
    version: Version
    form: Form
    include: str = "Metadata"
    """What of each object goes into a Table's rows."""

    def one(self, stored: Stored, *, with_definitions: bool = True) -> bytes:
        """The JSON of one object."""
        if self.form is Form.WHOLE:
            return self.resource.head(self.version.name) + stored.body[1:]
        value = stored.decode()
        if self.form is Form.METADATA:
            return msgspec.json.encode(tables.partial(value))
        return msgspec.json.encode(
            self._table([value], {"resourceVersion": str(stored.version)}, with_definitions=with_definitions)
        )

    def _table(
        self, values: Iterable[Any], metadata: Mapping[str, Any], *, with_definitions: bool
    ) -> dict[str, Any]:
        return tables.table(
            self.resource, self.version, values, metadata, self.include, with_definitions=with_definitions
        )

    def page(self, page: Page) -> Iterator[bytes]:
        """The JSON of a list, in parts that are small enough to let others have their turn between them."""
        if self.form is Form.TABLE:
            values = (stored.decode() for stored in page.items)
            yield msgspec.json.encode(self._table(values, page.metadata, with_definitions=True))
            return
        if self.form is Form.METADATA:
            kind, api_version = "PartialObjectMetadataList", "meta.k8s.io/v1"
        else:
            kind, api_version = self.resource.list_kind, self.resource.api_version(self.version.name)
        metadata = msgspec.json.encode(page.metadata)
        yield (
            f'{{"kind":"{kind}","apiVersion":"{api_version}","metadata":'.encode() + metadata + b',"items":['
        )
        for start in range(0, len(page.items), _CHUNK_ITEMS):
            separator = b"," if start else b""
            yield separator + b",".join(self._items(page.items[start : start + _CHUNK_ITEMS]))
        yield b"]}\n"

    def _items(self, items: list[Stored]) -> list[bytes]:
        if self.form is Form.METADATA:
            return [self.one(stored) for stored in items]
        if not self.resource.custom:  # items of built-in kinds do not tell their kind
            return [stored.body for stored in items]
        head = self.resource.head(self.version.name)
        return [head + stored.body[1:] for stored in items]
