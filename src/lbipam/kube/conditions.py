"""How is a condition written, and when does it move?

A transition time moves only when the status does (`metav1.Condition`). Here is also how a status is applied,
since most of one is conditions. This file does not know what any condition means.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from lbipam.kube.forms import Condition, Metadata
from lbipam.kube.kinds import Kind

_LONGEST_MESSAGE = 32768


class Status(Enum):
    """`metav1.ConditionStatus`."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """What a condition should say."""

    type: str
    status: Status
    reason: str
    message: str = ""
    """Cut where the API server would refuse a longer one."""

    def __post_init__(self) -> None:
        if len(self.message) > _LONGEST_MESSAGE:
            object.__setattr__(self, "message", f"{self.message[: _LONGEST_MESSAGE - 1]}…")


def timestamp(now: float) -> str:
    """Seconds since 1970 as Kubernetes writes a time: RFC 3339, UTC, to the second."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(now: float) -> str:
    """Seconds since 1970 as `metav1.MicroTime`, to the microsecond."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_timestamp(text: str) -> float:
    """A time of Kubernetes as seconds since 1970.

    Raises:
        ValueError: it is not RFC 3339.
    """
    parsed = datetime.fromisoformat(text)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def status_apply(
    kind: Kind, metadata: Metadata, status: Mapping[str, Any], *, guarded: bool = False
) -> Mapping[str, Any]:
    """The apply of all that is ours in a status.

    Args:
        kind: Of the object.
        metadata: As last seen; by its `uid` an object that was made anew is not taken for it.
        status: The fields that are ours.
        guarded: Whether it is refused if the object has changed since.
    """
    head = {"name": metadata.name, "uid": metadata.uid}
    if metadata.namespace:
        head["namespace"] = metadata.namespace
    if guarded:
        head["resourceVersion"] = metadata.resource_version
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": head, "status": status}


def same(
    observed: Iterable[Condition], wanted: Iterable[Stand], owned: frozenset[str], generation: int
) -> bool:
    """Whether of the condition types we own exactly the wanted ones stand, saying what they should."""
    found = {
        (one.type, one.status, one.reason, one.message, one.observed_generation)
        for one in observed
        if one.type in owned
    }
    return found == {(one.type, one.status.value, one.reason, one.message, generation) for one in wanted}


def render(
    observed: Iterable[Condition], wanted: Iterable[Stand], generation: int, now: float
) -> list[Mapping[str, Any]]:
    """The wanted conditions for an apply; those whose status stays keep their transition time."""
    known = {one.type: one for one in observed}
    rendered: list[Mapping[str, Any]] = []
    for stand in wanted:
        before = known.get(stand.type)
        stays = before is not None and before.status == stand.status.value and before.last_transition_time
        condition: dict[str, Any] = {
            "type": stand.type,
            "status": stand.status.value,
            "reason": stand.reason,
            "message": stand.message,
            "lastTransitionTime": stays or timestamp(now),
        }
        if generation:
            condition["observedGeneration"] = generation
        rendered.append(condition)
    return rendered
