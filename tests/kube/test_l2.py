"""Announcement policies and Leases, into values and back."""

import json
import zlib
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.core.l2 import election
from lbipam.kube import forms, l2
from lbipam.kube.conditions import Status, render, status_apply
from lbipam.kube.kinds import Key
from tests.builders_l2 import node, policy
from tests.builders_services import service
from tests.real_api import RealApi
from tests.real_apply import apply, define, request


def read(**spec: Any) -> l2.Policy:
    reading = l2.read_policy(policy(**spec))
    assert reading.policy is not None
    return reading.policy


def interfaces(*names: str, chosen: tuple[str, ...] = ()) -> l2.Interfaces:
    return l2.Interfaces(names=frozenset(names), chosen=frozenset(chosen))


def announced(thing: forms.Service, **spec: Any) -> list[str]:
    return [str(address) for address in l2.announced_addresses(thing, read(**spec))]


# --- policies ---------------------------------------------------------------------------------------------


def test_interface_expressions_are_not_anchored_and_any_of_them_counts() -> None:
    found = read(interfaces=["th0", "^br"]).matching(interfaces("eth0", "eth1", "br-lan", "xbr"))
    assert found == {"eth0", "br-lan"}


def test_without_expressions_the_node_chooses() -> None:
    assert read().matching(interfaces("eth0", "eth1", chosen=("eth1",))) == {"eth1"}
    assert read(interfaces=[]).matching(interfaces("eth0", "eth1", chosen=("eth1",))) == {"eth1"}


def test_character_classes_of_go_are_understood() -> None:
    assert read(interfaces=["^eth[[:digit:]]+$"]).matching(interfaces("eth10", "ethx")) == {"eth10"}


@pytest.mark.parametrize(
    ("spec", "type_"),
    [
        ({"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, l2.BAD_NODE_SELECTOR),
        ({"serviceSelector": {"matchExpressions": [{"key": "a", "operator": "?"}]}}, l2.BAD_SERVICE_SELECTOR),
        ({"interfaces": ["eth0", "eth["]}, l2.BAD_INTERFACE_REGEX),
        ({"interfaces": ["eth0{4294967296}"]}, l2.BAD_INTERFACE_REGEX),
        ({"interfaces": ["(" * 5000 + ")" * 5000]}, l2.BAD_INTERFACE_REGEX),
    ],
)
def test_a_policy_that_is_wrong_in_any_part_does_nothing_and_says_why(
    spec: dict[str, Any], type_: str
) -> None:
    reading = l2.read_policy(policy(**spec))
    assert reading.policy is None
    assert list(reading.problems) == [type_]
    (stand,) = l2.policy_stands((), reading.problems)
    assert (stand.type, stand.status, stand.reason) == (type_, Status.TRUE, "error")
    assert stand.message == reading.problems[type_]


def test_a_repaired_policy_keeps_the_condition_as_false_and_a_good_one_has_none() -> None:
    once = forms.Condition(type=l2.BAD_NODE_SELECTOR, status="True", reason="error", message="x")
    (stand,) = l2.policy_stands((once,), {})
    assert (stand.status, stand.reason, stand.message) == (Status.FALSE, "error", "")
    assert l2.policy_stands((), {}) == ()


# --- Services and Nodes -----------------------------------------------------------------------------------


def test_both_kinds_of_addresses_are_announced_where_asked_for() -> None:
    thing = service("web", "10.0.0.1", "fd00::1", externalIPs=["192.0.2.7", "?"])
    assert announced(thing) == ["10.0.0.1", "fd00::1"]
    assert announced(thing, loadBalancerIPs=False, externalIPs=True) == ["192.0.2.7"]
    assert announced(thing, loadBalancerIPs=False) == []


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        ({"loadBalancerClass": "io.cilium/l2-announcer"}, 1),
        ({"loadBalancerClass": "io.cilium/bgp-control-plane"}, 0),
        ({"type": "ClusterIP"}, 0),
    ],
)
def test_the_class_and_type_decide(spec: dict[str, Any], count: int) -> None:
    assert len(announced(service("web", "10.0.0.1", **spec))) == count


def test_a_service_being_deleted_announces_nothing() -> None:
    assert announced(service("web", "10.0.0.1", deleting=True)) == []


def test_preferred_nodes_are_a_list() -> None:
    assert l2.preferred_nodes(service(annotations={"lbipam.dev/prefer-node": "n1, n2,"})) == {"n1", "n2"}
    assert l2.preferred_nodes(service()) == frozenset()


def test_a_node_may_announce_unless_it_is_drained_and_is_ready_or_not() -> None:
    assert l2.may_announce(node("n1", ready=False))
    assert not l2.may_announce(node("n1", annotations={"lbipam.dev/drain": "true"}))
    assert l2.is_ready(node("n1"))
    assert not l2.is_ready(node("n1", ready=False))


# --- Leases -----------------------------------------------------------------------------------------------

KEY = Key("kube-system", l2.lease_name("n1"))
CLAIMED = (ip_address("198.18.0.1"), ip_address("198.18.0.9"), ip_address("2001:db8::1"))
TOLD = l2.Told(
    duration_seconds=1.5,
    interfaces=("eth0", "eth1"),
    chosen_interfaces=("eth0",),
    claims=l2.pack(7, CLAIMED),
    contested=l2.pack(0, CLAIMED[:1]),
)


def lease(body: Any, version: str = "7") -> forms.Lease:
    written = json.loads(json.dumps(body))
    written["metadata"]["resourceVersion"] = version
    return msgspec.convert(written, forms.Lease)


def test_what_is_told_is_read_as_it_was_written() -> None:
    reading = l2.read_lease(lease(l2.lease_body(KEY, "n1", told=TOLD, now=1_800_000_000.25)))
    assert reading == l2.NodeLease(
        lease=election.Lease(
            node="n1",
            version="7",
            duration_seconds=1.5,
            claims=frozenset(address.packed for address in CLAIMED),
            contested=frozenset({CLAIMED[0].packed}),
        ),
        interfaces=interfaces("eth0", "eth1", chosen=("eth0",)),
    )


def test_a_lease_is_readable_for_people_and_new_with_every_renewal() -> None:
    body = l2.lease_body(KEY, "n1", told=TOLD, now=1_800_000_000.25)
    assert body["spec"] == {
        "holderIdentity": "n1",
        "leaseDurationSeconds": 2,
        "renewTime": "2027-01-15T08:00:00.250000Z",
    }


def test_a_lease_without_a_holder_is_released() -> None:
    body = l2.lease_body(KEY, "n1", told=None, now=0.0)
    assert l2.read_lease(lease(body)) == l2.Released(node="n1")


@given(st.sets(st.ip_addresses()), st.integers(min_value=0))
def test_any_addresses_can_be_claimed(addresses: set[l2.Address], word: int) -> None:
    claims = l2.pack(word, addresses)
    assert claims.word == word
    assert l2.unpack(claims) == {address.packed for address in addresses}


def test_claims_of_ten_thousand_addresses_fit_many_times_into_an_annotation() -> None:
    first = ip_address("198.18.0.0")
    claims = l2.pack(1, (first + number for number in range(10_000)))
    assert len(msgspec.json.encode(claims)) * 10 < 256 * 1024


_TOO_MUCH = zlib.compress(bytes(1 << 25))
_A_BYTE, _PART = zlib.compress(b"x"), zlib.compress(bytes(4))[:-1]


@pytest.mark.parametrize("data", [b"x", _A_BYTE, _PART, _TOO_MUCH], ids=["none", "odd", "cut", "too much"])
def test_claims_that_nobody_made_are_refused(data: bytes) -> None:
    for claims in (l2.Claims(ipv4=data), l2.Claims(ipv6=data)):
        with pytest.raises(ValueError, match=r"\S"):
            l2.unpack(claims)


@pytest.mark.parametrize(
    "told",
    [
        *(None, "", "{", "{}", '{"durationSeconds": 0}', '{"durationSeconds": "x"}'),
        '{"durationSeconds": 1, "claims": {"ipv4": "eA=="}}',
    ],
)
def test_a_lease_that_tells_nothing_sensible_is_passed_over(told: str | None) -> None:
    body = {
        "metadata": {"name": "lbipam-l2-n1", "annotations": {l2.TOLD: told} if told is not None else {}},
        "spec": {"holderIdentity": "n1"},
    }
    assert l2.read_lease(lease(body)) is None


def test_other_leases_are_passed_over() -> None:
    other = {"metadata": {"name": "kube-scheduler"}, "spec": {"holderIdentity": "x"}}
    assert l2.read_lease(lease(other)) is None


def test_a_real_server_takes_leases_and_gives_each_renewal_a_new_version(real_api: RealApi) -> None:
    versions = set()
    for told, now in ((TOLD, 1_800_000_000.25), (TOLD, 1_800_000_001.25), (None, 1_800_000_002.25)):
        body = l2.lease_body(KEY, "n1", told=told, now=now)
        stored = apply(real_api, forms.LEASE.path(KEY.namespace, KEY.name), body)
        versions.add(stored["metadata"]["resourceVersion"])
        reading = l2.read_lease(msgspec.convert(stored, forms.Lease))
        assert isinstance(reading, l2.NodeLease if told is not None else l2.Released)
    assert len(versions) == 3
    request(real_api, "DELETE", forms.LEASE.path(KEY.namespace, KEY.name))


def test_a_real_server_takes_the_conditions_of_a_policy(real_api: RealApi) -> None:
    define(real_api)
    path = l2.ANNOUNCEMENT_POLICY.path(name="for-conditions")
    written = {
        "apiVersion": "cilium.io/v2alpha1",
        "kind": "CiliumL2AnnouncementPolicy",
        "metadata": {"name": "for-conditions"},
        "spec": {"interfaces": ["("]},
    }
    stored = msgspec.convert(apply(real_api, path, written, manager="tests"), l2.AnnouncementPolicy)
    stands = l2.policy_stands((), l2.read_policy(stored).problems)
    body = status_apply(
        l2.ANNOUNCEMENT_POLICY, stored.metadata, {"conditions": render((), stands, 1, 1_800_000_000.0)}
    )
    (told,) = apply(real_api, f"{path}/status", body)["status"]["conditions"]
    assert (told["type"], told["status"]) == (l2.BAD_INTERFACE_REGEX, "True")
    request(real_api, "DELETE", path)
