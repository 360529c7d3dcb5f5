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


class Puzzled(Witness):
    """One that cannot act as long as there is a Service."""

    async def step(self) -> None:
        await super().step()
        if self._cache.objects(forms.SERVICE):
            raise ZeroDivisionError


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


async def test_who_cannot_act_stops_no_other_and_keeps_its_rules(own_netns: str) -> None:
    cache = Cache()
    datapath = DatapathPart(cache, Options(node="n1"))
    puzzled, witness = Puzzled(cache), Witness(cache)
    try:
        for kind in datapath.kinds:
            cache.store(Synced(kind=kind))
        cache.store(Upserted(kind=forms.SERVICE, object=service(WEB.name, ADDRESS)))
        assert not await act([puzzled, witness], datapath, None)
        assert [len(one.seen) for one in (puzzled, witness)] == [1, 1]
        assert "lbipam" not in listed()
        cache.store(Deleted(kind=forms.SERVICE, key=WEB))
        assert await act([puzzled, witness], datapath, None)
        assert "lbipam" in listed()
    finally:
        await datapath.close()
