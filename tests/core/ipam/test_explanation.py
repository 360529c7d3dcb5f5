"""What every pool and block says to a wish, and that it agrees with what is decided."""

from typing import Any

from hypothesis import given, settings

from lbipam.core.ipam.addresses import format_address
from lbipam.core.ipam.allocation import Reason, Verdict, decide
from lbipam.core.ipam.explanation import Explanation, explain
from lbipam.core.ipam.ledger import Ledger
from lbipam.core.ipam.services import ALONE, Service
from tests.builders import V4, V6, ip, key, ledger, pool, reservation, service, shares, wants
from tests.core.ipam.test_allocation import happen, serve, worlds


def of_blocks(wish: Explanation) -> list[tuple[str, Verdict, str]]:
    return [(str(one.block), one.verdict, one.detail) for answer in wish.pools for one in answer.blocks]


def test_explain_tells_what_every_pool_said() -> None:
    made = ledger(
        pool("off", "10.1.0.0/24", disabled=True),
        pool("red", "10.2.0.0/24", selector=wants(color="red")),
        pool("six", "fd00::/64"),
        pool("shy", "10.3.0.0/24", auto=False),
        pool("full", "10.4.0.0/32"),
        pool("twice", "10.5.0.0/24", "10.5.0.1"),
        pool("good", "10.6.0.0/24", priority=-1),
    )
    made.claim(key("x"), ip("10.4.0.0"), ALONE)
    (wish,) = explain(service("a", color="blue"), made)
    assert {one.pool: one.verdict for one in wish.pools} == {
        "off": Verdict.DISABLED,
        "red": Verdict.NOT_SELECTED,
        "six": Verdict.WRONG_FAMILY,
        "shy": Verdict.MUST_BE_NAMED,
        "full": Verdict.FULL,
        "twice": Verdict.CONFLICTING,
        "good": Verdict.GIVES,
    }
    assert (wish.has, [format_address(one) for one in wish.granted]) == ((), ["10.6.0.0"])
    assert wish.refusal is None


def test_explain_of_a_named_address_tells_which_pools_do_not_contain_it() -> None:
    made = ledger(pool("a", "10.0.0.0/24"), pool("b", "10.0.1.0/24"))
    (wish,) = explain(service("s", "10.0.1.7", pools=["a"]), made)
    assert [(one.pool, one.verdict) for one in wish.pools] == [
        ("a", Verdict.NOT_CONTAINING),
        ("b", Verdict.NOT_NAMED),
    ]
    assert wish.refusal is not None
    assert wish.refusal.reason is Reason.NOT_NAMED


def test_explain_tells_who_has_a_named_address_or_what_sets_it_aside() -> None:
    made = ledger(
        pool("p", "10.0.0.0/24", ends=False), reservations=[reservation("r", "10.0.0.7", to="mine")]
    )
    for number, name in enumerate("ab"):
        serve(made, service(name, "10.0.0.5", sharing=shares("k", 80 + number)))
    wishes = explain(service("s", "10.0.0.5", "10.0.0.7", "10.0.0.255", "10.0.0.8"), made)
    assert [(one.pools[0].verdict, one.pools[0].detail) for one in wishes] == [
        (Verdict.USED, "default/a and 1 more has it: different sharing key"),
        (Verdict.SET_ASIDE, "for default/mine by IPReservation r"),
        (Verdict.SET_ASIDE, "it is the first or last address of its block"),
        (Verdict.GIVES, ""),
    ]


def test_what_is_held_is_told_apart_from_what_would_be_given() -> None:
    made = ledger(pool("p", "10.0.0.0/24"), pool("six", "fd00::/64"))
    serve(made, service("s", "10.0.0.5"))
    told = [(one.has, one.granted) for one in explain(service("s", "10.0.0.5", "10.0.0.6"), made)]
    assert told == [((ip("10.0.0.5"),), ()), ((), (ip("10.0.0.6"),))]
    told = [(one.has, one.granted) for one in explain(service("s", families=[V4, V6]), made)]
    assert told == [((ip("10.0.0.5"),), ()), ((), (ip("fd00::"),))]


def test_a_pool_that_would_give_a_named_address_says_so_though_the_quota_forbids() -> None:
    made = ledger(pool("p", "10.0.0.0/24"))
    made.quotas["ns"] = 0
    (wish,) = explain(service("ns/s", "10.0.0.5"), made)
    assert [one.verdict for one in wish.pools] == [Verdict.GIVES]
    assert wish.refusal is not None
    assert wish.refusal.reason is Reason.QUOTA_EXCEEDED


def test_explain_tells_how_a_pool_is_full_and_what_it_wants() -> None:
    made = ledger(
        pool("full", "10.0.0.0/31"),
        pool("red", "10.0.1.0/24", selector=wants(color="red")),
        pool("twice", "10.0.2.0/24", "10.0.2.1"),
        reservations=[reservation("r", "10.0.0.1")],
    )
    serve(made, service("a", color="blue"))
    (wish,) = explain(service("b", color="blue"), made)
    assert {one.pool: one.detail for one in wish.pools} == {
        "full": "of 2 addresses 1 are used and 1 reserved",
        "red": "it wants color=red, but it is 'blue'",
        "twice": "'10.0.2.0 - 10.0.2.255' overlaps '10.0.2.1 - 10.0.2.1' of twice",
    }
    assert wish.refusal is not None
    assert wish.refusal.reason is Reason.OUT_OF_IPS


def test_each_block_of_a_pool_that_is_asked_tells_what_it_has_left() -> None:
    made = ledger(
        pool("p", "10.0.0.0/31", "10.0.1.0/30", "10.0.2.5", "fd00::1-fd00::9", ends=False),
        reservations=[reservation("r", "10.0.1.1"), reservation("whole", "10.0.2.5")],
    )
    for name in "abc":
        serve(made, service(name))
    four, six = explain(service("d", families=[V4, V6]), made)
    assert of_blocks(four) == [
        ("10.0.0.0/31", Verdict.FULL, "of 2 addresses 2 are used and 0 reserved"),
        ("10.0.1.0/30", Verdict.FULL, "of 4 addresses 3 are used and 1 reserved"),
        ("10.0.2.5 - 10.0.2.5", Verdict.FULL, "of 1 addresses 0 are used and 1 reserved"),
        ("fd00::1 - fd00::9", Verdict.WRONG_FAMILY, ""),
    ]
    assert [verdict for _, verdict, _ in of_blocks(six)] == [Verdict.WRONG_FAMILY] * 3 + [Verdict.GIVES]


def test_of_a_named_address_it_is_told_which_block_contains_it() -> None:
    made = ledger(pool("p", "10.0.0.0/24", "10.0.1.0/24"))
    serve(made, service("a", "10.0.1.7"))
    (wish,) = explain(service("b", "10.0.1.7"), made)
    assert of_blocks(wish) == [
        ("10.0.0.0/24", Verdict.NOT_CONTAINING, ""),
        ("10.0.1.0/24", Verdict.USED, ""),
    ]


def test_a_pool_that_refuses_as_a_whole_answers_for_its_blocks() -> None:
    made = ledger(pool("p", "10.0.0.0/24", selector=wants(color="red")))
    (wish,) = explain(service("a", color="blue"), made)
    assert of_blocks(wish) == []


@settings(max_examples=300)
@given(worlds)
def test_what_is_told_agrees_with_what_is_decided(steps: list[tuple[str, Any]]) -> None:
    made = ledger()
    for verb, what in steps:
        happen(made, verb, what)
        if verb == "service":
            assert_explained(made, what)
            serve(made, what)
            assert_explained(made, what)
            for wish in explain(what, made):
                assert not wish.granted


def assert_explained(made: Ledger, one: Service) -> None:
    told = {(wish.family, wish.address): wish for wish in explain(one, made)}
    for refusal in decide(one, made).refusals:
        assert told[refusal.family, refusal.address].refusal == refusal
    for wish in told.values():
        assert set(wish.has) <= set(made.claims_of(one.key))
        gives = any(answer.verdict is Verdict.GIVES for answer in wish.pools)
        if wish.refusal is not None and wish.refusal.reason in (Reason.NO_POOL, Reason.OUT_OF_IPS):
            assert not gives
        if wish.refusal is not None and wish.refusal.reason is Reason.OUT_OF_IPS:
            assert any(answer.verdict is Verdict.FULL for answer in wish.pools)
        for answer in wish.pools:
            if answer.blocks:
                of_blocks = {one.verdict for one in answer.blocks}
                assert answer.verdict in of_blocks
                assert of_blocks <= {
                    answer.verdict,
                    Verdict.WRONG_FAMILY,
                    Verdict.NOT_CONTAINING,
                    Verdict.FULL,
                }
