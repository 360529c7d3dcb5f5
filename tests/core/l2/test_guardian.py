"""A dead node's Lease is ended soon; and never that of a node that still answers, whatever the network does."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from lbipam.core.l2.election import DRIFT
from lbipam.core.l2.guardian import BEAT_SECONDS, HELD_SECONDS, PROMISE_SECONDS, Beat, Guardian, Ward

NODES = ("n1", "n2", "n3")
LONG, SHORT = 4.0, 2.0
"""How long a node answers after a renewal that names a guardian, and after one that names none."""


# --- one ward ----------------------------------------------------------------------------------------


def asked(ward: Ward, now: float) -> tuple[str, int]:
    due = ward.beat("7", now)
    assert due is not None
    return due[0], due[1].number


def trusting(*others: str) -> tuple[Ward, str, float]:
    """A ward that has had promises for long enough, from whom, and when the last beat was sent."""
    ward, now = Ward("n1"), 0.0
    ward.may_ask(others, now)
    for _ in range(12):
        guardian, number = asked(ward, now)
        ward.promised(guardian, number, now)
        now += BEAT_SECONDS
    return ward, guardian, now - BEAT_SECONDS


def test_a_guardian_is_named_once_its_promises_have_come_for_a_while() -> None:
    ward = Ward("n1")
    assert ward.beat("7", 0.0) is None
    ward.may_ask(["n2"], 0.0)
    assert ward.to_name(0.0) == ""
    for beat in range(9):
        ward.promised(*asked(ward, beat * BEAT_SECONDS), beat * BEAT_SECONDS)
    assert ward.to_name(1.99) == ""
    assert ward.wake_at(1.99) == 2.0
    assert ward.to_name(2.0) == "n2"


def test_a_guardian_that_is_silent_is_named_no_more_before_its_promise_is_over() -> None:
    ward, guardian, last = trusting("n2")
    ward.naming(guardian)
    ward.named(guardian)
    assert ward.to_name(last + 0.59) == guardian
    assert ward.to_name(last + 0.61) == ""
    assert last + 0.6 < ward.holds_until == last + HELD_SECONDS


def test_a_ward_is_bound_from_when_it_sends_a_name_until_it_has_written_none() -> None:
    ward, guardian, last = trusting("n2")
    assert ward.holds_until == inf
    ward.naming(guardian)
    assert ward.holds_until == last + HELD_SECONDS
    ward.named(guardian)
    ward.naming("")
    assert ward.holds_until == last + HELD_SECONDS
    ward.named("")
    assert ward.holds_until == inf


def test_a_slow_clocks_hold_is_over_before_a_fast_clocks_promise() -> None:
    assert HELD_SECONDS / (1 - DRIFT) < PROMISE_SECONDS / (1 + DRIFT)


def test_a_promise_counts_from_when_its_beat_was_sent_and_an_old_one_for_nothing() -> None:
    ward = Ward("n1")
    ward.may_ask(["n2"], 0.0)
    (_, first), (_, second) = asked(ward, 0.0), asked(ward, 0.25)
    ward.naming("n2")
    ward.promised("n2", second, 0.5)
    assert ward.holds_until == 0.25 + HELD_SECONDS
    ward.promised("n2", first, 0.6)
    ward.promised("n2", second, 0.6)
    ward.promised("n3", second, 0.6)
    ward.promised("n2", 99, 0.6)
    assert ward.holds_until == 0.25 + HELD_SECONDS


def test_another_is_asked_when_the_first_does_not_answer_or_is_gone() -> None:
    ward = Ward("n1")
    ward.may_ask(["n2", "n3"], 0.0)
    first, _ = asked(ward, 0.0)
    assert asked(ward, 2.9)[0] == first
    second, _ = asked(ward, 3.1)
    assert {first, second} == {"n2", "n3"}
    assert asked(ward, 6.2)[0] == first
    ward.may_ask([second], 6.3)
    assert asked(ward, 6.3)[0] == second


def test_a_bound_ward_asks_nobody_else() -> None:
    ward, guardian, last = trusting("n2")
    ward.naming(guardian)
    ward.may_ask(["n3"], last)
    assert asked(ward, last + 60)[0] == guardian
    assert ward.to_name(last + 0.1) == ""
    ward.named("")
    assert asked(ward, last + 60)[0] == "n3"


def test_nodes_have_different_guardians() -> None:
    names = [f"node-{number}" for number in range(30)]
    guardians = set()
    for name in names:
        ward = Ward(name)
        ward.may_ask([other for other in names if other != name], 0.0)
        guardians.add(asked(ward, 0.0)[0])
    assert len(guardians) > 10


# --- one guardian ------------------------------------------------------------------------------------


def beat(version: str) -> Beat:
    return Beat(ward="n1", number=1, version=version)


def test_a_silent_wards_lease_is_ended_once_the_promise_is_over() -> None:
    guardian = Guardian(0.0)
    assert not guardian.promises(beat("1"), "1", 0.0), "it may have begun to end this one before it started"
    assert guardian.promises(beat("2"), "2", 1.0)
    assert guardian.wake_at({"n1": "2"}) == 1.0 + PROMISE_SECONDS
    assert guardian.to_end({"n1": "2"}, 0.99 + PROMISE_SECONDS) == {}
    assert guardian.to_end({"n1": "2"}, 1.0 + PROMISE_SECONDS) == {"n1": "2"}
    assert guardian.to_end({"n1": "2"}, 1.1 + PROMISE_SECONDS) == {}, "told once"
    assert guardian.wake_at({"n1": "2"}) == inf
    assert not guardian.promises(beat("2"), "2", 1.1 + PROMISE_SECONDS)
    assert guardian.to_end({"n1": "3"}, 1.2 + PROMISE_SECONDS) == {"n1": "3"}
    assert guardian.promises(beat("4"), "4", 1.2 + PROMISE_SECONDS)


def test_a_guardian_promises_only_for_the_version_that_it_sees() -> None:
    guardian = Guardian(0.0)
    guardian.promises(beat("1"), "1", 0.0)
    assert not guardian.promises(beat("2"), "3", 0.0)
    assert not guardian.promises(beat(""), None, 0.0)
    assert guardian.promises(beat("3"), "3", 0.0)


def test_a_guardian_that_has_just_started_ends_nothing() -> None:
    guardian = Guardian(5.0)
    assert guardian.to_end({"n1": "1"}, 4.9 + PROMISE_SECONDS) == {}
    assert guardian.to_end({"n1": "1"}, 5.0 + PROMISE_SECONDS) == {"n1": "1"}


# --- all together ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lease:
    version: int
    guardian: str
    ended: bool = False


@dataclass
class Node:
    """One agent: a ward and a guardian, a clock of its own, and what it has seen of the Leases."""

    name: str
    rate: float
    ward: Ward = field(init=False)
    guardian: Guardian = field(init=False)
    seen: dict[str, Lease] = field(default_factory=dict)
    own_version: int = 0
    renewed_until: float = -inf
    under_way: bool = False

    def clock(self, at: float) -> float:
        return at * self.rate + 100 * NODES.index(self.name)

    def start(self, at: float, leases: dict[str, Lease]) -> None:
        self.ward, self.guardian = Ward(self.name), Guardian(self.clock(at))
        self.ward.may_ask([name for name in NODES if name != self.name], self.clock(at))
        self.seen, self.renewed_until, self.under_way = dict(leases), -inf, False
        self.own_version = leases[self.name].version

    def answers(self, at: float) -> bool:
        return self.clock(at) < min(self.renewed_until, self.ward.holds_until)


class World:
    """Nodes, the store of their Leases, and everything that is under way between them, late or for ever."""

    def __init__(self, rates: tuple[float, ...]) -> None:
        self.at = 0.0
        self.leases = {name: Lease(version=number, guardian="") for number, name in enumerate(NODES)}
        self.versions = len(NODES)
        self.nodes = {name: Node(name, rate) for name, rate in zip(NODES, rates, strict=True)}
        self.under_way: list[Callable[[], None]] = []
        for node in self.nodes.values():
            node.start(0.0, self.leases)

    def put(self, name: str, lease: Lease) -> None:
        self.leases[name] = lease

    def next_version(self) -> int:
        self.versions += 1
        return self.versions

    def renew(self, node: Node) -> None:
        """Send a renewal; that it lands, and that its answer arrives, are two things that may happen."""
        if node.under_way:
            return
        now, over = node.clock(self.at), node.own_version
        named = node.ward.to_name(now)
        process = node.ward
        process.naming(named)
        node.under_way = True

        def land() -> None:
            accepted = self.leases[node.name].version == over
            version = self.next_version() if accepted else 0
            if accepted:
                self.put(node.name, Lease(version, named))
            self.under_way.append(lambda: answer(version))

        def answer(version: int) -> None:
            if node.ward is not process:
                return
            node.under_way = False
            if version:
                node.own_version = version
                node.renewed_until = now + (LONG if named else SHORT)
                process.named(named)
            else:
                node.own_version = self.leases[node.name].version

        self.under_way.append(land)

    def give_up(self, node: Node) -> None:
        """The renewal under way has no answer in time; it may still land."""
        node.under_way = False

    def read(self, node: Node) -> None:
        node.seen = dict(self.leases)

    def beat(self, node: Node) -> None:
        due = node.ward.beat(str(node.own_version), node.clock(self.at))
        if due is None:
            return
        guardian, said = self.nodes[due[0]], due[1]
        ward = node.ward

        def arrive() -> None:
            lease = guardian.seen[node.name]
            seen = str(lease.version) if not lease.ended else None
            if guardian.guardian.promises(said, seen, guardian.clock(self.at)):
                self.under_way.append(promised)

        def promised() -> None:
            ward.promised(guardian.name, said.number, node.clock(self.at))

        self.under_way.append(arrive)

    def end(self, node: Node) -> None:
        wards = {
            name: str(lease.version)
            for name, lease in node.seen.items()
            if lease.guardian == node.name and not lease.ended
        }
        for name, version in node.guardian.to_end(wards, node.clock(self.at)).items():
            self.under_way.append(self.ending(name, int(version)))

    def ending(self, name: str, version: int) -> Callable[[], None]:
        def land() -> None:
            if self.leases[name].version == version:
                self.put(name, Lease(self.next_version(), "", ended=True))

        return land

    def check(self) -> None:
        for name, lease in self.leases.items():
            assert not (lease.ended and self.nodes[name].answers(self.at)), f"{name} answers though ended"

    def happens(self, number: int) -> None:
        """One of the things under way comes to pass, in whatever order."""
        if self.under_way:
            self.under_way.pop(number % len(self.under_way))()

    def act(self, what: str, name: str) -> None:
        node = self.nodes[name]
        match what:
            case "start":
                node.start(self.at, self.leases)
            case "smoothly":
                self.pass_smoothly(0.5)
            case "hush":
                self.at += PROMISE_SECONDS + 0.05
                for each in self.nodes.values():
                    self.end(each)
            case "ask":
                before = len(self.under_way)
                self.beat(node)
                while len(self.under_way) > before:
                    self.under_way.pop()()
            case _:
                getattr(self, what)(node)

    def pass_smoothly(self, seconds: float, alive: tuple[str, ...] = NODES) -> None:
        """Time in which everything arrives at once."""
        for _ in range(round(seconds / BEAT_SECONDS)):
            self.at += BEAT_SECONDS
            for what in ("read", "beat", "renew", "end"):
                for name in alive:
                    self.act(what, name)
                    while self.under_way:
                        self.happens(0)
                        self.check()


rates = st.tuples(*[st.sampled_from([0.991, 1.0, 1.009])] * len(NODES))
happenings = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(
                ["renew", "give_up", "read", "beat", "end", "start", "smoothly", "hush", "ask", "ask"]
            ),
            st.sampled_from(NODES),
        ),
        st.integers(min_value=0, max_value=20),
        st.integers(min_value=0, max_value=20),
        st.sampled_from([0.05, 0.25, 0.6, 1.0, 1.57, 1.6]),
    ),
    max_size=80,
)


@settings(max_examples=300, deadline=None)
@given(happenings, rates)
def test_no_node_answers_while_its_lease_is_ended(
    happenings: list[tuple[str, str] | int | float], rates: tuple[float, ...]
) -> None:
    world = World(rates)
    world.pass_smoothly(4)
    assert all(lease.guardian for lease in world.leases.values())
    for one in happenings:
        match one:
            case (what, name):
                world.act(what, name)
            case int():
                world.happens(one)
            case _:
                world.at += one
        world.check()
    world.under_way.clear()
    for node in world.nodes.values():
        world.give_up(node)
    world.pass_smoothly(9)
    assert all(world.nodes[name].answers(world.at) for name in NODES)
    assert all(lease.guardian for lease in world.leases.values())


def test_a_dead_nodes_lease_is_ended_within_two_seconds() -> None:
    world = World((1.0, 1.0, 1.0))
    world.pass_smoothly(4)
    world.pass_smoothly(1.75, alive=("n2", "n3"))
    assert world.leases["n1"].ended
    assert not world.leases["n2"].ended
    assert not world.leases["n3"].ended
