"""A running server and a client that speaks plain HTTP to it."""

import io
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from lbipam.localapi.server import LocalApi

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SERVICES = "/api/v1/namespaces/default/services"


class Client:
    """Requests with the server's token; answers are a code and a value."""

    def __init__(self, api: LocalApi, session: aiohttp.ClientSession) -> None:
        self._api = api
        self._session = session
        self._tls = ssl.create_default_context(cadata=api.ca_pem)

    async def ask(
        self, method: str, path: str, body: Any = None, *, kind: str = "application/json", **headers: str
    ) -> tuple[int, Any]:
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {self._api.token}", "Content-Type": kind, **headers}
        async with self._session.request(
            method,
            self._api.url + path,
            data=None if content is None else io.BytesIO(content),
            headers=sent,
            ssl=self._tls,
        ) as answer:
            text = await answer.text()
            is_json = answer.content_type.endswith("json")
            return answer.status, json.loads(text) if is_json else text

    async def get(self, path: str, **headers: str) -> Any:
        code, value = await self.ask("GET", path, **headers)
        assert code == 200, value
        return value

    async def create(self, path: str, body: Any) -> Any:
        code, value = await self.ask("POST", path, body)
        assert code == 201, value
        return value

    async def define_widgets(self, schema: dict[str, Any], **more: Any) -> Any:
        """Create the definition of `Widget`; see `widgets`."""
        return await self.create(CRDS, widgets(schema, **more))

    async def patch(self, path: str, body: Any, kind: str = "merge-patch+json") -> tuple[int, Any]:
        return await self.ask("PATCH", path, body, kind=f"application/{kind}")

    async def apply(self, path: str, body: Any, manager: str, *, force: bool = False) -> tuple[int, Any]:
        query = f"?fieldManager={manager}" + ("&force=true" if force else "")
        return await self.patch(path + query, body, "apply-patch+yaml")

    async def watch(self, path: str, **headers: str) -> AsyncIterator[dict[str, Any]]:
        sent = {"Authorization": f"Bearer {self._api.token}", **headers}
        async with self._session.get(self._api.url + path, headers=sent, ssl=self._tls) as answer:
            assert answer.status == 200, await answer.text()
            async for line in answer.content:
                yield json.loads(line)


@pytest.fixture
async def api() -> AsyncIterator[LocalApi]:
    async with LocalApi() as running:
        yield running


@pytest.fixture
async def client(api: LocalApi) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(api, session)


def service(name: str, **spec: Any) -> dict[str, Any]:
    """A Service of type LoadBalancer, unless `spec` says otherwise."""
    ports = [{"port": 80, "protocol": "TCP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "LoadBalancer", "ports": ports, **spec},
    }


def widgets(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A CRD of a namespaced kind `Widget` whose `spec` has the given schema."""
    whole = {
        "type": "object",
        "properties": {
            "spec": schema,
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": whole},
        "subresources": {"status": {}},
        **more,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [version],
        },
    }


WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"


def widget(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}
