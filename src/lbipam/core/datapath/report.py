"""What does the kernel say stands in the table?

Reads nft's own listing of a table or a map, made with numeric output. Rules are not read, only the names of
chains: nft shows rules in other words than they were written in. This file does not know what should stand.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple

from lbipam.core.datapath.ruleset import Element
from lbipam.core.datapath.services import IPAddress


class Learned(NamedTuple):
    """A client with affinity and the endpoint it was sent to."""

    client: IPAddress
    endpoint: IPAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The table as the kernel has it; without the elements that the kernel itself learns."""

    chains: frozenset[str]
    sets: dict[str, str]
    """By name: `set` or `map`."""
    elements: frozenset[Element]


NOTHING = Report(chains=frozenset(), sets={}, elements=frozenset())
"""There is no table."""
_OBJECT = re.compile(r"^\t(set|map|chain) (\S+) \{\n(.*?)^\t\}$", re.MULTILINE | re.DOTALL)
_ELEMENTS = re.compile(r"^\t\telements = \{(.*)\}$", re.MULTILINE | re.DOTALL)


def read(listing: str) -> Report:
    """The answer to `list table`."""
    found = [match.groups() for match in _OBJECT.finditer(listing)]
    return Report(
        chains=frozenset(name for kind, name, _ in found if kind == "chain"),
        sets={name: kind for kind, name, _ in found if kind != "chain"},
        elements=frozenset(
            Element(name, key, data)
            for kind, name, body in found
            if kind != "chain" and "flags dynamic" not in body
            for key, data in _elements(body)
        ),
    )


def learned(listing: str) -> tuple[Learned, ...]:
    """The answer to `list map` of a map that learns: `CLIENT expires TIME : ENDPOINT`."""
    bodies = (body for kind, _, body in _OBJECT.findall(listing) if kind == "map")
    return tuple(
        Learned(ip_address(key.split()[0]), ip_address(data))
        for body in bodies
        for key, data in _elements(body)
    )


def _elements(body: str) -> Iterator[tuple[str, str]]:
    match = _ELEMENTS.search(body)
    for element in match[1].split(",") if match else ():
        key, _, data = element.strip().partition(" : ")
        yield key, data
