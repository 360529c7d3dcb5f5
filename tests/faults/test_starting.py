"""A controller that starts before its API server."""

import signal
import socket
from pathlib import Path

import pytest

from tests import real_api as real
from tests.real_apply import define
from tests.worlds import World, eventually, pool, service


def test_a_controller_waits_for_a_server_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(_kubeconfig(f"http://127.0.0.1:{nobody_listens.getsockname()[1]}"))
        process = World("nowhere", kubeconfig, tmp_path).controller()
        process.says("waiting for the API server")
        assert process.stop(signal.SIGTERM) == 0
        assert "Traceback" not in process.output()


@pytest.mark.slow
@pytest.mark.real_api
@pytest.mark.skipif(real.assets() is None, reason=real.WHY_NOT)
def test_a_controller_serves_once_its_server_has_started(tmp_path: Path) -> None:
    """While it starts, a server says that it is not ready, that it knows no pools, and that all is forbidden."""
    # A server of its own, whose pools and Services are all known.
    with real.RealApi() as api, World("real", api.kubeconfig, tmp_path).clean() as world:
        define(api)
        world.apply(pool("p", "10.0.0.0/24") + service("one"))
        api.kill()
        processes = [world.controller("--leader-elect", "--namespace", world.namespace) for _ in range(2)]
        for process in processes:
            process.says("waiting for the API server")
        api.start()
        eventually(lambda: world.addresses("one") == ["10.0.0.0"])
        assert [process.popen.poll() for process in processes] == [None, None]


def _kubeconfig(url: str) -> str:
    return f"""apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "{url}"}}}}]
users: [{{name: u, user: {{}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
"""
