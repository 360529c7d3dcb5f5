"""Which resources does the server have, and what is each of them called?

A `Resource` is what discovery tells of one plural name in one group; its versions carry the schemas. A
`Registry` holds those that are served now. What may be done with objects is told by a resource's `Rules`;
nothing here applies them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lbipam.localapi.jsonpath import JsonPath
from lbipam.localapi.refusals import Problem, Subject
from lbipam.localapi.schema import Schema

Object = dict[str, Any]
"""A decoded object without `apiVersion` and `kind`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a Table."""

    name: str
    type: str
    cell: Callable[[Object], Any]
    priority: int = 0
    format: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Version:
    """One version of a resource."""

    name: str
    schema: Schema
    served: bool = True
    deprecation: str = ""
    """The warning that its users are told, when it is deprecated."""
    openapi: Mapping[str, Any] | None = None
    """The schema as the CRD states it; `None` for built-in kinds."""
    columns: tuple[Column, ...] = ()
    selectable: Mapping[str, JsonPath] = field(default_factory=dict)
    """Fields for field selectors, besides name and namespace."""


def _no_change(_new: Object, _old: Object | None) -> None:
    return


def _no_problem(_new: Object, _old: Object | None) -> Iterable[Problem]:
    return ()


def _nothing_to_detain(_value: Object) -> None:
    return


def _nothing_to_settle(_new: Object | None, _old: Object | None) -> None:
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a kind demands beyond its schema. Every rule is given the new object and the one it replaces, if any."""

    complete: Callable[[Object, Object | None], None] = _no_change
    """Fill in the defaults of the kind's fields, in place; they belong to whoever wrote the object."""
    prepare: Callable[[Object, Object | None], None] = _no_change
    """Set what the server decides, in place."""
    problems: Callable[[Object, Object | None], Iterable[Problem]] = _no_problem
    """What is wrong with the object."""
    status_problems: Callable[[Object, Object | None], Iterable[Problem]] = _no_problem
    """What is wrong with the object after a write to its status."""
    settle: Callable[[Object, Object | None], None] = _no_change
    """Choose what must be unique (addresses, ports), in place, without taking it yet; raises `ApiError`."""
    detain: Callable[[Object], None] = _nothing_to_detain
    """Mark an object that is to be deleted with the finalizer that keeps it until what it holds is gone; raises
    `ApiError` when it must stay."""
    committed: Callable[[Object | None, Object | None], None] = _nothing_to_settle
    """The write is done: take and release what is unique, and act on it. The new object is `None` after a deletion."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resource:
    """One kind of objects under one plural name."""

    group: str
    plural: str
    singular: str
    kind: str
    list_kind: str
    namespaced: bool
    versions: Mapping[str, Version]
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    has_status: bool = False
    """Whether `/status` is written apart from the rest."""
    custom: bool = False
    """Whether a CRD defines it."""
    counts_generations: bool = False
    creates_on_put: bool = False
    deletes_many: bool = True
    """Whether one request may delete all that are chosen."""
    why_not_name: Callable[[str], str]
    initial: Mapping[str, Any] = field(default_factory=dict)
    """The fields that an object of the kind has before anybody sets one (Go's zero value)."""
    rules: Rules = field(default_factory=Rules)

    def subject(self, name: str = "") -> Subject:
        """How refusals name an object of this resource."""
        return Subject(group=self.group, resource=self.plural, kind=self.kind, name=name)

    def api_version(self, version: str) -> str:
        """What its objects carry as `apiVersion`."""
        return f"{self.group}/{version}" if self.group else version

    def head(self, version: str) -> bytes:
        """The beginning of the JSON of an object, up to the stored body's first field."""
        return f'{{"apiVersion":"{self.api_version(version)}","kind":"{self.kind}",'.encode()


class Registry:
    """The resources that are served, by group and plural name."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        self._resources = {(resource.group, resource.plural): resource for resource in resources}
        self.generation = 0
        """Counts the changes, so that what is derived from the whole can be kept until the next one."""

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._resources.values())

    def find(self, group: str, plural: str) -> Resource | None:
        return self._resources.get((group, plural))

    def add(self, resource: Resource) -> None:
        """Serve a resource, in place of the one of the same name."""
        self._resources[(resource.group, resource.plural)] = resource
        self.generation += 1

    def remove(self, group: str, plural: str) -> None:
        if self._resources.pop((group, plural), None) is not None:
            self.generation += 1

    def of_kind(self, group: str, kind: str) -> Resource | None:
        """The resource whose objects are of the given kind."""
        return next((each for each in self if each.group == group and each.kind == kind), None)

    def groups(self) -> dict[str, list[Resource]]:
        """The resources of each group, in the order they came."""
        groups: dict[str, list[Resource]] = {}
        for resource in self:
            groups.setdefault(resource.group, []).append(resource)
        return groups
