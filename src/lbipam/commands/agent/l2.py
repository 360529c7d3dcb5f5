"""Answering on the LAN from one node: wanted addresses to the announcer, our Lease to the API.

    step:     reconcile ─▶ answer for what we hold ─▶ begin to renew the Lease, telling what we claim
                                                  └▶ begin to end the Leases of dead nodes
    renewal:  accepted ─▶ extend the fence, ask for another step
    beat:     promised ─▶ extend the fence

The order is what keeps two nodes from answering for one address: what a renewal does not claim any more is
answered for no more, and answering goes on only as long as the last renewal that succeeded allows. A renewal that waits
for its answer holds nothing up. This file decides nothing about who holds what: `controllers.l2` and
`core.l2.election` do.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from math import inf
from typing import Any

import msgspec
import structlog

from lbipam.adapters import l2_pipe
from lbipam.adapters.kube_client import FIELD_MANAGER, ApiError, Client, UnreachableError
from lbipam.adapters.kube_events import Recorder
from lbipam.adapters.kube_lease import lease_in
from lbipam.adapters.l2_announcer import Announcer
from lbipam.adapters.l2_beats import Beats
from lbipam.adapters.telemetry import wall_clock
from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.host import Carried
from lbipam.controllers.l2 import L2Reconciler, Options, Wanted
from lbipam.controllers.ports import Sample, SampleType
from lbipam.core.l2 import announcements, guardian
from lbipam.core.l2.guardian import Beat
from lbipam.kube import forms, l2
from lbipam.kube.forms import Lease
from lbipam.kube.kinds import Key, Kind

_log = structlog.get_logger()

_RELEASE_SECONDS = 2.0
_RETRY_SECONDS = 0.2
_TIDY_SECONDS = 60.0
"""How often it is looked for Leases that nodes have left behind."""
_GATHER_SECONDS = 0.1
"""Between two renewals, so that many changes of claims make few writes."""


class L2Part:
    """The part `Part` that answers for addresses on the LAN. Open it before use.

    `wake` is called when there is reason for a step though no object has changed.
    """

    def __init__(
        self,
        cache: Cache,
        options: Options,
        *,
        client: Client,
        recorder: Recorder,
        answers_echo: bool,
        renew_seconds: float,
        wake: Callable[[], None],
        port: int = 0,
    ) -> None:
        self._cache = cache
        self._port = port
        self._options = options
        self._reconciler = L2Reconciler(cache, options, l2_pipe.now())
        self._beats = Beats(options.node, promises=self._promises, promised=self._promised)
        self._beating: asyncio.Task[None] | None = None
        self._endings: dict[str, asyncio.Task[None]] = {}
        self._tidying: asyncio.Task[None] | None = None
        self._tidy_at = -inf
        self._ended = 0
        self._client = client
        self._recorder = recorder
        self._renew_seconds = renew_seconds
        self._wake = wake
        self._announcer = Announcer(
            answers_echo=answers_echo, on_event=self._heard, on_interfaces=self._interfaces_changed
        )
        self._wanted: Wanted | None = None
        self._lease_key = Key(options.namespace, l2.lease_name(options.node))
        self._lease_version: str | None = None
        """That of our last renewal; None where the cache knows better."""
        self._renewal: asyncio.Task[None] | None = None
        self._renew_at = self._not_before = -inf
        self._renewals: Counter[str] = Counter()
        self._trouble = ("", False)
        """Why the last renewal failed, and whether nothing is answered any more for that."""
        self._lans: tuple[announcements.InterfaceStatus, ...] = ()

    async def open(self) -> None:
        """Start to answer, for nothing yet."""
        await self._announcer.__aenter__()
        self._interfaces_changed()
        if not self._port:
            return
        try:
            self._reconciler.guard.port = await self._beats.open(self._port)
        except OSError as problem:
            _log.warning(
                "dead nodes are replaced only when their Leases run out",
                port=self._port,
                problem=str(problem),
            )
            return
        self._reconciler.guard.token = self._beats.token
        self._beating = asyncio.create_task(self._beat(), name="l2 beats")

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return self._options.watched

    @property
    def valid_until(self) -> float:
        """Nothing is answered at or after this time of `l2_pipe.now`."""
        return self._reconciler.valid_until

    def observe(self, change: Change) -> None:
        self._reconciler.observe(change, l2_pipe.now())

    def carry(self, carried: Carried, news: AbstractSet[Key]) -> None:
        self._reconciler.carry(carried, news)

    async def step(self) -> None:
        wanted = self._reconciler.reconcile(l2_pipe.now())
        before, self._wanted = self._wanted, wanted
        is_done = before is not None and before.addresses == wanted.addresses
        if is_done and wanted.addresses:
            is_done = self._announcer.extend(wanted.valid_until)
        if not is_done:
            await self._announcer.apply(
                wanted.addresses, handed_over=wanted.handed_over, valid_until=wanted.valid_until
            )
        self._end(wanted.to_end)
        if wanted.told is not None and l2_pipe.now() >= self._tidy_at:
            self._tidy_at = l2_pipe.now() + _TIDY_SECONDS
            self._tidying = asyncio.create_task(self._tidy(), name="l2 leases left behind")
        if self._renewal is not None and self._renewal.done():
            renewal, self._renewal = self._renewal, None
            renewal.result()
        if wanted.told is not None and self._renewal is None and l2_pipe.now() >= self._renewal_due(wanted):
            self._renewal = asyncio.create_task(self._renew(wanted.told), name="l2 lease")

    def _renewal_due(self, wanted: Wanted) -> float:
        return self._not_before if wanted.must_publish else self._renew_at

    async def _renew(self, told: l2.Told) -> None:
        started_at = l2_pipe.now()
        self._reconciler.sends(told, started_at)
        self._announcer.extend(self.valid_until)
        try:
            lease = await self._put(told, self._options.timing.renew_deadline_seconds)
        except (ApiError, UnreachableError) as problem:
            self._tell_trouble(str(problem))
            self._renewals["failed"] += 1
            self._lease_version = None
            self._renew_at = self._not_before = l2_pipe.now() + _RETRY_SECONDS
        else:
            self._renewals["accepted"] += 1
            self._trouble = ("", False)
            self._lease_version = lease.metadata.resource_version
            # A Lease that lasts longer is renewed less often.
            longer = told.duration_seconds / self._options.timing.duration_seconds
            self._renew_at = started_at + self._renew_seconds * longer
            self._not_before = started_at + _GATHER_SECONDS
            self._reconciler.renewed(self._lease_version, told, started_at, l2_pipe.now())
            self._announcer.extend(self.valid_until)
        # A process that answers no question answers none from the LAN either: others shall take over.
        self._lans = await self._announcer.status()
        asyncio.get_running_loop().call_soon(self._wake)

    def _tell_trouble(self, problem: str) -> None:
        """Log what is new about renewals that fail."""
        before, self._trouble = self._trouble, (problem, l2_pipe.now() >= self.valid_until)
        if self._trouble == before:
            return
        _log.info("lease not renewed", lease=self._lease_key.name, problem=problem)
        if self._trouble[1] and not before[1]:
            _log.warning("nothing is answered on the LAN until the Lease is renewed")

    async def _put(self, told: l2.Told | None, seconds: float) -> Lease:
        version = self._lease_version
        if version is None and (known := self._cache.objects(forms.LEASE).get(self._lease_key)) is not None:
            version = known.metadata.resource_version
        body = l2.lease_body(
            self._lease_key, self._options.node, told=told, now=wall_clock(), version=version
        )
        return await self._apply(self._lease_key, body, seconds)

    async def _apply(self, key: Key, body: Mapping[str, Any], seconds: float) -> Lease:
        answer = await self._client.request(
            "PATCH",
            forms.LEASE.path(*key),
            params={"fieldManager": FIELD_MANAGER, "force": "true"},
            body=msgspec.json.encode(body),
            content_type="application/apply-patch+yaml",
            seconds=seconds,
        )
        return lease_in(answer)

    # --- dead nodes -------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        while True:
            due = self._reconciler.beat(l2_pipe.now())
            if due is not None:
                hearing, beat = due
                self._beats.send(beat, hearing.address, hearing.port, hearing.token)
            await asyncio.sleep(guardian.BEAT_SECONDS)

    def _promises(self, beat: Beat) -> bool:
        return self._reconciler.guard.promises(beat, l2_pipe.now())

    def _promised(self, node: str, number: int) -> None:
        self._reconciler.promised(node, number, l2_pipe.now())
        self._announcer.extend(self.valid_until)

    def _end(self, wards: Mapping[str, str]) -> None:
        """End the Leases of dead nodes; each until it is another version."""
        self._endings = {name: task for name, task in self._endings.items() if not task.done()}
        for node, version in wards.items():
            if node in self._endings:
                self._endings[node].cancel()
            ending = self._end_one(node, version)
            self._endings[node] = asyncio.create_task(ending, name=f"l2 lease of {node}")

    async def _end_one(self, node: str, version: str) -> None:
        key = Key(self._options.namespace, l2.lease_name(node))
        body = l2.lease_body(key, node, told=None, now=wall_clock(), version=version)
        while (lease := self._cache.objects(forms.LEASE).get(key)) is not None:
            if lease.metadata.resource_version != version:
                return
            try:
                await self._apply(key, body, _RELEASE_SECONDS)
            except (ApiError, UnreachableError) as problem:
                _log.info("lease of a silent node not ended", node=node, problem=str(problem))
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                _log.warning("a node is silent: its lease is ended", node=node)
                self._ended += 1
                return

    async def _tidy(self) -> None:
        """Remove what nodes have left behind that are no more; what fails is done another time."""
        for lease in self._reconciler.left_behind():
            metadata = lease.metadata
            as_seen = {"uid": metadata.uid, "resourceVersion": metadata.resource_version}
            options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": as_seen}
            try:
                await self._client.request(
                    "DELETE", forms.LEASE.path(*metadata.key), body=msgspec.json.encode(options)
                )
            except (ApiError, UnreachableError) as problem:
                _log.info("lease of a former node not removed", lease=metadata.name, problem=str(problem))
            else:
                _log.info("lease of a former node removed", lease=metadata.name)

    def _heard(self, event: announcements.Event) -> None:
        self._reconciler.heard(event)
        if isinstance(event, announcements.Conflict):
            # Who holds the address next must know, should this node go before its next renewal.
            self._wake()
        for told in self._reconciler.tell(event):
            _log.info("announcement", message=told.message)
            self._recorder.emit(told)

    def _interfaces_changed(self) -> None:
        self._reconciler.see(self._announcer.interfaces)
        self._wake()

    def wake_at(self) -> float:
        """On the event loop's clock, though the election counts on one that a suspended machine does not stop."""
        if self._wanted is None:
            return inf
        at = self._wanted.look_again_at
        if self._wanted.told is not None and self._renewal is None:
            at = min(at, self._renewal_due(self._wanted))
        return asyncio.get_running_loop().time() + max(at - l2_pipe.now(), 0.0)

    async def close(self) -> None:
        await self._announcer.close()
        tasks = (self._beating, self._tidying, *self._endings.values())
        background = [task for task in tasks if task is not None]
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        self._beats.close()
        if self._renewal is not None:
            await asyncio.wait((self._renewal,), timeout=_RELEASE_SECONDS)
            self._renewal.cancel()
        try:
            # Only now, with nothing answered any more: others take over at once.
            await self._put(None, _RELEASE_SECONDS)
        except (ApiError, UnreachableError) as problem:
            _log.info("lease not released", problem=str(problem))

    # --- numbers ----------------------------------------------------------------------------------------

    def samples(self) -> Iterator[Sample]:
        """What the LAN and the API were told, as of the last renewal."""
        for result in ("accepted", "failed"):
            yield Sample(
                name="lbipam_l2_lease_renewals",
                help="Renewals of the node's Lease, by result: accepted or failed.",
                value=self._renewals[result],
                labels={"result": result},
                type=SampleType.COUNTER,
            )
        yield Sample(
            name="lbipam_l2_leases_ended",
            help="Leases of silent nodes that this node has ended as their guardian.",
            value=self._ended,
            type=SampleType.COUNTER,
        )
        yield Sample(
            name="lbipam_l2_guarded",
            help="1 while another node watches over this one, so that it would be replaced soon.",
            value=float(self._reconciler.is_guarded),
        )
        for direction, count in self._reconciler.moves.items():
            yield Sample(
                name="lbipam_l2_moves",
                help="Addresses that came here from other nodes, or went away to others.",
                value=count,
                labels={"direction": direction.value},
                type=SampleType.COUNTER,
            )
        for lan in self._lans:
            yield from _lan_samples(lan)


def _lan_samples(lan: announcements.InterfaceStatus) -> Iterator[Sample]:
    for stage in announcements.Stage:
        yield Sample(
            name="lbipam_l2_announcements",
            help="Addresses held here, by interface and stage: waiting, probing, announced or conflict.",
            value=lan.stages.get(stage, 0),
            labels={"interface": lan.interface, "stage": stage.value},
        )
    for protocol, count in lan.answered.items():
        yield Sample(
            name="lbipam_l2_requests_answered",
            help="Requests answered, by interface and protocol: arp, ipv6 (with echo) or ipv4 (echo).",
            value=count,
            labels={"interface": lan.interface, "protocol": protocol},
            type=SampleType.COUNTER,
        )
    for reason, count in lan.ignored.items():
        yield Sample(
            name="lbipam_l2_requests_ignored",
            help="Frames that were not answered, by interface and reason.",
            value=count,
            labels={"interface": lan.interface, "reason": reason.value},
            type=SampleType.COUNTER,
        )
    yield Sample(
        name="lbipam_l2_frames_unsent",
        help="Frames that the kernel would not take, by interface.",
        value=lan.unsent,
        labels={"interface": lan.interface},
        type=SampleType.COUNTER,
    )
