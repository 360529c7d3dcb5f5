from typing import Any

import pytest

from lbipam.localapi import decoding
from lbipam.localapi.declarations import declared

SERVICE = declared("core.v1.Service")


def read(value: dict[str, Any]) -> tuple[Any, list[str]]:
    unknown: list[str] = []
    return decoding.read(value, SERVICE, "", "Service", unknown), unknown


def test_unknown_fields_are_left_out_and_named() -> None:
    value = {"odd": 1, "spec": {"type": "ClusterIP", "odd": 2, "ports": [{"port": 80, "odd": 3}]}}
    kept, unknown = read(value)
    assert kept == {"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}}
    assert unknown == ["odd", "spec.odd", "spec.ports[0].odd"]


def test_nulls_and_empty_values_are_forgotten_but_structs_stay() -> None:
    kept, _ = read(
        {
            "metadata": {"name": "a", "labels": {}, "annotations": None, "creationTimestamp": None},
            "spec": {"clusterIP": "", "ports": [], "allocateLoadBalancerNodePorts": False},
            "status": {"loadBalancer": {}},
        }
    )
    assert kept == {
        "metadata": {"name": "a"},
        "spec": {"allocateLoadBalancerNodePorts": False},
        "status": {"loadBalancer": {}},
    }


def test_numbers_may_be_written_with_a_fraction_of_zero() -> None:
    kept, _ = read({"spec": {"ports": [{"port": 80.0}]}})
    assert kept["spec"]["ports"] == [{"port": 80}]


def test_absent_values_of_labels_are_empty() -> None:
    kept, _ = read({"metadata": {"labels": {"a": None, "b": "c"}}, "spec": {"selector": {"a": None}}})
    assert kept == {"metadata": {"labels": {"a": "", "b": "c"}}, "spec": {"selector": {"a": ""}}}


LEASE = declared("coordination.v1.Lease")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2026-01-01T00:00:00.500000Z", "2026-01-01T00:00:00.500000Z"),
        ("2026-01-01T00:00:00.000000+02:00", "2025-12-31T22:00:00.000000Z"),
    ],
)
def test_times_in_microseconds_are_kept_in_utc(sent: str, kept: str) -> None:
    assert decoding.read({"spec": {"renewTime": sent}}, LEASE, "", "Lease", []) == {
        "spec": {"renewTime": kept}
    }


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00.7-01:30", "2026-01-01T01:30:00Z"),
    ],
)
def test_other_times_are_kept_in_seconds(sent: str, kept: str) -> None:
    condition = {"type": "A", "status": "True", "reason": "R", "message": "", "lastTransitionTime": sent}
    (read_condition,) = read({"status": {"conditions": [condition]}})[0]["status"]["conditions"]
    assert read_condition["lastTransitionTime"] == kept


@pytest.mark.parametrize(
    "sent",
    [
        "yesterday",
        "",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.123Z",
        "2026-01-01T00:00:00.123456789Z",
        "2026-02-30T00:00:00.000000Z",
        "2026-01-01 00:00:00.000000Z",
        "0001-01-01T00:00:00.000000+01:00",
    ],
)
def test_what_is_no_time_in_microseconds_is_refused(sent: str) -> None:
    with pytest.raises(decoding.WrongTypeError, match="parsing time"):
        decoding.read({"spec": {"renewTime": sent}}, LEASE, "", "Lease", [])


def test_what_is_no_base64_is_refused() -> None:
    with pytest.raises(decoding.WrongTypeError, match="base64"):
        decoding.read({"data": {"a": "plain!"}}, declared("core.v1.Secret"), "", "Secret", [])


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"type": 1}, "cannot unmarshal number into Go struct field ServiceSpec.spec.type of type string"),
        ({"ports": {}}, "cannot unmarshal object into Go struct field ServiceSpec.spec.ports of type array"),
        (
            {"ports": [{"port": True}]},
            "cannot unmarshal bool into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        (
            {"ports": [{"port": 1 << 31}]},
            "cannot unmarshal number 2147483648 into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        ({"selector": {"a": 1}}, "cannot unmarshal number"),
        ({"ports": [{"targetPort": 1.5}]}, "cannot unmarshal number"),
        ({"externalIPs": "x"}, "cannot unmarshal string"),
    ],
)
def test_values_of_another_type_are_refused(spec: dict[str, Any], why: str) -> None:
    with pytest.raises(decoding.WrongTypeError, match=why):
        read({"spec": spec})
