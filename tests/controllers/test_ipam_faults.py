"""The reconciler among late, lost and refused writes, crashes and take-overs: what an observer sees."""

from typing import Any

from hypothesis import given, note, settings
from hypothesis import strategies as st

from lbipam.controllers.rehearsal import Rehearsal
from lbipam.core.ipam.addresses import Address, format_address
from lbipam.core.ipam.services import ServiceKey
from lbipam.kube import forms, ipam
from lbipam.kube.ipam import IP_POOL, IP_RESERVATION, Managed, Responsibility
from lbipam.kube.kinds import Key
from tests.builders_kube import kube_pool, kube_reservation, kube_service
from tests.core.ipam.test_sharing import pairwise
from tests.doubles import KINDS, Api, Process

names = st.sampled_from(["a", "b", "c", "d"])
services = st.builds(
    lambda name, ips, key, port, color: kube_service(
        name, ips=ips, key=key, color=color, spec={"ports": [{"port": port}]}
    ),
    names,
    st.sampled_from([None, None, None, "10.0.0.1", "10.0.0.0,10.0.0.2"]),
    st.sampled_from([None, None, "k"]),
    st.sampled_from([80, 443]),
    st.sampled_from(["red", "red", "blue"]),
)
pools = st.builds(
    lambda name, cidrs, color, disabled, hold: kube_pool(
        name,
        *cidrs,
        color=color,
        disabled=disabled,
        annotations={"lbipam.dev/hold-released-for": "2s"} if hold else {},
    ),
    st.sampled_from(["p", "q"]),
    st.sampled_from([("10.0.0.0/31",), ("10.0.0.0/30",), ("10.0.0.2/31",), ("10.0.1.0/32",)]),
    st.sampled_from(["red", "red", "", "blue"]),
    st.sampled_from([False, False, True]),
    st.booleans(),
)
reservations = st.builds(
    lambda address, to: kube_reservation("r", address, to=to),
    st.sampled_from(["10.0.0.0", "10.0.0.0/31"]),
    st.sampled_from(["", "default/a"]),
)
trouble = (
    st.tuples(st.just("hear"), st.integers(1, 4))
    | st.tuples(st.just("think"), st.none())
    | st.tuples(st.just("think"), st.none())
    | st.tuples(st.just("send"), st.integers(0, 3))
    | st.tuples(st.just("send"), st.integers(0, 3))
    | st.tuples(st.just("send unheard"), st.integers(0, 3))
    | st.tuples(st.just("late"), st.integers(0, 3))
    | st.tuples(st.just("crash"), st.none())
)
steps = st.lists(
    st.tuples(st.just("service"), services)
    | st.tuples(st.just("service"), services)
    | st.tuples(st.just("unservice"), names)
    | st.tuples(st.just("pool"), pools)
    | st.tuples(st.just("unpool"), st.sampled_from(["p", "q"]))
    | st.tuples(st.just("reserve"), reservations)
    | st.tuples(st.just("unreserve"), st.just("r"))
    | trouble
    | trouble
    | trouble
    | st.tuples(st.just("settle"), st.none()),
    min_size=20,
    max_size=45,
)


class Play:
    """A leader, the writes that former leaders left under way, and an observer."""

    def __init__(self) -> None:
        self.left: list[Any] = []
        self.edited: set[Key] = set()
        """Services that a user has changed since all was quiet: what they show is a process's to mend."""
        self.api = Api(self.watch)
        self.leader = Process(self.api).start()
        self.api.put(kube_pool("p", "10.0.0.0/31"))

    def watch(self) -> None:
        """No address is shown by two Services that may not share it."""
        holders: dict[Address, list[Managed]] = {}
        for service in self.api.objects[forms.SERVICE].values():
            reading = ipam.read_service(service, Responsibility())
            assert isinstance(reading, Managed)
            for address in ipam.shown_addresses(service):
                for other in holders.setdefault(address, []):
                    one, two = other.request, reading.request
                    assert pairwise((one.key, one.sharing), (two.key, two.sharing)) or self.excused(
                        one.key, two.key
                    ), f"{one.key} and {two.key} both show {format_address(address)}"
                holders[address].append(reading)

    def excused(self, *keys: Any) -> bool:
        """Whether a user has just changed how one of them shares, and no process has answered yet."""
        return any(Key(*key) in self.edited for key in keys)

    def do(self, verb: str, what: Any) -> None:
        leader = self.leader
        match verb:
            case "service":
                self.edited.add(what.metadata.key)
                self.api.put(what)
            case "unservice":
                self.api.delete(forms.SERVICE, Key("default", what))
            case "pool":
                self.api.put(what)
            case "unpool":
                self.api.delete(IP_POOL, Key("", what))
            case "reserve":
                self.api.put(what)
            case "unreserve":
                self.api.delete(IP_RESERVATION, Key("", what))
            case "hear":
                for _ in range(what):
                    leader.hear()
            case "think":
                leader.think()
            case "send" | "send unheard" if leader.outbox:
                leader.send(what, heard=verb == "send")
            case "late" if self.left:
                self.api.land(self.left.pop(what % len(self.left)))
            case "crash":
                leader.stop()
                self.left += [write for _, write in leader.outbox]
                self.leader = Process(self.api, now=leader.now + 20).start(takeover=True)
            case "settle":
                leader.settle()
                self.edited.clear()
            case _:
                pass


def play(moves: list[tuple[str, Any]]) -> Play:
    made = Play()
    for verb, what in moves:
        made.do(verb, what)
    return made


@settings(max_examples=400, deadline=None)
@given(steps)
def test_no_address_is_ever_shown_twice_and_all_comes_to_rest(moves: list[tuple[str, Any]]) -> None:
    made = play(moves)
    made.leader.settle()
    made.edited.clear()
    made.watch()
    world = Rehearsal(now=made.leader.now)
    world.begin({kind: made.api.objects[kind].values() for kind in KINDS})
    note(f"{world.writes}")
    wanted = [write for write in world.writes if write.kind is forms.SERVICE]
    assert wanted == [], "a fresh start from the outcome has nothing to change"


quiet = st.lists(trouble, min_size=10, max_size=30)


@settings(max_examples=300, deadline=None)
@given(steps, quiet, names)
def test_a_service_whose_wish_stays_keeps_its_address(
    moves: list[tuple[str, Any]], troubles: list[tuple[str, Any]], newcomer: str
) -> None:
    made = play(moves)
    made.leader.settle()
    made.edited.clear()
    # What only the status shows was given by nobody who leads, or its pool has gone with a former leader.
    ledger = made.leader.ipam.ledger
    before = {key: ledger.claims_of(ServiceKey(*key)) for key in made.api.objects[forms.SERVICE]}
    key = Key("default", f"new-{newcomer}")
    made.api.put(kube_service(key.name, color="red", created="2026-06-01T00:00:00Z"))
    for verb, what in troubles:
        made.do(verb, what)
        for held, addresses in before.items():
            now = ipam.shown_addresses(made.api.objects[forms.SERVICE][held])
            assert set(addresses) <= set(now), f"{held} lost an address"
    made.leader.settle()
    for held, addresses in before.items():
        assert set(addresses) <= set(ipam.shown_addresses(made.api.objects[forms.SERVICE][held]))
