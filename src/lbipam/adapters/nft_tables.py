"""Has anybody else been at our table?

Speaks nfnetlink itself, without nft's help. The kernel tells everybody who listens of each transaction: what it
was about, message by message, and at its end its number. Both sockets are kept: to close one waits until the
kernel has freed what earlier transactions removed. This file does not know what should be in the table.
"""

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from lbipam.adapters.netlink import ERROR, REQUEST, attribute, attributes, check, message, messages
from lbipam.core.datapath import nft

_NETFILTER = 12
"""`NETLINK_NETFILTER`."""
_SUBSYSTEM = 10 << 8
"""`NFNL_SUBSYS_NFTABLES`."""
_LISTENERS = 1 << (7 - 1)
"""`NFNLGRP_NFTABLES`."""
_GET_GENERATION, _GET_TABLE, _NEW_GENERATION = 16, 1, 15
"""`NFT_MSG_GETGEN`, `NFT_MSG_GETTABLE`, `NFT_MSG_NEWGEN`."""
_GENERATION, _NAME, _HANDLE = 1, 1, 4
"""`NFTA_GEN_ID`; `NFTA_TABLE_NAME`, as the table's name is in messages of all kinds; `NFTA_TABLE_HANDLE`."""
_INET = 1
"""`NFPROTO_INET`."""
_OURS = nft.TABLE.removeprefix("inet ").encode() + b"\0"
_HEAD = struct.Struct("=BBH")
"""`nfgenmsg`."""
_HEARD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Touches:
    """Transactions that were about our table."""

    transactions: frozenset[int] = frozenset()
    """Their numbers."""
    is_all: bool = True
    """False: there may be more, but so much happened at once that the kernel did not tell all."""


class Tables:
    """What the kernel tells of this network namespace's tables.

    Every method raises `OSError` where the kernel does not tell.
    """

    def __init__(self) -> None:
        self._asking = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
        self._asking.bind((0, 0))
        self._hearing = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
        self._hearing.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _HEARD_BYTES)
        self._hearing.setblocking(False)  # noqa: FBT003 -- the API of the standard library
        self._hearing.bind((0, _LISTENERS))
        self._is_about_ours = False
        """Whether the transaction that is being told of is about our table."""

    def generation(self) -> int:
        """The number of the last transaction; it grows by one with each."""
        return int.from_bytes(self._ask(_GET_GENERATION)[_GENERATION])

    def handle_of_ours(self) -> int | None:
        """By which our table is told from another of its name; None: there is none."""
        try:
            return int.from_bytes(self._ask(_GET_TABLE, _INET, attribute(_NAME, _OURS))[_HANDLE])
        except FileNotFoundError:
            return None

    def take_touches(self) -> Touches:
        """What has happened to our table since last asked, by us or by others."""
        transactions: set[int] = set()
        is_all = True
        while True:
            try:
                heard = self._hearing.recv(1 << 17)
            except BlockingIOError:
                break
            except OSError as problem:
                if problem.errno != errno.ENOBUFS:
                    raise
                is_all = False
                continue
            transactions.update(self._transactions(heard))
        if not is_all:
            self._is_about_ours = False  # the end of that transaction may be among what was not told
        return Touches(frozenset(transactions), is_all)

    def _transactions(self, heard: bytes) -> Iterator[int]:
        """The numbers of those that end here and were about our table."""
        for kind, payload in messages(heard):
            told = attributes(payload[_HEAD.size :])
            if kind != _SUBSYSTEM | _NEW_GENERATION:
                self._is_about_ours |= payload[0] == _INET and told.get(_NAME) == _OURS
            elif self._is_about_ours:
                self._is_about_ours = False
                yield int.from_bytes(told[_GENERATION])

    def _ask(self, question: int, family: int = 0, about: bytes = b"") -> dict[int, bytes]:
        self._asking.send(message(_SUBSYSTEM | question, REQUEST, _HEAD.pack(family, 0, 0) + about))
        ((kind, payload),) = messages(self._asking.recv(4096))
        if kind == ERROR:
            check(payload, "nfnetlink does not tell of its rules")
        return attributes(payload[_HEAD.size :])

    def close(self) -> None:
        self._asking.close()
        self._hearing.close()
