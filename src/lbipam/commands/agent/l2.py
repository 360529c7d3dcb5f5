"""Answering on the LAN from one node: wanted addresses to the announcer, our Lease to the API.

    step:  reconcile ─▶ answer for what we hold ─▶ renew the Lease, telling what we hold ─▶ extend the fence

The order is what keeps two nodes from answering for one address: what a renewal tells is answered for
already, and answering goes on only as long as the last renewal that succeeded allows. This file decides
nothing about who holds what: `controllers.l2` and `core.l2.election` do.
"""

import asyncio
from collections.abc import Set as AbstractSet
from math import inf

import msgspec
import structlog

from lbipam.adapters import l2_pipe
from lbipam.adapters.kube_client import FIELD_MANAGER, ApiError, Client, UnreachableError
from lbipam.adapters.kube_events import Recorder
from lbipam.adapters.l2_announcer import Announcer
from lbipam.adapters.telemetry import wall_clock
from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.l2 import L2Reconciler, Options, Wanted
from lbipam.core.l2 import announcements
from lbipam.kube import forms, l2
from lbipam.kube.forms import Lease
from lbipam.kube.kinds import Key, Kind

_log = structlog.get_logger()

_RELEASE_SECONDS = 2.0
_RETRY_SECONDS = 0.2


class L2Part:
    """The part `Part` that answers for addresses on the LAN. Open it before use."""

    def __init__(
        self,
        cache: Cache,
        options: Options,
        *,
        client: Client,
        recorder: Recorder,
        answers_echo: bool,
        renew_seconds: float,
    ) -> None:
        self._options = options
        self._reconciler = L2Reconciler(cache, options)
        self._client = client
        self._recorder = recorder
        self._renew_seconds = renew_seconds
        self._announcer = Announcer(
            answers_echo=answers_echo, on_event=self._heard, on_interfaces=self._interfaces_changed
        )
        self._wanted: Wanted | None = None
        self._renewed_at = -inf
        self._lease_key = Key(options.namespace, l2.lease_name(options.node))

    async def open(self) -> None:
        """Start to answer, for nothing yet."""
        await self._announcer.__aenter__()
        self._interfaces_changed()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return self._options.watched

    def observe(self, change: Change) -> None:
        self._reconciler.observe(change, l2_pipe.now())

    def carry(self, services: AbstractSet[Key]) -> None:
        self._reconciler.carry(services)

    async def step(self) -> None:
        now = l2_pipe.now()
        wanted = self._reconciler.reconcile(now)
        before, self._wanted = self._wanted, wanted
        if before is None or (before.addresses, before.handed_over) != (wanted.addresses, wanted.handed_over):
            await self._announcer.apply(
                wanted.addresses, handed_over=wanted.handed_over, valid_until=wanted.valid_until
            )
        elif before.valid_until != wanted.valid_until:
            self._announcer.extend(wanted.valid_until)
        if wanted.must_publish or now - self._renewed_at >= self._renew_seconds:
            await self._renew()

    async def _renew(self) -> None:
        told, started_at = self._reconciler.to_tell(), l2_pipe.now()
        try:
            lease = await self._put(told, self._options.timing.renew_deadline_seconds)
        except (ApiError, UnreachableError) as problem:
            _log.info("lease not renewed", lease=self._lease_key.name, problem=str(problem))
            self._renewed_at = started_at - self._renew_seconds + _RETRY_SECONDS
            return
        self._renewed_at = started_at
        self._reconciler.renewed(lease.metadata.resource_version, told, started_at, l2_pipe.now())
        wanted = self._reconciler.reconcile(l2_pipe.now())
        self._announcer.extend(wanted.valid_until)

    async def _put(self, told: l2.Told | None, seconds: float) -> Lease:
        body = l2.lease_body(self._lease_key, self._options.node, told=told, now=wall_clock())
        answer = await self._client.request(
            "PATCH",
            forms.LEASE.path(*self._lease_key),
            params={"fieldManager": FIELD_MANAGER, "force": "true"},
            body=msgspec.json.encode(body),
            content_type="application/apply-patch+yaml",
            seconds=seconds,
        )
        return msgspec.json.decode(answer, type=Lease)

    def _heard(self, event: announcements.Event) -> None:
        for told in self._reconciler.tell(event):
            _log.info("announcement", message=told.message)
            self._recorder.emit(told)

    def _interfaces_changed(self) -> None:
        self._reconciler.see(self._announcer.interfaces)

    def wake_at(self) -> float:
        """On the event loop's clock, though the election counts on one that a suspended machine does not stop."""
        waits = [self._renewed_at + self._renew_seconds]
        if self._wanted is not None:
            waits.append(self._wanted.look_again_at)
            if self._wanted.must_publish:
                waits.append(self._renewed_at + _RETRY_SECONDS)
        return asyncio.get_running_loop().time() + max(min(waits) - l2_pipe.now(), 0.0)

    async def close(self) -> None:
        await self._announcer.close()
        try:
            # Only now, with nothing answered any more: others take over at once.
            await self._put(None, _RELEASE_SECONDS)
        except (ApiError, UnreachableError) as problem:
            _log.info("lease not released", problem=str(problem))
