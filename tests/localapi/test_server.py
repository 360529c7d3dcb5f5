import asyncio
import ssl
from typing import Any

import aiohttp
import pytest
import yaml

from lbipam.localapi.refusals import ApiError
from lbipam.localapi.server import LocalApi
from tests.localapi.conftest import SERVICES, Client

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


async def test_nobody_gets_in_without_the_token() -> None:
    async with LocalApi() as api, aiohttp.ClientSession() as session:
        context = ssl.create_default_context(cadata=api.ca_pem)
        async with session.get(f"{api.url}/api/v1/services", ssl=context) as answer:
            status = await answer.json()
            assert (answer.status, status["reason"]) == (401, "Unauthorized")
        headers = {"Authorization": f"Bearer {api.token}"}
        async with session.get(f"{api.url}/api/v1/services", ssl=context, headers=headers) as answer:
            services = await answer.json()
    assert [item["metadata"]["name"] for item in services["items"]] == ["kubernetes"]


async def test_the_kubeconfig_tells_where_it_is_and_whom_to_trust() -> None:
    async with LocalApi() as api:
        config = yaml.safe_load(api.kubeconfig())
        assert config["current-context"] == "lbipam"
        assert config["clusters"][0]["cluster"]["server"] == api.url
        assert config["users"][0]["user"]["token"] == api.token


async def test_manifests_are_created_and_then_updated() -> None:
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1"}}
    async with LocalApi() as api:
        await api.apply([config_map])
        await api.apply([{"apiVersion": "v1", "kind": "List", "items": [{**config_map, "data": {"b": "2"}}]}])
        context = ssl.create_default_context(cadata=api.ca_pem)
        headers = {"Authorization": f"Bearer {api.token}"}
        url = f"{api.url}/api/v1/namespaces/default/configmaps/m"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, ssl=context, headers=headers) as answer,
        ):
            assert (await answer.json())["data"] == {"b": "2"}


async def test_a_body_may_be_as_large_as_in_a_cluster(client: Client) -> None:
    body = {"metadata": {"name": "large"}, "data": {"x": "a" * 2_000_000}}
    await client.create(CONFIG_MAPS, body)
    body = {"metadata": {"name": "larger"}, "data": {"x": "a" * 4_000_000}}
    code, status = await client.ask("POST", CONFIG_MAPS, body)
    assert (code, status["reason"]) == (413, "RequestEntityTooLarge")


async def test_the_port_is_free_again_at_the_end() -> None:
    async with LocalApi() as first:
        port = int(first.url.rpartition(":")[2])
    async with LocalApi(port=port) as second:
        assert second.url == first.url


async def test_open_watches_do_not_keep_it_from_ending(api: LocalApi, client: Client) -> None:
    watch = client.watch(f"{SERVICES}?watch=1")
    await anext(watch)
    async with asyncio.timeout(5):
        await api.__aexit__(None, None, None)


@pytest.mark.parametrize(
    "manifest",
    [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}},
        {"apiVersion": "v1", "kind": "ConfigMap"},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {}},
    ],
)
async def test_a_manifest_that_is_refused_is_told(api: LocalApi, manifest: dict[str, Any]) -> None:
    with pytest.raises(ApiError):
        await api.apply([manifest])


async def test_objects_are_not_created_across_namespaces(client: Client) -> None:
    code, status = await client.ask("POST", "/api/v1/configmaps", {"metadata": {"name": "a"}})
    assert (code, status["reason"]) == (405, "MethodNotAllowed")
