"""What does the server answer to an HTTP request?

It reads the request (path, query, body), has `Api` do what is asked, and shows the outcome in the form that
the client wants. Refusals become `kind: Status`. Connections, TLS and tokens are left to `server`.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from lbipam.localapi import (
    bodies,
    discovery,
    listing,
    openapi,
    openapi_protobuf,
    openapi_v2,
    refusals,
    reviews,
    selectors,
    views,
    watching,
)
from lbipam.localapi.api import Api
from lbipam.localapi.faults import Faults
from lbipam.localapi.refusals import ApiError
from lbipam.localapi.routing import Review, Target, target_of
from lbipam.localapi.store import Stored
from lbipam.localapi.views import View
from lbipam.localapi.wishes import Wish

VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.0+lbipam",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "",
    "goVersion": "",
    "compiler": "",
    "platform": "python",
}
"""The version of Kubernetes whose behaviour the server has."""

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_HEALTH = ("/healthz", "/livez", "/readyz")

_Query = Mapping[str, str]


class Answers:
    """Answers to everything that is asked of one server."""

    def __init__(self, api: Api, pages: listing.Pages, faults: Faults) -> None:
        self._api = api
        self._pages = pages
        self._faults = faults

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to a request whose sender has been let in."""
        try:
            path = request.path
            if request.method == "GET" and (told := self._about_itself(path, request)) is not None:
                return told
            target = target_of(self._api.registry, path)
            if isinstance(target, Review):
                return await self._review(request, target)
            return await self._on_objects(request, target)
        except ApiError as refusal:
            return refusal_response(refusal)

    # What the server tells of itself

    def _about_itself(self, path: str, request: web.BaseRequest) -> web.Response | None:
        """The answer to a path that names no objects, or `None` when it does name some."""
        if path == "/version":
            return _json(VERSION)
        if path.startswith(_HEALTH):
            return web.Response(text="ok")
        if path.startswith("/openapi/"):
            return self._openapi(path, request.headers.get("Accept", ""))
        return self._discovery(path, request)

    def _openapi(self, path: str, accept: str) -> web.Response:
        registry = self._api.registry
        if path == "/openapi/v2":
            told = openapi_v2.document(registry)
            if openapi_protobuf.ASKED not in accept:
                return _json(told)
            kind = {"Content-Type": openapi_protobuf.MEDIA_TYPE}
            return web.Response(body=openapi_protobuf.encode(told), headers=kind)
        versions = discovery.group_versions(registry)
        if path == "/openapi/v3":
            return _json(openapi.index(versions, registry.generation))
        for group, names in versions.items():
            for version in names:
                if path == f"/openapi/v3/{openapi.path_of(group, version)}":
                    return _json(openapi.document(registry, group, version))
        raise refusals.no_such_path()

    def _discovery(self, path: str, request: web.BaseRequest) -> web.Response | None:
        registry = self._api.registry
        parts = path.strip("/").split("/")
        told: dict[str, Any] | None
        match parts:
            case ["api" | "apis" as root] if _AGGREGATED in request.headers.get("Accept", ""):
                body = msgspec.json.encode(discovery.aggregated(registry, core=root == "api"))
                return web.Response(body=body, headers={"Content-Type": _AGGREGATED})
            case ["api"]:
                told = discovery.core_versions(request.host)
            case ["apis"]:
                told = discovery.group_list(registry)
            case ["apis", group]:
                told = discovery.group(registry, group)
            case ["api", version]:
                told = discovery.resource_list(registry, "", version)
            case ["apis", group, version]:
                told = discovery.resource_list(registry, group, version)
            case _:
                return None
        if told is None:
            raise refusals.no_such_path()
        return _json(told)

    async def _review(self, request: web.BaseRequest, review: Review) -> web.Response:
        if request.method != "POST":
            raise refusals.method_not_supported()
        body = bodies.decode_object(await _body(request), request.headers.get("Content-Type", ""))
        return _json(reviews.reviewed(review.group, review.kind, body), status=201)

    # Objects

    async def _on_objects(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        query = request.query
        if request.method == "GET":
            view = self._view(request, target, query)
            if target.name:
                return self._one(view, self._api.get(target.resource, target.key))
            if query.get("watch") in ("1", "true"):
                return await self._watch(request, target, view, query)
            return await self._list(request, target, view, query)
        if target.resource.namespaced and not target.namespace:
            raise refusals.method_not_supported()
        body = await _body(request)
        view = self._view(request, target, query)
        match request.method:
            case "POST" if not target.name:
                return self._create(request, target, view, query, body)
            case "PUT" if target.name:
                return self._update(request, target, view, query, body)
            case "PATCH" if target.name:
                return self._patch(request, target, view, query, body)
            case "DELETE" if not target.subresource:
                return self._delete(request, target, view, query, body)
            case _:
                raise refusals.method_not_supported()

    def _view(self, request: web.BaseRequest, target: Target, query: _Query) -> View:
        return View(
            resource=target.resource,
            version=target.version,
            form=views.form_of(request.headers.get("Accept", "")),
            include=query.get("includeObject", "Metadata"),
        )

    def _one(
        self, view: View, stored: Stored, *, status: int = 200, warnings: list[str] | None = None
    ) -> web.Response:
        headers: Any = _warning_headers([*(warnings or ()), *filter(None, (view.version.deprecation,))])
        headers.append(("Content-Type", views.JSON))
        return web.Response(body=view.one(stored), status=status, headers=headers)

    def _filter(self, target: Target, query: _Query) -> listing.Filter:
        labels, fields = query.get("labelSelector"), query.get("fieldSelector")
        return listing.filter_for(
            target.resource,
            target.version,
            target.namespace,
            selectors.label_selector(labels) if labels else None,
            selectors.field_selector(fields) if fields else None,
        )

    async def _list(
        self, request: web.BaseRequest, target: Target, view: View, query: _Query
    ) -> web.StreamResponse:
        limit = _number(query, "limit")
        if token := query.get("continue"):
            page = self._pages.next(token, limit)
        else:
            self._check_version(query)
            collection = self._api.collection(target.resource)
            page = self._pages.first(collection, self._api.store.version, self._filter(target, query), limit)
        headers: Any = _warning_headers(filter(None, (view.version.deprecation,)))
        headers.append(("Content-Type", views.JSON))
        parts = view.page(page)
        if len(page.items) <= 500:
            return web.Response(body=b"".join(parts), headers=headers)
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        await response.write_eof()
        return response

    def _check_version(self, query: _Query) -> None:
        """Refuse a list from a version that cannot be served."""
        asked, current = _number(query, "resourceVersion"), self._api.store.version
        if asked > current:
            raise refusals.too_large_version(asked, current)
        if query.get("resourceVersionMatch") == "Exact" and asked != current:
            raise refusals.expired(f"The resourceVersion for the provided list is too old: {asked}")

    async def _watch(
        self, request: web.BaseRequest, target: Target, view: View, query: _Query
    ) -> web.StreamResponse:
        version = _number(query, "resourceVersion")
        initial = query.get("sendInitialEvents") == "true"
        bookmarks = query.get("allowWatchBookmarks") in ("1", "true")
        if initial and query.get("resourceVersionMatch") != "NotOlderThan":
            raise refusals.unprocessable(
                'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires'
                " setting resourceVersionMatch to NotOlderThan"
            )
        wanted = watching.Wanted(
            view=view,
            chosen=self._filter(target, query),
            start=None if initial or not version else version,
            bookmarks=bookmarks,
            initial_bookmark=initial and bookmarks,
            seconds=watching.seconds_of(query.get("timeoutSeconds", "")),
        )
        watch = watching.Watch(self._api.store, self._api.collection(target.resource), wanted)
        response = web.StreamResponse(headers={"Content-Type": views.JSON})
        response.enable_chunked_encoding()
        await response.prepare(request)
        task = asyncio.current_task()
        assert task is not None, "requests are answered in tasks"
        with self._faults.watching(task), contextlib.suppress(ConnectionResetError):
            async for lines in watch.lines():
                if self._faults.halves_this():
                    await response.write(lines[: len(lines) // 2])
                    assert request.transport is not None, "the response has just been written to it"
                    request.transport.close()
                    return response
                await response.write(lines)
            await response.write_eof()
        return response

    def _wish(
        self, request: web.BaseRequest, target: Target, query: _Query, operation: str = "Update"
    ) -> Wish:
        agent = request.headers.get("User-Agent", "unknown")
        dry_run = query.get("dryRun", "")
        if dry_run not in ("", "All"):
            problem = refusals.unsupported("dryRun", [dry_run], ["All"])
            raise refusals.unprocessable(f"invalid dry run value: {problem.message}")
        return Wish(
            resource=target.resource,
            version=target.version.name,
            manager=query.get("fieldManager") or agent.partition("/")[0],
            subresource=target.subresource,
            operation=operation,
            dry_run=dry_run == "All",
            validation=query.get("fieldValidation") or "Warn",
            force=query.get("force") == "true",
        )

    def _object(self, request: web.BaseRequest, target: Target, body: bytes) -> dict[str, Any]:
        """The object in the body, which must be of the kind that the path names."""
        value = bodies.decode_object(body, request.headers.get("Content-Type", ""))
        wanted = target.resource.api_version(target.version.name)
        api_version, kind = (
            value.pop("apiVersion", "") or wanted,
            value.pop("kind", "") or target.resource.kind,
        )
        if (api_version, kind) != (wanted, target.resource.kind):
            raise refusals.bad_request(
                f"the API version in the data ({api_version}, Kind={kind}) does not match the expected API version"
                f" ({wanted}, Kind={target.resource.kind})"
            )
        return value

    def _create(
        self, request: web.BaseRequest, target: Target, view: View, query: _Query, body: bytes
    ) -> web.Response:
        value = self._object(request, target, body)
        wish = self._wish(request, target, query)
        stored = self._api.create(wish, target.namespace, value)
        return self._one(view, stored, status=201, warnings=wish.warnings)

    def _update(
        self, request: web.BaseRequest, target: Target, view: View, query: _Query, body: bytes
    ) -> web.Response:
        wish = self._wish(request, target, query)
        stored, created = self._api.update(wish, target.key, self._object(request, target, body))
        return self._one(view, stored, status=201 if created else 200, warnings=wish.warnings)

    def _patch(
        self, request: web.BaseRequest, target: Target, view: View, query: _Query, body: bytes
    ) -> web.Response:
        content_type = request.headers.get("Content-Type", "")
        kind = bodies.PATCHES.get(bodies.media_type(content_type), "")
        accepted = [
            media
            for media, each in bodies.PATCHES.items()
            if each != "strategic" or not target.resource.custom
        ]
        if bodies.media_type(content_type) not in accepted:
            raise refusals.unsupported_media_type(accepted)
        if kind == "apply" and not query.get("fieldManager"):
            raise refusals.invalid(
                refusals.Subject(group="meta.k8s.io", resource="", kind="PatchOptions"),
                [refusals.required("fieldManager", "is required for apply patch")],
            )
        wish = self._wish(request, target, query, "Apply" if kind == "apply" else "Update")
        stored, created = self._api.patch(wish, target.key, kind, bodies.decode(body, content_type))
        return self._one(view, stored, status=201 if created else 200, warnings=wish.warnings)

    def _delete(
        self, request: web.BaseRequest, target: Target, view: View, query: _Query, body: bytes
    ) -> web.Response:
        options = bodies.decode_object(body, request.headers.get("Content-Type", ""))
        dry_run = "All" in (options.get("dryRun") or ()) or query.get("dryRun") == "All"
        preconditions = options.get("preconditions") or {}
        if target.name:
            stored, gone = self._api.delete(target.resource, target.key, preconditions, dry_run=dry_run)
            if not gone or target.resource.kind in ("Namespace", "Pod"):
                return self._one(view, stored)
            details = target.resource.subject(target.name).details(uid=stored.decode()["metadata"]["uid"])
            return _json(
                {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "metadata": {},
                    "status": "Success",
                    "details": details,
                }
            )
        page = self._pages.first(
            self._api.collection(target.resource), self._api.store.version, self._filter(target, query), 0
        )
        for stored in page.items:
            self._api.delete(target.resource, stored.key, preconditions, dry_run=dry_run)
        return web.Response(body=b"".join(view.page(page)), content_type=views.JSON)


async def _body(request: web.BaseRequest) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as wrong:
        raise refusals.too_large() from wrong


def _number(query: _Query, name: str) -> int:
    text = query.get(name, "")
    if not text:
        return 0
    if not text.isdecimal():
        raise refusals.bad_request(f"invalid {name}: {text!r} is not a number")
    return int(text)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type=views.JSON)


def _warning_headers(warnings: Any) -> list[tuple[str, str]]:
    """`Warning` headers (RFC 7234 §5.5, code 299)."""
    return [
        ("Warning", f'299 - "{text.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))}"')
        for text in warnings
    ]


def refusal_response(refusal: ApiError) -> web.Response:
    """A refusal as the client gets it."""
    if refusal.code == 404 and not refusal.reason:  # the path leads nowhere, which is not the API's to tell
        return web.Response(text=f"{refusal.message}\n", status=404)
    response = _json(refusal.status, refusal.code)
    seconds = (refusal.details or {}).get("retryAfterSeconds")
    if seconds is not None:
        response.headers["Retry-After"] = str(seconds)
    return response
