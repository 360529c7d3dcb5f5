"""Who would keep, gain, move or lose addresses, if these objects were changed?

The change is made in a rehearsal by the reconciler that would make it in earnest. This file compares before
and after.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from lbipam.controllers.rehearsal import Rehearsal
from lbipam.core.ipam.addresses import format_address
from lbipam.kube import forms, ipam, ipam_status
from lbipam.kube.kinds import Key, Kind, KubeObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """An object would be created or changed."""

    kind: Kind
    form: KubeObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """An object would be deleted."""

    kind: Kind
    key: Key


Edit: TypeAlias = Put | Remove


class Fate(msgspec.Struct, rename="camel"):
    """What becomes of one Service."""

    service: str
    outcome: str
    """`keeps`, `gains`, `moves`, `loses`, or `waits`: it has none, before and after."""
    before: list[str]
    after: list[str]
    why: str = ""


class Plan(msgspec.Struct, rename="camel"):
    """What becomes of all of them."""

    services: list[Fate]
    counts: dict[str, int]

    @property
    def is_harmless(self) -> bool:
        """Whether nobody loses an address that it has."""
        return not self.counts["loses"] and not self.counts["moves"]


def rehearse(world: Rehearsal, edits: Sequence[Edit]) -> Plan:
    """Make the edits in a world that has settled, let it settle again, and compare."""
    before = _addresses(world)
    told = len(world.events)
    for edit in edits:
        match edit:
            case Put(kind=kind, form=form):
                world.put(kind, form)
            case Remove(kind=kind, key=key):
                world.remove(kind, key)
    world.settle()
    after = _addresses(world)
    news: dict[Key, list[str]] = {}
    for event in world.events[told:]:
        if event.kind is forms.SERVICE:
            news.setdefault(event.key, []).append(event.message)
    fates = [
        _fate(key, before.get(key, []), after.get(key, []), _why(world, key, news.get(key, [])))
        for key in sorted(before.keys() | after.keys())
    ]
    counts = Counter(fate.outcome for fate in fates)
    names = ("keeps", "gains", "moves", "loses", "waits")
    return Plan(services=fates, counts={name: counts[name] for name in names})


def _addresses(world: Rehearsal) -> dict[Key, list[str]]:
    services: dict[Key, forms.Service] = dict(world.cache.objects(forms.SERVICE))
    return {
        key: [format_address(address) for address in ipam.shown_addresses(service)]
        for key, service in services.items()
        if world.ipam.responsibility.covers(service.spec)
    }


def _fate(key: Key, before: list[str], after: list[str], why: str) -> Fate:
    lost, won = set(before) - set(after), set(after) - set(before)
    outcomes = {(True, True): "moves", (True, False): "loses", (False, True): "gains"}
    outcome = outcomes.get((bool(lost), bool(won)), "keeps" if before else "waits")
    return Fate(service=str(key), outcome=outcome, before=before, after=after, why=why)


def _why(world: Rehearsal, key: Key, news: Sequence[str]) -> str:
    service: forms.Service | None = world.cache.objects(forms.SERVICE).get(key)
    if service is None:
        return "the Service is deleted"
    refused = [
        one.message
        for one in service.status.conditions
        if one.type == ipam_status.REQUEST_SATISFIED and one.status == "False"
    ]
    return "; ".join(dict.fromkeys([*news, *refused]))
