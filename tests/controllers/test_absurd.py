"""Manifests valid by schema and absurd by content stop nothing and disturb nobody."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lbipam.controllers.rehearsal import Rehearsal
from lbipam.core.ipam.addresses import Address, format_address
from lbipam.kube import forms, ipam
from lbipam.kube.ipam import IP_POOL
from lbipam.kube.kinds import Key
from tests.builders_kube import kube_namespace, kube_pool, kube_service
from tests.controllers.absurd import Absurd, anything
from tests.doubles import KINDS, Api, Process


def test_a_service_may_name_thousands_of_addresses() -> None:
    asked = [f"10.{number // 256}.{number % 256}.1" for number in range(9000)]
    made = Rehearsal(now=1000.0)
    made.begin({})
    made.put(IP_POOL, kube_pool("p", "10.0.0.0/8"))
    made.put(forms.NAMESPACE, kube_namespace("default", quota="8000"))
    made.put(forms.SERVICE, kube_service("a", ips=",".join(asked)))
    made.settle()
    assert [format_address(one) for one in made.addresses(Key("default", "a"))] == asked[:8000]
    made.put(forms.NAMESPACE, kube_namespace("default"))
    made.settle()
    assert [format_address(one) for one in made.addresses(Key("default", "a"))] == asked


@pytest.mark.parametrize("text", ["9999999999h", "9" * 400 + "h"])
def test_a_service_of_a_pool_that_holds_for_ever_can_be_deleted(text: str) -> None:
    annotations = {"lbipam.dev/hold-released-for": text}
    made = Rehearsal(now=1000.0)
    made.begin({})
    made.put(IP_POOL, kube_pool("p", "10.0.0.0/32", annotations=annotations))
    made.put(forms.SERVICE, kube_service("a"))
    made.settle()
    made.remove(forms.SERVICE, Key("default", "a"))
    made.put(forms.SERVICE, kube_service("b"))
    made.settle()
    assert len(made.addresses(Key("default", "b"))) == 1, "what is no duration holds nothing"


class Quiet:
    """A controller with bystanders that have all addresses of the oldest pool."""

    def __init__(self) -> None:
        self.api = Api()
        self.controller = Process(self.api).start()
        selector = {"matchLabels": {"io.kubernetes.service.namespace": "quiet"}}
        self.api.put(
            kube_pool("quiet", "10.9.0.0/31", created="2025-01-01T00:00:00Z", serviceSelector=selector),
        )
        for number in range(2):
            self.api.put(kube_service(f"quiet/s{number}"))
        self.controller.settle()
        self.held = self.bystanders()
        assert [len(addresses) for addresses in self.held] == [1, 1]

    def bystanders(self) -> list[tuple[Address, ...]]:
        """What each of them shows."""
        known = self.api.objects[forms.SERVICE]
        return [ipam.shown_addresses(known[Key("quiet", f"s{number}")]) for number in range(2)]

    def put(self, absurd: Absurd) -> None:
        kind, body = absurd
        self.api.put(msgspec.convert(body, kind.form))

    def remove(self, absurd: Absurd) -> None:
        kind, body = absurd
        self.api.delete(kind, Key(body["metadata"].get("namespace", ""), body["metadata"]["name"]))


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.lists(st.tuples(anything, st.booleans()), min_size=5, max_size=15))
def test_absurd_manifests_stop_nothing_and_disturb_nobody(absurd: list[tuple[Absurd, bool]]) -> None:
    world = Quiet()
    for manifest, goes_again in absurd:
        world.put(manifest)
        world.controller.settle()
        assert world.bystanders() == world.held
        if goes_again:
            world.remove(manifest)
            world.controller.settle()
            assert world.bystanders() == world.held
    again = Rehearsal(now=world.controller.now)
    again.begin({kind: world.api.objects[kind].values() for kind in KINDS})
    assert [write for write in again.writes if write.kind is forms.SERVICE] == []
