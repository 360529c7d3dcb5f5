"""Which objects does the path of a request name?

Paths are those of Kubernetes' API: `/api/v1/…` and `/apis/GROUP/VERSION/…`, with or without a namespace, a
name and a subresource. What is to be done with the objects is told by the method, not here.
"""

from dataclasses import dataclass
from urllib.parse import unquote

from lbipam.localapi import discovery, refusals
from lbipam.localapi.resources import Registry, Resource, Version
from lbipam.localapi.store import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a path names: a collection when the name is empty, else an object or a subresource of it."""

    resource: Resource
    version: Version
    namespace: str
    name: str
    subresource: str

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A resource that is answered rather than stored."""

    group: str
    kind: str


def target_of(registry: Registry, path: str) -> Target | Review:
    """What the path names; raises `ApiError` 404 when there is no such resource."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise refusals.no_such_path()
    for plural, kind in discovery.REVIEWS.get(group, ()):
        if rest == [plural]:
            return Review(group=group, kind=kind)
    namespace = ""
    names_a_namespace = not group and rest[0] == "namespaces" and rest[2:] == ["status"]
    if rest[0] == "namespaces" and len(rest) > 2 and not names_a_namespace:
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource, *more = (*rest, "", "", "")[: max(3, len(rest))]
    resource = registry.find(group, plural)
    found = resource.versions.get(version) if resource else None
    if resource is None or found is None or not found.served or more:
        raise refusals.no_such_path()
    if (namespace and not resource.namespaced) or (name and resource.namespaced and not namespace):
        raise refusals.no_such_path()
    if subresource and not (subresource == "status" and resource.has_status):
        raise refusals.no_such_path()
    return Target(resource=resource, version=found, namespace=namespace, name=name, subresource=subresource)
