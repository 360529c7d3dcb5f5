from typing import Any

import pytest

from lbipam.localapi import builtins, crds, reading
from lbipam.localapi.refusals import ApiError
from lbipam.localapi.resources import Registry, Resource, Rules
from lbipam.localapi.store import Key
from lbipam.localapi.wishes import Wish
from tests.localapi.conftest import widgets

REGISTRY = Registry(builtins.resources(Rules(), lambda _new, _old: None))
NAMES = {"singular": "widget", "listKind": "WidgetList"}


def services() -> Resource:
    found = REGISTRY.find("", "services")
    assert found is not None
    return found


def things() -> Resource:
    crd = widgets({"type": "object", "properties": {"size": {"type": "integer", "default": 1}}})
    crd["spec"]["names"] |= NAMES
    return crds.resource_of(crd)


def wish(resource: Resource, validation: str = "Warn") -> Wish:
    return Wish(resource=resource, version="v1", manager="me", validation=validation)


@pytest.mark.parametrize("resource", [services(), things()], ids=["built in", "custom"])
def test_unknown_fields_are_refused_told_or_ignored(resource: Resource) -> None:
    def sent() -> dict[str, Any]:
        return {"metadata": {"name": "a"}, "spec": {"odd": 1}}

    strict, warn, ignore = (wish(resource, each) for each in ("Strict", "Warn", "Ignore"))
    with pytest.raises(ApiError, match=r'strict decoding error: unknown field "spec\.odd"') as refused:
        reading.understood(strict, sent())
    assert refused.value.code == 400
    assert "odd" not in reading.understood(warn, sent())["spec"]
    assert warn.warnings == ['unknown field "spec.odd"']
    assert "odd" not in reading.understood(ignore, sent())["spec"]
    assert ignore.warnings == []


def test_custom_objects_get_the_defaults_of_their_schema() -> None:
    assert reading.understood(wish(things()), {"metadata": {"name": "a"}, "spec": {}})["spec"] == {"size": 1}


@pytest.mark.parametrize("resource", [services(), things()], ids=["built in", "custom"])
def test_metadata_has_the_types_of_every_kind(resource: Resource) -> None:
    with pytest.raises(
        ApiError, match=r"cannot unmarshal number into Go struct field ObjectMeta\.metadata\.name"
    ):
        reading.understood(wish(resource), {"metadata": {"name": 1}})


def test_nobody_can_apply_an_unknown_field() -> None:
    config = {"apiVersion": "v1", "kind": "Service", "spec": {"odd": 1}}
    with pytest.raises(ApiError, match=r"\.spec\.odd: field not declared in schema") as refused:
        reading.configuration(wish(services()), Key("default", "a"), config)
    assert refused.value.code == 500
