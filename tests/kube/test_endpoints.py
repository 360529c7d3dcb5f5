"""EndpointSlices of both versions, into endpoints."""

from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from lbipam.kube import endpoints, forms
from lbipam.kube.kinds import Key


def read(*written: dict[str, Any], **more: Any) -> endpoints.Slice:
    body = {
        "metadata": {
            "name": "web-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "endpoints": list(written),
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        **more,
    }
    return endpoints.read_slice(msgspec.convert(body, forms.EndpointSlice))


def test_an_endpoint_has_an_address_a_node_and_a_state() -> None:
    found = read({"addresses": ["10.1.0.1"], "nodeName": "n1", "conditions": {"ready": True}})
    assert found.service == Key("default", "web")
    assert found.ports == (endpoints.Port(name="http", protocol="TCP", number=8080),)
    assert found.endpoints == (
        endpoints.Endpoint(address=ip_address("10.1.0.1"), node="n1", ready=True, serving=True),
    )


def test_the_older_version_tells_the_node_in_its_topology() -> None:
    (found,) = read({"addresses": ["10.1.0.1"], "topology": {"kubernetes.io/hostname": "n1"}}).endpoints
    assert found.node == "n1"


@pytest.mark.parametrize(
    ("conditions", "ready", "serving"),
    [
        ({}, True, True),
        ({"ready": False}, False, False),
        ({"ready": False, "serving": True, "terminating": True}, False, True),
        ({"ready": True, "terminating": True}, False, True),
        ({"ready": True, "serving": False}, True, False),
    ],
)
def test_what_is_not_said_is_taken_as_ready(conditions: dict[str, bool], ready: bool, serving: bool) -> None:
    (found,) = read({"addresses": ["10.1.0.1"], "conditions": conditions}).endpoints
    assert (found.ready, found.serving) == (ready, serving)


def test_an_address_that_is_none_is_reported_and_the_others_stay() -> None:
    found = read({"addresses": ["ten"]}, {"addresses": ["10.1.0.2"]}, {"addresses": []})
    assert [str(one.address) for one in found.endpoints] == ["10.1.0.2"]
    assert len(found.problems) == 1


def test_a_port_that_is_none_is_reported_and_the_others_stay() -> None:
    """API servers take any number here."""
    found = read(
        ports=[
            {"name": name, "port": number}
            for name, number in (("a", 70000), ("b", -1), ("c", 0), ("d", 65535), ("e", 1))
        ]
    )
    assert [one.name for one in found.ports] == ["d", "e"]
    assert len(found.problems) == 3


def test_host_names_are_no_endpoints() -> None:
    assert read({"addresses": ["a.example"]}, addressType="FQDN").endpoints == ()


def test_a_slice_without_the_label_belongs_to_no_service() -> None:
    assert read(metadata={"name": "x", "namespace": "default"}).service is None


def test_absent_lists_are_empty() -> None:
    found = read(endpoints=None, ports=None)
    assert (found.endpoints, found.ports) == ((), ())
