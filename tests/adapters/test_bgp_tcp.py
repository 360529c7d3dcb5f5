"""Two speakers on loopback."""

import asyncio
import os
import resource
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import structlog

from lbipam.adapters.bgp_tcp import Speaker
from lbipam.core.bgp import messages
from lbipam.core.bgp.attributes import Context
from lbipam.core.bgp.codes import Cease, Family
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.messages import Keepalive, Open
from lbipam.core.bgp.peers import Peer, PeerDown, PeerEvent, PeerUp, SpeakerState
from lbipam.core.bgp.routes import PLAIN
from tests.patience import until

ONE, OTHER = ip_address("127.0.0.1"), ip_address("127.0.0.2")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def state(
    own: int,
    port: int | None,
    peer_port: int,
    *,
    routes: int = 0,
    password: bytes = b"",
    restart: int | None = None,
) -> SpeakerState:
    here, there = (ONE, OTHER) if own == 1 else (OTHER, ONE)
    peer = Peer(
        address=there,
        local_address=here,
        asn=64512 + 3 - own,
        port=peer_port,
        password=password,
        restart_seconds=restart,
        connect_retry_seconds=1,
        families=frozenset({Family.IPV4}),
    )
    return SpeakerState(
        local_asn=64512 + own,
        router_id=IPv4Address(f"192.0.2.{own}"),
        listen_port=port,
        peers={"other": peer},
        routes={ip_network(0x0A000000 + number): "all" for number in range(routes)},
        policies={"other": {Family.IPV4: {"all": PLAIN}}},
    )


class Pair:
    """Two speakers of which the second listens."""

    def __init__(self) -> None:
        self.events: tuple[list[PeerEvent], list[PeerEvent]] = ([], [])
        self.one, self.other = (Speaker(events.append) for events in self.events)
        self.port = free_port()

    def are_up(self) -> bool:
        return all(one.status()["other"].state is State.ESTABLISHED for one in (self.one, self.other))

    def received(self) -> int:
        return self.other.status()["other"].received.get(Family.IPV4, 0)


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    both = Pair()
    try:
        yield both
    finally:
        await both.one.close(keep_routes=False)
        await both.other.close(keep_routes=False)


@pytest.mark.parametrize("password", [b"", b"secret"])
async def test_routes_arrive_change_and_go(password: bytes) -> None:
    async with pair() as both:
        both.other.apply(state(2, both.port, 9, password=password))
        both.one.apply(state(1, None, both.port, routes=2000, password=password))
        await until(lambda: both.received() == 2000)
        both.one.apply(state(1, None, both.port, routes=1000, password=password))
        await until(lambda: both.received() == 1000)
        assert both.one.status()["other"].advertised == {Family.IPV4: 1000}
        assert both.events[0] == [PeerUp(peer="other")]
        assert both.one.status()["other"].established_at is not None


async def test_a_stop_is_explained_and_a_pause_is_silent_and_both_end_when_the_peer_has_taken_note() -> None:
    for keep_routes, why in (
        (False, 'received Cease/Administrative Shutdown (6/2): "drained"'),
        (True, "the peer closed the connection"),
    ):
        async with pair() as both:
            both.other.apply(state(2, both.port, 9, restart=60))
            both.one.apply(state(1, None, both.port, routes=5, restart=60))
            await until(both.are_up)
            await both.one.close(keep_routes=keep_routes, communication="drained")
            (_, down) = both.events[1]
            assert isinstance(down, PeerDown)
            assert str(down.ending) == why


async def test_routes_that_the_kernel_does_not_take_at_once_arrive_in_the_end() -> None:
    async with pair() as both:
        both.other.apply(state(2, both.port, 9))
        both.one.apply(state(1, None, both.port))
        await until(both.are_up)
        both.one.apply(state(1, None, both.port, routes=60_000))
        await until(lambda: both.received() == 60_000)
        assert both.one.status()["other"].pending == 0


async def test_the_same_state_again_changes_nothing_and_another_parameter_resets() -> None:
    async with pair() as both:
        both.other.apply(state(2, both.port, 9))
        wanted = state(1, None, both.port, routes=5)
        both.one.apply(wanted)
        await until(both.are_up)
        both.one.apply(wanted)
        assert both.events[0] == [PeerUp(peer="other")]
        slower = replace(wanted.peers["other"], hold_seconds=30)
        both.one.apply(replace(wanted, peers={"other": slower}))
        await until(lambda: len(both.events[1]) == 3 and both.are_up())
        down = both.events[1][1]
        assert isinstance(down, PeerDown)
        assert str(down.ending) == "received Cease/Other Configuration Change (6/6)"
        assert both.one.status()["other"].hold_seconds == 30


async def test_a_session_that_is_up_goes_on_when_only_the_wait_for_the_next_one_changes() -> None:
    async with pair() as both:
        both.other.apply(state(2, both.port, 9))
        wanted = state(1, None, both.port, routes=5)
        both.one.apply(wanted)
        await until(lambda: both.received() == 5)
        patient = replace(wanted.peers["other"], connect_retry_seconds=60)
        both.one.apply(replace(wanted, peers={"other": patient}))
        both.one.apply(replace(wanted, peers={"other": patient}, routes={ip_network("10.0.0.1"): "all"}))
        await until(lambda: both.received() == 1)
        assert both.events == ([PeerUp(peer="other")], [PeerUp(peer="other")])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"hold_seconds": 30}, "the peer closed the connection"),
        ({"restart_seconds": None}, "the peer closed the connection"),
        ({"asn": 0}, "received Cease/Other Configuration Change (6/6)"),
        ({"port": 9}, "received Cease/Other Configuration Change (6/6)"),
    ],
)
async def test_a_peer_that_will_know_us_again_is_to_keep_our_routes_through_a_reset(
    changes: dict[str, Any], why: str
) -> None:
    async with pair() as both:
        both.other.apply(state(2, both.port, 9, restart=60))
        wanted = state(1, None, both.port, restart=60)
        both.one.apply(wanted)
        await until(both.are_up)
        both.one.apply(replace(wanted, peers={"other": replace(wanted.peers["other"], **changes)}))
        await until(lambda: len(both.events[1]) > 1)
        down = both.events[1][1]
        assert isinstance(down, PeerDown)
        assert str(down.ending) == why


async def test_a_peer_that_another_speaker_takes_over_is_to_keep_our_routes_and_others_are_told() -> None:
    for heir, why in (
        (state(1, None, 0), "received Cease/Administrative Shutdown (6/2)"),
        (None, "the peer closed the connection"),
    ):
        async with pair() as both:
            both.other.apply(state(2, both.port, 9, restart=60))
            wanted = state(1, None, both.port, restart=60)
            both.one.apply(wanted)
            await until(both.are_up)
            await both.one.close(keep_routes=False, heirs=[heir or replace(wanted, routes={})])
            await until(lambda: len(both.events[1]) > 1)
            down = both.events[1][1]
            assert isinstance(down, PeerDown)
            assert str(down.ending) == why


async def test_a_reset_brings_a_new_session() -> None:
    async with pair() as both:
        both.other.apply(state(2, both.port, 9))
        both.one.apply(state(1, None, both.port))
        await until(both.are_up)
        both.one.reset("other", Cease.BFD_DOWN)
        both.one.reset("nobody", Cease.BFD_DOWN)
        await until(lambda: len(both.events[0]) == 3)
        assert both.one.status()["other"].flaps == 1


async def test_both_may_connect_and_one_connection_is_left() -> None:
    async with pair() as both:
        second = free_port()
        both.one.apply(state(1, second, both.port))
        both.other.apply(state(2, both.port, second))
        await until(both.are_up)
        await until(lambda: both.one.status()["other"].flaps == 0)


async def test_strangers_are_turned_away() -> None:
    async with pair() as both:
        both.other.apply(state(2, both.port, 9))
        reader, writer = await asyncio.open_connection("127.0.0.3", both.port, local_addr=("127.0.0.3", 0))
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_a_port_that_is_taken_is_reported_and_we_still_connect_out() -> None:
    async with pair() as both:
        both.other.apply(state(2, both.port, 9))
        both.one.apply(state(1, both.port, both.port))
        assert both.one.listen_error == f"port {both.port}: Address already in use"
        await until(both.are_up)


async def test_a_port_that_another_program_had_is_taken_once_it_is_free() -> None:
    async with pair() as both:
        with socket.create_server(("", both.port)):
            both.other.apply(state(2, both.port, 9))
            assert both.other.listen_error == f"port {both.port}: Address already in use"
        await until(lambda: both.other.listen_error is None)
        both.one.apply(state(1, None, both.port))
        await until(both.are_up)


async def test_a_peer_whose_signatures_cannot_be_checked_is_turned_away_and_disturbs_nobody() -> None:
    async with pair() as both:
        too_long = state(2, both.port, 9, password=81 * b"x")
        friend = Peer(address=ip_address("127.0.0.3"), local_address=OTHER, port=9, connect_retry_seconds=1)
        both.other.apply(replace(too_long, peers={**too_long.peers, "friend": friend}))
        assert await first_octets(both.port, of=f"{ONE}") == b""
        assert await first_octets(both.port, of="127.0.0.3") == 16 * b"\xff"


async def first_octets(port: int, *, of: str) -> bytes:
    """What a peer that connects from an address is told: the marker of an OPEN, or nothing at all."""
    reader, writer = await asyncio.open_connection(f"{OTHER}", port, local_addr=(of, 0))
    try:
        return await reader.read(16)
    finally:
        writer.close()
        await writer.wait_closed()


class Moody(int):
    """A number that cannot be compared the first time."""

    has_been_asked = False

    def __lt__(self, other: int) -> bool:
        if not self.has_been_asked:
            self.has_been_asked = True
            raise ValueError("in a bad mood")
        return int(self) < other


async def test_a_peer_that_meets_a_bug_keeps_nobody_from_his_session_and_is_tried_again() -> None:
    async with pair() as both:
        both.other.apply(state(2, both.port, 9))
        wanted = state(1, None, both.port)
        moody = replace(
            wanted.peers["other"], address=ip_address("127.0.0.3"), connect_retry_seconds=Moody(1)
        )
        both.one.apply(replace(wanted, peers={"moody": moody, **wanted.peers}))
        assert both.one.problems == {"moody": "met a bug: ValueError('in a bad mood')"}
        await until(both.are_up)
        await until(lambda: not both.one.problems)
        assert both.one.status().keys() == {"moody", "other"}
        assert both.one.status()["other"].flaps == 0


async def test_a_signature_that_could_not_be_asked_for_at_first_is_asked_for_later() -> None:
    memory = int(Path("/proc/sys/net/core/optmem_max").read_text())
    async with pair() as both:
        signed = state(2, both.port, 9, password=b"secret")
        crowd = {
            str(number): Peer(address=IPv4Address("127.1.0.0") + number, port=9, password=b"x")
            for number in range(memory // 64)
        }
        with structlog.testing.capture_logs() as logs:
            both.other.apply(replace(signed, peers={**crowd, **signed.peers}))
        refused = {one["peer"] for one in logs if one["event"] == "bgp cannot check signatures"}
        assert "other" in refused, "the kernel has no memory for so many keys"
        second = free_port()
        both.other.apply(replace(signed, listen_port=second))
        both.one.apply(state(1, None, second, password=b"secret"))
        await until(both.are_up)


async def test_a_peer_that_is_wanted_no_longer_need_not_sign() -> None:
    async with pair() as both:
        both.other.apply(state(2, both.port, 9, password=b"secret"))
        both.other.apply(replace(state(2, both.port, 9), peers={}))
        async with asyncio.timeout(20):
            assert await first_octets(both.port, of=f"{ONE}") == b""


async def test_for_a_peer_that_does_not_read_no_more_is_kept_than_the_kernel_takes() -> None:
    async with pair() as both:
        wanted = state(2, both.port, 9, routes=60_000)
        hurried = replace(wanted.peers["other"], hold_seconds=3)
        both.other.apply(replace(wanted, routes={}, peers={"other": hurried}))
        with socket.socket() as peer:
            # So that the kernel takes little.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            peer.bind((f"{ONE}", 0))
            peer.settimeout(0)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(peer, (f"{OTHER}", both.port))
            opened = Open(asn=64513, hold_seconds=90, router_id=IPv4Address("192.0.2.1"))
            for message in (opened, Keepalive()):
                await loop.sock_sendall(peer, messages.encode(message, Context()))
            await until(lambda: both.events[1] == [PeerUp(peer="other")])
            both.other.apply(replace(wanted, peers={"other": hurried}))
            assert both.other.status()["other"].pending > 0
            await until(lambda: len(both.events[1]) == 2)
        down = both.events[1][1]
        assert isinstance(down, PeerDown)
        assert str(down.ending) == "nothing was heard for the hold time; sent Hold Timer Expired (4/0)"


async def test_peers_wait_without_keeping_us_busy_while_there_is_no_file_descriptor_for_them() -> None:
    async with pair() as both:
        both.other.apply(state(2, both.port, 9))
        with socket.socket() as peer:
            peer.bind((f"{ONE}", 0))
            peer.settimeout(0)
            with no_file_descriptors():
                await asyncio.get_running_loop().sock_connect(peer, (f"{OTHER}", both.port))
                begun = time.process_time()
                await asyncio.sleep(0.4)
                busy = time.process_time() - begun
            assert busy < 0.2
            assert await asyncio.get_running_loop().sock_recv(peer, 16) == 16 * b"\xff"


@contextmanager
def no_file_descriptors() -> Iterator[None]:
    """This process can open nothing inside of the block."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull, "rb") as next_one:
        lowest = next_one.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_a_router_that_is_not_there_is_an_ending_with_a_reason() -> None:
    async with pair() as both:
        both.one.apply(state(1, None, free_port()))
        await until(lambda: both.one.status()["other"].last_ending is not None)
        assert str(both.one.status()["other"].last_ending) == "connecting: Connection refused"
