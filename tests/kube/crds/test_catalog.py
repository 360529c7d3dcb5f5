"""All kinds together; and a real API server and a real kubectl that take them, and the objects they should."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from lbipam.kube.crds import catalog
from tests.real_api import RealApi
from tests.real_apply import apply, define

SERVICE = {"advertisementType": "Service", "service": {"addresses": ["LoadBalancerIP"]}, "selector": {}}
PEER = {"name": "tor", "peerAddress": "10.0.0.1", "peerASN": 64500}
INSTANCE = {"name": "main", "localASN": 64512, "peers": [PEER]}
NEIGHBOR = {"peerAddress": "10.0.0.1/32", "peerASN": 64500}
FAMILY = {"afi": "ipv4", "safi": "unicast", "advertisements": {"matchLabels": {"advertise": "bgp"}}}

GOOD: list[tuple[str, str, dict[str, Any]]] = [
    ("cilium.io/v2", "CiliumLoadBalancerIPPool", {"blocks": [{"cidr": "10.0.10.0/24"}]}),
    ("cilium.io/v2", "CiliumLoadBalancerIPPool", {"blocks": [{"start": "fd00::1", "stop": "fd00::9"}]}),
    ("cilium.io/v2", "CiliumLoadBalancerIPPool", {"cidrs": [{"cidr": "10.0.10.0/24"}]}),
    ("cilium.io/v2alpha1", "CiliumLoadBalancerIPPool", {"allowFirstLastIPs": "No", "disabled": True}),
    ("cilium.io/v2", "CiliumLoadBalancerIPPool", {}),
    ("lbipam.dev/v1alpha1", "IPReservation", {"addresses": ["10.0.0.1", "fd00::/64", "10.0.0.1-10.0.0.9"]}),
    (
        "lbipam.dev/v1alpha1",
        "IPReservation",
        {
            "addresses": ["10.0.0.1"],
            "serviceRef": {"namespace": "default", "name": "web"},
            "expiresAt": "2030-01-01T00:00:00Z",
            "reason": "the gateway",
        },
    ),
    ("cilium.io/v2", "CiliumBGPClusterConfig", {"bgpInstances": [INSTANCE]}),
    ("cilium.io/v2alpha1", "CiliumBGPClusterConfig", {"bgpInstances": [INSTANCE]}),
    ("cilium.io/v2", "CiliumBGPPeerConfig", {"families": [FAMILY], "gracefulRestart": {"enabled": True}}),
    ("cilium.io/v2", "CiliumBGPAdvertisement", {"advertisements": [SERVICE]}),
    (
        "cilium.io/v2",
        "CiliumBGPAdvertisement",
        {
            "advertisements": [
                {
                    "advertisementType": "PodCIDR",
                    "attributes": {
                        "communities": {"standard": ["64512:1"], "wellKnown": ["no-peer"], "large": ["1:2:3"]}
                    },
                }
            ]
        },
    ),
    ("cilium.io/v2", "CiliumBGPNodeConfig", {"bgpInstances": [{**INSTANCE, "routerID": "10.0.0.9"}]}),
    ("cilium.io/v2", "CiliumBGPNodeConfigOverride", {"bgpInstances": [{"name": "main", "localASN": 7}]}),
    (
        "cilium.io/v2alpha1",
        "CiliumBGPPeeringPolicy",
        {"virtualRouters": [{"localASN": 64512, "neighbors": [NEIGHBOR]}]},
    ),
    (
        "cilium.io/v2alpha1",
        "CiliumL2AnnouncementPolicy",
        {"interfaces": ["^eth[0-9]+"], "loadBalancerIPs": True, "externalIPs": True},
    ),
]

BAD: list[tuple[str, str, dict[str, Any], str]] = [
    ("cilium.io/v2", "CiliumLoadBalancerIPPool", {"blocks": [{"cidr": "10.0.0.0/33"}]}, "spec.blocks"),
    ("cilium.io/v2", "CiliumLoadBalancerIPPool", {"allowFirstLastIPs": "Maybe"}, "Unsupported value"),
    (
        "cilium.io/v2",
        "CiliumLoadBalancerIPPool",
        {"serviceSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}},
        "Unsupported value",
    ),
    (
        "cilium.io/v2",
        "CiliumLoadBalancerIPPool",
        {"serviceSelector": {"matchLabels": {"a": "b c"}}},
        "should match",
    ),
    ("lbipam.dev/v1alpha1", "IPReservation", {"addresses": []}, "at least 1 items"),
    ("lbipam.dev/v1alpha1", "IPReservation", {"addresses": ["gateway"]}, "should match"),
    (
        "lbipam.dev/v1alpha1",
        "IPReservation",
        {"addresses": ["10.0.0.1"], "serviceRef": {"name": "web"}},
        "spec.serviceRef.namespace",
    ),
    (
        "lbipam.dev/v1alpha1",
        "IPReservation",
        {"addresses": ["10.0.0.1"], "expiresAt": "tomorrow"},
        "date-time",
    ),
    ("cilium.io/v2", "CiliumBGPClusterConfig", {"bgpInstances": []}, "at least 1 items"),
    (
        "cilium.io/v2",
        "CiliumBGPClusterConfig",
        {"bgpInstances": [INSTANCE, INSTANCE]},
        "Duplicate value",
    ),
    (
        "cilium.io/v2",
        "CiliumBGPClusterConfig",
        {"bgpInstances": [{**INSTANCE, "localASN": 0}]},
        "greater than or equal to 1",
    ),
    (
        "cilium.io/v2",
        "CiliumBGPClusterConfig",
        {"bgpInstances": [{**INSTANCE, "peers": [{**PEER, "peerAddress": "router"}]}]},
        "should match",
    ),
    ("cilium.io/v2", "CiliumBGPPeerConfig", {"timers": {"holdTimeSeconds": 2}}, "greater than or equal to 3"),
    ("cilium.io/v2", "CiliumBGPPeerConfig", {"families": [{"afi": "ipx", "safi": "unicast"}]}, "Unsupported"),
    ("cilium.io/v2", "CiliumBGPPeerConfig", {"gracefulRestart": {}}, "spec.gracefulRestart.enabled"),
    (
        "cilium.io/v2",
        "CiliumBGPAdvertisement",
        {"advertisements": [{**SERVICE, "service": {"addresses": []}}]},
        "at least 1 items",
    ),
    (
        "cilium.io/v2",
        "CiliumBGPAdvertisement",
        {"advertisements": [{**SERVICE, "attributes": {"communities": {"standard": ["65536:1"]}}}]},
        "should match",
    ),
    (
        "cilium.io/v2alpha1",
        "CiliumBGPPeeringPolicy",
        {"virtualRouters": [{"localASN": 64512, "neighbors": []}]},
        "at least 1 items",
    ),
    ("cilium.io/v2alpha1", "CiliumL2AnnouncementPolicy", {"interfaces": [7]}, "must be of type string"),
]


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


# --- on a real server ---------------------------------------------------------------------------------------


class Kubectl:
    """The real client, against the real server."""

    def __init__(self, api: RealApi) -> None:
        self._command = ["kubectl", "--kubeconfig", str(api.kubeconfig)]

    def run(self, *words: str, given: object = None) -> subprocess.CompletedProcess[str]:
        text = json.dumps(given) if given is not None else None
        return subprocess.run(
            [*self._command, *words], input=text, capture_output=True, text=True, timeout=60, check=False
        )

    def must(self, *words: str, given: object = None) -> str:
        done = self.run(*words, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def kubectl(real_api: RealApi) -> Iterator[Kubectl]:
    """A client of a server that knows all kinds; what the tests create is removed again."""
    client = Kubectl(real_api)
    define(real_api)
    yield client
    for crd in catalog.all_crds():
        client.run("delete", crd["metadata"]["name"].partition(".")[0], "--all", "--wait=false")


def thing(api_version: str, kind: str, spec: dict[str, Any], name: str = "for-definitions") -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def test_kubectl_takes_the_definitions_of_an_old_server(kubectl: Kubectl) -> None:
    items = [catalog.without_rules(crd) for crd in catalog.all_crds()]
    kubectl.must("apply", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": items})


def test_no_definition_is_found_wanting(kubectl: Kubectl) -> None:
    found = json.loads(kubectl.must("get", "crd", "-o", "json"))["items"]
    ours = {crd["metadata"]["name"] for crd in catalog.all_crds()}
    known = {crd["metadata"]["name"]: crd["status"]["conditions"] for crd in found}
    assert ours <= known.keys()
    for name in ours:
        stands = {condition["type"]: condition["status"] for condition in known[name]}
        assert stands == {"NamesAccepted": "True", "Established": "True"}


def test_a_definition_with_rules_is_taken_by_a_server_that_knows_none(kubectl: Kubectl) -> None:
    for crd in catalog.all_crds():
        kubectl.must("apply", "--validate=false", "--dry-run=server", "-f", "-", given=crd)


@pytest.mark.parametrize(("api_version", "kind", "spec"), GOOD)
def test_a_good_object_is_taken(kubectl: Kubectl, api_version: str, kind: str, spec: dict[str, Any]) -> None:
    kubectl.must("apply", "--dry-run=server", "-f", "-", given=thing(api_version, kind, spec))


@pytest.mark.parametrize(("api_version", "kind", "spec", "complaint"), BAD)
def test_a_bad_object_is_refused_with_the_reason(
    kubectl: Kubectl, api_version: str, kind: str, spec: dict[str, Any], complaint: str
) -> None:
    given = thing(api_version, kind, spec)
    done = kubectl.run("apply", "--validate=false", "--dry-run=server", "-f", "-", given=given)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_defaults_are_filled_in(kubectl: Kubectl) -> None:
    spec = {"timers": {}, "transport": {}, "gracefulRestart": {"enabled": True}}
    kubectl.must("apply", "-f", "-", given=thing("cilium.io/v2", "CiliumBGPPeerConfig", spec))
    stored = json.loads(kubectl.must("get", "cbgppeer", "for-definitions", "-o", "json"))["spec"]
    assert stored == {
        "ebgpMultihop": 1,
        "timers": {"connectRetryTimeSeconds": 120, "holdTimeSeconds": 90, "keepAliveTimeSeconds": 30},
        "transport": {"peerPort": 179},
        "gracefulRestart": {"enabled": True, "restartTimeSeconds": 120},
    }


def test_a_pool_is_the_same_in_both_versions(kubectl: Kubectl) -> None:
    given = thing("cilium.io/v2alpha1", "CiliumLoadBalancerIPPool", {"cidrs": [{"cidr": "10.7.0.0/24"}]})
    kubectl.must("apply", "-f", "-", given=given)
    for version in ("v2", "v2alpha1"):
        name = f"ciliumloadbalancerippools.{version}.cilium.io"
        stored = json.loads(kubectl.must("get", name, "for-definitions", "-o", "json"))
        assert stored["apiVersion"] == f"cilium.io/{version}"
        assert stored["spec"] == {"cidrs": [{"cidr": "10.7.0.0/24"}], "disabled": False}


def test_a_reservation_shows_what_for_whom_until_when_and_why(kubectl: Kubectl) -> None:
    spec = {
        "addresses": ["10.0.0.1"],
        "serviceRef": {"namespace": "default", "name": "web"},
        "expiresAt": "2030-01-01T00:00:00Z",
        "reason": "gateway",
    }
    kubectl.must("apply", "-f", "-", given=thing("lbipam.dev/v1alpha1", "IPReservation", spec))
    header, row = kubectl.must("get", "ipres", "for-definitions").splitlines()
    assert header.split()[:2] == ["NAME", "ADDRESSES"]
    for shown in ('["10.0.0.1"]', "default", "web", "2030-01-01T00:00:00Z", "gateway"):
        assert shown in row.split()


def test_conditions_of_two_writers_stand_beside_each_other(kubectl: Kubectl, real_api: RealApi) -> None:
    given = thing("cilium.io/v2", "CiliumLoadBalancerIPPool", {"blocks": []}, name="for-conditions")
    kubectl.must("apply", "-f", "-", given=given)
    for writer in ("one", "two"):
        condition = {
            "type": f"example.dev/{writer}",
            "status": "True",
            "reason": "said",
            "message": "",
            "lastTransitionTime": "2030-01-01T00:00:00Z",
        }
        body = {**given, "status": {"conditions": [condition]}}
        del body["spec"]
        path = "/apis/cilium.io/v2/ciliumloadbalancerippools/for-conditions/status"
        apply(real_api, path, body, manager=writer)
    stored = json.loads(kubectl.must("get", "ippools", "for-conditions", "-o", "json"))
    assert {one["type"] for one in stored["status"]["conditions"]} == {"example.dev/one", "example.dev/two"}
