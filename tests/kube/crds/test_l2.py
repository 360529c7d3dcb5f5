"""The announcement policy as the API server is told of it."""

from lbipam.kube.crds import l2


def test_it_has_the_names_that_cilium_gave_it() -> None:
    crd = l2.announcement_policy()
    assert crd["metadata"]["name"] == "ciliuml2announcementpolicies.cilium.io"
    assert crd["spec"]["names"]["shortNames"] == ["l2announcement"]
    assert crd["spec"]["names"]["categories"] == ["cilium"]
    assert [version["name"] for version in crd["spec"]["versions"]] == ["v2alpha1"]


def test_every_field_may_be_absent() -> None:
    version = l2.announcement_policy()["spec"]["versions"][0]
    whole = version["schema"]["openAPIV3Schema"]
    assert whole["required"] == ["metadata"]
    assert "required" not in whole["properties"]["spec"]
    assert version["subresources"] == {"status": {}}
