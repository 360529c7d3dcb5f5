"""The sandbox and the demo, as a new user meets them."""

import json
import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from tests.worlds import KUBECTL, LBIPAM, Process, World, eventually, pool, service


def test_the_demo_shows_who_got_which_address_and_why() -> None:
    done = subprocess.run([LBIPAM, "demo"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split("kubectl label service green")
    assert "default/app            30.0.10.0  red-pool" in first
    assert "default/green          <pending>" in first
    assert "pool red-pool does not select the Service: it wants color=red, but it is 'green'" in first
    assert "fd00:30::" in first
    assert "default/green          20.0.10.0  blue-pool" in second
    assert "kubectl get ippools,svc" in second
    assert done.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_sandbox_serves_kubectl_until_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    manifests = tmp_path / "manifests.yaml"
    manifests.write_text(pool("p", "10.0.0.0/24") + service("loaded"))
    sandbox = Process(["sandbox", "-f", str(manifests)], log=tmp_path / "log")
    kubeconfig = Path(sandbox.says(r"KUBECONFIG=(\S+)").group(1))
    sandbox.says("Ctrl-C ends it")
    assert stat.S_IMODE(kubeconfig.stat().st_mode) == 0o600
    world = World("sandbox", kubeconfig, tmp_path)
    eventually(lambda: world.addresses("loaded") == ["10.0.0.0"])
    world.apply(service("applied"))
    eventually(lambda: world.addresses("applied") == ["10.0.0.1"])
    assert sandbox.stop(number) == 0
    assert "Traceback" not in sandbox.output()
    assert not kubeconfig.exists()


def test_nobody_without_the_token_gets_in(embedded_cluster: World) -> None:
    config = json.loads(
        subprocess.run(
            [KUBECTL, "--kubeconfig", embedded_cluster.kubeconfig, "config", "view", "--raw", "-o", "json"],
            capture_output=True,
            check=True,
        ).stdout
    )
    server = config["clusters"][0]["cluster"]["server"]
    done = subprocess.run(
        [KUBECTL, "--server", server, "--insecure-skip-tls-verify", "--token", "wrong", "get", "services"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KUBECONFIG": os.devnull},
    )
    assert done.returncode != 0
    assert server.startswith("https://127.0.0.1:")


def test_a_manifest_that_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [LBIPAM, "sandbox", "-f", str(tmp_path / "none.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"lbipam: {tmp_path}/none.yaml: No such file or directory\n"


def test_a_manifest_that_is_refused_is_told_in_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {type: LoadBalancer}\n")
    done = subprocess.run(
        [LBIPAM, "sandbox", "-f", str(bad)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "spec.ports: Required value" in done.stderr
    assert "Traceback" not in done.stderr
