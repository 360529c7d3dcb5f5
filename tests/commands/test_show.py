"""What `status`, `explain`, `plan` and `dump` tell, read from files and from clusters."""

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.worlds import LBIPAM, World, eventually, pool, service

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


CONDITION = """
    conditions:
    - {{type: cilium.io/IPAMRequestSatisfied, status: "{0}", reason: {1}, message: "{2}"}}
"""
ANOTHER = """
- apiVersion: v1
  kind: Service
  metadata: {name: other, namespace: default, labels: {color: red}, creationTimestamp: "2026-01-01T00:00:00Z"}
  spec: {type: LoadBalancer, ports: [{port: 80}], ipFamilies: [IPv4]}
"""
EXPIRED = """
- apiVersion: lbipam.dev/v1alpha1
  kind: IPReservation
  metadata: {name: old}
  spec: {addresses: [10.0.0.0], expiresAt: "2020-01-01T00:00:00Z"}
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


def explained(offline: World, more: str, *flags: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report of `explain default/other`, with more in the state."""
    state = offline.folder / "more.yaml"
    state.write_text(STATE + more)
    done = offline.run("explain", "default/other", "--state", str(state), "-o", "json", *flags)
    return done.returncode, json.loads(done.stdout)


def test_explain_of_what_is_not_given_yet_says_so(offline: World) -> None:
    code, told = explained(offline, ANOTHER)
    (wish,) = told["wishes"]
    assert (code, told["satisfied"]) == (1, False)
    assert (wish["has"], wish["granted"], wish["reason"]) == ([], ["10.0.0.0"], "not_given_yet")
    state = str(offline.folder / "more.yaml")
    assert "has none, would be given 10.0.0.0" in offline.run("explain", "other", "--state", state).stdout


def test_explain_tells_of_the_other_manager_as_the_condition_does(offline: World) -> None:
    status = CONDITION.format("False", "managed_elsewhere", "metallb has it")
    code, told = explained(
        offline, ANOTHER + "  status:\n    loadBalancer: {ingress: [{ip: 192.0.2.9}]}" + status
    )
    (wish,) = told["wishes"]
    assert (code, wish["reason"], wish["message"]) == (1, "managed_elsewhere", "metallb has it")


def test_explain_of_a_request_that_cannot_be_read_ends_as_the_condition_does(offline: World) -> None:
    asking = ANOTHER.replace("{name: other,", "{name: other, annotations: {lbipam.cilium.io/ips: nonsense},")
    status = CONDITION.format("False", "invalid_request", "")
    code, told = explained(
        offline, asking + "  status:\n    loadBalancer: {ingress: [{ip: 10.0.0.0}]}" + status
    )
    assert (code, told["satisfied"], told["wishes"][0]["has"]) == (1, False, ["10.0.0.0"])
    assert "'nonsense' is not valid" in told["notes"][0]


def test_a_reservation_that_has_expired_keeps_nothing_back(offline: World) -> None:
    assert explained(offline, ANOTHER + EXPIRED)[1]["wishes"][0]["granted"] == ["10.0.0.0"]
    status = offline.run("status", "--state", str(offline.folder / "more.yaml"), "-o", "json")
    assert [one["reserved"] for one in json.loads(status.stdout)["pools"]] == [0]


def test_commands_know_the_flags_of_the_controller(offline: World) -> None:
    state = ("--state", str(offline.folder / "state.yaml"), "-o", "json")
    nobodys = ("--default-lb-service-ipam", "none", *state)
    assert json.loads(offline.run("status", *nobodys).stdout)["services"] == []
    assert not json.loads(offline.run("explain", "default/app", *nobodys).stdout)["managed"]
    assert offline.run("plan", "--delete", "ippool/red", *nobodys).returncode == 0
    dual = ANOTHER.replace("ipFamilies: [IPv4]", "ipFamilyPolicy: RequireDualStack")
    assert [one["wish"] for one in explained(offline, dual, "--enable-ipv6=false")[1]["wishes"]] == [
        "any IPv4 address"
    ]


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


def test_a_plan_that_concerns_no_addresses_is_harmless(offline: World) -> None:
    changed, state = offline.folder / "changed.yaml", str(offline.folder / "state.yaml")
    changed.write_text("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app}\n")
    done = offline.run("plan", "-f", str(changed), "--state", state, "-o", "json")
    assert done.returncode == 0, done.stderr
    assert {fate["outcome"] for fate in json.loads(done.stdout)["services"]} == {"keeps", "waits"}


def test_a_plan_of_nothing_is_wrong_use(offline: World) -> None:
    done = offline.run("plan", "--state", str(offline.folder / "state.yaml"))
    assert done.returncode == 2
    assert "nothing to plan" in done.stderr


def test_plan_tells_what_would_be_wrong_with_pools(offline: World) -> None:
    pools, state = offline.folder / "pools.yaml", str(offline.folder / "state.yaml")
    pools.write_text(f"{pool('large', '10.0.0.0/24')}\n---\n{pool('typo', '300.0.0.0/24')}")
    told = offline.run("plan", "--state", state, "-f", str(pools)).stdout.splitlines()
    planned = json.loads(offline.run("plan", "--state", state, "-f", str(pools), "-o", "json").stdout)
    problems = planned["problems"]
    assert [one.split(":")[0] for one in problems] == ["Pool large", "Pool typo"]
    assert told[-2:] == problems


def test_plan_of_a_deletion_names_who_loses_and_why(offline: World) -> None:
    state = str(offline.folder / "state.yaml")
    done = offline.run("plan", "--delete", "ippool/red", "--state", state)
    assert done.returncode == 1
    assert "default/app  loses" in done.stdout
    assert "no pool contains it" in done.stdout


def planned(offline: World, state: str, changed: str) -> dict[str, Any]:
    """What `plan` tells of a state and the manifests that would be applied."""
    (offline.folder / "more.yaml").write_text(state)
    (offline.folder / "changed.yaml").write_text(changed)
    files = ("-f", str(offline.folder / "changed.yaml"), "--state", str(offline.folder / "more.yaml"))
    done = offline.run("plan", *files, "-o", "json")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_plan_tells_who_waits_before_and_after_from_who_keeps(offline: World) -> None:
    told = planned(offline, STATE, "kind: Namespace\napiVersion: v1\nmetadata: {name: n}")
    assert {fate["service"]: fate["outcome"] for fate in told["services"]} == {
        "default/app": "keeps",
        "default/green": "waits",
    }
    assert (told["counts"]["keeps"], told["counts"]["waits"]) == (1, 1)


APP = "apiVersion: v1\nkind: Service\nmetadata: {name: app%s}\nspec: {type: LoadBalancer, ports: [{port: 80}]%s}"
APPLIED = json.dumps(
    {"metadata": {"labels": {"color": "red"}, "annotations": {}}, "spec": {"loadBalancerClass": None}}
)


@pytest.mark.parametrize(
    ("former", "metadata", "spec", "outcome"),
    [
        pytest.param("", "", "", "keeps", id="what-others-set-stays"),
        pytest.param("", ", labels: {tier: web}, annotations: {}", "", "keeps", id="beside-what-is-new"),
        pytest.param("", ", labels: {color: null}", "", "loses", id="null-takes-away"),
        pytest.param(
            "", ", creationTimestamp: null", ", loadBalancerIP: null", "keeps", id="null-is-no-value"
        ),
        pytest.param(APPLIED, "", "", "loses", id="what-was-wished-and-is-no-more-goes"),
        pytest.param("no JSON", "", "", "keeps", id="a-former-wish-that-cannot-be-read"),
    ],
)
def test_plan_merges_as_kubectl_apply_does(
    offline: World, former: str, metadata: str, spec: str, outcome: str
) -> None:
    note = {"kubectl.kubernetes.io/last-applied-configuration": former} if former else {}
    state = STATE.replace("{name: app,", f"{{name: app, annotations: {json.dumps(note)},")
    told = planned(offline, state, APP % (metadata, spec))
    assert {fate["service"]: fate["outcome"] for fate in told["services"]}["default/app"] == outcome


def test_plan_of_a_new_service_takes_no_status_from_its_manifest(offline: World) -> None:
    new = APP.replace("app", "new") % (", labels: {color: red}", "")
    told = planned(offline, STATE, new + "\nstatus: {loadBalancer: {ingress: [{ip: 10.0.0.3}]}}")
    (fate,) = (one for one in told["services"] if one["service"] == "default/new")
    assert (fate["outcome"], fate["after"]) == ("gains", ["10.0.0.0"])


def test_plan_of_the_deletion_of_a_namespace_tells_of_its_services(offline: World) -> None:
    namespaces = "".join(
        f"\n- {{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}"
        for name in ("default", "other")
    )
    (offline.folder / "more.yaml").write_text(STATE.rstrip() + namespaces)
    state = ("--state", str(offline.folder / "more.yaml"), "-o", "json")
    done = offline.run("plan", "--delete", "ns/default", *state)
    fate = next(one for one in json.loads(done.stdout)["services"] if one["service"] == "default/app")
    assert (fate["outcome"], fate["after"], fate["why"]) == ("loses", [], "the Service is deleted")
    assert done.returncode == 1
    done = offline.run("plan", "--delete", "ns/other", *state)
    assert (json.loads(done.stdout)["counts"]["loses"], done.returncode) == (0, 0)


@pytest.mark.parametrize(
    "what", ["ippool/nosuch", "svc/default/nosuch", "svc/nosuch", "ipres/x", "ns/default"]
)
def test_plan_of_the_deletion_of_what_is_not_there_is_wrong_use(offline: World, what: str) -> None:
    done = offline.run("plan", "--delete", what, "--state", str(offline.folder / "state.yaml"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"lbipam: --delete {what}: there is no " in done.stderr


def test_what_would_be_created_may_be_deleted_in_the_same_plan(offline: World) -> None:
    (offline.folder / "changed.yaml").write_text(APP.replace("app", "new") % ("", ""))
    files = ("-f", str(offline.folder / "changed.yaml"), "--state", str(offline.folder / "state.yaml"))
    assert offline.run("plan", *files, "--delete", "svc/new").returncode == 0


@pytest.mark.parametrize(
    "text",
    [
        "kind: 5\nmetadata: {}",
        "kind: Service\nmetadata: null",
        "kind: List\nmetadata: {}\nitems: 5",
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: null",
        "apiVersion: v1\nkind: Service\nmetadata: {name: [a]}",
        "apiVersion: v1\nkind: Service\nmetadata: {name: app}\nspec: null",
        "apiVersion: v1\nkind: Service\nmetadata: {name: app, annotations: 5}",
        "apiVersion: v1\nkind: Service\nmetadata: {name: app, labels: {null: b}}",
    ],
)
def test_a_manifest_that_is_none_ends_in_one_line_and_code_2(offline: World, text: str) -> None:
    changed = offline.folder / "changed.yaml"
    changed.write_text(text)
    done = offline.run("plan", "-f", str(changed), "--state", str(offline.folder / "state.yaml"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


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


@pytest.mark.parametrize("file", ["none.yaml", "binary.yaml"])
def test_a_file_that_cannot_be_read_ends_in_one_line_and_code_2(offline: World, file: str) -> None:
    (offline.folder / "binary.yaml").write_bytes(b"\xff\xfe")
    for flag in ("--state", "--filename"):
        done = offline.run("plan", flag, str(offline.folder / file))
        assert done.returncode == 2
        assert done.stderr.startswith(f"lbipam: {offline.folder / file}: ")
        assert done.stderr.count("\n") == 1


def test_a_dash_is_standard_input(offline: World) -> None:
    done = subprocess.run(
        [LBIPAM, "status", "--state", "-"],
        input=STATE,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "default/app" in done.stdout, done.stderr


def test_status_of_a_cluster_with_nothing_says_so(offline: World) -> None:
    (offline.folder / "state.yaml").write_text("")
    done = offline.run("status", "--state", str(offline.folder / "state.yaml"))
    assert done.stdout.split("\n") == ["No pools.", "", "No Services of type LoadBalancer.", ""]


def test_names_are_whole_in_a_terminal_that_is_too_narrow_for_them(offline: World) -> None:
    state = yaml.safe_load(STATE)
    name = state["items"][1]["metadata"]["name"] = "a-name-that-is-longer-than-the-terminal-is-wide"
    (offline.folder / "state.yaml").write_text(yaml.safe_dump(state))
    ours, its = pty.openpty()
    command = [str(LBIPAM), "status", "--state", str(offline.folder / "state.yaml")]
    subprocess.run(command, stdout=its, env={**os.environ, "COLUMNS": "40"}, timeout=60, check=True)
    assert f"default/{name}" in os.read(ours, 65536).decode()


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


def test_plan_puts_what_names_no_namespace_where_kubectl_would(world: World) -> None:
    kubeconfig = yaml.safe_load(world.kubeconfig.read_text())
    for one in kubeconfig["contexts"]:
        one["context"]["namespace"] = world.namespace
    here = World("here", world.folder / "here", world.folder, world.namespace)
    here.kubeconfig.write_text(yaml.safe_dump(kubeconfig))
    here.kubectl("create", "service", "loadbalancer", "app", "--tcp=80")
    changed = world.folder / "changed.yaml"
    changed.write_text(service("app"))
    done = here.run("plan", "-f", str(changed), "-o", "json")
    fates = [one["service"] for one in json.loads(done.stdout)["services"]]
    assert f"{world.namespace}/app" in fates
    assert "default/app" not in fates
    done = here.run("plan", "--delete", "svc/app")
    assert done.returncode == 0, done.stderr
