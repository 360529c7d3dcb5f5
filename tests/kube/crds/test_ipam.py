"""Address pools and reservations as the API server is told of them."""

from lbipam.kube.crds import ipam


def test_the_pool_has_the_names_that_cilium_gave_it() -> None:
    crd = ipam.pool()
    assert crd["metadata"]["name"] == "ciliumloadbalancerippools.cilium.io"
    assert crd["spec"]["scope"] == "Cluster"
    assert crd["spec"]["names"] == {
        "kind": "CiliumLoadBalancerIPPool",
        "listKind": "CiliumLoadBalancerIPPoolList",
        "plural": "ciliumloadbalancerippools",
        "singular": "ciliumloadbalancerippool",
        "shortNames": ["ippools", "ippool", "lbippool", "lbippools"],
        "categories": ["cilium"],
    }


def test_v2_is_stored_and_v2alpha1_is_the_same_but_deprecated() -> None:
    v2, alpha = ipam.pool()["spec"]["versions"]
    assert (v2["name"], v2["storage"], v2.get("deprecated")) == ("v2", True, None)
    assert (alpha["name"], alpha["storage"], alpha["deprecated"]) == ("v2alpha1", False, True)
    assert v2["schema"] == alpha["schema"]
    assert v2["subresources"] == alpha["subresources"] == {"status": {}}


def test_the_pool_shows_its_state_in_four_columns() -> None:
    columns = ipam.pool()["spec"]["versions"][0]["additionalPrinterColumns"]
    assert [(column["name"], column["type"]) for column in columns] == [
        ("Disabled", "boolean"),
        ("Conflicting", "string"),
        ("IPs Available", "string"),
        ("Age", "date"),
    ]


def test_pool_conditions_are_merged_by_type() -> None:
    schema = ipam.pool()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    conditions = schema["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_a_reservation_needs_addresses_and_nothing_else() -> None:
    schema = ipam.reservation()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = schema["properties"]["spec"]
    assert schema["required"] == ["metadata", "spec"]
    assert spec["required"] == ["addresses"]
    assert spec["properties"]["addresses"]["minItems"] == 1
    assert spec["properties"]["serviceRef"]["required"] == ["name", "namespace"]
