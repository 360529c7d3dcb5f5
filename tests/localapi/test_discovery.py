from lbipam.localapi import discovery
from tests.localapi.conftest import Client


def test_stable_versions_come_before_others() -> None:
    versions = ["v1alpha1", "v1", "v2beta1", "v10", "v2", "v1beta2", "v1beta1"]
    assert sorted(versions, key=discovery.stability, reverse=True) == [
        "v10",
        "v2",
        "v1",
        "v2beta1",
        "v1beta2",
        "v1beta1",
        "v1alpha1",
    ]


async def test_both_forms_of_discovery_tell_the_same(client: Client) -> None:
    await client.define_widgets({"type": "object"})
    aggregated = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    found = {}
    for root in ("/api", "/apis"):
        for group in (await client.get(root, **aggregated))["items"]:
            for version in group["versions"]:
                names = {each["resource"] for each in version["resources"]}
                found[(group["metadata"].get("name", ""), version["version"])] = names
    listed = {("", "v1")} | {
        (group["name"], version["version"])
        for group in (await client.get("/apis"))["groups"]
        for version in group["versions"]
    }
    assert set(found) == listed
    for group, version in listed:
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        resources = (await client.get(path))["resources"]
        assert {each["name"] for each in resources if "/" not in each["name"]} == found[(group, version)]
    assert ("example.com", "v1") in listed
    assert (await client.get("/apis/example.com"))["preferredVersion"]["version"] == "v1"
    assert (await client.ask("GET", "/apis/nobody.example"))[0] == 404
