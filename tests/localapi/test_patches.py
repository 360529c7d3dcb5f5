from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.localapi import patches
from lbipam.localapi.declarations import declared
from lbipam.localapi.refusals import ApiError

SERVICE = declared("core.v1.Service")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("value", "patch", "wanted"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_the_rfc(value: Any, patch: Any, wanted: Any) -> None:
    assert patches.merge(value, patch) == wanted


@pytest.mark.parametrize(
    ("value", "operations", "wanted"),
    [
        ({"a": 1}, [{"op": "add", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
        ({"a": [1, 3]}, [{"op": "add", "path": "/a/1", "value": 2}], {"a": [1, 2, 3]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a": [1, 2]}, [{"op": "remove", "path": "/a/0"}], {"a": [2]}),
        ({"a": 1}, [{"op": "replace", "path": "/a", "value": None}], {"a": None}),
        ({"a": {"b": 1}}, [{"op": "move", "from": "/a/b", "path": "/c"}], {"a": {}, "c": 1}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        (
            {"a/b": 1, "c~d": 2},
            [{"op": "test", "path": "/a~1b", "value": 1}, {"op": "remove", "path": "/c~0d"}],
            {"a/b": 1},
        ),
        ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
        ({"a": 1}, [{"op": "test", "path": "/b", "value": None}], {"a": 1}),
    ],
)
def test_json_patch_follows_the_rfc(value: Any, operations: Any, wanted: Any) -> None:
    assert patches.json_patch(value, operations) == wanted


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "remove", "path": "/b"},
        {"op": "replace", "path": "/b", "value": 1},
        {"op": "add", "path": "/b/c", "value": 1},
        {"op": "add", "path": "/l/5", "value": 1},
        {"op": "add", "path": "/a/b", "value": 1},
        {"op": "remove", "path": ""},
        {"op": "remove", "path": "a"},
        {"op": "spin", "path": "/a"},
    ],
)
def test_a_json_patch_that_cannot_be_done_is_refused(operation: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as refused:
        patches.json_patch({"a": 1, "l": [1]}, [operation])
    assert (refused.value.code, refused.value.reason) == (422, "Invalid")


@given(JSON, JSON)
def test_patches_leave_their_arguments_alone(value: Any, patch: Any) -> None:
    before = repr((value, patch))
    patches.merge(value, patch)
    patches.strategic(value, patch, SERVICE)
    assert repr((value, patch)) == before


@given(JSON, JSON)
def test_a_merge_patch_is_idempotent(value: Any, patch: Any) -> None:
    once = patches.merge(value, patch)
    assert patches.merge(once, patch) == once


def ports(*numbers: int) -> dict[str, Any]:
    return {"spec": {"ports": [{"port": number, "name": f"p{number}"} for number in numbers]}}


def test_ports_of_a_service_merge_by_number() -> None:
    patched = patches.strategic(ports(80, 443), {"spec": {"ports": [{"port": 443, "name": "tls"}]}}, SERVICE)
    assert patched == {"spec": {"ports": [{"port": 80, "name": "p80"}, {"port": 443, "name": "tls"}]}}


def test_new_items_come_before_those_that_the_patch_does_not_name() -> None:
    patched = patches.strategic(ports(80, 443), {"spec": {"ports": [{"port": 1, "name": "p1"}]}}, SERVICE)
    assert patched == ports(1, 80, 443)


def test_an_item_is_deleted_by_directive() -> None:
    patch = {"spec": {"ports": [{"port": 80, "$patch": "delete"}]}}
    assert patches.strategic(ports(80, 443), patch, SERVICE) == ports(443)


def test_a_list_is_replaced_by_directive() -> None:
    patch = {"spec": {"ports": [{"port": 1, "name": "p1"}, {"$patch": "replace"}]}}
    assert patches.strategic(ports(80, 443), patch, SERVICE) == ports(1)


def test_items_stand_in_the_order_that_is_set() -> None:
    patch = {"spec": {"$setElementOrder/ports": [{"port": 443}, {"port": 80}], "ports": []}}
    assert patches.strategic(ports(80, 443), patch, SERVICE) == ports(443, 80)


def test_plain_values_that_merge_are_united_and_deleted_by_directive() -> None:
    value = {"metadata": {"finalizers": ["a", "b"]}}
    added = patches.strategic(value, {"metadata": {"finalizers": ["c"]}}, SERVICE)
    assert sorted(added["metadata"]["finalizers"]) == ["a", "b", "c"]
    removed = patches.strategic(value, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}, SERVICE)
    assert removed == {"metadata": {"finalizers": ["b"]}}


def test_a_map_is_replaced_by_directive() -> None:
    value = {"spec": {"selector": {"a": "1", "b": "2"}}}
    patch = {"spec": {"selector": {"$patch": "replace", "c": "3"}}}
    assert patches.strategic(value, patch, SERVICE) == {"spec": {"selector": {"c": "3"}}}


def test_an_item_without_its_key_is_refused() -> None:
    with pytest.raises(ApiError, match="does not contain declared merge key: port"):
        patches.strategic(ports(80), {"spec": {"ports": [{"name": "x"}]}}, SERVICE)


def test_an_unknown_directive_is_refused() -> None:
    with pytest.raises(ApiError, match="unknown patch type: keep"):
        patches.strategic({"spec": {}}, {"spec": {"$patch": "keep"}}, SERVICE)
    assert patches.strategic({"a": 1}, {"$patch": "merge", "b": 2}, SERVICE) == {"a": 1, "b": 2}


def test_items_whose_key_is_no_text_have_an_order() -> None:
    live = {"spec": {"ports": [{"port": 80}]}}
    patch = {
        "spec": {"ports": [{"port": {"a": 1}}], "$setElementOrder/ports": [{"port": {"a": 1}}, {"port": 80}]}
    }
    assert patches.strategic(live, patch, SERVICE) == {"spec": {"ports": [{"port": {"a": 1}}, {"port": 80}]}}
