"""Which addresses of nodes a Service gets."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.core.ipam.addresses import family_of, format_address
from lbipam.core.ipam.labels import EVERYTHING, Operator, Requirement, Selector
from lbipam.core.ipam.nodes import Choice, LeftOut, Node, Request, choose, why_left_out
from tests.builders import V4, V6, ip, wants

ANY = Request(families=frozenset({V4, V6}))


def node(
    name: str,
    *internal: str,
    external: tuple[str, ...] = (),
    barred: LeftOut | None = None,
    **labels: str,
) -> Node:
    return Node(
        name=name,
        labels=labels,
        internal=tuple(map(ip, internal)),
        external=tuple(map(ip, external)),
        barred=barred,
    )


def texts(choice: Choice) -> list[str]:
    return [format_address(address) for address in choice.addresses]


def test_without_external_addresses_the_internal_ones_are_given() -> None:
    choice = choose(ANY, [node("b", "10.0.0.2"), node("a", "10.0.0.1", "fd00::1")])
    assert texts(choice) == ["10.0.0.1", "10.0.0.2", "fd00::1"]
    assert choice.left_out == {}


def test_one_external_address_hides_the_internal_ones_of_all_nodes_and_families() -> None:
    nodes = [node("a", "10.0.0.1", "fd00::1"), node("b", "10.0.0.2", external=("192.0.2.2",))]
    assert texts(choose(ANY, nodes)) == ["192.0.2.2"]


def test_an_external_address_of_another_family_hides_nothing() -> None:
    nodes = [node("a", "10.0.0.1", external=("2001:db8::1",))]
    assert texts(choose(Request(families=frozenset({V4})), nodes)) == ["10.0.0.1"]


def test_an_external_address_of_a_node_that_is_left_out_hides_nothing() -> None:
    nodes = [node("a", "10.0.0.1"), node("b", external=("192.0.2.2",), barred=LeftOut.EXCLUDED)]
    assert texts(choose(ANY, nodes)) == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("request_", "one", "why"),
    [
        (ANY, node("a", "10.0.0.1"), None),
        (ANY, node("a", "10.0.0.1", barred=LeftOut.TO_BE_REMOVED), LeftOut.TO_BE_REMOVED),
        (ANY, node("a"), LeftOut.NO_ADDRESS),
        (Request(families=frozenset({V6})), node("a", "10.0.0.1"), LeftOut.NO_ADDRESS),
        (Request(families=frozenset({V4}), selector=wants(edge="y")), node("a", "10.0.0.1", edge="y"), None),
        (
            Request(families=frozenset({V4}), selector=wants(edge="y")),
            node("a", "10.0.0.1"),
            LeftOut.NOT_SELECTED,
        ),
        (Request(families=frozenset({V4}), nodes=frozenset({"a"})), node("a", "10.0.0.1"), None),
        (Request(families=frozenset({V4}), nodes=frozenset()), node("a", "10.0.0.1"), LeftOut.NO_ENDPOINT),
    ],
)
def test_why_a_node_is_left_out(request_: Request, one: Node, why: LeftOut | None) -> None:
    assert why_left_out(request_, one) is why
    assert choose(request_, [one]).left_out == ({why: 1} if why is not None else {})


addresses = st.sampled_from(
    [ip(text) for text in ("10.0.0.1", "10.0.0.2", "192.0.2.1", "fd00::1", "fd00::2")]
)
nodes_ = st.lists(
    st.builds(
        Node,
        name=st.sampled_from(["a", "b", "c"]),
        labels=st.sampled_from([{}, {"edge": "y"}]),
        external=st.lists(addresses, max_size=2).map(tuple),
        internal=st.lists(addresses, max_size=2).map(tuple),
        barred=st.none() | st.sampled_from([LeftOut.BEING_DELETED, LeftOut.EXCLUDED]),
    ),
    max_size=5,
)
requests = st.builds(
    Request,
    families=st.frozensets(st.sampled_from([V4, V6])),
    selector=st.sampled_from([EVERYTHING, Selector((Requirement("edge", Operator.EXISTS),))]),
    nodes=st.none() | st.frozensets(st.sampled_from(["a", "b"])),
)


@given(requests, nodes_, st.randoms(use_true_random=False))
def test_the_choice_is_of_nodes_that_count_whatever_their_order(
    request_: Request, nodes: list[Node], random: Random
) -> None:
    choice = choose(request_, nodes)
    shuffled = list(nodes)
    random.shuffle(shuffled)
    assert choose(request_, shuffled) == choice
    assert list(choice.addresses) == sorted(set(choice.addresses))
    usable = [one for one in nodes if why_left_out(request_, one) is None]
    assert len(usable) + sum(choice.left_out.values()) == len(nodes)
    assert bool(choice.addresses) is bool(usable)
    for address in choice.addresses:
        assert family_of(address) in request_.families
        assert any(address in one.external + one.internal for one in usable)


@given(requests, nodes_)
def test_either_all_are_external_or_there_is_no_external_one(request_: Request, nodes: list[Node]) -> None:
    usable = [one for one in nodes if why_left_out(request_, one) is None]
    external = {
        address for one in usable for address in one.external if family_of(address) in request_.families
    }
    chosen = set(choose(request_, nodes).addresses)
    assert chosen == external if external else chosen.isdisjoint(external)
