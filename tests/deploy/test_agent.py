"""The agent as it runs in a cluster: with the account, the arguments and the privileges that `deploy/` gives it.

API server ── veth ── namespace of worker-1: agent
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lbipam.commands.lab import namespaces
from lbipam.commands.lab.namespaces import Namespace
from tests.deploy.installed import NAMESPACE, Installed, arguments, installation, one
from tests.metrics_document import MEND, shown, told
from tests.real_api import WHY_NOT, assets
from tests.worlds import LBIPAM, World, eventually, service

pytestmark = [pytest.mark.lab, pytest.mark.real_api, pytest.mark.slow]

ACCOUNT = "lbipam-agent"
SERVER, NODE = "198.18.77.1", "198.18.77.2"
ADDRESS = "198.18.77.9"

# As the kubelet has it: the file system read-only, no capabilities but those asked for, no way to more.
_CONTAINER = 'mount -o remount,bind,ro / && exec setpriv --no-new-privs "--bounding-set=-all,$0" "$@"'


@pytest.fixture(scope="module")
def node() -> Iterator[Namespace]:
    """A namespace with a wire to ours, where the API server listens."""
    reason = namespaces.why_not(("arping", "curl", "ip", "nft", "setpriv", "ss")) or (
        WHY_NOT if assets() is None else None
    )
    if reason is not None:
        pytest.skip(reason)
    name = f"lbd{os.getpid()}"
    with Namespace(name) as made:
        namespaces.run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        namespaces.run("ip", "address", "add", f"{SERVER}/24", "dev", name)
        namespaces.run("ip", "link", "set", name, "up")
        made("ip", "link", "set", "eth0", "up")
        made.address("eth0", f"{NODE}/24")
        yield made


@pytest.fixture(scope="module")
def installed(node: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    with installation(tmp_path_factory.mktemp("installed"), host=SERVER) as made:
        _describe(made.world)
        yield made


def _describe(world: World) -> None:
    """A node that is ready, what it should say by BGP, and a Service that has its address."""
    peer = {"name": "tor", "peerAddress": SERVER, "peerASN": 64500, "peerConfigRef": {"name": "tor"}}
    instances = [{"name": "main", "localASN": 64512, "localPort": 179, "peers": [peer]}]
    for kind, name, spec in (
        ("CiliumBGPNodeConfig", "worker-1", {"bgpInstances": instances}),
        ("CiliumBGPPeerConfig", "tor", {}),
    ):
        world.apply(_thing("cilium.io/v2", kind, name, spec))
    world.apply(_thing("v1", "Node", "worker-1", {}))
    left_behind = _thing("coordination.k8s.io/v1", "Lease", "lbipam-l2-worker-0", {})
    world.kubectl("apply", "--namespace", NAMESPACE, "--validate=false", "-f", "-", stdin=left_behind)
    world.apply(service("app"))
    status = {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}}
    world.kubectl("patch", "service", "app", "--subresource=status", "-p", json.dumps({"status": status}))
    ready = {
        "addresses": [{"type": "InternalIP", "address": NODE}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    world.kubectl("patch", "node", "worker-1", "--subresource=status", "-p", json.dumps({"status": ready}))


def _thing(version: str, kind: str, name: str, spec: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})


@contextmanager
def running(installed: Installed, node: Namespace) -> Iterator[Path]:
    """The agent inside of its node; where its log is."""
    (container,) = one(installed.objects, "DaemonSet", ACCOUNT)["spec"]["template"]["spec"]["containers"]
    privileges = ",".join(f"+{each.lower()}" for each in container["securityContext"]["capabilities"]["add"])
    words = ("sh", "-c", _CONTAINER, privileges, "env", "NODE_NAME=worker-1", str(LBIPAM))
    flags = arguments(installed.objects, "DaemonSet", ACCOUNT)
    log = installed.world.folder / "agent.log"
    process = node.spawn(*words, *flags, "--kubeconfig", str(installed.kubeconfig(ACCOUNT)), log=log)
    try:
        yield log
    finally:
        process.terminate()
        try:
            assert process.wait(timeout=6) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()


def test_it_may_do_what_it_must_and_nothing_else(installed: Installed, node: Namespace) -> None:
    world = installed.world
    policy = _thing(
        "cilium.io/v2alpha1",
        "CiliumL2AnnouncementPolicy",
        "lan",
        {"interfaces": ["^eth0$"], "loadBalancerIPs": True},
    )

    def times_announced() -> list[int]:
        events = json.loads(world.kubectl("get", "events", "-o", "json"))["items"]
        return [each["count"] for each in events if each["reason"] == "Announced"]

    def is_answered() -> bool:
        words = ("arping", "-c", "1", "-w", "1", "-I", node.name, "-s", SERVER, ADDRESS)
        return "reply from" in namespaces.run(*words, check=False)

    with running(installed, node) as log:
        eventually(lambda: node("curl", "-s", f"http://{NODE}:9968/readyz", check=False) == "ok\n")
        world.apply(policy)
        eventually(lambda: times_announced() == [1] and is_answered())
        world.kubectl("delete", "ciliuml2announcementpolicies", "lan")
        eventually(lambda: not is_answered())
        world.apply(policy)
        eventually(lambda: times_announced() == [2])
        eventually(lambda: "peeringState" in world.kubectl("get", "ciliumbgpnodeconfigs", "-o", "json"))
        eventually(lambda: ADDRESS in node("nft", "list", "ruleset"))
        exposition = node("curl", "-s", f"http://{NODE}:9968/metrics")
        assert shown(exposition) <= told("agent"), MEND
        assert "LISTEN" in node("ss", "-lnt", "sport", "=", "179")
    installed.uses_all_that_it_may(ACCOUNT, stop=lambda: None)
    assert not re.search("Traceback|forbidden|cannot listen|not applied|not permitted", log.read_text())
