"""Counting what the peer announces."""

from lbipam.core.bgp import heard
from lbipam.core.bgp.attributes import Fault, PathAttributes, Reach, Remedy, Unreach
from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.heard import Heard
from lbipam.core.bgp.messages import Update
from lbipam.core.bgp.nlri import Nlri


def routes(*numbers: int) -> tuple[Nlri, ...]:
    return tuple(Nlri(b"\x20" + number.to_bytes(4, "big")) for number in numbers)


def test_a_route_counts_once_however_often_it_is_announced() -> None:
    counted = Heard()
    counted.take(Update(nlri=routes(1, 2)))
    counted.take(Update(nlri=routes(2, 3)))
    assert counted.count(Family.IPV4) == 3
    counted.take(Update(withdrawn=routes(1, 9)))
    assert counted.count(Family.IPV4) == 2


def test_families_are_counted_apart() -> None:
    counted = Heard()
    reach = Reach(family=Family.IPV6, next_hop=bytes(16), nlri=routes(1, 2))
    counted.take(Update(attributes=PathAttributes(reach=reach), nlri=routes(1)))
    assert (counted.count(Family.IPV4), counted.count(Family.IPV6)) == (1, 2)
    counted.take(Update(attributes=PathAttributes(unreach=Unreach(family=Family.IPV6, nlri=routes(2)))))
    assert (counted.count(Family.IPV4), counted.count(Family.IPV6)) == (1, 1)


def test_a_fault_takes_routes_away_only_where_that_is_its_remedy() -> None:
    counted = Heard()
    counted.take(Update(nlri=routes(1, 2, 3)))
    harmless = Fault(remedy=Remedy.DISCARD, type=7, why="length")
    counted.take(Update(nlri=routes(3, 4), faults=(harmless,)))
    assert counted.count(Family.IPV4) == 4
    grave = Fault(remedy=Remedy.WITHDRAW, type=1, why="length")
    counted.take(Update(nlri=routes(1, 4), faults=(harmless, grave)))
    assert counted.count(Family.IPV4) == 2


def test_a_full_table_does_not_fill_our_memory() -> None:
    counted = Heard()
    counted.take(Update(nlri=routes(*range(heard.LIMIT + 1))))
    counted.take(Update(nlri=routes(*range(heard.LIMIT, heard.LIMIT + 50))))
    counted.take(Update(withdrawn=routes(*range(100))))
    assert counted.count(Family.IPV4) == heard.LIMIT
