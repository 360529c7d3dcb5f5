import ssl

import aiohttp
import yaml

from lbipam.localapi.server import LocalApi


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
        await api.apply([{**config_map, "data": {"b": "2"}}])
        context = ssl.create_default_context(cadata=api.ca_pem)
        headers = {"Authorization": f"Bearer {api.token}"}
        url = f"{api.url}/api/v1/namespaces/default/configmaps/m"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, ssl=context, headers=headers) as answer,
        ):
            assert (await answer.json())["data"] == {"b": "2"}
