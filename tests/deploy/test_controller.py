"""The controller as it runs in a cluster: with the account and the arguments that `deploy/` gives it."""

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.deploy.installed import NAMESPACE, Installed, arguments, installation
from tests.real_api import WHY_NOT, assets
from tests.worlds import World, eventually, pool, service

pytestmark = [pytest.mark.real_api, pytest.mark.slow]

ACCOUNT = "lbipam-controller"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    if assets() is None:
        pytest.skip(WHY_NOT)
    with installation(tmp_path_factory.mktemp("installed")) as made:
        yield made


def thing(kind: str, name: str, spec: dict[str, Any], *, version: str = "cilium.io/v2") -> str:
    return "---\n" + json.dumps(
        {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    )


def rack(asn: int) -> str:
    peer = {"name": "tor", "peerAddress": "192.0.2.1", "peerASN": 64500, "peerConfigRef": {"name": "tor"}}
    return thing(
        "CiliumBGPClusterConfig",
        "rack",
        {"bgpInstances": [{"name": "main", "localASN": asn, "peers": [peer]}]},
    )


def test_it_may_do_what_it_must_and_nothing_else(installed: Installed) -> None:
    world = installed.world
    controllers = World("controller", installed.kubeconfig(ACCOUNT), world.folder)
    words = arguments(installed.objects, "Deployment", ACCOUNT)
    process = controllers.start(*words, "--enable-node-ipam", "--metrics-bind", "127.0.0.1:0")
    try:
        process.says("leading")
        port = process.says(r"port[\"=: ]+(\d+)").group(1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            assert answer.status == 200
        _addresses_come_go_and_are_kept(world)
        _bgp_is_configured_changed_and_ended(world)
        world.apply(
            thing("CiliumL2AnnouncementPolicy", "lan", {"interfaces": ["("]}, version="cilium.io/v2alpha1")
        )
        installed.uses_all_that_it_may(ACCOUNT, stop=process.stop)
        assert process.stop() == 0
        holder = ("get", "lease", ACCOUNT, "--namespace", NAMESPACE, "-o", "jsonpath={.spec.holderIdentity}")
        assert world.kubectl(*holder) == ""
        assert not re.search("Traceback|forbidden", process.output())
    finally:
        process.stop()


def _addresses_come_go_and_are_kept(world: World) -> None:
    """A Service's address is kept for a moment after it, in a reservation of ours or in one that is there."""
    for color in ("blue", "red"):
        network = {"blue": "20.0.10.0/24", "red": "30.0.10.0/24"}[color]
        world.apply(pool(color, network, color=color, annotations={"lbipam.dev/hold-released-for": "1s"}))
    mine = {"addresses": ["30.0.10.0"], "serviceRef": {"namespace": "default", "name": "app"}}
    world.apply(thing("IPReservation", "released-30-0-10-0", mine, version="lbipam.dev/v1alpha1"))
    world.apply(service("app", color="red") + service("other", color="red"))
    eventually(lambda: (world.addresses("app"), world.addresses("other")) == (["30.0.10.0"], ["30.0.10.1"]))
    for _ in range(2):
        world.kubectl("label", "service", "other", "--overwrite", "color=green")
        eventually(lambda: world.addresses("other") == [])
        world.kubectl("label", "service", "other", "--overwrite", "color=red")
        eventually(lambda: world.addresses("other") == ["30.0.10.1"])
    world.kubectl("delete", "service", "app", "other")


def _bgp_is_configured_changed_and_ended(world: World) -> None:
    def asns() -> list[int]:
        found = json.loads(world.kubectl("get", "ciliumbgpnodeconfigs", "-o", "json"))["items"]
        return [instance["localASN"] for one in found for instance in one["spec"]["bgpInstances"]]

    world.apply(json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "worker-1"}}))
    world.apply(thing("CiliumBGPPeerConfig", "tor", {"authSecretRef": "missing"}))
    world.apply(rack(64512))
    eventually(lambda: asns() == [64512])
    world.apply(rack(64513))
    eventually(lambda: asns() == [64513])
    world.kubectl("delete", "ciliumbgpclusterconfigs", "rack")
    eventually(lambda: asns() == [])
