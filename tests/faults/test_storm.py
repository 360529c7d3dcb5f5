"""A thousand Services come, change and go while controllers are killed and the API is killed, hangs and fails.

An observer that knows nothing of lbipam sees no address twice and no address lost, and after quiet everything
that can have an address has one.
"""

import asyncio
import contextlib
import ipaddress
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lbipam.adapters import kube_config
from lbipam.adapters.kube_client import ApiError, Client, UnreachableError
from lbipam.commands.cluster import WORLD, read_manifests, to_forms
from lbipam.controllers.rehearsal import Rehearsal
from lbipam.kube import forms
from lbipam.kube.ipam import IP_POOL
from tests.faults.observer import SHARING_KEY, Observer
from tests.faults.targets import Target, embedded, on_a_real_server
from tests.worlds import Process

NAMES = 1000
POOL = ipaddress.ip_network("10.0.0.0/23")
"""Too small for all of them, so that some wait."""
STORM_SECONDS = 40.0
USERS = 4
PATIENCE = 60.0

SERVICES = forms.SERVICE.path("default")
IPS = "lbipam.cilium.io/ips"
_ELECTION = [
    *("--namespace", "default", "--lease-duration", "5"),
    *("--renew-deadline", "4", "--retry-period", "0.5"),
]


class Storm:
    """Users, controllers, and what befalls them; all from one seed."""

    def __init__(self, target: Target, folder: Path, seed: int) -> None:
        self._target = target
        self._dice = random.Random(seed)
        self._folder = folder
        self._controllers: list[Process] = []
        self._started = 0
        self._may_edit = asyncio.Event()
        self.told: list[str] = []
        """What happened when."""

    def start_controller(self) -> None:
        self._started += 1
        arguments = ["controller", "--kubeconfig", str(self._target.controllers_kubeconfig)]
        log = self._folder / f"controller-{self._started}.log"
        self._controllers.append(Process([*arguments, *_ELECTION], log=log))

    def kill_a_controller(self) -> None:
        victim = self._controllers.pop(self._dice.randrange(len(self._controllers)))
        victim.kill()
        self.start_controller()

    def end(self) -> None:
        for process in self._controllers:
            process.kill()

    def logs(self) -> str:
        return "".join(one.read_text(errors="replace") for one in self._folder.glob("controller-*.log"))

    def all_run(self) -> bool:
        """Whether no controller has ended by itself."""
        return all(process.popen.poll() is None for process in self._controllers)

    async def rage(self, client: Client) -> None:
        """Let users, and everything that can go wrong, do their worst; in the end all is calm."""
        began = time.monotonic()
        self._may_edit.set()
        troubles = asyncio.create_task(self._troubles(began))
        async with asyncio.TaskGroup() as users:
            for _ in range(USERS):
                users.create_task(self._user(client, troubles))
        await troubles

    async def _user(self, client: Client, troubles: asyncio.Task[None]) -> None:
        while not troubles.done():
            await self._may_edit.wait()
            pause = 0.005
            try:
                await self._edit(client, f"s{self._dice.randrange(NAMES)}")
            except ApiError:
                pass
            except UnreachableError:
                pause = 0.5
            await asyncio.sleep(pause)

    async def _edit(self, client: Client, name: str) -> None:
        chance = self._dice.random()
        if chance < 0.6:
            await client.request("POST", SERVICES, body=json.dumps(_service(name)).encode(), seconds=3)
        elif chance < 0.75:
            await client.request("DELETE", f"{SERVICES}/{name}", seconds=3)
        else:
            wanted = str(self._dice.choice(list(POOL))) if self._dice.random() < 0.5 else None
            notes = {IPS: wanted, "touched": str(self._dice.random())}
            await client.request(
                "PATCH",
                f"{SERVICES}/{name}",
                body=json.dumps({"metadata": {"annotations": notes}}).encode(),
                content_type="application/merge-patch+json",
                seconds=3,
            )

    async def _troubles(self, began: float) -> None:
        """Each trouble once, and then whatever the dice say."""
        troubles = {"controller killed": self.kill_a_controller, **self._target.troubles}
        names = list(troubles)
        self._dice.shuffle(names)
        while names or time.monotonic() < began + STORM_SECONDS:
            await asyncio.sleep(self._dice.uniform(0.5, 2))
            name = names.pop() if names else self._dice.choice(list(troubles))
            self.told.append(f"{time.monotonic() - began:.1f} {name}")
            if name == "server killed":
                # As it starts it checks who has which cluster IP, and ends itself if that changes meanwhile.
                self._may_edit.clear()
            await asyncio.to_thread(troubles[name])
            self._may_edit.set()
        self._target.calm()


def _service(name: str) -> dict[str, object]:
    number = int(name[1:])
    notes = {SHARING_KEY: f"k{number // 5}"} if number % 3 == 0 else {}
    spec = {"type": "LoadBalancer", "ports": [{"port": 1 + number % 5}]}
    return {"metadata": {"name": name, "annotations": notes}, "spec": spec}


async def _unsettled(client: Client) -> list[str]:
    """Services to which a fresh start from the world as it is would write."""
    world = Rehearsal(now=time.time())
    world.begin(to_forms(await read_manifests(client, WORLD)))
    return [str(write.key) for write in world.writes if write.kind is forms.SERVICE]


def _who_could_have_more(services: Sequence[dict[str, Any]]) -> list[str]:
    """Services without an address that could have one; judged without the help of lbipam."""
    shown = {service["metadata"]["name"]: _addresses(service) for service in services}
    free = {str(address) for address in POOL} - set().union(*shown.values())
    found = []
    for service in services:
        name = service["metadata"]["name"]
        wanted = service["metadata"].get("annotations", {}).get(IPS)
        if (
            service["spec"]["type"] == "LoadBalancer"
            and not shown[name]
            and (wanted in free if wanted else free)
        ):
            found.append(name)
    return found


def _addresses(service: dict[str, Any]) -> set[str]:
    return {entry["ip"] for entry in service["status"]["loadBalancer"].get("ingress", [])}


@pytest.mark.slow
@pytest.mark.parametrize("place", ["embedded", pytest.param("real", marks=pytest.mark.real_api)])
def test_no_address_is_lost_or_held_twice_in_a_storm(place: str, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    where = embedded if place == "embedded" else on_a_real_server
    with where(tmp_path) as target:
        storm = Storm(target, tmp_path, seed)
        observer = Observer(target.url, target.token, target.context)
        observer.start()
        try:
            storm.start_controller()
            storm.start_controller()
            asyncio.run(_weather(storm, target))
            assert storm.all_run(), storm.logs()
        finally:
            storm.end()
            observer.stop()
        print(f"{place}: seed {seed}, {observer.events} events seen", *storm.told, sep="\n")
        assert not observer.wrongs, "\n".join(observer.wrongs)
        assert observer.events > NAMES, "the observer saw the storm"
        assert "Traceback" not in storm.logs()


async def _weather(storm: Storm, target: Target) -> None:
    async with Client(await kube_config.connect(str(target.kubeconfig))) as client:
        pool = {"apiVersion": "cilium.io/v2", "kind": IP_POOL.kind, "metadata": {"name": "p"}}
        spec = {"blocks": [{"cidr": str(POOL)}]}
        await client.request("POST", IP_POOL.path(), body=json.dumps(pool | {"spec": spec}).encode())
        await storm.rage(client)
        await _rest(storm, client)


async def _rest(storm: Storm, client: Client) -> None:
    """Within the time that is left, everything that can have an address gets it."""
    quiet = time.monotonic()
    while True:
        with contextlib.suppress(ApiError, UnreachableError):
            unsettled = await _unsettled(client)
            storm.told.append(f"{time.monotonic() - quiet:.1f} s after quiet {len(unsettled)} wait")
            if not unsettled:
                break
        assert time.monotonic() < quiet + PATIENCE, "\n".join((*storm.told, storm.logs()))
        await asyncio.sleep(0.5)
    services = json.loads(await client.request("GET", SERVICES))["items"]
    with_one = sum(1 for service in services if _addresses(service))
    storm.told.append(f"{with_one} of {len(services)} have addresses")
    assert _who_could_have_more(services) == []
