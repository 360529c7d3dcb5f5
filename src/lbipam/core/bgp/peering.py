"""What is done about one peer, session after session?

    start ──▶ session ──ended──▶ wait (1 s, 2 s, 4 s … with jitter) ──▶ session …
                 ▲
    accept ──────┴── a second connection: RFC 4271 §6.8 says which goes on

A peering owns at most one session that it began and one that the peer began. It tries again for as long as
it is not stopped. It does no I/O and does not know other peers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf

from lbipam.core.bgp import collision, errors
from lbipam.core.bgp.codes import Cease, Family
from lbipam.core.bgp.collision import Rival
from lbipam.core.bgp.errors import Notification
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.peers import (
    Ending,
    Identity,
    LocalAddresses,
    Peer,
    PeerDown,
    PeerEvent,
    PeerStatus,
    PeerUp,
)
from lbipam.core.bgp.routes import RouteSet
from lbipam.core.bgp.session import Connect, Disconnect, Ended, Established, Opened, Session

FIRST_RETRY_SECONDS = 1.0
LASTING_SECONDS = 10.0
"""A session that lasted so long was no failure: the next attempt follows as fast as the first."""
_COLLISION = errors.shutdown(Cease.CONNECTION_COLLISION_RESOLUTION)


@dataclass(slots=True)
class Wishes:
    """What the driver is to do with connections, in order."""

    connect: list[Session] = field(default_factory=list)
    disconnect: list[Session] = field(default_factory=list)
    """After their remaining output."""


class Peering:
    """One peer, from its being wanted to its being wanted no longer."""

    def __init__(self, name: str, peer: Peer, ours: Identity, *, dice: Callable[[], float]) -> None:
        """`dice` gives numbers between 0 and 1, for the jitter of RFC 4271 §10."""
        self.peer = peer
        self.sessions: list[Session] = []
        self._name = name
        self._ours = ours
        self._dice = dice
        self._routes: dict[Family, RouteSet] = {}
        self._up: Session | None = None
        self._up_since = -inf
        self._is_complete = False
        self._is_stopped = True
        self._has_been_up = False
        self._failures = 0
        self._start_at = inf
        self._flaps = 0
        self._last_ending: Ending | None = None
        self._last_notification: Ending | None = None
        self._events: list[PeerEvent] = []
        self._wishes = Wishes()

    # --- what drives it -----------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Seek a session from now on."""
        self._is_stopped = False
        self._begin(now)

    def accept(self, local: LocalAddresses, now: float) -> Session | None:
        """The peer has connected to us; None: it is not wanted."""
        if self._is_stopped:
            return None
        for session in [one for one in self.sessions if one.is_incoming]:
            if session.state is not State.ESTABLISHED:
                session.leave_silently("the peer has connected once more", now)
                self._look(session, now)
        session = self._new_session(is_incoming=True)
        session.start(now)
        session.connected(local, now)
        self._look(session, now)
        return session

    def connected(self, session: Session, local: LocalAddresses, now: float) -> None:
        session.connected(local, now)
        self._look(session, now)

    def receive(self, session: Session, data: bytes, now: float) -> None:
        session.receive(data, now)
        self._look(session, now)

    def closed(self, session: Session, why: str, now: float) -> None:
        session.closed(why, now)
        if session.state is State.ACTIVE:
            # RFC 4271 §8.2.2 would wait here for the peer; a new session waits less.
            session.leave_silently(why, now)
        self._look(session, now)

    def tick(self, now: float) -> None:
        """Do what is due."""
        for session in tuple(self.sessions):
            session.tick(now)
            self._look(session, now)
        if now >= self._start_at:
            self._begin(now)

    def want(self, routes: Mapping[Family, RouteSet]) -> None:
        """All routes that the peer should have; a family that is not named stays as it is."""
        self._routes.update(routes)
        for session in self.sessions:
            session.want(routes)

    def complete(self) -> None:
        """What is wanted is known in full."""
        self._is_complete = True
        for session in self.sessions:
            session.complete()

    def reset(self, notification: Notification, now: float) -> None:
        """End the session, and seek another."""
        for session in tuple(self.sessions):
            session.stop(notification, now)
            self._look(session, now)

    def stop(self, notification: Notification, now: float) -> None:
        """End the session, and seek none; the peer drops our routes."""
        self._is_stopped = True
        self._start_at = inf
        self.reset(notification, now)

    def pause(self, notification: Notification, now: float, *, why: str) -> None:
        """End the session, and seek none; a peer that keeps our routes until we are back is told nothing."""
        self._is_stopped = True
        if self._up and self._up.agreement and self._up.agreement.keeps_routes:
            session = self._up
            session.leave_silently(why, now)
            self._look(session, now)
        self.stop(notification, now)

    def goes_on_as(self, peer: Peer) -> bool:
        """Speak with the peer so from now on if no session ends for it; whether that is so."""
        if (
            self._up is not None
            and replace(peer, connect_retry_seconds=self.peer.connect_retry_seconds) == self.peer
        ):
            self.peer = peer
        return peer == self.peer

    # --- what it is asked ---------------------------------------------------------------------------------

    def take_wishes(self) -> Wishes:
        """Connections to be made and closed."""
        wishes, self._wishes = self._wishes, Wishes()
        return wishes

    def take_events(self) -> list[PeerEvent]:
        """What has happened since last asked."""
        events, self._events = self._events, []
        return events

    def wake_at(self) -> float:
        """When `tick` is due; infinity: not before something else happens."""
        return min((self._start_at, *(session.wake_at() for session in self.sessions)))

    def status(self) -> PeerStatus:
        """How the peer stands now."""
        session = max(self.sessions, key=_progress, default=None)
        status = PeerStatus(
            state=session.state if session else State.IDLE,
            flaps=self._flaps,
            last_ending=self._last_ending,
            last_notification=self._last_notification,
        )
        if session is None or session.agreement is None:
            return status
        agreement = session.agreement
        return replace(
            status,
            asn=agreement.theirs.asn,
            router_id=agreement.theirs.router_id,
            local_address=session.local.address if session.local else None,
            hold_seconds=agreement.hold_seconds,
            keepalive_seconds=agreement.keepalive_seconds,
            families=agreement.families,
            keeps_routes=bool(agreement.keeps_routes),
            advertised=session.advertised(),
            received={family: session.heard.count(family) for family in agreement.families},
            pending=session.pending,
            unspeakable=session.unspeakable,
            refused=session.refused(),
        )

    # --- inside -------------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        self._start_at = inf
        session = self._new_session(is_incoming=False)
        session.start(now)
        self._look(session, now)

    def _new_session(self, *, is_incoming: bool) -> Session:
        session = Session(
            self.peer,
            self._ours,
            is_incoming=is_incoming,
            restarted=not self._has_been_up,
            dice=self._dice,
        )
        session.want(self._routes)
        if self._is_complete:
            session.complete()
        self.sessions.append(session)
        return session

    def _look(self, session: Session, now: float) -> None:
        """Act on what has happened in a session."""
        while events := session.take_events():
            for event in events:
                match event:
                    case Connect():
                        self._wishes.connect.append(session)
                    case Disconnect():
                        self._wishes.disconnect.append(session)
                    case Opened():
                        self._compare(session, now)
                    case Established():
                        self._rise(session, now)
                    case Ended():
                        self._end(session, event, now)

    def _compare(self, newer: Session, now: float) -> None:
        """RFC 4271 §6.8, when an OPEN has come."""
        assert newer.agreement is not None
        for older in tuple(self.sessions):
            if older is newer or older.state not in (State.OPEN_CONFIRM, State.ESTABLISHED):
                continue
            survives = collision.does_newer_survive(
                _rival(older), _rival(newer), ours=self._ours, theirs=newer.agreement.theirs
            )
            loser = older if survives else newer
            if survives and older.state is State.ESTABLISHED:
                loser.leave_silently("the peer has restarted", now)
            else:
                loser.yield_to_other(_COLLISION, now)
            if survives:
                self._look(older, now)

    def _rise(self, session: Session, now: float) -> None:
        if session.state is not State.ESTABLISHED:
            return  # it was over as soon as it was up: the attempt has failed
        self._has_been_up = True
        self._up, self._up_since = session, now
        self._last_notification = None
        self._start_at = inf
        self._events.append(PeerUp(peer=self._name))
        for other in tuple(self.sessions):
            if other is not session and other.state in (State.CONNECT, State.ACTIVE):
                other.leave_silently("another connection goes on", now)
                self._look(other, now)

    def _end(self, session: Session, event: Ended, now: float) -> None:
        self.sessions.remove(session)
        if event.ending.notification is not None:
            self._last_notification = event.ending
        if session is self._up:
            self._up = None
            self._flaps += 1
            self._events.append(PeerDown(peer=self._name, ending=event.ending))
            self._failures = 0 if now - self._up_since >= LASTING_SECONDS else self._failures
        # Who connects to us and says nothing, or leaves again, does not put our own attempts off.
        if any(not one.is_incoming or one.agreement is not None for one in self.sessions):
            return
        self._last_ending = event.ending
        if not self._is_stopped and self._start_at == inf:
            self._start_at = now + self._delay()
            self._failures += 1

    def _delay(self) -> float:
        longest = float(self.peer.connect_retry_seconds)
        delay = min(longest, FIRST_RETRY_SECONDS * 2.0 ** min(self._failures, 16))
        return delay * (0.75 + 0.25 * self._dice())


_PROGRESS = tuple(State)


def _progress(session: Session) -> int:
    return _PROGRESS.index(session.state)


def _rival(session: Session) -> Rival:
    return Rival(
        state=session.state,
        is_incoming=session.is_incoming,
        outlives_restarts=session.agreement is not None and session.agreement.restarts,
    )
