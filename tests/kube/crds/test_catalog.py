"""All kinds together."""

import json

from lbipam.kube.crds import catalog


def test_every_kind_is_there_once() -> None:
    names = [crd["spec"]["names"]["kind"] for crd in catalog.all_crds()]
    assert sorted(names) == [
        "CiliumBGPAdvertisement",
        "CiliumBGPClusterConfig",
        "CiliumBGPNodeConfig",
        "CiliumBGPNodeConfigOverride",
        "CiliumBGPPeerConfig",
        "CiliumBGPPeeringPolicy",
        "CiliumL2AnnouncementPolicy",
        "CiliumLoadBalancerIPPool",
        "IPReservation",
    ]


def test_each_call_makes_new_values() -> None:
    first = catalog.all_crds()
    first[0]["spec"].clear()
    assert catalog.all_crds()[0]["spec"]


def test_old_clusters_can_be_told_without_rules() -> None:
    for crd in catalog.all_crds():
        assert "x-kubernetes-validations" not in json.dumps(catalog.without_rules(crd))
    ruled = [crd for crd in catalog.all_crds() if "x-kubernetes-validations" in json.dumps(crd)]
    assert len(ruled) == 4
