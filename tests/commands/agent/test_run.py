"""In which order the parts of an agent act, with real rules in a network namespace of the test's own."""

import subprocess
from collections.abc import Set as AbstractSet
from math import inf
from typing import NamedTuple

import pytest

from lbipam.commands.agent.datapath import DatapathPart
from lbipam.commands.agent.run import act
from lbipam.controllers.cache import Cache, Change
from lbipam.controllers.datapath import Options
from lbipam.controllers.ports import Deleted, Event, Synced, Upserted
from lbipam.kube import forms
from lbipam.kube.kinds import Key, Kind
from tests.adapters.test_nft_library import own_netns
from tests.builders_services import service

__all__ = ("own_netns",)

pytestmark = pytest.mark.lab

WEB, ADDRESS = Key("default", "web"), "10.0.0.1"


class Moment(NamedTuple):
    """What was so when an announcer had acted."""

    announced: bool
    rules_stand: bool


class Witness:
    """An announcer of all Services that there are and that the node carries, which looks at the kernel as it acts."""

    kinds: tuple[Kind, ...] = ()

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._carried: AbstractSet[Key] = frozenset()
        self.seen: list[Moment] = []

    def observe(self, change: Change) -> None:
        pass

    def carry(self, services: AbstractSet[Key]) -> None:
        self._carried = services

    async def step(self) -> None:
        announced = WEB in self._carried and WEB in self._cache.objects(forms.SERVICE)
        self.seen.append(Moment(announced, ADDRESS in listed()))

    def wake_at(self) -> float:
        return inf

    async def close(self) -> None:
        pass


def listed() -> str:
    return subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout


async def test_rules_stand_before_an_address_is_announced_and_go_after_it_is_withdrawn(
    own_netns: str,
) -> None:
    cache = Cache()
    datapath, witness = DatapathPart(cache, Options(node="n1")), Witness(cache)

    def learn(event: Event) -> None:
        change = cache.store(event)
        if change is not None:
            datapath.observe(change)

    try:
        learn(Upserted(kind=forms.SERVICE, object=service(WEB.name, ADDRESS)))
        for kind in datapath.kinds:
            learn(Synced(kind=kind))
        await act([witness], datapath, None)
        learn(Deleted(kind=forms.SERVICE, key=WEB))
        await act([witness], datapath, None)
    finally:
        await datapath.close()
    assert witness.seen == [
        Moment(announced=False, rules_stand=False),
        Moment(announced=True, rules_stand=True),
        Moment(announced=False, rules_stand=True),
        Moment(announced=False, rules_stand=False),
    ]
