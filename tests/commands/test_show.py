"""What `status`, `explain`, `plan` and `dump` tell, read from files and from clusters."""

import json
from pathlib import Path

import pytest
import yaml

from tests.worlds import World, eventually, pool, service

STATE = """
apiVersion: v1
kind: List
items:
- apiVersion: cilium.io/v2
  kind: CiliumLoadBalancerIPPool
  metadata: {name: red, creationTimestamp: "2026-01-01T00:00:00Z"}
  spec: {blocks: [{cidr: 10.0.0.0/30}], serviceSelector: {matchLabels: {color: red}}}
- apiVersion: v1
  kind: Service
  metadata: {name: app, namespace: default, labels: {color: red}, creationTimestamp: "2026-01-01T00:00:00Z"}
  spec: {type: LoadBalancer, ports: [{port: 80}], ipFamilies: [IPv4]}
  status:
    loadBalancer: {ingress: [{ip: 10.0.0.1}]}
    conditions:
    - {type: cilium.io/IPAMRequestSatisfied, status: "True", reason: satisfied, message: ""}
- apiVersion: v1
  kind: Service
  metadata: {name: green, namespace: default, labels: {color: green}, creationTimestamp: "2026-01-01T00:00:00Z"}
  spec: {type: LoadBalancer, ports: [{port: 80}], ipFamilies: [IPv4]}
"""


@pytest.fixture
def offline(tmp_path: Path) -> World:
    """No cluster at all: commands read a dump."""
    (tmp_path / "state.yaml").write_text(STATE)
    return World("offline", tmp_path / "no-kubeconfig", tmp_path)


def test_status_tells_pools_services_and_what_waits(offline: World) -> None:
    done = offline.run("status", "--state", str(offline.folder / "state.yaml"), "-o", "json", "--holders")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["pools"] == [
        {
            "name": "red",
            "state": "ready",
            "size": 4,
            "used": 1,
            "reserved": 0,
            "free": 3,
            "largestFreeRun": "10.0.0.2 - 10.0.0.3",
            "holders": {"10.0.0.1": ["default/app"]},
        }
    ]
    app, green = told["services"]
    assert app["addresses"] == [{"address": "10.0.0.1", "pool": "red"}]
    assert green["reason"] == "not_looked_at"


def test_explain_tells_which_requirement_failed(offline: World) -> None:
    state = str(offline.folder / "state.yaml")
    done = offline.run("explain", "default/green", "--state", state)
    assert done.returncode == 1
    assert "pool red does not select the Service: it wants color=red, but it is 'green'" in done.stdout
    assert "There are no enabled CiliumLoadBalancerIPPools that match this service" in done.stdout


def test_explain_of_a_service_that_has_all_ends_well(offline: World) -> None:
    done = offline.run("explain", "default/app", "--state", str(offline.folder / "state.yaml"), "-o", "yaml")
    assert done.returncode == 0
    assert yaml.safe_load(done.stdout)["wishes"][0]["has"] == ["10.0.0.1"]


def test_explain_of_an_unknown_service_says_so(offline: World) -> None:
    done = offline.run("explain", "default/none", "--state", str(offline.folder / "state.yaml"))
    assert (done.returncode, done.stderr) == (1, "lbipam: there is no Service default/none\n")


@pytest.mark.parametrize(
    ("change", "outcome", "code"),
    [
        ("spec: {blocks: [{cidr: 10.0.0.0/29}], serviceSelector: {matchLabels: {color: red}}}", "keeps", 0),
        ("spec: {blocks: [{cidr: 10.0.1.0/30}], serviceSelector: {matchLabels: {color: red}}}", "moves", 1),
        ("spec: {blocks: [{cidr: 10.0.0.0/30}], serviceSelector: {matchLabels: {color: blue}}}", "loses", 1),
        ("spec: {blocks: [{cidr: 10.0.0.0/30}], disabled: true}", "keeps", 0),
    ],
)
def test_plan_tells_what_becomes_of_each_service(
    offline: World, change: str, outcome: str, code: int
) -> None:
    changed = offline.folder / "changed.yaml"
    head = "apiVersion: cilium.io/v2\nkind: CiliumLoadBalancerIPPool\nmetadata: {name: red}\n"
    changed.write_text(head + change)
    state = str(offline.folder / "state.yaml")
    done = offline.run("plan", "-f", str(changed), "--state", state, "-o", "json")
    assert done.returncode == code, done.stdout + done.stderr
    fates = {fate["service"]: fate["outcome"] for fate in json.loads(done.stdout)["services"]}
    assert fates["default/app"] == outcome


def test_plan_of_a_deletion_names_who_loses_and_why(offline: World) -> None:
    state = str(offline.folder / "state.yaml")
    done = offline.run("plan", "--delete", "ippool/red", "--state", state)
    assert done.returncode == 1
    assert "default/app   loses" in done.stdout
    assert "no pool contains it" in done.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "state.yaml: while parsing"),
        ("just: text", "is no Kubernetes object"),
        ("kind: Service\nmetadata: {name: x}\napiVersion: v1\nspec: {ports: 7}", "Service x: Expected"),
    ],
)
def test_a_bad_file_ends_in_one_line_and_code_2(offline: World, text: str, message: str) -> None:
    state = offline.folder / "state.yaml"
    state.write_text(text)
    done = offline.run("status", "--state", str(state))
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_cluster_ends_in_one_line_and_code_2(offline: World) -> None:
    done = offline.run("status")
    assert done.returncode == 2
    assert done.stderr == f"lbipam: kubeconfig {offline.kubeconfig} does not exist\n"


def test_a_dump_can_be_planned_against(world: World, tmp_path: Path) -> None:
    world.controller()
    world.apply(pool("p", "10.0.0.0/24") + service("app"))
    eventually(lambda: world.addresses("app") == ["10.0.0.0"])
    dump = tmp_path / "dump.yaml"
    dump.write_text(world.run("dump", check=True).stdout)
    changed = tmp_path / "changed.yaml"
    changed.write_text(pool("p", "10.0.1.0/24"))
    offline = world.run("plan", "--state", str(dump), "-f", str(changed), "-o", "json")
    live = world.run("plan", "-f", str(changed), "-o", "json")
    assert offline.returncode == live.returncode == 1
    assert json.loads(offline.stdout)["services"] == json.loads(live.stdout)["services"]
    assert world.addresses("app") == ["10.0.0.0"]


def test_explain_and_the_condition_tell_the_same_story(world: World) -> None:
    world.controller()
    world.apply(pool("p", "10.0.0.0/32") + service("first"))
    eventually(lambda: world.addresses("first") == ["10.0.0.0"])
    world.apply(service("second") + service("third", annotations={"lbipam.cilium.io/ips": "10.0.0.0"}))
    eventually(lambda: world.condition("second")[0] and world.condition("third")[0])
    for name in ("second", "third"):
        told = json.loads(world.run("explain", f"{world.namespace}/{name}", "-o", "json").stdout)
        _, reason, message = world.condition(name)
        assert [(wish["reason"], wish["message"]) for wish in told["wishes"]] == [(reason, message)]
        events = world.kubectl("get", "events", "--field-selector", f"involvedObject.name={name}")
        assert message in events
