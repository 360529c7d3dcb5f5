"""Who holds what, told in every way it is asked."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lbipam.core.ipam.addresses import Address
from lbipam.core.ipam.services import ALONE, ServiceKey, Sharing
from lbipam.core.ipam.sharing import Apart, Group
from tests.builders import ip, key, ledger, pool, service, shares, whole
from tests.core.ipam.test_sharing import sharings

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


def test_holders_of_a_range_are_found_however_small_or_large_it_is() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    for number in range(8):
        made.claim(key(f"s{number}"), Address(A + 2 * number), ALONE)
    assert made.is_held(A)
    assert list(made.holders_in(whole("10.0.0.3-10.0.0.6"))) == [key("s2"), key("s3")]
    assert set(made.holders_in(whole("10.0.0.4/24"))) == {key(f"s{number}") for number in range(8)}
    assert list(made.holders_in(whole("10.0.1.0/24"))) == []


def test_of_the_addresses_of_a_key_those_are_offered_that_all_holders_permit() -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    made.claim(key("x/a"), A, shares("k", 80, namespaces=["z"]))
    made.claim(key("x/b"), B, shares("k", 80, namespaces=["y"]))
    newcomer = shares("k", 443, namespaces=["x"])
    assert list(made.addresses_to_join(key("y/c"), newcomer)) == [B]


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


def test_of_those_who_contest_an_address_the_first_inherits_it() -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    for name in ("first", "second", "third"):
        made.claim(key(name), A, ALONE)
    made.release(key("first"), A)
    assert made.holders_of(A) == (key("second"), key("third"))
    assert made.why_apart(A, key("second"), ALONE) is None
    assert made.why_apart(A, key("third"), ALONE) is Apart.KEY
    made.release(key("third"), A)
    made.release(key("second"), A)
    assert not made.is_held(A)


def test_a_newcomer_needs_the_leave_of_those_who_contest_the_address_too() -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    made.claim(key("holder"), A, shares("k", 80))
    made.claim(key("contests"), A, ALONE)
    assert made.why_apart(A, key("new"), shares("k", 443)) is Apart.KEY
    made.release(key("contests"), A)
    assert made.why_apart(A, key("new"), shares("k", 443)) is None


def test_a_sole_holder_that_changes_its_mind_loses_nothing_to_those_who_contest() -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    made.claim(key("holder"), A, ALONE)
    made.claim(key("contests"), A, shares("k", 443))
    made.refresh(key("holder"), shares("l", 80))
    assert made.holders_of(A) == (key("holder"), key("contests"))
    assert made.why_apart(A, key("contests"), shares("k", 443)) is Apart.KEY
    made.refresh(key("holder"), shares("k", 80))
    assert made.why_apart(A, key("contests"), shares("k", 443)) is None


def test_the_many_hold_an_address_where_it_is_not_known_who_changed() -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    made.claim(key("oldest"), A, shares("l", 80))
    for number in range(3):
        made.claim(key(f"s{number}"), A, shares("k", 80 + number))
    made.claim(key("alone"), A, ALONE)
    assert made.let_the_many_hold(lambda _: True) == (key("oldest"),)
    assert made.why_apart(A, key("oldest"), shares("l", 80)) is Apart.KEY
    assert made.why_apart(A, key("alone"), ALONE) is Apart.KEY
    assert all(made.why_apart(A, key(f"s{number}"), shares("k", 80 + number)) is None for number in range(3))
    made.refresh(key("oldest"), shares("k", 443))
    assert made.holders_of(A) == tuple(map(key, ("s0", "s1", "s2", "oldest", "alone")))
    assert made.why_apart(A, key("oldest"), shares("k", 443)) is None


def test_who_goes_with_the_many_holds_it_with_them() -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    made.claim(key("first"), A, shares("k", 80))
    made.claim(key("changed"), A, shares("k", 81, 82, 83))
    for number in range(1, 4):
        made.claim(key(f"s{number}"), A, shares("k", 80 + number))
    assert made.let_the_many_hold(lambda _: True) == (key("changed"),)
    assert made.why_apart(A, key("first"), shares("k", 80)) is None
    assert made.why_apart(A, key("changed"), shares("k", 81, 82, 83)) is Apart.PORT


def test_of_as_many_the_first_hold_an_address() -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    made.claim(key("first"), A, ALONE)
    made.claim(key("second"), A, shares("k", 80))
    assert made.let_the_many_hold(lambda _: True) == ()
    assert made.why_apart(A, key("first"), ALONE) is None


def test_many_that_were_not_given_an_address_drive_nobody_away_who_was() -> None:
    for having, left in (({"first"}, ()), ({"s0", "s1"}, (key("first"),)), ({"first", "s0"}, ())):
        made = ledger(pool("p", "10.0.0.0/30"))
        made.claim(key("first"), A, ALONE)
        for number in range(2):
            made.claim(key(f"s{number}"), A, shares("k", 80 + number))
        assert made.let_the_many_hold(lambda one, having=having: one.name in having) == left  # type: ignore[misc]


holders = st.builds(ServiceKey, st.sampled_from(["x", "y"]), st.sampled_from("abc"))
edits = st.lists(
    st.tuples(st.sampled_from(["claim", "claim", "release", "refresh", "weigh"]), holders, sharings),
    max_size=20,
)


@settings(max_examples=300)
@given(edits)
def test_who_holds_by_right_goes_together_and_nobody_contests_without_need(
    steps: list[tuple[str, ServiceKey, Sharing]],
) -> None:
    made = ledger(pool("p", "10.0.0.0/30"))
    known: dict[ServiceKey, Sharing] = {}
    for verb, who, sharing in steps:
        before = {one for one in known if made.why_apart(A, one, known[one]) is None}
        if verb == "claim" and who not in known:
            known[who] = sharing
            made.claim(who, A, sharing)
        elif verb == "release" and who in known:
            assert made.release(who, A) == known.pop(who)
        elif verb == "refresh":
            made.refresh(who, sharing)
            known = {one: sharing if one == who else known[one] for one in known}
        elif verb == "weigh":
            left = set(made.let_the_many_hold(lambda _: True))
            now = {one for one in known if made.why_apart(A, one, known[one]) is None}
            assert left == before - now
            assert not left or len(now) > len(before)
            before = now
        right = Group()
        by_right = [one for one in made.holders_of(A) if made.why_apart(A, one, known[one]) is None]
        for one in by_right:
            assert right.why_apart(one, known[one]) is None
            right.join(one, known[one])
        for one in known.keys() - set(by_right):
            assert right.why_apart(one, known[one]) is not None
        assert before & known.keys() - {who} <= set(by_right), "nobody loses its right through others"
        assert set(made.holders_of(A)) == set(known)
        assert made.is_held(A) is bool(known)
        assert made.space.pools["p"].usage().used == (1 if known else 0)
        assert dict(made.held_in("x")) == _counted(A, "x", known)


def _counted(address: Address, namespace: str, known: dict[ServiceKey, Sharing]) -> dict[Address, int]:
    count = sum(one.namespace == namespace for one in known)
    return {address: count} if count else {}
