"""Whatever users, watches, clocks and leaders do: what must be true once all is quiet.

`LBIPAM_EXAMPLES` says how many histories are played; a few hundred by default.
"""

import os
from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lbipam.controllers.rehearsal import Rehearsal
from lbipam.core.ipam.addresses import Address, format_address
from lbipam.core.ipam.services import ServiceKey
from lbipam.kube import forms, ipam, ipam_status
from lbipam.kube.ipam import IP_POOL, IP_RESERVATION, Managed, Responsibility
from lbipam.kube.kinds import Key
from tests.builders_kube import kube_namespace, kube_pool, kube_reservation, kube_service
from tests.core.ipam.test_sharing import pairwise
from tests.doubles import KINDS, Api, Process

EXAMPLES = int(os.environ.get("LBIPAM_EXAMPLES", "200"))

names = st.sampled_from(["a", "b", "c", "d", "other/e"])
specs = st.fixed_dictionaries(
    {"ports": st.sampled_from([[{"port": 80}], [{"port": 443}]])},
    optional={
        "type": st.sampled_from(["LoadBalancer", "LoadBalancer", "ClusterIP"]),
        "loadBalancerClass": st.sampled_from(["io.cilium/l2-announcer", "somebody/else"]),
        "externalTrafficPolicy": st.sampled_from(["Local", "Cluster"]),
        "ipFamilyPolicy": st.just("PreferDualStack"),
    },
)
services = st.builds(
    lambda name, ips, key, spec, color: kube_service(
        name, ips=ips, key=key, color=color, spec={"ipFamilies": ["IPv4", "IPv6"], **spec}
    ),
    names,
    st.sampled_from([None, None, None, None, "10.0.0.1", "10.0.0.0,10.0.0.2", "none"]),
    st.sampled_from([None, None, None, "k"]),
    specs | st.just({}),
    st.sampled_from(["red", "red", "red", "blue"]),
)
pools = st.builds(
    lambda name, cidrs, color, disabled, hold, ends, auto: kube_pool(
        name,
        *cidrs,
        color=color,
        disabled=disabled,
        allowFirstLastIPs=ends,
        annotations={
            **({"lbipam.dev/hold-released-for": "2s"} if hold else {}),
            **({} if auto else {"lbipam.dev/auto-assign": "false"}),
        },
    ),
    st.sampled_from(["p", "q"]),
    st.sampled_from(
        [("10.0.0.0/31",), ("10.0.0.0/30",), ("10.0.0.2/31", "fd00::/127"), ("10.0.1.0/32",), ("fd00::/127",)]
    ),
    st.sampled_from(["red", "", "", "blue"]),
    st.sampled_from([False, False, True]),
    st.booleans(),
    st.sampled_from(["Yes", "Yes", "No"]),
    st.sampled_from([True, True, True, False]),
)
reservations = st.builds(
    lambda addresses, to: kube_reservation("r", *addresses, to=to),
    st.sampled_from([("10.0.0.0",), ("10.0.0.0/31",), ("10.0.0.1", "fd00::")]),
    st.sampled_from(["", "default/a"]),
)
quotas = st.sampled_from([{}, {"quota": "1"}, {"quota": "2"}])
trouble = st.one_of(
    st.tuples(st.just("hear"), st.integers(1, 4)),
    st.tuples(st.just("think"), st.none()),
    st.tuples(st.just("work"), st.integers(1, 3)),
    st.tuples(st.just("send"), st.integers(0, 3)),
    st.tuples(st.just("send"), st.integers(0, 3)),
    st.tuples(st.just("send unheard"), st.integers(0, 3)),
    st.tuples(st.just("late"), st.integers(0, 3)),
    st.tuples(st.just("relist"), st.none()),
    st.tuples(st.just("clock"), st.sampled_from([-3600, 2, 3600])),
    st.tuples(st.just("crash"), st.none()),
    st.tuples(st.just("elect"), st.none()),
)
wishes = st.one_of(
    st.tuples(st.just("service"), services),
    st.tuples(st.just("service"), services),
    st.tuples(st.just("unservice"), names),
    st.tuples(st.just("pool"), pools),
    st.tuples(st.just("unpool"), st.sampled_from(["p", "q"])),
    st.tuples(st.just("reserve"), reservations),
    st.tuples(st.just("unreserve"), st.just("r")),
    st.tuples(st.just("quota"), quotas),
)
steps = st.lists(
    st.one_of(
        wishes,
        wishes,
        wishes,
        trouble,
        trouble,
        trouble,
        st.tuples(st.just("settle"), st.none()),
    ),
    min_size=15,
    max_size=50,
)


def _key(name: str) -> Key:
    namespace, slash, rest = name.partition("/")
    return Key(namespace, rest) if slash else Key("default", name)


class History:
    """A leader and a standby, the writes that former leaders left under way, and an observer."""

    def __init__(self) -> None:
        self.left: list[Any] = []
        self.edited: set[Key] = set()
        """Services that a user has changed since all was quiet."""
        self.pools_edited = False
        self.born = 0
        self.quiet: dict[Key, tuple[Address, ...]] = {}
        """What each Service that had all it asked for showed when all was quiet."""
        self.api = Api(self.watch)
        self.leader = Process(self.api).start()
        self.standby = Process(self.api).learn()
        self.api.put(kube_pool("p", "10.0.0.0/31"))
        self.settle()

    # --- what happens ----------------------------------------------------------------------------------

    def do(self, verb: str, what: Any) -> None:
        match verb:
            case "service":
                self._put(what)
            case "unservice":
                self.edited.add(_key(what))
                self.api.delete(forms.SERVICE, _key(what))
            case "pool" | "reserve":
                self.pools_edited |= verb == "pool"
                self.api.put(what)
            case "unpool":
                self.pools_edited = True
                self.api.delete(IP_POOL, Key("", what))
            case "unreserve":
                self.api.delete(IP_RESERVATION, Key("", what))
            case "quota":
                self.api.put(kube_namespace("default", **what))
            case "settle":
                self.settle()
            case _:
                self._trouble(verb, what)

    def _put(self, service: forms.Service) -> None:
        key = service.metadata.key
        known = self.api.objects[forms.SERVICE].get(key)
        self.born += known is None
        created = f"2026-01-01T00:{self.born // 2:02}:00Z"
        if known is not None:
            created = known.metadata.creation_timestamp
        metadata = msgspec.structs.replace(service.metadata, creation_timestamp=created)
        self.edited.add(key)
        self.api.put(msgspec.structs.replace(service, metadata=metadata))

    def _trouble(self, verb: str, what: Any) -> None:
        leader = self.leader
        match verb:
            case "hear":
                for process in (leader, self.standby):
                    for _ in range(what):
                        process.hear()
            case "think":
                while leader.hear() or leader.work():
                    pass
            case "work":
                for _ in range(what):
                    leader.work()
            case "send" | "send unheard" if leader.outbox:
                leader.send(what, heard=verb == "send")
            case "late" if self.left:
                self.api.land(self.left.pop(what % len(self.left)))
            case "relist":
                leader.relist()
                self.standby.relist()
            case "clock":
                leader.now += what
            case "crash":
                leader.stop()
                self.left += [write for _, write in leader.outbox]
                self.leader, self.standby = self.standby, Process(self.api, now=leader.now).learn()
                self._take_over()
            case "elect":
                self.left += leader.follow()
                self.leader, self.standby = self.standby, leader
                self._take_over()
            case _:
                pass

    def _take_over(self) -> None:
        self.leader.now = self.standby.now + 1
        self.leader.ipam.lead(takeover=True)

    # --- what must be true -----------------------------------------------------------------------------

    def watch(self) -> None:
        """No address is shown by two Services that may not share it, but for what a user does."""
        holders: dict[Address, list[Managed]] = {}
        for service in self.api.objects[forms.SERVICE].values():
            reading = ipam.read_service(service, Responsibility())
            if not isinstance(reading, Managed):
                continue
            for address in ipam.shown_addresses(service):
                for other in holders.setdefault(address, []):
                    one, two = other.request, reading.request
                    assert pairwise((one.key, one.sharing), (two.key, two.sharing)) or self._excused(
                        one.key, two.key
                    ), f"{one.key} and {two.key} both show {format_address(address)}"
                holders[address].append(reading)

    def _excused(self, *keys: ServiceKey) -> bool:
        return any(Key(*key) in self.edited for key in keys)

    def settle(self) -> None:
        """Let all come to rest, and look."""
        for process in (self.leader, self.standby):
            process.settle()
        self._nobody_lost()
        self.edited.clear()
        self.pools_edited = False
        self.watch()
        written = self.leader.writes
        self.leader.now += 600
        self.leader.settle()
        assert self.leader.writes == written, f"it writes though all is quiet: {self.leader.outbox}"
        self._counters_are_true()
        self._a_fresh_start_gives_and_takes_nothing()
        self.quiet = {
            key: ipam.shown_addresses(service)
            for key, service in self.api.objects[forms.SERVICE].items()
            if ipam_status.says_satisfied(service)
        }

    def _nobody_lost(self) -> None:
        for key, addresses in self.quiet.items():
            service = self.api.objects[forms.SERVICE].get(key)
            if self.pools_edited or service is None or key in self.edited:
                continue
            now = ipam.shown_addresses(service)
            assert {*addresses} <= {*now}, f"{key} lost an address: {addresses} {now}"

    def _counters_are_true(self) -> None:
        held = {
            address
            for service in self.api.objects[forms.SERVICE].values()
            for address in ipam.shown_addresses(service)
        }
        for pool in self.api.objects[IP_POOL].values():
            reading = ipam.read_pool(pool).pool
            usable, ends = set[Address](), set[Address]()
            for block in reading.blocks:
                ends |= {*block.ends(allow_first_last=reading.allow_first_last)}
                usable |= {Address(one) for one in range(block.range.first, block.range.last + 1)}
            used = len(held & (usable - ends)) + len(ends)
            told = {one.type: one.message for one in pool.status.conditions}
            assert told["cilium.io/IPsTotal"] == str(len(usable))
            assert told["cilium.io/IPsUsed"] == str(used), f"{pool.metadata.name} {held}"

    def _a_fresh_start_gives_and_takes_nothing(self) -> None:
        world = Rehearsal(now=self.leader.now)
        objects: dict[Any, Iterable[Any]] = {kind: self.api.objects[kind].values() for kind in KINDS}
        world.begin(objects)
        # The reason that one who waits was told may be out of date: only what can help it wakes it.
        for key, service in self.api.objects[forms.SERVICE].items():
            shown, fresh = ipam.shown_addresses(service), world.addresses(key)
            assert shown == fresh, f"{key} shows {shown}, and after a fresh start {fresh}"


def play(moves: list[tuple[str, Any]]) -> None:
    history = History()
    for verb, what in moves:
        history.do(verb, what)
    history.settle()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    report_multiple_bugs=False,
)
@given(steps)
def test_all_comes_to_rest_and_nobody_is_wronged(moves: list[tuple[str, Any]]) -> None:
    play(moves)
