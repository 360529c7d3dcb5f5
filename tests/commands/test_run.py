"""The controller as a process, on the embedded API and on the real one."""

import json
import signal
import urllib.error
import urllib.request

import msgspec
import pytest

from lbipam.adapters.kube_client import Client
from lbipam.adapters.kube_config import Connection
from lbipam.commands.run import Controller, ControllerSettings
from lbipam.controllers.ports import Upserted
from lbipam.kube.ipam import IP_POOL
from lbipam.kube.l2 import ANNOUNCEMENT_POLICY, AnnouncementPolicy
from tests.worlds import World, eventually, pool, service


def test_the_walk_through_gives_app_an_address_of_the_red_pool(world: World) -> None:
    world.controller()
    world.apply(
        pool("blue-pool", "20.0.10.0/24", color="blue")
        + pool("red-pool", "30.0.10.0/24", color="red")
        + service("app", color="red")
        + service("green", color="green")
    )
    eventually(lambda: world.addresses("app") == ["30.0.10.0"])
    eventually(lambda: world.condition("green")[1] == "no_pool")
    eventually(lambda: "255" in world.kubectl("get", "ippools", "red-pool"))
    columns = world.kubectl("get", "ippools").splitlines()[0].split()
    assert columns == ["NAME", "DISABLED", "CONFLICTING", "IPS", "AVAILABLE", "AGE"]

    world.kubectl("label", "service", "green", "--overwrite", "color=blue")
    eventually(lambda: world.addresses("green") == ["20.0.10.0"])


def test_a_controller_killed_and_started_again_changes_nothing(world: World) -> None:
    first = world.controller()
    world.apply(pool("p", "10.0.0.0/30"))
    world.apply("".join(service(f"s{number}") for number in range(6)))
    eventually(lambda: all(world.condition(f"s{number}")[0] for number in range(6)))
    before = json.loads(world.kubectl("get", "services", "-o", "json"))["items"]
    assert sorted(one["status"]["loadBalancer"].get("ingress", [{}])[0].get("ip", "") for one in before) == [
        "",
        "",
        "10.0.0.0",
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.3",
    ]
    first.kill()
    second = world.controller("--metrics-bind", "127.0.0.1:0")
    port = second.says(r"port[\"=: ]+(\d+)").group(1)
    eventually(lambda: _status(f"http://127.0.0.1:{port}/readyz") == 200)
    world.apply(service("later"))
    eventually(lambda: world.condition("later")[1] == "out_of_ips")
    after = json.loads(world.kubectl("get", "services", "-o", "json"))["items"]
    versions = {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in after}
    del versions["later"]
    assert versions == {one["metadata"]["name"]: one["metadata"]["resourceVersion"] for one in before}


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_controller_ends_cleanly_when_told_to(world: World, number: signal.Signals) -> None:
    process = world.controller("--leader-elect", "--namespace", world.namespace)
    process.says("leading")
    assert process.stop(number) == 0
    assert "Traceback" not in process.output()
    lease = world.get("lease", "lbipam-controller")
    assert lease["spec"].get("holderIdentity", "") == ""


def test_a_follower_takes_over_when_the_leader_stops(world: World) -> None:
    leader = world.controller("--leader-elect", "--namespace", world.namespace)
    leader.says("leading")
    follower = world.controller("--leader-elect", "--namespace", world.namespace)
    follower.says("controller starts")
    world.apply(pool("p", "10.0.0.0/24") + service("one"))
    eventually(lambda: world.addresses("one") == ["10.0.0.0"])
    leader.stop()
    follower.says("leading")
    world.apply(service("two"))
    eventually(lambda: world.addresses("two") == ["10.0.0.1"])
    assert world.addresses("one") == ["10.0.0.0"]


def test_bad_manifests_end_in_a_condition_or_a_refusal(world: World) -> None:
    process = world.controller()
    broken = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumLoadBalancerIPPool",
        "metadata": {"name": "broken"},
        "spec": {
            "blocks": [{"start": "10.0.0.9", "stop": "10.0.0.1"}, {"start": "10.7.0.1"}],
            "serviceSelector": {"matchExpressions": [{"key": "color", "operator": "In"}]},
        },
    }
    world.apply(json.dumps(broken))
    world.apply(
        pool("good", "10.0.0.0/24")
        + service("outside", annotations={"lbipam.cilium.io/ips": "192.0.2.1"})
        + service("rubbish", annotations={"lbipam.cilium.io/ips": "10.0.0.999"})
    )
    eventually(
        lambda: (
            world.condition("outside")
            == ("False", "no_pool", "No pool exists with a CIDR containing '192.0.2.1'")
        )
    )
    eventually(lambda: world.condition("rubbish")[1] == "invalid_request")
    types = {
        one["type"]: one["reason"]
        for one in eventually(lambda: world.get("ippool", "broken").get("status", {}).get("conditions"))
    }
    assert types["lbipam.dev/BlocksValid"] == "invalid_block"
    assert types["lbipam.dev/SelectorValid"] == "invalid_selector"
    assert "Traceback" not in process.output()


def test_a_leader_that_lost_its_lease_is_ready_to_follow_though_nothing_happens(world: World) -> None:
    elect = ("--leader-elect", "--namespace", world.namespace)
    process = world.controller(*elect, "--metrics-bind", "127.0.0.1:0")
    port = process.says(r"port[\"=: ]+(\d+)").group(1)
    process.says("leading")
    eventually(lambda: _status(f"http://127.0.0.1:{port}/readyz") == 200)
    other = json.dumps({"spec": {"holderIdentity": "other", "leaseDurationSeconds": 3600}})
    world.kubectl("patch", "lease", "lbipam-controller", "--type=merge", "-p", other)
    process.says("no longer leading")
    eventually(lambda: _status(f"http://127.0.0.1:{port}/readyz") == 200)


async def test_the_queue_is_as_long_as_those_of_all_reconcilers_together() -> None:
    async def token(_: bool) -> str | None:
        return None

    connection = Connection(url="http://127.0.0.1:9", ssl=None, token=token)
    controller = Controller(Client(connection), IP_POOL, ControllerSettings())
    policy = msgspec.convert({"metadata": {"name": "lan"}}, AnnouncementPolicy)
    controller.loop.post(Upserted(kind=ANNOUNCEMENT_POLICY, object=policy))
    assert b"\nlbipam_queue_length 1.0\n" in controller.metrics.render()
