"""A client, a router, two nodes and their pods, as network namespaces.

    client ── router ──┬── n1 ── p1, p2
    192.0.2.9          └── n2 ── p3, p4
    fd00:9::9

Each pod answers on TCP, UDP and SCTP with its name and the address that it sees as the client's. Sockets
belong to the namespace in which they were made, so that one process can speak from everywhere.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from itertools import count

from pyroute2 import netns

from lbipam.commands.lab import namespaces
from lbipam.core.datapath.services import Endpoint, Node
from tests.core.datapath.builders import blocks

CLIENT, CLIENT6 = "192.0.2.9", "fd00:9::9"
CLIENTS = tuple(f"192.0.2.{number}" for number in range(10, 34))
NODES = {
    "n1": Node(
        addresses=tuple(map(ip_address, ("192.168.0.1", "fd00:168::1"))),
        pods=blocks("10.1.0.0/24", "fd00:1::/64"),
    ),
    "n2": Node(
        addresses=tuple(map(ip_address, ("192.168.0.2", "fd00:168::2"))),
        pods=blocks("10.1.1.0/24", "fd00:2::/64"),
    ),
}
PODS = {
    "p1": ("n1", "10.1.0.2", "fd00:1::2"),
    "p2": ("n1", "10.1.0.3", "fd00:1::3"),
    "p3": ("n2", "10.1.1.2", "fd00:2::2"),
    "p4": ("n2", "10.1.1.3", "fd00:2::3"),
}
SERVED_BLOCKS = ("198.19.0.0/24", "fd00:19::/64")
PORT = 8080

_numbers = count()


def why_no_lab() -> str | None:
    """What is missing for this lab; None when nothing is."""
    return namespaces.why_not(("ip", "nft", "sysctl", "ping"))


def endpoints(*pods: str, node: str, family: int = 4, **state: bool) -> tuple[Endpoint, ...]:
    """Pods as that node knows them."""
    return tuple(
        Endpoint(
            address=ip_address(PODS[pod][1 if family == 4 else 2]),
            port=PORT,
            local=PODS[pod][0] == node,
            **state,
        )
        for pod in pods
    )


class Lab:
    """The namespaces, and sockets in them."""

    def __init__(self) -> None:
        self._prefix = f"dp{os.getpid()}-{next(_numbers)}-"

    def build(self) -> None:
        names = ("client", "router", *NODES, *PODS)
        _batch([f"netns add {self.name(name)}" for name in names])
        for name in names:
            self.inside(name, "sysctl", "-qw", *_SYSCTLS)
        _batch(list(self._links()))
        commands: dict[str, list[str]] = {name: ["link set lo up"] for name in names}
        for name, command in self._settings():
            commands[name].append(command)
        for name, lines in commands.items():
            _batch(lines, "-n", self.name(name))

    def remove(self) -> None:
        for name in ("client", "router", *NODES, *PODS):
            namespaces.run("ip", "netns", "delete", self.name(name), check=False)

    def name(self, name: str) -> str:
        return self._prefix + name

    def inside(self, name: str, *command: str) -> str:
        """Run a program in a namespace; what it prints."""
        return namespaces.run("ip", "netns", "exec", self.name(name), *command)

    @contextmanager
    def entered(self, name: str) -> Iterator[None]:
        """What this thread opens inside of the block is in that namespace, as are threads that it starts."""
        netns.pushns(self.name(name))
        try:
            yield
        finally:
            netns.popns()

    def route(self, destination: str, *via: str) -> None:
        """The router sends packets for the block to these nodes."""
        family = "-6" if ":" in destination else "-4"
        addresses = [
            str(next(a for a in NODES[node].addresses if a.version == (6 if ":" in destination else 4)))
            for node in via
        ]
        hops = [word for address in addresses for word in ("nexthop", "via", address)]
        self.inside("router", "ip", family, "route", "replace", destination, *hops)

    def _links(self) -> Iterator[str]:
        yield self._link("client", "router", "out")
        for node in NODES:
            yield self._link(node, "router", node)
        for pod, (node, _, _) in PODS.items():
            yield self._link(pod, node, pod)

    def _link(self, one: str, other: str, peer: str) -> str:
        return f"link add eth0 netns {self.name(one)} type veth peer name {peer} netns {self.name(other)}"

    def _settings(self) -> Iterator[tuple[str, str]]:
        """Namespace and command, in order for each namespace."""
        yield from _interface(
            "client", "eth0", f"{CLIENT}/24", f"{CLIENT6}/64", *(f"{a}/24" for a in CLIENTS)
        )
        yield from _defaults("client", "192.0.2.1", "fd00:9::1")
        yield "router", "link add lan type bridge"
        yield from _interface("router", "out", "192.0.2.1/24", "fd00:9::1/64")
        yield from _interface("router", "lan", "192.168.0.254/24", "fd00:168::fe/64")
        for node, facts in NODES.items():
            yield from _interface("router", node)
            yield "router", f"link set {node} master lan"
            for block, address in zip(facts.pods, facts.addresses, strict=True):
                yield "router", f"route add {block} via {address}"
            yield from _interface(node, "eth0", f"{facts.addresses[0]}/24", f"{facts.addresses[1]}/64")
            yield from _defaults(node, "192.168.0.254", "fd00:168::fe")
            for other, elsewhere in NODES.items():
                for block, address in zip(elsewhere.pods, elsewhere.addresses, strict=True):
                    if other != node:
                        yield node, f"route add {block} via {address}"
        for pod, (node, v4, v6) in PODS.items():
            yield from _interface(node, pod, "169.254.1.1/32", "fe80::1/64")
            yield from _interface(pod, "eth0", f"{v4}/32", f"{v6}/128")
            yield node, f"route add {v4} dev {pod}"
            yield node, f"route add {v6} dev {pod}"
            yield pod, "route add 169.254.1.1 dev eth0"
            yield from _defaults(pod, "169.254.1.1 dev eth0", "fe80::1 dev eth0")


def _interface(name: str, interface: str, *addresses: str) -> Iterator[tuple[str, str]]:
    yield name, f"link set {interface} up"
    for address in addresses:
        yield name, f"addr add {address} dev {interface}{' nodad' if ':' in address else ''}"


def _defaults(name: str, *gateways: str) -> Iterator[tuple[str, str]]:
    for gateway in gateways:
        yield name, f"route add default via {gateway}"


def _batch(lines: list[str], *options: str) -> None:
    """Have `ip` do it all."""
    text = "\n".join(lines)
    done = subprocess.run(
        ["ip", *options, "-batch", "-"], input=text, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stderr}\n{text}"


_SYSCTLS = (
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv6.conf.default.accept_dad=0",
    "net.ipv6.conf.all.accept_dad=0",
    "net.ipv4.conf.all.rp_filter=0",
    "net.ipv4.conf.default.rp_filter=0",
    # Of many refusals at once, each must be heard.
    "net.ipv4.icmp_ratelimit=0",
    "net.ipv6.icmp.ratelimit=0",
)
