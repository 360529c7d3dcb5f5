"""Who holds an address: spread, stability and preference; and never two at once, whatever the network does."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbipam.core.l2 import election
from lbipam.core.l2.announcements import Address
from lbipam.core.l2.election import Candidates, Election, Lease, Timing

TIMING = Timing(duration_seconds=3, renew_deadline_seconds=2.5)
NODES = ("n1", "n2", "n3")
EVERYWHERE = Candidates(nodes=frozenset(NODES))


def addresses(count: int) -> list[Address]:
    return [ip_address(f"198.18.{index // 256}.{index % 256}") for index in range(count)]


def one_held_by(node: str, candidates: Candidates = EVERYWHERE) -> Address:
    """An address that this node is first in line for."""
    return next(address for address in addresses(1000) if election.ranking(address, candidates)[0] == node)


names = st.sets(st.sampled_from([f"node-{number}" for number in range(8)]), min_size=1)
some_address = st.ip_addresses()


# --- The ranking -------------------------------------------------------------------------------------


def test_the_ranking_is_the_same_in_every_process_and_release() -> None:
    assert election.ranking(ip_address("192.0.2.80"), EVERYWHERE) == ("n3", "n2", "n1")
    assert election.ranking(ip_address("2001:db8::80"), EVERYWHERE) == ("n1", "n2", "n3")


def test_addresses_spread_evenly() -> None:
    nodes = Candidates(nodes=frozenset(f"node-{number}" for number in range(10)))
    load = Counter(election.ranking(address, nodes)[0] for address in addresses(10_000))
    assert all(880 < count < 1120 for count in load.values())


@given(some_address, names, st.data())
def test_losing_a_node_moves_only_what_it_held(
    address: Address, nodes: set[str], data: st.DataObject
) -> None:
    lost = data.draw(st.sampled_from(sorted(nodes)))
    ranked = election.ranking(address, Candidates(nodes=frozenset(nodes)))
    before = election.first_live(ranked, nodes)
    after = election.first_live(ranked, nodes - {lost})
    assert after == before or before == lost
    assert election.ranking(address, Candidates(nodes=frozenset(nodes - {lost}))) == tuple(
        node for node in ranked if node != lost
    )


@given(some_address, names, names)
def test_a_preferred_node_holds_the_address_while_it_is_live(
    address: Address, nodes: set[str], preferred: set[str]
) -> None:
    candidates = Candidates(nodes=frozenset(nodes), preferred=frozenset(preferred))
    ranked = election.ranking(address, candidates)
    assert set(ranked) == nodes
    assert set(ranked[: len(nodes & preferred)]) == nodes & preferred
    assert election.first_live(ranked, nodes - preferred) == election.first_live(
        election.ranking(address, Candidates(nodes=frozenset(nodes))), nodes - preferred
    )


def test_nobody_holds_what_no_live_node_may_hold() -> None:
    assert election.first_live(election.ranking(ip_address("::1"), EVERYWHERE), {"n4"}) is None
    assert election.ranking(ip_address("::1"), Candidates(nodes=frozenset())) == ()


# --- Sharers -----------------------------------------------------------------------------------------


def sharing(*nodes: str, preferred: Iterable[str] = ()) -> Candidates:
    return Candidates(nodes=frozenset(nodes), preferred=frozenset(preferred))


@pytest.mark.parametrize(
    ("sharers", "nodes"),
    [
        ([], set()),
        ([sharing()], set()),
        ([sharing("n1", "n2", "n3"), sharing("n2", "n3")], {"n2", "n3"}),
        ([sharing("n1", "n2"), sharing()], {"n1", "n2"}),
        ([sharing("n1"), sharing("n2")], {"n1", "n2"}),
        ([sharing("n1", "n2"), sharing("n2", "n3"), sharing("n4")], {"n2"}),
    ],
    ids=["none", "nowhere", "intersection", "one nowhere", "apart", "the most served"],
)
def test_sharers_agree_on_the_nodes_that_serve_most_of_them(
    sharers: list[Candidates], nodes: set[str]
) -> None:
    assert election.agreed(sharers) == election.agreed(reversed(sharers)) == sharing(*nodes)


def test_a_node_that_one_sharer_prefers_is_preferred_if_it_may_hold_the_address() -> None:
    agreed = election.agreed([sharing("n1", "n2", preferred=["n1", "n9"]), sharing("n1", "n2")])
    assert agreed == sharing("n1", "n2", preferred=["n1"])


# --- One node's side ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("duration", "deadline"), [(3, 3), (101, 99), (3, 0), (3, -1), (1, 2)])
def test_a_timing_under_which_two_could_hold_an_address_is_refused(duration: float, deadline: float) -> None:
    timing = Timing(duration_seconds=duration, renew_deadline_seconds=deadline)
    assert timing.why_unsafe() is not None
    with pytest.raises(ValueError, match="renew deadline"):
        Election(node="n1", timing=timing)


@dataclass
class Side:
    """The election on n1, with the other nodes' renewals told by hand."""

    election: Election = field(default_factory=lambda: Election(node="n1", timing=TIMING))
    versions: int = 0

    def version(self) -> str:
        self.versions += 1
        return str(self.versions)

    def renew(self, now: float) -> None:
        """Renew, and see the renewal come back."""
        version = self.version()
        self.election.renewed(version=version, word=self.election.word, started_at=now, now=now)
        self.come_back(version, now)

    def come_back(self, version: str, now: float) -> None:
        self.election.saw(Lease(node="n1", version=version, duration_seconds=3), now)

    def saw(
        self,
        node: str,
        now: float,
        claims: Iterable[Address] = (),
        *,
        contested: Iterable[Address] = (),
        version: str | None = None,
    ) -> None:
        lease = Lease(
            node=node,
            version=version or self.version(),
            duration_seconds=3,
            claims=frozenset(address.packed for address in claims),
            contested=frozenset(address.packed for address in contested),
        )
        self.election.saw(lease, now)


def test_a_node_alone_holds_what_it_may_hold() -> None:
    side = Side()
    here, elsewhere = addresses(2)
    side.election.want({here: EVERYWHERE, elsewhere: sharing("n2")}, now=0)
    assert side.election.held == frozenset()
    assert side.election.claims == {here}
    side.renew(0)
    assert side.election.held == {here}
    assert dict(side.election.holders) == {here: "n1", elsewhere: None}
    assert not side.election.was_elsewhere(here)


def test_nothing_is_held_before_our_own_word_has_come_back() -> None:
    side = Side()
    side.election.want(dict.fromkeys(addresses(1), EVERYWHERE), now=0)
    side.election.renewed(version="1", word=side.election.word, started_at=0, now=0)
    assert side.election.held == frozenset()
    side.come_back("0", 0)
    assert side.election.held == frozenset()
    side.come_back("1", 0)
    assert len(side.election.held) == 1


def test_our_word_may_come_back_before_the_answer_to_it() -> None:
    side = Side()
    side.election.want(dict.fromkeys(addresses(1), EVERYWHERE), now=0)
    side.come_back("1", 0)
    assert side.election.held == frozenset()
    side.election.renewed(version="1", word=side.election.word, started_at=0, now=0)
    assert len(side.election.held) == 1


def test_what_was_claimed_given_up_and_claimed_again_is_held_only_by_the_second_word() -> None:
    side = Side()
    address = one_held_by("n2", sharing("n1", "n2"))
    side.election.want({address: sharing("n1", "n2")}, now=0)
    first = side.election.word
    side.saw("n2", 0)
    assert side.election.claims == frozenset()
    side.election.released("n2", 0)
    side.election.renewed(version="1", word=first, started_at=0, now=0)
    side.come_back("1", 0)
    assert side.election.held == frozenset()
    side.renew(0)
    assert side.election.held == {address}


def test_a_node_that_cannot_renew_holds_nothing_after_its_deadline() -> None:
    side = Side()
    side.election.want(dict.fromkeys(addresses(1), EVERYWHERE), now=0)
    side.renew(0)
    assert side.election.wake_at() == side.election.valid_until == 2.5
    side.election.tick(2.49)
    assert len(side.election.held) == 1
    side.election.tick(2.5)
    assert side.election.held == frozenset()
    assert side.election.wake_at() == inf
    side.election.renewed(version="99", word=side.election.word, started_at=3, now=3)
    assert side.election.held == frozenset()
    side.renew(4)
    assert len(side.election.held) == 1


def test_a_renewal_that_was_accepted_too_late_holds_nothing() -> None:
    side = Side()
    side.election.want(dict.fromkeys(addresses(1), EVERYWHERE), now=0)
    side.election.renewed(version="1", word=side.election.word, started_at=0, now=2.5)
    side.come_back("1", 2.5)
    assert side.election.held == frozenset()


def test_nothing_is_held_at_a_bound_whatever_the_lease_says_until_there_is_another() -> None:
    side = Side()
    (address,) = addresses(1)
    side.election.want({address: sharing("n1")}, now=0)
    side.renew(0)
    side.election.bound(0.5, 0.1)
    assert (side.election.valid_until, side.election.wake_at()) == (0.5, 0.5)
    side.election.tick(0.4)
    assert side.election.held == {address}
    side.election.tick(0.5)
    assert side.election.held == set()
    side.election.bound(0.9, 0.6)
    assert side.election.held == {address}


def test_a_lost_nodes_addresses_are_taken_once_it_has_not_been_seen_renewing_for_its_duration() -> None:
    side = Side()
    address = one_held_by("n2", sharing("n1", "n2"))
    side.election.want({address: sharing("n1", "n2")}, now=0)
    side.saw("n2", 0, [address], version="x")
    side.renew(0)
    side.saw("n2", 2, [address], version="x")
    side.renew(2)
    assert side.election.wake_at() == 3
    side.election.tick(2.99)
    assert side.election.holders[address] == "n2"
    side.election.tick(3)
    assert side.election.holders[address] == "n1"
    assert side.election.held == frozenset()
    assert side.election.claims == {address}
    side.renew(3)
    assert side.election.held == {address}
    assert side.election.was_elsewhere(address)


def test_a_released_lease_is_not_waited_for() -> None:
    side = Side()
    address = one_held_by("n2", sharing("n1", "n2"))
    side.election.want({address: sharing("n1", "n2")}, now=0)
    side.saw("n2", 0, [address])
    side.renew(0)
    side.election.released("n2", 1)
    side.election.released("n9", 1)
    side.renew(1)
    assert side.election.held == {address}


def test_an_address_is_not_taken_while_a_live_node_claims_it() -> None:
    side = Side()
    address = one_held_by("n1")
    side.election.want({address: EVERYWHERE}, now=0)
    side.saw("n2", 0, [address])
    side.renew(0)
    assert side.election.holders[address] == "n1"
    assert side.election.held == frozenset()
    side.saw("n2", 0.1)
    assert side.election.held == {address}


def test_an_address_that_is_held_is_kept_whoever_claims_it() -> None:
    side = Side()
    address = one_held_by("n1")
    side.election.want({address: EVERYWHERE}, now=0)
    side.renew(0)
    side.saw("n2", 0, [address])
    side.renew(1)
    assert side.election.held == {address}


def test_an_address_is_given_up_as_soon_as_a_better_node_is_seen() -> None:
    side = Side()
    theirs, ours = one_held_by("n2"), one_held_by("n1")
    side.election.want({theirs: EVERYWHERE, ours: EVERYWHERE}, now=0)
    side.renew(0)
    assert side.election.held == {theirs, ours}
    said = side.election.word
    side.saw("n2", 1)
    assert side.election.held == side.election.claims == {ours}
    assert side.election.word != said


def test_an_address_that_a_live_node_held_is_taken_once_its_lease_does_not_claim_it_any_more() -> None:
    side = Side()
    address = one_held_by("n2")
    side.saw("n2", 0, [address])
    side.election.want({address: EVERYWHERE}, now=0)
    side.renew(0)
    side.election.want({address: sharing("n1", "n3")}, now=1)
    assert side.election.claims == {address}
    side.renew(1)
    assert side.election.held == frozenset()
    side.saw("n2", 1)
    assert side.election.held == {address}
    assert side.election.was_elsewhere(address)


def test_a_new_address_is_told_from_one_that_was_there_when_we_came() -> None:
    side = Side()
    old, new = addresses(2)
    candidates = sharing("n1", "n2", preferred=["n1"])
    side.saw("n2", 0)
    side.election.want({old: candidates}, now=0)
    side.renew(0)
    side.election.want({old: candidates, new: candidates}, now=1)
    assert side.election.held == {old}
    side.renew(1)
    assert side.election.held == {old, new}
    assert side.election.was_elsewhere(old)
    assert not side.election.was_elsewhere(new)


def test_an_address_that_was_there_when_we_came_is_a_new_one_when_it_comes_back() -> None:
    side = Side()
    (address,) = addresses(1)
    candidates = sharing("n1", "n2", preferred=["n1"])
    side.saw("n2", 0)
    side.election.want({address: candidates}, now=0)
    assert side.election.was_elsewhere(address)
    side.election.want({address: None}, now=1)
    side.election.want({address: candidates}, now=2)
    side.renew(2)
    assert side.election.held == {address}
    assert not side.election.was_elsewhere(address)


def test_an_address_that_nobody_could_answer_for_meanwhile_was_not_elsewhere() -> None:
    side = Side()
    (address,) = addresses(1)
    everybody, nobody = sharing("n1", "n2", preferred=["n2"]), Candidates(nodes=frozenset())
    side.saw("n2", 0)
    side.election.want({address: everybody}, now=0)
    side.election.released("n2", 1)
    assert side.election.was_elsewhere(address)
    side.election.want({address: nobody}, now=2)
    side.election.want({address: everybody}, now=3)
    side.renew(3)
    assert side.election.held == {address}
    assert not side.election.was_elsewhere(address)


def test_an_address_that_another_host_has_was_not_elsewhere_until_a_node_answers_for_it() -> None:
    side = Side()
    (address,) = addresses(1)
    side.saw("n2", 0, contested=[address])
    side.election.want({address: sharing("n1", "n2", preferred=["n2"])}, now=0)
    side.renew(0)
    side.election.released("n2", 1)
    assert side.election.holders == {address: "n1"}
    assert not side.election.was_elsewhere(address)
    side.saw("n2", 2, [address])
    side.election.released("n2", 3)
    assert side.election.was_elsewhere(address)


def test_an_address_that_another_host_has_when_we_come_was_not_elsewhere() -> None:
    side = Side()
    address = next(one for one in addresses(100) if election.ranking(one, EVERYWHERE) == ("n1", "n2", "n3"))
    side.saw("n2", 0, contested=[address])
    side.saw("n3", 0)
    side.election.want({address: EVERYWHERE}, now=0)
    side.renew(0)
    assert side.election.held == {address}
    assert not side.election.was_elsewhere(address)


def test_changes_can_be_told_without_telling_everything() -> None:
    side = Side()
    first, second = addresses(2)
    alone = Candidates(nodes=frozenset({"n1"}))
    side.election.want({first: alone}, 0)
    side.renew(0)
    side.election.want({first: None, second: alone}, 0.5)
    side.renew(0.5)
    assert side.election.held == {second}
    side.election.want({second: Candidates(nodes=frozenset({"n2"}))}, 0.6)
    assert side.election.held == set()


def test_it_wakes_at_the_first_of_what_may_end() -> None:
    side = Side()
    side.election.want({one_held_by("n1"): EVERYWHERE}, now=0)
    side.saw("n2", 0)
    side.saw("n3", 0.5)
    side.renew(0.6)
    assert side.election.wake_at() == 3
    side.saw("n2", 1)
    assert side.election.wake_at() == 3.1
    side.renew(1.5)
    assert side.election.wake_at() == 3.5


def test_an_address_that_had_other_candidates_and_is_forgotten_moves_with_none_of_them() -> None:
    side = Side()
    (address,) = addresses(1)
    side.election.want({address: sharing("n1", "n2")}, now=0)
    side.election.want({address: sharing("n1", "n3")}, 0)
    side.election.want({address: None}, 0)
    side.saw("n2", 0)
    assert side.election.holders == {}


def test_an_address_that_is_not_wanted_any_more_is_forgotten() -> None:
    side = Side()
    address = addresses(1)[0]
    side.election.want({address: EVERYWHERE}, now=0)
    side.renew(0)
    side.election.want({address: None}, now=1)
    assert side.election.held == side.election.claims == frozenset()
    assert dict(side.election.holders) == {}


# --- All nodes together ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    """What a node says in a renewal, and when it began to send it by its own clock."""

    started_at: float
    number: int
    claims: frozenset[bytes]


@dataclass
class Store:
    """The API server: Leases and candidates, each told to every node in the order of their writes, some time."""

    leases: list[Lease] = field(default_factory=list)
    wanted: list[dict[Address, Candidates]] = field(default_factory=list)

    def commit(self, node: str, claims: frozenset[bytes]) -> str:
        version = str(len(self.leases))
        duration = TIMING.duration_seconds
        self.leases.append(Lease(node=node, version=version, duration_seconds=duration, claims=claims))
        return version


@dataclass
class Node:
    """One agent: an election, a clock of its own, two watches, and at most one renewal under way."""

    name: str
    store: Store
    rate: float
    election: Election = field(init=False)
    read: int = 0
    read_wanted: int = 0
    sent: Word | None = None
    answer: tuple[str, Word] | None = None

    def __post_init__(self) -> None:
        self.start(0)

    def start(self, at: float) -> None:
        """Start, or start again: list what there is, forget all else."""
        self.election = Election(node=self.name, timing=TIMING)
        self.sent = self.answer = None
        for lease in {lease.node: lease for lease in self.store.leases}.values():
            self.election.saw(lease, self.clock(at))
        self.read, self.read_wanted = len(self.store.leases), len(self.store.wanted)
        self.election.want(self.store.wanted[-1], self.clock(at))

    def clock(self, at: float) -> float:
        return at * self.rate + 100 * NODES.index(self.name)

    def holds(self, at: float) -> set[Address]:
        return set(self.election.held) if self.clock(at) < self.election.valid_until else set()

    def act(self, what: str, at: float) -> None:
        now = self.clock(at)
        match what:
            case "send" if self.sent is None and self.answer is None:
                claims = frozenset(address.packed for address in self.election.claims)
                self.sent = Word(now, self.election.word, claims)
            case "commit" if self.sent is not None:
                word, self.sent = self.sent, None
                self.answer = self.store.commit(self.name, word.claims), word
            case "lose":
                self.sent = self.answer = None
            case "answer" if self.answer is not None:
                (version, word), self.answer = self.answer, None
                self.election.renewed(version=version, word=word.number, started_at=word.started_at, now=now)
            case "read" if self.read < len(self.store.leases):
                self.read += 1
                self.election.saw(self.store.leases[self.read - 1], now)
            case "read wanted" if self.read_wanted < len(self.store.wanted):
                former, wanted = self.store.wanted[self.read_wanted - 1 :][:2]
                self.read_wanted += 1
                self.election.want({**dict.fromkeys(former), **wanted}, now)
            case "catch up":
                while self.read < len(self.store.leases):
                    self.act("read", at)
            case "tick":
                self.election.tick(now)
            case "start":
                self.start(at)
            case _:
                pass


@dataclass
class Cluster:
    rates: tuple[float, ...] = (1.0,) * len(NODES)
    at: float = 0.0
    store: Store = field(default_factory=Store)
    nodes: dict[str, Node] = field(init=False)

    def __post_init__(self) -> None:
        self.store.wanted.append({one_held_by(node): EVERYWHERE for node in NODES})
        self.nodes = {
            name: Node(name=name, store=self.store, rate=rate)
            for name, rate in zip(NODES, self.rates, strict=True)
        }

    def change(self, candidates: Candidates) -> None:
        """Other candidates for one of the addresses; the nodes hear of it when they read."""
        wanted = self.store.wanted[-1]
        self.store.wanted.append({**wanted, next(iter(wanted)): candidates})

    def check(self) -> None:
        for address in self.store.wanted[0]:
            holders = [name for name, node in self.nodes.items() if address in node.holds(self.at)]
            assert len(holders) <= 1, f"{address} is held by {holders}"

    def settle(self, among: Iterable[str]) -> None:
        """A network that works, for long enough."""
        for _ in range(20):
            self.at += 0.25
            for what in ("tick", "read wanted", "send", "commit", "answer", "catch up"):
                for name in among:
                    self.nodes[name].act(what, self.at)
                    self.check()


actions = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(NODES),
            st.sampled_from(
                ["send", "commit", "answer", "read", "read", "catch up", "catch up", "lose", "tick", "start"]
            ),
        ),
        st.tuples(st.sampled_from(NODES), st.sampled_from(["renew", "renew", "read wanted"])),
        st.sampled_from([0.1, 0.5, 1.0, 1.3, 2.4]),
        st.sets(st.sampled_from(NODES), min_size=1).map(lambda nodes: sharing(*nodes)),
    ),
    max_size=60,
)
rates = st.tuples(*[st.sampled_from([0.991, 1.0, 1.009])] * len(NODES))


@settings(max_examples=300, deadline=None)
@given(actions, rates, st.sets(st.sampled_from(NODES), min_size=1))
def test_never_two_nodes_hold_an_address_and_one_does_when_the_network_works(
    steps: list[tuple[str, str] | float | Candidates], rates: tuple[float, ...], left: set[str]
) -> None:
    cluster = Cluster(rates=rates)
    for step in steps:
        match step:
            case Candidates():
                cluster.change(step)
            case (name, "renew"):
                for part in ("send", "commit", "answer", "catch up"):
                    cluster.nodes[name].act(part, cluster.at)
                    cluster.check()
            case (name, what):
                cluster.nodes[name].act(what, cluster.at)
            case _:
                cluster.at += step
        cluster.check()
    cluster.settle(sorted(left))
    for address, candidates in cluster.store.wanted[-1].items():
        expected = election.first_live(election.ranking(address, candidates), left)
        holders = [name for name in NODES if address in cluster.nodes[name].holds(cluster.at)]
        assert holders == ([expected] if expected is not None else [])


def test_a_node_that_joins_takes_its_addresses_within_two_writes() -> None:
    cluster = Cluster()
    cluster.settle(["n1", "n2"])
    address = one_held_by("n3")
    cluster.nodes["n3"].start(cluster.at)
    for writer in ("n3", "n1", "n2"):
        for part in ("send", "commit", "answer"):
            cluster.nodes[writer].act(part, cluster.at)
        for node in cluster.nodes.values():
            node.act("catch up", cluster.at)
            cluster.check()
    assert address in cluster.nodes["n3"].holds(cluster.at)


def test_a_node_that_hears_late_of_other_candidates_keeps_the_address_until_it_does() -> None:
    cluster = Cluster()
    cluster.settle(NODES)
    address = one_held_by("n1")
    cluster.change(sharing("n2"))
    for name in ("n2", "n3"):
        cluster.nodes[name].act("read wanted", cluster.at)

    def renew() -> None:
        cluster.at += 0.25
        for what in ("send", "commit", "answer", "catch up"):
            for node in cluster.nodes.values():
                node.act(what, cluster.at)

    for _ in range(40):
        renew()
        assert address in cluster.nodes["n1"].holds(cluster.at)
        cluster.check()
    cluster.nodes["n1"].act("read wanted", cluster.at)
    renew()
    assert address in cluster.nodes["n2"].holds(cluster.at)


@given(st.data())
def test_what_is_told_step_by_step_is_what_a_fresh_start_finds(data: st.DataObject) -> None:
    wanted = data.draw(
        st.dictionaries(
            st.sampled_from(addresses(6)), names.map(lambda nodes: Candidates(nodes=frozenset(nodes)))
        )
    )
    stepwise, others = Election(node="node-0", timing=TIMING), [f"node-{number}" for number in range(1, 8)]
    live: dict[str, Lease] = {}
    for number, node in enumerate(data.draw(st.lists(st.sampled_from(others), max_size=12))):
        part = data.draw(st.sampled_from(sorted(wanted))) if wanted else None
        stepwise.want({**wanted, **({part: None} if part is not None else {})}, now=0)
        if node in live:
            del live[node]
            stepwise.released(node, now=0)
        else:
            live[node] = Lease(node=node, version=str(number), duration_seconds=3)
            stepwise.saw(live[node], now=0)
    stepwise.want(wanted, now=0)
    afresh = Election(node="node-0", timing=TIMING)
    for lease in live.values():
        afresh.saw(lease, now=0)
    afresh.want(wanted, now=0)
    assert stepwise.holders == afresh.holders
    assert stepwise.view == afresh.view
