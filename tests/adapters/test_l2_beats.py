"""Beats and promises over real UDP on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from lbipam.adapters.l2_beats import Beats
from lbipam.core.l2.guardian import Beat
from tests.patience import until

V4, V6 = ip_address("127.0.0.1"), ip_address("::1")


@dataclass
class Node:
    """One node, what it has heard, and whether it promises."""

    name: str
    promises: bool = True
    heard: list[Beat] = field(default_factory=list)
    promised: list[tuple[str, int]] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self.beats = Beats(self.name, promises=self._hear, promised=lambda *what: self.promised.append(what))

    def _hear(self, beat: Beat) -> bool:
        self.heard.append(beat)
        return self.promises

    def send(self, number: int, to: "Node", at: IPv4Address | IPv6Address = V4, token: str = "") -> None:
        beat = Beat(ward=self.name, number=number, version="7")
        self.beats.send(beat, at, to.port, token or to.beats.token)


@asynccontextmanager
async def two(*, promises: bool = True) -> AsyncIterator[tuple[Node, Node]]:
    ward, guardian = Node("ward"), Node("guardian", promises=promises)
    try:
        for node in (ward, guardian):
            node.port = await node.beats.open(0)
        yield ward, guardian
    finally:
        ward.beats.close()
        guardian.beats.close()
        await asyncio.sleep(0)


@pytest.mark.parametrize("at", [V4, V6], ids=str)
async def test_a_beat_is_answered_with_a_promise(at: IPv4Address | IPv6Address) -> None:
    async with two() as (ward, guardian):
        ward.send(5, guardian, at)
        await until(lambda: ward.promised)
    assert ward.promised == [("guardian", 5)]
    assert guardian.heard == [Beat(ward="ward", number=5, version="7")]


async def test_what_is_not_promised_is_not_answered() -> None:
    async with two(promises=False) as (ward, guardian):
        ward.send(1, guardian)
        await until(lambda: guardian.heard)
        guardian.promises = True
        ward.send(2, guardian)
        await until(lambda: ward.promised)
    assert ward.promised == [("guardian", 2)]


async def test_only_who_knows_the_token_is_heard_and_only_who_got_the_beat_can_promise() -> None:
    async with two() as (ward, guardian):
        stranger = Node("guardian")
        stranger.port = await stranger.beats.open(0)
        try:
            ward.send(1, guardian, token="a guess")
            for forged in (
                b"",
                b"{",
                b'{"type": "promise", "guardian": "guardian", "number": 1, "secret": "a guess"}',
            ):
                assert stranger.beats._transport is not None
                stranger.beats._transport.sendto(forged, ("::ffff:127.0.0.1", ward.port))
            ward.send(2, guardian)
            await until(lambda: ward.promised)
        finally:
            stranger.beats.close()
    assert ward.promised == [("guardian", 2)]
    assert [beat.number for beat in guardian.heard] == [2]


async def test_a_port_that_is_taken_is_an_error_and_nobody_there_is_none() -> None:
    async with two() as (ward, guardian):
        other = Node("other")
        with pytest.raises(OSError, match="in use"):
            await other.beats.open(guardian.port)
        guardian.beats.close()
        await asyncio.sleep(0)
        ward.send(1, guardian)
        ward.send(2, guardian)
        await asyncio.sleep(0)
    other.send(1, guardian)
    assert ward.promised == []
