"""A BFD thread on loopback, and with a router on a LAN of its own."""

from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any, TypeAlias

import pytest
import structlog

from lbipam.adapters.bfd_udp import BfdThread, Neighbour
from lbipam.core.bfd.packets import State
from lbipam.core.bfd.session import Change, Timing
from tests.bfd_router import HERE, HERE_TOO, THERE, Router
from tests.lab.l2 import inside, lan
from tests.patience import until

missing = lan.why_no_lab()
needs_a_lab = pytest.mark.skipif(missing is not None, reason=str(missing))

FAST = Timing(interval_seconds=0.1, multiplier=3)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_thread_watches_itself_over_loopback_and_ends_on_purpose(address: str) -> None:
    changes: list[tuple[str, Change]] = []
    thread: BfdThread[str] = BfdThread(lambda name, change: changes.append((name, change)))
    here = Neighbour(address=ip_address(address), local_address=ip_address(address), timing=FAST)
    try:
        thread.apply({"self": here})
        await until(lambda: "self" in thread.status() or "self" in thread.errors())
        if "self" in thread.errors():
            pytest.skip(f"needs UDP port 3784: {thread.errors()['self']}")
        await until(lambda: thread.status()["self"].state is State.UP)
        await until(lambda: bool(changes))
        assert changes[0][1].state is State.UP
        thread.apply({})
        await until(lambda: not thread.status())
    finally:
        await thread.close()


async def test_a_neighbour_that_cannot_be_reached_by_any_means_is_an_error_and_not_a_crash() -> None:
    thread: BfdThread[str] = BfdThread(lambda _name, _change: None)
    try:
        zone = Neighbour(address=ip_address("fe80::1%no-such-link"), timing=FAST)
        thread.apply({"tor": zone})
        await until(lambda: "tor" in thread.errors())
        assert thread.status() == {}
    finally:
        await thread.close()


class Deadly:
    """An address that ends whoever looks at it closely."""

    @property
    def version(self) -> int:
        raise SystemExit("looked at")


async def test_a_thread_that_dies_says_why_and_shows_no_path_as_watched() -> None:
    thread: BfdThread[str] = BfdThread(lambda _name, _change: None)
    try:
        assert thread.why_dead() is None
        here = ip_address("127.0.0.1")
        thread.apply({"self": Neighbour(address=here, local_address=here, timing=FAST)})
        await until(lambda: "self" in thread.status() or "self" in thread.errors())
        address: Any = Deadly()
        with structlog.testing.capture_logs() as logs:
            thread.apply({"deadly": Neighbour(address=address, timing=FAST)})
            await until(lambda: thread.why_dead() is not None)
            assert "looked at" in str(thread.why_dead())
            await until(lambda: "bfd has died" in [one["event"] for one in logs])
        assert (thread.status(), thread.errors()) == ({}, {})
        thread.apply({})
    finally:
        await thread.close()


async def test_a_thread_that_is_closed_has_not_died() -> None:
    thread: BfdThread[str] = BfdThread(lambda _name, _change: None)
    await thread.close()
    assert thread.why_dead() is None


SLOW = Timing(interval_seconds=0.3, multiplier=3)
Changes: TypeAlias = list[tuple[str, Change]]


def on_a_lan(test: Callable[[BfdThread[str], Router, Changes], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a thread that watches nobody yet, a router, and what the thread has told of."""

    async def run() -> None:
        changes: Changes = []
        thread: BfdThread[str] = BfdThread(lambda name, change: changes.append((name, change)))
        with Router() as router:
            try:
                await test(thread, router, changes)
            finally:
                await thread.close()

    inside.with_link(run)


def tor(timing: Timing = FAST, *, local: str | None = None) -> Neighbour:
    here = ip_address(local) if local is not None else None
    return Neighbour(address=ip_address(THERE), local_address=here, timing=timing)


@pytest.mark.lab
@needs_a_lab
def test_another_timing_is_told_by_a_poll_and_the_session_stays_up() -> None:
    async def test(thread: BfdThread[str], router: Router, changes: Changes) -> None:
        thread.apply({"tor": tor()})
        ours = await router.come_up()
        thread.apply({"tor": tor(SLOW)})
        poll = await router.until_told(lambda packet: packet.poll)
        assert (poll.state, poll.mine, poll.required_receive) == (State.UP, ours, 300_000)
        assert thread.status()["tor"].transmit_seconds == 0.1
        router.say(State.UP, yours=ours, final=True)
        await until(lambda: thread.status()["tor"].transmit_seconds == 0.3)
        assert [change.state for _, change in changes] == [State.UP]

    on_a_lan(test)


@pytest.mark.lab
@needs_a_lab
def test_those_who_want_to_know_of_one_path_share_its_session() -> None:
    async def test(thread: BfdThread[str], router: Router, changes: Changes) -> None:
        thread.apply({"one": tor(SLOW), "other": tor(FAST)})
        ours = await router.come_up()
        await until(lambda: len(changes) == 2)
        assert {packet.mine for packet in router.packets} == {ours}
        assert {packet.required_receive for packet in router.packets} == {100_000}
        assert {one.state for one in thread.status().values()} == {State.UP}
        router.say(State.DOWN, yours=ours)
        await until(lambda: len(changes) == 4)
        assert [(name, change.state) for name, change in changes] == [
            *(("one", State.UP), ("other", State.UP)),
            *(("one", State.DOWN), ("other", State.DOWN)),
        ]
        thread.apply({"one": tor(SLOW)})
        left = await router.until_told(lambda packet: packet.required_receive == 300_000)
        assert left.mine == ours
        assert thread.status().keys() == {"one"}

    on_a_lan(test)


@pytest.mark.lab
@needs_a_lab
def test_paths_from_two_addresses_of_ours_to_one_router_are_told_apart() -> None:
    async def test(thread: BfdThread[str], router: Router, _changes: Changes) -> None:
        thread.apply({"chosen": tor(), "named": tor(local=HERE_TOO)})
        first = await router.come_up(here=HERE)
        second = await router.come_up(here=HERE_TOO)
        assert first != second
        assert {one.state for one in thread.status().values()} == {State.UP}

    on_a_lan(test)


@pytest.mark.lab
@needs_a_lab
def test_a_packet_that_has_passed_a_router_is_not_a_neighbours() -> None:
    async def test(thread: BfdThread[str], router: Router, _changes: Changes) -> None:
        thread.apply({"tor": tor()})
        await router.until_told(lambda packet: packet.state is State.DOWN)
        router.say(State.DOWN, ttl=254)
        for _ in range(2):
            told = await router.until_told(lambda _: True)
            assert (told.state, told.yours) == (State.DOWN, 0)
        router.say(State.DOWN, ttl=255)
        await router.until_told(lambda packet: packet.state is State.INIT)

    on_a_lan(test)


@pytest.mark.lab
@needs_a_lab
def test_a_neighbour_that_is_watched_no_longer_is_told_that_this_is_on_purpose() -> None:
    async def test(thread: BfdThread[str], router: Router, _changes: Changes) -> None:
        thread.apply({"tor": tor()})
        await router.come_up()
        thread.apply({})
        await router.until_told(lambda packet: packet.state is State.ADMIN_DOWN)
        thread.apply({"tor": tor()})
        await router.come_up()
        await thread.close()
        await router.until_told(lambda packet: packet.state is State.ADMIN_DOWN)

    on_a_lan(test)
