"""Options in the query or the body of a request."""

from typing import Any

import pytest

from lbipam.localapi import options
from lbipam.localapi.refusals import ApiError
from tests.localapi.conftest import SERVICES, Client, service
from tests.localapi.test_api import reason_of
from tests.localapi.test_watching import take, told


@pytest.mark.parametrize(
    ("query", "is_true"),
    [
        ({}, False),
        ({"watch": "false"}, False),
        ({"watch": "False"}, False),
        ({"watch": "0"}, False),
        ({"watch": "1"}, True),
        ({"watch": "true"}, True),
        ({"watch": "True"}, True),
        ({"watch": ""}, True),
    ],
)
def test_true_is_what_go_takes_for_true(query: dict[str, str], is_true: bool) -> None:
    assert options.flag(query, "watch") is is_true


async def test_a_watch_is_asked_for_as_pythons_clients_do(client: Client) -> None:
    await client.create(SERVICES, service("a"))
    path = f"{SERVICES}?watch=True&fieldSelector=metadata.name%3Da"
    assert told(await take(client.watch(path), 1)) == [("ADDED", "a")]


async def test_an_apply_is_forced_as_pythons_clients_do(client: Client) -> None:
    labels = {"metadata": {"name": "a", "labels": {"color": "red"}}}
    await client.apply(f"{SERVICES}/a", service("a") | labels, "one")
    labels["metadata"] = {"name": "a", "labels": {"color": "blue"}}
    forced = f"{SERVICES}/a?fieldManager=two&force=True"
    code, made = await client.patch(forced, service("a") | labels, "apply-patch+yaml")
    assert (code, made["metadata"]["labels"]) == (200, {"color": "blue"})


async def test_a_limit_below_zero_is_none(client: Client) -> None:
    await client.create(SERVICES, service("a"))
    assert len((await client.get(f"{SERVICES}?limit=-1"))["items"]) == 2


@pytest.mark.parametrize(
    "query",
    [
        "limit=many",
        "resourceVersion=-1",
        "resourceVersion=new",
        "watch=1&resourceVersion=new",
        "watch=1&timeoutSeconds=ten",
    ],
)
async def test_what_is_no_number_is_refused(client: Client, query: str) -> None:
    assert reason_of(await client.ask("GET", f"{SERVICES}?{query}")) == (400, "BadRequest")


@pytest.mark.parametrize(
    ("query", "field", "why"),
    [
        (
            "resourceVersionMatch=Exact",
            "resourceVersionMatch",
            "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "resourceVersionMatch=Exact&resourceVersion=0",
            "resourceVersionMatch",
            'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"',
        ),
        (
            "resourceVersionMatch=Newest&resourceVersion=1",
            "resourceVersionMatch",
            'Unsupported value: "Newest": supported values: "Exact", "NotOlderThan", ""',
        ),
        (
            "resourceVersionMatch=Exact&resourceVersion=1&continue=x",
            "resourceVersionMatch",
            "Forbidden: resourceVersionMatch is forbidden when continue is provided",
        ),
        (
            "watch=1&resourceVersionMatch=NotOlderThan&resourceVersion=1",
            "resourceVersionMatch",
            "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        (
            "watch=1&sendInitialEvents=true",
            "resourceVersionMatch",
            "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            "sendInitialEvents=true",
            "sendInitialEvents",
            "Forbidden: sendInitialEvents is forbidden for list",
        ),
    ],
)
async def test_options_of_lists_and_watches_agree(client: Client, query: str, field: str, why: str) -> None:
    code, status = await client.ask("GET", f"{SERVICES}?{query}")
    assert code == 422
    assert status["message"] == f'ListOptions.meta.k8s.io "" is invalid: {field}: {why}'
    assert status["details"]["causes"][0]["field"] == field


@pytest.mark.parametrize(
    ("query", "kind", "apply", "why"),
    [
        ({"dryRun": "Some"}, "CreateOptions", False, "dryRun: Unsupported value"),
        ({"fieldValidation": "Harsh"}, "UpdateOptions", False, "fieldValidation: Unsupported value"),
        ({"fieldManager": "m" * 129}, "CreateOptions", False, "fieldManager: Too long"),
        (
            {"fieldManager": "a\nb"},
            "CreateOptions",
            False,
            r'fieldManager: Invalid value: "a\\nb": invalid character U\+000A \(at position 1\)',
        ),
        (
            {"force": "true"},
            "PatchOptions",
            False,
            "force: Forbidden: may not be specified for non-apply patch",
        ),
        ({}, "PatchOptions", True, "fieldManager: Required value: is required for apply patch"),
    ],
)
def test_options_of_writes_are_judged(query: dict[str, str], kind: str, apply: bool, why: str) -> None:
    with pytest.raises(ApiError, match=rf'{kind}\.meta\.k8s\.io "" is invalid: {why}') as refused:
        options.refuse_write(query, kind=kind, apply=apply)
    assert refused.value.code == 422


@pytest.mark.parametrize(
    ("query", "body", "code"),
    [
        ("", {"kind": "Service"}, 400),
        ("", {"gracePeriodSeconds": "x"}, 400),
        ("", {"preconditions": "x"}, 400),
        ("?gracePeriodSeconds=x", None, 400),
        ("", {"dryRun": ["Some"]}, 422),
        ("?dryRun=Some", None, 422),
        ("", {"propagationPolicy": "Sideways"}, 422),
        ("?propagationPolicy=Sideways", None, 422),
        ("", {"propagationPolicy": "Orphan", "orphanDependents": True}, 422),
    ],
)
async def test_nothing_is_deleted_with_wrong_options(
    client: Client, query: str, body: dict[str, Any] | None, code: int
) -> None:
    await client.create(SERVICES, service("a"))
    for path in (f"{SERVICES}/a", SERVICES):
        refused, status = await client.ask("DELETE", path + query, body)
        assert (refused, status["kind"]) == (code, "Status")
        assert (await client.get(f"{SERVICES}/a"))["metadata"]["name"] == "a"


@pytest.mark.parametrize(
    "body",
    [
        {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"},
        {"gracePeriodSeconds": 0, "orphanDependents": False},
        {},
        None,
    ],
)
async def test_deletions_go_as_clients_ask_for_them(client: Client, body: dict[str, Any] | None) -> None:
    await client.create(SERVICES, service("a"))
    code, status = await client.ask("DELETE", f"{SERVICES}/a", body)
    assert (code, status["status"]) == (200, "Success")
