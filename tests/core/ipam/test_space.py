"""What is free and what is set aside, against sets of integers, under any order of edits."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lbipam.core.ipam.addresses import Address, Range, family_of
from lbipam.core.ipam.pools import Pool, conflicts
from lbipam.core.ipam.reservations import Reservation
from lbipam.core.ipam.space import Space, Usage
from tests.builders import V4, V6, ip, key, pool, reservation


def space(*pools: Pool, held: tuple[str, ...] = (), reserved: tuple[Reservation, ...] = ()) -> Space:
    addresses: dict[Address, None] = {}
    made = Space(addresses)
    made.place_all(pools, reserved)
    for text in held:
        addresses[ip(text)] = None
        made.take(ip(text))
    return made


def test_the_lowest_address_of_the_first_block_that_has_any_comes_first() -> None:
    made = space(pool("p", "10.0.1.0/31", "10.0.0.0/31"), held=("10.0.1.0",))
    assert made.pools["p"].lowest(V4) == ip("10.0.1.1")
    made = space(pool("p", "10.0.1.0/31", "10.0.0.0/31"), held=("10.0.1.0", "10.0.1.1"))
    assert made.pools["p"].lowest(V4) == ip("10.0.0.0")
    assert made.pools["p"].lowest(V6) is None


def test_first_and_last_count_as_used_and_are_not_given() -> None:
    made = space(pool("p", "10.0.0.0/24", ends=False))
    assert made.pools["p"].usage() == Usage(total=256, used=2, reserved=0)
    assert made.pools["p"].usage().available == 254
    assert made.pools["p"].lowest(V4) == ip("10.0.0.1")


def test_counters_are_exact_for_networks_of_any_size() -> None:
    made = space(pool("p", "fd00::/64", "10.0.0.0/32"), held=("fd00::7",))
    assert made.pools["p"].usage() == Usage(total=2**64 + 1, used=1, reserved=0)
    assert space(pool("p", "::/0")).pools["p"].usage().total == 2**128


def test_a_reserved_address_is_not_available_and_not_given() -> None:
    made = space(
        pool("p", "10.0.0.0/29"),
        reserved=(reservation("one", "10.0.0.0"), reservation("some", "10.0.0.2-10.0.0.4")),
    )
    assert made.pools["p"].usage() == Usage(total=8, used=0, reserved=4)
    assert made.pools["p"].lowest(V4) == ip("10.0.0.1")
    assert made.reservation_of(ip("10.0.0.3")) == reservation("some", "10.0.0.2-10.0.0.4")
    made.unreserve("some")
    assert made.pools["p"].usage().reserved == 1


def test_the_older_of_two_reservations_counts() -> None:
    young = reservation("a", "10.0.0.1", to="young", created="2026-01-02T00:00:00Z")
    old = reservation("b", "10.0.0.0/30", to="old", created="2026-01-01T00:00:00Z")
    made = space(pool("p", "10.0.0.0/24"), reserved=(young, old))
    assert made.reservation_of(ip("10.0.0.1")) is old
    assert list(made.reserved_for(key("young"))) == []
    assert next(iter(made.reserved_for(key("old")))) == ip("10.0.0.0")


def test_the_reservations_of_an_address_of_no_pool_are_told_without_a_look_at_each() -> None:
    asked = list[str]()

    class Asked(Reservation):
        @property
        def stretches(self) -> tuple[Range, ...]:
            asked.append(self.name)
            return Reservation.stretches.fget(self)  # type: ignore[attr-defined, no-any-return]

    def ask(one: Reservation) -> Asked:
        return Asked(name=one.name, ranges=one.ranges)

    some = ask(reservation("some", "10.0.0.0/30"))
    made = space(reserved=(some, *(ask(reservation(f"r{number}", "10.0.0.1")) for number in range(9))))
    asked.clear()
    assert {one.name for one in made.reservations_of(ip("10.0.0.1"))} == {
        "some",
        *(f"r{n}" for n in range(9)),
    }
    assert asked == ["some"]
    made.reserve(reservation("some", "10.0.0.2"))
    assert [one.name for one in made.reservations_of(ip("10.0.0.3"))] == []
    made.reserve(some)
    assert [one.name for one in made.reservations_of(ip("10.0.0.3"))] == ["some"]
    made.unreserve("some")
    assert [one.name for one in made.reservations_of(ip("10.0.0.3"))] == []


def test_a_held_address_counts_as_used_even_if_it_is_reserved() -> None:
    made = space(pool("p", "10.0.0.0/30"), held=("10.0.0.1",))
    made.reserve(reservation("r", "10.0.0.1", to="other"))
    assert made.pools["p"].usage() == Usage(total=4, used=1, reserved=0)


def test_a_pool_that_is_edited_keeps_what_is_held_in_it() -> None:
    made = space(pool("p", "10.0.0.0/24"), held=("10.0.0.5",))
    made.place(pool("p", "10.0.0.0/23"))
    assert made.pools["p"].usage() == Usage(total=512, used=1, reserved=0)
    made.remove("p")
    made.remove("p")
    assert made.pools == {}
    assert made.segment_of(ip("10.0.0.5")) is None
    made.place(pool("q", "10.0.0.4/30"))
    assert made.pools["q"].usage().used == 1


def test_pools_that_contain_an_address_are_told_in_rank_order() -> None:
    made = space(
        pool("b", "10.0.0.0/24"), pool("a", "10.0.0.0/25", priority=-1), pool("c", "10.0.0.0/25", ends=False)
    )
    assert [one.pool.name for one in made.pools_of(ip("10.0.0.0"))] == ["b", "c", "a"]
    assert made.pools_of(ip("10.0.1.0")) == ()


def test_the_largest_free_run_is_told() -> None:
    made = space(pool("p", "10.0.0.0/28"), held=("10.0.0.3",))
    assert str(made.pools["p"].largest_free_run()) == "10.0.0.4 - 10.0.0.15"
    assert space(pool("p")).pools["p"].largest_free_run() is None


def test_an_address_outside_of_every_pool_is_held_without_a_trace() -> None:
    made = space(pool("p", "10.0.0.0/30"), held=("192.0.2.1",))
    made.put(ip("192.0.2.1"))
    assert made.pools["p"].usage().used == 0


def test_of_what_is_reserved_for_a_service_only_what_nobody_holds_is_told() -> None:
    mine = reservation("r", "10.0.0.0", "10.0.0.4/31", "10.0.0.8/31", to="s")
    made = space(pool("p", "10.0.0.0/28"), held=("10.0.0.0", "10.0.0.4", "10.0.0.5"), reserved=(mine,))
    assert list(made.reserved_for(key("s"))) == [ip("10.0.0.8")]


def test_a_single_that_a_stretch_for_another_covers_is_told_to_whom_the_older_gives_it() -> None:
    old = reservation("old", "10.0.0.0/30", to="s", created="2026-01-01T00:00:00Z")
    young = reservation("young", "10.0.0.1", to="s", created="2026-01-02T00:00:00Z")
    made = space(pool("p", "10.0.0.0/24"), held=("10.0.0.0", "10.0.0.2", "10.0.0.3"), reserved=(old, young))
    assert list(made.reserved_for(key("s"))) == [ip("10.0.0.1")]


def test_reservations_are_found_by_name() -> None:
    one = reservation("r", "10.0.0.1")
    made = space(pool("p", "10.0.0.0/30"), reserved=(one,))
    assert list(made.reservations) == [one]
    assert made.reservation("r") is one
    assert made.reservation("none") is None


def test_a_block_that_fills_and_empties_for_ever_gives_its_lowest_each_time() -> None:
    addresses: dict[Address, None] = {}
    made = Space(addresses)
    made.place_all([pool("p", "10.0.0.0", "10.0.0.9")], ())
    for _ in range(3):
        for text in ("10.0.0.0", "10.0.0.9"):
            assert made.pools["p"].lowest(V4) == ip(text)
            addresses[ip(text)] = None
            made.take(ip(text))
        assert made.pools["p"].lowest(V4) is None
        for text in ("10.0.0.9", "10.0.0.0"):
            del addresses[ip(text)]
            made.put(ip(text))


# --- any order of edits ------------------------------------------------------------------------------------

LOW = 0


def spans(most: int) -> st.SearchStrategy[str]:
    pair = st.tuples(st.integers(0, 30), st.integers(0, most))
    return pair.map(lambda one: f"10.0.0.{one[0]}-10.0.0.{min(one[0] + one[1], 31)}")


cidrs = st.sampled_from(["10.0.0.0/28", "10.0.0.16/29", "10.0.0.8/30", "10.0.0.0/27", "10.0.0.4/31"])
pools = st.builds(
    lambda name, blocks, ends, priority: pool(name, *blocks, ends=ends, priority=priority),
    st.sampled_from("abc"),
    st.lists(spans(8) | cidrs, max_size=3),
    st.booleans(),
    st.integers(0, 1),
)
reservations = st.builds(
    lambda name, ranges, to: reservation(name, *ranges, to=to),
    st.sampled_from(["r1", "r2", "r3"]),
    st.lists(spans(3), min_size=1, max_size=2),
    st.sampled_from(["", "s"]),
)
addresses = st.integers(0, 31).map(lambda number: Address(ip("10.0.0.0") + number))
steps = st.lists(
    st.tuples(st.just("place"), pools)
    | st.tuples(st.just("remove"), st.sampled_from("abc"))
    | st.tuples(st.just("reserve"), reservations)
    | st.tuples(st.just("unreserve"), st.sampled_from(["r1", "r2", "r3"]))
    | st.tuples(st.just("take"), addresses)
    | st.tuples(st.just("put"), addresses),
    max_size=25,
)


def members(made: Pool) -> list[Address]:
    """The addresses of a pool, block by block, an address once for each block."""
    return [Address(number) for one in made.blocks for number in range(one.range.first, one.range.last + 1)]


def ends(made: Pool) -> set[Address]:
    return {end for one in made.blocks for end in one.ends(allow_first_last=made.allow_first_last)}


@settings(max_examples=300)
@given(steps)
def test_any_order_of_edits_ends_as_if_begun_from_the_outcome(edits: list[tuple[str, object]]) -> None:
    held: dict[Address, None] = {}
    made = Space(held)
    known: dict[str, Pool] = {}
    reserved: dict[str, Reservation] = {}
    for verb, what in edits:
        if verb == "place":
            assert isinstance(what, Pool)
            known[what.name] = what
            made.place(what)
        elif verb == "remove":
            known.pop(str(what), None)
            made.remove(str(what))
        elif verb == "reserve":
            assert isinstance(what, Reservation)
            reserved[what.name] = what
            made.reserve(what)
        elif verb == "unreserve":
            assert made.unreserve(str(what)) == reserved.pop(str(what), None)
        elif verb == "take" and what not in held:
            address = Address(int(str(what)))
            held[address] = None
            made.take(address)
        elif verb == "put" and what in held:
            address = Address(int(str(what)))
            del held[address]
            made.put(address)
    compare(made, known, reserved, set(held))
    fresh = Space(held)
    fresh.place_all(known.values(), reserved.values())
    compare(fresh, known, reserved, set(held))


def compare(
    made: Space, known: dict[str, Pool], reserved: dict[str, Reservation], held: set[Address]
) -> None:
    """Everything that can be asked, against plain sets."""
    set_aside = {
        Address(number)
        for one in reserved.values()
        for range_ in one.ranges
        for number in range(range_.first, range_.last + 1)
    }
    marked = conflicts(known.values())
    assert list(made.pools) == [one.name for one in sorted(known.values(), key=lambda one: one.rank)]
    for name, one in known.items():
        told = made.pools[name]
        assert told.overlap == marked.get(name)
        everything = members(one)
        usable = [address for address in everything if address not in ends(one)]
        free = [address for address in usable if address not in held | set_aside]
        if told.overlap is None:
            assert told.lowest(V4) == next(iter(free), None)
        assert told.giveable(V4) == len(free)
        usage = told.usage()
        assert usage.total == len(everything)
        assert usage.available == len(free)
        assert usage.used == len([address for address in usable if address in held]) + (
            len(everything) - len(usable)
        )
    for number in range(34):
        address = Address(ip("10.0.0.0") + number)
        assert {one.pool.name for one in made.pools_of(address)} == {
            name for name, one in known.items() if one.contains(address)
        }
        covering = [one for one in reserved.values() if any(address in range_ for range_ in one.ranges)]
        if made.pools_of(address) or all(
            range_.size == 1 for one in covering for range_ in one.ranges if address in range_
        ):
            assert made.reservation_of(address) == min(covering, key=lambda one: one.age, default=None)
    for address in made.reserved_for(key("s")):
        assert address not in held
        assert made.reservation_of(address) in reserved.values()
        assert family_of(address) is V4
