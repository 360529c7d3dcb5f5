"""Hundreds of Services come, change and go while controllers die and the API fails, drops, delays and forgets.

An observer that knows nothing of lbipam sees no address twice and no address lost, and after quiet everything
that can have an address has one.
"""

import asyncio
import contextlib
import json
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lbipam.adapters import kube_config
from lbipam.adapters.kube_client import ApiError, Client, UnreachableError
from lbipam.commands.cluster import WORLD, read_manifests, to_forms
from lbipam.controllers.rehearsal import Rehearsal
from lbipam.kube import forms
from lbipam.kube.crds import catalog
from lbipam.localapi.faults import Delay, Drop, Refuse
from lbipam.localapi.server import LocalApi
from tests.faults.observer import SHARING_KEY, Observer
from tests.worlds import Process

SERVICES = "/api/v1/namespaces/default/services"
STORM_SECONDS = 25.0
NAMES = 250
ADDRESSES = "10.0.0.0/25"
_ELECTION = [
    "--namespace",
    "default",
    "--lease-duration",
    "3",
    "--renew-deadline",
    "2",
    "--retry-period",
    "0.5",
]


@dataclass
class Target:
    """An API server and what can go wrong with it."""

    url: str
    token: str
    context: ssl.SSLContext
    kubeconfig: Path
    troubles: list[Callable[[], None]]
    calm: Callable[[], None]


@contextlib.contextmanager
def embedded(folder: Path) -> Iterator[Target]:
    """The embedded API on a thread of its own, with its faults."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def do(work: Callable[[], None]) -> Callable[[], None]:
        def ask() -> None:
            loop.call_soon_threadsafe(work)

        return ask

    api = LocalApi()
    asyncio.run_coroutine_threadsafe(api.__aenter__(), loop).result()
    try:
        asyncio.run_coroutine_threadsafe(api.apply(catalog.all_crds()[:2]), loop).result()
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(api.kubeconfig())
        faults = api.faults
        troubles = [
            do(lambda: faults.arm(Refuse(code=500, reason="InternalError", message="storm"), count=20)),
            do(
                lambda: faults.arm(
                    Refuse(code=429, reason="TooManyRequests", message="storm", retry_after_seconds=1),
                    count=20,
                )
            ),
            do(lambda: faults.arm(Refuse(code=409, reason="Conflict", message="storm"), count=10)),
            do(lambda: faults.arm(Drop(done=True), count=10)),
            do(lambda: faults.arm(Drop(done=False), count=10)),
            do(lambda: faults.arm(Delay(seconds=1.0), count=10)),
            do(faults.expire),
            do(faults.cut_watches),
            do(lambda: faults.halve_lines(3)),
        ]
        context = ssl.create_default_context(cadata=api.ca_pem)
        yield Target(api.url, api.token, context, kubeconfig, troubles, do(faults.clear))
    finally:
        asyncio.run_coroutine_threadsafe(api.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class Storm:
    """Users, controllers, and what befalls them; all from one seed."""

    def __init__(self, target: Target, folder: Path, seed: int) -> None:
        self.target = target
        self.dice = random.Random(seed)
        self._folder = folder
        self._controllers: list[Process] = []
        self._started = 0

    def start_controller(self) -> None:
        self._started += 1
        arguments = ["controller", "--kubeconfig", str(self.target.kubeconfig), "--log-level", "warning"]
        log = self._folder / f"controller-{self._started}.log"
        self._controllers.append(Process([*arguments, *_ELECTION], log=log))

    def kill_a_controller(self) -> None:
        victim = self._controllers.pop(self.dice.randrange(len(self._controllers)))
        victim.kill()
        self.start_controller()

    def end(self) -> None:
        for process in self._controllers:
            process.kill()

    def logs(self) -> str:
        return "".join(one.read_text(errors="replace") for one in self._folder.glob("controller-*.log"))

    async def rage(self, client: Client) -> None:
        ends = time.monotonic() + STORM_SECONDS
        await asyncio.gather(self._users(client, ends), self._troubles(ends))

    async def _users(self, client: Client, ends: float) -> None:
        while time.monotonic() < ends:
            with contextlib.suppress(ApiError, UnreachableError):
                await self._edit(client, f"s{self.dice.randrange(NAMES)}")
            await asyncio.sleep(0.005)

    async def _edit(self, client: Client, name: str) -> None:
        chance = self.dice.random()
        if chance < 0.6:
            await client.request("POST", SERVICES, body=json.dumps(self._service(name)).encode(), seconds=3)
        elif chance < 0.75:
            await client.request("DELETE", f"{SERVICES}/{name}", seconds=3)
        else:
            wanted = f"10.0.0.{self.dice.randrange(128)}" if self.dice.random() < 0.5 else None
            notes = {"lbipam.cilium.io/ips": wanted, "touched": str(self.dice.random())}
            await client.request(
                "PATCH",
                f"{SERVICES}/{name}",
                body=json.dumps({"metadata": {"annotations": notes}}).encode(),
                content_type="application/merge-patch+json",
                seconds=3,
            )

    def _service(self, name: str) -> dict[str, object]:
        number = int(name[1:])
        notes = {SHARING_KEY: f"k{number // 5}"} if number % 3 == 0 else {}
        spec = {"type": "LoadBalancer", "ports": [{"port": 1 + number % 5}]}
        return {"metadata": {"name": name, "annotations": notes}, "spec": spec}

    async def _troubles(self, ends: float) -> None:
        while time.monotonic() < ends:
            await asyncio.sleep(self.dice.uniform(0.5, 3))
            if self.dice.random() < 0.35:
                await asyncio.to_thread(self.kill_a_controller)
            else:
                await asyncio.to_thread(self.dice.choice(self.target.troubles))
        self.target.calm()


async def _is_at_rest(client: Client) -> bool:
    """Whether a fresh start from the world as it is would change no Service."""
    world = Rehearsal(now=time.time())
    world.begin(to_forms(await read_manifests(client, WORLD)))
    return not any(write.kind is forms.SERVICE for write in world.writes)


@pytest.mark.slow
def test_no_address_is_lost_or_held_twice_in_a_storm(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    with embedded(tmp_path) as target:
        storm = Storm(target, tmp_path, seed)
        observer = Observer(target.url, target.token, target.context)
        observer.start()
        try:
            storm.start_controller()
            storm.start_controller()
            asyncio.run(_weather(storm, target))
        finally:
            storm.end()
            observer.stop()
        assert observer.wrongs == [], f"seed {seed}"
        assert observer.events > 100, "the observer saw the storm"
        assert "Traceback" not in storm.logs(), f"seed {seed}"


async def _weather(storm: Storm, target: Target) -> None:
    async with Client(await kube_config.connect(str(target.kubeconfig))) as client:
        spec = {"blocks": [{"cidr": ADDRESSES}]}
        pool = {"apiVersion": "cilium.io/v2", "kind": "CiliumLoadBalancerIPPool", "metadata": {"name": "p"}}
        path = "/apis/cilium.io/v2/ciliumloadbalancerippools"
        await client.request("POST", path, body=json.dumps(pool | {"spec": spec}).encode())
        await storm.rage(client)
        async with asyncio.timeout(45):
            while True:
                with contextlib.suppress(ApiError, UnreachableError):
                    if await _is_at_rest(client):
                        return
                await asyncio.sleep(0.5)
