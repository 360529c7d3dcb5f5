"""A cluster whose definitions are from before the v2 of pools and of the BGP kinds; controller and agent as processes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lbipam.kube.crds import catalog
from tests.worlds import Process, World, eventually, pool, service

GROUP = "cilium.io/v2alpha1"


@pytest.fixture
def old_cluster(tmp_path: Path) -> Iterator[World]:
    """The embedded API, which knows as v2alpha1 only what comes in two versions."""
    kubeconfig = tmp_path / "kubeconfig"
    process = Process(
        ["sandbox", "--no-controller", "--kubeconfig-out", str(kubeconfig)], log=tmp_path / "sandbox.log"
    )
    try:
        process.says("Ctrl-C ends it")
        world = World("embedded", kubeconfig, tmp_path)
        for definition in catalog.all_crds():
            if {"v2", "v2alpha1"} <= {one["name"] for one in definition["spec"]["versions"]}:
                world.kubectl("delete", "crd", definition["metadata"]["name"])
                world.apply(json.dumps(only_alpha(definition)))
        with world.clean():
            yield world
    finally:
        process.stop()


def only_alpha(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition as it was when there was one version."""
    (alpha,) = (one for one in definition["spec"]["versions"] if one["name"] == "v2alpha1")
    spec = {**definition["spec"], "versions": [{**alpha, "storage": True, "deprecated": False}]}
    return {**definition, "spec": spec}


def thing(kind: str, name: str, spec: dict[str, Any], *, version: str = GROUP, **metadata: Any) -> str:
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}
    return f"---\n{json.dumps(body)}\n"


def test_configuration_and_sessions_go_through_the_only_version_there_is(old_cluster: World) -> None:
    world = old_cluster
    peer = {"name": "tor", "peerAddress": "127.0.0.1", "peerASN": 64512, "peerConfigRef": {"name": "fast"}}
    world.apply(
        thing("Node", "n1", {}, version="v1")
        + thing("CiliumBGPPeerConfig", "fast", {"transport": {"peerPort": 9}})
        + thing(
            "CiliumBGPClusterConfig",
            "rack",
            {"bgpInstances": [{"name": "main", "localASN": 64513, "peers": [peer]}]},
        )
        + thing(
            "CiliumBGPNodeConfigOverride", "n1", {"bgpInstances": [{"name": "main", "routerID": "192.0.2.1"}]}
        )
    )
    world.controller()
    agent = world.start("agent", "--node-name", "n1", "--no-l2")

    def sessions() -> list[dict[str, Any]]:
        done = world.run("get", "peers", "-o", "json")
        found: list[dict[str, Any]] = json.loads(done.stdout)["sessions"]
        return found

    def is_told() -> bool:
        return [one["node"] for one in sessions() if "refused" in one.get("why", "")] == ["n1"]

    eventually(is_told)
    config = world.get("ciliumbgpnodeconfigs.v2alpha1.cilium.io", "n1")
    assert config["apiVersion"] == GROUP
    assert config["metadata"]["ownerReferences"][0]["apiVersion"] == GROUP
    assert config["spec"]["bgpInstances"][0]["routerID"] == "192.0.2.1"
    assert json.loads(world.run("get", "routes", "-o", "json").stdout) == {"routes": []}
    assert "the session with main/tor is down" in world.run("drain", "n1", "--timeout", "1").stderr
    assert agent.stop() == 0


def test_commands_know_the_pools_of_the_only_version_there_is(old_cluster: World) -> None:
    world = old_cluster
    world.controller()
    world.apply(pool("p", "10.0.0.0/24") + service("app"))
    eventually(lambda: world.addresses("app") == ["10.0.0.0"])
    assert [one["name"] for one in json.loads(world.run("status", "-o", "json").stdout)["pools"]] == ["p"]
    explained = world.run("explain", f"{world.namespace}/app", "-o", "json")
    assert [one["pool"] for one in json.loads(explained.stdout)["wishes"][0]["pools"]] == ["p"]
    assert json.loads(world.run("plan", "--delete", "ippool/p", "-o", "json").stdout)["counts"]["loses"] == 1
    assert f"apiVersion: {GROUP}" in world.run("dump").stdout
