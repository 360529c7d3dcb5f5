"""Interfaces as netlink tells them, and their changes."""

import pytest

from lbipam.adapters.l2_interfaces import InterfaceWatch
from lbipam.core.l2.interfaces import Interface
from tests.lab.l2 import inside, lan
from tests.lab.l2.inside import MAC_A, ip, until

missing = lan.why_no_lab()
pytestmark = [pytest.mark.lab, pytest.mark.skipif(missing is not None, reason=str(missing))]


def named(watch: InterfaceWatch, name: str) -> Interface | None:
    return next((found for found in watch.interfaces.values() if found.name == name), None)


def test_what_is_there_at_the_start_is_known() -> None:
    async def test() -> None:
        ip("addr", "add", "192.0.2.1/24", "dev", "here0")
        async with InterfaceWatch(lambda: None) as watch:
            await until(lambda: (found := named(watch, "here0")) is not None and found.is_ready, "a to be up")
            found = named(watch, "here0")
            assert found is not None
            assert (found.hardware, found.kind, found.master) == (MAC_A, "veth", 0)
            assert found.resolves
            assert found.has_subnet
            lo = named(watch, "lo")
            assert lo is not None
            assert not lo.resolves
            assert not lo.is_ready

    inside.with_link(test)


def test_every_change_is_told() -> None:
    async def test() -> None:
        told: list[Interface | None] = []
        async with InterfaceWatch(lambda: told.append(named(watch, "here0"))) as watch:

            def now(**what: object) -> bool:
                found = told[-1] if told else None
                return found is not None and all(getattr(found, key) == value for key, value in what.items())

            ip("link", "set", "here0", "address", "02:00:00:00:00:77")
            await until(lambda: now(hardware=bytes.fromhex("020000000077")), "the new MAC")
            ip("link", "set", "lan0", "down")
            await until(lambda: now(is_ready=False), "the carrier to be lost")
            ip("link", "set", "lan0", "up")
            await until(lambda: now(is_ready=True), "the carrier to return")
            ip("addr", "add", "2001:db8::1/64", "dev", "here0", "nodad")
            await until(lambda: now(has_subnet=True), "the subnet")
            ip("addr", "del", "2001:db8::1/64", "dev", "here0")
            await until(lambda: now(has_subnet=False), "the subnet to go")
            ip("addr", "add", "192.0.2.1/32", "dev", "here0")
            ip("link", "add", "br0", "type", "bridge")
            ip("link", "set", "here0", "master", "br0")
            bridge = named(watch, "br0")
            await until(lambda: named(watch, "br0") is not None, "the bridge")
            bridge = named(watch, "br0")
            assert bridge is not None
            assert bridge.kind == "bridge"
            await until(
                lambda: now(master=bridge.index, kind="veth", has_subnet=False), "the bridge to own it"
            )
            ip("link", "set", "here0", "nomaster")
            await until(lambda: now(master=0), "the bridge to give it back")
            ip("link", "set", "here0", "down")
            ip("link", "set", "here0", "name", "renamed")
            await until(lambda: named(watch, "renamed") is not None, "the new name")
            ip("link", "del", "renamed")
            await until(lambda: named(watch, "renamed") is None, "the interface to go")

    inside.with_link(test)
