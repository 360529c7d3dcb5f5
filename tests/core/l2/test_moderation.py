"""When requests are let gather, and when each is answered as it comes."""

from collections.abc import Iterable

from lbipam.core.l2.moderation import MEMORY_SECONDS, Moderation


def pauses(turns: Iterable[tuple[int, float]]) -> list[bool]:
    """The answers after turns of so many requests, so many seconds after the one before."""
    moderation, now, told = Moderation(), 100.0, []
    for answered, elapsed in turns:
        now += elapsed
        told.append(moderation.pays(answered, now))
    return told


def test_a_thousand_a_second_are_answered_as_they_come() -> None:
    assert not any(pauses([(1, 0.001)] * 1000))


def test_ten_thousand_a_second_are_let_gather_once_that_lasts() -> None:
    told = pauses([(1, 0.0001)] * 1000)
    first = told.index(True)
    assert MEMORY_SECONDS / 4 < first * 0.0001 < MEMORY_SECONDS
    assert all(told[first:])


def test_what_has_gathered_keeps_the_pace() -> None:
    assert all(pauses([(1, 0.0001)] * 1000 + [(21, 0.0021)] * 100)[1000:])


def test_ten_thousand_a_second_may_come_unevenly() -> None:
    assert all(pauses([(1, 0.00005), (4, 0.00045)] * 1000)[500:])


def test_a_burst_is_answered_as_it_comes() -> None:
    assert not any(pauses(([(1, 0.00001)] * 50 + [(1, 0.05)]) * 20))


def test_when_the_rush_is_over_each_is_answered_as_it_comes_again() -> None:
    told = pauses([(1, 0.0001)] * 1000 + [(1, 0.001)] * 100)
    assert not any(told[-50:])
