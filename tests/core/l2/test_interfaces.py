"""Which interfaces of a node addresses are announced on."""

from lbipam.core.l2 import interfaces
from lbipam.core.l2.interfaces import Interface


def interface(
    index: int,
    name: str,
    kind: str = "",
    *,
    resolves: bool = True,
    master: int = 0,
    has_subnet: bool = False,
) -> Interface:
    return Interface(
        index=index,
        name=name,
        hardware=bytes((2, 0, 0, 0, 0, index)),
        kind=kind,
        resolves=resolves,
        is_ready=True,
        master=master,
        has_subnet=has_subnet,
    )


NODE = {
    each.index: each
    for each in [
        interface(1, "lo", resolves=False),
        interface(2, "eth0", has_subnet=True),
        interface(3, "eth1", master=5),
        interface(4, "eth2", master=6),
        interface(5, "bond0", "bond"),
        interface(6, "br0", "bridge", has_subnet=True),
        interface(7, "eth0.5", "vlan"),
        interface(8, "cni0", "bridge", has_subnet=True),
        interface(9, "veth7c1b", "veth", master=8),
        interface(10, "cali12ab", "veth"),
        interface(11, "flannel.1", "vxlan", has_subnet=True),
        interface(12, "kube-ipvs0", "dummy"),
        interface(13, "macvlan0", "macvlan", has_subnet=True),
        interface(14, "wg0", "wireguard", resolves=False),
    ]
}


def test_unnamed_are_those_that_lead_to_a_lan() -> None:
    assert interfaces.chosen(NODE) == {"eth0", "bond0", "br0", "eth0.5"}


def test_a_node_that_is_a_container_announces_on_its_veth() -> None:
    every = {2: interface(2, "eth0", "veth", has_subnet=True), 3: interface(3, "veth1", "veth")}
    assert interfaces.chosen(every) == {"eth0"}


def test_a_vrf_does_not_stand_for_its_interfaces() -> None:
    every = {
        2: interface(2, "eth0", master=9),
        3: interface(3, "veth1", "veth", master=9),
        9: interface(9, "blue", "vrf", resolves=False),
    }
    assert interfaces.chosen(every) == {"eth0"}
    assert interfaces.nameable(every) == {"eth0", "veth1"}


def test_a_port_whose_master_is_unknown_is_a_port_all_the_same() -> None:
    every = {2: interface(2, "eth0", master=9)}
    assert interfaces.nameable(every) == frozenset()


def test_a_pattern_may_name_all_that_have_neighbours_of_their_own() -> None:
    assert interfaces.nameable(NODE) == interfaces.chosen(NODE) | {
        *("cni0", "cali12ab", "flannel.1", "kube-ipvs0", "macvlan0")
    }
