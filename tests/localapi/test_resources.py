from lbipam.localapi import builtins
from lbipam.localapi.resources import Registry, Rules
from tests.localapi.test_reading import services, things


def test_a_resource_is_found_by_either_name() -> None:
    registry = Registry(builtins.resources(Rules(), lambda _new, _old: None))
    found = registry.find("", "services")
    assert found is registry.of_kind("", "Service")
    assert registry.find("apps", "services") is None


def test_the_registry_counts_its_changes() -> None:
    registry = Registry([services()])
    before = registry.generation
    registry.add(things())
    assert [resource.kind for resource in registry.groups()["example.com"]] == ["Widget"]
    registry.remove("example.com", "widgets")
    registry.remove("example.com", "widgets")
    assert registry.generation == before + 2


def test_the_head_of_an_object_tells_its_kind() -> None:
    assert services().head("v1") == b'{"apiVersion":"v1","kind":"Service",'
    assert things().head("v1") == b'{"apiVersion":"example.com/v1","kind":"Widget",'
