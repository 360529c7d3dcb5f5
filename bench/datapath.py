"""What does it cost a connection to be carried, and a node to know thousands of Services?

    python -m bench.datapath [--quick] [--json FILE]

Runs in network namespaces of its own and needs root, and a real API server with kube-proxy beside it
(KUBEBUILDER_ASSETS). One node carries the Services by our rules and one by kube-proxy's own iptables rules for
the same Services, in the same run and in turns: only the ratio travels from one machine to another.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import select
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import aiohttp
import msgspec
from pyroute2 import netns
from rich.console import Console
from rich.table import Table

from bench import bgp_agent, processes
from lbipam.adapters import kube_config
from lbipam.adapters.kube_client import Client
from lbipam.adapters.nft_library import NftDatapath
from lbipam.adapters.nft_tables import Tables
from lbipam.commands.process import learn_without_pauses
from lbipam.controllers.cache import Cache
from lbipam.controllers.datapath import DatapathReconciler, Options
from lbipam.controllers.ports import Synced, Upserted
from lbipam.core.datapath import frontends
from lbipam.core.datapath.frontends import Frontend
from lbipam.core.datapath.ruleset import Update
from lbipam.core.datapath.services import Endpoint, LoadBalancerAddress, Node, Service, ServicePort
from lbipam.kube import forms
from lbipam.kube.kinds import Kind
from tests.lab.datapath.topology import NODES, PODS, PORT, Lab
from tests.real_api import WHY_NOT, RealApi, assets

Figures: TypeAlias = dict[str, float]

FIRST_VIP, FIRST_CLUSTER_IP = ip_address("198.18.0.1"), ip_address("10.96.64.1")
VIPS = "198.18.0.0/15"
SPREAD = 10
"""So many Services, evenly among all, take the connections: rules in a line are long for some, short for others."""
BEHIND = {"n1": ("p1", "p2"), "n2": ("p3", "p4")}
"""The pods of every Service as each node knows it: its own, so that no connection meets the other node's rules."""
NODE = {
    "metadata": {"name": "n1"},
    "spec": {"podCIDRs": ["10.1.0.0/24"]},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.1"}]},
}
"""As the API has it."""
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
LINGER_RESET = struct.pack("ii", 1, 0)


# --- the world -------------------------------------------------------------------------------------------------


def vip(number: int) -> str:
    return str(FIRST_VIP + number)


def service(number: int, endpoints: tuple[Endpoint, ...]) -> Service:
    return Service(
        namespace="default",
        name=f"web-{number}",
        ports=(ServicePort(port=80, endpoints=endpoints),),
        cluster_ips=(FIRST_CLUSTER_IP + number,),
        load_balancer=(LoadBalancerAddress(address=FIRST_VIP + number),),
    )


def behind(node: str) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(address=ip_address(PODS[pod][1]), port=PORT, local=True) for pod in BEHIND[node])


def claims(services: list[Service], node: Node) -> dict[str, tuple[Frontend, ...]]:
    return {each.key: frontends.frontends(each, node) for each in services}


class Cluster:
    """The Services in a real API server, and kube-proxy on the second node following them."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        gates = "IPv6DualStack=true,ServiceLBNodePortControl=true"
        self._api = stack.enter_context(
            RealApi(service_cidrs="10.96.0.0/16,fd00:96::/108", feature_gates=gates)
        )
        self._lab = lab
        self._count = 0
        self._relay(stack)
        folder = assets()
        assert folder is not None
        flags = (
            f"--kubeconfig={self._api.kubeconfig} --proxy-mode=iptables --hostname-override=n2"
            " --cluster-cidr=10.1.1.0/24 --iptables-sync-period=1h --iptables-min-sync-period=1s"
            " --conntrack-max-per-core=0 --conntrack-min=0 --conntrack-tcp-timeout-established=0"
            " --conntrack-tcp-timeout-close-wait=0 --healthz-bind-address= --metrics-bind-address="
        )
        self._proxy = subprocess.Popen(
            ["ip", "netns", "exec", lab.name("n2"), str(folder / "kube-proxy"), *flags.split(" ")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(self._end)

    def _end(self) -> None:
        self._proxy.send_signal(signal.SIGCONT)
        self._proxy.kill()
        self._proxy.wait()

    @contextmanager
    def still(self) -> Iterator[None]:
        """Neither kube-proxy nor the API server does anything; the rules stand."""
        self._proxy.send_signal(signal.SIGSTOP)
        try:
            with self._api.paused():
                yield
        finally:
            self._proxy.send_signal(signal.SIGCONT)

    def grow_to(self, count: int) -> None:
        """Add Services until there are so many, and wait until kube-proxy has rules for all."""
        asyncio.run(self._create(range(self._count, count)))
        self._count = count
        deadline = time.monotonic() + 600
        while self._rules() < count:
            assert time.monotonic() < deadline, (
                f"kube-proxy has rules for {self._rules()} of {count} Services"
            )
            assert self._proxy.poll() is None, "kube-proxy ended"
            threading.Event().wait(0.5)

    def _rules(self) -> int:
        saved = self._lab.inside("n2", "iptables-save", "-t", "nat")
        return sum("KUBE-SERVICES" in line and "loadbalancer IP" in line for line in saved.splitlines())

    async def _create(self, numbers: range) -> None:
        headers = {"Authorization": f"Bearer {self._api.token}"}
        connector = aiohttp.TCPConnector(
            ssl=ssl.create_default_context(cafile=str(self._api.ca_file)), limit=16
        )
        async with aiohttp.ClientSession(self._api.url, headers=headers, connector=connector) as session:
            todo = iter(numbers)

            async def work() -> None:
                for number in todo:
                    await self._create_one(session, number)

            await asyncio.gather(*(work() for _ in range(16)))

    async def _create_one(self, session: aiohttp.ClientSession, number: int) -> None:
        name, group = f"web-{number}", "/apis/discovery.k8s.io/v1beta1"
        spec = {
            "type": "LoadBalancer",
            "clusterIP": str(FIRST_CLUSTER_IP + number),
            "allocateLoadBalancerNodePorts": False,
            "ports": [{"port": 80, "targetPort": PORT}],
        }
        await _send(
            session.post(
                "/api/v1/namespaces/default/services", json={"metadata": {"name": name}, "spec": spec}
            )
        )
        slice_ = {
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "", "port": PORT, "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": [PODS[pod][1]],
                    "conditions": {"ready": True},
                    "topology": {"kubernetes.io/hostname": PODS[pod][0]},
                }
                for pod in BEHIND["n2"]
            ],
        }
        await _send(session.post(f"{group}/namespaces/default/endpointslices", json=slice_))
        patch = json.dumps({"status": {"loadBalancer": {"ingress": [{"ip": vip(number)}]}}})
        kind = {"Content-Type": "application/merge-patch+json"}
        await _send(
            session.patch(f"/api/v1/namespaces/default/services/{name}/status", data=patch, headers=kind)
        )

    def _relay(self, stack: ExitStack) -> None:
        """The API server's loopback port, in the node's namespace."""
        port = int(self._api.url.rpartition(":")[2])
        with self._lab.entered("n2"):
            listener = socket.create_server(("127.0.0.1", port))
        stack.callback(listener.close)
        stack.callback(listener.shutdown, socket.SHUT_RDWR)
        threading.Thread(target=_accept, args=(listener, port), daemon=True).start()


async def _send(request: object) -> None:
    async with request as answer:  # type: ignore[attr-defined]
        if answer.status >= 300:
            raise RuntimeError(await answer.text())


def _accept(listener: socket.socket, port: int) -> None:
    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        far = socket.create_connection(("127.0.0.1", port))
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=_copy, args=(one, other), daemon=True).start()


def _copy(one: socket.socket, other: socket.socket) -> None:
    try:
        while data := one.recv(1 << 16):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        one.close()
        other.close()


# --- who speaks ------------------------------------------------------------------------------------------------


def serve(lab: Lab, ready: "multiprocessing.synchronize.Event") -> None:
    """Accept every connection; answer a byte with a byte."""
    poll = select.epoll()
    open_: dict[int, socket.socket] = {}
    listening: set[int] = set()
    for pod in PODS:
        netns.pushns(lab.name(pod))
        listener = socket.create_server((PODS[pod][1], PORT), backlog=4096)
        netns.popns()
        listener.setblocking(False)
        open_[listener.fileno()] = listener
        listening.add(listener.fileno())
        poll.register(listener, select.EPOLLIN)
    ready.set()
    while True:
        for number, _ in poll.poll():
            if number in listening:
                accepted, _ = open_[number].accept()
                open_[accepted.fileno()] = accepted
                poll.register(accepted, select.EPOLLIN)
                continue
            try:
                said = open_[number].recv(1)
            except ConnectionError:
                said = b""
            if said:
                open_[number].sendall(said)
            else:
                open_.pop(number).close()


class Rate(NamedTuple):
    """Connections made: in a second, and in a second of the client's CPU.

    Packets are worked on in the name of who sends them until they arrive, so that the client's CPU pays for
    the nodes on the way; other work on the machine changes the first figure much more than the second.
    """

    by_clock: float
    by_cpu: float


def connections(lab: Lab, targets: list[tuple[str, int]], seconds: float) -> Rate:
    """One client, one connection after the other, each ended at once."""
    with lab.entered("client"):
        made, start, cpu = 0, time.perf_counter(), time.process_time()
        end = start + seconds
        while time.perf_counter() < end:
            for target in targets:
                with socket.socket() as client:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
                    client.settimeout(10)
                    client.connect(target)
                made += 1
        return Rate(made / (time.perf_counter() - start), made / (time.process_time() - cpu))


def round_trips(lab: Lab, target: tuple[str, int], seconds: float) -> list[float]:
    """Microseconds from a byte to its answer on one connection, with Nagle's algorithm off."""
    with lab.entered("client"):
        client = socket.create_connection(target, timeout=10)
    with client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            start = time.perf_counter()
            client.sendall(b"?")
            client.recv(1)
            times.append((time.perf_counter() - start) * 1e6)
    return times


def connects(lab: Lab, target: tuple[str, int], seconds: float) -> list[float]:
    """Microseconds until a connection is made."""
    times = []
    with lab.entered("client"):
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
                client.settimeout(10)
                start = time.perf_counter()
                client.connect(target)
                times.append((time.perf_counter() - start) * 1e6)
    return times


# --- what is measured ------------------------------------------------------------------------------------------


async def apply(lab: Lab, update: Update) -> None:
    datapath = NftDatapath()
    with lab.entered("n1"):
        await datapath.apply(update)
    await datapath.close()


def against_kube_proxy(lab: Lab, cluster: Cluster, count: int, seconds: float, rounds: int) -> Figures:
    cluster.grow_to(count)
    services = [service(number, behind("n1")) for number in range(count)]
    asyncio.run(apply(lab, Update(node=NODES["n1"], services=claims(services, NODES["n1"]))))
    targets = [(vip(number), 80) for number in range(0, count, max(1, count // SPREAD))]
    rates: dict[str, list[Rate]] = {"ours": [], "kube-proxy": []}
    with cluster.still():
        for turn in range(rounds):
            ways = [("ours", "n1"), ("kube-proxy", "n2")]
            for name, node in ways if turn % 2 else reversed(ways):
                lab.route(VIPS, node)
                connections(lab, targets, 0.1)
                rates[name].append(connections(lab, targets, seconds))
    turns = list(zip(rates["ours"], rates["kube-proxy"], strict=True))
    median = statistics.median
    return {
        f"{count} Services: new connections/s": median(rate.by_clock for rate in rates["ours"]),
        f"{count} Services: new connections/s, kube-proxy": median(
            rate.by_clock for rate in rates["kube-proxy"]
        ),
        f"{count} Services: ratio to kube-proxy": median(a.by_clock / b.by_clock for a, b in turns),
        f"{count} Services: ratio to kube-proxy, by CPU": median(a.by_cpu / b.by_cpu for a, b in turns),
    }


def latency(lab: Lab, seconds: float, rounds: int) -> Figures:
    """Through an address with one pod behind it, and straight to that pod on the same way."""
    only = (behind("n1")[0],)
    rules = Update(node=NODES["n1"], services=claims([service(0, only)], NODES["n1"]))
    asyncio.run(apply(lab, rules))
    lab.route(VIPS, "n1")
    through, straight = (vip(0), 80), (PODS[BEHIND["n1"][0]][1], PORT)
    added: dict[str, list[float]] = {"connection": [], "round trip": []}
    for _ in range(rounds):
        for name, measure in (("connection", connects), ("round trip", round_trips)):
            direct = statistics.median(measure(lab, straight, seconds))
            added[name].append(statistics.median(measure(lab, through, seconds)) - direct)
    return {f"added to a {name}, p50, µs": statistics.median(values) for name, values in added.items()}


def written_service(number: int) -> dict[str, Any]:
    """A Service as the API has it, with an address."""
    cluster_ip = str(FIRST_CLUSTER_IP + number)
    return {
        "metadata": {"name": f"web-{number}"},
        "spec": {
            "type": "LoadBalancer",
            "allocateLoadBalancerNodePorts": False,
            "ports": [{"port": 80, "targetPort": PORT}],
            "clusterIP": cluster_ip,
            "clusterIPs": [cluster_ip],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": vip(number)}]}},
    }


def written_slice(number: int, shift: int = 0) -> dict[str, Any]:
    """Three endpoints of a Service as the API has them, one of which may be another."""
    first = ip_address("10.2.0.0") + 3 * number
    name = f"web-{number}"
    return {
        "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": PORT, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [str(address)], "conditions": {"ready": True}, "nodeName": "n2"}
            for address in (first + shift, first + 1, first + 2)
        ],
    }


class Agent:
    """A node's cache of the API, fed with events, and what follows from them in the kernel."""

    def __init__(self, count: int) -> None:
        self._cache = Cache()
        self._options = Options(node="n1")
        self._reconciler = DatapathReconciler(self._cache, self._options)
        self._version = 0
        self.hear(forms.NODE, NODE)
        for number in range(count):
            self.hear(forms.SERVICE, written_service(number))
            self.hear(forms.ENDPOINT_SLICE, written_slice(number))
        for kind in self._options.watched:
            self._cache.store(Synced(kind=kind))

    def hear(self, kind: Kind, content: dict[str, Any]) -> None:
        """An object as it comes over the wire."""
        self._version += 1
        metadata = {"namespace": "default", "resourceVersion": f"{self._version}", **content["metadata"]}
        wire = msgspec.json.encode({**content, "metadata": metadata})
        change = self._cache.store(Upserted(kind=kind, object=msgspec.json.decode(wire, type=kind.form)))
        assert change is not None
        self._reconciler.observe(change)

    def wanted(self) -> Update:
        update = self._reconciler.reconcile()
        assert update is not None
        return update


def load(namespace: str, count: int, changes: int) -> Figures:
    """In a process of its own: the whole into the kernel, then one endpoint after the other."""
    netns.pushns(namespace)
    agent = Agent(count)

    async def run() -> Figures:
        datapath = NftDatapath()
        has_loaded = False
        async with asyncio.TaskGroup() as group:
            group.create_task(learn_without_pauses(lambda: has_loaded))
            await asyncio.sleep(0)
            start = time.perf_counter()
            rules = agent.wanted()
            computed = time.perf_counter()
            await datapath.apply(rules)
            loaded = time.perf_counter()
            has_loaded = True
        assert len(rules.services) == count
        times = []
        for change in range(changes):
            event = written_slice(random.randrange(count), 1_000_000 + change)
            begin = time.perf_counter()
            agent.hear(forms.ENDPOINT_SLICE, event)
            await datapath.apply(agent.wanted())
            times.append((time.perf_counter() - begin) * 1000)
        await datapath.close()
        name = f"{count} Services × 3 endpoints"
        return {
            f"{name}: computed, s": computed - start,
            f"{name}: into the kernel, s": loaded - computed,
            f"{name}: one endpoint, event to kernel, p50, ms": statistics.median(times),
            f"{name}: one endpoint, event to kernel, p99, ms": statistics.quantiles(times, n=100)[98],
        }

    return asyncio.run(run())


def whole_agent(namespace: str, count: int, changes: int) -> Figures:
    """In a process of its own: what an agent holds that carries so many Services, as in its Pod, and how soon it acts."""
    netns.pushns(namespace)
    objects: list[tuple[str, dict[str, Any]]] = [("/api/v1/nodes", NODE)]
    for number in range(count):
        objects.append(("/api/v1/namespaces/default/services", written_service(number)))
        objects.append((SLICES, written_slice(number)))
    with tempfile.TemporaryDirectory() as folder, bgp_agent.Cluster(namespace, Path(folder)) as cluster:
        cluster.fill(objects)
        with cluster.agent("--datapath", "nftables") as agent:
            asyncio.run(processes.settled(agent))
            listed = subprocess.run(
                ["ip", "netns", "exec", namespace, "nft", "list", "set", "inet", "lbipam", "addresses4"],
                check=True,
                capture_output=True,
                text=True,
            )
            assert vip(count - 1) in listed.stdout, "the rules do not stand"
            resident, at_most = (processes.rss_mb(agent.pid, peak=peak) for peak in (False, True))
            times = asyncio.run(follow(cluster.kubeconfig, count, changes))
    name = f"agent that carries {count} Services"
    return {
        f"{name}: resident, MB": resident,
        f"{name}: resident at most, MB": at_most,
        f"{name}: one endpoint, API's answer to kernel, p50, ms": statistics.median(times),
        f"{name}: one endpoint, API's answer to kernel, p99, ms": statistics.quantiles(times, n=100)[98],
    }


async def follow(kubeconfig: str, count: int, changes: int) -> list[float]:
    """Milliseconds from the answer to a changed endpoint until the kernel has other rules."""
    times: list[float] = []
    tables = Tables()
    async with Client(await kube_config.connect(kubeconfig)) as client:
        for change in range(changes):
            written = written_slice(random.randrange(count), 1_000_000 + change)
            body = msgspec.json.encode({"endpoints": written["endpoints"]})
            before = tables.generation()
            await client.request(
                "PATCH",
                f"{SLICES}/{written['metadata']['name']}",
                body=body,
                content_type="application/merge-patch+json",
            )
            begin = time.perf_counter()
            while tables.generation() == before:
                await asyncio.sleep(0.0002)
            times.append((time.perf_counter() - begin) * 1000)
            await asyncio.sleep(0.02)
    tables.close()
    return times


def in_process(work: Callable[..., Figures], *arguments: object) -> Figures:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        return pool.submit(work, *arguments).result()


@contextmanager
def serving(lab: Lab) -> Iterator[None]:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    server = context.Process(target=serve, args=(lab, ready), daemon=True)
    server.start()
    try:
        assert ready.wait(10), "the pods do not serve"
        yield
    finally:
        server.kill()
        server.join()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer Services, shorter rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("needs root for network namespaces")
    folder = assets()
    if folder is None or not (folder / "kube-proxy").exists():
        raise SystemExit(f"{WHY_NOT}, and kube-proxy")
    counts, seconds, rounds = ((10, 200), 0.5, 3) if options.quick else ((10, 1000, 5000), 1.0, 7)
    loads, changes = ((1000,), 50) if options.quick else ((5000, 10_000), 300)
    held = 500 if options.quick else 5000
    figures: Figures = {}
    lab = Lab()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # through all that has to be removed
    with ExitStack() as stack:
        stack.callback(lab.remove)
        lab.build()
        for node in NODES:
            # Ended connections are to make room for the next ones.
            lab.inside(node, "sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_close=1")
        for count in loads:
            figures |= in_process(load, lab.name("client"), count, changes)
            lab.inside("client", "nft", "delete table inet lbipam")
        lab.inside("client", "ip", "link", "set", "lo", "up")
        figures |= in_process(whole_agent, lab.name("client"), held, changes)
        lab.inside("client", "nft", "delete table inet lbipam")
        stack.enter_context(serving(lab))
        figures |= latency(lab, seconds, rounds)
        cluster = Cluster(lab, stack)
        for count in counts:
            figures |= against_kube_proxy(lab, cluster, count, seconds, rounds)
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.2f}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
