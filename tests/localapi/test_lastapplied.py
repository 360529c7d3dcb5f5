import json
from typing import Any

import pytest

from lbipam.localapi.lastapplied import ANNOTATION
from tests.localapi.conftest import Client
from tests.localapi.test_api import CONFIG_MAPS, config_map, reason_of


async def applied_by_kubectl(client: Client, note: str) -> None:
    """ConfigMap `a` with `x` at 1, as kubectl leaves it that applies on its own side."""
    made = config_map("a", x="1")
    made["metadata"]["annotations"] = {ANNOTATION: note}
    code, _ = await client.ask("POST", f"{CONFIG_MAPS}?fieldManager=kubectl-client-side-apply", made)
    assert code == 201


def note_of(value: dict[str, Any]) -> Any:
    return json.loads(value["metadata"]["annotations"][ANNOTATION])


NOTE = json.dumps(config_map("a", x="1"))


async def test_kubectl_is_not_in_conflict_with_itself(client: Client) -> None:
    await applied_by_kubectl(client, NOTE)
    code, value = await client.apply(f"{CONFIG_MAPS}/a", config_map("a", x="2"), "kubectl")
    assert (code, value["data"]) == (200, {"x": "2"})
    assert note_of(value) == config_map("a", x="2")


async def test_others_are_in_conflict_with_kubectl(client: Client) -> None:
    await applied_by_kubectl(client, NOTE)
    refused = await client.apply(f"{CONFIG_MAPS}/a", config_map("a", x="2"), "somebody")
    assert reason_of(refused) == (409, "Conflict")
    assert refused[1]["message"].endswith('conflict with "kubectl-client-side-apply" using v1: .data.x')
    code, value = await client.apply(f"{CONFIG_MAPS}/a", config_map("a", x="2"), "somebody", force=True)
    assert (code, note_of(value)) == (200, config_map("a", x="1"))


async def test_what_others_changed_since_is_in_conflict(client: Client) -> None:
    await applied_by_kubectl(client, NOTE)
    await client.patch(f"{CONFIG_MAPS}/a?fieldManager=somebody", {"data": {"x": "3"}})
    refused = await client.apply(f"{CONFIG_MAPS}/a", config_map("a", x="2"), "kubectl")
    assert reason_of(refused) == (409, "Conflict")


@pytest.mark.parametrize("note", ["{", "[]", json.dumps({**config_map("a", x="1"), "apiVersion": "v2"})])
async def test_a_note_that_cannot_be_read_allows_nothing(client: Client, note: str) -> None:
    await applied_by_kubectl(client, note)
    refused = await client.apply(f"{CONFIG_MAPS}/a", config_map("a", x="2"), "kubectl")
    assert reason_of(refused) == (409, "Conflict")
