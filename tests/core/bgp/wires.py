"""Two peerings joined by wires that delay, cut and lose."""

from collections import deque
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from random import Random

from lbipam.core.bgp import messages
from lbipam.core.bgp.attributes import Context
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.messages import Splitter, Update
from lbipam.core.bgp.nlri import Nlri
from lbipam.core.bgp.peering import Peering
from lbipam.core.bgp.peers import Identity, LocalAddresses, Peer, PeerEvent
from lbipam.core.bgp.routes import RouteAttributes
from lbipam.core.bgp.session import Session

STEP_SECONDS = 0.05


@dataclass
class Side:
    """A speaker with one peer, and what that peer's routes look like from here."""

    address: IPv4Address
    identity: Identity
    peering: Peering
    events: list[PeerEvent] = field(default_factory=list)
    tables: dict[Session, dict[Nlri, RouteAttributes]] = field(default_factory=dict)

    @property
    def table(self) -> dict[Nlri, RouteAttributes]:
        """What a router would have now: the routes of the session that is established."""
        (session,) = (one for one in self.peering.sessions if one.state is State.ESTABLISHED)
        return self.tables.get(session, {})

    @property
    def local(self) -> LocalAddresses:
        return LocalAddresses(address=self.address, ipv4=self.address)


class Pipe:
    """One direction of a connection: what was sent arrives in order, later, in other pieces."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._held: deque[tuple[float, bytes]] = deque()

    def put(self, data: bytes, now: float) -> None:
        while data:
            length = self._dice.randint(1, 200)
            due = max(now + self._dice.uniform(0, 0.3), self._held[-1][0] if self._held else 0)
            self._held.append((due, data[:length]))
            data = data[length:]

    @property
    def is_empty(self) -> bool:
        return not self._held

    def take(self, now: float) -> bytes:
        parts = []
        while self._held and self._held[0][0] <= now:
            parts.append(self._held.popleft()[1])
        return b"".join(parts)


class Connection:
    """A TCP connection between the sides: two sessions and two pipes, each end closed on its own."""

    def __init__(
        self, caller: Side, called: Side, calling: Session, answering: Session, dice: Random
    ) -> None:
        self.ends = ((caller, calling), (called, answering))
        self.pipes = {id(calling): Pipe(dice), id(answering): Pipe(dice)}
        self.readers = {id(calling): Splitter(), id(answering): Splitter()}
        self.closed: set[int] = set()


class World:
    """Both sides, the time, and the connections between them."""

    def __init__(self, seed: int, one: Side, other: Side, *, loss: float) -> None:
        self.now = 0.0
        self.sides = (one, other)
        self._dice = Random(seed)
        self._loss = loss
        self._connections: list[Connection] = []
        self._calls: list[tuple[Side, Session]] = []

    def run(self, seconds: float, *, loss: float | None = None) -> None:
        self._loss = self._loss if loss is None else loss
        end = self.now + seconds
        while self.now < end:
            self.now += STEP_SECONDS
            for side in self.sides:
                side.peering.tick(self.now)
                self._serve(side)
            self._answer_calls()
            for connection in tuple(self._connections):
                self._carry(connection)

    def _other(self, side: Side) -> Side:
        return self.sides[1] if side is self.sides[0] else self.sides[0]

    def _serve(self, side: Side) -> None:
        wishes = side.peering.take_wishes()
        for session in wishes.disconnect:
            self._calls = [call for call in self._calls if call[1] is not session]
            self._close(session)
        self._calls += [(side, session) for session in wishes.connect]
        side.events += side.peering.take_events()

    def _answer_calls(self) -> None:
        calls, self._calls = self._calls, []
        for side, session in calls:
            if self._dice.random() < self._loss:
                side.peering.closed(session, "connecting: no route", self.now)
                continue
            other = self._other(side)
            answering = other.peering.accept(other.local, self.now)
            if answering is None:
                side.peering.closed(session, "connecting: refused", self.now)
                continue
            self._connections.append(Connection(side, other, session, answering, self._dice))
            side.peering.connected(session, side.local, self.now)
            self._serve(other)
            self._serve(side)

    def _close(self, session: Session) -> None:
        for connection in self._connections:
            if id(session) in connection.pipes:
                connection.pipes[id(session)].put(session.take_output(), self.now)
                connection.closed.add(id(session))

    def _carry(self, connection: Connection) -> None:
        is_cut = self._dice.random() < self._loss / 20
        (one, calling), (other, answering) = connection.ends
        for session, far_side, far_session in (
            (calling, other, answering),
            (answering, one, calling),
        ):
            pipe = connection.pipes[id(session)]
            if id(session) not in connection.closed:
                pipe.put(session.take_output(), self.now)
            data = pipe.take(self.now)
            if id(far_session) in connection.closed:
                continue
            if data:
                self._listen(
                    connection.readers[id(session)], far_side.tables.setdefault(far_session, {}), data
                )
                far_side.peering.receive(far_session, data, self.now)
                self._serve(far_side)
            gone = id(session) in connection.closed and pipe.is_empty
            if (gone or is_cut) and id(far_session) not in connection.closed:
                connection.closed.add(id(far_session))
                far_side.peering.closed(far_session, "the peer closed the connection", self.now)
                self._serve(far_side)
        if len(connection.closed) == 2:
            self._connections.remove(connection)

    def _listen(self, splitter: Splitter, table: dict[Nlri, RouteAttributes], data: bytes) -> None:
        """Keep the table that a router would have from what it hears."""
        splitter.maximum = 65535
        splitter.feed(data)
        for type_, body in splitter:
            message = messages.decode(type_, body, Context())
            if isinstance(message, Update):
                for one in message.withdrawn:
                    del table[one]
                said = RouteAttributes(communities=frozenset(message.attributes.communities))
                table.update(dict.fromkeys(message.nlri, said))


def world(seed: int, *, loss: float = 0.0, restart_seconds: int | None = None) -> World:
    dice = Random(seed + 1)
    sides = []
    for mine, theirs in ((1, 2), (2, 1)):
        address = IPv4Address(f"192.0.2.{mine}")
        identity = Identity(asn=64510 + mine, router_id=address)
        peer = Peer(
            address=ip_address(f"192.0.2.{theirs}"),
            asn=64510 + theirs,
            hold_seconds=9,
            keepalive_seconds=3,
            restart_seconds=restart_seconds,
        )
        sides.append(Side(address, identity, Peering(f"side {theirs}", peer, identity, dice=dice.random)))
    return World(seed, sides[0], sides[1], loss=loss)
