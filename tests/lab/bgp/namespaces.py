"""Network namespaces for routers and speakers: those of `lbipam lab`, under names of this process."""

import itertools
import os

import pytest

from lbipam.commands.lab import namespaces
from lbipam.commands.lab.namespaces import run, until, wire

__all__ = ("Namespace", "need", "run", "until", "wire")

_names = itertools.count(1)


def need(*programs: str) -> None:
    """Skip the test where something it stands on is missing."""
    if reason := namespaces.why_not(programs):
        pytest.skip(reason)


class Namespace(namespaces.Namespace):
    """One whose IPv6 addresses can be used at once, and are those that a test gives it."""

    def __init__(self, role: str) -> None:
        super().__init__(f"lbb{os.getpid()}-{role}{next(_names)}")
        # FRR sends router advertisements where it has `extended-nexthop`. A node that heard one in time would have
        # one more address, connect from it, and be nobody whom FRR knows.
        for setting in ("accept_dad", "accept_ra"):
            self("sysctl", "-qw", f"net.ipv6.conf.default.{setting}=0")

    def cut(self) -> None:
        """Lose every packet, in both directions, while links stay up."""
        self("nft", "add", "table", "inet", "cut")
        for hook in ("input", "output"):
            chain = f"{{ type filter hook {hook} priority 0; policy drop; }}"
            self("nft", "add", "chain", "inet", "cut", hook, chain)

    def mend(self) -> None:
        self("nft", "delete", "table", "inet", "cut")

    def link_local(self, interface: str) -> str:
        """The link-local address that the kernel gave."""
        words = self("ip", "-6", "-o", "address", "show", "dev", interface, "scope", "link").split()
        return words[words.index("inet6") + 1].partition("/")[0]
