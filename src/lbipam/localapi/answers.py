"""What does the server answer to an HTTP request?

It reads the request (path, query, body), has `Api` do what is asked, and shows the outcome in the form that
the client wants. Refusals become `kind: Status`. Connections, TLS and tokens are left to `server`.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
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
    options,
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
        reads = request.method == "GET"
        if target.resource.namespaced and not target.namespace and not reads:
            raise refusals.method_not_supported()
        asked = _Asked(request=request, target=target, body=b"" if reads else await _body(request))
        match request.method:
            case "GET" if target.name:
                return self._one(asked, self._api.get(target.resource, target.key))
            case "GET":
                options.refuse_list(asked.query)
                return await (self._watch if options.flag(asked.query, "watch") else self._list)(asked)
            case "POST" if not target.name:
                return self._create(asked)
            case "PUT" if target.name:
                return self._update(asked)
            case "PATCH" if target.name:
                return self._patch(asked)
            case "DELETE" if not target.subresource and (target.name or target.resource.deletes_many):
                return self._delete(asked)
            case _:
                raise refusals.method_not_supported()

    def _one(
        self, asked: "_Asked", stored: Stored, *, is_new: bool = False, warnings: Iterable[str] = ()
    ) -> web.Response:
        status = 201 if is_new else 200
        return web.Response(body=asked.view.one(stored), status=status, headers=asked.headers(warnings))

    async def _list(self, asked: "_Asked") -> web.StreamResponse:
        limit = options.number(asked.query, "limit")
        if token := asked.query.get("continue"):
            page = self._pages.next(token, limit)
        else:
            self._check_version(asked)
            page = self._first_page(asked, limit)
        parts = asked.view.page(page)
        if len(page.items) <= 500:
            return web.Response(body=b"".join(parts), headers=asked.headers())
        response = web.StreamResponse(headers=asked.headers())
        await response.prepare(asked.request)
        for part in parts:
            await response.write(part)
        await response.write_eof()
        return response

    def _first_page(self, asked: "_Asked", limit: int) -> listing.Page:
        collection = self._api.collection(asked.target.resource)
        return self._pages.first(collection, self._api.store.version, asked.chosen(), limit)

    def _check_version(self, asked: "_Asked") -> None:
        """Refuse a list from a version that cannot be served."""
        version, current = options.version(asked.query), self._api.store.version
        if version > current:
            raise refusals.too_large_version(version, current)
        if asked.query.get("resourceVersionMatch") == "Exact" and version != current:
            raise refusals.expired(f"The resourceVersion for the provided list is too old: {version}")

    async def _watch(self, asked: "_Asked") -> web.StreamResponse:
        query, request = asked.query, asked.request
        version = options.version(query)
        initial = options.flag(query, "sendInitialEvents")
        bookmarks = options.flag(query, "allowWatchBookmarks")
        wanted = watching.Wanted(
            view=asked.view,
            chosen=asked.chosen(),
            start=None if initial or not version else version,
            bookmarks=bookmarks,
            initial_bookmark=initial and bookmarks,
            seconds=watching.lasting(options.number(query, "timeoutSeconds")),
        )
        watch = watching.Watch(self._api.store, self._api.collection(asked.target.resource), wanted)
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

    def _create(self, asked: "_Asked") -> web.Response:
        wish, value = asked.wish("CreateOptions"), asked.object()
        stored = self._api.create(wish, asked.target.namespace, value)
        return self._one(asked, stored, is_new=True, warnings=wish.warnings)

    def _update(self, asked: "_Asked") -> web.Response:
        wish = asked.wish("UpdateOptions")
        stored, is_new = self._api.update(wish, asked.target.key, asked.object())
        return self._one(asked, stored, is_new=is_new, warnings=wish.warnings)

    def _patch(self, asked: "_Asked") -> web.Response:
        media_type = bodies.media_type(asked.content_type)
        kind = bodies.PATCHES.get(media_type, "")
        custom = asked.target.resource.custom
        accepted = [media for media, each in bodies.PATCHES.items() if each != "strategic" or not custom]
        if media_type not in accepted:
            raise refusals.unsupported_media_type(accepted)
        wish = asked.wish("PatchOptions", apply=kind == "apply")
        patch = bodies.decode(asked.body, asked.content_type)
        stored, is_new = self._api.patch(wish, asked.target.key, kind, patch)
        return self._one(asked, stored, is_new=is_new, warnings=wish.warnings)

    def _delete(self, asked: "_Asked") -> web.Response:
        target = asked.target
        body = bodies.decode_object(asked.body, asked.content_type) if asked.body.strip() else {}
        wanted = options.deletion(asked.query, body)
        if not target.name:
            page = self._first_page(asked, 0)
            for stored in page.items:
                self._api.delete(target.resource, stored.key, wanted.preconditions, dry_run=wanted.dry_run)
            return web.Response(body=b"".join(asked.view.page(page)), content_type=views.JSON)
        stored, gone = self._api.delete(
            target.resource, target.key, wanted.preconditions, dry_run=wanted.dry_run
        )
        if not gone or target.resource.kind in ("Namespace", "Pod"):
            return self._one(asked, stored)
        details = target.resource.subject(target.name).details(uid=stored.decode()["metadata"]["uid"])
        success = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        return _json({**success, "details": details})


class _Asked:
    """A request about objects: what it names, and how its answer is to look."""

    def __init__(self, *, request: web.BaseRequest, target: Target, body: bytes) -> None:
        self.request = request
        self.target = target
        self.body = body
        self.query: Mapping[str, str] = request.query
        self.content_type = request.headers.get("Content-Type", "")
        self.view = View(
            resource=target.resource,
            version=target.version,
            form=views.form_of(request.headers.get("Accept", "")),
            include=self.query.get("includeObject", "Metadata"),
        )

    def chosen(self) -> listing.Filter:
        """Which objects of the collection are meant."""
        labels, fields = self.query.get("labelSelector"), self.query.get("fieldSelector")
        return listing.filter_for(
            self.target.resource,
            self.target.version,
            self.target.namespace,
            selectors.label_selector(labels) if labels else None,
            selectors.field_selector(fields) if fields else None,
        )

    def object(self) -> dict[str, Any]:
        """The object in the body, which must be of the kind that the path names."""
        value = bodies.decode_object(self.body, self.content_type)
        resource = self.target.resource
        wanted = resource.api_version(self.target.version.name)
        api_version = value.pop("apiVersion", "") or wanted
        kind = value.pop("kind", "") or resource.kind
        if (api_version, kind) != (wanted, resource.kind):
            raise refusals.bad_request(
                f"the API version in the data ({api_version}, Kind={kind}) does not match the expected API version"
                f" ({wanted}, Kind={resource.kind})"
            )
        return value

    def wish(self, kind: str, *, apply: bool = False) -> Wish:
        """How the client wants its write to be done, by options of the given kind."""
        options.refuse_write(self.query, kind=kind, apply=apply)
        agent = self.request.headers.get("User-Agent", "unknown")
        return Wish(
            resource=self.target.resource,
            version=self.target.version.name,
            manager=self.query.get("fieldManager") or agent.partition("/")[0],
            subresource=self.target.subresource,
            operation="Apply" if apply else "Update",
            dry_run=bool(self.query.get("dryRun")),
            validation=self.query.get("fieldValidation") or "Warn",
            force=options.flag(self.query, "force"),
        )

    def headers(self, warnings: Iterable[str] = ()) -> Any:
        """Those of the answer; each warning has one of its own (RFC 7234 §5.5, code 299)."""
        told = [*warnings, *filter(None, (self.view.version.deprecation,))]
        quoted = [text.replace("\\", "\\\\").replace('"', '\\"') for text in told]
        return [*(("Warning", f'299 - "{text}"') for text in quoted), ("Content-Type", views.JSON)]


async def _body(request: web.BaseRequest) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as wrong:
        raise refusals.too_large() from wrong


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type=views.JSON)


def refusal_response(refusal: ApiError) -> web.Response:
    """A refusal as the client gets it."""
    if refusal.code == 404 and not refusal.reason:  # the path leads nowhere, which is not the API's to tell
        return web.Response(text=f"{refusal.message}\n", status=404)
    response = _json(refusal.status, refusal.code)
    seconds = (refusal.details or {}).get("retryAfterSeconds")
    if seconds is not None:
        response.headers["Retry-After"] = str(seconds)
    return response
