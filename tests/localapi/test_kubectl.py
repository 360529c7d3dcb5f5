"""What only a real kubectl can try: watching, editing, explaining, discovering."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lbipam.localapi.server import LocalApi
from tests.localapi.conftest import widgets
from tests.localapi.test_conformance import KUBECTLS

POOL = {"type": "object", "properties": {"size": {"type": "integer", "description": "How big it is."}}}


class Kubectl:
    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            self._program,
            f"--kubeconfig={self._folder / 'kubeconfig'}",
            f"--cache-dir={self._folder / 'cache'}",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **environment},
        )

    async def run(self, *arguments: str, **environment: str) -> str:
        process = await self.start(*arguments, **environment)
        printed, _ = await process.communicate()
        assert process.returncode == 0, printed.decode()
        return printed.decode()


@pytest.fixture(params=list(KUBECTLS))
async def kubectl(request: pytest.FixtureRequest, api: LocalApi, tmp_path: Path) -> Kubectl:
    found = KUBECTLS[request.param]
    reason = found.why_not()
    if reason is not None:
        pytest.skip(reason)
    (tmp_path / "kubeconfig").write_text(api.kubeconfig())
    await api.apply(
        [
            widgets(
                POOL, additionalPrinterColumns=[{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]
            )
        ]
    )
    return Kubectl(found.program, tmp_path)


@contextlib.asynccontextmanager
async def lines_of(process: asyncio.subprocess.Process) -> AsyncIterator[asyncio.StreamReader]:
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.communicate()


async def test_get_watches_row_by_row(kubectl: Kubectl) -> None:
    await kubectl.run("create", "service", "clusterip", "a", "--tcp=80")
    process = await kubectl.start("get", "service", "a", "-w")
    async with asyncio.timeout(20), lines_of(process) as lines:
        assert (await lines.readline()).split()[0] == b"NAME"
        assert (await lines.readline()).split()[:2] == [b"a", b"ClusterIP"]
        await kubectl.run("patch", "service", "a", "-p", '{"spec":{"type":"NodePort"}}')
        assert (await lines.readline()).split()[:2] == [b"a", b"NodePort"]


async def test_edit_sends_what_the_editor_leaves(kubectl: Kubectl, tmp_path: Path) -> None:
    await kubectl.run("create", "configmap", "a", "--from-literal=key=before")
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/before/after/ "$1"\n')
    editor.chmod(0o755)
    assert "edited" in await kubectl.run("edit", "configmap", "a", KUBE_EDITOR=str(editor))
    assert await kubectl.run("get", "configmap", "a", "-o", "jsonpath={.data.key}") == "after"


async def test_explain_tells_the_fields_of_custom_and_built_in_kinds(kubectl: Kubectl) -> None:
    told = await kubectl.run("explain", "widget.spec.size")
    assert "How big it is." in told
    assert "FIELD: size <integer>" in told
    told = await kubectl.run("explain", "service.spec", "--recursive")
    assert "loadBalancerClass\t<string>" in told
    assert "targetPort\t<IntOrString>" in told


async def test_a_list_is_tried_applied_and_compared(kubectl: Kubectl, tmp_path: Path) -> None:
    """For a List kubectl validates by the OpenAPI v2 document, in protobuf, whatever its version."""

    def manifest(size: object) -> str:
        widget = {
            "apiVersion": "example.com/v1",
            "kind": "Widget",
            "metadata": {"name": "w"},
            "spec": {"size": size},
        }
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "s"},
            "spec": {"ports": [{"port": 80, "targetPort": "web"}], "selector": {"app": "s"}},
        }
        path = tmp_path / "list.json"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [widget, service]}))
        return str(path)

    assert "(server dry run)" in await kubectl.run("apply", "--dry-run=server", "-f", manifest(1))
    assert "w created" in await kubectl.run("apply", "-f", manifest(1))
    assert await kubectl.run("diff", "-f", manifest(1)) == ""
    process = await kubectl.start("diff", "-f", manifest(2))
    printed, _ = await process.communicate()
    assert process.returncode == 1
    assert "+  size: 2" in printed.decode()
    process = await kubectl.start("apply", "-f", manifest("large"))
    printed, _ = await process.communicate()
    assert process.returncode == 1
    assert 'invalid type for com.example.v1.Widget.spec.size: got "string"' in printed.decode()


async def test_the_resources_are_discovered(kubectl: Kubectl) -> None:
    told = await kubectl.run("api-resources", "--no-headers")
    kinds = {line.split()[-1] for line in told.splitlines()}
    assert {
        "ConfigMap",
        "CustomResourceDefinition",
        "EndpointSlice",
        "Endpoints",
        "Event",
        "Lease",
        "Namespace",
        "Node",
        "Pod",
        "Secret",
        "Service",
        "ServiceAccount",
        "Widget",
    } <= kinds
    assert "example.com/v1" in await kubectl.run("api-versions")


async def test_the_server_tells_its_version_and_health(kubectl: Kubectl) -> None:
    assert "Server Version" in await kubectl.run("version")
    for path in ("/healthz", "/livez", "/readyz"):
        assert await kubectl.run("get", "--raw", path) == "ok"


async def test_whoever_asks_may_do_everything(kubectl: Kubectl) -> None:
    assert await kubectl.run("auth", "can-i", "delete", "services") == "yes\n"
    assert "lbipam-admin" in await kubectl.run("auth", "whoami")


async def test_wait_sees_a_deletion(kubectl: Kubectl) -> None:
    await kubectl.run("create", "configmap", "a")
    process = await kubectl.start("wait", "--for=delete", "configmap/a", "--timeout=20s")
    await kubectl.run("delete", "configmap", "a")
    await process.communicate()
    assert process.returncode == 0


async def test_a_namespace_is_deleted_and_waited_for(kubectl: Kubectl) -> None:
    await kubectl.run("create", "namespace", "team")
    await kubectl.run("create", "secret", "generic", "s", "--namespace=team", "--from-literal=a=b")
    await kubectl.run("delete", "namespace", "team", "--timeout=20s")
    assert "team" not in await kubectl.run("get", "namespaces", "-o", "name")
