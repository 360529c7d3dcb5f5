"""Two BFD threads on loopback."""

from ipaddress import ip_address
from typing import Any

import pytest
import structlog

from lbipam.adapters.bfd_udp import BfdThread, Neighbour
from lbipam.core.bfd.packets import State
from lbipam.core.bfd.session import Change, Timing
from tests.patience import until

FAST = Timing(interval_seconds=0.1, multiplier=3)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_thread_watches_itself_over_loopback_and_ends_on_purpose(address: str) -> None:
    changes: list[tuple[str, Change]] = []
    thread = BfdThread(lambda name, change: changes.append((name, change)))
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
    thread = BfdThread(lambda _name, _change: None)
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
    thread = BfdThread(lambda _name, _change: None)
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
    thread = BfdThread(lambda _name, _change: None)
    await thread.close()
    assert thread.why_dead() is None
