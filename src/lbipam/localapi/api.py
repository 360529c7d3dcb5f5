"""What happens to an object when a client creates, changes or deletes it?

Every write goes the same way: read and prune, fill in defaults, keep apart what the subresource may not
touch, work out who owns which field, let the kind's rules decide, validate, and store — or refuse with an
`ApiError`. All of it happens in one step of the event loop, so that no two writes mix. HTTP, and how answers
are printed, are not known here.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from lbipam.localapi import invariants, lastapplied, metadata, ownership, patches, reading, refusals, schema
from lbipam.localapi.resources import Object, Registry, Resource
from lbipam.localapi.store import Collection, Key, Store, Stored
from lbipam.localapi.wishes import Wish

_NO_VERSION = (None, "", "0")


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

    def find(self, resource: Resource, key: Key) -> Stored | None:
        return self.collection(resource).objects.get(key)

    def get(self, resource: Resource, key: Key) -> Stored:
        """The object; raises `ApiError` 404."""
        stored = self.find(resource, key)
        if stored is None:
            raise refusals.not_found(resource.subject(key.name))
        return stored

    # Creating

    def create(self, wish: Wish, namespace: str, value: Object) -> Stored:
        """Store a new object; `value` is changed."""
        resource = wish.resource
        sent = metadata.of(value)
        _check_namespace_of(sent, namespace)
        if sent.get("resourceVersion") not in _NO_VERSION:
            raise refusals.bad_request("resourceVersion should not be set on objects to be created")
        value = reading.understood(wish, value)
        key = self._begin(resource, namespace, value["metadata"])
        resource.rules.complete(value, None)
        if resource.has_status and resource.custom:
            value.pop("status", None)
        _record_owner(wish, value, dict(resource.initial), [])
        return self._store_new(wish, key, value)

    def _begin(self, resource: Resource, namespace: str, meta: Object) -> Key:
        """Give a new object its place and its identity; returns its key."""
        if resource.namespaced:
            self._check_namespace(resource, namespace)
            meta["namespace"] = namespace
        else:
            meta.pop("namespace", None)
        if not meta.get("name"):
            if not meta.get("generateName"):
                problem = refusals.required("metadata.name", "name or generateName is required")
                raise refusals.invalid(resource.subject(), [problem])
            meta["name"] = metadata.generated_name(meta["generateName"])
        metadata.begin(resource, meta)
        return Key(meta.get("namespace", ""), meta["name"])

    def _check_namespace(self, resource: Resource, namespace: str) -> None:
        stored: Stored | None = self.store.collection("", "namespaces").objects.get(Key("", namespace))
        if stored is None:
            raise refusals.not_found(
                refusals.Subject(group="", resource="namespaces", kind="Namespace", name=namespace)
            )
        if b'"deletionTimestamp"' in stored.body and "deletionTimestamp" in stored.decode()["metadata"]:
            cause = {
                "reason": "NamespaceTerminating",
                "message": f"namespace {namespace} is being terminated",
                "field": "metadata.namespace",
            }
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise refusals.forbidden(resource.subject(), why, [cause])

    def _store_new(self, wish: Wish, key: Key, value: Object) -> Stored:
        resource = wish.resource
        resource.rules.prepare(value, None)
        _refuse_problems(wish, value, None)
        self._refuse_taken(resource, key)
        resource.rules.settle(value, None)
        if wish.dry_run:
            return _unstored(key, value)
        stored = self.store.put(self.collection(resource), key, value)
        resource.rules.committed(value, None)
        return self._latest(resource, stored)

    def _refuse_taken(self, resource: Resource, key: Key) -> None:
        known = self.find(resource, key)
        if known is not None:
            is_going = "deletionTimestamp" in known.decode()["metadata"]
            still = "object is being deleted: " if is_going else ""
            raise refusals.already_exists(resource.subject(key.name), still)

    # Changing

    def update(self, wish: Wish, key: Key, value: Object) -> tuple[Stored, bool]:
        """Replace an object; `value` is changed. Returns it, and whether it was created, as some kinds allow."""
        resource = wish.resource
        sent = metadata.of(value)
        if sent.get("name") != key.name:
            raise reading.other_name(sent.get("name", ""), key)
        _check_namespace_of(sent, key.namespace)
        if resource.creates_on_put and not wish.subresource and self.find(resource, key) is None:
            return self.create(wish, key.namespace, value), True
        stored = self.get(resource, key)
        if resource.custom and not sent.get("resourceVersion"):
            why = "must be specified for an update"
            problem = refusals.invalid_value("metadata.resourceVersion", 0, why)
            raise refusals.invalid(resource.subject(key.name), [problem])
        old = stored.decode()
        if sent.get("uid"):
            _check_preconditions(resource, old["metadata"], {"uid": sent["uid"]})
        return self._replace(wish, stored, old, value), False

    def patch(self, wish: Wish, key: Key, kind: str, patch: Any) -> tuple[Stored, bool]:
        """Change an object as `patch` of the given kind says; returns it, and whether it was created.

        Kinds are `merge`, `json`, `strategic` and `apply`.
        """
        if kind == "apply":
            return self._apply(wish, key, patch)
        resource = wish.resource
        stored = self.get(resource, key)
        live = {"apiVersion": wish.api_version, "kind": resource.kind, **stored.decode()}
        match kind:
            case "merge":
                value = patches.merge(live, patch)
            case "json":
                value = patches.json_patch(live, patch)
            case _:
                value = patches.strategic(live, patch, wish.form)
        if not isinstance(value, dict):
            raise refusals.bad_request("the patch leaves no object")
        if (value.pop("apiVersion", ""), value.pop("kind", "")) != (wish.api_version, resource.kind):
            raise refusals.bad_request("the patch may not change apiVersion or kind")
        old = stored.decode()
        _check_identity(resource, old["metadata"], metadata.of(value))
        return self._replace(wish, stored, old, value), False

    def _apply(self, wish: Wish, key: Key, config: Any) -> tuple[Stored, bool]:
        config = reading.configuration(wish, key, config)
        stored = self.find(wish.resource, key)
        if stored is None:
            return self._apply_new(wish, key, config), True
        config["metadata"]["name"] = key.name
        live = stored.decode()
        _check_identity(wish.resource, live["metadata"], config["metadata"])
        asked_version = config["metadata"].pop("resourceVersion", str(stored.version))
        known = ownership.owners(live["metadata"].pop("managedFields", ()))
        outcome = ownership.applied(
            known,
            live,
            config,
            schema=wish.form,
            writer=_writer(wish),
            out_of_reach=wish.out_of_reach,
            takeable=lastapplied.takeable(wish, live),
        )
        value = outcome.value
        lastapplied.keep(wish, live, config, value)
        value["metadata"] = {
            **value["metadata"],
            "resourceVersion": asked_version,
            "managedFields": [owner.entry() for owner in outcome.owners],
        }
        return self._replace(wish, stored, stored.decode(), value), False

    def _apply_new(self, wish: Wish, key: Key, config: Object) -> Stored:
        resource = wish.resource
        if wish.subresource:
            raise refusals.not_found(resource.subject(key.name))
        if not config["metadata"].get("name"):
            raise reading.other_name("", key)
        if uid := config["metadata"].get("uid"):
            why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise refusals.conflict(resource.subject(key.name), why)
        nothing: Object = {"metadata": {}}
        outcome = ownership.applied(
            [], nothing, config, schema=wish.form, writer=_writer(wish), out_of_reach=wish.out_of_reach
        )
        value = outcome.value
        value["metadata"]["managedFields"] = [owner.entry() for owner in outcome.owners]
        self._begin(resource, key.namespace, value["metadata"])
        if resource.custom:
            schema.set_defaults(value, wish.form)
            if resource.has_status:
                value.pop("status", None)
        resource.rules.complete(value, None)
        return self._store_new(wish, key, value)

    def _replace(self, wish: Wish, stored: Stored, old: Object, value: Object) -> Stored:
        """Store `value` in place of `old`, as far as the wish allows it."""
        resource, rules = wish.resource, wish.resource.rules
        if value["metadata"].get("resourceVersion") not in (*_NO_VERSION, str(stored.version)):
            raise refusals.stale(resource.subject(stored.key.name))
        new = reading.understood(wish, value)
        entries = new["metadata"].pop("managedFields", None)
        was = old["metadata"].pop("managedFields", [])
        new = _with_kept_parts(wish, old, new)
        rules.complete(new, old)
        if wish.operation == "Apply":
            new["metadata"]["managedFields"] = entries
        else:
            _record_owner(wish, new, old, entries or was)
        old["metadata"]["managedFields"] = was
        if not wish.subresource:
            rules.prepare(new, old)
        if resource.counts_generations and _counted(new) != _counted(old):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        _refuse_problems(wish, new, old)
        if not wish.subresource:
            rules.settle(new, old)
        if new == old:
            return stored
        return self._store_changed(wish, stored.key, old, new)

    def _store_changed(self, wish: Wish, key: Key, old: Object, new: Object) -> Stored:
        if not new["metadata"]["managedFields"]:
            del new["metadata"]["managedFields"]
        if wish.dry_run:
            return _unstored(key, new)
        resource = wish.resource
        updated = self.store.put(self.collection(resource), key, new)
        resource.rules.committed(new, old)
        if "deletionTimestamp" in new["metadata"] and not _is_held(resource, new):
            return self._remove(resource, key, new)
        return self._latest(resource, updated)

    def _latest(self, resource: Resource, stored: Stored) -> Stored:
        """The object after its rules have acted on the write: they may have written it again, or removed it."""
        return self.find(resource, stored.key) or stored

    # Deleting

    def delete(
        self, resource: Resource, key: Key, preconditions: Mapping[str, str], *, dry_run: bool
    ) -> tuple[Stored, bool]:
        """Delete an object; returns its last state and whether it is gone now rather than waiting for finalizers."""
        stored = self.get(resource, key)
        value = stored.decode()
        meta = value["metadata"]
        _check_preconditions(resource, meta, preconditions)
        resource.rules.detain(value)
        if not _is_held(resource, value):
            return (stored if dry_run else self._remove(resource, key, value)), True
        if "deletionTimestamp" in meta or dry_run:
            return stored, False
        meta["deletionTimestamp"] = metadata.now()
        meta["deletionGracePeriodSeconds"] = 0
        if resource.counts_generations:
            meta["generation"] += 1
        old = stored.decode()
        resource.rules.prepare(value, old)
        marked = self.store.put(self.collection(resource), key, value)
        resource.rules.committed(value, old)
        return self._latest(resource, marked), False

    def release(self, group: str, plural: str, key: Key, finalizer: str) -> None:
        """Take the server's own finalizer off an object that is going, which lets it go unless others hold it."""
        resource = self.registry.find(group, plural)
        assert resource is not None, "only built-in kinds have finalizers of the server's own"
        value = self.get(resource, key).decode()
        for part in (value["metadata"], value["spec"]):
            if finalizer in part.get("finalizers", ()):
                part["finalizers"] = [each for each in part["finalizers"] if each != finalizer]
        if _is_held(resource, value):
            self.store.put(self.collection(resource), key, value)
        else:
            self._remove(resource, key, value)

    def _remove(self, resource: Resource, key: Key, value: Object) -> Stored:
        last = self.store.remove(self.collection(resource), key)
        resource.rules.committed(None, value)
        self.removed(resource, key)
        return last


def _check_namespace_of(meta: Object, namespace: str) -> None:
    if meta.get("namespace") not in (None, "", namespace):
        raise refusals.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )


def _check_identity(resource: Resource, was: Object, sent: Object) -> None:
    key = Key(was.get("namespace", ""), was["name"])
    if sent.get("name") != key.name:
        raise reading.other_name(sent.get("name", ""), key)
    if sent.get("namespace", key.namespace) != key.namespace:
        raise reading.other_namespace(sent["namespace"], key)
    if sent.get("uid", was["uid"]) != was["uid"]:
        problem = refusals.invalid_value("metadata.uid", sent["uid"], "field is immutable")
        raise refusals.invalid(resource.subject(key.name), [problem])


def _check_preconditions(resource: Resource, meta: Object, wanted: Mapping[str, str]) -> None:
    for name, told in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        if name in wanted and wanted[name] != meta[name]:
            why = f"{told} in precondition: {wanted[name]}, {told} in object meta: {meta[name]}"
            raise refusals.conflict(resource.subject(meta["name"]), f"Precondition failed: {why}")


def _with_kept_parts(wish: Wish, old: Object, new: Object) -> Object:
    """The new object with everything as it was that this path does not write."""
    if wish.subresource == "status":
        kept = {name: each for name, each in old.items() if name != "status"}
        kept["metadata"] = dict(old["metadata"])
        if not wish.resource.custom:
            kept["metadata"] = new["metadata"]
            metadata.keep(old["metadata"], kept["metadata"])
        status = new.get("status", copy.deepcopy(wish.resource.initial.get("status")))
        if status is not None:
            kept["status"] = status
        return kept
    metadata.keep(old["metadata"], new["metadata"])
    if wish.resource.has_status:
        new.pop("status", None)
        if "status" in old:
            new["status"] = old["status"]
    return new


def _writer(wish: Wish) -> ownership.Writer:
    return ownership.Writer(
        manager=wish.manager,
        operation=wish.operation,
        api_version=wish.api_version,
        subresource=wish.subresource,
        time=metadata.now(),
        force=wish.force,
    )


def _record_owner(wish: Wish, new: Object, old: Object, entries: list[Any]) -> None:
    """Write down in the new object who owns it, where `entries` tell who did before."""
    outcome = ownership.owners_after_update(
        ownership.owners(entries),
        old,
        new,
        schema=wish.form,
        writer=_writer(wish),
        out_of_reach=wish.out_of_reach,
    )
    new["metadata"]["managedFields"] = [owner.entry() for owner in outcome]


def _refuse_problems(wish: Wish, new: Object, old: Object | None) -> None:
    """Raise `ApiError` 422 when anything is wrong with the object."""
    resource = wish.resource
    found = list(metadata.problems(resource, new["metadata"], old["metadata"] if old else None))
    if resource.custom:
        found += schema.problems(new, wish.form)
        if not found:
            found += invariants.broken(new, old, wish.form)
    rules = resource.rules
    found += (rules.status_problems if wish.subresource == "status" else rules.problems)(new, old)
    if found:
        raise refusals.invalid(resource.subject(new["metadata"]["name"]), found)


def _unstored(key: Key, value: Object) -> Stored:
    """What a dry run answers: the object as it would be stored, without a new version."""
    meta = value["metadata"]
    return Stored(
        key, int(meta.get("resourceVersion", 0)), meta.get("labels", {}), msgspec.json.encode(value)
    )


def _is_held(resource: Resource, value: Object) -> bool:
    """Whether a finalizer keeps the object from going; Namespaces have some in their spec, too."""
    is_namespace = resource.kind == "Namespace" and not resource.group
    return bool(value["metadata"].get("finalizers") or (is_namespace and value["spec"].get("finalizers")))


def _counted(value: Object) -> Object:
    """What counts for `metadata.generation`: everything but metadata and status."""
    return {name: each for name, each in value.items() if name not in ("metadata", "status")}
