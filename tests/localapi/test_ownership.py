import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.localapi import ownership
from lbipam.localapi.ownership import Owner, Writer
from lbipam.localapi.refusals import ApiError
from tests.localapi.test_fieldsets import OBJECTS, SCHEMA

NOWHERE: frozenset[str] = frozenset()


def writer(manager: str, operation: str = "Apply", *, force: bool = False) -> Writer:
    return Writer(
        manager=manager,
        operation=operation,
        api_version="v1",
        subresource="",
        time="2026-01-01T00:00:00Z",
        force=force,
    )


class World:
    """One object, and who owns what of it."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}
        self.owners: list[Owner] = []

    def apply(self, manager: str, config: dict[str, Any], *, force: bool = False) -> None:
        outcome = ownership.applied(
            self.owners,
            self.value,
            copy.deepcopy(config),
            schema=SCHEMA,
            writer=writer(manager, force=force),
            out_of_reach=NOWHERE,
        )
        self.value, self.owners = outcome.value, outcome.owners

    def update(self, manager: str, value: dict[str, Any]) -> None:
        self.owners = ownership.owners_after_update(
            self.owners,
            self.value,
            value,
            schema=SCHEMA,
            writer=writer(manager, "Update"),
            out_of_reach=NOWHERE,
        )
        self.value = copy.deepcopy(value)


def test_what_an_applier_no_longer_states_is_removed() -> None:
    world = World()
    world.apply("a", {"plain": "x", "labels": {"one": "1", "two": "2"}})
    world.apply("a", {"labels": {"two": "2"}})
    assert world.value == {"labels": {"two": "2"}}


def test_what_another_applier_states_too_stays() -> None:
    world = World()
    world.apply("a", {"labels": {"one": "1"}})
    world.apply("b", {"labels": {"one": "1", "two": "2"}})
    world.apply("a", {})
    assert world.value == {"labels": {"one": "1", "two": "2"}}


def test_another_value_for_somebody_elses_field_is_a_conflict() -> None:
    world = World()
    world.apply("a", {"labels": {"one": "1"}})
    with pytest.raises(ApiError) as refused:
        world.apply("b", {"labels": {"one": "2"}})
    assert refused.value.code == 409
    assert refused.value.message == 'Apply failed with 1 conflict: conflict with "a": .labels.one'


def test_force_takes_the_field_over() -> None:
    world = World()
    world.apply("a", {"labels": {"one": "1"}})
    world.apply("b", {"labels": {"one": "2"}}, force=True)
    world.apply("a", {})
    assert world.value == {"labels": {"one": "2"}}
    assert [owner.manager for owner in world.owners] == ["b"]


def test_an_update_takes_over_what_it_changes_and_leaves_the_rest() -> None:
    world = World()
    world.apply("a", {"plain": "x", "labels": {"one": "1"}})
    world.update("editor", {"plain": "x", "labels": {"one": "2"}})
    world.apply("a", {"plain": "x"})
    assert world.value == {"plain": "x", "labels": {"one": "2"}}


def test_an_update_to_the_same_value_takes_nothing() -> None:
    world = World()
    world.apply("a", {"plain": "x"})
    world.update("editor", {"plain": "x"})
    assert [owner.manager for owner in world.owners] == ["a"]


def test_apply_and_update_of_one_manager_are_two_owners() -> None:
    world = World()
    world.update("a", {"plain": "x"})
    world.apply("a", {"plain": "x"})
    world.apply("a", {})
    assert world.value == {"plain": "x"}


def test_items_of_keyed_lists_are_owned_apart() -> None:
    world = World()
    world.apply("a", {"map": [{"port": 1, "name": "x"}]})
    world.apply("b", {"map": [{"port": 2, "name": "y"}]})
    world.apply("a", {})
    assert world.value == {"map": [{"port": 2, "name": "y"}]}


def test_an_item_that_two_own_loses_only_what_one_of_them_stated() -> None:
    world = World()
    world.apply("a", {"map": [{"port": 1, "name": "x"}]})
    world.apply("b", {"map": [{"port": 1}]})
    world.apply("a", {})
    assert world.value == {"map": [{"port": 1}]}


@given(OBJECTS)
def test_applying_again_changes_nothing(config: dict[str, Any]) -> None:
    world = World()
    world.apply("a", config)
    value, owners = copy.deepcopy(world.value), list(world.owners)
    world.apply("a", config)
    assert (world.value, world.owners) == (value, owners)


@given(OBJECTS, OBJECTS)
def test_the_object_is_what_its_only_applier_states(first: dict[str, Any], second: dict[str, Any]) -> None:
    world = World()
    world.apply("a", first)
    world.apply("a", second)
    emptied = {name for name in first if not second.get(name)}
    stated = {name: value for name, value in second.items() if value}
    assert {name: value for name, value in world.value.items() if value} == _in_order_of(world.value, stated)
    assert not any(world.value.get(name) for name in emptied if name not in stated)


def _in_order_of(shown: dict[str, Any], stated: dict[str, Any]) -> dict[str, Any]:
    """`stated` with keyed lists in the order that they have in the object, where items keep their places."""
    ordered = dict(stated)
    for name in ("map", "set"):
        if name in stated:
            places = shown.get(name, [])
            ordered[name] = sorted(
                stated[name], key=lambda item: places.index(item) if item in places else -1
            )
    return ordered


@given(st.lists(st.tuples(st.sampled_from("ab"), OBJECTS), max_size=5), OBJECTS)
def test_after_a_forced_apply_everything_stated_is_there(
    before: list[tuple[str, dict[str, Any]]], config: dict[str, Any]
) -> None:
    world = World()
    for manager, earlier in before:
        world.apply(manager, earlier, force=True)
    world.apply("c", config, force=True)
    assert world.value.get("plain") == config.get("plain", world.value.get("plain"))
    for key, value in config.get("labels", {}).items():
        assert world.value["labels"][key] == value
    for item in config.get("map", ()):
        found = next(each for each in world.value["map"] if each["port"] == item["port"])
        assert item.items() <= found.items()
