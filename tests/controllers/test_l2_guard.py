"""Whose guardian a node is, and who its own, as Leases and Nodes tell."""

from ipaddress import ip_address

import msgspec

from lbipam.controllers.cache import Change
from lbipam.controllers.l2_guard import Guard, Hearing
from lbipam.core.l2 import election
from lbipam.core.l2.guardian import BEAT_SECONDS, PROMISE_SECONDS, Beat
from lbipam.kube import forms, l2
from lbipam.kube.kinds import Key
from tests.builders_l2 import node
from tests.controllers.test_l2 import TIMING, Lan

ALL = frozenset({"n1", "n2"})
HEARING = Hearing(address=ip_address("192.0.2.1"), port=7473, token="t")


def lease(name: str, version: str = "1", *, guardian: str = "", port: int = 7473) -> l2.NodeLease:
    held = election.Lease(node=name, version=version, duration_seconds=3)
    return l2.NodeLease(lease=held, interfaces=l2.NO_INTERFACES, guardian=guardian, port=port, token="t")


def seen(name: str, written: forms.Node | None) -> Change:
    return Change(forms.NODE, Key("", name), None, written)


def test_a_live_node_that_tells_where_it_hears_is_asked() -> None:
    guard = Guard("n1", 0.0)
    assert guard.beat(ALL, 0.0) is None
    guard.observe_lease(lease("n2"))
    assert guard.beat(ALL, 0.0) is None, "where it is reached is not known"
    guard.observe_node(seen("n2", node("n2")))
    guard.observe_lease(lease("n1", "5"))
    due = guard.beat(ALL, 0.0)
    assert due is not None
    assert due[0] == HEARING
    assert (due[1].ward, due[1].version) == ("n1", "5")


def test_a_node_that_is_dead_or_gone_or_hears_nothing_is_not_asked() -> None:
    guard = Guard("n1", 0.0)
    guard.observe_node(seen("n2", node("n2")))
    guard.observe_lease(lease("n2"))
    assert guard.beat(frozenset({"n1"}), 0.0) is None
    guard.observe_lease(lease("n2", port=0))
    assert guard.beat(ALL, 0.0) is None
    guard.observe_lease(lease("n2"))
    guard.observe_node(seen("n2", None))
    assert guard.beat(ALL, 0.0) is None
    addressless = msgspec.structs.replace(node("n2"), status=forms.NodeStatus())
    guard.observe_node(seen("n2", addressless))
    assert guard.beat(ALL, 0.0) is None
    guard.observe_node(seen("n2", node("n2")))
    guard.observe_lease(l2.Released(node="n2"))
    assert guard.beat(ALL, 0.0) is None


def test_only_the_live_nodes_that_name_it_are_a_nodes_wards() -> None:
    guard, later = Guard("n1", 0.0), 2 * PROMISE_SECONDS
    guard.observe_lease(lease("n2", "7", guardian="n1"))
    guard.observe_lease(lease("n3", "8", guardian="n2"))
    assert guard.to_end(frozenset({"n1", "n3"}), later) == {}
    assert guard.to_end(ALL | {"n3"}, later) == {"n2": "7"}
    guard.observe_lease(l2.Released(node="n2"))
    assert not guard.promises(Beat(ward="n2", number=1, version="7"), later)


def test_a_node_with_a_guardian_tells_so_in_a_lease_that_lasts_longer() -> None:
    lan = Lan("n1", "n2")
    for member in lan.members.values():
        member.reconciler.guard.port, member.reconciler.guard.token = 7473, "t"
    lan.settle()
    told = lan.wanted("n1").told
    assert told is not None
    assert (told.guardian, told.duration_seconds) == ("", 4.0)
    ward, guardian = lan.members["n1"].reconciler, lan.members["n2"].reconciler
    for step in range(20):
        due = ward.beat(lan.now)
        assert due is not None
        assert due[0] == HEARING
        if guardian.guard.promises(due[1], lan.now):
            ward.promised("n2", due[1].number, lan.now)
        lan.now += BEAT_SECONDS
        if step % 4 == 0:
            lan.renew("n1")
            lan.renew("n2")
    told = lan.wanted("n1").told
    assert told is not None
    assert (told.guardian, told.duration_seconds) == ("n2", 8.0)
    nobodys = msgspec.structs.replace(told, guardian="")
    ward.renewed("1", nobodys, lan.now, lan.now)
    assert ward.valid_until == lan.now + TIMING.renew_deadline_seconds
    ward.sends(told, lan.now)
    assert ward.valid_until < lan.now + PROMISE_SECONDS, "it may be accepted, and no answer come"
    bound_until, due = ward.valid_until, ward.beat(lan.now)
    assert due is not None
    ward.promised("n2", due[1].number, lan.now)
    assert ward.valid_until > bound_until
    ward.renewed("2", nobodys, lan.now, lan.now)
    assert ward.valid_until == lan.now + TIMING.renew_deadline_seconds
    lan.renew("n1")
    lan.renew("n2")
    assert not lan.wanted("n1").must_publish
    lan.now += PROMISE_SECONDS
    assert lan.wanted("n2").to_end.keys() == {"n1"}
