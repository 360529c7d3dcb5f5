"""Stories of the reconciler: what it writes, when, and what it leaves alone."""

from typing import Any

import msgspec
import pytest

from lbipam.controllers.ipam import Phase
from lbipam.controllers.ports import Apply, Conflict, ConflictCause, Create, Fenced, Refused, Severity
from lbipam.controllers.rehearsal import Rehearsal
from lbipam.controllers.workqueue import WorkQueue
from lbipam.core.ipam.addresses import format_address, parse_address
from lbipam.core.ipam.services import ServiceKey
from lbipam.kube import forms, ipam
from lbipam.kube.conditions import timestamp
from lbipam.kube.ipam import IP_POOL, IP_RESERVATION, Responsibility
from lbipam.kube.kinds import Key
from tests.builders_kube import kube_namespace, kube_pool, kube_reservation, kube_service
from tests.doubles import KIND_OF, Api, Process

SATISFIED = "cilium.io/IPAMRequestSatisfied"
NO_POOL = ("False", "no_pool", "There are no enabled CiliumLoadBalancerIPPools that match this service")
HOLDS = {"lbipam.dev/hold-released-for": "10m"}


def world(*objects: Any, responsibility: Responsibility | None = None, now: float = 1000.0) -> Rehearsal:
    """A settled world with these objects."""
    made = Rehearsal(responsibility, now=now)
    made.begin({})
    put(made, *objects)
    return made


def put(made: Rehearsal, *objects: Any) -> None:
    for one in objects:
        kind = KIND_OF[type(one)]
        known: Any = made.cache.objects(kind).get(one.metadata.key)
        has_status = known is not None and hasattr(one, "status")
        made.put(kind, msgspec.structs.replace(one, status=known.status) if has_status else one)
    made.settle()


def remove(made: Rehearsal, one: forms.Service | ipam.IPPool) -> None:
    made.remove(KIND_OF[type(one)], one.metadata.key)
    made.settle()


def restarted(made: Rehearsal, *, later: float = 0) -> Rehearsal:
    """A fresh start from what a world has come to."""
    again = Rehearsal(now=made.now + later)
    again.begin({kind: made.cache.objects(kind).values() for kind in made.ipam.kinds})
    return again


def stored(made: Rehearsal, name: str) -> forms.Service:
    service: forms.Service = made.cache.objects(forms.SERVICE)[Key("default", name)]
    return service


def shown(made: Rehearsal, name: str) -> list[str]:
    namespace, slash, rest = name.partition("/")
    key = Key(namespace, rest) if slash else Key("default", name)
    return [format_address(one) for one in made.addresses(key)]


def condition(made: Rehearsal, name: str) -> tuple[str, str, str] | None:
    for one in stored(made, name).status.conditions:
        if one.type == SATISFIED:
            return one.status, one.reason, one.message
    return None


def pool_conditions(made: Rehearsal, name: str) -> dict[str, tuple[str, str, str]]:
    pool: ipam.IPPool = made.cache.objects(IP_POOL)[Key("", name)]
    return {one.type: (one.status, one.reason, one.message) for one in pool.status.conditions}


def reservation(made: Rehearsal) -> ipam.IPReservation:
    found: ipam.IPReservation = made.cache.objects(IP_RESERVATION)[Key("", "r")]
    return found


def service_writes(made: Rehearsal) -> list[Any]:
    return [write for write in made.writes if write.kind is forms.SERVICE]


# --- one write, the right one ------------------------------------------------------------------------------


def test_d12_a_new_service_takes_one_write() -> None:
    made = world(kube_pool("p", "10.0.0.0/24"), kube_service("a"))
    assert shown(made, "a") == ["10.0.0.0"]
    assert condition(made, "a") == ("True", "satisfied", "")
    assert len(service_writes(made)) == 1


def test_an_edit_that_changes_nothing_for_us_is_not_answered() -> None:
    made = world(kube_pool("p", "10.0.0.0/24"), kube_service("a"))
    put(made, kube_service("a", annotations={"somebody": "else"}, note="x"))
    assert len(service_writes(made)) == 1


def test_d12_a_freed_address_wakes_one_of_those_that_wait_the_oldest() -> None:
    made = world(kube_pool("p", "10.0.0.0/32"), kube_service("holder"))
    put(
        made,
        *(kube_service(f"w{number}", created=f"2026-02-0{9 - number}T00:00:00Z") for number in range(1, 9)),
    )
    looked_at: list[Any] = []
    made.writes.clear()
    made.remove(forms.SERVICE, Key("default", "holder"))
    while (item := made.queue.take(made.now)) is not None:
        looked_at.append(item)
        made.step(item)
    assert shown(made, "w8") == ["10.0.0.0"]
    assert len(service_writes(made)) == 1
    services = {item[1].name for item in looked_at if item[0] is forms.SERVICE}
    assert services == {"holder", "w8"}


def test_a_new_pool_is_shared_out_oldest_first_whoever_was_looked_at_last() -> None:
    made = world(kube_pool("p", "10.0.0.0/32"), kube_service("holder", created="2026-01-09T00:00:00Z"))
    waiters = [kube_service(f"w{day}", created=f"2026-02-0{day}T00:00:00Z") for day in (3, 1, 2)]
    put(made, *waiters)
    put(made, kube_service("w1", created="2026-02-01T00:00:00Z", ips="192.0.2.1"))
    put(made, waiters[1])
    put(made, kube_pool("q", "10.1.0.0/31"))
    assert [shown(made, f"w{day}") for day in (1, 2, 3)] == [["10.1.0.0"], ["10.1.0.1"], []]


@pytest.mark.parametrize("named", [None, "10.0.0.0"])
def test_a_newcomer_does_not_take_what_an_older_service_has_just_been_woken_for(named: str | None) -> None:
    made = world(kube_pool("p", "10.0.0.0/32"), kube_service("holder"))
    put(made, kube_service("waits", ips=named, created="2026-02-01T00:00:00Z"))
    made.remove(forms.SERVICE, Key("default", "holder"))
    made.put(forms.SERVICE, kube_service("newcomer", created="2026-03-01T00:00:00Z"))
    made.settle()
    assert [shown(made, name) for name in ("waits", "newcomer")] == [["10.0.0.0"], []]
    remove(made, kube_service("waits"))
    assert shown(made, "newcomer") == ["10.0.0.0"]


def test_who_names_an_address_gets_it_before_a_younger_service_that_would_take_any() -> None:
    made = world(kube_pool("p", "10.0.0.0/32"), kube_service("holder"))
    put(made, kube_service("names", ips="10.0.0.0", created="2026-02-01T00:00:00Z"))
    put(made, kube_service("any", created="2026-03-01T00:00:00Z"))
    remove(made, kube_service("holder"))
    assert [shown(made, name) for name in ("names", "any")] == [["10.0.0.0"], []]


def test_a_pool_that_grows_wakes_each_of_many_that_wait_a_few_times_and_not_for_each_other() -> None:
    class Counting(WorkQueue[Any]):
        added = 0

        def add(self, key: Any) -> None:
            self.added += 1
            super().add(key)

    api = Api()
    process = Process(api).start()
    process.settle()
    process.queue = process.ipam.queue = process.ipam.claims.queue = queue = Counting()
    api.put(kube_pool("p", "10.0.0.0/32"), *(kube_service(f"s{number:03}") for number in range(200)))
    process.settle()
    queue.added = 0
    api.put(kube_pool("p", "10.0.0.0/24"))
    process.settle()
    assert all(api.shown(f"s{number:03}") for number in range(200))
    assert queue.added < 10 * 200


def test_a_newcomer_takes_what_is_left_when_there_is_enough_for_all() -> None:
    made = world(kube_pool("p", "10.0.0.0/31"), kube_service("one"), kube_service("two"))
    put(made, kube_service("waits", created="2026-02-01T00:00:00Z"))
    made.remove(forms.SERVICE, Key("default", "one"))
    made.remove(forms.SERVICE, Key("default", "two"))
    made.put(forms.SERVICE, kube_service("newcomer", created="2026-03-01T00:00:00Z"))
    made.settle()
    assert sorted(shown(made, "waits") + shown(made, "newcomer")) == ["10.0.0.0", "10.0.0.1"]


def test_a_newcomer_waits_for_an_older_service_whose_write_has_no_answer_yet() -> None:
    api = Api()
    process = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/32"), kube_service("holder"))
    process.settle()
    api.put(kube_service("waits", created="2026-02-01T00:00:00Z"))
    process.think()
    api.delete(forms.SERVICE, Key("default", "holder"))
    api.put(kube_service("newcomer", created="2026-03-01T00:00:00Z"))
    process.think()
    process.settle()
    assert [api.shown(name) for name in ("waits", "newcomer")] == [["10.0.0.0"], []]


def test_a_clock_that_is_set_back_keeps_no_counter_from_being_written() -> None:
    made = world(kube_pool("p", "10.0.0.0/31"), kube_service("a"), now=1e9)
    made.now -= 86_400
    put(made, kube_service("b"))
    assert pool_conditions(made, "p")["cilium.io/IPsAvailable"][2] == "0"


def test_pool_counters_are_written_at_most_once_a_second() -> None:
    api = Api()
    process = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/24"))
    for number in range(50):
        api.put(kube_service(f"s{number}"))
        process.think()
        while process.outbox:
            process.send(0)
        process.now += 0.1
    writes = process.writes - 50
    assert 5 <= writes <= 7, "five seconds, and the first at once"


def test_d06_the_condition_tells_all_failures_and_the_first_reason() -> None:
    made = world(kube_pool("p", "10.0.0.0/24"), kube_service("a", ips="10.0.0.1"))
    put(made, kube_service("b", ips="10.0.0.1,192.0.2.1"))
    assert condition(made, "b") == (
        "False",
        "already_allocated",
        (
            "The IP '10.0.0.1' is already allocated to another service; "
            "No pool exists with a CIDR containing '192.0.2.1'"
        ),
    )
    both = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]}
    made = world(kube_pool("p", "10.0.0.0/24", color="red"), kube_service("dual", spec=both))
    assert condition(made, "dual") == NO_POOL


def test_d06_the_condition_follows_the_generation() -> None:
    made = world(kube_pool("p", "10.0.0.0/24"), kube_service("a", generation=1))
    put(made, kube_service("a", generation=2))
    service = stored(made, "a")
    assert service.status.conditions[0].observed_generation == 2


# --- what is not ours --------------------------------------------------------------------------------------


def test_d08_ingress_that_we_never_gave_is_left_alone_unless_we_can_give() -> None:
    made = world(kube_pool("p", "10.0.0.0/24", color="red"))
    made.put(forms.SERVICE, kube_service("a", shown=("198.51.100.7",)))
    made.settle()
    assert shown(made, "a") == ["198.51.100.7"]
    assert "loadBalancer" not in service_writes(made)[0].body["status"]
    put(made, kube_service("a", color="red"))
    assert shown(made, "a") == ["10.0.0.0"]


def test_an_address_of_a_pool_that_somebody_else_wrote_is_given_to_nobody() -> None:
    made = world(kube_pool("p", "10.0.0.0/31", color="red"))
    made.put(forms.SERVICE, kube_service("foreign", color="blue", shown=("10.0.0.0",)))
    put(made, kube_service("a", color="red"), kube_service("b", color="red"))
    assert (shown(made, "foreign"), shown(made, "a"), shown(made, "b")) == (["10.0.0.0"], ["10.0.0.1"], [])
    remove(made, kube_service("foreign"))
    assert shown(made, "b") == ["10.0.0.0"]


@pytest.mark.parametrize("restart", [False, True])
def test_an_address_of_a_pool_that_another_class_shows_is_given_to_nobody(restart: bool) -> None:
    made = world(kube_pool("p", "10.0.0.0/31"))
    foreign = kube_service("foreign", spec={"loadBalancerClass": "metallb"}, shown=("10.0.0.0",))
    made.put(forms.SERVICE, foreign)
    if restart:
        made = restarted(made)
    put(made, kube_service("a"), kube_service("b", ips="10.0.0.0"))
    assert (shown(made, "foreign"), shown(made, "a"), shown(made, "b")) == (["10.0.0.0"], ["10.0.0.1"], [])
    assert pool_conditions(made, "p")["cilium.io/IPsUsed"][2] == "2"
    remove(made, kube_service("foreign"))
    assert shown(made, "b") == ["10.0.0.0"]


def test_what_a_former_leader_had_yet_to_take_away_is_given_to_nobody_before() -> None:
    api = Api()
    former = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/31"), kube_service("loser", color="blue"))
    former.settle()
    former.stop()
    api.put(kube_pool("p", "10.0.0.0/31", color="red"), kube_service("a", color="red"))
    latter = Process(api).start(takeover=True)
    latter.settle()
    assert api.shown("a") == ["10.0.0.1"], "given while the loser's status showed the first"
    assert api.shown("loser") == []


def test_a_service_that_takes_a_sharing_key_on_lets_others_of_the_key_join() -> None:
    made = world(kube_pool("p", "10.0.0.0/32"), kube_service("a"), kube_service("b", key="k"))
    assert shown(made, "b") == []
    put(made, kube_service("a", key="k", spec={"ports": [{"port": 443}]}))
    assert shown(made, "b") == ["10.0.0.0"]


def test_a_sharer_that_gives_its_key_up_makes_way_for_others_of_the_key() -> None:
    api = Api()
    https = {"ports": [{"port": 443}]}
    api.put(kube_pool("p", "10.0.0.0/32"), kube_service("a", key="k"), kube_service("b", key="k", spec=https))
    process = Process(api).start()
    process.settle()
    api.put(kube_service("b"), kube_service("c", key="k", spec=https))
    process.settle()
    assert [api.shown(name) for name in "abc"] == [["10.0.0.0"], [], ["10.0.0.0"]]


def test_the_oldest_sharer_moves_if_it_took_another_key_while_nobody_looked() -> None:
    made = world(
        kube_pool("p", "10.0.0.0/31"),
        kube_service("oldest", key="k"),
        kube_service("a", key="k", created="2026-02-01T00:00:00Z", spec={"ports": [{"port": 81}]}),
        kube_service("b", key="k", created="2026-02-02T00:00:00Z", spec={"ports": [{"port": 82}]}),
    )
    changed = msgspec.structs.replace(kube_service("oldest", key="l"), status=stored(made, "oldest").status)
    made.put(forms.SERVICE, changed)
    again = restarted(made)
    assert [shown(again, name) for name in ("oldest", "a", "b")] == [["10.0.0.1"], ["10.0.0.0"], ["10.0.0.0"]]


def test_addresses_that_differ_in_where_they_are_short_are_kept_under_different_names() -> None:
    made = world(
        kube_pool("p", "1::/128", "::1/128", annotations=HOLDS),
        *(kube_service(name, spec={"ipFamilies": ["IPv6"]}) for name in ("a", "b")),
    )
    for name in ("a", "b"):
        remove(made, kube_service(name))
    assert sorted(made.cache.objects(IP_RESERVATION)) == [Key("", "released-0--1"), Key("", "released-1--0")]


def test_a_pool_that_is_full_when_it_is_first_counted_is_said_to_be() -> None:
    made = world(kube_service("a"), kube_pool("p", "10.0.0.0/32"))
    assert ("p", "Exhausted") in {(event.key.name, event.reason) for event in made.events}


def test_a_reservation_that_expired_while_nobody_led_is_in_nobodys_way() -> None:
    api = Api()
    api.put(
        kube_pool("p", "10.0.0.0/32"),
        kube_reservation("r", "10.0.0.0", expires="1970-01-01T00:00:01Z"),
        kube_service("a"),
    )
    process = Process(api).start()
    process.settle()
    assert api.shown("a") == ["10.0.0.0"]
    assert "Refused" not in [event.reason for event in process.events]


def test_who_waits_is_told_when_a_reservation_begins() -> None:
    made = world(kube_pool("p", "10.0.0.0/24"), kube_service("a"), kube_service("b", ips="10.0.0.0"))
    put(made, kube_reservation("r", "10.0.0.0"))
    assert condition(made, "b") == (
        "False",
        "reserved",
        "The IP '10.0.0.0' is reserved for nobody by IPReservation r",
    )


def test_a_service_gets_what_is_reserved_for_it_once_its_holder_goes() -> None:
    made = world(kube_pool("p", "10.0.0.0/31"), kube_service("a"), kube_service("x"), kube_service("b"))
    put(made, kube_reservation("r", "10.0.0.0", to="default/b"))
    remove(made, kube_service("a"))
    assert shown(made, "b") == ["10.0.0.0"]


@pytest.mark.parametrize(
    "spec", [{"type": "ClusterIP"}, {"loadBalancerClass": "metallb"}, {"loadBalancerClass": "io.cilium/node"}]
)
def test_a_service_of_somebody_else_is_never_written(spec: dict[str, Any]) -> None:
    made = world(kube_pool("p", "10.0.0.0/24"), kube_service("a", spec=spec, shown=("198.51.100.7",)))
    assert service_writes(made) == []


def test_a_class_of_ours_is_served_even_if_others_without_class_are_not() -> None:
    mine = kube_service("mine", spec={"loadBalancerClass": "io.cilium/bgp-control-plane"})
    made = world(
        kube_pool("p", "10.0.0.0/24"),
        mine,
        kube_service("plain"),
        responsibility=Responsibility(without_class=False),
    )
    assert shown(made, "mine") == ["10.0.0.0"]
    assert condition(made, "plain") is None


def test_a_service_that_is_no_longer_a_load_balancer_loses_all_that_is_ours() -> None:
    made = world(kube_pool("p", "10.0.0.0/32"), kube_service("a"), kube_service("b"))
    put(made, kube_service("a", spec={"type": "ClusterIP"}))
    service = stored(made, "a")
    assert service.status == forms.ServiceStatus()
    assert shown(made, "b") == ["10.0.0.0"]


def test_nothing_is_written_before_there_is_a_pool() -> None:
    made = world(kube_service("a"))
    assert made.writes == []
    put(made, kube_pool("p", "10.0.0.0/24"))
    assert shown(made, "a") == ["10.0.0.0"]


def test_who_is_told_of_nothing_while_there_is_no_pool_is_not_counted_as_unsatisfied() -> None:
    made = world(kube_pool("p", "10.0.0.0/32"), kube_service("a"))
    remove(made, kube_pool("p"))
    assert set(made.ipam.unsatisfied) == {ServiceKey("default", "a")}
    made.put(forms.SERVICE, kube_service("a"))
    made.settle()
    assert condition(made, "a") is None
    assert made.ipam.unsatisfied == restarted(made).ipam.unsatisfied == {}


def test_a_pool_with_a_block_within_another_keeps_none_of_its_holders_when_it_goes() -> None:
    made = world(kube_pool("p", "10.0.0.0/29"), kube_service("s", ips="10.0.0.5"))
    put(made, kube_pool("p", "10.0.0.0/29", "10.0.0.2/31"))
    assert shown(made, "s") == ["10.0.0.5"]
    remove(made, kube_pool("p"))
    assert shown(made, "s") == []
    told = condition(made, "s")
    assert told is not None and told[:2] == ("False", "no_pool")


def test_when_the_last_pool_goes_its_holders_are_told_and_newcomers_are_not() -> None:
    made = world(kube_pool("p", "10.0.0.0/24"), kube_service("a"))
    remove(made, kube_pool("p"))
    assert shown(made, "a") == []
    assert condition(made, "a") == NO_POOL
    put(made, kube_service("b"))
    assert condition(made, "b") is None


def test_a_manager_that_owns_the_ingress_is_told_of_and_left_alone() -> None:
    api = Api()
    process = Process(api).start()
    key = Key("default", "a")
    api.put(kube_pool("p", "10.0.0.0/32"), kube_service("a"))
    process.settle()
    api.write_ingress("metallb", key, "192.0.2.1")
    process.settle()

    sentence = "The load balancer ingress is managed by metallb; lbipam leaves it alone"
    service: forms.Service = api.objects[forms.SERVICE][key]
    assert [one.message for one in process.events if one.reason == "Refused"] == [sentence]
    (said,) = service.status.conditions
    assert (said.status, said.reason, said.message) == ("False", "managed_elsewhere", sentence)
    assert api.shown("a") == ["192.0.2.1"]
    assert process.ipam.ledger.claims_of(ServiceKey(*key)) == ()
    assert key not in api.applied, "no part of the list is claimed"

    api.put(kube_service("a", annotations={"note": "edited"}))
    edited = api.objects[forms.SERVICE][key]
    told = len([one for one in process.events if one.key == key])
    api.put(kube_pool("p", "10.0.0.0/31"), kube_service("b"))
    process.settle()
    assert api.shown("b") == ["10.0.0.0"], "what was not given to it is free"
    assert api.objects[forms.SERVICE][key] is edited
    assert len([one for one in process.events if one.key == key]) == told, "nothing was tried again"


@pytest.mark.parametrize("change", ["wish", "list"])
def test_what_another_manager_owned_is_tried_again_when_the_wish_or_the_list_changes(change: str) -> None:
    api = Api()
    process = Process(api).start()
    key = Key("default", "a")
    api.put(kube_pool("p", "10.0.0.0/24"), kube_service("a"))
    api.write_ingress("metallb", key, "192.0.2.1")
    process.settle()
    api.write_ingress("metallb", key, *(("192.0.2.1",) if change == "wish" else ()))
    del api.owners[key]
    if change == "wish":
        api.put(kube_service("a", ips="10.0.0.0"))
    process.settle()
    service: forms.Service = api.objects[forms.SERVICE][key]
    assert api.shown("a") == ["10.0.0.0"]
    assert [(one.status, one.reason) for one in service.status.conditions] == [("True", "satisfied")]


# --- keeping -----------------------------------------------------------------------------------------------


def test_d01_a_restart_keeps_addresses_of_disabled_and_conflicting_pools() -> None:
    for pools in (
        [kube_pool("p", "10.0.0.0/24", disabled=True)],
        [
            kube_pool("p", "10.0.0.0/24", created="2026-01-02T00:00:00Z"),
            kube_pool("older", "10.0.0.0/8", color="red"),
        ],
    ):
        made = Rehearsal(now=1000)
        made.begin({IP_POOL: pools, forms.SERVICE: [kube_service("a", shown=("10.0.0.5",))]})
        assert shown(made, "a") == ["10.0.0.5"]
        assert condition(made, "a") == ("True", "satisfied", "")


def test_a_restart_leaves_an_address_to_whom_it_was_given_though_an_older_service_shows_it_too() -> None:
    api = Api()
    process = Process(api).start()
    api.put(
        kube_pool("p", "10.0.0.0/24"),
        kube_service("old", created="2026-01-01T00:00:00Z"),
        kube_service("young", created="2026-01-02T00:00:00Z"),
        kube_service("others", created="2026-01-01T00:00:00Z", spec={"loadBalancerClass": "somebody/else"}),
    )
    process.settle()
    assert (api.shown("old"), api.shown("young")) == (["10.0.0.0"], ["10.0.0.1"])
    for name in ("old", "others"):
        api.write_ingress("metallb", Key("default", name), "10.0.0.1")
    process.settle()
    process.stop()
    again = Process(api).start()
    again.settle()
    assert api.shown("young") == ["10.0.0.1"]
    assert again.ipam.ledger.holders_of(parse_address("10.0.0.1"))[0] == ServiceKey("default", "young")


@pytest.mark.parametrize("others", [1, 2])
def test_a_restart_leaves_a_waiting_service_what_it_was_given_though_others_write_it_elsewhere(
    others: int,
) -> None:
    api = Api()
    process = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/24"), kube_service("s", created="2026-01-02T00:00:00Z"))
    process.settle()
    api.put(kube_service("s", created="2026-01-02T00:00:00Z", ips="192.0.2.1"))
    for number in range(others):
        # Older, and more of them, that share the address where it was written.
        api.put(kube_service(f"other-{number}", key="k", spec={"ports": [{"port": number}]}))
        api.write_ingress("metallb", Key("default", f"other-{number}"), "10.0.0.0")
    process.settle()
    assert api.shown("s") == ["10.0.0.0"]
    process.stop()
    Process(api).start().settle()
    assert api.shown("s") == ["10.0.0.0"]


def test_what_another_controller_wrote_of_its_own_services_takes_nothing_from_ours() -> None:
    satisfied = {"type": SATISFIED, "status": "True", "reason": "satisfied"}
    of_others = kube_service(
        "others", shown=("10.0.0.0",), conditions=(satisfied,), spec={"loadBalancerClass": "somebody/else"}
    )
    api = Api()
    process = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/24"), kube_service("ours", created="2026-01-02T00:00:00Z"))
    process.settle()
    process.stop()
    api.put(of_others)
    Process(api).start().settle()
    assert api.shown("ours") == ["10.0.0.0"]


def test_an_address_is_left_to_whom_it_was_given_also_if_its_pool_comes_later() -> None:
    satisfied = {"type": SATISFIED, "status": "True", "reason": "satisfied"}
    api = Api()
    api.put(
        kube_service("old", created="2026-01-01T00:00:00Z", shown=("10.0.0.1",)),
        kube_service("young", created="2026-01-02T00:00:00Z", shown=("10.0.0.1",), conditions=(satisfied,)),
    )
    process = Process(api).learn()
    process.think()
    api.put(kube_pool("p", "10.0.0.0/24"))
    process.think()
    process.ipam.lead(takeover=False)
    process.settle()
    assert api.shown("young") == ["10.0.0.1"]


def test_d02_an_address_is_given_up_only_once_the_new_one_is_written() -> None:
    api = Api()
    process = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/31"), kube_service("a"))
    process.settle()
    api.put(kube_service("a", ips="10.0.0.1"), kube_service("thief", ips="10.0.0.0"))
    process.think()
    announced, thefts = (
        next(index for index, (item, _) in enumerate(process.outbox) if item[1].name == name)
        for name in ("a", "thief")
    )
    assert "loadBalancer" not in process.outbox[thefts][1].body["status"]  # type: ignore[union-attr]
    process.send(announced)
    process.think()
    move = next(write for item, write in process.outbox if item[1].name == "a")
    assert [entry.ip for entry in move.body["status"]["loadBalancer"]["ingress"]] == ["10.0.0.1"]  # type: ignore[union-attr]
    process.settle()
    assert api.shown("thief") == ["10.0.0.0"]


def test_a_move_is_written_only_over_a_status_that_tells_of_it() -> None:
    """So a leader that takes over sees whose addresses a write of its predecessor may still change."""
    api = Api()
    former = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/32"), kube_service("a"))
    former.settle()
    api.put(kube_pool("p", "10.0.0.1/32"))
    former.think()
    former.send(next(index for index, (item, _) in enumerate(former.outbox) if item[0] is forms.SERVICE))
    (marked,) = api.objects[forms.SERVICE].values()
    assert api.shown("a") == ["10.0.0.0"]
    assert [one.reason for one in marked.status.conditions] == ["about_to_change"]
    former.think()
    move = next(write for item, write in former.outbox if item[0] is forms.SERVICE)
    former.stop()
    api.put(kube_pool("p", "10.0.0.0/31"))
    latter = Process(api).start(takeover=True)
    latter.settle()
    assert isinstance(api.land(move), Conflict)
    assert api.shown("a") == ["10.0.0.0"]


def test_what_was_granted_too_late_for_a_former_wish_is_not_given_for_the_new_one() -> None:
    api = Api()
    process = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/24"), kube_service("a"))
    process.think()
    api.put(kube_service("a", ips="192.0.2.1"))
    process.settle()
    (after,) = api.objects[forms.SERVICE].values()
    assert [one.reason for one in after.status.conditions] == ["no_pool"]
    assert api.shown("a") == []
    assert process.ipam.ledger.claims_of(ServiceKey("default", "a")) == ()


def test_who_waits_for_an_address_gets_it_when_its_holder_goes() -> None:
    made = world(kube_pool("p", "10.0.0.0/24"), kube_service("a"), kube_service("b", ips="10.0.0.0"))
    assert shown(made, "b") == []
    remove(made, kube_service("a"))
    assert shown(made, "b") == ["10.0.0.0"]


def test_an_ingress_list_that_a_hand_has_emptied_is_filled_again() -> None:
    made = world(kube_pool("p", "10.0.0.0/24"), kube_service("a"))
    service = stored(made, "a")
    status = msgspec.structs.replace(service.status, load_balancer=forms.LoadBalancerStatus())
    made.put(forms.SERVICE, msgspec.structs.replace(service, status=status))
    made.settle()
    assert shown(made, "a") == ["10.0.0.0"]


def test_a_restart_changes_nothing_and_imports_before_it_gives() -> None:
    made = Rehearsal(now=1000)
    services = [
        kube_service("pending", created="2025-01-01T00:00:00Z"),
        kube_service("holder", created="2026-01-01T00:00:00Z", shown=("10.0.0.0",)),
    ]
    made.begin({IP_POOL: [kube_pool("p", "10.0.0.0/31")], forms.SERVICE: services})
    assert shown(made, "holder") == ["10.0.0.0"]
    assert shown(made, "pending") == ["10.0.0.1"]
    assert restarted(made, later=1000).writes == []


def test_of_two_that_show_one_address_the_older_keeps_it() -> None:
    made = Rehearsal(now=1000)
    services = [
        kube_service("a-young", created="2026-01-02T00:00:00Z", shown=("10.0.0.0",)),
        kube_service("b-old", created="2026-01-01T00:00:00Z", shown=("10.0.0.0",)),
    ]
    made.begin({IP_POOL: [kube_pool("p", "10.0.0.0/31")], forms.SERVICE: services})
    assert shown(made, "b-old") == ["10.0.0.0"]
    assert shown(made, "a-young") == ["10.0.0.1"]


def test_an_entry_that_stays_keeps_what_others_wrote_beside_the_address() -> None:
    made = world(kube_pool("p", "10.0.0.0/24"), kube_service("a"))
    service = stored(made, "a")
    entry = forms.Ingress(ip="10.0.0.0", ip_mode="Proxy")
    status = msgspec.structs.replace(service.status, load_balancer=forms.LoadBalancerStatus((entry,)))
    made.put(forms.SERVICE, msgspec.structs.replace(service, status=status))
    made.settle()
    put(made, kube_service("a", ips="10.0.0.0,10.0.0.9"))
    service = stored(made, "a")
    assert service.status.load_balancer.ingress == (entry, forms.Ingress(ip="10.0.0.9"))


def test_addresses_that_another_manager_wrote_are_taken_over_and_away_by_patch() -> None:
    api = Api()
    api.put(kube_pool("p", "10.0.0.0/24"), kube_service("a", shown=("10.0.0.5",)))
    process = Process(api).start()
    process.settle()
    assert api.shown("a") == ["10.0.0.5"]
    api.applied.clear()
    api.put(kube_pool("p", "10.0.0.0/24", color="red"))
    process.settle()
    assert api.shown("a") == []
    assert list(process.ipam.ledger.holdings()) == []


# --- take-over ---------------------------------------------------------------------------------------------


def test_a_late_write_of_a_former_leader_cannot_give_an_address_twice() -> None:
    api = Api()
    former = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/32"), kube_service("holder"))
    former.settle()
    api.put(kube_service("waiting", created="2026-02-02T00:00:00Z"))
    former.settle()
    api.delete(forms.SERVICE, Key("default", "holder"))
    former.think()
    late = [write for item, write in former.outbox if item[1].name == "waiting"]
    assert len(late) == 1, "it was about to give the address to the one that waits"
    former.stop()

    api.put(kube_service("older", created="2026-01-01T00:00:00Z"))
    leader = Process(api, now=2000).start(takeover=True)
    leader.settle()
    assert api.land(late[0]) == Conflict(cause=ConflictCause.STALE)
    services = api.objects[forms.SERVICE].values()
    assert [entry.ip for one in services for entry in one.status.load_balancer.ingress] == ["10.0.0.0"]


def test_after_a_takeover_the_oldest_are_first_in_whatever_order_the_touched_come_back() -> None:
    api = Api()
    former = Process(api).start()
    api.put(
        kube_pool("full", "192.0.2.0/32"),
        *(kube_service(name, created=f"2026-01-0{day}T00:00:00Z") for day, name in enumerate("abcd", 1)),
    )
    former.settle()
    former.stop()
    leader = Process(api, now=2000).start(takeover=True)
    leader.settle()
    api.put(kube_pool("new", "10.0.0.0/31"))
    leader.think()
    while leader.outbox:
        leader.send(len(leader.outbox) - 1)
    leader.settle()
    assert [bool(api.shown(name)) for name in "abcd"] == [True, True, True, False]


def test_a_touch_that_was_refused_is_not_sent_again_for_each_that_waits() -> None:
    api = Api()
    former = Process(api).start()
    api.put(kube_pool("full", "192.0.2.0/32"), *(kube_service(name) for name in "abcd"))
    former.settle()
    former.stop()
    leader = Process(api, now=2000).start(takeover=True)
    leader.settle()
    land, touches = api.land, list[Any]()

    def refuse_d(write: Any) -> Any:
        if write.key.name != "d":
            return land(write)
        touches.append(write)
        return Refused(code=422, reason="Invalid", message="spec.x: Invalid value")

    api.land = refuse_d  # type: ignore[method-assign]
    api.put(kube_pool("new", "10.0.0.0/30"))
    leader.think()
    while leader.outbox and len(touches) < 2:
        leader.send(len(leader.outbox) - 1)
        leader.think()
    assert len(touches) == 1


def test_a_takeover_with_nothing_to_give_writes_nothing() -> None:
    api = Api()
    former = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/32"), kube_service("holder"), kube_service("waiting"))
    former.settle()
    former.stop()
    leader = Process(api, now=2000).start(takeover=True)
    leader.settle()
    assert leader.writes == 0


def test_a_leader_that_must_follow_forgets_what_it_did_not_write() -> None:
    api = Api()
    process = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/32"), kube_service("a"))
    process.think()
    process.ipam.follow()
    for item, write in process.outbox:
        process._answer(item, write, Fenced())
    while process.work():
        pass
    assert process.ipam.phase is Phase.FOLLOWING
    assert list(process.ipam.ledger.holdings()) == []


# --- refusals ----------------------------------------------------------------------------------------------


def test_d10_a_request_that_cannot_be_read_is_told_and_the_rest_honoured() -> None:
    made = world(kube_pool("p", "10.0.0.0/24"), kube_service("a", ips="10.0.0.300, 10.0.0.7,"))
    assert shown(made, "a") == ["10.0.0.7"]
    status, reason, message = condition(made, "a") or ("", "", "")
    assert (status, reason) == ("False", "invalid_request")
    assert message.startswith("The requested IP '10.0.0.300' is not valid")
    assert len(made.ipam.unsatisfied) == 1


def test_d11_events_tell_what_was_given_taken_and_refused() -> None:
    made = world(kube_pool("p", "10.0.0.0/32"), kube_service("a"), kube_service("b"))
    put(made, kube_pool("p", "10.0.1.0/32"))
    told = [(event.key.name, event.severity, event.reason) for event in made.events]
    assert ("a", Severity.NORMAL, "Allocated") in told
    assert ("b", Severity.WARNING, "Refused") in told
    assert ("a", Severity.NORMAL, "Released") in told


def test_d11_events_tell_of_conflicts_bad_blocks_and_exhaustion() -> None:
    made = world(
        kube_pool("old", "10.0.0.0/30", created="2025-01-01T00:00:00Z"),
        kube_pool("young", "10.0.0.0/24", "nonsense"),
        *(kube_service(f"s{number}") for number in range(4)),
    )
    made.now += 5
    made.settle()
    told = {(event.key.name, event.reason) for event in made.events if event.kind is IP_POOL}
    assert {("young", "Conflict"), ("young", "InvalidBlock"), ("old", "Exhausted")} <= told


def test_d05_the_good_blocks_of_a_pool_work_and_the_bad_ones_are_told() -> None:
    upside_down = {"start": "10.0.0.9", "stop": "10.0.0.1"}
    made = world(kube_pool("p", blocks=[upside_down, {}, {"start": "10.0.0.4"}]), kube_service("a"))
    assert shown(made, "a") == ["10.0.0.4"]
    status, reason, message = pool_conditions(made, "p")["lbipam.dev/BlocksValid"]
    assert (status, reason) == ("False", "invalid_block")
    assert "Block 1:" in message
    assert "Block 2: it has neither cidr nor start" in message
    put(made, kube_pool("p", blocks=[{"start": "10.0.0.4"}]))
    assert "lbipam.dev/BlocksValid" not in pool_conditions(made, "p")


def test_a_write_that_is_refused_is_tried_again_later() -> None:
    api = Api()
    process = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/24"), kube_service("a"))
    process.think()
    index = next(number for number, one in enumerate(process.outbox) if one[0][0] is forms.SERVICE)
    item, write = process.outbox.pop(index)
    process._carry_out(
        item, process.ipam.answered(item, Refused(code=403, reason="", message=""), process.now)
    )
    process._put_down(item)
    process.settle()
    assert api.shown("a") == ["10.0.0.0"]
    assert isinstance(write, Apply)


# --- our own extras ----------------------------------------------------------------------------------------


def test_a_released_address_is_kept_for_a_service_of_the_same_name() -> None:
    made = world(kube_pool("p", "10.0.0.0/30", annotations=HOLDS), kube_service("a"), kube_service("b"))
    gone_at = made.now
    remove(made, kube_service("a"))
    (written,) = made.cache.objects(IP_RESERVATION).values()
    assert written.spec.addresses == ("10.0.0.0",)
    assert (written.spec.service_ref.namespace, written.spec.service_ref.name) == ("default", "a")
    assert written.spec.expires_at == timestamp(gone_at + 600)
    put(made, kube_service("stranger"))
    assert shown(made, "stranger") == ["10.0.0.2"]
    put(made, kube_service("a"))
    assert shown(made, "a") == ["10.0.0.0"]
    assert dict(made.cache.objects(IP_RESERVATION)) == {}, "it has its address back"


def test_a_released_address_is_free_for_all_when_its_time_is_over() -> None:
    made = world(kube_pool("p", "10.0.0.0/32", annotations=HOLDS), kube_service("a"))
    remove(made, kube_service("a"))
    put(made, kube_service("b"))
    assert shown(made, "b") == []
    made.now += 580
    made.settle()
    assert shown(made, "b") == []
    made.now += 20
    made.settle()
    assert shown(made, "b") == ["10.0.0.0"]
    assert dict(made.cache.objects(IP_RESERVATION)) == {}


def test_a_released_address_stays_reserved_through_a_restart() -> None:
    made = world(kube_pool("p", "10.0.0.0/32", annotations=HOLDS), kube_service("a"))
    remove(made, kube_service("a"))
    again = restarted(made, later=60)
    put(again, kube_service("b"))
    assert shown(again, "b") == []
    put(again, kube_service("a"))
    assert shown(again, "a") == ["10.0.0.0"]


def test_deleting_and_creating_again_renews_the_hold() -> None:
    made = world(kube_pool("p", "10.0.0.0/32", annotations=HOLDS), kube_service("a"))
    for _ in range(3):
        remove(made, kube_service("a"))
        made.now += 300
        put(made, kube_service("a"))
        assert shown(made, "a") == ["10.0.0.0"]
    assert sum(isinstance(write, Create) for write in made.writes) == 3


def test_a_reservation_tells_who_holds_it_and_when_it_is_over() -> None:
    made = world(
        kube_pool("p", "10.0.0.0/24"),
        kube_reservation("r", "10.0.0.7", to="default/a", expires="1970-01-01T01:00:00Z"),
        kube_service("a"),
    )
    written = reservation(made)
    assert written.status.holder == "default/a"
    assert [(one.type, one.status, one.reason) for one in written.status.conditions] == [
        ("lbipam.dev/Active", "True", "reserving")
    ]
    assert pool_conditions(made, "p")["cilium.io/IPsUsed"][2] == "1"
    made.now = 3601
    made.settle()
    assert [(one.status, one.reason) for one in reservation(made).status.conditions] == [("False", "expired")]
    assert reservation(made).status.holder == ""
    assert shown(made, "a") == ["10.0.0.7"]


def test_a_reservation_names_a_holder_of_several_of_its_addresses_once() -> None:
    made = world(
        kube_pool("p", "10.0.0.0/24"),
        kube_reservation("r", "10.0.0.4/30", "10.0.0.9", to="default/a"),
        kube_service("a", ips="10.0.0.4,10.0.0.5,10.0.0.9"),
    )
    assert shown(made, "a") == ["10.0.0.4", "10.0.0.5", "10.0.0.9"]
    assert reservation(made).status.holder == "default/a"


def test_every_reservation_of_an_address_tells_who_holds_it_also_the_one_that_does_not_count() -> None:
    made = world(
        kube_pool("p", "10.0.0.0/24"),
        kube_reservation("a", "10.0.0.0/30", to="default/s"),
        kube_reservation("r", "10.0.0.0/31", to="default/other"),
    )
    put(made, kube_service("s"))
    assert shown(made, "s") == ["10.0.0.0"]
    assert reservation(made).status.holder == "default/s"
    remove(made, kube_service("s"))
    assert reservation(made).status.holder == ""


def test_a_reservation_that_its_pool_no_longer_contains_is_held_by_nobody() -> None:
    made = world(
        kube_pool("p", "10.0.0.0/24"),
        kube_reservation("r", "10.0.0.0/30", to="default/s"),
        kube_service("s"),
    )
    assert reservation(made).status.holder == "default/s"
    put(made, kube_pool("p", "10.0.1.0/24"))
    assert shown(made, "s") == ["10.0.1.0"]
    assert reservation(made).status.holder == ""


def test_reserved_addresses_show_in_the_counters() -> None:
    made = world(kube_pool("p", "10.0.0.0/24"), kube_reservation("r", "10.0.0.0/30", "10.0.0.300"))
    told = pool_conditions(made, "p")
    assert told["cilium.io/IPsAvailable"] == ("Unknown", "noreason", "252")
    assert told["lbipam.dev/IPsReserved"] == ("Unknown", "noreason", "4")
    assert [(one.status, one.reason) for one in reservation(made).status.conditions] == [
        ("True", "invalid_address")
    ]


def test_a_quota_holds_and_a_higher_one_lets_go() -> None:
    made = world(
        kube_namespace("default", quota="1"),
        kube_pool("p", "10.0.0.0/24"),
        kube_service("a"),
        kube_service("b"),
    )
    assert shown(made, "b") == []
    assert condition(made, "b") == (
        "False",
        "quota_exceeded",
        "The namespace holds as many addresses as its quota allows (1 of 1)",
    )
    put(made, kube_namespace("default", quota="2"))
    assert shown(made, "b") == ["10.0.0.1"]
    put(made, kube_namespace("default", quota="nonsense"))
    put(made, kube_service("c"))
    assert shown(made, "b") == ["10.0.0.1"]
    assert shown(made, "c") == []
    put(made, kube_namespace("default"))
    assert shown(made, "c") == ["10.0.0.2"]


def test_who_waits_is_told_of_a_quota_that_is_lowered() -> None:
    made = world(
        kube_pool("p", "10.0.0.0/24"),
        kube_namespace("default", quota="2"),
        *(kube_service(name) for name in "abc"),
    )
    put(made, kube_namespace("default", quota="1"))
    told = "The namespace holds as many addresses as its quota allows (2 of 1)"
    assert condition(made, "c") == ("False", "quota_exceeded", told)
    assert shown(made, "b") == ["10.0.0.1"]


def test_room_in_a_quota_goes_to_who_waits_for_it() -> None:
    made = world(
        kube_namespace("default", quota="1"),
        kube_pool("p", "10.0.0.0/24"),
        kube_service("a"),
        kube_service("b"),
    )
    remove(made, kube_service("a"))
    assert shown(made, "b") == ["10.0.0.0"]


def test_priority_auto_assign_and_named_pools_work_through_annotations() -> None:
    made = world(
        kube_pool("plain", "10.0.0.0/24"),
        kube_pool("first", "10.0.1.0/24", annotations={"lbipam.dev/priority": "10"}),
        kube_pool(
            "shy", "10.0.2.0/24", annotations={"lbipam.dev/auto-assign": "false", "lbipam.dev/priority": "99"}
        ),
        kube_service("a"),
        kube_service("b", annotations={"lbipam.dev/pool": "shy,plain"}),
        kube_service("c", ips="10.0.2.9"),
    )
    assert shown(made, "a") == ["10.0.1.0"]
    assert shown(made, "b") == ["10.0.2.0"]
    assert shown(made, "c") == ["10.0.2.9"]


def test_an_annotation_of_a_pool_that_cannot_be_read_is_told() -> None:
    made = world(kube_pool("p", "10.0.0.0/24", annotations={"lbipam.dev/priority": "high"}))
    assert pool_conditions(made, "p")["lbipam.dev/AnnotationsValid"][:2] == ("False", "invalid_annotation")


def test_d04_two_pools_that_were_held_down_recover() -> None:
    made = world(
        kube_pool("c", "10.0.0.0/24", created="2025-01-01T00:00:00Z"),
        kube_pool("a", "10.0.0.0/25", "10.1.0.0/24", created="2025-01-02T00:00:00Z"),
        kube_pool("b", "10.1.0.0/25", created="2025-01-03T00:00:00Z"),
    )
    assert pool_conditions(made, "a")["cilium.io/PoolConflict"] == (
        "True",
        "cidr_overlap",
        (
            "Pool conflicts since range '10.0.0.0 - 10.0.0.127' overlaps range '10.0.0.0 - 10.0.0.255' "
            "from IP Pool 'c'"
        ),
    )
    assert pool_conditions(made, "b")["cilium.io/PoolConflict"] == ("False", "resolved", "")
    made.remove(IP_POOL, Key("", "c"))
    made.now += 2
    made.settle()
    assert pool_conditions(made, "a")["cilium.io/PoolConflict"][0] == "False"
    assert pool_conditions(made, "b")["cilium.io/PoolConflict"][0] == "True"


def test_an_object_that_cannot_be_imported_keeps_no_other_from_it_and_is_told_of_alone() -> None:
    api = Api()
    api.put(
        kube_pool("p", "10.0.0.0/24"),
        kube_service("a"),
        msgspec.structs.replace(kube_service("impossible"), spec=None),
        kube_service("z"),
    )
    process = Process(api).start()
    failed, granted = set(), set()
    while (item := process.queue.take(process.now)) is not None:
        try:
            actions = process.ipam.reconcile(item, process.now)
        except AttributeError:
            failed.add(item[1].name)
        else:
            granted |= {
                one.key.name for one in actions if isinstance(one, Apply) and one.kind is forms.SERVICE
            }
        process.queue.put_down(item)
    assert failed == {"impossible"}
    assert granted == {"a", "z"}


def importing(*services: forms.Service) -> tuple[Api, Process]:
    """A process that leads as soon as it has imported these, which it has not yet."""
    api = Api()
    api.put(kube_pool("p", "10.0.0.0/28"), *services)
    process = Process(api).start()
    assert process.ipam.phase is Phase.IMPORTING
    return api, process


def test_services_that_come_during_the_import_are_served_oldest_first() -> None:
    api, process = importing(kube_service("first"))
    for number in range(40):
        api.put(kube_service(f"s{number:02}", created=f"2026-02-01T00:00:{number:02}Z"))
    while process.hear():
        pass
    process.settle()
    served = {key.name for key in api.objects[forms.SERVICE] if api.shown(key.name)}
    assert served == {"first", *(f"s{number:02}" for number in range(15))}


def test_the_addresses_of_a_service_that_goes_during_the_import_are_free() -> None:
    former = world(kube_pool("p", "10.0.0.0/28"), *(kube_service(f"s{number:02}") for number in range(16)))
    api, process = importing(*former.cache.objects(forms.SERVICE).values(), kube_service("waits"))
    for item in (process.queue.take(process.now),):
        assert item is not None
        process.ipam.reconcile(item, process.now)
        process.queue.put_down(item)
    assert process.ipam.phase is Phase.IMPORTING
    api.delete(forms.SERVICE, Key("default", "s07"))
    process.settle()
    assert api.shown("waits") == ["10.0.0.7"]


# --- what statuses show before there is a pool for it ------------------------------------------------------


@pytest.mark.parametrize("other_class", [False, True])
@pytest.mark.parametrize("before", [[], [kube_pool("other", "192.0.2.0/24", color="red")]])
def test_what_a_status_shows_is_nobody_elses_when_its_pool_comes(
    before: list[ipam.IPPool], other_class: bool
) -> None:
    foreign = {"loadBalancerClass": "example.com/other"} if other_class else {}
    api = Api()
    process = Process(api).start()
    api.put(
        *before,
        kube_service("waits", created="2026-01-01T00:00:00Z"),
        kube_service("shows", created="2026-02-01T00:00:00Z", spec=foreign, shown=("10.0.0.0",)),
    )
    process.settle()
    api.put(kube_pool("p", "10.0.0.0/24"))
    process.settle()
    assert api.shown("shows") == ["10.0.0.0"]
    assert api.shown("waits") == ["10.0.0.1"]


def test_what_a_status_shows_is_nobody_elses_when_its_pool_grows() -> None:
    api = Api()
    process = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/32"), kube_service("a"))
    process.settle()
    api.put(
        kube_service("waits", created="2026-01-01T00:00:00Z"),
        kube_service("shows", created="2026-02-01T00:00:00Z", shown=("10.0.0.1",)),
    )
    process.settle()
    api.put(kube_pool("p", "10.0.0.0/30"))
    process.settle()
    assert (api.shown("shows"), api.shown("waits")) == (["10.0.0.1"], ["10.0.0.2"])


def test_what_another_controller_shows_is_claimed_before_those_that_wait_are_looked_at() -> None:
    api = Api()
    process = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/32"), kube_service("holder"), kube_service("waits"))
    process.settle()
    api.delete(forms.SERVICE, Key("default", "holder"))
    api.put(kube_service("waits", annotations={"note": "edited"}))  # so that it is looked at next
    foreign = {"loadBalancerClass": "example.com/other"}
    api.put(kube_service("shows", spec=foreign, shown=("10.0.0.0",)))
    process.settle()
    assert (api.shown("shows"), api.shown("waits")) == (["10.0.0.0"], [])


# --- changes of leaders ------------------------------------------------------------------------------------


def test_a_service_whose_status_cannot_be_written_stops_grants_no_longer_than_a_late_write_can_come() -> None:
    api = Api()
    former = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/24"), kube_service("bad", ips="192.0.2.1"))
    former.settle()
    former.stop()
    api.put(kube_service("new"))
    latter = Process(api).start(takeover=True)
    land = api.land

    def refuse_bad(write: Any) -> Any:
        if write.key.name == "bad":
            return Refused(code=422, reason="Invalid", message="spec.x: Invalid value")
        return land(write)

    api.land = refuse_bad  # type: ignore[method-assign]
    began = latter.now
    latter.settle()
    while api.shown("new") == [] and latter.now < began + 600:
        latter.now = max(latter.now, latter.queue.wake_at() or latter.now)
        latter.settle()
    assert api.shown("new") == ["10.0.0.0"]
    assert began + 120 <= latter.now < began + 300


def test_an_address_is_held_for_a_service_that_was_deleted_while_nobody_led() -> None:
    api = Api()
    leader = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/24", annotations=HOLDS), kube_service("shop"))
    leader.settle()
    standby = Process(api).learn()
    standby.settle()
    leader.stop()
    api.delete(forms.SERVICE, Key("default", "shop"))
    standby.settle()
    standby.now += 15
    standby.ipam.lead(takeover=True)
    api.put(kube_service("thief"))
    standby.settle()
    assert api.shown("thief") == ["10.0.0.1"]
    (held,) = api.objects[IP_RESERVATION].values()
    assert held.spec.addresses == ("10.0.0.0",)
    api.put(kube_service("shop"))
    standby.settle()
    assert api.shown("shop") == ["10.0.0.0"]


def test_a_hold_that_has_ended_before_anybody_led_is_not_written() -> None:
    api = Api()
    leader = Process(api).start()
    api.put(kube_pool("p", "10.0.0.0/32", annotations=HOLDS), kube_service("shop"))
    leader.settle()
    standby = Process(api).learn()
    standby.settle()
    leader.stop()
    api.delete(forms.SERVICE, Key("default", "shop"))
    api.put(kube_service("waits"))
    standby.settle()
    standby.now += 601
    standby.ipam.lead(takeover=True)
    standby.settle()
    assert api.shown("waits") == ["10.0.0.0"]
    assert not api.objects[IP_RESERVATION]


def test_a_quota_that_cannot_be_read_is_told_of_on_its_namespace() -> None:
    made = world(kube_pool("p", "10.0.0.0/24"), kube_namespace("default", quota="five"), kube_service("a"))
    assert shown(made, "a") == []
    told = {(one.kind, one.key, one.reason, one.message) for one in made.events if one.reason != "Refused"}
    assert told == {
        (
            forms.NAMESPACE,
            Key("", "default"),
            "InvalidQuota",
            "The annotation lbipam.dev/max-addresses says 'five', which is not a whole number",
        )
    }
