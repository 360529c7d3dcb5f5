"""What pods answer, and what clients make of it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import ip_address
from itertools import count

from tests.core.datapath.simulator import Delivered, Fate, Outcome, Packet
from tests.lab.datapath import sctp
from tests.lab.datapath.topology import PODS, PORT, Lab

LONG_SECONDS = 10.0
"""For an answer that must come."""
SHORT_SECONDS = 0.5
"""For one that must not."""

_sctp_ports = count(20000)


@asynccontextmanager
async def pods_answering(lab: Lab) -> AsyncIterator[None]:
    """Every pod serves TCP, UDP and SCTP, on both families."""
    async with AsyncExitStack() as stack:
        for pod, (_, *addresses) in PODS.items():
            for address in addresses:
                await _serve(lab, pod, address, stack)
        yield


async def _serve(lab: Lab, pod: str, address: str, stack: AsyncExitStack) -> None:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    conversations: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A line for the connection, and one for whatever the client says on it.
        peer = writer.get_extra_info("peername")[0]
        conversations[asyncio.current_task()] = writer
        try:
            writer.write(f"{pod} {peer}\n".encode())
            while await reader.readline():
                writer.write(f"{pod} {peer}\n".encode())
        except ConnectionError:
            pass
        finally:
            writer.close()
            conversations.pop(asyncio.current_task())

    async def end_conversations() -> None:
        for writer in conversations.values():
            writer.close()
        await asyncio.gather(*(task for task in conversations if task))

    with lab.entered(pod):
        listener = socket.create_server((address, PORT), family=family)
        datagrams = socket.socket(family, socket.SOCK_DGRAM)
        raw = sctp.raw(family)
    datagrams.bind((address, PORT))
    raw.bind((address, 0))
    server = await asyncio.start_server(tell, sock=listener)
    stack.push_async_callback(end_conversations)
    stack.callback(server.close)
    datagrams.setblocking(False)

    def answer_udp() -> None:
        _, peer = datagrams.recvfrom(4096)
        datagrams.sendto(f"{pod} {peer[0]}".encode(), peer)

    def answer_sctp() -> None:
        received, peer = raw.recvfrom(4096)
        reply = sctp.answer(sctp.payload(family, received), f"{pod} {peer[0]}".encode())
        if reply:
            raw.sendto(reply, (peer[0], 0))

    for listening, answer in ((datagrams, answer_udp), (raw, answer_sctp)):
        loop.add_reader(listening, answer)
        stack.callback(listening.close)
        stack.callback(loop.remove_reader, listening)


async def ask(
    lab: Lab, where: str, packet: Packet, *, source_port: int = 0, seconds: float = LONG_SECONDS
) -> Outcome:
    """Send the packet from that namespace and tell what became of it; no answer in time means dropped.

    From a `source_port` of one's own it belongs to one flow with the others from there.
    """
    try:
        async with asyncio.timeout(seconds):
            said = await _ASK[packet.protocol](lab, where, packet, source_port)
    except TimeoutError:
        return Fate.DROPPED
    except ConnectionError:
        return Fate.RESET if packet.protocol == "tcp" else Fate.UNREACHABLE
    pod, seen = said.split()
    address = PODS[pod][1 if packet.destination.version == 4 else 2]
    # What the node sends itself has its address, masqueraded or not.
    masqueraded = packet.from_node or ip_address(seen) != packet.source
    return Delivered(ip_address(address), PORT, masqueraded)


def opened(lab: Lab, where: str, packet: Packet, kind: socket.SocketKind, port: int = 0) -> socket.socket:
    """A socket in that namespace with the packet's source."""
    with lab.entered(where):
        family = socket.AF_INET if packet.source.version == 4 else socket.AF_INET6
        opened_ = socket.socket(family, kind)
    opened_.setblocking(False)
    opened_.bind((str(packet.source), port))
    return opened_


async def _ask_tcp(lab: Lab, where: str, packet: Packet, source_port: int) -> str:
    loop = asyncio.get_running_loop()
    with opened(lab, where, packet, socket.SOCK_STREAM, source_port) as client:
        await loop.sock_connect(client, (str(packet.destination), packet.port))
        return (await loop.sock_recv(client, 256)).decode()


async def _ask_udp(lab: Lab, where: str, packet: Packet, source_port: int) -> str:
    loop = asyncio.get_running_loop()
    with opened(lab, where, packet, socket.SOCK_DGRAM, source_port) as client:
        await loop.sock_connect(client, (str(packet.destination), packet.port))
        with suppress(PermissionError):  # on the node itself; a refusal is told to who listens
            await loop.sock_sendall(client, b"who?")
        return (await loop.sock_recv(client, 256)).decode()


async def _ask_sctp(lab: Lab, where: str, packet: Packet, source_port: int) -> str:
    loop = asyncio.get_running_loop()
    port = source_port or next(_sctp_ports)
    with lab.entered(where):
        client = sctp.raw(socket.AF_INET if packet.source.version == 4 else socket.AF_INET6)
    with client:
        client.bind((str(packet.source), 0))
        client.connect((str(packet.destination), 0))
        with suppress(PermissionError):
            await loop.sock_sendall(client, sctp.init(port, packet.port))
        while True:
            reply = sctp.payload(client.family, await loop.sock_recv(client, 4096))
            if cookie := sctp.cookie_for(port, reply):
                return cookie.decode()


_ASK = {"tcp": _ask_tcp, "udp": _ask_udp, "sctp": _ask_sctp}
