"""The store over HTTP.

`LocalApi` is a Kubernetes API server in this process: HTTP/1.1 over TLS for whoever has its token, on
loopback unless told otherwise. It keeps everything in memory, and shares no code with the rest of the
program. What it answers is told in `answers`.
"""

import asyncio
import hmac
import secrets
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
import yaml
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from lbipam.localapi import builtins, certs, crds, refusals
from lbipam.localapi.answers import Answers, refusal_response
from lbipam.localapi.api import Api
from lbipam.localapi.faults import Delay, Drop, Faults, Refuse
from lbipam.localapi.listing import Pages
from lbipam.localapi.refusals import ApiError
from lbipam.localapi.removals import Removals
from lbipam.localapi.resources import Registry
from lbipam.localapi.services import Services
from lbipam.localapi.store import Key, Store
from lbipam.localapi.wishes import Wish

_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
_MAX_BODY = 3 * 1024 * 1024
"""Bytes, as etcd's request limit makes it in a cluster."""


class LocalApi:
    """A Kubernetes API server in this process; an async context manager that serves while it is open."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """Prepare a server for `host`; port 0 takes a free one."""
        self._host, self._port = host, port
        self._identity = certs.identity(host)
        self.token = secrets.token_urlsafe(24)
        self.ca_pem = self._identity.ca_pem
        self.url = ""
        """Where it serves, once it does."""
        self._pages = Pages()
        self.faults = Faults(forget_history=self._forget_history)
        self._store = Store()
        self._api = _assembled(self._store)
        self._runner: web.ServerRunner | None = None
        self._answers = Answers(self._api, self._pages, self.faults)

    async def __aenter__(self) -> Self:
        self._begin_world()
        server = web.Server(self._answer, request_factory=_request, handler_cancellation=True)
        runner = self._runner = web.ServerRunner(server, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            site = web.TCPSite(
                runner, self._host, self._port, ssl_context=self._identity.context, backlog=1024
            )
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        host, port = runner.addresses[0][:2]
        shown = "127.0.0.1" if host == "0.0.0.0" else "::1" if host == "::" else host  # noqa: S104 - compared, not bound
        self.url = f"https://[{shown}]:{port}" if ":" in shown else f"https://{shown}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.faults.cut_watches()
        if self._runner is not None:
            await self._runner.cleanup()

    def kubeconfig(self) -> str:
        """A kubeconfig for this server, as YAML, with the context `lbipam`."""
        cluster = {"server": self.url, "certificate-authority-data": self._identity.ca_data}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lbipam", "cluster": cluster}],
            "users": [{"name": "lbipam", "user": {"token": self.token}}],
            "contexts": [
                {"name": "lbipam", "context": {"cluster": "lbipam", "user": "lbipam", "namespace": "default"}}
            ],
            "current-context": "lbipam",
        }
        return yaml.safe_dump(config, sort_keys=False)

    async def apply(self, manifests: Sequence[Mapping[str, object]]) -> None:
        """Create or update objects, in order; raises `ApiError` at the first that is refused."""
        for manifest in manifests:
            value: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(manifest))
            if value.get("kind") == "List" and value.get("apiVersion") == "v1":
                await self.apply(value.get("items", ()))
                continue
            group, _, version = str(value.get("apiVersion", "")).rpartition("/")
            resource = self._api.registry.of_kind(group, str(value.get("kind", "")))
            if resource is None or version not in resource.versions:
                what = f'"{value.get("kind")}" in version "{value.get("apiVersion")}"'
                raise refusals.bad_request(f"no matches for kind {what}")
            metadata = value.get("metadata")
            if not isinstance(metadata, dict):
                raise refusals.bad_request("the manifest has no metadata")
            namespace = str(metadata.get("namespace") or "default") if resource.namespaced else ""
            wish = Wish(
                resource=resource, version=version, manager="lbipam-sandbox", operation="Apply", force=True
            )
            self._api.patch(wish, Key(namespace, str(metadata.get("name", ""))), "apply", value)

    def _begin_world(self) -> None:
        """The objects that every cluster has."""
        if self._store.collection("", "namespaces").objects:
            return
        for name in _NAMESPACES:
            self._create("namespaces", "", {"metadata": {"name": name}})
        port = {"name": "https", "port": 443, "targetPort": 6443}
        labels = {"component": "apiserver", "provider": "kubernetes"}
        service = {
            "metadata": {"name": "kubernetes", "labels": labels},
            "spec": {"clusterIP": "10.96.0.1", "ports": [port]},
        }
        self._create("services", "default", service)
        self._forget_history()

    def _create(self, plural: str, namespace: str, value: dict[str, Any]) -> None:
        resource = self._api.registry.find("", plural)
        assert resource is not None, "the kind is built in"
        self._api.create(Wish(resource=resource, version="v1", manager="kube-apiserver"), namespace, value)

    def _forget_history(self) -> None:
        for collection in self._store.collections.values():
            collection.forget_all(self._store.version)
        self._pages.forget_all()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self.token.encode()):
            return refusal_response(refusals.unauthorized())
        match self.faults.next_for(request.method, request.path_qs):
            case Refuse() as refuse:
                details = (
                    {"retryAfterSeconds": refuse.retry_after_seconds} if refuse.retry_after_seconds else None
                )
                return refusal_response(ApiError(refuse.code, refuse.reason, refuse.message, details=details))
            case Delay(seconds=seconds):
                await asyncio.sleep(seconds)
            case Drop(done=done):
                if done:
                    await self._answers.answer(request)
                return _hang_up(request)
            case None:
                pass
        return await self._answers.answer(request)


def _assembled(store: Store) -> Api:
    """The API of an empty world, with all built-in kinds."""
    api = Api(store, Registry(()))
    removals = Removals(api)
    api.removed = removals.removed
    for resource in builtins.resources(Services().rules(), removals.namespace_changed):
        api.registry.add(resource)
    api.registry.add(crds.definitions(api.registry, removals.definition_changed))
    for resource in api.registry:
        api.collection(resource)
    return api


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    """A request whose body may be as large as the objects that a cluster takes."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY)


def _hang_up(request: web.BaseRequest) -> web.Response:
    """Close the connection at once; the response is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
