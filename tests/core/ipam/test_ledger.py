"""Who holds what, told in every way it is asked."""

from lbipam.core.ipam.services import ALONE
from lbipam.core.ipam.sharing import Apart
from tests.builders import ip, key, ledger, pool, service, shares, whole

A, B = ip("10.0.0.0"), ip("10.0.0.1")


def test_a_claim_shows_wherever_it_is_asked_for() -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    made.claim(key("a"), A, ALONE)
    made.claim(key("a"), A, ALONE)
    made.claim(key("a"), B, ALONE)
    assert made.claims_of(key("a")) == (A, B)
    assert made.holders_of(A) == (key("a"),)
    assert made.is_held(A)
    assert dict(made.held_in("default")) == {A: 1, B: 1}
    assert sorted(address for address, _ in made.holdings()) == [A, B]
    assert list(made.holders_in(whole("10.0.0.0/31"))) == [key("a"), key("a")]
    assert list(made.holders_in(whole("10.0.0.0/8"))) == [key("a"), key("a")]
    assert made.space.pools["p"].usage().used == 2


def test_a_release_leaves_no_trace() -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    made.claim(key("a"), A, shares("k", 80))
    made.claim(key("a"), B, shares("k", 80))
    assert made.release(key("a"), A) == shares("k", 80)
    assert made.claims_of(key("a")) == (B,)
    assert not made.is_held(A)
    made.release(key("a"), B)
    assert made.claims_of(key("a")) == ()
    assert made.held_in("default") == {}
    assert list(made.addresses_to_join(key("b"), shares("k", 443))) == []
    assert made.space.pools["p"].usage().used == 0


def test_sharers_are_found_by_their_key() -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    made.claim(key("a"), B, shares("k", 80))
    made.claim(key("b"), A, shares("k", 80))
    assert list(made.addresses_to_join(key("c"), shares("k", 443))) == [B, A]
    assert list(made.addresses_to_join(key("c"), shares("k", 80))) == []
    assert list(made.addresses_to_join(key("c"), ALONE)) == []


def test_a_claim_that_others_do_not_permit_is_contested_until_they_go() -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    made.claim(key("first"), A, ALONE)
    made.claim(key("second"), A, ALONE)
    assert made.why_apart(A, key("first"), ALONE) is None
    assert made.why_apart(A, key("second"), ALONE) is Apart.KEY
    made.release(key("first"), A)
    assert made.why_apart(A, key("second"), ALONE) is None
    assert made.holders_of(A) == (key("second"),)


def test_who_changes_how_it_shares_is_the_one_to_go() -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    made.claim(key("old"), A, shares("k", 80))
    made.claim(key("new"), A, shares("k", 443))
    assert made.refresh(key("new"), shares("k", 443)) == ()
    assert made.refresh(key("old"), shares("k", 443)) == ((A, shares("k", 80)),)
    assert made.why_apart(A, key("old"), shares("k", 443)) is Apart.PORT
    assert made.why_apart(A, key("new"), shares("k", 443)) is None
    made.refresh(key("old"), shares("k", 8080))
    assert made.why_apart(A, key("old"), shares("k", 8080)) is None


def test_a_sole_holder_may_change_its_key_and_is_found_under_the_new_one() -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    made.claim(key("a"), A, shares("k", 80))
    made.refresh(key("a"), shares("l", 80))
    assert list(made.addresses_to_join(key("b"), shares("l", 443))) == [A]
    assert list(made.addresses_to_join(key("b"), shares("k", 443))) == []


def test_namespaces_count_distinct_addresses() -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    made.claim(key("x/a"), A, shares("k", 80, namespaces=["*"]))
    made.claim(key("x/b"), A, shares("k", 81, namespaces=["*"]))
    made.claim(key("y/c"), A, shares("k", 82, namespaces=["*"]))
    assert dict(made.held_in("x")) == {A: 2}
    assert dict(made.held_in("y")) == {A: 1}
    assert made.held_in("z") == {}
    assert service("x/a").key in made.holders_of(A)
