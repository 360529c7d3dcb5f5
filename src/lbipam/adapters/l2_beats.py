"""How do beats and promises travel between nodes?

    ward ──Beat (UDP)──▶ guardian: asks `promises`, and if so
    ward ◀──Promise───── answers to where the beat came from

A beat carries the token that the guardian's Lease tells, so that only who may read Leases is answered; a
promise carries the secret of the beat, so that nobody else can make one. What they mean is not decided here.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any, TypeAlias

import msgspec
import structlog

from lbipam.core.l2.guardian import Beat

_log = structlog.get_logger()

Address: TypeAlias = IPv4Address | IPv6Address


class _Beat(msgspec.Struct, tag="beat", frozen=True):
    ward: str
    number: int
    version: str
    token: str
    secret: str


class _Promise(msgspec.Struct, tag="promise", frozen=True):
    guardian: str
    number: int
    secret: str


_decoder = msgspec.json.Decoder(_Beat | _Promise)


class Beats(asyncio.DatagramProtocol):
    """One UDP socket for both. Open it before use; close it after.

    Args:
        node: This node.
        promises: Whether a promise is made on a beat that has come.
        promised: Called with the guardian and the number of the beat that it has promised on.
    """

    def __init__(
        self, node: str, *, promises: Callable[[Beat], bool], promised: Callable[[str, int], None]
    ) -> None:
        self._node = node
        self._promises, self._promised = promises, promised
        self.token = secrets.token_hex(8)
        """What beats to this node must carry."""
        self._secret = secrets.token_hex(8)
        self._transport: asyncio.DatagramTransport | None = None
        self._maps_ipv4 = False

    async def open(self, port: int) -> int:
        """Listen on all addresses of the node.

        Returns:
            The port, for 0 one that is free.

        Raises:
            OSError: The port cannot be had.
        """
        found = self._listen(port)
        loop = asyncio.get_running_loop()
        try:
            self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=found)
        except BaseException:
            found.close()
            raise
        return int(found.getsockname()[1])

    def _listen(self, port: int) -> socket.socket:
        if socket.has_dualstack_ipv6():
            found = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            self._maps_ipv4, everywhere = True, "::"
        else:
            found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            everywhere = "0.0.0.0"  # noqa: S104 -- whichever address of the node others know
        try:
            found.bind((everywhere, port))
        except BaseException:
            found.close()
            raise
        return found

    def close(self) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.close()

    def send(self, beat: Beat, to: Address, port: int, token: str) -> None:
        """Send a beat to a guardian; if it is lost, the next one may not be."""
        host = f"::ffff:{to}" if self._maps_ipv4 and to.version == 4 else str(to)
        told = _Beat(beat.ward, beat.number, beat.version, token, self._secret)
        self._send(told, (host, port))

    def _send(self, what: _Beat | _Promise, to: tuple[Any, ...]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(msgspec.json.encode(what), to)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        try:
            what = _decoder.decode(data)
        except msgspec.MsgspecError:
            return
        match what:
            case _Beat():
                beat = Beat(ward=what.ward, number=what.number, version=what.version)
                if secrets.compare_digest(what.token.encode(), self.token.encode()) and self._promises(beat):
                    self._send(_Promise(self._node, what.number, what.secret), addr)
            case _Promise() if secrets.compare_digest(what.secret.encode(), self._secret.encode()):
                self._promised(what.guardian, what.number)
            case _:
                pass

    def error_received(self, exc: Exception) -> None:
        """A guardian whose port is closed is one that does not answer."""
        _log.debug("beat not delivered", problem=str(exc))
