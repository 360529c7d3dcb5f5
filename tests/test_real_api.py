import json
import ssl
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.real_api import WHY_NOT, RealApi, assets


def _read(api: RealApi, path: str) -> Any:
    request = urllib.request.Request(api.url + path, headers={"Authorization": f"Bearer {api.token}"})
    context = ssl.create_default_context(cafile=str(api.ca_file))
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
    real_api.pause()
    real_api.ensure_ready()
    real_api.kill()
    real_api.ensure_ready()
    assert _read(real_api, "/api/v1/namespaces")["kind"] == "NamespaceList"


@pytest.mark.real_api
@pytest.mark.skipif(assets() is None, reason=WHY_NOT)
def test_nothing_is_left_when_a_server_is_removed() -> None:
    with RealApi(service_cidrs="10.32.0.0/12", etcd_flags=["--quota-backend-bytes=8000000000"]) as other:
        folder, pid = other.kubeconfig.parent, other.pid
        assert _read(other, "/version")["major"] == "1"
    assert not folder.exists()
    assert not Path(f"/proc/{pid}").exists()
