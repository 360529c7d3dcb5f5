"""Which interfaces of a node addresses are announced on."""

import pytest

from lbipam.core.l2 import interfaces
from lbipam.core.l2.interfaces import Interface, Unsuitable


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
    assert interfaces.suitable(NODE, ()) == {"eth0", "bond0", "br0", "eth0.5"}


def test_a_node_that_is_a_container_announces_on_its_veth() -> None:
    every = {2: interface(2, "eth0", "veth", has_subnet=True), 3: interface(3, "veth1", "veth")}
    assert interfaces.suitable(every, ()) == {"eth0"}


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (["^eth0$"], {"eth0"}),
        (["th0"], {"eth0", "eth0.5"}),
        (["macvlan", "cali"], {"macvlan0", "cali12ab"}),
        ([""], {"eth0", "bond0", "br0", "eth0.5", "cni0", "cali12ab", "flannel.1", "kube-ipvs0", "macvlan0"}),
        (["wlan"], set()),
    ],
)
def test_patterns_match_anywhere_in_the_name(patterns: list[str], chosen: set[str]) -> None:
    assert interfaces.suitable(NODE, patterns) == chosen


def test_every_refusal_has_its_reason() -> None:
    def why(index: int, *patterns: str) -> Unsuitable | None:
        return interfaces.why_unsuitable(NODE[index], NODE, patterns)

    assert why(1, "lo") is Unsuitable.NO_NEIGHBOURS
    assert why(3, "eth1") is Unsuitable.PORT
    assert why(2, "eth1") is Unsuitable.NOT_NAMED
    assert why(8) is Unsuitable.LEADS_NOWHERE
    assert why(2) is None


def test_a_bad_pattern_is_told_apart_from_a_good_one() -> None:
    assert interfaces.why_bad_pattern("^eth[0-9]+") is None
    assert interfaces.why_bad_pattern("eth[") is not None
