import json
import ssl
import urllib.request
from pathlib import Path
from typing import Any

from tests.real_api import RealApi


def _read(api: RealApi, path: str, context: ssl.SSLContext | None = None, token: str = RealApi.token) -> Any:
    request = urllib.request.Request(api.url + path, headers={"Authorization": f"Bearer {token}"})
    context = context or ssl.create_default_context(cafile=str(api.ca_file))
    with urllib.request.urlopen(request, context=context, timeout=10) as response:
        return json.load(response)


def test_a_killed_server_comes_back_on_its_port_with_its_objects(real_api: RealApi) -> None:
    url, pid = real_api.url, real_api.pid
    before = _read(real_api, "/api/v1/namespaces/kube-system")["metadata"]["uid"]
    real_api.restart()
    assert real_api.url == url
    assert real_api.pid != pid
    assert _read(real_api, "/api/v1/namespaces/kube-system")["metadata"]["uid"] == before


def test_the_next_test_finds_the_server_whole(real_api: RealApi) -> None:
    real_api.stop()
    real_api.ensure_ready()
    real_api.kill()
    real_api.ensure_ready()
    assert _read(real_api, "/api/v1/namespaces")["kind"] == "NamespaceList"


def test_nothing_is_left_when_a_server_is_removed(real_api: RealApi) -> None:
    with RealApi(real_api._binaries, server_flags=["--service-cluster-ip-range=10.32.0.0/12"]) as other:
        folder, pid = other.folder, other.pid
        assert (
            _read(other, "/api/v1/namespaces/default/services/kubernetes")["spec"]["clusterIP"] == "10.32.0.1"
        )
    assert not folder.exists()
    assert not Path(f"/proc/{pid}").exists()
