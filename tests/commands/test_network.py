"""`get peers`, `get routes` and `get announcements` without any agent; with agents they are in tests/lab/agent."""

import json

import pytest

from tests.worlds import World


@pytest.mark.parametrize(
    ("what", "empty"),
    [
        ("peers", {"sessions": [], "problems": {}}),
        ("routes", {"routes": []}),
        ("announcements", {"announcements": []}),
    ],
)
def test_where_nothing_is_announced_nothing_is_told(
    world: World, what: str, empty: dict[str, object]
) -> None:
    done = world.run("get", what, "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == empty


def test_get_names_what_it_can_tell(embedded_cluster: World) -> None:
    done = embedded_cluster.run("get", "peers", "--help")
    assert "Example: lbipam get peers" in done.stdout


def test_an_unknown_word_is_wrong_use(embedded_cluster: World) -> None:
    assert embedded_cluster.run("get", "teapots").returncode == 2


def test_a_node_that_has_no_configuration_is_told(world: World) -> None:
    done = world.run("get", "routes", "--node", "nope")
    assert (done.returncode, done.stderr) == (1, "lbipam: no BGP configuration is for a node nope\n")


def test_an_address_that_nobody_answers_for_is_told(embedded_cluster: World) -> None:
    with embedded_cluster.clean() as world:
        policy = {
            "apiVersion": "cilium.io/v2alpha1",
            "kind": "CiliumL2AnnouncementPolicy",
            "metadata": {"name": "lan"},
            "spec": {"externalIPs": True},
        }
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"ports": [{"port": 80}], "externalIPs": ["203.0.113.9"]},
        }
        world.apply(json.dumps(policy) + "\n---\n" + json.dumps(service))
        done = world.run("get", "announcements")
        world.kubectl("delete", "ciliuml2announcementpolicy", "lan")
        assert done.returncode == 1
        assert done.stdout.splitlines()[1].split()[:3] == ["203.0.113.9", "<none>", f"{world.namespace}/web"]


def test_agents_in_two_namespaces_are_told_apart_by_the_user(world: World) -> None:
    for namespace in ("default", "kube-system"):
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "lbipam-l2-worker-1", "namespace": namespace},
            "spec": {"leaseDurationSeconds": 1},
        }
        world.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(lease))
    try:
        unclear = world.run("get", "announcements")
        clear = world.run("get", "announcements", "--namespace", "default")
    finally:
        for namespace in ("default", "kube-system"):
            world.kubectl("delete", "lease", "-n", namespace, "lbipam-l2-worker-1")
    assert unclear.returncode != 0
    assert "agents have Leases in default, kube-system: choose with --namespace" in unclear.stderr
    assert clear.returncode == 0, clear.stderr
