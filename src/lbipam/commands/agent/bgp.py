"""BGP on one node: wanted states to speakers, their events and states to the API.

This file decides nothing about routes: `controllers.bgp_node` does, and `core.bgp` speaks.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from functools import partial
from math import inf

import structlog

from lbipam.adapters.bfd_udp import BfdThread, Neighbour
from lbipam.adapters.bgp_tcp import Speaker
from lbipam.adapters.host_network import read_host
from lbipam.adapters.kube_events import Recorder
from lbipam.adapters.kube_writer import Writer
from lbipam.adapters.telemetry import wall_clock
from lbipam.controllers import bfd as paths
from lbipam.controllers import bgp_metrics
from lbipam.controllers.bgp_node import BgpNodeReconciler, Options, Wanted
from lbipam.controllers.bgp_sessions import PeerId
from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.host import Carried, Host
from lbipam.controllers.ports import JsonPatch, Refused, Sample, SampleType, WriteResult
from lbipam.core.bfd import session as bfd
from lbipam.core.bfd.packets import State
from lbipam.core.bgp.codes import Cease
from lbipam.core.bgp.nlri import Prefix
from lbipam.core.bgp.peers import PeerEvent
from lbipam.kube import bgp_forms, bgp_status
from lbipam.kube.bgp import Bfd
from lbipam.kube.kinds import Key, Kind

_log = structlog.get_logger()

_HOST_SECONDS = 10.0
_HOST_RETRY_SECONDS = 1.0
_STATUS_SECONDS = 1.0
"""How often a status is written at most."""
_LOOK_SECONDS = 2.0
"""How often sessions are looked at while nothing happens."""
_REFUSED_SECONDS = 30.0
"""How long to wait before a status is sent again that the server will not have."""


class BgpPart:
    """The part `Part` that announces by BGP.

    Where it `awaits_rules`, it opens no session before it is told what the node carries and refuses: a peer that
    has kept our routes through a restart would take an announcement of less for all there is, and drop the rest.
    """

    def __init__(
        self, cache: Cache, options: Options, *, writer: Writer, recorder: Recorder, awaits_rules: bool
    ) -> None:
        self._cache = cache
        self._options = options
        self._reconciler = BgpNodeReconciler(cache, options)
        self._writer = writer
        self._recorder = recorder
        self._awaits_rules = awaits_rules
        if awaits_rules:
            self._reconciler.refuse(frozenset())
        self._clock = asyncio.get_running_loop().time
        self._speakers: dict[str, Speaker] = {}
        self._bfd: BfdThread[PeerId] | None = None
        self._path_failures: Counter[PeerId] = Counter()
        self._wanted: Wanted | None = None
        self._coming: Wanted | None = None
        """Not acted upon yet: the node may refuse what is unused of its blocks in a moment, or something went wrong."""
        self._host: Host | None = None
        self._read_host_at = -inf
        self._status_at = -inf
        self._status_under_way = False

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return self._options.watched

    @property
    def answers_for(self) -> frozenset[Prefix] | None:
        """Blocks that are announced whole or are to be; None until it is known which."""
        known = [one.answers_for for one in (self._wanted, self._coming) if one is not None]
        return frozenset().union(*known) if known else None

    def observe(self, change: Change) -> None:
        self._reconciler.observe(change)

    def carry(self, carried: Carried, news: AbstractSet[Key]) -> None:
        self._awaits_rules = False
        self._reconciler.carry(carried, news)

    def refuse(self, blocks: AbstractSet[Prefix]) -> None:
        """The node refuses what is unused of these blocks."""
        self._reconciler.refuse(blocks)

    async def step(self) -> None:
        now = self._clock()
        if now >= self._read_host_at:
            await self._read_host(now)
        if self._awaits_rules or self._host is None:
            return
        wanted = self._reconciler.reconcile(now)
        # Else the addresses in a block would be withdrawn some milliseconds before it is announced.
        waits = wanted is not None and bool(wanted.held_back) and self._coming is None
        self._coming = wanted or self._coming
        if self._coming is not None and not waits:
            await self._apply(self._coming)
            self._coming = None
        self._report()

    async def _read_host(self, now: float) -> None:
        try:
            host = await asyncio.to_thread(read_host)
        except OSError as problem:  # such as no free file descriptor: what is known stands
            _log.warning("interfaces and routes not read", problem=str(problem))
            self._read_host_at = now + _HOST_RETRY_SECONDS
            return
        self._read_host_at = now + _HOST_SECONDS
        self._reconciler.see(host)
        if host != self._host:
            self._host = host
            for speaker in self._speakers.values():
                speaker.look_around()
            self._watch_paths()

    async def _apply(self, wanted: Wanted) -> None:
        self._wanted = wanted
        for instance in [one for one in self._speakers if one not in wanted.speakers]:
            await self._speakers.pop(instance).close(
                keep_routes=False, communication="no longer configured", heirs=wanted.speakers.values()
            )
        for instance, state in wanted.speakers.items():
            speaker = self._speakers.get(instance)
            if speaker is None:
                speaker = self._speakers[instance] = Speaker(partial(self._heard, instance))
            speaker.apply(state)
            # Only a whole world is ever reconciled: what was applied is all there is to announce.
            speaker.synced()
        self._watch_paths()
        for instance, problem in wanted.problems:
            _log.warning("BGP configuration", instance=instance, problem=problem)

    def _watch_paths(self) -> None:
        """Have BFD watch whom the configuration names, as the host's networks are now."""
        if self._wanted is None or self._host is None:
            return
        if self._bfd is None:
            if not self._wanted.bfd:
                return
            self._bfd = BfdThread(self._path_changed)
        self._bfd.apply({peer: self._neighbour(peer, how) for peer, how in self._wanted.bfd.items()})

    def _neighbour(self, id_: PeerId, how: Bfd) -> Neighbour:
        assert self._wanted is not None
        assert self._host is not None
        speaker = self._wanted.speakers[id_.instance]
        peer = speaker.peers[id_.name]
        return Neighbour(
            address=peer.address,
            timing=bfd.Timing(interval_seconds=how.interval_seconds, multiplier=how.multiplier),
            local_address=peer.local_address,
            is_many_hops=paths.is_many_hops(peer, speaker.local_asn, self._host),
        )

    def _path_changed(self, peer: PeerId, change: bfd.Change) -> None:
        """A dead path ends the session at once (RFC 5882 §4)."""
        _log.info(
            "BFD",
            instance=peer.instance,
            peer=peer.name,
            state=change.state.name.lower(),
            diagnostic=change.diagnostic.name.lower(),
        )
        if paths.is_failure(change):
            self._path_failures[peer] += 1
            if peer.instance in self._speakers:
                self._speakers[peer.instance].reset(peer.name, Cease.BFD_DOWN)
        config = self._config()
        if config is not None:
            self._recorder.emit(paths.told(peer, change, self._options.kinds.node_config, config))

    def _heard(self, instance: str, event: PeerEvent) -> None:
        told = self._reconciler.tell(instance, event)
        if told is not None:
            _log.info("BGP session", message=told.message)
            self._recorder.emit(told)

    def _config(self) -> bgp_forms.NodeConfig | None:
        return self._cache.objects(self._options.kinds.node_config).get(Key("", self._options.node))

    def _report(self) -> None:
        """Write the status of our CiliumBGPNodeConfig, at most once a second and one at a time."""
        now, config = self._clock(), self._config()
        if config is None or self._wanted is None or self._status_under_way:
            return
        if now - self._status_at < _STATUS_SECONDS:
            return
        self._status_at = now
        operations = bgp_status.status_patch(config, self._observed(), self._problems(), wall_clock())
        if operations:
            self._status_under_way = True
            patch = JsonPatch(
                kind=self._options.kinds.node_config,
                key=Key("", self._options.node),
                operations=operations,
                subresource="status",
            )
            self._writer.submit(patch, self._reported)

    def _problems(self) -> tuple[tuple[str, str], ...]:
        assert self._wanted is not None
        problems = list(self._wanted.problems)
        for instance, speaker in self._speakers.items():
            if speaker.listen_error is not None:
                problems.append((instance, f"cannot listen for peers: {speaker.listen_error}"))
            problems += [(instance, f"peer {peer}: {why}") for peer, why in speaker.problems.items()]
        unwatched = self._bfd.errors() if self._bfd is not None else {}
        problems += [
            (peer.instance, f"peer {peer.name}: BFD cannot watch the path: {why}")
            for peer, why in unwatched.items()
        ]
        return tuple(problems)

    def _reported(self, result: WriteResult) -> None:
        self._status_under_way = False
        if isinstance(result, Refused):
            _log.warning("status refused", problem=f"{result.code} {result.reason}: {result.message}")
            self._status_at = self._clock() + _REFUSED_SECONDS

    def _observed(self) -> dict[tuple[str, str], bgp_status.Observed]:
        assert self._wanted is not None
        observed: dict[tuple[str, str], bgp_status.Observed] = {}
        states = self._path_states()
        for instance, speaker in self._speakers.items():
            peers = self._wanted.speakers[instance].peers
            for name, status in speaker.status().items():
                path = states.get(PeerId(instance, name))
                state = path.name.lower().replace("_", "-") if path is not None else None
                observed[instance, name] = bgp_status.Observed(peer=peers[name], status=status, bfd=state)
        return observed

    def _path_states(self) -> dict[PeerId, State]:
        """How BFD finds the path to each peer that it should watch; down where it cannot."""
        if self._wanted is None or self._bfd is None:
            return {}
        statuses = self._bfd.status()
        return {peer: statuses[peer].state if peer in statuses else State.DOWN for peer in self._wanted.bfd}

    def samples(self) -> Iterator[Sample]:
        """How the sessions and paths stand, as numbers."""
        for instance, speaker in self._speakers.items():
            yield from bgp_metrics.samples(instance, speaker.status())
        for peer, state in self._path_states().items():
            labels = {"instance": peer.instance, "peer": peer.name}
            yield Sample(
                name="lbipam_bfd_session_up",
                help="1 while BFD finds the path to a peer alive.",
                value=float(state is State.UP),
                labels=labels,
            )
            yield Sample(
                name="lbipam_bfd_failures",
                help="How often BFD found the path to a peer dead.",
                value=self._path_failures[peer],
                labels=labels,
                type=SampleType.COUNTER,
            )

    def why_not_healthy(self) -> str | None:
        """Why the process should be restarted; None if it should not."""
        return self._bfd.why_dead() if self._bfd is not None else None

    def wake_at(self) -> float:
        waits = [self._read_host_at, self._clock() + _LOOK_SECONDS]
        if self._wanted is not None:
            waits.append(self._wanted.look_again_at)
        return min(waits)

    async def close(self) -> None:
        # Speakers first: a peer that hears BFD end while it holds the session may drop the routes.
        for speaker in self._speakers.values():
            await speaker.close(keep_routes=True, communication="the agent stops")
        self._speakers.clear()
        if self._bfd is not None:
            await self._bfd.close()
