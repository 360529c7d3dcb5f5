"""Absurd manifests through an API server, beside a running controller."""

import json
import subprocess
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lbipam.kube import forms
from tests.controllers.absurd import Absurd, anything
from tests.worlds import KUBECTL, World, eventually, pool, service


def manifest(absurd: Absurd, namespace: str) -> dict[str, Any]:
    """As a user would write it, in the test's namespace."""
    kind, body = absurd
    metadata = {name: value for name, value in body["metadata"].items() if name != "creationTimestamp"}
    if kind is forms.NAMESPACE:
        metadata["name"] = namespace
    elif kind.namespaced:
        metadata["namespace"] = namespace
    return {"apiVersion": kind.api_version, "kind": kind.kind, **body, "metadata": metadata}


def accepted(world: World, absurd: Absurd) -> bool:
    """Apply it; whether the server took it."""
    words = ("apply", "--server-side", "--force-conflicts", "--validate=false", "-f", "-")
    done = subprocess.run(
        [KUBECTL, "--kubeconfig", world.kubeconfig, *words],
        input=json.dumps(manifest(absurd, world.namespace)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "connection refused" not in done.stderr
    return done.returncode == 0


@pytest.mark.slow
@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(anything, min_size=8, max_size=12))
def test_absurd_manifests_do_not_stop_a_controller(embedded_cluster: World, absurd: list[Absurd]) -> None:
    with embedded_cluster.clean() as world:
        process = world.controller()
        selector = {"matchLabels": {"io.kubernetes.service.name": "bystander"}}
        quiet = {**json.loads(pool("0", "10.9.0.0/31").removeprefix("---"))}
        quiet["spec"]["serviceSelector"] = selector
        world.apply(json.dumps(quiet))
        world.apply(service("bystander"))
        eventually(lambda: world.addresses("bystander") == ["10.9.0.0"])

        taken = [accepted(world, one) for one in absurd]
        assert True in taken, "a test of refusals tests nothing"
        assert world.addresses("bystander") == ["10.9.0.0"]

        world.kubectl("annotate", "namespace", world.namespace, "lbipam.dev/max-addresses-")
        world.kubectl("delete", "ippools", "a", "b", "c", "--ignore-not-found")
        world.apply(pool("late", "10.77.0.0/31", color="late") + service("newcomer", color="late"))
        eventually(lambda: world.addresses("newcomer") == ["10.77.0.0"])
        assert world.addresses("bystander") == ["10.9.0.0"]
        assert process.popen.poll() is None
        assert "cannot reconcile" not in process.output()
        assert "Traceback" not in process.output()
