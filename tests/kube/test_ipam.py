"""What Services, pools, reservations and namespaces ask for, and what of it cannot be understood."""

from typing import Any

import msgspec
import pytest

from lbipam.core.ipam.addresses import Family
from lbipam.core.ipam.services import ALONE, Port
from lbipam.kube import forms, ipam
from lbipam.kube.ipam import Managed, Responsibility, parse_duration
from tests.builders import ip
from tests.builders_kube import kube_namespace, kube_pool, kube_reservation, kube_service

V4, V6 = Family.IPV4, Family.IPV6


def read(service: forms.Service, responsibility: Responsibility | None = None) -> Managed:
    reading = ipam.read_service(service, responsibility or Responsibility())
    assert isinstance(reading, Managed)
    return reading


@pytest.mark.parametrize(
    ("policy", "listed", "enabled", "requested"),
    [
        (None, ["IPv6"], (V4, V6), (V6,)),
        (None, ["IPv6"], (V4,), (V6,)),
        (None, [], (V4, V6), (V4,)),
        (None, [], (V6,), (V6,)),
        ("SingleStack", ["IPv4", "IPv6"], (V4, V6), (V4,)),
        ("PreferDualStack", ["IPv6", "IPv4"], (V4, V6), (V4, V6)),
        ("PreferDualStack", ["IPv6"], (V4, V6), (V6,)),
        ("PreferDualStack", [], (V4, V6), (V4, V6)),
        ("PreferDualStack", ["IPv6"], (V4,), ()),
        ("RequireDualStack", ["IPv4"], (V4, V6), (V4, V6)),
    ],
)
def test_the_families_of_a_generic_request(
    policy: str | None, listed: list[str], enabled: tuple[Family, ...], requested: tuple[Family, ...]
) -> None:
    service = kube_service(spec={"ipFamilyPolicy": policy, "ipFamilies": listed})
    assert read(service, Responsibility(families=enabled)).request.families == requested


@pytest.mark.parametrize(
    ("annotations", "spec", "addresses"),
    [
        ({"lbipam.cilium.io/ips": "10.0.0.1, fd00::1"}, {}, ["10.0.0.1", "fd00::1"]),
        ({"io.cilium/lb-ipam-ips": "10.0.0.1"}, {}, ["10.0.0.1"]),
        ({"lbipam.cilium.io/ips": "", "io.cilium/lb-ipam-ips": "10.0.0.1"}, {}, []),
        ({"lbipam.cilium.io/ips": "10.0.0.1"}, {"loadBalancerIP": "10.0.0.2"}, ["10.0.0.2", "10.0.0.1"]),
        ({"lbipam.cilium.io/ips": "10.0.0.1,10.0.0.2,10.0.0.1,,"}, {}, ["10.0.0.1", "10.0.0.2"]),
    ],
)
def test_requested_addresses_come_from_both_places_and_all_names(
    annotations: dict[str, str], spec: dict[str, Any], addresses: list[str]
) -> None:
    reading = read(kube_service(annotations=annotations, spec=spec))
    assert reading.request.addresses == tuple(ip(one) for one in addresses)
    assert reading.problems == ()


@pytest.mark.parametrize("text", ["10.0.0.256", "::ffff:10.0.0.1", "fe80::1%eth0", "ten"])
def test_d10_an_address_that_cannot_be_read_is_a_problem(text: str) -> None:
    reading = read(kube_service(ips=f"{text},10.0.0.7"))
    assert reading.request.addresses == (ip("10.0.0.7"),)
    assert len(reading.problems) == 1
    assert text in reading.problems[0]


def test_how_a_service_shares() -> None:
    annotations = {
        "io.cilium/lb-ipam-sharing-key": "k",
        "lbipam.cilium.io/sharing-cross-namespace": " a , b",
        "lbipam.cilium.io/sharing-permit-different-pods": "t",
    }
    ports = [{"port": 53, "protocol": "UDP"}, {"port": 53}]
    spec = {"ports": ports, "externalTrafficPolicy": "Local", "selector": {"b": "2", "a": "1"}}
    sharing = read(kube_service(annotations=annotations, spec=spec)).request.sharing
    assert sharing.key == "k"
    assert sharing.ports == {Port("UDP", 53), Port("TCP", 53)}
    assert sharing.namespaces == {"a", "b"}
    assert sharing.selector == (("a", "1"), ("b", "2"))
    assert sharing.permits_different_pods


@pytest.mark.parametrize(
    ("text", "permits", "problems"), [("yes", False, 1), ("", False, 0), ("0", False, 0), ("T", True, 0)]
)
def test_truth_is_what_go_takes_for_it(text: str, permits: bool, problems: int) -> None:
    notes = {"lbipam.cilium.io/sharing-permit-different-pods": text}
    reading = read(kube_service(key="k", annotations=notes))
    assert reading.request.sharing.permits_different_pods is permits
    assert len(reading.problems) == problems


def test_without_a_key_nothing_is_shared() -> None:
    assert read(kube_service(key="")).request.sharing is ALONE


def test_synthetic_labels_cannot_be_forged() -> None:
    plain = kube_service("ns/name")
    forged = {"io.kubernetes.service.name": "other", "color": "red"}
    service = msgspec.structs.replace(plain, metadata=msgspec.structs.replace(plain.metadata, labels=forged))
    assert read(service).request.labels == {
        "color": "red",
        "io.kubernetes.service.name": "name",
        "io.kubernetes.service.namespace": "ns",
    }


@pytest.mark.parametrize(
    ("spec", "without_class", "ours"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"type": "NodePort"}, True, False),
        ({"loadBalancerClass": "io.cilium/bgp-control-plane"}, False, True),
        ({"loadBalancerClass": "io.cilium/l2-announcer"}, False, True),
        ({"loadBalancerClass": "io.cilium/node"}, True, False),
        ({"loadBalancerClass": "service.k8s.aws/nlb"}, True, False),
    ],
)
def test_which_services_are_ours(spec: dict[str, Any], without_class: bool, ours: bool) -> None:
    reading = ipam.read_service(kube_service(spec=spec), Responsibility(without_class=without_class))
    assert (reading is not None) is ours


def test_only_entries_with_an_address_are_shown() -> None:
    service = kube_service(shown=("10.0.0.1", "nonsense", ""))
    assert ipam.shown_addresses(service) == (ip("10.0.0.1"),)


def test_a_pool_may_be_written_in_the_old_way_and_the_new() -> None:
    old = msgspec.structs.replace(
        kube_pool("p"), spec=ipam.PoolSpec(cidrs=(ipam.PoolBlock(cidr="10.0.0.0/24"),), blocks=None)
    )
    assert ipam.read_pool(old).pool.blocks == ipam.read_pool(kube_pool("p", "10.0.0.0/24")).pool.blocks
    assert (
        ipam.read_pool(kube_pool("p", "10.0.0.0/24", allowFirstLastIPs="No")).pool.allow_first_last is False
    )


@pytest.mark.parametrize(
    "selector",
    [
        {"matchExpressions": [{"key": "a", "operator": "In"}]},
        {"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]},
        {"matchExpressions": [{"operator": "Exists"}]},
    ],
)
def test_a_selector_that_does_not_compile_selects_nobody_and_is_told(selector: dict[str, Any]) -> None:
    reading = ipam.read_pool(kube_pool("p", "10.0.0.0/24", serviceSelector=selector))
    assert reading.pool.selector is None
    assert reading.selector_problem.startswith("The service selector is not valid")


@pytest.mark.parametrize(
    ("text", "seconds"), [("300ms", 0.3), ("10m", 600), ("1h30m", 5400), ("1.5s", 1.5), ("0", 0), (" 2s ", 2)]
)
def test_durations_are_written_as_in_go(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "m", "10x", "1.2.3s", "-1s", "ten minutes"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_duration(text)


def test_a_reservation_keeps_its_good_addresses_and_tells_of_the_bad() -> None:
    reading = ipam.read_reservation(
        kube_reservation("r", "10.0.0.1", "10.0.0.9-10.0.0.1", "10.0.0.0/30", to="ns/s", expires="soon")
    )
    assert [one.size for one in reading.reservation.ranges] == [1, 4]
    assert reading.reservation.service == ("ns", "s")
    assert len(reading.problems) == 2
    assert reading.expires_at is None


@pytest.mark.parametrize(("text", "most"), [("5", 5), ("-3", 0), ("many", 0)])
def test_a_quota_that_cannot_be_read_allows_nothing_more(text: str, most: int) -> None:
    reading = ipam.read_quota(kube_namespace("ns", quota=text))
    assert reading.most == most
    assert bool(reading.problem) is (text == "many")
    assert ipam.read_quota(kube_namespace("ns")).most is None
