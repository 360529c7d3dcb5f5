"""Conditions on announcement policies."""

from typing import Any

from lbipam.controllers.cache import Cache
from lbipam.controllers.l2_policies import policy_status
from lbipam.controllers.ports import Upserted
from lbipam.kube import l2
from lbipam.kube.kinds import Key
from tests.builders_l2 import policy

NOW = 1_800_000_000.0
KEY = Key("", "lan")


def cache(**written: Any) -> Cache:
    filled = Cache()
    filled.store(Upserted(kind=l2.ANNOUNCEMENT_POLICY, object=policy(**written)))
    return filled


def test_a_bad_expression_is_told_with_ciliums_type_and_reason() -> None:
    write = policy_status(cache(interfaces=["("]), KEY, NOW)
    assert write is not None
    assert write.subresource == "status"
    (condition,) = write.body["status"]["conditions"]
    assert condition["type"] == "io.cilium/bad-interface-regex"
    assert (condition["status"], condition["reason"]) == ("True", "error")
    assert "'('" in condition["message"]
    assert condition["observedGeneration"] == 2


def test_a_good_policy_and_one_that_is_gone_are_not_written() -> None:
    assert policy_status(cache(), KEY, NOW) is None
    assert policy_status(Cache(), KEY, NOW) is None


def test_what_is_already_said_is_not_said_again() -> None:
    write = policy_status(cache(interfaces=["("]), KEY, NOW)
    assert write is not None
    assert policy_status(cache(interfaces=["("], status=write.body["status"]), KEY, NOW) is None
