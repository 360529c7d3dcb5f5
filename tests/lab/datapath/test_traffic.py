"""Real packets against the model of Services: the cases of the simulator once more, through the kernel."""

import asyncio
from ipaddress import ip_address

import pytest

from lbipam.adapters.nft_library import NftDatapath
from lbipam.core.datapath.services import Algorithm, Endpoint, Protocol, Service, ServicePort, TrafficPolicy
from tests.core.datapath.builders import blocks, ruleset, simulated, vips
from tests.core.datapath.model import Model
from tests.core.datapath.simulator import Fate, Outcome, Packet
from tests.lab.datapath.conversation import SHORT_SECONDS, ask
from tests.lab.datapath.topology import CLIENT, CLIENT6, NODES, PODS, Lab, endpoints

REFUSED = blocks("198.19.0.128/25", "fd00:19::8000/113")
LOCAL = TrafficPolicy.LOCAL

ALL = ("p1", "p2", "p3")
LEAVING = {"ready": False, "terminating": True}
STARTING = {"ready": False, "serving": False}
CASES: dict[str, tuple[tuple[tuple[tuple[str, ...], dict[str, bool]], ...], dict[str, object]]] = {
    "cluster": (((ALL, {}),), {}),
    "local": (((ALL, {}),), {"external_policy": LOCAL}),
    "local-elsewhere": (((("p3",), {}),), {"external_policy": LOCAL}),
    "internal-local": (((ALL, {}),), {"internal_policy": LOCAL}),
    "internal-local-elsewhere": (((("p3",), {}),), {"internal_policy": LOCAL}),
    "in-range": (((ALL, {}),), {"source_ranges": blocks("192.0.2.0/28", "fd00:9::/64")}),
    "in-range-local": (((ALL, {}),), {"source_ranges": blocks("192.0.2.0/28"), "external_policy": LOCAL}),
    "out-of-range": (((ALL, {}),), {"source_ranges": blocks("203.0.113.0/24", "10.1.0.0/24", "fd00:1::/64")}),
    "leaving": (((("p1",), LEAVING), (("p2",), STARTING)), {}),
    "leaving-local": (((("p1",), LEAVING), (("p3",), {})), {"external_policy": LOCAL}),
    "starting": (((("p1",), STARTING), (("p2",), {})), {}),
    "published": (((("p1",), STARTING),), {"publish_not_ready": True}),
    "empty": ((), {}),
    "maglev": (((ALL, {}),), {"algorithm": Algorithm.MAGLEV}),
    "maglev-local": (((ALL, {}),), {"algorithm": Algorithm.MAGLEV, "external_policy": LOCAL}),
    "affinity": (((ALL, {}),), {"affinity_seconds": 600}),
    "affinity-in-range-local": (
        ((ALL, {}),),
        {"affinity_seconds": 600, "source_ranges": blocks("192.0.2.0/28"), "external_policy": LOCAL},
    ),
}


def service(name: str, number: int) -> Service:
    groups, options = CASES[name]
    behind: tuple[Endpoint, ...] = tuple(
        endpoint
        for pods, state in groups
        for family in (4, 6)
        for endpoint in endpoints(*pods, node="n1", family=family, **state)
    )
    ports = tuple(
        ServicePort(
            name=protocol.value, protocol=protocol, port=80, node_port=30000 + number, endpoints=behind
        )
        for protocol in Protocol
    )
    return Service(
        namespace="lab",
        name=name,
        ports=ports,
        cluster_ips=(ip_address(f"10.96.0.{number}"), ip_address(f"fd00:96::{number:x}")),
        external_ips=(ip_address(f"198.19.0.{64 + number}"), ip_address(f"fd00:19::{64 + number:x}")),
        load_balancer=vips(f"198.19.0.{number}", f"fd00:19::{number:x}"),
        **options,  # type: ignore[arg-type]
    )


SERVICES = tuple(service(name, number) for number, name in enumerate(CASES, start=1))
SENDERS = {"client": (CLIENT, CLIENT6), "p1": PODS["p1"][1:], "n1": tuple(map(str, NODES["n1"].addresses))}


def packets(of: Service, sender: str) -> list[Packet]:
    """To every address of the Service that the sender can reach, on each protocol, and to a closed port."""
    sent = []
    for protocol in Protocol:
        targets = [(entry.address, 80) for entry in of.load_balancer]
        targets += [(entry.address, 81) for entry in of.load_balancer]
        if of.ports[0].endpoints:
            targets += [(address, of.ports[0].node_port) for address in NODES["n1"].addresses]
            targets += [(address, 80) for address in of.external_ips]
        if sender != "client":
            targets += [(address, 80) for address in of.cluster_ips]
        for address, port in targets:
            source = ip_address(SENDERS[sender][address.version == 6])
            sent.append(
                Packet(
                    source=source,
                    destination=address,
                    protocol=protocol.value,
                    port=port,
                    from_node=sender == "n1",
                )
            )
    return sent


async def seen(lab: Lab, sender: str, packet: Packet, expected: set[Outcome]) -> set[Outcome]:
    """What became of the packet, tried until everything that should happen has, or no hope is left."""
    if expected == {Fate.DROPPED}:
        return {await ask(lab, sender, packet, seconds=SHORT_SECONDS)}
    outcomes: set[Outcome] = set()
    for _ in range(60):
        outcomes.add(await ask(lab, sender, packet))
        if outcomes >= expected:
            break
    return outcomes


@pytest.mark.parametrize("sender", SENDERS)
async def test_the_kernel_agrees_with_the_model_and_the_simulator(
    lab: Lab, n1: NftDatapath, sender: str
) -> None:
    rules = ruleset(SERVICES, NODES["n1"], REFUSED)
    assert (await n1.apply(rules)).changed
    model, simulator = Model(node=NODES["n1"], services=SERVICES, refused=REFUSED), simulated(rules)

    async def compare(of: Service) -> list[str]:
        problems = []
        for packet in packets(of, sender):
            expected = simulator.outcomes(packet)
            assert expected <= model.outcomes(packet)
            if of.affinity_seconds and expected != {Fate.DROPPED}:
                # The first answer settles the others.
                found = {await ask(lab, sender, packet) for _ in range(3)}
                agrees = found <= expected and len(found) == 1
            else:
                found = await seen(lab, sender, packet, expected)
                agrees = found == expected
            if not agrees:
                problems.append(f"{of.name} {packet}: {found} instead of {expected}")
        return problems

    compared = await asyncio.gather(*map(compare, SERVICES))
    assert not any(compared), "\n".join(problem for problems in compared for problem in problems)
