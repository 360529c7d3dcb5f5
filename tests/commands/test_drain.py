"""`drain` and `undrain`, on the embedded API and on the real one. What agents make of it is in tests/lab/agent."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.worlds import World

NODE = f"drained-{os.getpid()}"


@contextmanager
def with_node(world: World) -> Iterator[World]:
    world.apply(json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}))
    try:
        yield world
    finally:
        world.kubectl("delete", "node", NODE)


@pytest.fixture
def node(world: World) -> Iterator[World]:
    """A cluster with a Node."""
    with with_node(world):
        yield world


def drain_wish(world: World) -> str | None:
    annotations: dict[str, str] = world.get("node", NODE)["metadata"].get("annotations", {})
    return annotations.get("lbipam.dev/drain")


def test_a_drain_is_a_wish_on_the_node_until_it_is_taken_back(node: World) -> None:
    done = node.run("drain", NODE)
    assert (done.returncode, done.stdout) == (0, f"{NODE} is drained\n")
    assert drain_wish(node) == "true"
    for _ in range(2):
        done = node.run("undrain", NODE)
        assert (done.returncode, done.stdout) == (0, f"{NODE} announces again\n")
        assert drain_wish(node) is None


def test_a_node_that_does_not_exist_is_told(world: World) -> None:
    done = world.run("drain", "nobody")
    assert done.returncode == 1
    assert done.stderr == 'lbipam: the API server says: 404 NotFound: nodes "nobody" not found\n'


def test_a_node_whose_agent_does_not_withdraw_is_told(embedded_cluster: World) -> None:
    with embedded_cluster.clean() as world, with_node(world):
        peer = {"name": "tor", "peerAddress": "192.0.2.1", "peerASN": 64500}
        config = {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumBGPNodeConfig",
            "metadata": {"name": NODE},
            "spec": {"bgpInstances": [{"name": "main", "localASN": 64512, "peers": [peer]}]},
        }
        world.apply(json.dumps(config))
        counts = [{"afi": "ipv4", "safi": "unicast", "advertised": 1, "received": 0}]
        told = {**peer, "peeringState": "established", "routeCount": counts}
        status = {"bgpInstances": [{"name": "main", "localASN": 64512, "peers": [told]}]}
        world.kubectl(
            "patch",
            "ciliumbgpnodeconfig",
            NODE,
            "--subresource=status",
            "--type=merge",
            "-p",
            json.dumps({"status": status}),
        )
        done = world.run("drain", NODE, "--timeout", "0.1")
        assert done.returncode == 1
        assert done.stderr == (
            f"lbipam: {NODE} may still get traffic after 0.1 s: main/tor has 1 of its routes. "
            "It drains all the same\n"
        )
        assert world.run("drain", NODE, "--no-wait").stdout == f"{NODE} drains\n"
        peers = world.run("get", "peers", "-o", "json")
        assert peers.returncode == 0
        sessions = json.loads(peers.stdout)["sessions"]
        assert [(one["node"], one["state"], one["sent"]) for one in sessions] == [(NODE, "established", 1)]
        world.kubectl("delete", "ciliumbgpnodeconfig", NODE)
