"""What happens over time: changes, restarts, failovers, and the end."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from itertools import count

import pytest

from lbipam.adapters import conntrack
from lbipam.adapters.nft_library import Applied, NftDatapath
from lbipam.commands.lab.namespaces import LabError
from lbipam.core.datapath.services import (
    Algorithm,
    IPMode,
    Node,
    Protocol,
    Service,
    ServicePort,
    TrafficPolicy,
)
from tests.core.datapath.builders import blocks, packet, ruleset, vips
from tests.core.datapath.simulator import Delivered, Fate, Outcome
from tests.lab.datapath.conversation import LONG_SECONDS, SHORT_SECONDS, ask, opened
from tests.lab.datapath.lost_answers import overheard
from tests.lab.datapath.topology import CLIENT, CLIENT6, CLIENTS, NODES, PODS, PORT, Lab, endpoints
from tests.patience import until

VIP, VIP6 = "198.19.0.1", "fd00:19::1"
flows = count(21000)
"""Ports of clients whose packets belong to one flow; each is used by one test only, for conntrack remembers them."""
FOREIGN = """
table ip lbipam { chain theirs { counter; }
}
table inet filter {
 map services4 { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 198.19.0.1 . tcp . 80 : accept }; }
 chain input { type filter hook input priority 0; policy accept; }
}
"""
HOST_PORT = """
table ip theirs {
 chain prerouting { type nat hook prerouting priority -100; tcp dport 8443 dnat to 10.1.0.2:8080; }
}
"""


def web(*pods: str, node: str = "n1", leaving: str = "", **fields: object) -> Service:
    behind = tuple(e for family in (4, 6) for e in endpoints(*pods, node=node, family=family))
    if leaving:
        state = {"ready": False, "terminating": True}
        behind += tuple(e for family in (4, 6) for e in endpoints(leaving, node=node, family=family, **state))
    ports = tuple(ServicePort(name=p.value, protocol=p, port=80, endpoints=behind) for p in Protocol)
    options: dict[str, object] = {"ports": ports, "load_balancer": vips(VIP, VIP6), **fields}
    return Service(namespace="lab", name="web", **options)  # type: ignore[arg-type]


PROTOCOLS = pytest.mark.parametrize("protocol", [protocol.value for protocol in Protocol])
DATAGRAMS = pytest.mark.parametrize("protocol", ["udp", "sctp"])


async def asked(
    lab: Lab, source: str, *, vip: str = VIP, protocol: str = "tcp", source_port: int = 0
) -> Outcome:
    return await ask(lab, "client", packet(source, vip, protocol), source_port=source_port)


def pod(outcome: Outcome) -> str:
    assert isinstance(outcome, Delivered)
    return str(outcome.address)


async def test_only_its_own_table_is_touched_and_it_goes_when_asked_to(lab: Lab, n1: NftDatapath) -> None:
    def tables() -> str:
        return lab.inside("n1", "nft", "list", "ruleset")

    lab.inside("n1", "nft", FOREIGN)
    try:
        before = tables()
        assert "theirs" in before
        await n1.apply(ruleset([web("p1")], NODES["n1"]))
        await n1.apply(ruleset([web("p2")], NODES["n1"]))
        assert "table inet lbipam" in tables()
        await n1.cleanup()
        assert tables() == before
    finally:
        lab.inside("n1", "nft", "delete table ip lbipam; delete table inet filter")


async def test_traffic_goes_on_while_the_agent_is_away_and_when_it_comes_back(
    lab: Lab, n1: NftDatapath
) -> None:
    rules = ruleset([web("p1", "p2", "p3", affinity_seconds=600)], NODES["n1"])
    await n1.apply(rules)
    loop = asyncio.get_running_loop()
    with opened(lab, "client", packet(CLIENT, VIP), socket.SOCK_STREAM) as connection:
        await loop.sock_connect(connection, (VIP, 80))
        first = await loop.sock_recv(connection, 256)
        stays = {source: await asked(lab, source) for source in CLIENTS[:8]}

        async def goes_on() -> None:
            await loop.sock_sendall(connection, b"still there?\n")
            assert await loop.sock_recv(connection, 256) == first
            assert {source: await asked(lab, source) for source in CLIENTS[:8]} == stays

        away = NftDatapath()
        with lab.entered("n1"):
            await away.apply(rules)
        await away.close()
        await goes_on()
        back = NftDatapath()
        with lab.entered("n1"):
            await back.apply(rules)
        await goes_on()
        await back.close()


async def test_a_start_mends_what_is_wrong_and_what_others_broke_is_mended_later(
    lab: Lab, n1: NftDatapath
) -> None:
    rules = ruleset([web("p1")], NODES["n1"])
    await n1.apply(rules)
    quiet = await n1.reconcile()
    assert quiet is not None
    assert not quiet.changed
    for damage in (
        "delete element inet lbipam services4 { 198.19.0.1 . 6 . 80 }",
        "flush chain inet lbipam tcp-1",
        "add element inet lbipam addresses4 { 192.0.2.9 }",
        "delete table inet lbipam",
    ):
        lab.inside("n1", "nft", damage)
        mended = await n1.reconcile()
        assert mended is not None
        assert mended.changed
        assert pod(await asked(lab, CLIENT)) == "10.1.0.2"


async def test_a_change_succeeds_even_if_others_removed_the_table(lab: Lab, n1: NftDatapath) -> None:
    await n1.apply(ruleset([web("p1")], NODES["n1"]))
    lab.inside("n1", "nft", "delete table inet lbipam")
    await n1.apply(ruleset([web("p2")], NODES["n1"]))
    assert pod(await asked(lab, CLIENT)) == "10.1.0.3"


async def test_a_datagram_flow_stays_while_its_endpoint_leaves_and_moves_on_when_it_is_gone(
    lab: Lab, n1: NftDatapath
) -> None:
    await n1.apply(ruleset([web("p1")], NODES["n1"]))
    loop = asyncio.get_running_loop()
    for source, vip in ((CLIENT, VIP), (CLIENT6, VIP6)):
        with opened(lab, "client", packet(source, vip, "udp"), socket.SOCK_DGRAM) as flow:
            await loop.sock_connect(flow, (vip, 80))

            async def who(flow: socket.socket = flow) -> str:
                await loop.sock_sendall(flow, b"who?")
                async with asyncio.timeout(10):
                    return (await loop.sock_recv(flow, 256)).decode().split()[0]

            await n1.apply(ruleset([web("p1")], NODES["n1"]))
            assert await who() == "p1"
            # The second pod is ready and gets what is new.
            applied = await n1.apply(ruleset([web("p2", leaving="p1")], NODES["n1"]))
            assert applied == Applied(changed=True)
            assert await who() == "p1"
            applied = await n1.apply(ruleset([web("p2")], NODES["n1"]))
            assert applied.forgotten >= 1
            assert await who() == "p2"


@DATAGRAMS
async def test_a_flow_is_forgotten_that_began_before_the_agent_or_under_an_earlier_one(
    lab: Lab, n1: NftDatapath, protocol: str
) -> None:
    flow = partial(asked, lab, CLIENT, protocol=protocol, source_port=next(flows))
    before = next(flows)
    # Nobody answers, but conntrack remembers where it went.
    await ask(lab, "client", packet(CLIENT, VIP, protocol), source_port=before, seconds=SHORT_SECONDS)
    await n1.apply(ruleset([web("p1")], NODES["n1"]))
    assert pod(await asked(lab, CLIENT, protocol=protocol, source_port=before)) == "10.1.0.2"
    assert pod(await flow()) == "10.1.0.2"
    later = NftDatapath()
    with lab.entered("n1"):
        await later.apply(ruleset([web("p2")], NODES["n1"]))
    await later.close()
    assert pod(await flow()) == "10.1.0.3"


@DATAGRAMS
async def test_a_flow_that_was_refused_goes_to_the_first_endpoint_that_comes(
    lab: Lab, n1: NftDatapath, protocol: str
) -> None:
    """Of what is forwarded untranslated conntrack remembers that, too: here another node had the address."""
    flow = partial(asked, lab, CLIENT, protocol=protocol, source_port=next(flows))
    elsewhere = replace(web(), load_balancer=vips(VIP, mode=IPMode.PROXY))
    await n1.apply(ruleset([elsewhere], NODES["n1"]))
    sent = packet(CLIENT, VIP, protocol)
    await ask(lab, "client", sent, source_port=flow.keywords["source_port"], seconds=SHORT_SECONDS)
    await n1.apply(ruleset([web("p1")], NODES["n1"]))
    assert pod(await flow()) == "10.1.0.2"
    await n1.apply(ruleset([web("p2")], NODES["n1"]))
    assert pod(await flow()) == "10.1.0.3"


async def test_a_new_agent_sends_no_client_to_an_endpoint_that_left_meanwhile(
    lab: Lab, n1: NftDatapath
) -> None:
    await n1.apply(ruleset([web("p1", "p2", affinity_seconds=600)], NODES["n1"]))
    stays = {source: pod(await asked(lab, source)) for source in CLIENTS[:8]}
    assert set(stays.values()) == {"10.1.0.2", "10.1.0.3"}
    later = NftDatapath()
    with lab.entered("n1"):
        await later.apply(ruleset([web("p1", affinity_seconds=600)], NODES["n1"]))
    await later.close()
    assert {pod(await asked(lab, source)) for source in stays} == {"10.1.0.2"}


async def test_a_segment_of_a_client_that_conntrack_cannot_match_does_not_end_its_connection(
    lab: Lab, n1: NftDatapath
) -> None:
    """It is for nobody, but to refuse it would reset a good connection."""
    await n1.apply(ruleset([web("p1")], NODES["n1"]))
    loop = asyncio.get_running_loop()
    with (
        overheard(lab, "client") as wire,
        opened(lab, "client", packet(CLIENT, VIP), socket.SOCK_STREAM) as client,
    ):
        await loop.sock_connect(client, (VIP, 80))
        first = await loop.sock_recv(client, 256)
        wire.send_what_nobody_waits_for()
        await loop.sock_sendall(client, b"still there?\n")
        assert await loop.sock_recv(client, 256) == first


@pytest.mark.parametrize("shown", ["in its status", "as its external IP"])
async def test_a_service_at_another_nodes_address_takes_only_its_ports(
    lab: Lab, n1: NftDatapath, shown: str
) -> None:
    other = str(NODES["n2"].addresses[0])
    fields = (
        {"load_balancer": vips(other)} if shown == "in its status" else {"external_ips": (ip_address(other),)}
    )
    await n1.apply(ruleset([web("p1", **fields)], NODES["n1"], nodes=NODES["n2"].addresses))
    with lab.entered("n2"):
        server = socket.create_server((other, 10250))
    with server:
        for where, source in (("n1", "192.168.0.1"), ("p1", "10.1.0.2")):
            assert pod(await ask(lab, where, packet(source, other))) == "10.1.0.2"
            with opened(lab, where, packet(source, other), socket.SOCK_STREAM) as client:
                async with asyncio.timeout(LONG_SECONDS):
                    await asyncio.get_running_loop().sock_connect(client, (other, 10250))
    lab.inside("n2", "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1")
    try:
        with pytest.raises(LabError, match="100% packet loss"):
            lab.inside("n1", "ping", "-c1", "-W1", other)
    finally:
        lab.inside("n2", "sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=0")


async def test_what_others_translate_at_the_nodes_address_is_theirs(lab: Lab, n1: NftDatapath) -> None:
    """As a CNI does with a pod's `hostPort`; the Service has that address by `io.cilium/node`."""
    own = str(NODES["n1"].addresses[0])
    await n1.apply(ruleset([web("p2", load_balancer=vips(own))], NODES["n1"]))
    lab.inside("n1", "nft", HOST_PORT)
    try:
        assert await asked(lab, CLIENT, vip=own) == Delivered(ip_address("10.1.0.3"), PORT, masqueraded=True)
        of_others = await ask(lab, "client", packet(CLIENT, own, port=8443))
        assert of_others == Delivered(ip_address("10.1.0.2"), PORT, masqueraded=False)
    finally:
        lab.inside("n1", "nft", "delete table ip theirs")


async def test_an_address_that_the_node_has_itself_leaves_its_other_ports_to_the_node(
    lab: Lab, n1: NftDatapath
) -> None:
    """Whether the Node's status tells of it or not."""
    await n1.apply(ruleset([web("p1")], NODES["n1"]))
    lab.inside("n1", "ip", "addr", "add", f"{VIP}/32", "dev", "lo")
    try:
        with lab.entered("n1"):
            server = socket.create_server((VIP, 81))
        with server, opened(lab, "client", packet(CLIENT, VIP), socket.SOCK_STREAM) as client:
            await asyncio.get_running_loop().sock_connect(client, (VIP, 81))
        assert pod(await asked(lab, CLIENT)) == "10.1.0.2"
    finally:
        lab.inside("n1", "ip", "addr", "del", f"{VIP}/32", "dev", "lo")


async def test_what_could_not_be_forgotten_is_forgotten_the_next_time(
    lab: Lab, n1: NftDatapath, monkeypatch: pytest.MonkeyPatch
) -> None:
    await n1.apply(ruleset([web("p1")], NODES["n1"]))
    loop = asyncio.get_running_loop()
    with opened(lab, "client", packet(CLIENT, VIP, "udp"), socket.SOCK_DGRAM) as flow:
        await loop.sock_connect(flow, (VIP, 80))
        await loop.sock_sendall(flow, b"who?")
        await loop.sock_recv(flow, 256)
        with monkeypatch.context() as broken:
            broken.setattr(conntrack, "_NETLINK_NETFILTER", -1)
            with pytest.raises(OSError, match="not supported"):
                await n1.apply(ruleset([web("p2")], NODES["n1"]))
        forgotten = await n1.reconcile()
        assert forgotten is not None
        assert forgotten.forgotten >= 1
        await loop.sock_sendall(flow, b"who?")
        assert (await loop.sock_recv(flow, 256)).startswith(b"p2 ")


@PROTOCOLS
async def test_a_client_is_remembered_until_its_time_or_its_endpoint_is_over(
    lab: Lab, n1: NftDatapath, protocol: str
) -> None:
    for vip, source in ((VIP, CLIENT), (VIP6, CLIENT6)):
        await n1.apply(ruleset([web("p1", "p2", "p3", affinity_seconds=600)], NODES["n1"]))
        first = await asked(lab, source, vip=vip, protocol=protocol)
        assert {await asked(lab, source, vip=vip, protocol=protocol) for _ in range(12)} == {first}
        left = [name for name in ("p1", "p2", "p3") if pod(first) not in _addresses(name)]
        await n1.apply(ruleset([web(*left, affinity_seconds=600)], NODES["n1"]))
        second = await asked(lab, source, vip=vip, protocol=protocol)
        assert pod(second) != pod(first)
        assert {await asked(lab, source, vip=vip, protocol=protocol) for _ in range(12)} == {second}

        await n1.apply(ruleset([web("p1", "p2", "p3", affinity_seconds=1)], NODES["n1"]))
        short = await asked(lab, source, vip=vip, protocol=protocol)
        later = short
        while later == short:
            await until(partial(_is_forgotten, lab, protocol, vip, source))
            later = await asked(lab, source, vip=vip, protocol=protocol)


def _is_forgotten(lab: Lab, protocol: str, vip: str, source: str) -> bool:
    name = f"clients-{protocol}-{vip.replace(':', '_')}-80-8080-1s"
    return source not in lab.inside("n1", "nft", "list", "map", "inet", "lbipam", name)


def _addresses(name: str) -> set[str]:
    return {str(e.address) for family in (4, 6) for e in endpoints(name, node="n1", family=family)}


@PROTOCOLS
async def test_with_maglev_a_change_of_node_keeps_clients_on_their_pod(
    lab: Lab, n1: NftDatapath, n2: NftDatapath, protocol: str
) -> None:
    for node, datapath in (("n1", n1), ("n2", n2)):
        service = web("p1", "p2", "p3", node=node, algorithm=Algorithm.MAGLEV)
        await datapath.apply(ruleset([service], NODES[node]))

    async def where_all_are() -> dict[str, str]:
        answers = await asyncio.gather(*(asked(lab, source, protocol=protocol) for source in CLIENTS))
        return {source: pod(answer) for source, answer in zip(CLIENTS, answers, strict=True)}

    at_first = await where_all_are()
    assert len(set(at_first.values())) == 3
    lab.route("198.19.0.0/24", "n2")
    assert await where_all_are() == at_first
    lab.route("198.19.0.0/24", "n1", "n2")
    assert await where_all_are() == at_first

    for node, datapath in (("n1", n1), ("n2", n2)):
        service = web("p1", "p2", node=node, algorithm=Algorithm.MAGLEV)
        await datapath.apply(ruleset([service], NODES[node]))
    after = await where_all_are()
    others = [source for source in CLIENTS if at_first[source] != "10.1.1.2"]
    moved = [source for source in others if after[source] != at_first[source]]
    assert len(moved) <= len(others) / 3


async def test_an_address_answers_to_ping_from_everywhere(lab: Lab, n1: NftDatapath) -> None:
    await n1.apply(ruleset([web("p1")], NODES["n1"], blocks("198.19.0.128/25")))
    for where in ("client", "p1", "n1"):
        for vip in (VIP, VIP6):
            assert " 0% packet loss" in lab.inside(where, "ping", "-c1", "-W5", vip)


@contextmanager
def bare_wire(lab: Lab, pod: str) -> Iterator[None]:
    """The node has no IPv4 address on its wire to the pod, as with Calico, and yet answers for the gateway."""
    node, address, _ = PODS[pod]
    lab.inside(node, "sysctl", "-qw", f"net.ipv4.conf.{pod}.proxy_arp=1")
    lab.inside(node, "ip", "addr", "del", "169.254.1.1/32", "dev", pod)
    # Routes go with the last address.
    lab.inside(node, "ip", "route", "add", address, "dev", pod)
    try:
        yield
    finally:
        lab.inside(node, "ip", "addr", "add", "169.254.1.1/32", "dev", pod)
        lab.inside(node, "sysctl", "-qw", f"net.ipv4.conf.{pod}.proxy_arp=0")


async def test_an_address_answers_to_ping_by_an_interface_without_one(lab: Lab, n1: NftDatapath) -> None:
    await n1.apply(ruleset([web("p1")], NODES["n1"]))
    with bare_wire(lab, "p1"):
        assert " 0% packet loss" in lab.inside("p1", "ping", "-c1", "-W5", VIP)


async def test_while_the_nodes_address_is_unknown_the_interface_answers_to_ping(
    lab: Lab, n1: NftDatapath
) -> None:
    await n1.apply(ruleset([web("p1")], Node()))
    for vip in (VIP, VIP6):
        assert " 0% packet loss" in lab.inside("client", "ping", "-c1", "-W5", vip)


@pytest.mark.parametrize(
    ("pod", "policy"),
    [("p1", TrafficPolicy.LOCAL), ("p1", TrafficPolicy.CLUSTER), ("p3", TrafficPolicy.CLUSTER)],
    ids=["to the client", "to the node", "from another node"],
)
async def test_an_answer_that_conntrack_cannot_match_does_not_end_its_connection(
    lab: Lab, n1: NftDatapath, pod: str, policy: TrafficPolicy
) -> None:
    """Not translated back, it would be answered with a reset that the pod believes."""
    everybodys = replace(NODES["n1"], pods=NODES["n1"].pods + NODES["n2"].pods, shares_blocks=True)
    await n1.apply(ruleset([web(pod, external_policy=policy)], everybodys))
    loop = asyncio.get_running_loop()
    with (
        overheard(lab, pod) as wire,
        opened(lab, "client", packet(CLIENT, VIP), socket.SOCK_STREAM) as client,
    ):
        await loop.sock_connect(client, (VIP, 80))
        first = await loop.sock_recv(client, 256)
        wire.send_what_nobody_waits_for()
        await loop.sock_sendall(client, b"still there?\n")
        assert await loop.sock_recv(client, 256) == first


async def test_nothing_goes_round_in_circles(lab: Lab, n1: NftDatapath) -> None:
    """Whatever comes for an address and is nobody's is refused by the node, not sent back to the router."""
    await n1.apply(ruleset([web("p1")], NODES["n1"], blocks("198.19.0.128/25", "fd00:19::8000/113")))
    counted = "table inet circles { chain back { type filter hook prerouting priority 0;" + "".join(
        f" iif lan {ip} daddr {block} counter name {name};"
        for ip, block, name in (("ip", "198.19.0.0/24", "back4"), ("ip6", "fd00:19::/64", "back6"))
    )
    counters = "table inet circles { counter back4 {} ; counter back6 {} ; }"
    lab.inside("router", "nft", f"{counters}\n{counted} }}; }}")
    try:
        for target in (VIP, VIP6, "198.19.0.200", "fd00:19::8001"):
            source = CLIENT6 if ":" in target else CLIENT
            for protocol, fate in (
                ("tcp", Fate.RESET),
                ("udp", Fate.UNREACHABLE),
                ("sctp", Fate.UNREACHABLE),
            ):
                assert await ask(lab, "client", packet(source, target, protocol, 81)) is fate
        said = lab.inside("router", "nft", "list", "counters", "table", "inet", "circles")
        assert said.count("packets 0 bytes 0") == 2, said
    finally:
        lab.inside("router", "nft", "delete table inet circles")


async def test_a_proxied_address_is_left_to_the_load_balancer(lab: Lab, n1: NftDatapath) -> None:
    """With `ipMode: Proxy` what a pod sends leaves the node; here the router is the load balancer."""
    balancer = "192.0.2.1"
    await n1.apply(
        ruleset([replace(web("p1"), load_balancer=vips(balancer, mode=IPMode.PROXY))], NODES["n1"])
    )
    loop = asyncio.get_running_loop()
    with lab.entered("router"):
        connections = socket.create_server((balancer, 80))
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with connections, datagrams:
        datagrams.bind((balancer, 80))
        for listening, kind in ((connections, socket.SOCK_STREAM), (datagrams, socket.SOCK_DGRAM)):
            listening.setblocking(False)
            with opened(lab, "p2", packet("10.1.0.3", balancer), kind) as client:
                await loop.sock_connect(client, (balancer, 80))
                await loop.sock_sendall(client, b"who am I?")
                if kind is socket.SOCK_STREAM:
                    accepted, (peer, _) = await loop.sock_accept(listening)
                    accepted.close()
                else:
                    _, (peer, _) = await loop.sock_recvfrom(listening, 256)
                assert peer == "10.1.0.3"
