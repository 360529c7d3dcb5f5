"""A controller that starts before its API server."""

import asyncio
import json
import signal
import socket
from pathlib import Path

import pytest

from lbipam.adapters import kube_config
from lbipam.adapters.kube_client import ApiError, Client
from lbipam.kube.crds import catalog
from tests import real_api as real
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
def test_a_controller_serves_once_its_server_has_started(real_api: real.RealApi, tmp_path: Path) -> None:
    """While it starts, a server says that it is not ready, that it knows no pools, and that all is forbidden."""
    asyncio.run(_define(real_api.kubeconfig))
    cluster = World("real", real_api.kubeconfig, tmp_path)
    with cluster.clean() as world:
        world.apply(pool("p", "10.0.0.0/24") + service("one"))
        real_api.kill()
        processes = [world.controller("--leader-elect", "--namespace", world.namespace) for _ in range(2)]
        for process in processes:
            process.says("waiting for the API server")
        real_api.start()
        eventually(lambda: world.addresses("one") == ["10.0.0.0"])
        assert [process.popen.poll() for process in processes] == [None, None]


async def _define(kubeconfig: Path) -> None:
    """Have pools and reservations on the server, if it has not yet."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    async with Client(await kube_config.connect(str(kubeconfig))) as client:
        for definition in catalog.all_crds()[:2]:
            try:
                await client.request("POST", path, body=json.dumps(definition).encode())
            except ApiError as problem:
                assert problem.reason == "AlreadyExists"


def _kubeconfig(url: str) -> str:
    return f"""apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "{url}"}}}}]
users: [{{name: u, user: {{}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
"""
