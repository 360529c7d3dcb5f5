"""Who leads, by a Lease: at most one at any time, as long as clocks run at about the same rate.

    leader     ──renew──────renew──────renew─╌╌ no answer ╌╌│ stops writing
                                        └──── renew deadline ┘
    follower   ───────── sees the Lease change ──┐
                                                 └────────── lease duration ──────────│ takes over

The leader counts from before it sent the last renewal that succeeded, the follower from when it saw the
outcome, and the deadline is shorter than the duration: so the leader has stopped before anybody takes over,
whatever hangs. Clocks of other machines are never compared with ours. This file does not know what is led.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from lbipam.adapters.kube_client import FIELD_MANAGER, ApiError, Client, UnreachableError
from lbipam.adapters.kube_reflector import Reflector
from lbipam.controllers.ports import Deleted, Event, Upserted
from lbipam.kube.conditions import micro_timestamp
from lbipam.kube.forms import LEASE, Lease, LeaseSpec

_log = structlog.get_logger()

_RELEASE_SECONDS = 2.0
_UNSETTLED = "lbipam.dev/unsettled"
"""Annotation of a Lease that was given up before the end of a takeover."""


def boot_clock() -> float:
    """Seconds since boot; unlike the monotonic clock it goes on while a machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTiming:
    """Durations of an election in seconds; each is longer than the next."""

    lease: float = 15.0
    renew_deadline: float = 10.0
    retry: float = 2.0

    def __post_init__(self) -> None:
        """Raises `ValueError` for durations with which two could lead at a time."""
        if not self.lease > self.renew_deadline > self.retry > 0:
            raise ValueError("the lease duration must exceed the renew deadline, and that the retry period")


@dataclass(frozen=True, slots=True)
class _Sighting:
    """Another's Lease as it was when it last changed before our eyes."""

    version: str
    runs_out: float
    """When nobody can lead by it any more, on our clock."""


class Elector:
    """One candidate for one Lease. Run it as a task; cancel it to end it, then `release`.

    `on_started(takeover)` is called when it begins to lead: takeover is True if the last lease, another's or
    our own, ran out or was lost, so that its holder may have a write under way, or if a takeover before was not
    brought to its end. `on_stopped()` is called when it ceases to.
    """

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        name: str,
        identity: str,
        on_started: Callable[[bool], None],
        on_stopped: Callable[[], None],
        timing: LeaseTiming | None = None,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self.identity = identity
        self._client = client
        self._namespace, self._name = namespace, name
        self._on_started, self._on_stopped = on_started, on_stopped
        self._timing = timing or LeaseTiming()
        self._clock = clock
        self._valid_until = float("-inf")
        self._leading = False
        self._lost = False
        """Whether it led and lost the Lease, so that a write given up at the fence may still arrive."""
        self._mine: Lease | None = None
        self._acquired: str | None = None
        """The time of acquisition that we wrote last: it tells our Lease from that of a namesake."""
        self._seen: _Sighting | None = None
        self._told = ""
        """Why it could not stand for election last: while that goes on, it is not logged again."""
        self._changed = asyncio.Event()
        self.settled = asyncio.Event()
        """Set once it is known for the first time whether it leads."""

    @property
    def leading(self) -> bool:
        """Whether it leads and may write at this moment."""
        return self.seconds_left() > 0

    def seconds_left(self) -> float:
        """For how long it may go on writing without another renewal."""
        return self._valid_until - self._clock() if self._leading else 0.0

    async def run(self) -> None:
        """Stand for election until cancelled."""
        reflector = Reflector(
            self._client,
            LEASE,
            self._note,
            namespace=self._namespace,
            params={"fieldSelector": f"metadata.name={self._name}"},
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(reflector.run())
            tasks.create_task(self._stand())

    async def release(self, *, unsettled: bool = False) -> None:
        """Give the Lease up, so that a follower need not wait for it to run out. Nothing may be written after.

        Args:
            unsettled: A leader before us may still have a write under way: tell the next that it takes over.
        """
        self._stop()
        if self._acquired is None:
            return
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                while not await self._released({_UNSETTLED: "true"} if unsettled else {}):
                    continue
        except (ApiError, UnreachableError, TimeoutError) as problem:
            _log.info("lease not released", problem=str(problem) or "no answer in time")

    async def _released(self, annotations: Mapping[str, str]) -> bool:
        # Read first: a renewal or an acquisition that was cut off may have arrived all the same.
        lease = await self._get(_RELEASE_SECONDS)
        if lease is None or not self._is_ours(lease):
            return True
        spec = msgspec.structs.replace(
            lease.spec, holder_identity="", lease_duration_seconds=1, renew_time=_now()
        )
        try:
            await self._put(lease, spec, _RELEASE_SECONDS, annotations)
        except ApiError as problem:
            if problem.code != 409:
                raise
            return False
        return True

    def _is_ours(self, lease: Lease) -> bool:
        return lease.spec.holder_identity == self.identity and lease.spec.acquire_time == self._acquired

    def _note(self, event: Event) -> None:
        if isinstance(event, Upserted | Deleted):
            self._changed.set()

    async def _stand(self) -> None:
        while True:
            self._changed.clear()
            if self._leading:
                await self._renew()
            else:
                await self._try_to_lead()

    # --- leading ---------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        await asyncio.sleep(min(self._timing.retry, max(self.seconds_left(), 0.0)))
        assert self._mine is not None
        asked, left = self._clock(), self.seconds_left()
        if left <= 0:
            self._lose("the renew deadline has passed")
            return
        spec = msgspec.structs.replace(self._mine.spec, renew_time=_now())
        try:
            # Half of the time that is left: on a connection that is dead, a second attempt must not come too late.
            renewed = await self._put(self._mine, spec, left / 2)
            # Past the old deadline the fence has fallen, and writes were given up: the gap must be told.
            if self.seconds_left() > 0:
                self._mine, self._valid_until = renewed, asked + self._timing.renew_deadline
        except ApiError as problem:
            _log.info("lease not renewed", problem=str(problem))
            await self._look(self.seconds_left())
        except UnreachableError as problem:
            _log.info("lease not renewed", problem=str(problem), seconds_left=round(self.seconds_left(), 1))
        if self._leading and self.seconds_left() <= 0:
            self._lose("the renew deadline has passed")

    async def _look(self, seconds: float) -> None:
        """Was it refused because an earlier renewal had arrived after all, or somebody else leads?

        That the Lease is gone is told in more than one way: writing it anew is refused for its version, too.
        """
        try:
            lease = await self._get(seconds)
        except (ApiError, UnreachableError):
            return
        if lease is None:
            self._lose("the Lease was deleted")
        elif not self._is_ours(lease):
            self._lose("another holds the Lease")
        else:
            self._mine = lease

    def _lose(self, why: str) -> None:
        _log.warning("no longer leading", why=why, lease=self._name)
        self._lost = True
        self._stop()

    def _stop(self) -> None:
        if self._leading:
            self._leading = False
            self._valid_until = float("-inf")
            self._mine = None
            self._on_stopped()

    # --- following -------------------------------------------------------------------------------------

    async def _try_to_lead(self) -> None:
        try:
            wait = await self._take_or_wait()
            self._told = ""
        except (ApiError, UnreachableError) as problem:
            if str(problem) != self._told:
                _log.info("cannot stand for election", problem=str(problem))
            self._told = str(problem)
            wait = self._timing.retry
        self.settled.set()
        if wait > 0:
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _take_or_wait(self) -> float:
        """Take the Lease if it is to be had; else how long to wait until it may be."""
        lease = await self._get(self._timing.renew_deadline)
        held = lease is not None and bool(lease.spec.holder_identity)
        if lease is not None:
            self._seen = self._sighting(lease)
        # One that was deleted while somebody held it runs out as if it were still there.
        left = self._seen.runs_out - self._clock() if self._seen is not None else 0.0
        if left > 0:
            # Looked at again and again even if nothing is heard: the watch may be the thing that is broken.
            return min(left, self._timing.retry)
        unsettled = lease is not None and _UNSETTLED in (lease.metadata.annotations or {})
        takeover = held or unsettled or self._lost or self._seen is not None
        # Who was faster is heard of at once; a server that refuses for ever is not asked in a tight loop.
        return 0.0 if await self._take(lease, takeover=takeover) else self._timing.retry

    def _sighting(self, lease: Lease) -> _Sighting | None:
        if not lease.spec.holder_identity or self._is_ours(lease):
            return None
        version = lease.metadata.resource_version
        if self._seen is not None and self._seen.version == version:
            return self._seen
        duration = float(lease.spec.lease_duration_seconds or self._timing.lease)
        return _Sighting(version, self._clock() + duration)

    async def _take(self, lease: Lease | None, *, takeover: bool) -> bool:
        """Write the Lease as ours; False if it has changed since it was read."""
        self._acquired = _now()
        spec = LeaseSpec(
            holder_identity=self.identity,
            # Whole seconds; never less than what the renew deadline was checked against.
            lease_duration_seconds=math.ceil(self._timing.lease),
            acquire_time=self._acquired,
            renew_time=self._acquired,
            lease_transitions=(lease.spec.lease_transitions or 0) + 1 if lease is not None else 0,
        )
        asked = self._clock()
        try:
            if lease is None:
                self._mine = await self._create(spec)
            else:
                self._mine = await self._put(lease, spec, self._timing.renew_deadline)
        except ApiError as problem:
            if problem.code == 409:
                return False
            raise
        self._seen = None
        self._valid_until = asked + self._timing.renew_deadline
        if self._clock() >= self._valid_until:
            return True
        self._leading = True
        _log.info("leading", lease=self._name, identity=self.identity, takeover=takeover)
        self._on_started(takeover)
        return True

    # --- requests --------------------------------------------------------------------------------------

    async def _get(self, seconds: float) -> Lease | None:
        try:
            body = await self._client.request(
                "GET", LEASE.path(self._namespace, self._name), seconds=max(seconds, 0.1)
            )
        except ApiError as problem:
            if problem.code == 404:
                return None
            raise
        return lease_in(body)

    async def _create(self, spec: LeaseSpec) -> Lease:
        metadata = {"name": self._name, "namespace": self._namespace}
        return await self._send(
            "POST", LEASE.path(self._namespace), metadata, spec, self._timing.renew_deadline
        )

    async def _put(
        self, lease: Lease, spec: LeaseSpec, seconds: float, annotations: Mapping[str, str] | None = None
    ) -> Lease:
        metadata = {
            "name": self._name,
            "namespace": self._namespace,
            "uid": lease.metadata.uid,
            "resourceVersion": lease.metadata.resource_version,
            "annotations": annotations or {},
        }
        return await self._send("PUT", LEASE.path(self._namespace, self._name), metadata, spec, seconds)

    async def _send(
        self, method: str, path: str, metadata: Mapping[str, Any], spec: LeaseSpec, seconds: float
    ) -> Lease:
        body: dict[str, Any] = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": metadata,
            "spec": spec,
        }
        answer = await self._client.request(
            method,
            path,
            params={"fieldManager": FIELD_MANAGER},
            body=msgspec.json.encode(body),
            seconds=max(seconds, 0.1),
        )
        return lease_in(answer)


def lease_in(body: bytes) -> Lease:
    """The Lease that the server answers with.

    Raises:
        UnreachableError: it cannot be read, so that it is not known what the server has done.
    """
    try:
        return msgspec.json.decode(body, type=Lease)
    except msgspec.MsgspecError as problem:
        raise UnreachableError(f"the Lease cannot be read: {problem}") from problem


def _now() -> str:
    """For people, and to know our Lease again by; it is compared with no clock."""
    return micro_timestamp(time.time())
