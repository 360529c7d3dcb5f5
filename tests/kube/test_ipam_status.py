"""Every reason and sentence, exactly as Cilium has it, and what is written when."""

import json
from typing import Any

import msgspec
import pytest

from lbipam.core.ipam.addresses import parse_range
from lbipam.core.ipam.allocation import Decision, Reason, Refusal
from lbipam.core.ipam.pools import Overlap
from lbipam.core.ipam.reservations import Reservation
from lbipam.core.ipam.services import ServiceKey
from lbipam.core.ipam.sharing import Apart
from lbipam.kube import forms, ipam, ipam_status
from lbipam.kube.forms import Ingress
from tests.builders import V4, V6, ip, ledger
from tests.builders_kube import kube_pool, kube_reservation, kube_service

POOLS = "CiliumLoadBalancerIPPools that match this service"


def refusal(reason: Reason, address: str = "", detail: str = "") -> Refusal:
    return Refusal(reason=reason, family=V4, address=ip(address) if address else None, detail=detail)


@pytest.mark.parametrize(
    ("refused", "reason", "sentence"),
    [
        (refusal(Reason.NO_POOL), "no_pool", f"There are no enabled {POOLS}"),
        (refusal(Reason.OUT_OF_IPS), "out_of_ips", f"All enabled {POOLS} ran out of allocatable IPs"),
        (
            refusal(Reason.NO_POOL, "10.0.0.1"),
            "no_pool",
            "No pool exists with a CIDR containing '10.0.0.1'",
        ),
        (
            refusal(Reason.SELECTOR_MISMATCH, "fd00::1"),
            "pool_selector_mismatch",
            "The pool with the CIDR containing 'fd00::1', doesn't select this service",
        ),
        (
            refusal(Reason.ALREADY_ALLOCATED, "10.0.0.1"),
            "already_allocated",
            "The IP '10.0.0.1' is already allocated to another service",
        ),
        (
            refusal(Reason.INCOMPATIBLE, "10.0.0.1", "different sharing key"),
            "already_allocated_incompatible_service",
            "The IP '10.0.0.1' is already allocated to an incompatible service. Reason: different sharing key",
        ),
        (
            refusal(Reason.NOT_NAMED, "10.0.0.1"),
            "pool_not_named",
            "The pool with the CIDR containing '10.0.0.1' is not named in the annotation lbipam.dev/pool",
        ),
        (
            refusal(Reason.RESERVED, "10.0.0.1", "for nobody by IPReservation r"),
            "reserved",
            "The IP '10.0.0.1' is reserved for nobody by IPReservation r",
        ),
        (
            refusal(Reason.QUOTA_EXCEEDED, detail="5 of 5"),
            "quota_exceeded",
            "The namespace holds as many addresses as its quota allows (5 of 5)",
        ),
    ],
)
def test_a_refusal_in_ciliums_words(refused: Refusal, reason: str, sentence: str) -> None:
    assert ipam_status.sentence(refused) == sentence
    stand = ipam_status.service_stand(kube_service(), Decision(refusals=(refused,)), (), ())
    (condition,) = stand.conditions
    assert condition.type == "cilium.io/IPAMRequestSatisfied"
    assert (condition.status.value, condition.reason, condition.message) == ("False", reason, sentence)


def test_no_reason_is_without_a_sentence() -> None:
    assert all(ipam_status.sentence(refusal(reason, "10.0.0.1")) for reason in Reason)


def test_why_two_services_may_not_share_in_ciliums_words() -> None:
    assert {apart.value for apart in Apart} >= {
        "different sharing key",
        "different and not permitted namespace",
        "same port and protocol",
        "different ExternalTrafficPolicy",
        "ExternalTrafficPolicy local but a service has no selector",
        (
            "ExternalTrafficPolicy local but selecting different set of pods without "
            "lbipam.cilium.io/sharing-permit-different-pods on both services"
        ),
    }


def test_a_conflict_in_ciliums_words() -> None:
    overlap = Overlap(range=parse_range("10.0.0.0/24"), other=parse_range("10.0.0.128/25"), pool="other")
    assert ipam_status.conflict_sentence(overlap) == (
        "Pool conflicts since range '10.0.0.0 - 10.0.0.255' overlaps range "
        "'10.0.0.128 - 10.0.0.255' from IP Pool 'other'"
    )


def test_a_satisfied_service_says_so_without_a_message() -> None:
    stand = ipam_status.service_stand(kube_service(), Decision(granted=(ip("10.0.0.1"),)), (), ())
    (condition,) = stand.conditions
    assert (condition.status.value, condition.reason, condition.message) == ("True", "satisfied", "")


def test_problems_come_first_and_what_is_said_twice_is_said_once() -> None:
    refusals = tuple(Refusal(reason=Reason.NO_POOL, family=family) for family in (V4, V6))
    stand = ipam_status.service_stand(kube_service(), Decision(refusals=refusals), ("It is absurd",), ())
    (condition,) = stand.conditions
    assert condition.reason == "invalid_request"
    assert condition.message == f"It is absurd; There are no enabled {POOLS}"


@pytest.mark.parametrize(
    ("shown", "has", "ours", "ingress"),
    [
        ((), ("10.0.0.1", "fd00::1"), (), ["10.0.0.1", "fd00::1"]),
        (("fd00::1",), ("10.0.0.1", "fd00::1"), ("fd00::1",), ["fd00::1", "10.0.0.1"]),
        (("192.0.2.1",), ("10.0.0.1",), (), ["10.0.0.1"]),
        (("192.0.2.1",), (), (), None),
        (("10.0.0.1",), (), ("10.0.0.1",), []),
        ((), (), (), None),
    ],
)
def test_the_list_of_addresses(
    shown: tuple[str, ...], has: tuple[str, ...], ours: tuple[str, ...], ingress: list[str] | None
) -> None:
    decision = Decision(granted=tuple(map(ip, has)))
    stand = ipam_status.service_stand(kube_service(shown=shown), decision, (), tuple(map(ip, ours)))
    assert (None if stand.ingress is None else [entry.ip for entry in stand.ingress]) == ingress


def test_an_entry_that_stays_keeps_what_others_filled_in() -> None:
    entry = {"ip": "10.0.0.1", "ipMode": "VIP", "ports": [{"port": 80, "protocol": "TCP"}]}
    service = msgspec.structs.replace(
        kube_service(), status=msgspec.convert({"loadBalancer": {"ingress": [entry]}}, forms.ServiceStatus)
    )
    address = ip("10.0.0.1")
    stand = ipam_status.service_stand(service, Decision(kept=(address,)), (), (address,))
    assert stand.ingress_stands
    assert not stand.conditions_stand
    body = ipam_status.service_apply(service, stand, 0.0)
    assert json.loads(msgspec.json.encode(body["status"]["loadBalancer"])) == {"ingress": [entry]}


def test_an_apply_carries_uid_and_version_and_all_that_is_ours() -> None:
    service = kube_service("a", generation=4)
    stand = ipam_status.service_stand(service, Decision(granted=(ip("10.0.0.1"),)), (), ())
    assert ipam_status.service_apply(service, stand, 0.0) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a", "uid": "uid-a", "namespace": "default", "resourceVersion": "1"},
        "status": {
            "conditions": [
                {
                    "type": "cilium.io/IPAMRequestSatisfied",
                    "status": "True",
                    "reason": "satisfied",
                    "message": "",
                    "lastTransitionTime": "1970-01-01T00:00:00Z",
                    "observedGeneration": 4,
                }
            ],
            "loadBalancer": {"ingress": (Ingress(ip="10.0.0.1"),)},
        },
    }


def test_what_takes_all_away_names_nothing() -> None:
    assert ipam_status.service_clear(kube_service())["status"] == {}


def test_others_that_own_the_list_are_named_and_nothing_of_it_is_claimed() -> None:
    sentence = ipam_status.foreign_sentence(("metallb", "kubectl"))
    assert sentence == "The load balancer ingress is managed by metallb, kubectl; lbipam leaves it alone"
    assert "another field manager" in ipam_status.foreign_sentence(())
    body = ipam_status.service_managed_elsewhere(kube_service(shown=("192.0.2.1",)), sentence, 0.0)
    assert body is not None
    (condition,) = body["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "managed_elsewhere")
    assert "loadBalancer" not in body["status"]
    said = kube_service(shown=("192.0.2.1",), conditions=(condition,))
    assert ipam_status.service_managed_elsewhere(said, sentence, 9.0) is None


def test_a_removal_is_of_this_version_and_leaves_the_rest() -> None:
    service = kube_service(shown=("192.0.2.1", "10.0.0.1"))
    test, replace = ipam_status.ingress_removal(service, [ip("10.0.0.1")])
    assert test == {"op": "test", "path": "/metadata/resourceVersion", "value": "1"}
    assert (replace["op"], replace["path"]) == ("replace", "/status/loadBalancer")
    assert replace["value"] == {"ingress": [Ingress(ip="192.0.2.1")]}
    addresses = [ip("192.0.2.1"), ip("10.0.0.1")]
    assert ipam_status.ingress_removal(service, addresses)[1]["value"] == {}


def stands_of(*cidrs: str, **spec: Any) -> dict[str, tuple[str, str, str]]:
    reading = ipam.read_pool(kube_pool("p", *cidrs, **spec))
    space = ledger(reading.pool).space.pools["p"]
    return {
        one.type: (one.status.value, one.reason, one.message)
        for one in ipam_status.pool_stands(reading, space)
    }


def test_the_conditions_of_a_sound_pool_are_ciliums() -> None:
    assert stands_of("10.0.0.0/24", "fd00::/64", allowFirstLastIPs="No") == {
        "cilium.io/PoolConflict": ("False", "resolved", ""),
        "cilium.io/IPsTotal": ("Unknown", "noreason", str(256 + 2**64)),
        "cilium.io/IPsAvailable": ("Unknown", "noreason", str(254 + 2**64 - 2)),
        "cilium.io/IPsUsed": ("Unknown", "noreason", "4"),
    }


def test_the_conditions_of_a_faulty_pool_tell_what_is_wrong() -> None:
    said = stands_of(
        *("10.0.0.0/24", "10.0.0.0/33", "10.0.0.0/25"),
        annotations={"lbipam.dev/priority": "high"},
        serviceSelector={"matchExpressions": [{"key": "a", "operator": "In"}]},
    )
    assert said["cilium.io/PoolConflict"][:2] == ("True", "cidr_overlap")
    assert said["cilium.io/PoolConflict"][2].endswith("from IP Pool 'p'")
    assert said["lbipam.dev/BlocksValid"][:2] == ("False", "invalid_block")
    assert said["lbipam.dev/BlocksValid"][2].startswith("Block 2: ")
    assert said["lbipam.dev/SelectorValid"] == (
        "False",
        "invalid_selector",
        "The service selector is not valid: 'a' In needs values",
    )
    assert said["lbipam.dev/AnnotationsValid"] == (
        "False",
        "invalid_annotation",
        "The annotation lbipam.dev/priority says 'high', which is not a whole number",
    )


def test_what_a_pool_says_already_is_not_written() -> None:
    pool = kube_pool("p", "10.0.0.0/24")
    reading = ipam.read_pool(pool)
    stands = ipam_status.pool_stands(reading, ledger(reading.pool).space.pools["p"])
    body = ipam_status.pool_apply(ipam.IP_POOL, pool, stands, 0.0)
    assert body is not None
    assert "resourceVersion" not in body["metadata"], "counters may come late: nothing hangs on them"
    status = msgspec.convert(body["status"], forms.ConditionsStatus)
    assert (
        ipam_status.pool_apply(ipam.IP_POOL, msgspec.structs.replace(pool, status=status), stands, 9.0)
        is None
    )


@pytest.mark.parametrize(
    ("active", "problems", "said"),
    [
        (True, (), ("True", "reserving", "")),
        (False, (), ("False", "expired", "")),
        (True, ("It is absurd",), ("True", "invalid_address", "It is absurd")),
    ],
)
def test_the_status_of_a_reservation(
    active: bool, problems: tuple[str, ...], said: tuple[str, str, str]
) -> None:
    body = ipam_status.reservation_apply(
        kube_reservation("r", "10.0.0.1"),
        active=active,
        problems=problems,
        holders=(ServiceKey("default", "a"), ServiceKey("default", "b")),
        now=0.0,
    )
    assert body is not None
    (condition,) = body["status"]["conditions"]
    assert condition["type"] == "lbipam.dev/Active"
    assert (condition["status"], condition["reason"], condition["message"]) == said
    assert body["status"]["holder"] == "default/a, default/b"


def test_a_released_address_is_written_down_for_its_service() -> None:
    reservation = Reservation(
        name="released-10-0-0-1",
        created="",
        ranges=(parse_range("10.0.0.1"),),
        service=ServiceKey("default", "a"),
        reason="released",
    )
    assert ipam_status.released_reservation(reservation, "p", 60.0) == {
        "apiVersion": "lbipam.dev/v1alpha1",
        "kind": "IPReservation",
        "metadata": {"name": "released-10-0-0-1", "labels": {"lbipam.dev/released-by": "p"}},
        "spec": {
            "addresses": ["10.0.0.1"],
            "serviceRef": {"namespace": "default", "name": "a"},
            "expiresAt": "1970-01-01T00:01:00Z",
            "reason": "released",
        },
    }
