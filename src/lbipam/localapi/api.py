"""What happens to an object when a client creates, changes or deletes it?

Every write goes the same way: read and prune, fill in defaults, keep apart what the subresource may not touch, work out who
owns which field, let the kind's rules decide, validate, and store — or refuse with an `ApiError`. All of it happens
in one step of the event loop, so that no two writes mix. HTTP, and how answers are printed, are not known here.
"""

import random
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from lbipam.localapi import decoding, formats, invariants, ownership, patches, refusals, schema
from lbipam.localapi.refusals import Problem
from lbipam.localapi.resources import Object, Registry, Resource
from lbipam.localapi.store import Collection, Key, Store, Stored

_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
"""What generated names end in: no vowels, so that no words come out."""

_KEPT = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
)
"""Metadata that only the server sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a client wants its write to be done."""

    resource: Resource
    version: str
    manager: str
    subresource: str = ""
    operation: str = "Update"
    dry_run: bool = False
    validation: str = "Warn"
    """`Strict`, `Warn` or `Ignore` unknown fields."""
    force: bool = False
    warnings: list[str] = field(default_factory=list)
    """Filled with what the client is to be warned of."""


def now() -> str:
    """The time as `metav1.Time`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Api:
    """The objects, and what may be done with them."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self.store = store
        self.registry = registry
        self.removed: Callable[[Resource, Key], None] = lambda _resource, _key: None
        """Told of every object that is gone."""

    # Reading

    def collection(self, resource: Resource) -> Collection:
        return self.store.collection(resource.group, resource.plural)

    def get(self, resource: Resource, key: Key) -> Stored:
        """The object; raises `ApiError` 404."""
        stored: Stored | None = self.collection(resource).objects.get(key)
        if stored is None:
            raise refusals.not_found(resource.subject(key.name))
        return stored

    # Writing

    def create(self, wish: Wish, namespace: str, value: Object) -> Stored:
        """Store a new object; `value` is changed."""
        resource = wish.resource
        metadata = _metadata(value)
        if metadata.get("namespace") and metadata["namespace"] != namespace:
            raise refusals.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        if metadata.get("resourceVersion") not in (None, "", "0"):
            raise refusals.bad_request("resourceVersion should not be set on objects to be created")
        value = self._read(wish, value)
        metadata = value["metadata"]
        if resource.namespaced:
            self._check_namespace(resource, namespace)
            metadata["namespace"] = namespace
        else:
            metadata.pop("namespace", None)
        key = self._name(resource, namespace, metadata)
        self._begin(resource, metadata)
        resource.rules.complete(value, None)
        if resource.has_status and resource.custom:
            value.pop("status", None)
        self._record_owner(wish, value, dict(resource.initial))
        return self._create_prepared(wish, key, value)

    def _create_prepared(self, wish: Wish, key: Key, value: Object) -> Stored:
        resource = wish.resource
        resource.rules.prepare(value, None)
        self._refuse_problems(wish, value, None)
        resource.rules.settle(value, None)
        if wish.dry_run:
            return _unstored(key, value)
        stored = self.store.put(self.collection(resource), key, value)
        resource.rules.committed(value, None)
        return self._after_commit(resource, key, stored)

    def update(self, wish: Wish, key: Key, value: Object) -> tuple[Stored, bool]:
        """Replace an object; `value` is changed. Returns it, and whether it was created, as some kinds allow."""
        resource = wish.resource
        metadata = _metadata(value)
        if metadata.get("name") not in (None, "", key.name):
            message = (
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({key.name})"
            )
            raise refusals.bad_request(message)
        if metadata.get("namespace") not in (None, "", key.namespace):
            raise refusals.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        if resource.creates_on_put and not wish.subresource and key not in self.collection(resource).objects:
            metadata["name"] = key.name
            return self.create(wish, key.namespace, value), True
        stored = self.get(resource, key)
        if resource.custom and not metadata.get("resourceVersion"):
            why = "must be specified for an update"
            problem = refusals.invalid_value("metadata.resourceVersion", 0, why)
            raise refusals.invalid(resource.subject(key.name), [problem])
        old = stored.decode()
        if metadata.get("uid") not in (None, "", old["metadata"]["uid"]):
            why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {old['metadata']['uid']}"
            raise refusals.conflict(resource.subject(key.name), why)
        return self._replace(wish, stored, old, value), False

    def patch(self, wish: Wish, key: Key, kind: str, patch: Any) -> tuple[Stored, bool]:
        """Change an object as `patch` of the given kind says; returns it, and whether it was created.

        Kinds are `merge`, `json`, `strategic` and `apply`.
        """
        resource = wish.resource
        if kind == "apply":
            return self._apply(wish, key, patch)
        stored = self.get(resource, key)
        api_version = resource.api_version(wish.version)
        live = {"apiVersion": api_version, "kind": resource.kind, **stored.decode()}
        match kind:
            case "merge":
                value = patches.merge(live, patch)
            case "json":
                value = patches.json_patch(live, patch)
            case _:
                value = patches.strategic(live, patch, resource.versions[wish.version].schema)
        if not isinstance(value, dict) or not isinstance(value.get("metadata", {}), dict):
            raise refusals.bad_request("the patch leaves no object")
        if (value.pop("apiVersion", ""), value.pop("kind", "")) != (api_version, resource.kind):
            raise refusals.bad_request("the patch may not change apiVersion or kind")
        old = stored.decode()
        self._check_identity(resource, old, value)
        return self._replace(wish, stored, old, value), False

    def _check_identity(self, resource: Resource, old: Object, new: Object) -> None:
        was, is_now = old["metadata"], new.setdefault("metadata", {})
        problems = [
            refusals.invalid_value(f"metadata.{name}", is_now[name], "field is immutable")
            for name in ("name", "namespace", "uid")
            if is_now.get(name) and is_now[name] != was.get(name)
        ]
        if problems:
            raise refusals.invalid(resource.subject(was["name"]), problems)

    def _apply(self, wish: Wish, key: Key, config: Any) -> tuple[Stored, bool]:
        resource, version = wish.resource, wish.resource.versions[wish.version]
        config = self._read_applied(wish, key, config)
        stored: Stored | None = self.collection(resource).objects.get(key)
        writer = self._writer(wish)
        if stored is None:
            return self._apply_new(wish, key, config, writer), True
        live = stored.decode()
        self._check_identity(resource, live, config)
        entries = live["metadata"].pop("managedFields", [])
        asked_version = config["metadata"].pop("resourceVersion", None)
        outcome = ownership.applied(
            ownership.owners(entries),
            live,
            config,
            schema=version.schema,
            writer=writer,
            out_of_reach=self._out_of_reach(wish),
        )
        value = outcome.value
        if asked_version is not None:
            value["metadata"] = {**value["metadata"], "resourceVersion": asked_version}
        value["metadata"] = {
            **value["metadata"],
            "managedFields": [owner.entry() for owner in outcome.owners],
        }
        return self._replace(wish, stored, stored.decode(), value), False

    def _apply_new(self, wish: Wish, key: Key, config: Object, writer: ownership.Writer) -> Stored:
        resource, version = wish.resource, wish.resource.versions[wish.version]
        if wish.subresource:
            raise refusals.not_found(resource.subject(key.name))
        if uid := config["metadata"].get("uid"):
            why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise refusals.conflict(resource.subject(key.name), why)
        outcome = ownership.applied(
            [],
            {"metadata": {}},
            config,
            schema=version.schema,
            writer=writer,
            out_of_reach=self._out_of_reach(wish),
        )
        value = outcome.value
        metadata = value["metadata"]
        metadata["managedFields"] = [owner.entry() for owner in outcome.owners]
        if resource.namespaced:
            self._check_namespace(resource, key.namespace)
            metadata["namespace"] = key.namespace
        metadata["name"] = key.name
        self._begin(resource, metadata)
        if resource.custom:
            schema.set_defaults(value, version.schema)
            if resource.has_status:
                value.pop("status", None)
        resource.rules.complete(value, None)
        return self._create_prepared(wish, key, value)

    def _read_applied(self, wish: Wish, key: Key, config: Any) -> Object:
        """The configuration to apply, checked against the schema: an unknown field has no owner, so it is refused."""
        resource = wish.resource
        if not isinstance(config, dict) or not isinstance(config.get("metadata", {}), dict):
            raise refusals.bad_request("error decoding YAML: the body is no object")
        api_version = resource.api_version(wish.version)
        if (config.pop("apiVersion", ""), config.pop("kind", "")) != (api_version, resource.kind):
            raise refusals.bad_request(
                "apiVersion and kind of the applied object must be those of the request"
            )
        metadata = config.setdefault("metadata", {})
        if metadata.get("managedFields"):
            raise refusals.bad_request("metadata.managedFields must be nil")
        metadata.pop("managedFields", None)
        if metadata.setdefault("name", key.name) != key.name:
            raise refusals.bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL ({key.name})"
            )
        metadata.pop("creationTimestamp", None)
        value, unknown = self._pruned(wish, config)
        if unknown:
            lines = "\n".join(f".{path}: field not declared in schema" for path in unknown)
            what = f"{key.namespace}/{key.name}; {api_version}, Kind={resource.kind}"
            raise refusals.untyped(f"failed to create typed patch object ({what}): {lines}")
        return value

    def _replace(self, wish: Wish, stored: Stored, old: Object, value: Object) -> Stored:
        """Store `value` in place of `old`, as far as the wish allows it."""
        resource = wish.resource
        asked_version = value["metadata"].get("resourceVersion")
        if asked_version not in (None, "", "0", str(stored.version)):
            raise refusals.stale(resource.subject(stored.key.name))
        new = self._read(wish, value)
        entries = new["metadata"].pop("managedFields", None)
        metadata = self._kept_metadata(wish, old, new)
        new = self._kept_parts(wish, old, new, metadata)
        resource.rules.complete(new, old)
        was = old["metadata"].pop("managedFields", [])
        if wish.operation == "Apply":
            new["metadata"]["managedFields"] = entries
        else:
            self._record_owner(wish, new, old, entries or was)
        old["metadata"]["managedFields"] = was
        if not wish.subresource:
            resource.rules.prepare(new, old)
        self._count_generation(resource, old, new)
        self._refuse_problems(wish, new, old)
        if not wish.subresource:
            resource.rules.settle(new, old)
        if not was:
            del old["metadata"]["managedFields"]
        if not new["metadata"].get("managedFields"):
            new["metadata"].pop("managedFields", None)
        if new == old:
            return stored
        return self._commit(wish, stored, old, new)

    def _commit(self, wish: Wish, stored: Stored, old: Object, new: Object) -> Stored:
        if wish.dry_run:
            return _unstored(stored.key, new)
        resource = wish.resource
        updated = self.store.put(self.collection(resource), stored.key, new)
        resource.rules.committed(new, old)
        if "deletionTimestamp" in new["metadata"] and not _is_held(new):
            return self._remove(resource, stored.key, new)
        return self._after_commit(resource, stored.key, updated)

    def _after_commit(self, resource: Resource, key: Key, stored: Stored) -> Stored:
        """The object after its rules have acted on it: they may have written it again, or removed it."""
        latest: Stored | None = self.collection(resource).objects.get(key)
        return latest if latest is not None else stored

    # Deleting

    def delete(
        self, resource: Resource, key: Key, preconditions: Mapping[str, str], *, dry_run: bool
    ) -> tuple[Stored, bool]:
        """Delete an object; returns its last state and whether it is gone now rather than waiting for finalizers."""
        stored = self.get(resource, key)
        value = stored.decode()
        metadata = value["metadata"]
        for name, told in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            wanted = preconditions.get(name)
            if wanted is not None and wanted != metadata[name]:
                why = f"Precondition failed: {told} in precondition: {wanted}, {told} in object meta: {metadata[name]}"
                raise refusals.conflict(resource.subject(key.name), why)
        resource.rules.detain(value)
        if not _is_held(value):
            if dry_run:
                return stored, True
            return self._remove(resource, key, value), True
        if "deletionTimestamp" in metadata or dry_run:
            return stored, False
        metadata["deletionTimestamp"] = now()
        metadata["deletionGracePeriodSeconds"] = 0
        if resource.counts_generations:
            metadata["generation"] += 1
        old = stored.decode()
        resource.rules.prepare(value, old)
        marked = self.store.put(self.collection(resource), key, value)
        resource.rules.committed(value, old)
        return self._after_commit(resource, key, marked), False

    def _remove(self, resource: Resource, key: Key, value: Object) -> Stored:
        last = self.store.remove(self.collection(resource), key)
        resource.rules.committed(None, value)
        self.removed(resource, key)
        return last

    def release(self, group: str, plural: str, key: Key, finalizer: str) -> None:
        """Take the server's own finalizer off an object that is going, which lets it go unless others hold it."""
        resource = self.registry.find(group, plural)
        assert resource is not None, "only built-in kinds have finalizers of the server's own"
        value = self.get(resource, key).decode()
        for part in (value["metadata"], value["spec"]):
            if finalizer in part.get("finalizers", ()):
                part["finalizers"] = [each for each in part["finalizers"] if each != finalizer]
        if _is_held(value):
            self.store.put(self.collection(resource), key, value)
        else:
            self._remove(resource, key, value)

    # The steps of a write

    def _pruned(self, wish: Wish, value: Object) -> tuple[Object, list[str]]:
        """The object without what its schema does not know, and the paths of that."""
        resource, form = wish.resource, wish.resource.versions[wish.version].schema
        if resource.custom:
            metadata_form = form.properties["metadata"]
            unknown = schema.prune(value, form)
            try:
                value["metadata"] = decoding.read(
                    value["metadata"], metadata_form, "metadata", "ObjectMeta", []
                )
            except decoding.WrongTypeError as wrong:
                raise refusals.bad_request(str(wrong)) from wrong
            return value, unknown
        unknown = []
        try:
            kept: Object = decoding.read(value, form, "", resource.kind, unknown)
        except decoding.WrongTypeError as wrong:
            raise refusals.bad_request(_cannot_be_handled(wish, str(wrong))) from wrong
        return kept, unknown

    def _read(self, wish: Wish, value: Object) -> Object:
        """The object as the server understands it: pruned, and with the defaults of its schema."""
        value, unknown = self._pruned(wish, value)
        if unknown and wish.validation == "Strict":
            told = ", ".join(f'unknown field "{path}"' for path in unknown)
            raise refusals.bad_request(_cannot_be_handled(wish, f"strict decoding error: {told}"))
        if unknown and wish.validation == "Warn":
            wish.warnings.extend(f'unknown field "{path}"' for path in unknown)
        if wish.resource.custom:
            schema.set_defaults(value, wish.resource.versions[wish.version].schema)
        return value

    def _check_namespace(self, resource: Resource, namespace: str) -> None:
        namespaces = self.store.collection("", "namespaces").objects
        stored = namespaces.get(Key("", namespace))
        if stored is None:
            raise refusals.not_found(
                refusals.Subject(group="", resource="namespaces", kind="Namespace", name=namespace)
            )
        if b'"deletionTimestamp"' in stored.body and "deletionTimestamp" in stored.decode()["metadata"]:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {namespace} is being terminated",
                "field": "metadata.namespace",
            }
            raise refusals.forbidden(resource.subject(), why, [cause])

    def _name(self, resource: Resource, namespace: str, metadata: Object) -> Key:
        """The key of a new object, whose name is made up when only its beginning is given."""
        objects = self.collection(resource).objects
        name = metadata.get("name", "")
        if not name:
            beginning = metadata.get("generateName", "")
            if not beginning:
                problem = refusals.required("metadata.name", "name or generateName is required")
                raise refusals.invalid(resource.subject(), [problem])
            name = beginning[:58] + "".join(random.choices(_SUFFIX, k=5))  # noqa: S311 - a name is no secret
            metadata["name"] = name
        key = Key(namespace if resource.namespaced else "", name)
        known: Stored | None = objects.get(key)
        if known is not None:
            is_going = "deletionTimestamp" in known.decode()["metadata"]
            raise refusals.already_exists(
                resource.subject(name), "object is being deleted: " if is_going else ""
            )
        return key

    def _begin(self, resource: Resource, metadata: Object) -> None:
        for name in (*_KEPT, "resourceVersion"):
            metadata.pop(name, None)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = now()
        if resource.counts_generations:
            metadata["generation"] = 1

    def _kept_metadata(self, wish: Wish, old: Object, new: Object) -> Object:
        """The metadata of the new object, with what only the server sets as it was."""
        was: Object = old["metadata"]
        metadata: Object = new["metadata"]
        if wish.subresource == "status" and wish.resource.custom:
            return {name: each for name, each in was.items() if name != "managedFields"}
        for name in (*_KEPT, "name", "namespace", "resourceVersion"):
            if name in was:
                metadata[name] = was[name]
            else:
                metadata.pop(name, None)
        return metadata

    def _kept_parts(self, wish: Wish, old: Object, new: Object, metadata: Object) -> Object:
        """The new object with everything as it was that this path does not write."""
        if wish.subresource == "status":
            kept = {**old, "metadata": metadata}
            kept.pop("status", None)
            if "status" in new:
                kept["status"] = new["status"]
            return kept
        new["metadata"] = metadata
        if wish.resource.has_status:
            new.pop("status", None)
            if "status" in old:
                new["status"] = old["status"]
        return new

    def _count_generation(self, resource: Resource, old: Object, new: Object) -> None:
        if not resource.counts_generations:
            return
        if _without_bookkeeping(old) != _without_bookkeeping(new):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1

    def _writer(self, wish: Wish) -> ownership.Writer:
        return ownership.Writer(
            manager=wish.manager,
            operation=wish.operation,
            api_version=wish.resource.api_version(wish.version),
            subresource=wish.subresource,
            time=now(),
            force=wish.force,
        )

    def _out_of_reach(self, wish: Wish) -> frozenset[str]:
        """The fields at the top of the object that a write on this path cannot own."""
        if wish.subresource == "status":
            form = wish.resource.versions[wish.version].schema
            return frozenset(form.properties if wish.resource.custom else ("spec",)) - {"status"}
        return frozenset(("status",) if wish.resource.has_status else ())

    def _record_owner(self, wish: Wish, new: Object, old: Object, entries: list[Any] | None = None) -> None:
        form = wish.resource.versions[wish.version].schema
        known = ownership.owners(entries or ())
        outcome = ownership.owners_after_update(
            known, old, new, schema=form, writer=self._writer(wish), out_of_reach=self._out_of_reach(wish)
        )
        new["metadata"]["managedFields"] = [owner.entry() for owner in outcome]

    def _refuse_problems(self, wish: Wish, new: Object, old: Object | None) -> None:
        resource = wish.resource
        found = list(_metadata_problems(resource, new["metadata"], old["metadata"] if old else None))
        if resource.custom:
            form = resource.versions[wish.version].schema
            found += schema.problems(new, form)
            if form.has_invariants and not found:
                found += invariants.broken(new, old, form)
        rules = resource.rules
        found += (rules.status_problems if wish.subresource == "status" else rules.problems)(new, old)
        if found:
            raise refusals.invalid(resource.subject(new["metadata"].get("name", "")), found)


def _metadata(value: Object) -> Object:
    metadata: Object = value.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise refusals.bad_request(
            "json: cannot unmarshal metadata into Go struct field .metadata of type v1.ObjectMeta"
        )
    return metadata


def _unstored(key: Key, value: Object) -> Stored:
    """What a dry run answers: the object as it would be stored, without a new version."""
    version = int(value["metadata"].get("resourceVersion", 0))
    return Stored(key, version, value["metadata"].get("labels", {}), msgspec.json.encode(value))


def _is_held(value: Object) -> bool:
    """Whether a finalizer keeps the object from going; those of Namespaces stand in their spec."""
    spec = value.get("spec")
    return bool(value["metadata"].get("finalizers") or (isinstance(spec, dict) and spec.get("finalizers")))


def _without_bookkeeping(value: Object) -> Object:
    """What counts for `metadata.generation`: everything but metadata and status."""
    return {name: each for name, each in value.items() if name not in ("metadata", "status")}


def _cannot_be_handled(wish: Wish, why: str) -> str:
    kind = wish.resource.kind
    return f'{kind} in version "{wish.version}" cannot be handled as a {kind}: {why}'


def _metadata_problems(resource: Resource, new: Object, old: Object | None) -> Iterator[Problem]:
    """What is wrong with the metadata of any object."""
    if old is None and (why := resource.why_not_name(new["name"])):
        yield refusals.invalid_value("metadata.name", new["name"], why)
    for key, value in new.get("labels", {}).items():
        if why := formats.why_not_qualified_name(key):
            yield refusals.invalid_value("metadata.labels", key, why)
        if why := formats.why_not_label_value(value):
            yield refusals.invalid_value("metadata.labels", value, why)
    for part, names in (
        ("annotations", new.get("annotations", {})),
        ("finalizers", new.get("finalizers", [])),
    ):
        for name in names:
            if why := formats.why_not_qualified_name(name.lower()):
                yield refusals.invalid_value(f"metadata.{part}", name, why)
    if old is not None and "deletionTimestamp" in old:
        added = [each for each in new.get("finalizers", []) if each not in old.get("finalizers", [])]
        if added:
            named = ", ".join(refusals.shown(each) for each in added)
            why = (
                "no new finalizers can be added if the object is being deleted, found new finalizers"
                f" []string{{{named}}}"
            )
            yield refusals.forbidden_field("metadata.finalizers", why)
