from typing import Any

import pytest

from lbipam.localapi import builtins, metadata
from lbipam.localapi.resources import Registry, Rules

CONFIG_MAPS = Registry(builtins.resources(Rules(), lambda _new, _old: None)).find("", "configmaps")
assert CONFIG_MAPS is not None

OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "1"}
CONTROLLER = {**OWNER, "controller": True}


def told(new: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    assert CONFIG_MAPS is not None
    return [
        f"{each.field}: {each.message}" for each in metadata.problems(CONFIG_MAPS, {"name": "a", **new}, old)
    ]


@pytest.mark.parametrize(
    ("new", "field"),
    [
        ({"name": "No"}, "metadata.name"),
        ({"labels": {"-a": "b"}}, "metadata.labels"),
        ({"labels": {"a": "-b"}}, "metadata.labels"),
        ({"labels": {"a": "b" * 64}}, "metadata.labels"),
        ({"annotations": {"a b": ""}}, "metadata.annotations"),
        ({"annotations": {"a": "b" * 262_144}}, "metadata.annotations"),
        ({"finalizers": ["a b"]}, "metadata.finalizers"),
        ({"ownerReferences": [{**OWNER, "apiVersion": "g/"}]}, "metadata.ownerReferences.apiVersion"),
        ({"ownerReferences": [{**OWNER, "kind": ""}]}, "metadata.ownerReferences.kind"),
        ({"ownerReferences": [{**OWNER, "name": ""}]}, "metadata.ownerReferences.name"),
        ({"ownerReferences": [{**OWNER, "uid": ""}]}, "metadata.ownerReferences.uid"),
        ({"ownerReferences": [{**OWNER, "kind": "Event"}]}, "metadata.ownerReferences"),
        ({"ownerReferences": [CONTROLLER, CONTROLLER]}, "metadata.ownerReferences"),
    ],
)
def test_wrong_metadata_is_told(new: dict[str, Any], field: str) -> None:
    assert [each.partition(":")[0] for each in told(new)] == [field]


def test_right_metadata_is_let_through() -> None:
    assert told({"labels": {"example.com/a": "b"}, "annotations": {"Example.com/A": "any thing"}}) == []
    assert told({"annotations": {"a": "b" * 262_143}}) == []
    assert told({"ownerReferences": [OWNER, {**CONTROLLER, "apiVersion": "apps/v1"}]}) == []


def test_an_object_that_is_going_gets_no_new_finalizers() -> None:
    going = {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["x/a"]}
    (problem,) = told({"finalizers": ["x/a", "x/b"]}, going)
    assert problem.startswith("metadata.finalizers: Forbidden: no new finalizers can be added")
    assert problem.endswith('found new finalizers []string{"x/b"}')
    assert told({"finalizers": []}, going) == []


def test_what_the_server_decides_cannot_be_changed() -> None:
    was = {"name": "a", "uid": "1", "creationTimestamp": "then"}
    sent = {"name": "b", "uid": "2", "generation": 7, "labels": {"a": "b"}}
    metadata.keep(was, sent)
    assert sent == {**was, "labels": {"a": "b"}}


def test_generated_names_stay_short_enough() -> None:
    assert len(metadata.generated_name("a" * 100)) == 63
