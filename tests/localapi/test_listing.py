from lbipam.localapi.server import LocalApi
from tests.localapi.conftest import SERVICES, Client, service
from tests.localapi.test_watching import CONFIG_MAPS, config_map


async def test_pages_are_of_one_moment(client: Client) -> None:
    for name in "abcde":
        await client.create(CONFIG_MAPS, config_map(name))
    first = await client.get(f"{CONFIG_MAPS}?limit=2")
    assert first["metadata"]["remainingItemCount"] == 3
    await client.ask("DELETE", f"{CONFIG_MAPS}/d")
    await client.create(CONFIG_MAPS, config_map("aa"))
    names, page = [], first
    while True:
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue")
        if not token:
            break
        page = await client.get(f"{CONFIG_MAPS}?limit=2&continue={token}")
    assert names == list("abcde")


async def test_a_token_expires(client: Client, api: LocalApi) -> None:
    for name in "ab":
        await client.create(CONFIG_MAPS, config_map(name))
    token = (await client.get(f"{CONFIG_MAPS}?limit=1"))["metadata"]["continue"]
    api.faults.expire()
    code, status = await client.ask("GET", f"{CONFIG_MAPS}?limit=1&continue={token}")
    assert (code, status["reason"]) == (410, "Expired")
    code, status = await client.ask("GET", f"{CONFIG_MAPS}?limit=1&continue=nonsense")
    assert (code, status["reason"]) == (400, "BadRequest")


async def test_fields_select_too(client: Client) -> None:
    await client.create(SERVICES, service("a"))
    await client.create(SERVICES, service("b", type="ClusterIP"))

    async def names(selector: str) -> list[str]:
        found = await client.get(f"/api/v1/services?fieldSelector={selector}")
        return [item["metadata"]["name"] for item in found["items"]]

    assert await names("spec.type%3DLoadBalancer") == ["a"]
    assert await names("metadata.name%3Db,metadata.namespace%3Ddefault") == ["b"]
    assert await names("metadata.name!%3Db,spec.type!%3DLoadBalancer") == ["kubernetes"]
    code, status = await client.ask("GET", "/api/v1/services?fieldSelector=spec.odd%3D1")
    assert (code, status["message"]) == (400, "field label not supported: spec.odd")


async def test_a_version_of_the_future_is_refused(client: Client) -> None:
    code, status = await client.ask("GET", f"{CONFIG_MAPS}?resourceVersion=99999")
    assert (code, status["reason"]) == (504, "Timeout")
    assert status["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
