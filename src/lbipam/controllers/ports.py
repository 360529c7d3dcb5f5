"""What may a reconciler ask for, and who can do it?

    adapters ──Event──▶ loop ──▶ cache ──▶ reconcile ──Action──▶ loop ──▶ adapters

Events are facts about the world, actions are wishes; both are plain values, so that a run can be
recorded and played back. This file decides nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeAlias

from lbipam.kube.kinds import Key, Kind, KubeObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Upserted:
    """The object exists and this is its newest known form."""

    kind: Kind
    object: KubeObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(Upserted):
    """The object as a list told it."""

    as_of: str
    """The version of the list; empty if versions begin anew, so that whatever is known is older."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """The object is gone."""

    kind: Kind
    key: Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Synced:
    """Every object of the kind that existed at one moment has been told, and every deletion before it."""

    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """The server does not know the kind: its CustomResourceDefinition is not installed."""

    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """The object exists but cannot be decoded; its last well-formed version, if any, still stands."""

    kind: Kind
    key: Key
    problem: str


Item: TypeAlias = tuple[Kind, Key]
"""What a reconciler looks at: one object, which need not exist any more."""

Event: TypeAlias = Upserted | Deleted | Synced | Missing | Malformed


@dataclass(frozen=True, slots=True, kw_only=True)
class Apply:
    """Server-side apply of the full set of fields that lbipam owns in one object or its subresource.

    `body` carries `apiVersion`, `kind` and `metadata` with name, namespace and `uid`, and of a Service
    `metadata.resourceVersion`, so that it fails if the Service has changed since.
    """

    kind: Kind
    key: Key
    body: Mapping[str, Any]
    subresource: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonPatch:
    """RFC 6902 operations, for what server-side apply cannot take away: fields that others wrote."""

    kind: Kind
    key: Key
    operations: Sequence[Mapping[str, Any]]
    subresource: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePatch:
    """RFC 7386 merge patch: these fields of an object and no others, whatever they are by now."""

    kind: Kind
    key: Key
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """A new object; one that exists already is answered with `Conflict`."""

    kind: Kind
    key: Key
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """Deletion of exactly the object with this uid."""

    kind: Kind
    key: Key
    uid: str


Write: TypeAlias = Apply | JsonPatch | MergePatch | Create | Delete


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The server has done it; `object` is its answer, None after a deletion."""

    object: KubeObject | None


class ConflictCause(Enum):
    """Why the server refused with 409 (or 422, for a wrong uid or a `test` of a patch that fails)."""

    STALE = "the object has changed since it was read"
    REPLACED = "the object was deleted, or deleted and created again"
    OWNED = "another field manager owns a field"
    EXISTS = "the object exists already"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """The write was refused because of what others did; the caller looks again."""

    cause: ConflictCause
    managers: tuple[str, ...] = ()
    """For `OWNED`: the field managers in the way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """The object does not exist (404)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The server will not do this write however often it is sent (400, 403, 422 and the like)."""

    code: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fenced:
    """The write was given up because leadership ended. `sent` tells that it may have arrived all the same."""

    sent: bool = False


WriteResult: TypeAlias = Written | Conflict | Gone | Refused | Fenced


class Severity(Enum):
    """The two types of Kubernetes Events."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmitEvent:
    """Tell the user in a Kubernetes Event on the object; equal ones are counted, not repeated."""

    kind: Kind
    key: Key
    uid: str
    severity: Severity
    reason: str
    message: str


Action: TypeAlias = Write | EmitEvent


class Writer(Protocol):
    """Sends writes to the API server: in order per object, some at a time, until each has its result."""

    @property
    def full(self) -> bool:
        """Whether so many writes wait for their turn that nothing is gained by deciding on more."""

    def submit(self, write: Write, done: Callable[[WriteResult], None]) -> None:
        """Queue a write; `done` is called on the event loop, exactly once."""


class Recorder(Protocol):
    """Tells users of what happened, as Kubernetes Events, aggregated and rate-limited."""

    def emit(self, event: EmitEvent) -> None:
        """Queue an event; it may be counted into an equal one, or dropped when there are too many."""


class Observer(Protocol):
    """Is told what the loop does, for metrics."""

    def reconciled(self, kind: Kind, seconds: float) -> None:
        """An item of a kind has been looked at."""

    def written(self, write: Write, result: WriteResult) -> None:
        """A write has been answered."""

    def failed(self, kind: Kind) -> None:
        """An item could not be looked at, because of a bug; it is tried again later."""


class SampleType(Enum):
    """The two types of metrics that reconcilers have."""

    GAUGE = "gauge"
    COUNTER = "counter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One value of a metric at this moment."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    type: SampleType = SampleType.GAUGE
