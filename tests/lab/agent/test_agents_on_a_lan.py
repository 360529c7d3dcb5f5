"""Three agents on a LAN: each address answered for by one of them, and never by two, whatever happens."""

import json
import signal
import sys
from collections.abc import Iterator
from functools import partial

import pytest

from tests.lab.agent.lan_cluster import MANY, Agents, Watch, agents, endpoints, service
from tests.lab.l2 import lan as labs
from tests.lab.l2.lan import NODES, eventually
from tests.metrics_document import MEND, shown, told

missing = labs.why_no_lab()
pytestmark = [pytest.mark.lab, pytest.mark.skipif(missing is not None, reason=str(missing))]

ADDRESS = "198.18.200.1"
TAKEN = "198.18.200.2"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    with agents(tmp_path_factory.mktemp("agents")) as made:
        eventually(lambda: len(made.addresses()) == MANY, "all Services to have an address")
        yield made


@pytest.fixture
def holder(cluster: Agents) -> str:
    """The node that answers for `ADDRESS`, while all three could."""
    cluster.start(*NODES)
    cluster.apply(service("app", ADDRESS, at="n1"), endpoints("app", *NODES))
    eventually(lambda: live(cluster) == set(NODES), "all Leases to be held")
    eventually(lambda: cluster.holder(ADDRESS) == "n1", "the preferred node to answer")
    return "n1"


def live(cluster: Agents) -> set[str]:
    found = cluster.objects("leases", "-n", "kube-system")
    ours = (one["spec"] for one in found if one["metadata"]["name"].startswith("lbipam-l2-"))
    return {one["holderIdentity"] for one in ours if one.get("holderIdentity")}


def moved(cluster: Agents, holder: str) -> bool:
    return cluster.holder(ADDRESS) not in ("", holder)


def assert_handed_over(watch: Watch, holder: str) -> None:
    """No question had two answers; another node answered from some moment on, or until the first was back."""
    assert watch.doubles == []
    assert watch.order[0] == holder
    assert len(watch.order) == 2 or (len(watch.order) == 3 and watch.order[2] == holder), f"{watch.order}"


def test_the_addresses_are_spread_and_the_clients_find_what_is_told(cluster: Agents, holder: str) -> None:
    reports = cluster.reports()
    assert len(reports) == MANY + 1
    assert reports[ADDRESS]["node"] == holder
    assert reports[ADDRESS]["services"] == ["default/app"]
    held = [one["node"] for one in reports.values()]
    assert all(held.count(name) > MANY / 5 for name in NODES), "spread over the nodes"
    for address in sorted(reports)[:: MANY // 10]:
        assert cluster.holder(address) == reports[address]["node"]


def test_agents_that_others_carry_traffic_for_touch_no_rules(cluster: Agents, holder: str) -> None:
    for name in NODES:
        assert cluster.lan.run(name, "nft", "list", "ruleset") == ""


def test_ping_is_answered_from_the_lan(cluster: Agents, holder: str) -> None:
    assert " 0% packet loss" in cluster.lan.run("c1", "ping", "-c", "3", "-i", "0.05", ADDRESS)


def test_another_node_takes_over_when_the_link_goes_down(cluster: Agents, holder: str) -> None:
    with cluster.watched(ADDRESS) as watch, cluster.without_link(holder, "sw"):
        eventually(lambda: moved(cluster, holder), "another node to answer")
    assert_handed_over(watch, holder)


def test_an_address_follows_the_only_local_endpoint(cluster: Agents, holder: str) -> None:
    def is_at(name: str) -> bool:
        return cluster.holder(ADDRESS) == name

    with cluster.watched(ADDRESS) as watch:
        for name in NODES:
            cluster.kubectl("annotate", "services", "--all", f"example.org/work={name}", "--overwrite")
            local = service("app", ADDRESS, at=holder, externalTrafficPolicy="Local")
            cluster.apply(local, endpoints("app", name))
            eventually(partial(is_at, name), f"{name}, which has the endpoint, to answer")
    assert watch.doubles == []
    assert watch.order == list(NODES)


def test_a_node_that_is_drained_hands_over(cluster: Agents, holder: str) -> None:
    try:
        with cluster.watched(ADDRESS) as watch:
            assert cluster.lbipam("drain", holder) == f"{holder} is drained\n"
            eventually(lambda: moved(cluster, holder), "another node to answer")
        assert_handed_over(watch, holder)
    finally:
        cluster.lbipam("undrain", holder)
    eventually(lambda: cluster.holder(ADDRESS) == holder, "the node to answer again")


def test_an_agent_that_stops_hands_over(cluster: Agents, holder: str) -> None:
    with cluster.watched(ADDRESS) as watch:
        assert cluster.stop(holder) == 0, cluster.log(holder)
        eventually(lambda: moved(cluster, holder), "another node to answer")
    assert_handed_over(watch, holder)


def guarded(cluster: Agents, name: str) -> str:
    """Who watches over a node, once somebody does."""
    return str(eventually(lambda: cluster.guardian(name), "a guardian"))


def test_a_node_that_dies_is_noticed_by_its_guardian(cluster: Agents, holder: str) -> None:
    guardian = guarded(cluster, holder)
    before = cluster.number(guardian, "leases_ended_total")
    with cluster.watched(ADDRESS) as watch:
        cluster.stop(holder, signal.SIGKILL)
        eventually(lambda: moved(cluster, holder), "another node to answer")
    assert cluster.number(guardian, "leases_ended_total") == before + 1
    assert_handed_over(watch, holder)


def test_another_node_takes_over_from_one_that_dies_together_with_its_guardian(
    cluster: Agents, holder: str
) -> None:
    guardian = guarded(cluster, holder)
    with cluster.watched(ADDRESS) as watch:
        cluster.stop(guardian, signal.SIGKILL)
        cluster.stop(holder, signal.SIGKILL)
        eventually(lambda: moved(cluster, holder), "another node to answer")
    assert_handed_over(watch, holder)


def test_a_node_whose_guardian_dies_goes_on_answering_and_finds_another(cluster: Agents, holder: str) -> None:
    guardian = guarded(cluster, holder)
    with cluster.watched(ADDRESS) as watch:
        cluster.stop(guardian, signal.SIGKILL)
        eventually(lambda: cluster.guardian(holder) not in ("", guardian), "another guardian")
    assert watch.order == [holder]


def test_a_node_that_its_guardian_does_not_hear_goes_on_answering(cluster: Agents, holder: str) -> None:
    guardian = guarded(cluster, holder)
    with cluster.watched(ADDRESS) as watch, cluster.without_beats(holder, guardian):
        eventually(lambda: cluster.guardian(holder) not in ("", guardian), "another guardian")
    assert watch.order == [holder]


def test_a_node_that_only_the_api_has_lost_never_answers_beside_another(cluster: Agents, holder: str) -> None:
    with cluster.watched(ADDRESS) as watch, cluster.without_link(holder, "cp"):
        eventually(lambda: moved(cluster, holder), "another node to answer")
    assert_handed_over(watch, holder)


def test_an_address_that_another_host_has_is_left_to_it_and_told_of(cluster: Agents, holder: str) -> None:
    cluster.lan.run("c2", "ip", "addr", "add", f"{TAKEN}/32", "dev", "eth0")
    try:
        cluster.apply(service("taken", TAKEN))

        def told() -> bool:
            found = cluster.objects("events", "-A")
            return any(TAKEN in one["message"] for one in found if one["reason"] == "AddressConflict")

        eventually(told, "an Event on the Service")
        assert cluster.lan.who_has("c1", TAKEN) == cluster.lan.mac("c2")
        sentence = f"{cluster.lan.mac('c2')} on eth0 of node"
        assert sentence in cluster.reports()[TAKEN]["problem"]
        assert sentence in cluster.lbipam("explain", "default/taken")
        assert any('stage="conflict"} 1.0' in cluster.metrics(name) for name in NODES)
    finally:
        cluster.lan.run("c2", "ip", "addr", "del", f"{TAKEN}/32", "dev", "eth0")
        cluster.kubectl("delete", "service", "taken")


def test_ten_thousand_requests_a_second_are_answered_while_agents_work(cluster: Agents, holder: str) -> None:
    wanted = [address for address, one in cluster.reports().items() if one["node"] == holder]
    words = ("10000", "3", *wanted)
    asker = cluster.lan.spawn("c1", sys.executable, "-m", "tests.lab.l2.asker", *words)
    try:
        for number in range(20):
            cluster.kubectl(
                "annotate", "service", f"s{number}", f"lbipam.dev/prefer-node={holder}", "--overwrite"
            )
        out, _ = asker.communicate(timeout=labs.DEADLINE_SECONDS)
    finally:
        asker.kill()
        asker.wait()
    found = json.loads(out)
    assert found["answered"] == found["sent"] == 30_000


def test_requests_and_moves_are_counted(cluster: Agents, holder: str) -> None:
    number = cluster.number

    def rises(metric: str, name: str, act: str) -> None:
        before = number(name, metric)
        cluster.lan.run("c1", "arping", "-c", "1", "-I", "eth0", act, check=False)
        eventually(lambda: number(name, metric) > before, f"{metric} of {name} to rise")

    other = next(name for name in NODES if name != holder)
    rises('requests_answered_total{interface="eth0",protocol="arp"}', holder, ADDRESS)
    rises('requests_ignored_total{interface="eth0",reason="not_announced"}', other, ADDRESS)
    assert number(holder, 'announcements{interface="eth0",stage="announced"}') > MANY / 5
    assert cluster.renewals(holder) > 0
    away = number(holder, 'moves_total{direction="away"}')
    cluster.apply(service("app", ADDRESS, at=other))
    eventually(lambda: cluster.holder(ADDRESS) == other, "the preferred node to answer")
    eventually(lambda: number(holder, 'moves_total{direction="away"}') > away, "the move to be counted")
    assert number(other, 'moves_total{direction="here"}') > 0
    assert shown(cluster.metrics(holder)) - told("agent") == set(), MEND
