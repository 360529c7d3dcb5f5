"""Sends writes to the API server: in order per object, eight at a time, until each has its answer.

What the server may do later (429, 5xx, no answer) is sent again, the same bytes, for as long as it takes;
what it refuses goes back to whoever asked. Conditions that we apply are ours by their type, whoever wrote them
before, as Cilium did. Nothing is sent when the fence says that leadership has ended, and
no write outlives it. This file does not know what is written.
"""

import asyncio
import random
import re
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import msgspec
import structlog

from lbipam.adapters.kube_client import (
    FIELD_MANAGER,
    REQUEST_SECONDS,
    ApiError,
    Client,
    SilentError,
    UnreachableError,
)
from lbipam.controllers.ports import (
    Apply,
    Conflict,
    ConflictCause,
    Create,
    Delete,
    Fenced,
    Gone,
    JsonPatch,
    MergePatch,
    Refused,
    Write,
    WriteResult,
    Written,
)
from lbipam.kube.kinds import Key, Kind

_log = structlog.get_logger()

_FIRST_RETRY = 0.1
_LONGEST_RETRY = 5.0
_AGAIN_PER_SECOND = 50
"""How many of the writes that failed are sent again, where many have."""
_JSON = "application/json"
_BY_US = {"fieldManager": FIELD_MANAGER}
_ENOUGH_WAITING = 64
"""With so many more to send no worker runs dry before the next are decided on."""
_MANAGER = re.compile(r'conflicts? with "([^"]+)"')
_BUSY = frozenset({429, 502, 503})
"""Answers of a server that has trouble with every request, not with this one."""

_Target: TypeAlias = tuple[Kind, Key]


def unfenced() -> float:
    """The fence of a process that leads without election: it never ends."""
    return float("inf")


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    params: Mapping[str, str]
    body: bytes
    content_type: str


@dataclass(slots=True)
class _Job:
    """A write on its way to its answer."""

    write: Write
    done: Callable[[WriteResult], None]
    request: _Request
    sent: bool = False
    """Whether it may have arrived."""
    failures: int = 0


class Writer:
    """The port `controllers.ports.Writer`. Run it as a task; cancel it to end it."""

    def __init__(
        self, client: Client, *, workers: int = 8, seconds_left: Callable[[], float] = unfenced
    ) -> None:
        self._client = client
        self._workers = workers
        self._seconds_left = seconds_left
        self._jobs: dict[_Target, deque[_Job]] = {}
        self._ready: asyncio.Queue[_Target] = asyncio.Queue()
        self._open = 0
        self._aside = 0
        """How many objects have a write that failed and is sent again later, beside which others are sent."""
        self._drained = asyncio.Event()
        self._drained.set()

    def submit(self, write: Write, done: Callable[[WriteResult], None]) -> None:
        target = (write.kind, write.key)
        self._open += 1
        self._drained.clear()
        job = _Job(write, done, _request(write))
        jobs = self._jobs.get(target)
        if jobs is not None:
            jobs.append(job)
            return
        self._jobs[target] = deque([job])
        self._ready.put_nowait(target)

    @property
    def full(self) -> bool:
        return self._ready.qsize() >= _ENOUGH_WAITING

    @property
    def waiting(self) -> int:
        """How many writes have no answer yet."""
        return self._open

    async def drained(self) -> None:
        """Return when every write has its answer."""
        await self._drained.wait()

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as workers:
            for _ in range(self._workers):
                workers.create_task(self._work())

    async def _work(self) -> None:
        while True:
            target = await self._ready.get()
            jobs = self._jobs[target]
            result = await self._until_answered(target, jobs[0])
            if result is None:
                continue
            job = jobs.popleft()
            try:
                job.done(result)
            finally:
                self._open -= 1
                if not self._open:
                    self._drained.set()
            if jobs:
                self._ready.put_nowait(target)
            else:
                del self._jobs[target]

    async def _until_answered(self, target: _Target, job: _Job) -> WriteResult | None:
        """Send until there is an answer; None if it takes its turn again later."""
        while (left := self._seconds_left()) > 0:
            try:
                # The fence ends a write even if nothing more is heard of it.
                body = await self._send(job.request, min(left, REQUEST_SECONDS))
                return _written(job.write, body)
            except ApiError as problem:
                if _is_about_conditions_alone(problem) and "force" not in job.request.params:
                    params = {**job.request.params, "force": "true"}
                    job.request = replace(job.request, params=params)
                    continue
                if not problem.may_pass:
                    return _refusal(job.write, problem)
                job.sent = job.sent or problem.code >= 500
                pause = self._pause(job, str(problem), problem.retry_after)
                if problem.code not in _BUSY:
                    self._set_aside(target, pause)
                    return None
            except SilentError as problem:
                job.sent = True
                self._set_aside(target, self._pause(job, str(problem)))
                return None
            except UnreachableError as problem:
                job.sent = True
                pause = self._pause(job, str(problem))
            await asyncio.sleep(pause)
        return Fenced(sent=job.sent)

    def _set_aside(self, target: _Target, pause: float) -> None:
        """Perhaps this fails or hangs for one object alone, by a webhook: others need not wait behind it.

        Or for all, as where etcd is full: then they are not sent again all at once.
        """
        self._aside += 1
        pause = max(pause, self._aside / _AGAIN_PER_SECOND)
        self._wait_aside(target, asyncio.get_running_loop().time() + pause)

    def _wait_aside(self, target: _Target, due: float) -> None:
        loop = asyncio.get_running_loop()
        # However long it waits, it is soon told that the fence has fallen.
        left = min(due - loop.time(), self._seconds_left(), _LONGEST_RETRY)
        if left > 0:
            loop.call_later(left, self._wait_aside, target, due)
            return
        self._aside -= 1
        self._ready.put_nowait(target)

    def _pause(self, job: _Job, problem: str, retry_after: float = 0.0) -> float:
        """How long to wait before the same is sent again: no longer than the fence stands."""
        write = job.write
        _log.info("write is sent again", kind=write.kind.kind, object=str(write.key), problem=problem)
        longest = min(_FIRST_RETRY * 2.0**job.failures, _LONGEST_RETRY)
        job.failures = min(job.failures + 1, 30)
        pause = retry_after + random.uniform(longest / 2, longest)  # noqa: S311
        return max(min(pause, self._seconds_left()), 0.0)

    async def _send(self, request: _Request, seconds: float) -> bytes:
        return await self._client.request(
            request.method,
            request.path,
            params=request.params,
            body=request.body,
            content_type=request.content_type,
            seconds=seconds,
        )


def _request(write: Write) -> _Request:
    namespace, name = write.key
    match write:
        case Apply():
            path = write.kind.path(namespace, name, write.subresource)
            return _patch(path, write.body, "application/apply-patch+yaml")
        case JsonPatch():
            path = write.kind.path(namespace, name, write.subresource)
            return _patch(path, write.operations, "application/json-patch+json")
        case MergePatch():
            return _patch(write.kind.path(namespace, name), write.body, "application/merge-patch+json")
        case Create():
            body = msgspec.json.encode(write.body)
            return _Request("POST", write.kind.path(namespace), _BY_US, body, _JSON)
        case Delete():
            options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": write.uid}}
            return _Request(
                "DELETE", write.kind.path(namespace, name), {}, msgspec.json.encode(options), _JSON
            )


def _patch(path: str, body: object, content_type: str) -> _Request:
    return _Request("PATCH", path, _BY_US, msgspec.json.encode(body), content_type)


def _is_about_conditions_alone(problem: ApiError) -> bool:
    """Whether an apply was refused because others own what it says of conditions, and for nothing else."""
    causes = problem.details.causes
    return bool(causes) and all(
        cause.reason == "FieldManagerConflict" and cause.field.startswith(".status.conditions[")
        for cause in causes
    )


def _written(write: Write, body: bytes) -> WriteResult:
    if isinstance(write, Delete):
        return Written(object=None)
    try:
        return Written(object=msgspec.json.decode(body, type=write.kind.form))
    except msgspec.MsgspecError as problem:
        return Refused(code=200, reason="Undecodable", message=f"the answer cannot be read: {problem}")


def _refusal(write: Write, problem: ApiError) -> WriteResult:
    told, causes = problem.message, problem.details.causes
    if problem.code == 404:
        return Gone()
    if problem.reason == "AlreadyExists":
        return Conflict(cause=ConflictCause.EXISTS)
    if problem.code == 409:
        managers = tuple(dict.fromkeys(_MANAGER.findall(told)))
        if managers or any(cause.reason == "FieldManagerConflict" for cause in causes):
            return Conflict(cause=ConflictCause.OWNED, managers=managers)
        # Apply says "uid mismatch", deletion "the UID in the precondition" or "UID in precondition".
        replaced = "uid mismatch" in told or "UID in" in told
        return Conflict(cause=ConflictCause.REPLACED if replaced else ConflictCause.STALE)
    if problem.code == 422:
        if any(cause.field == "metadata.uid" for cause in causes):
            return Conflict(cause=ConflictCause.REPLACED)
        if isinstance(write, JsonPatch) and not causes:
            # A `test` that fails comes back like this; what is wrong with a result is told as causes.
            return Conflict(cause=ConflictCause.STALE)
    return Refused(code=problem.code, reason=problem.reason, message=told)
