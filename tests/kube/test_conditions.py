"""When a condition moves, and what it says."""

from typing import Any

import msgspec
import pytest

from lbipam.kube.conditions import Stand, Status, micro_timestamp, parse_timestamp, render, same, timestamp
from lbipam.kube.forms import Condition

READY = Stand(type="Ready", status=Status.TRUE, reason="fine", message="all is well")
OWNED = frozenset({"Ready", "Other"})


def observed(**changes: Any) -> Condition:
    said = {
        "type": "Ready",
        "status": "True",
        "reason": "fine",
        "message": "all is well",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 3,
    }
    return msgspec.convert(said | changes, Condition)


def test_a_condition_as_the_api_has_it() -> None:
    assert render([], [READY], 3, 0.0) == [
        {
            "type": "Ready",
            "status": "True",
            "reason": "fine",
            "message": "all is well",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
            "observedGeneration": 3,
        }
    ]


def test_an_object_without_a_generation_has_none_observed() -> None:
    assert "observedGeneration" not in render([], [READY], 0, 0.0)[0]


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({}, "2026-01-01T00:00:00Z"),
        ({"reason": "other", "message": "other", "observedGeneration": 1}, "2026-01-01T00:00:00Z"),
        ({"status": "False"}, "1970-01-01T00:00:00Z"),
        ({"type": "Other"}, "1970-01-01T00:00:00Z"),
        ({"lastTransitionTime": None}, "1970-01-01T00:00:00Z"),
    ],
)
def test_the_time_moves_with_the_status_alone(changes: dict[str, Any], moved: str) -> None:
    assert render([observed(**changes)], [READY], 3, 0.0)[0]["lastTransitionTime"] == moved


@pytest.mark.parametrize(
    ("changes", "stands"),
    [
        ({}, True),
        ({"lastTransitionTime": "2020-01-01T00:00:00Z"}, True),
        ({"status": "False"}, False),
        ({"reason": "other"}, False),
        ({"message": "other"}, False),
        ({"observedGeneration": 2}, False),
        ({"type": "Other"}, False),
    ],
)
def test_what_stands_already(changes: dict[str, Any], stands: bool) -> None:
    assert same([observed(**changes)], [READY], OWNED, 3) is stands


def test_conditions_of_others_do_not_count_and_ours_too_many_do() -> None:
    theirs, too_many = observed(type="Theirs"), observed(type="Other")
    assert same([observed(), theirs], [READY], OWNED, 3)
    assert not same([observed(), too_many], [READY], OWNED, 3)


def test_a_message_is_cut_where_the_api_server_would_refuse_it() -> None:
    long = Stand(type="Ready", status=Status.TRUE, reason="fine", message="é" * 40_000)
    assert len(long.message) == 32768
    assert long.message.endswith("é…")
    longest = Stand(type="Ready", status=Status.TRUE, reason="fine", message="é" * 32768)
    assert longest.message == "é" * 32768
    assert same([observed(message=long.message)], [long], OWNED, 3)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-01T00:00:00.5Z", 0.5),
        ("1970-01-01T00:00:00", 0.0),
    ],
)
def test_times_are_read_in_every_zone(text: str, seconds: float) -> None:
    assert parse_timestamp(text) == seconds


def test_times_are_written_to_the_second() -> None:
    assert timestamp(1_800_000_000.9) == "2027-01-15T08:00:00Z"
    assert micro_timestamp(1_800_000_000.25) == "2027-01-15T08:00:00.250000Z"
    assert parse_timestamp(timestamp(1_800_000_000.0)) == 1_800_000_000.0


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-02-30T00:00:00Z"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_timestamp(text)
