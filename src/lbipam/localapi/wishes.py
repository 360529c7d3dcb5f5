"""How does a client want its write to be done?

A `Wish` carries what path and query of a request say beside the object itself. Nothing is done here.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from lbipam.localapi.resources import Resource
from lbipam.localapi.schema import Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A write to an object of one resource."""

    resource: Resource
    version: str
    manager: str
    """Who owns the fields that are written."""
    subresource: str = ""
    """`status`, or empty for the object itself."""
    operation: str = "Update"
    """`Apply` or `Update`, as `managedFields` name it."""
    dry_run: bool = False
    validation: str = "Warn"
    """`Strict`, `Warn` or `Ignore` unknown fields."""
    force: bool = False
    """Whether an apply takes over what others own."""
    warnings: list[str] = field(default_factory=list)
    """Filled with what the client is to be warned of."""

    @property
    def form(self) -> Schema:
        """The schema of the object."""
        return self.resource.versions[self.version].schema

    @property
    def api_version(self) -> str:
        """What the object carries as `apiVersion`."""
        return self.resource.api_version(self.version)

    @property
    def out_of_reach(self) -> AbstractSet[str]:
        """The fields at the top of the object that a write on this path cannot own."""
        if self.subresource == "status":
            return set(self.form.properties if self.resource.custom else ("spec",)) - {"status"}
        return {"status"} if self.resource.has_status else set()
