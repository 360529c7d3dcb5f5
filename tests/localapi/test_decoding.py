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


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"type": 1}, "cannot unmarshal number into Go struct field ServiceSpec.spec.type of type string"),
        ({"ports": {}}, "cannot unmarshal object into Go struct field ServiceSpec.spec.ports of type array"),
        (
            {"ports": [{"port": True}]},
            "cannot unmarshal bool into Go struct field ServicePort.spec.ports.port of type int32",
        ),
        ({"selector": {"a": 1}}, "cannot unmarshal number"),
        ({"ports": [{"targetPort": 1.5}]}, "cannot unmarshal number"),
        ({"externalIPs": "x"}, "cannot unmarshal string"),
    ],
)
def test_values_of_another_type_are_refused(spec: dict[str, Any], why: str) -> None:
    with pytest.raises(decoding.WrongTypeError, match=why):
        read({"spec": spec})
