"""Addresses of nodes, given by the controller as a process, on the embedded API and on the real one."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.worlds import World, eventually, pool, service

NODE_IPAM = ("--enable-node-ipam", "--default-lb-service-ipam", "nodeipam")


@pytest.fixture
def node_names(world: World) -> Iterator[list[str]]:
    """Names for three nodes, which are deleted after the test."""
    names = [f"{world.namespace}-{letter}" for letter in "abc"]
    try:
        yield names
    finally:
        world.kubectl("delete", "nodes", *names, "--ignore-not-found")


def _document(body: dict[str, Any]) -> str:
    return f"---\n{json.dumps(body)}\n"


def node(name: str, address: str, *, external: str = "", **labels: str) -> str:
    addresses = [{"type": "InternalIP", "address": address}]
    if external:
        addresses.append({"type": "ExternalIP", "address": external})
    return _document(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "status": {"addresses": addresses},
        }
    )


def endpoints(world: World, of: str, *nodes: str) -> str:
    """The slice of a Service, in the version that the server has; there is nothing that would make it."""
    version = "v1" if "discovery.k8s.io/v1\n" in world.kubectl("api-versions") else "v1beta1"
    topology = "nodeName" if version == "v1" else "topology"
    return _document(
        {
            "apiVersion": f"discovery.k8s.io/{version}",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{of}-1", "labels": {"kubernetes.io/service-name": of}},
            "addressType": "IPv4",
            "ports": [{"port": 80}],
            "endpoints": [
                {
                    "addresses": [f"10.1.0.{number}"],
                    "conditions": {"ready": True},
                    topology: name if version == "v1" else {"kubernetes.io/hostname": name},
                }
                for number, name in enumerate(nodes, start=1)
            ],
        }
    )


def version_of(world: World, name: str) -> str:
    found: dict[str, Any] = world.get("service", name)
    return str(found["metadata"]["resourceVersion"])


def test_services_get_the_addresses_of_nodes_and_keep_up_with_them(
    world: World, node_names: list[str]
) -> None:
    a, b, c = node_names
    world.kubectl("create", "-f", "-", stdin=node(a, "10.0.0.10") + node(b, "10.0.0.9", edge=world.namespace))
    process = world.controller(*NODE_IPAM)
    world.apply(
        service("all")
        + service("edge", annotations={"io.cilium.nodeipam/match-node-labels": f"edge={world.namespace}"})
        + service("local", externalTrafficPolicy="Local")
        + pool("p", "192.0.2.0/24")
    )
    eventually(lambda: world.addresses("all") == ["10.0.0.10", "10.0.0.9"])
    eventually(lambda: world.addresses("edge") == ["10.0.0.9"])
    eventually(lambda: "without a ready endpoint" in world.kubectl("get", "events"))
    assert world.addresses("local") == []

    world.apply(endpoints(world, "local", a))
    eventually(lambda: world.addresses("local") == ["10.0.0.10"])

    world.kubectl("create", "-f", "-", stdin=node(c, "10.0.0.11", external="198.51.100.7"))
    eventually(lambda: world.addresses("all") == ["198.51.100.7"])
    world.kubectl("label", "node", c, "node.kubernetes.io/exclude-from-external-load-balancers=true")
    eventually(lambda: world.addresses("all") == ["10.0.0.10", "10.0.0.9"])
    assert world.condition("all") == ("", "", ""), "Cilium writes none here"
    assert process.stop() == 0
    assert "Traceback" not in process.output()


def test_a_restart_writes_nothing_and_the_conditions_of_others_survive(
    world: World, node_names: list[str]
) -> None:
    a, b, _ = node_names
    world.kubectl("create", "-f", "-", stdin=node(a, "10.0.0.1"))
    first = world.controller(*NODE_IPAM)
    world.apply(service("web"))
    eventually(lambda: world.addresses("web") == ["10.0.0.1"])
    theirs = {
        "type": "example.org/Theirs",
        "status": "True",
        "reason": "Because",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    patch = json.dumps({"status": {"conditions": [theirs]}})
    world.kubectl("patch", "service", "web", "--subresource=status", "--type=merge", "-p", patch)
    first.kill()

    version = version_of(world, "web")
    world.controller(*NODE_IPAM)
    world.apply(service("marker"))
    eventually(lambda: world.addresses("marker") == ["10.0.0.1"])
    assert version_of(world, "web") == version

    world.kubectl("create", "-f", "-", stdin=node(b, "10.0.0.2"))
    eventually(lambda: world.addresses("web") == ["10.0.0.1", "10.0.0.2"])
    assert world.get("service", "web")["status"]["conditions"] == [theirs]


def test_without_the_flag_nobody_gets_addresses_of_nodes(world: World, node_names: list[str]) -> None:
    world.kubectl("create", "-f", "-", stdin=node(node_names[0], "10.0.0.1"))
    world.controller()
    world.apply(service("nodes", loadBalancerClass="io.cilium/node") + pool("p", "192.0.2.0/24"))
    world.apply(service("marker"))
    eventually(lambda: len(world.addresses("marker")) == 1)
    assert "10.0.0.1" not in world.addresses("nodes")


# Not on a server from before Kubernetes 1.21, which knows no loadBalancerClass.
@pytest.mark.parametrize("world", ["embedded"], indirect=True)
def test_explain_tells_what_becomes_of_each_node(world: World, node_names: list[str]) -> None:
    a, b, c = node_names
    world.kubectl(
        "create",
        "-f",
        "-",
        stdin=node(a, "10.0.0.1", external="203.0.113.1", of=world.namespace)
        + node(b, "10.0.0.2", of=world.namespace)
        + node(c, "10.0.0.3"),
    )
    world.controller(*NODE_IPAM)
    select = {"io.cilium.nodeipam/match-node-labels": f"of={world.namespace}"}
    world.apply(service("web", annotations=select, loadBalancerClass="io.cilium/node"))
    world.apply(
        service(
            "local", annotations=select, loadBalancerClass="io.cilium/node", externalTrafficPolicy="Local"
        )
    )
    eventually(lambda: world.addresses("web") == ["203.0.113.1"])
    done = world.run("explain", f"{world.namespace}/web")
    assert done.returncode == 0, done.stderr
    assert "wants addresses of nodes: has 203.0.113.1" in done.stdout
    assert f"node {a} used: 203.0.113.1" in done.stdout
    assert f"node {b} left out: without an external address, which other nodes have" in done.stdout
    assert f"node {c} left out: not selected by the annotation" in done.stdout
    world.apply(service("plain", annotations=select))
    eventually(lambda: world.addresses("plain") == ["203.0.113.1"])
    plain = world.run("explain", f"{world.namespace}/plain", "--default-lb-service-ipam=nodeipam")
    assert (plain.returncode, "wants addresses of nodes: has 203.0.113.1" in plain.stdout) == (0, True)
    lacking = world.run("explain", f"{world.namespace}/local", "-o", "json")
    assert lacking.returncode == 1
    (wish,) = json.loads(lacking.stdout)["wishes"]
    assert wish["reason"] == "no_node"
    assert "2 without a ready endpoint" in wish["message"]


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
def test_explain_tells_of_addresses_of_nodes_that_nobody_gives(world: World, node_names: list[str]) -> None:
    select = {"io.cilium.nodeipam/match-node-labels": f"of={world.namespace}"}
    world.kubectl("create", "-f", "-", stdin=node(node_names[0], "10.0.0.1", of=world.namespace))
    world.apply(service("web", annotations=select, loadBalancerClass="io.cilium/node"))
    done = world.run("explain", f"{world.namespace}/web")
    assert done.returncode == 1
    assert "wants addresses of nodes: has none, would be given 10.0.0.1" in done.stdout
    assert "only with --enable-node-ipam" in done.stdout
