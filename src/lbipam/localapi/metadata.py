"""What may the metadata of an object say, and what of it does the server decide?

The rules are the same for every kind. Names that are taken, and who owns which field, are not looked at here.
"""

import random
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from lbipam.localapi import formats, refusals
from lbipam.localapi.refusals import Problem
from lbipam.localapi.resources import Object, Resource

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
"""What generated names end in: no vowels, so that no words come out."""

_SUFFIX_LENGTH = 5
_LONGEST_BEGINNING = 63 - _SUFFIX_LENGTH

_LONGEST_ANNOTATIONS = 256 * 1024
"""Of all annotations of an object together, names and values, in bytes."""

_DECIDED = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
    "resourceVersion",
)
"""Metadata that only the server sets."""


def now() -> str:
    """The time as `metav1.Time`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def of(value: Object) -> Object:
    """The metadata of an object that a client sends; it is added when there is none."""
    metadata: Object = value.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise refusals.bad_request("json: cannot unmarshal the metadata into Go value of type v1.ObjectMeta")
    return metadata


def begin(resource: Resource, metadata: Object) -> None:
    """Give a new object what the server gives it, in place."""
    for name in _DECIDED:
        metadata.pop(name, None)
    metadata["uid"] = str(uuid.uuid4())
    metadata["creationTimestamp"] = now()
    if resource.counts_generations:
        metadata["generation"] = 1


def generated_name(beginning: str) -> str:
    """A name that begins as asked and is most likely not taken."""
    suffix = random.choices(_SUFFIX, k=_SUFFIX_LENGTH)  # noqa: S311 - a name is no secret
    return beginning[:_LONGEST_BEGINNING] + "".join(suffix)


def keep(was: Object, metadata: Object) -> None:
    """Put back what a client cannot change, in place."""
    for name in (*_DECIDED, "name", "namespace"):
        if name in was:
            metadata[name] = was[name]
        else:
            metadata.pop(name, None)


def problems(resource: Resource, new: Object, old: Object | None) -> Iterator[Problem]:
    """What is wrong with the metadata of an object."""
    if old is None and (why := resource.why_not_name(new["name"])):
        yield refusals.invalid_value("metadata.name", new["name"], why)
    yield from _label_problems(new.get("labels", {}))
    for part in ("annotations", "finalizers"):
        for name in new.get(part, ()):
            if why := formats.why_not_qualified_name(name.lower()):
                yield refusals.invalid_value(f"metadata.{part}", name, why)
    size = sum(len(name.encode()) + len(text.encode()) for name, text in new.get("annotations", {}).items())
    if size > _LONGEST_ANNOTATIONS:
        yield refusals.too_long("metadata.annotations", _LONGEST_ANNOTATIONS)
    yield from _owner_problems(new.get("ownerReferences", ()))
    if old is not None and "deletionTimestamp" in old:
        added = [each for each in new.get("finalizers", []) if each not in old.get("finalizers", [])]
        if added:
            named = ", ".join(refusals.shown(each) for each in added)
            why = "no new finalizers can be added if the object is being deleted, found new finalizers"
            yield refusals.forbidden_field("metadata.finalizers", f"{why} []string{{{named}}}")


def _label_problems(labels: Object) -> Iterator[Problem]:
    for key, value in labels.items():
        if why := formats.why_not_qualified_name(key):
            yield refusals.invalid_value("metadata.labels", key, why)
        if why := formats.why_not_label_value(value):
            yield refusals.invalid_value("metadata.labels", value, why)


def _owner_problems(owners: Sequence[Object]) -> Iterator[Problem]:
    """What is wrong with the references to the objects that this one depends on."""
    field = "metadata.ownerReferences"
    for owner in owners:
        api_version = owner.get("apiVersion", "")
        group, _, version = api_version.rpartition("/")
        if not version or "/" in group:
            yield refusals.invalid_value(f"{field}.apiVersion", api_version, "version must not be empty")
        for name in ("kind", "name", "uid"):
            if not owner.get(name):
                yield refusals.invalid_value(f"{field}.{name}", "", f"{name} must not be empty")
        if (api_version, owner.get("kind")) == ("v1", "Event"):
            yield refusals.invalid_value(field, owner, "/v1, Kind=Event is disallowed from being an owner")
    controllers = [owner.get("name", "") for owner in owners if owner.get("controller")]
    if len(controllers) > 1:
        first, second = controllers[:2]
        why = "Only one reference can have Controller set to true"
        found = f'Found "true" in references for {first} and {second}'
        yield refusals.invalid_value(field, owners, f"{why}. {found}")
