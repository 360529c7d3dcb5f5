"""List, then watch, for ever: every object of one kind, and every change of one, told as events.

    list in pages ──▶ watch ──▶ (ends, breaks) ──▶ watch from where it ended
         ▲                             │
         └─ 410, silence, or told to ◀─┘

Whatever happens to the server, the stream goes on, and no deletion is missed: after each list, what is no
longer there is told as deleted, and what a restored store holds is told as newer than all that was known. This
file keeps names, not objects.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from lbipam.adapters.kube_client import ApiError, Client, SilentError, StatusCause, UnreachableError
from lbipam.controllers.ports import Deleted, Event, Listed, Malformed, Missing, Synced, Upserted
from lbipam.kube.kinds import Key, Kind

_log = structlog.get_logger()

_PAGE = "500"
_PAGE_SECONDS = 60.0
_LONGEST_LINE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long a reflector waits for what, in seconds."""

    watch: tuple[float, float] = (240.0, 480.0)
    """A watch is asked to end after a time between these, so that not all end together."""
    silence: float = 75.0
    """A watch that says nothing for so long may be dead: bookmarks, where they come, come about every 60 s."""
    first_retry: float = 0.2
    longest_retry: float = 5.0
    missing: float = 5.0
    """How often a kind that the server does not know is asked for."""


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _Page(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _WatchEvent(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _HeadMeta(msgspec.Struct, rename="camel"):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.name)


class _Head(msgspec.Struct):
    metadata: _HeadMeta


class _ExpiredError(Exception):
    """The server no longer knows the version we have; it must be listed anew."""


class Reflector:
    """Tells of every object of a kind. Run it as a task; cancel it to end it.

    Args:
        in_pages: Whether a list may come in parts, between which others act upon what is told so far.
    """

    def __init__(
        self,
        client: Client,
        kind: Kind,
        deliver: Callable[[Event], None],
        *,
        namespace: str = "",
        params: Mapping[str, str] | None = None,
        in_pages: bool = True,
        timing: Timing | None = None,
    ) -> None:
        self.kind = kind
        self.lists = 0
        """How often all objects were listed."""
        self.breaks = 0
        """How often the stream broke and was taken up again."""
        self.listed_at = float("-inf")
        """When the last complete list began, in seconds of the monotonic clock."""
        self._client = client
        self._deliver = deliver
        self._path = kind.path(namespace)
        self._params = dict(params or {})
        self._list_params = {**self._params, "limit": _PAGE} if in_pages else self._params
        self._timing = timing or Timing()
        self._known: set[Key] = set()
        self._version = ""
        """The newest that the server has told of."""
        self._must_list = True
        self._missing = False
        self._failures = 0
        self._interrupted = False
        """Whether the stream broke since it was last seen that the server has been at our version."""
        self._told = ""
        """The trouble that was met last: while it goes on, it is not logged again."""
        self._decoder = msgspec.json.Decoder(kind.form)
        self._list_began = float("-inf")
        self._relist = asyncio.Event()
        self._listed = asyncio.Condition()

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            try:
                if self._must_list:
                    self._version = await self._list()
                    self._must_list = False
                elif self._interrupted:
                    # Maybe the store was restored. A watch from a version that is yet to come would pass over
                    # all that comes before it.
                    await self._must_be_reached()
                self._interrupted = False
                await self._follow(self._version)
            except _ExpiredError as problem:
                self._must_list = True
                await self._broken(str(problem))
            except ApiError as problem:
                await self._refused(problem)
            except UnreachableError as problem:
                await self._broken(str(problem))

    async def listed_since(self, moment: float) -> None:
        """Return when a list that began after a moment is told, so that all that was written before is known.

        Args:
            moment: Seconds of the monotonic clock.
        """
        if self._list_began < moment:
            self._relist.set()
        async with self._listed:
            await self._listed.wait_for(lambda: self.listed_at >= moment)

    # --- listing ---------------------------------------------------------------------------------------

    async def _list(self) -> str:
        """Tell of all objects; the version of the list."""
        self._relist.clear()
        began = self._list_began = time.monotonic()
        seen: set[Key] = set()
        params = dict(self._list_params)
        while True:
            page = await self._next_page(params)
            version = page.metadata.resource_version
            as_of = version if _has_reached(version, self._version) else ""
            told: set[Key] = set()
            for item in page.items or ():
                self._upsert(item, told, as_of)
            seen |= told
            # Known from now on, so that it is taken back if this list breaks off and the next lacks it.
            self._known |= told
            if not page.metadata.continue_:
                break
            params["continue"] = page.metadata.continue_
        # What Synced sets off takes its time: let others run between it and the last page.
        await asyncio.sleep(0)
        for key in sorted(self._known - seen):
            self._deliver(Deleted(kind=self.kind, key=key))
        self._known = seen
        self._missing = False
        self.lists += 1
        self._deliver(Synced(kind=self.kind))
        async with self._listed:
            self.listed_at = began
            self._listed.notify_all()
        return version

    async def _next_page(self, params: Mapping[str, str]) -> _Page:
        """A server that is too busy for one page of many is asked for it again: it would never give all in a row."""
        while True:
            try:
                return await self._page(params)
            except ApiError as problem:
                if problem.code != 429 or "continue" not in params or self._relist.is_set():
                    raise
                await self._broken(str(problem), problem.retry_after)

    async def _page(self, params: Mapping[str, str], seconds: float = _PAGE_SECONDS) -> _Page:
        body = await self._client.request("GET", self._path, params=params, seconds=seconds)
        try:
            page = msgspec.json.decode(body, type=_Page)
        except msgspec.MsgspecError as problem:
            raise UnreachableError(f"the list is not what it should be: {problem}") from problem
        if not page.metadata.resource_version:
            raise UnreachableError("the list is not what it should be: it has no version")
        return page

    # --- watching --------------------------------------------------------------------------------------

    async def _follow(self, version: str) -> None:
        """Watch, and if nothing comes for long, ask whether there is anything to come.

        A kind that nobody touches may be silent for ever: servers send bookmarks only of kinds that have
        changed since they started. So may a watch from a version that a restored store has yet to reach.
        """
        try:
            await self._watch(version)
        except SilentError:
            await self._must_be_reached()

    async def _must_be_reached(self) -> None:
        """Raise `_ExpiredError` if the store has yet to reach the version that we know: it was restored."""
        seconds = min(self._timing.silence, _PAGE_SECONDS)
        now = (await self._page({**self._params, "limit": "1"}, seconds)).metadata.resource_version
        if not _has_reached(now, self._version):
            raise _ExpiredError(f"the store is at version {now}, before {self._version}") from None

    async def _watch(self, version: str) -> None:
        began = time.monotonic()
        params = {
            **self._params,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(int(random.uniform(*self._timing.watch))),  # noqa: S311
        }
        reading = asyncio.ensure_future(self._read(params))
        told = asyncio.ensure_future(self._relist.wait())
        try:
            await asyncio.wait((reading, told), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            if told.done():
                self._must_list = True
                return
        finally:
            for task in (reading, told):
                task.cancel()
            await asyncio.gather(reading, told, return_exceptions=True)
        if time.monotonic() - began < 1.0:
            # A server that ends each watch at once must not be asked in a tight loop.
            await self._pause()
        else:
            self._failures = 0

    async def _read(self, params: Mapping[str, str]) -> None:
        rest = b""
        async with self._client.stream(
            self._path, params=params, silence_seconds=self._timing.silence
        ) as chunks:
            async for chunk in chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line:
                        self._take(line)
                if len(rest) > _LONGEST_LINE:
                    raise _ExpiredError(f"a watch event is longer than {_LONGEST_LINE} bytes")

    def _take(self, line: bytes) -> None:
        try:
            event = msgspec.json.decode(line, type=_WatchEvent)
        except msgspec.MsgspecError as problem:
            raise UnreachableError(f"a watch event is not what it should be: {problem}") from problem
        match event.type:
            case "ADDED" | "MODIFIED":
                version = self._upsert(event.object, self._known)
            case "DELETED":
                version = self._delete(event.object)
            case "BOOKMARK":
                version = _head(event.object).resource_version
            case _:
                raise _why_ended(event.object)
        self._version = version or self._version
        self._failures = 0

    def _upsert(self, raw: msgspec.Raw, known: set[Key], as_of: str | None = None) -> str:
        """Tell of an object; its version. One that cannot be decoded is told as such.

        Args:
            raw: The object.
            known: Where its name is noted.
            as_of: Of the list that it is in, the version; None if a watch told of it.
        """
        try:
            decoded: Any = self._decoder.decode(raw)
        except msgspec.MsgspecError as problem:
            return self._malformed(raw, known, str(problem))
        known.add(decoded.metadata.key)
        if as_of is None:
            self._deliver(Upserted(kind=self.kind, object=decoded))
        else:
            self._deliver(Listed(kind=self.kind, object=decoded, as_of=as_of))
        version: str = decoded.metadata.resource_version
        return version

    def _malformed(self, raw: msgspec.Raw, known: set[Key], problem: str) -> str:
        head = _head(raw)
        if head.name:
            known.add(head.key)
            self._deliver(Malformed(kind=self.kind, key=head.key, problem=problem))
        else:
            _log.warning("object without a name", kind=self.kind.kind, problem=problem)
        return head.resource_version

    def _delete(self, raw: msgspec.Raw) -> str:
        head = _head(raw)
        self._known.discard(head.key)
        self._deliver(Deleted(kind=self.kind, key=head.key))
        return head.resource_version

    # --- trouble ---------------------------------------------------------------------------------------

    async def _refused(self, problem: ApiError) -> None:
        if problem.code == 404:
            await self._not_there()
            return
        if problem.code == 410 or _is_too_large(problem.message, problem.details.causes):
            # From the start, if it was between two pages: those of two moments do not make one list.
            self._must_list = True
        await self._broken(str(problem), problem.retry_after)

    async def _not_there(self) -> None:
        self._must_list = True
        if self._known or await self._client.why_not_ready() is not None:
            # A server that has just started says so before it has read its CustomResourceDefinitions. What
            # is known stands until a list says otherwise.
            await self._broken("the kind is not served")
            return
        if not self._missing:
            self._missing = True
            self._deliver(Missing(kind=self.kind))
        async with self._listed:
            self.listed_at = time.monotonic()
            self._listed.notify_all()
        await asyncio.sleep(self._timing.missing)

    async def _broken(self, problem: str, retry_after: float = 0.0) -> None:
        self.breaks += 1
        self._interrupted = True
        if not self._failures or problem != self._told:
            _log.info("watch broke", kind=self.kind.kind, problem=problem, failures=self._failures)
        self._told = problem
        await self._pause(retry_after)

    async def _pause(self, retry_after: float = 0.0) -> None:
        timing = self._timing
        longest = min(timing.first_retry * 2.0**self._failures, timing.longest_retry)
        self._failures = min(self._failures + 1, 30)
        await asyncio.sleep(retry_after)
        # Whoever waits for a list need not wait for the pause, too.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(longest / 2, longest)):  # noqa: S311
                await self._relist.wait()


def _head(raw: msgspec.Raw) -> _HeadMeta:
    """Name, namespace and version of an object, as far as they can be read."""
    try:
        return msgspec.json.decode(raw, type=_Head).metadata
    except msgspec.MsgspecError:
        return _HeadMeta()


def _has_reached(now: str, version: str) -> bool:
    """Whether a store whose version is `now` has been at another before, as far as versions can be compared."""
    return now.isdecimal() and version.isdecimal() and int(now) >= int(version)


def _why_ended(raw: msgspec.Raw) -> Exception:
    """What an ERROR event says. Only the answer to a request can say that the kind is not there."""
    problem = ApiError.from_body(None, bytes(raw))
    if problem.code == 410 or _is_too_large(problem.message, problem.details.causes):
        return _ExpiredError(problem.message)
    return UnreachableError(str(problem))


def _is_too_large(message: str, causes: tuple[StatusCause, ...]) -> bool:
    """Whether our version is from a future that the server does not know: its store was restored."""
    return "Too large resource version" in message or any(
        cause.reason == "ResourceVersionTooLarge" for cause in causes
    )
