"""Tells users of what happened, as Kubernetes Events: counted when they repeat, dropped when there are too many.

Events are advice: they take their turn after everything else, they are not retried, and a flood of them is
cut down to a trickle, in which warnings go first. This file does not know what is worth telling.
"""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import structlog

from lbipam.adapters.kube_client import FIELD_MANAGER, ApiError, Client, UnreachableError
from lbipam.controllers.ports import EmitEvent, Severity
from lbipam.kube.conditions import timestamp

_log = structlog.get_logger()

_BURST = 50
_PER_SECOND = 5.0
_MOST_WAITING = 1000
_MOST_REMEMBERED = 4096
_COMPONENT = "lbipam"
_LONGEST_NAME = 253 - len(".0123456789abcdef")
"""Of an object, in the name of its Event, which may be no longer than its own."""


@dataclass(frozen=True, slots=True)
class _Told:
    """An Event that was written, to be counted up if it comes again."""

    namespace: str
    name: str
    count: int


class Recorder:
    """The port `controllers.ports.Recorder`. Run it as a task; cancel it to end it."""

    def __init__(self, client: Client) -> None:
        self.dropped = 0
        """How many were not told because there were too many."""
        self._client = client
        self._waiting: OrderedDict[EmitEvent, int] = OrderedDict()
        self._told: OrderedDict[EmitEvent, _Told] = OrderedDict()
        self._awake = asyncio.Event()
        self._tokens = float(_BURST)
        self._filled_at = time.monotonic()

    def emit(self, event: EmitEvent) -> None:
        is_urgent = event.severity is Severity.WARNING
        if event not in self._waiting and len(self._waiting) >= _MOST_WAITING:
            self.dropped += 1
            if not is_urgent:
                return
            self._waiting.popitem()
        self._waiting[event] = self._waiting.get(event, 0) + 1
        if is_urgent:
            self._waiting.move_to_end(event, last=False)
        self._awake.set()

    async def run(self) -> None:
        """Write Events until cancelled."""
        while True:
            await self._awake.wait()
            while self._waiting:
                await self._token()
                event, times = self._waiting.popitem(last=False)
                try:
                    await self._tell(event, times)
                except (ApiError, UnreachableError) as problem:
                    _log.info("event not recorded", reason=event.reason, problem=str(problem))
            self._awake.clear()

    async def _token(self) -> None:
        now = time.monotonic()
        self._tokens = min(self._tokens + (now - self._filled_at) * _PER_SECOND, float(_BURST))
        self._filled_at = now
        if self._tokens < 1:
            await asyncio.sleep((1 - self._tokens) / _PER_SECOND)
            self._tokens, self._filled_at = 1.0, time.monotonic()
        self._tokens -= 1

    async def _tell(self, event: EmitEvent, times: int) -> None:
        told = self._told.pop(event, None)
        if told is not None:
            told = await self._count_up(told, times)
        if told is None:
            told = await self._create(event, times)
        self._told[event] = told
        if len(self._told) > _MOST_REMEMBERED:
            self._told.popitem(last=False)

    async def _count_up(self, told: _Told, times: int) -> _Told | None:
        told = replace(told, count=told.count + times)
        body = {"count": told.count, "lastTimestamp": timestamp(time.time())}
        try:
            await self._client.request(
                "PATCH",
                f"/api/v1/namespaces/{told.namespace}/events/{told.name}",
                params={"fieldManager": FIELD_MANAGER},
                body=msgspec.json.encode(body),
                content_type="application/merge-patch+json",
            )
        except ApiError as problem:
            if problem.code == 404:
                return None
            raise
        return told

    async def _create(self, event: EmitEvent, times: int) -> _Told:
        namespace, now = event.key.namespace or "default", timestamp(time.time())
        # Unique as client-go makes it: the object's name and the nanosecond.
        name = f"{event.key.name[:_LONGEST_NAME].rstrip('-.')}.{time.time_ns():x}"
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": event.kind.api_version,
                "kind": event.kind.kind,
                "name": event.key.name,
                "namespace": event.key.namespace,
                "uid": event.uid,
            },
            "type": event.severity.value,
            "reason": event.reason,
            "message": event.message[:1024],
            "source": {"component": _COMPONENT},
            "reportingComponent": _COMPONENT,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": times,
        }
        await self._client.request(
            "POST",
            f"/api/v1/namespaces/{namespace}/events",
            params={"fieldManager": FIELD_MANAGER},
            body=msgspec.json.encode(body),
        )
        return _Told(namespace, name, times)
