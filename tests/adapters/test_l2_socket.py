"""What the kernel's filter lets through, and how many groups one interface can join."""

import asyncio
import socket
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

import pytest

from lbipam.adapters.l2_socket import Groups, Port, Protocol
from lbipam.core.l2 import frames, responder
from lbipam.core.l2.frames import Arp, Echo, NeighbourAdvertisement, Operation
from tests.lab.l2 import inside, lan
from tests.lab.l2.inside import MAC_A, MAC_B

missing = lan.why_no_lab()
pytestmark = [pytest.mark.lab, pytest.mark.skipif(missing is not None, reason=str(missing))]

FOUR, SIX = ip_address("192.0.2.80").packed, ip_address("2001:db8::80").packed


def echo(address: bytes, operation: Operation, destination: bytes = MAC_A) -> bytes:
    return frames.encode(
        Echo(
            destination=destination,
            source=MAC_B,
            operation=operation,
            sender=address,
            receiver=address,
            body=b"body",
        )
    )


def fragment(frame: bytes) -> bytes:
    return frame[:20] + b"\x20\x00" + frame[22:]


def tagged(frame: bytes, vlan: int) -> bytes:
    return frame[:12] + b"\x81\x00" + vlan.to_bytes(2) + frame[12:]


ARP, NEIGHBOUR = responder.probe(FOUR, MAC_B), responder.probe(SIX, MAC_B)
TO_ANOTHER = b"\x02\x00\x00\x00\x00\x99" + ARP[6:]
ROUTER_SOLICITATION = NEIGHBOUR[:54] + b"\x85" + NEIGHBOUR[55:]
UDP = NEIGHBOUR[:20] + b"\x11" + NEIGHBOUR[21:]
ASKED = [
    ("ARP", ARP),
    ("ARP with a priority tag", tagged(ARP, 0x6000)),
    ("a solicitation", NEIGHBOUR),
    ("an advertisement", responder.announcement(SIX, MAC_B)[0]),
]
ECHO = [
    ("ping", echo(FOUR, Operation.REQUEST)),
    ("ping -6", echo(SIX, Operation.REQUEST)),
]
OTHERS = [
    ("ARP to another host", TO_ANOTHER),
    ("ARP in a VLAN", tagged(ARP, 5)),
    ("a router solicitation", ROUTER_SOLICITATION),
    ("UDP over IPv6", UDP),
    ("a reply to ping", echo(FOUR, Operation.REPLY)),
    ("a reply to ping -6", echo(SIX, Operation.REPLY)),
    ("a fragment", fragment(echo(FOUR, Operation.REQUEST))),
    ("ping to another host", echo(FOUR, Operation.REQUEST, b"\x02\x00\x00\x00\x00\x99")),
]


def opened(protocols: set[Protocol]) -> closing[Port]:
    index = socket.if_nametoindex("here0")
    return closing(Port(name="here0", index=index, hardware=MAC_A, protocols=protocols))


def heard(port: Port) -> set[bytes]:
    """What the port's sockets have received of `lan0`, tags apart."""
    found = set()
    for receiver in port.sockets.values():
        while True:
            try:
                frame = receiver.recv(2048)
            except BlockingIOError:
                break
            if frame[6:12] == MAC_B:
                found.add(frame)
    return found


@pytest.mark.parametrize("answers_echo", [True, False])
def test_only_what_could_concern_us_wakes_us(answers_echo: bool) -> None:
    async def test() -> None:
        inside.ip("link", "set", "here0", "promisc", "on")
        protocols = set(Protocol) if answers_echo else {Protocol.ARP, Protocol.IPV6}
        let_through = {frame for _, frame in ASKED if len(frame) > 14 and frame[12:14] != b"\x81\x00"}
        let_through |= {frame for _, frame in ECHO if answers_echo}
        last = frames.encode(frames_last())
        with opened(protocols) as port, inside.lan_end() as end:
            for _, frame in [*ASKED, *ECHO, *OTHERS]:
                end.send(frame)
            end.send(last)
            found: set[bytes] = set()
            async with asyncio.timeout(10):
                while last not in found:
                    found |= heard(port)
                    await asyncio.sleep(0.01)
        assert found == let_through | {last}

    inside.with_link(test)


def frames_last() -> Arp:
    """A frame that tells that those before it have been dealt with."""
    return Arp(
        destination=frames.BROADCAST,
        source=MAC_B,
        operation=Operation.REPLY,
        sender_hardware=MAC_B,
        sender=b"last",
        target_hardware=MAC_B,
        target=b"last",
    )


def test_a_priority_tag_is_let_through_alone() -> None:
    async def test() -> None:
        with opened({Protocol.ARP}) as port, inside.lan_end() as end:
            end.send(tagged(ARP, 5))
            end.send(tagged(ARP, 0x6000))
            end.send(frames.encode(frames_last()))
            receiver = port.sockets[Protocol.ARP]
            receiver.settimeout(5)
            assert [frames.decode(receiver.recv(2048)) for _ in range(2)] == [
                frames.decode(ARP),
                frames_last(),
            ]

    inside.with_link(test)


def test_a_port_sends_what_it_is_given() -> None:
    async def test() -> None:
        (frame,) = responder.announcement(SIX, MAC_A)
        with opened(set(Protocol)) as port, inside.lan_end() as end:
            port.sender.send(frame)
            received: set[bytes] = set()
            async with asyncio.timeout(10):
                while frame not in received:
                    try:
                        received.add(end.recv(2048))
                    except BlockingIOError:
                        await asyncio.sleep(0.01)
        assert isinstance(frames.decode(frame), NeighbourAdvertisement)

    inside.with_link(test)


def test_an_interface_that_is_not_there_cannot_be_opened() -> None:
    async def test() -> None:
        with pytest.raises(OSError, match="No such device"):
            Port(name="c", index=99, hardware=MAC_A, protocols=set(Protocol))

    inside.with_link(test)


def joined() -> set[str]:
    """The solicited-node groups that the kernel says `here0` has joined, as hex."""
    lines = Path("/proc/thread-self/net/igmp6").read_text().splitlines()
    groups = {line.split()[2] for line in lines if line.split()[1] == "here0"}
    return {group for group in groups if group.startswith("ff0200000000000000000001ff")}


def test_ten_thousand_groups_are_joined_and_left() -> None:
    async def test() -> None:
        before = joined()
        addresses = [bytes(13) + (0x800000 + number).to_bytes(3) for number in range(10_000)]
        with closing(Groups(socket.if_nametoindex("here0"))) as groups:
            for address in addresses:
                groups.join(address)
            assert len(groups) == 10_000
            assert len(joined() - before) == 10_000
            for address in addresses[:5000]:
                groups.leave(address)
            assert len(joined() - before) == 5000
        assert joined() == before

    inside.with_link(test)


def test_a_group_is_left_with_the_last_of_its_addresses() -> None:
    async def test() -> None:
        before = joined()
        one, other = (ip_address(text).packed for text in ("2001:db8::80", "2001:db8:1::80"))
        with closing(Groups(socket.if_nametoindex("here0"))) as groups:
            groups.join(one)
            groups.join(one)
            groups.join(other)
            groups.leave(one)
            groups.leave(one)
            assert joined() - before == {"ff0200000000000000000001ff000080"}
            groups.leave(other)
            groups.leave(other)
            assert joined() == before
            assert len(groups) == 0
            groups.join(one)
            inside.ip("link", "del", "here0")
            groups.leave(one)

    inside.with_link(test)


def test_a_group_on_an_interface_that_is_gone_is_refused() -> None:
    async def test() -> None:
        with closing(Groups(99)) as groups, pytest.raises(OSError, match="No such device"):
            groups.join(SIX)

    inside.with_link(test)
