"""Conditions on announcement policies."""

from typing import Any

from lbipam.controllers.cache import Cache
from lbipam.controllers.l2_policies import L2Policies
from lbipam.controllers.ports import (
    Apply,
    Deleted,
    Gone,
    Item,
    Upserted,
)
from lbipam.controllers.workqueue import WorkQueue
from lbipam.kube import l2
from lbipam.kube.kinds import Key
from tests.builders_l2 import policy

NOW = 1_800_000_000.0
LAN: Item = (l2.ANNOUNCEMENT_POLICY, Key("", "lan"))


class Leader:
    """A leading reconciler that knows one policy."""

    def __init__(self, **written: Any) -> None:
        self.cache = Cache()
        self.queue: WorkQueue[Item] = WorkQueue()
        self.reconciler = L2Policies(cache=self.cache, queue=self.queue)
        self.reconciler.lead()
        change = self.cache.store(Upserted(kind=l2.ANNOUNCEMENT_POLICY, object=policy(**written)))
        assert change is not None
        self.reconciler.observe(change)

    def writes(self) -> tuple[Apply, ...]:
        actions = self.reconciler.reconcile(LAN, NOW)
        return tuple(action for action in actions if isinstance(action, Apply))


def test_a_bad_expression_is_told_with_ciliums_type_and_reason() -> None:
    (write,) = Leader(interfaces=["("]).writes()
    assert write.subresource == "status"
    (condition,) = write.body["status"]["conditions"]
    assert condition["type"] == "io.cilium/bad-interface-regex"
    assert (condition["status"], condition["reason"]) == ("True", "error")
    assert "'('" in condition["message"]
    assert condition["observedGeneration"] == 2


def test_a_good_policy_and_one_that_is_gone_are_not_written() -> None:
    leader = Leader()
    assert leader.writes() == ()
    change = leader.cache.store(Deleted(kind=LAN[0], key=LAN[1]))
    assert change is not None
    leader.queue.clear()
    leader.reconciler.observe(change)
    assert len(leader.queue) == 0
    assert leader.writes() == ()


def test_what_is_already_said_is_not_said_again() -> None:
    (write,) = Leader(interfaces=["("]).writes()
    assert Leader(interfaces=["("], status=write.body["status"]).writes() == ()


def test_a_follower_writes_nothing_and_a_new_leader_looks_at_all() -> None:
    leader = Leader(interfaces=["("])
    leader.reconciler.follow()
    assert leader.writes() == ()
    leader.queue.clear()
    leader.reconciler.lead()
    assert leader.queue.take(NOW) == LAN
    assert len(leader.writes()) == 1


def test_what_was_not_written_is_looked_at_again() -> None:
    leader = Leader()
    leader.queue.clear()
    assert leader.reconciler.answered(LAN, Gone(), NOW) == ()
    assert leader.queue.wake_at() is not None
