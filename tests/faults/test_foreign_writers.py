"""Two controllers that give addresses to one Service: it ends in an Event and a metric, not in a fight."""

import json
import re
import time
import urllib.request
from dataclasses import dataclass

import pytest

from tests.worlds import World, eventually, pool, service

THEIRS = "192.0.2.77"
QUIET_SECONDS = 3.0


@dataclass
class Numbers:
    """What a controller counts."""

    port: str

    def read(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def writes(self) -> float:
        """How often a write to a Service was answered, whatever the answer."""
        return sum(
            map(float, re.findall(r'^lbipam_writes_total\{kind="Service".*\} (\S+)$', self.read(), re.M))
        )

    def refused(self) -> float:
        found = re.search(
            r'^lbipam_foreign_owners_total\{kind="Service",manager="rival"\} (\S+)$', self.read(), re.M
        )
        return float(found.group(1)) if found else 0.0

    def come_to_rest(self) -> float:
        """Wait until nothing is written for some seconds; how often was written."""
        since, known = time.monotonic(), self.writes()

        def quiet() -> bool:
            nonlocal since, known
            if (now := self.writes()) != known:
                since, known = time.monotonic(), now
            return time.monotonic() - since > QUIET_SECONDS

        eventually(quiet)
        return known


class Rival:
    """Another controller that wants its own address in the status of the Service `contested`."""

    def __init__(self, world: World, *, by_apply: bool) -> None:
        self._world = world
        self._by_apply = by_apply
        self.writes = 0

    def insist(self) -> None:
        """Look at the Service once, and put things right as it sees them."""
        if self._world.addresses("contested") == [THEIRS]:
            return
        self.writes += 1
        status = {"loadBalancer": {"ingress": [{"ip": THEIRS}]}}
        if self._by_apply:
            head = {"name": "contested", "namespace": self._world.namespace}
            body = {"apiVersion": "v1", "kind": "Service", "metadata": head, "status": status}
            self._world.kubectl(
                *("apply", "--server-side", "--force-conflicts", "--subresource=status", "--validate=false"),
                *("--field-manager=rival", "-f", "-"),
                stdin=json.dumps(body),
            )
        else:
            self._world.kubectl(
                *("patch", "service", "contested", "--subresource=status", "--type=merge"),
                *("--field-manager=rival", "-p", json.dumps({"status": status})),
            )


@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize("how", ["patch", "apply"])
def test_two_controllers_on_one_service_end_in_an_event_and_a_metric(
    world: World, how: str, first: str
) -> None:
    controller = world.controller("--metrics-bind", "127.0.0.1:0")
    numbers = Numbers(controller.says(r"port[\"=: ]+(\d+)").group(1))
    rival = Rival(world, by_apply=how == "apply")
    if first == "ours":
        world.apply(pool("p", "10.0.0.0/24") + service("contested"))
        eventually(lambda: world.addresses("contested") == ["10.0.0.0"])
        rival.insist()
    else:
        world.apply(service("contested"))
        rival.insist()
        world.apply(pool("p", "10.0.0.0/24"))

    def told() -> bool:
        rival.insist()
        return "is managed by rival; lbipam leaves it alone" in world.kubectl("get", "events")

    eventually(told)
    assert numbers.refused() >= 1
    rests = numbers.come_to_rest()
    # kubectl writes up to three times for one apply, and each may make one of ours come too late.
    assert rests <= 7
    rival.insist()
    assert rival.writes == 1, "what it wrote once stood"

    version = world.get("service", "contested")["metadata"]["resourceVersion"]
    world.apply(service("bystander"))
    given = eventually(lambda: world.addresses("bystander"))
    assert given == ["10.0.0.0"], "what the contested Service could not be given is free"
    assert numbers.come_to_rest() == rests + 1
    found = world.get("service", "contested")
    assert found["metadata"]["resourceVersion"] == version
    assert world.addresses("contested") == [THEIRS]

    world.kubectl("annotate", "service", "contested", "note=edited")
    world.kubectl("annotate", "ippool", "p", "lbipam.dev/priority=1")
    assert numbers.come_to_rest() == rests + 1, "what changes neither wish nor list is no reason to try again"
    assert world.condition("contested") == (
        "False",
        "managed_elsewhere",
        "The load balancer ingress is managed by rival; lbipam leaves it alone",
    )
    assert world.addresses("contested") == [THEIRS]
    assert world.addresses("bystander") == ["10.0.0.0"]
