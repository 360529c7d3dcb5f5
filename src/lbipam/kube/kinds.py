"""Which API resources does lbipam read and write, and where does the API server keep them?

A `Kind` names one resource in one version and the form its objects are decoded to. This file holds no
rules about what the objects mean.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class Key(NamedTuple):
    """Namespace and name of an object; the namespace is empty for cluster-scoped kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Metadata(Protocol):
    """What every object's metadata tells, whatever its kind."""

    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def resource_version(self) -> str: ...


class KubeObject(Protocol):
    """An object as decoded from the API: a `msgspec.Struct` with the fields that lbipam reads."""

    @property
    def metadata(self) -> Metadata: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kind:
    """One resource in one version of the API; there is one value of each, compared by identity."""

    group: str
    """Empty for the core group."""
    version: str
    kind: str
    plural: str
    namespaced: bool
    form: type[Any]
    """The `msgspec.Struct` its objects are decoded to; it satisfies `KubeObject`."""

    @property
    def api_version(self) -> str:
        """What objects of this kind carry as `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The path below the server's URL of a collection, an object, or a subresource of it."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)
