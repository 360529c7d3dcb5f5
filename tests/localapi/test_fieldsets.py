from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lbipam.localapi import fieldsets
from lbipam.localapi.schema import Schema, from_openapi

NAMES = st.sampled_from(["f:a", "f:b", "f:c"])


def closed(paths: frozenset[tuple[str, ...]]) -> fieldsets.Fields:
    """The tree of a set of paths."""
    tree: fieldsets.Fields = {}
    for path in paths:
        node: fieldsets.Fields = {}
        for element in reversed(path):
            node = {element: node}
        tree = fieldsets.union(tree, node)
    return tree


def members(tree: fieldsets.Fields, above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found = set()
    for element, below in tree.items():
        if element != ".":
            path = (*above, element)
            if fieldsets.is_member(below):
                found.add(path)
            found |= members(below, path)
    return found


PATHS = st.frozensets(st.lists(NAMES, min_size=1, max_size=3).map(tuple), max_size=6)


@given(PATHS, PATHS)
def test_trees_behave_as_sets_of_paths(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> None:
    one, other = closed(a), closed(b)
    assert members(one) == a
    assert members(fieldsets.union(one, other)) == a | b
    assert members(fieldsets.difference(one, other)) == a - b
    assert members(fieldsets.intersection(one, other)) == a & b


SCHEMA = from_openapi(
    {
        "type": "object",
        "properties": {
            "plain": {"type": "string"},
            "list": {"type": "array", "items": {"type": "string"}},
            "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "map": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {
                    "type": "object",
                    "properties": {
                        "port": {"type": "integer"},
                        "protocol": {"type": "string", "default": "TCP"},
                        "name": {"type": "string"},
                    },
                },
            },
        },
    }
)

TEXT = st.sampled_from(["x", "y", "z"])
OBJECTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "plain": TEXT,
        "list": st.lists(TEXT, max_size=3),
        "set": st.lists(TEXT, max_size=3, unique=True),
        "labels": st.dictionaries(TEXT, TEXT, max_size=3),
        "map": st.lists(
            st.fixed_dictionaries({"port": st.integers(1, 3)}, optional={"name": TEXT}),
            max_size=3,
            unique_by=lambda item: item["port"],
        ),
    },
)


def test_an_applied_object_claims_leaves_and_items() -> None:
    value = {
        "plain": "x",
        "labels": {"a": "1"},
        "map": [{"port": 80, "name": "web"}],
        "set": ["s"],
        "list": ["l"],
    }
    assert fieldsets.owned(value, SCHEMA) == {
        "f:plain": {},
        "f:labels": {"f:a": {}},
        "f:map": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}, "f:name": {}}},
        "f:set": {'v:"s"': {}},
        "f:list": {},
    }


def test_paths_are_printed_as_kubernetes_does() -> None:
    value = {"map": [{"port": 80, "name": "web"}], "set": ["s"]}
    assert list(fieldsets.paths(fieldsets.owned(value, SCHEMA))) == [
        '.map[port=80,protocol="TCP"]',
        '.map[port=80,protocol="TCP"].name',
        '.map[port=80,protocol="TCP"].port',
        '.set[="s"]',
    ]


@given(OBJECTS)
def test_nothing_differs_from_itself(value: dict[str, Any]) -> None:
    assert fieldsets.compared(value, dict(value), SCHEMA) == ({}, {})


@given(OBJECTS, OBJECTS)
def test_what_one_way_adds_the_other_way_removes(old: dict[str, Any], new: dict[str, Any]) -> None:
    changed, removed = fieldsets.compared(old, new, SCHEMA)
    changed_back, removed_back = fieldsets.compared(new, old, SCHEMA)
    assert members(removed) <= members(changed_back)
    assert members(removed_back) <= members(changed)
    assert bool(changed or removed) == bool(changed_back or removed_back)


def test_a_schema_without_a_word_on_lists_keeps_them_whole() -> None:
    assert fieldsets.owned([1, 2], Schema(type="array")) == {}
