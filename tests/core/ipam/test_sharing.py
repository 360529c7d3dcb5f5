"""Two Services share where Cilium lets them; a group asks all of its members at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.core.ipam.services import Port, ServiceKey, Sharing, TrafficPolicy
from lbipam.core.ipam.sharing import Apart, Group
from tests.builders import key, shares

K = "k"


@pytest.mark.parametrize(
    ("holder", "newcomer", "reason"),
    [
        (("a", shares(K, 80)), ("b", shares(K, 443)), None),
        (("a", shares(K, 80)), ("b", shares("other", 443)), Apart.KEY),
        (("a", shares(K, 80)), ("b", Sharing(key="")), Apart.KEY),
        (("a", Sharing(key="")), ("b", Sharing(key="")), Apart.KEY),
        (("a", shares(K, 80)), ("b", shares(K, 80)), Apart.PORT),
        (("a", shares(K, 53)), ("b", shares(K, "udp/53")), None),
        (("a", shares(K)), ("b", shares(K)), None),
        (("x/a", shares(K, 80)), ("y/b", shares(K, 443)), Apart.NAMESPACE),
        (("x/a", shares(K, 80, namespaces=["y"])), ("y/b", shares(K, 443)), Apart.NAMESPACE),
        (("x/a", shares(K, 80, namespaces=["y"])), ("y/b", shares(K, 443, namespaces=["x"])), None),
        (("x/a", shares(K, 80, namespaces=["*"])), ("y/b", shares(K, 443, namespaces=["*"])), None),
        (
            ("x/a", shares(K, 80, namespaces=["*"])),
            ("y/b", shares(K, 443, namespaces=["z"])),
            Apart.NAMESPACE,
        ),
        (("a", shares(K, 80, local=True)), ("b", shares(K, 443)), Apart.POLICY),
        (("a", shares(K, 80, local=True)), ("b", shares(K, 443, local=True)), None),
        (
            ("a", shares(K, 80, local=True, selector="")),
            ("b", shares(K, 443, local=True)),
            Apart.NO_SELECTOR,
        ),
        (
            ("a", shares(K, 80, local=True)),
            ("b", shares(K, 443, local=True, selector="app=b")),
            Apart.PODS,
        ),
        (
            ("a", shares(K, 80, local=True, different_pods=True)),
            ("b", shares(K, 443, local=True, selector="app=b")),
            Apart.PODS,
        ),
        (
            ("a", shares(K, 80, local=True, different_pods=True)),
            ("b", shares(K, 443, local=True, selector="app=b", different_pods=True)),
            None,
        ),
        # Of several reasons the first in Cilium's order is told.
        (("x/a", shares(K, 80)), ("y/b", shares(K, 80, local=True)), Apart.NAMESPACE),
        (("a", shares(K, 80)), ("b", shares(K, 80, local=True)), Apart.PORT),
        # With policy Cluster the pods do not matter.
        (("a", shares(K, 80, selector="")), ("b", shares(K, 443, selector="app=b")), None),
    ],
)
def test_what_keeps_two_services_apart(
    holder: tuple[str, Sharing], newcomer: tuple[str, Sharing], reason: Apart | None
) -> None:
    group = Group()
    group.join(key(holder[0]), holder[1])
    assert group.why_apart(key(newcomer[0]), newcomer[1]) is reason


def test_nobody_is_in_the_way_of_the_first() -> None:
    assert Group().why_apart(key("a"), Sharing(key="")) is None


def pairwise(one: tuple[ServiceKey, Sharing], two: tuple[ServiceKey, Sharing]) -> bool:
    """Cilium's rule for two Services, spelled out."""
    (a_key, a), (b_key, b) = one, two
    if not a.key or a.key != b.key or a.ports & b.ports or a.policy is not b.policy:
        return False
    if a_key.namespace != b_key.namespace:
        for mine, theirs in ((a, b_key), (b, a_key)):
            if "*" not in mine.namespaces and theirs.namespace not in mine.namespaces:
                return False
    if a.policy is TrafficPolicy.LOCAL:
        if not a.selector or not b.selector:
            return False
        if a.selector != b.selector and not (a.permits_different_pods and b.permits_different_pods):
            return False
    return True


sharings = st.builds(
    Sharing,
    key=st.sampled_from(["k", "k", "k", "l", ""]),
    ports=st.frozensets(st.builds(Port, st.sampled_from(["TCP", "UDP"]), st.integers(1, 12)), max_size=2),
    policy=st.sampled_from(TrafficPolicy),
    selector=st.sampled_from([(), (("app", "a"),), (("app", "b"),)]),
    namespaces=st.frozensets(st.sampled_from(["x", "y", "*"]), max_size=2),
    permits_different_pods=st.booleans(),
)
members = st.dictionaries(
    st.builds(ServiceKey, st.sampled_from(["x", "y"]), st.sampled_from("abcdefgh")), sharings, max_size=8
)


@given(members, sharings, st.sampled_from(["x", "y", "z"]))
def test_a_group_answers_as_if_each_member_were_asked(
    others: dict[ServiceKey, Sharing], newcomer: Sharing, namespace: str
) -> None:
    group, me = Group(), ServiceKey(namespace, "new")
    for name, sharing in others.items():
        group.join(name, sharing)
    alone = not others
    expected = alone or all(pairwise((me, newcomer), other) for other in others.items())
    assert (group.why_apart(me, newcomer) is None) is expected


@given(members, st.data())
def test_who_has_left_leaves_no_trace(others: dict[ServiceKey, Sharing], data: st.DataObject) -> None:
    group, fresh = Group(), Group()
    for name, sharing in others.items():
        group.join(name, sharing)
    group.why_apart(key("probe"), shares("k", 1))
    leaving = data.draw(st.sets(st.sampled_from(sorted(others)))) if others else set()
    for name in leaving:
        assert group.leave(name) == others[name]
    for name, sharing in others.items():
        if name not in leaving:
            fresh.join(name, sharing)
    assert list(group) == list(fresh)
    newcomer = data.draw(sharings)
    assert group.why_apart(key("x/new"), newcomer) is fresh.why_apart(key("x/new"), newcomer)
