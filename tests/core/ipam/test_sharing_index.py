"""The filter never hides an address that could be joined."""

from hypothesis import given
from hypothesis import strategies as st

from lbipam.core.ipam.addresses import Address
from lbipam.core.ipam.services import ServiceKey, Sharing
from lbipam.core.ipam.sharing import Group
from lbipam.core.ipam.sharing_index import SharedAddresses
from tests.builders import key, shares
from tests.core.ipam.test_sharing import sharings


def test_addresses_come_in_the_order_in_which_they_were_first_shared() -> None:
    shared = SharedAddresses()
    for number in (5, 3, 4):
        shared.joined(Address(number), "default", shares("k", 80))
    assert list(shared.worth_asking("default", shares("k", 443))) == [5, 3, 4]
    assert list(shared.worth_asking("default", shares("k", 80))) == []
    shared.left(Address(5), "default", shares("k", 80))
    shared.joined(Address(5), "default", shares("k", 80))
    assert list(shared.worth_asking("default", shares("k", 443))) == [3, 4, 5]


def test_gaps_close_and_nothing_is_forgotten() -> None:
    shared = SharedAddresses()
    for number in range(100):
        shared.joined(Address(number), "default", shares("k", 80 + number % 2))
    for number in range(90):
        shared.left(Address(number), "default", shares("k", 80 + number % 2))
    assert list(shared.worth_asking("default", shares("k", 80))) == [91, 93, 95, 97, 99]
    for number in range(90, 100):
        shared.left(Address(number), "default", shares("k", 80 + number % 2))
    assert not shared


steps = st.lists(
    st.tuples(st.integers(1, 4).map(Address), st.sampled_from(["x", "y"]), st.sampled_from("abcd"), sharings),
    max_size=12,
)


@given(steps, sharings, st.sampled_from(["x", "y"]))
def test_what_could_be_joined_is_worth_asking(
    joins: list[tuple[Address, str, str, Sharing]], newcomer: Sharing, namespace: str
) -> None:
    shared = SharedAddresses()
    groups: dict[Address, Group] = {}
    for address, its_namespace, name, sharing in joins:
        group, member = groups.setdefault(address, Group()), ServiceKey(its_namespace, name)
        if member in group:
            shared.left(address, its_namespace, group.leave(member))
        group.join(member, sharing)
        shared.joined(address, its_namespace, sharing)
    me = ServiceKey(namespace, "new")
    could = {
        address for address, group in groups.items() if len(group) and group.why_apart(me, newcomer) is None
    }
    assert could <= set(shared.worth_asking(namespace, newcomer))


def test_a_key_without_addresses_offers_none() -> None:
    assert list(SharedAddresses().worth_asking(key("x/a").namespace, shares("k"))) == []
