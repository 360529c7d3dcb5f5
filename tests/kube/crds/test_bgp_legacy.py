"""The BGP kind of Cilium 1.13 as the API server is told of it."""

from lbipam.kube.crds import bgp_legacy


def test_it_exists_in_v2alpha1_only() -> None:
    crd = bgp_legacy.peering_policy()
    assert [version["name"] for version in crd["spec"]["versions"]] == ["v2alpha1"]
    assert crd["spec"]["names"]["shortNames"] == ["bgpp"]
    assert crd["metadata"]["name"] == "ciliumbgppeeringpolicies.cilium.io"


def test_neighbors_have_the_defaults_of_cilium() -> None:
    whole = bgp_legacy.peering_policy()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    router = whole["properties"]["spec"]["properties"]["virtualRouters"]["items"]
    neighbor = router["properties"]["neighbors"]["items"]["properties"]
    assert router["required"] == ["localASN", "neighbors"]
    assert router["properties"]["serviceAdvertisements"]["default"] == ["LoadBalancerIP"]
    defaults = {name: field["default"] for name, field in neighbor.items() if "default" in field}
    assert defaults == {
        "peerPort": 179,
        "eBGPMultihopTTL": 1,
        "connectRetryTimeSeconds": 120,
        "holdTimeSeconds": 90,
        "keepAliveTimeSeconds": 30,
    }
