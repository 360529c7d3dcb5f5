"""Updates in the kernel, in a network namespace of the test's own."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from ipaddress import IPv4Network, ip_address
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyroute2 import netns

from lbipam.adapters import nft_library, nft_tables
from lbipam.adapters.nft_library import Nft, NftDatapath, NftLibrary, NftProgram, NftRefused
from lbipam.core.datapath import nft, report
from lbipam.core.datapath.ruleset import Element, Update
from lbipam.core.datapath.services import IPNetwork, Node, Service
from tests.core.datapath.builders import blocks, carry_out, change, endpoint, instead_of, ruleset, tcp, vips
from tests.core.datapath.simulator import Simulator
from tests.core.datapath.test_ruleset import nodes, services

pytestmark = pytest.mark.lab

REFUSED = blocks("198.19.0.8/29", "198.19.0.8/30", "198.19.0.12/32", "198.19.0.0/24", "fd00:19::/64")

_numbers = count()


@pytest.fixture
def own_netns() -> Iterator[str]:
    """The test and all threads that it starts are in a network namespace that ends with it."""
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")
    name = f"nft{os.getpid()}-{next(_numbers)}"
    netns.create(name)
    netns.pushns(name)
    try:
        yield name
    finally:
        netns.popns()
        netns.remove(name)


@pytest.fixture
async def datapath(own_netns: str) -> AsyncIterator[NftDatapath]:
    opened = NftDatapath()
    yield opened
    await opened.close()


@pytest.fixture(params=[NftLibrary, NftProgram])
def kernel(own_netns: str, request: pytest.FixtureRequest) -> Iterator[Nft]:
    opened: Nft = request.param()
    yield opened
    opened.close()


def web(*addresses: str, name: str = "web", **fields: object) -> Service:
    ports = (tcp(80, *(endpoint(address) for address in addresses)),)
    return Service(namespace="shop", name=name, ports=ports, load_balancer=vips("198.19.0.1"), **fields)  # type: ignore[arg-type]


def listed(*what: str) -> str:
    command = ["nft", "-n", "list", *(what or ("ruleset",))]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def elements(rules: Update) -> frozenset[Element]:
    """What the kernel should report of the rules, going by a table that was made from them afresh."""
    listing = listed("table", "inet", "lbipam")
    table = nft.Table()
    table.want(rules)
    repair = table.repair(report.read(listing))
    assert "element" not in repair.transaction
    return report.read(listing).elements


def test_the_library_and_the_program_answer_alike(kernel: Nft) -> None:
    carry_out(kernel, change(nft.Table(), ruleset([web("10.1.0.2")])))
    assert report.read(kernel.run("list table inet lbipam")) == report.read(listed())


def test_a_refusal_tells_where_and_changes_nothing(kernel: Nft) -> None:
    told = r"No such file.* \(line 2, column \d+: add rule inet lbipam nowhere accept\)"
    with pytest.raises(NftRefused, match=told):
        kernel.run("add table inet lbipam\nadd rule inet lbipam nowhere accept\n")
    assert listed() == ""


def test_a_trial_refuses_as_the_kernel_would_and_changes_nothing(kernel: Nft) -> None:
    kernel.run("add table inet lbipam")
    before = listed()
    kernel.run("add set inet lbipam taken { type ipv4_addr; }", is_trial=True)
    with pytest.raises(NftRefused):
        kernel.run("add rule inet lbipam nowhere accept", is_trial=True)
    assert listed() == before
    kernel.run("add set inet lbipam taken { type ipv4_addr; }")
    assert "taken" in listed()


def test_a_refusal_without_a_place_keeps_its_words() -> None:
    assert str(nft_library.refusal("out of memory\n", "add table x")) == "out of memory"


@given(
    worlds=st.lists(
        st.tuples(services, nodes, st.lists(st.sampled_from(REFUSED), max_size=2)), min_size=2, max_size=4
    )
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_kernel_takes_every_transaction_and_reports_what_is_wanted(
    own_netns: str, worlds: list[tuple[list[Service], Node, list[IPNetwork]]]
) -> None:
    library, table, before = NftLibrary(), nft.Table(), ruleset([])
    for of_world, node, refused in worlds:
        rules = ruleset(of_world, node, refused)
        changed = change(table, instead_of(before, rules))
        carry_out(library, changed)
        table.commit(changed)
        before = rules
        found = report.read(library.run("list table inet lbipam"))
        afresh = Simulator()
        carry_out(afresh, change(nft.Table(), rules))
        assert found.chains == afresh.chains.keys()
        assert found.sets.keys() == afresh.sets.keys()
        assert found.elements == {
            Element(name, key, data) for name, members in afresh.sets.items() for key, data in members.items()
        }
    library.close()


def test_rules_need_no_file_of_names(own_netns: str) -> None:
    """Small images and hosts have neither `/etc/protocols` nor `/etc/services`."""
    everything = web("10.1.0.2", "fd00:1::2", affinity_seconds=600, source_ranges=blocks("192.0.2.0/24"))
    hide = (
        "for file in /etc/protocols /etc/services; do test ! -e $file || mount --bind /dev/null $file; done"
    )
    subprocess.run(
        ["unshare", "--mount", "sh", "-ec", f"{hide}; nft -f -"],
        input=change(nft.Table(), ruleset([everything])).transaction,
        check=True,
        text=True,
    )


async def test_changes_stand_when_apply_returns(datapath: NftDatapath) -> None:
    for addresses in (("10.1.0.2",), ("10.1.0.2", "10.1.1.2"), (), ("10.1.0.3",)):
        rules = ruleset([web(*addresses)])
        assert (await datapath.apply(rules)).changed
        assert elements(rules)


async def test_clients_are_not_kept_at_a_port_that_an_endpoint_no_longer_has(datapath: NftDatapath) -> None:
    """As while Pods are replaced by others with another `containerPort` at the same address: the node's, say."""

    def sticky(port: int) -> Update:
        behind = (endpoint("10.1.0.2", port), endpoint("10.1.0.3", 8080))
        return ruleset([replace(web(affinity_seconds=600), ports=(tcp(80, *behind),))])

    clients = "inet lbipam clients-tcp-198.19.0.1-80-8080-600s"
    await datapath.apply(sticky(8080))
    learned = "{ 192.0.2.7 : 10.1.0.2, 192.0.2.8 : 10.1.0.3 }"
    subprocess.run(["nft", f"add element {clients} {learned}"], check=True)
    await datapath.apply(sticky(9090))
    assert {str(one.client) for one in report.learned(listed("map", *clients.split()))} == {"192.0.2.8"}


async def test_many_services_stand_and_nobody_else_was_at_the_table(datapath: NftDatapath) -> None:
    addresses = [str(ip_address("198.18.0.0") + number) for number in range(2000)]
    rules = ruleset([replace(web("10.1.0.2", "10.1.0.3"), name=a, load_balancer=vips(a)) for a in addresses])
    await datapath.apply(rules)
    assert len([1 for element in elements(rules) if element.set == "services4"]) == 2000
    assert await datapath.reconcile() == nft_library.Applied(changed=False)


async def test_what_stands_already_is_not_told_to_the_kernel(datapath: NftDatapath) -> None:
    rules = ruleset([web("10.1.0.2")])
    await datapath.apply(rules)
    assert not (await datapath.apply(rules)).changed
    assert not (await datapath.apply(ruleset([web("10.1.0.2")]))).changed


async def test_nothing_is_reconciled_before_anything_was_wanted(datapath: NftDatapath) -> None:
    assert await datapath.reconcile() is None
    assert listed() == ""


def numbered(count: int) -> list[Service]:
    """So many Services, of which the kernel takes each."""
    addresses = [str(ip_address("198.18.0.0") + each) for each in range(count)]
    return [replace(web("10.1.0.2", name=each), load_balancer=vips(each)) for each in addresses]


REFUSED_BY_NFT = replace(web(name="bad"), ports=(tcp(80, endpoint("10.1.0.9", 70000)),))


async def test_a_service_that_the_kernel_does_not_take_is_left_out_until_it_changes(
    datapath: NftDatapath,
) -> None:
    good, good_later = ruleset(numbered(9)), ruleset(numbered(10))
    await datapath.apply(good)
    applied = await datapath.apply(ruleset([REFUSED_BY_NFT]))
    assert not applied.changed, "it is no reason to look at the whole table"
    assert applied.left_out.keys() == {"shop/bad"}
    assert "70000" in applied.left_out["shop/bad"]
    assert (await datapath.apply(ruleset([*numbered(10), REFUSED_BY_NFT]))).left_out == applied.left_out
    assert elements(good_later)
    again = await datapath.reconcile()
    assert again is not None
    assert again.left_out == applied.left_out
    mended = ruleset([web("10.1.0.3", name="bad")])
    assert (await datapath.apply(mended)).left_out == {}
    assert any(element.key == "198.19.0.1 . 6 . 80" for element in report.read(listed()).elements)


async def test_a_start_leaves_out_what_the_kernel_does_not_take(datapath: NftDatapath) -> None:
    applied = await datapath.apply(ruleset([*numbered(10), REFUSED_BY_NFT]))
    assert applied.left_out.keys() == {"shop/bad"}
    assert elements(ruleset(numbered(10)))


async def test_no_service_is_blamed_for_what_is_refused_without_it(datapath: NftDatapath) -> None:
    with pytest.raises(NftRefused):
        await datapath.apply(ruleset(numbered(2), node=Node(pods=(Odd("10.1.0.0/24"),))))
    assert (await datapath.apply(ruleset([]))).left_out == {}
    assert elements(ruleset(numbered(2)))


class Odd(IPv4Network):
    """A block that nft does not understand."""

    def __str__(self) -> str:
        return "odd"


async def test_a_table_of_another_make_is_replaced(datapath: NftDatapath) -> None:
    subprocess.run(
        ["nft", "add table inet lbipam; add set inet lbipam services4 { type inet_service; }"], check=True
    )
    rules = ruleset([web("10.1.0.2")])
    await datapath.apply(rules)
    assert elements(rules)


async def test_a_restart_takes_over_what_an_earlier_process_left(own_netns: str) -> None:
    for addresses in (("10.1.0.2", "10.1.1.2"), ("10.1.0.3",)):
        datapath = NftDatapath()
        rules = ruleset([web(*addresses, affinity_seconds=60)])
        await datapath.apply(rules)
        await datapath.close()
        assert elements(rules)
        assert "chain tcp-2 " in listed() if len(addresses) == 2 else "chain tcp-2 " not in listed()


async def test_cleanup_removes_the_table_and_may_be_repeated(datapath: NftDatapath) -> None:
    await datapath.apply(ruleset([web("10.1.0.2")]))
    await datapath.cleanup()
    await datapath.cleanup()
    assert listed() == ""
    await datapath.apply(ruleset([web("10.1.0.2")]))
    assert "table inet lbipam" in listed()


async def test_without_the_library_the_program_does_it(
    own_netns: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(nft_library.open_nft(), NftLibrary)
    monkeypatch.setattr(nft_library, "LIBRARY", "libnftables-that-is-not-there.so.1")
    assert isinstance(nft_library.open_nft(), NftProgram)
    datapath = NftDatapath()
    rules = ruleset([web("10.1.0.2")])
    await datapath.apply(rules)
    await datapath.close()
    assert elements(rules)


@pytest.mark.parametrize(
    ("commands", "is_lost"),
    [
        ("", False),
        ("add table inet other", False),
        ("flush ruleset", True),
        ("delete table inet lbipam; add table inet lbipam", True),
    ],
)
async def test_a_table_that_others_have_removed_is_missed(
    datapath: NftDatapath, commands: str, is_lost: bool
) -> None:
    assert not await datapath.is_lost(), "nothing was wanted yet"
    rules = ruleset([web("10.1.0.2")])
    await datapath.apply(rules)
    subprocess.run(["nft", commands or "list ruleset"], check=True, capture_output=True)
    assert await datapath.is_lost() is is_lost
    await datapath.reconcile()
    assert not await datapath.is_lost()
    assert elements(rules)


CROWD = "".join(
    f"add element inet other numbers {{ {', '.join(map(str, range(first, first + 1000)))} }}\n"
    for first in range(0, 60_000, 1000)
)


@pytest.mark.parametrize(
    ("commands", "is_ours"),
    [
        ("add table inet other", False),
        ("add table ip lbipam; add chain ip lbipam tcp-1", False),
        ("delete element inet lbipam addresses4 { 198.19.0.1 }", True),
        ("flush chain inet lbipam tcp-1", True),
        (f"add table inet other; add set inet other numbers {{ type mark; }}\n{CROWD}", True),
    ],
    ids=[
        "another table",
        "one of the same name",
        "an element of ours",
        "a chain of ours",
        "too much to hear",
    ],
)
async def test_the_table_is_looked_at_only_if_others_may_have_changed_it(
    datapath: NftDatapath, commands: str, is_ours: bool
) -> None:
    rules = ruleset([web("10.1.0.2")])
    await datapath.apply(rules)
    subprocess.run(["nft", "-f", "-"], input=commands, text=True, check=True)
    for changed in (is_ours, False):
        assert await datapath.reconcile() == nft_library.Applied(changed=changed)
    assert elements(rules)


async def test_what_we_did_ourselves_is_no_reason_to_look_even_if_not_all_of_it_was_heard(
    datapath: NftDatapath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nft_tables, "_HEARD_BYTES", 4096)
    await datapath.apply(ruleset(numbered(1000)))
    assert await datapath.reconcile() == nft_library.Applied(changed=False)


async def test_what_has_been_mended_is_looked_at_no_more(datapath: NftDatapath) -> None:
    await datapath.apply(ruleset([web("10.1.0.2")]))
    subprocess.run(["nft", "delete table inet lbipam"], check=True)
    await datapath.apply(ruleset([web("10.1.0.3")]))
    assert await datapath.reconcile() == nft_library.Applied(changed=False)


async def test_what_others_did_before_a_change_of_ours_is_mended_all_the_same(datapath: NftDatapath) -> None:
    await datapath.apply(ruleset([web("10.1.0.2")]))
    subprocess.run(["nft", "delete element inet lbipam addresses4 { 198.19.0.1 }"], check=True)
    rules = ruleset([web("10.1.0.3")])
    await datapath.apply(rules)
    await datapath.reconcile()
    assert elements(rules)


async def test_what_was_refused_stands_with_the_next_reconciliation(
    datapath: NftDatapath, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = ruleset([web("10.1.0.2")])
    with monkeypatch.context() as absent:
        absent.setattr(nft_library, "LIBRARY", "libnftables-that-is-not-there.so.1")
        absent.setenv("PATH", "/nowhere")
        with pytest.raises(NftRefused):
            await datapath.apply(rules)
    # The program is found again.
    assert (await datapath.reconcile()) == nft_library.Applied(changed=True)
    assert elements(rules)


async def test_without_library_and_program_the_refusal_names_both(
    own_netns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nft_library, "LIBRARY", "libnftables-that-is-not-there.so.1")
    monkeypatch.setenv("PATH", "/nowhere")
    datapath = NftDatapath()
    with pytest.raises(NftRefused, match="neither libnftables"):
        await datapath.apply(ruleset([]))
    await datapath.close()


def test_a_c_library_that_keeps_no_memory_is_not_asked_for_any() -> None:
    nft_library.give_back_memory(object())
