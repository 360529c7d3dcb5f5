"""The announcer with its worker, on a link of its own."""

import asyncio
import os
import signal
import socket
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest

from lbipam.adapters import l2_pipe, l2_worker
from lbipam.adapters.l2_announcer import Announcer
from lbipam.core.l2 import frames, responder
from lbipam.core.l2.announcements import (
    Announced,
    Conflict,
    Event,
    GroupRefused,
    InterfaceLost,
    InterfaceReady,
    Stage,
)
from lbipam.core.l2.frames import Arp
from tests.adapters.test_bgp_tcp import no_file_descriptors
from tests.lab.l2 import inside, lan
from tests.lab.l2.inside import MAC_B, until

missing = lan.why_no_lab()
pytestmark = [pytest.mark.lab, pytest.mark.skipif(missing is not None, reason=str(missing))]

FOUR, SIX = ip_address("192.0.2.80"), ip_address("2001:db8::80")


def waiting(end: socket.socket) -> list[bytes]:
    """The frames that have come and not been read."""
    found: list[bytes] = []
    while True:
        try:
            found.append(end.recv(2048))
        except BlockingIOError:
            return found


async def is_answered(end: socket.socket) -> bool:
    """Whether a probe for the IPv4 address is answered on the LAN within a moment."""
    waiting(end)
    end.send(responder.probe(FOUR.packed, MAC_B))
    for _ in range(20):
        await asyncio.sleep(0.01)
        try:
            found = frames.decode(end.recv(2048))
        except BlockingIOError:
            continue
        if isinstance(found, Arp) and found.destination == MAC_B:
            return True
    return False


def workers() -> list[int]:
    return [
        int(child)
        for task in Path("/proc/self/task").iterdir()
        for child in (task / "children").read_text().split()
        if l2_worker.__name__.encode() in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def test_what_is_applied_is_answered_until_it_is_taken_back_or_closed() -> None:
    async def test() -> None:
        events: list[Event] = []
        with inside.lan_end() as end:
            async with Announcer(answers_echo=True, on_event=events.append) as announcer:
                await announcer.apply(
                    {"here0": frozenset({FOUR, SIX}), "lan0": frozenset()}, handed_over={FOUR, SIX}
                )
                await until(lambda: InterfaceReady(interface="here0") in events, "the interface")
                assert await is_answered(end)
                (status,) = await announcer.status()
                assert status.stages == {Stage.ANNOUNCED: 2}
                assert status.answered["arp"] == 1
                assert {Announced(interface="here0", address=address) for address in (FOUR, SIX)} <= set(
                    events
                )
                await announcer.apply({})
                assert not await is_answered(end)
                assert await announcer.status() == ()
                await announcer.apply({"here0": frozenset({FOUR})}, handed_over={FOUR})
                assert await is_answered(end)
            assert not await is_answered(end)
            assert workers() == []

    inside.with_link(test)


def test_the_fence_can_be_moved_until_it_is_reached() -> None:
    async def test() -> None:
        with inside.lan_end() as end:
            async with Announcer(answers_echo=True, on_event=lambda _: None) as announcer:
                wanted = {"here0": frozenset({FOUR})}
                await announcer.apply(wanted, handed_over={FOUR}, valid_until=l2_pipe.now() + 3600)
                assert announcer.extend(l2_pipe.now() + 7200)
                assert await is_answered(end)
                assert announcer.extend(l2_pipe.now())
                await announcer.status()  # the worker has read what came before it
                assert not await is_answered(end)
                assert not announcer.extend(l2_pipe.now() + 3600)
                assert not await is_answered(end)
                await announcer.apply(wanted)
                assert await is_answered(end)

    inside.with_link(test)


def test_a_worker_that_is_held_up_past_its_fence_answers_again_if_that_was_moved_in_time() -> None:
    async def test() -> None:
        with inside.lan_end() as end:
            async with Announcer(answers_echo=True, on_event=lambda _: None) as announcer:
                fence = l2_pipe.now() + 1
                await announcer.apply({"here0": frozenset({FOUR})}, handed_over={FOUR}, valid_until=fence)
                (worker,) = workers()
                os.kill(worker, signal.SIGSTOP)
                assert announcer.extend(fence + 3600)
                await until(lambda: l2_pipe.now() > fence, "the first fence")
                waiting(end)
                os.kill(worker, signal.SIGCONT)
                announced = responder.announcement(FOUR.packed, inside.MAC_A)[0]
                await until(lambda: announced in waiting(end), "the announcement")
                assert await is_answered(end)

    inside.with_link(test)


def test_conflicts_and_interfaces_are_told() -> None:
    async def test() -> None:
        events: list[Event] = []
        changes: list[None] = []
        with inside.lan_end() as end:
            async with Announcer(
                answers_echo=True, on_event=events.append, on_interfaces=lambda: changes.append(None)
            ) as announcer:
                await announcer.apply({"here0": frozenset({FOUR})})
                end.send(responder.announcement(FOUR.packed, MAC_B)[0])
                conflict = Conflict(interface="here0", address=FOUR, rival=MAC_B, stage=Stage.CONFLICT)
                await until(lambda: conflict in events, "the conflict")
                inside.ip("link", "set", "here0", "down")
                await until(lambda: any(isinstance(event, InterfaceLost) for event in events), "the loss")
                assert changes
                (status,) = await announcer.status()
                assert status.stages == {Stage.WAITING: 1}
                assert {found.name for found in announcer.interfaces.values()} >= {"here0", "lan0"}

    inside.with_link(test)


def test_two_interfaces_on_one_lan_are_no_rivals() -> None:
    async def test() -> None:
        events: list[Event] = []
        async with Announcer(answers_echo=True, on_event=events.append) as announcer:
            await announcer.apply({"here0": frozenset({FOUR, SIX}), "lan0": frozenset({FOUR, SIX})})
            expected = {
                Announced(interface=name, address=address)
                for name in ("here0", "lan0")
                for address in (FOUR, SIX)
            }
            await until(lambda: expected <= set(events), "all to be announced")
            assert not any(isinstance(event, Conflict) for event in events)

    inside.with_link(test)


def test_a_group_that_cannot_be_joined_is_told_of_and_the_address_answered_for() -> None:
    async def test() -> None:
        events: list[Event] = []
        inside.ip("link", "set", "dev", "here0", "mtu", "1000")  # too small for IPv6 (RFC 8200 §5)
        with inside.lan_end() as end:
            async with Announcer(answers_echo=True, on_event=events.append) as announcer:
                await announcer.apply({"here0": frozenset({SIX, FOUR})}, handed_over={SIX, FOUR})
                await until(lambda: any(isinstance(event, GroupRefused) for event in events), "the refusal")
                assert await is_answered(end)
                assert Announced(interface="here0", address=SIX) in events

    inside.with_link(test)


def test_a_new_worker_knows_what_was_announced_and_what_was_in_conflict() -> None:
    async def test() -> None:
        events: list[Event] = []
        rival = ip_address("192.0.2.81")
        with inside.lan_end() as end:
            async with Announcer(answers_echo=True, on_event=events.append) as announcer:
                await announcer.apply({"here0": frozenset({FOUR, rival})}, handed_over={FOUR})
                end.send(responder.announcement(rival.packed, MAC_B)[0])
                await until(lambda: any(isinstance(event, Conflict) for event in events), "the conflict")
                (worker,) = workers()
                os.kill(worker, signal.SIGKILL)
                announced = Announced(interface="here0", address=FOUR)
                await until(lambda: events.count(announced) == 2, "a second announcement")
                assert await is_answered(end)
                (status,) = await announcer.status()
                assert status.stages == {Stage.ANNOUNCED: 1, Stage.PROBING: 1}

    inside.with_link(test)


def test_what_was_handed_over_is_announced_at_once_though_the_worker_died_before_it_did() -> None:
    async def test() -> None:
        announced = Announced(interface="here0", address=FOUR)
        events: list[Event] = []
        with inside.lan_end() as end:
            async with Announcer(answers_echo=True, on_event=events.append) as announcer:
                await announcer.apply({"here0": frozenset()})
                await announcer.status()
                (worker,) = workers()
                os.kill(worker, signal.SIGSTOP)
                applied = asyncio.create_task(
                    announcer.apply({"here0": frozenset({FOUR})}, handed_over={FOUR})
                )
                await asyncio.sleep(0)  # the order is on its way to a worker that will never read it
                os.kill(worker, signal.SIGKILL)
                await applied
                await until(lambda: announced in events, "the announcement")
                heard = [frames.decode(frame) for frame in waiting(end)]
                arps = [frame for frame in heard if isinstance(frame, Arp)]
                assert arps, heard
                assert {arp.sender for arp in arps} == {FOUR.packed}  # a probe would come from 0.0.0.0

    inside.with_link(test)


def test_while_no_worker_can_be_started_nobody_waits_but_who_asks_how_it_fares() -> None:
    async def test() -> None:
        with inside.lan_end() as end:
            async with Announcer(answers_echo=True, on_event=lambda _: None) as announcer:
                await announcer.apply({"here0": frozenset()})
                await announcer.status()
                (worker,) = workers()
                with no_file_descriptors():
                    os.kill(worker, signal.SIGKILL)
                    await until(lambda: not Path(f"/proc/{worker}").exists(), "the end of the worker")
                    async with asyncio.timeout(5):
                        await announcer.apply({"here0": frozenset({FOUR})}, handed_over={FOUR})
                    asked = asyncio.create_task(announcer.status())
                    await asyncio.sleep(0.2)
                    assert not asked.done()
                (status,) = await asked
                assert sum(status.stages.values()) == 1
                async with asyncio.timeout(20):
                    while not await is_answered(end):
                        pass

    inside.with_link(test)


def test_the_worker_ends_with_the_agent_even_if_that_is_killed() -> None:
    async def test() -> None:
        ours, its = socket.socketpair()
        with its:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", l2_worker.__name__, str(its.fileno()), "echo"),
                pass_fds=[its.fileno()],
            )
        ours.close()
        async with asyncio.timeout(10):
            assert await process.wait() == 0

    inside.with_link(test)
