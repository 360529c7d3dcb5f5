from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.localapi import protobuf


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*encoded, value))


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def body(kind: str, raw: bytes, api_version: str = "v1") -> bytes:
    kinds = field(1, api_version.encode()) + field(2, kind.encode())
    return protobuf.MAGIC + field(1, kinds) + field(2, raw)


def test_a_namespace() -> None:
    metadata = field(1, b"team") + field(8, b"") + field(11, field(1, b"color") + field(2, b"red"))
    assert protobuf.decode(body("Namespace", field(1, metadata) + field(2, b"") + field(3, b""))) == {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "team", "labels": {"color": "red"}},
        "spec": {},
    }


def test_delete_options() -> None:
    raw = field(1, 30) + field(2, field(1, b"some-uid")) + field(4, b"Background") + field(5, b"All")
    assert protobuf.decode(body("DeleteOptions", raw)) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 30,
        "preconditions": {"uid": "some-uid"},
        "propagationPolicy": "Background",
        "dryRun": ["All"],
    }


def test_a_service_with_ports_of_both_forms() -> None:
    http = field(1, b"http") + field(3, 80) + field(4, field(1, 0) + field(2, 8080))
    tls = field(1, b"tls") + field(3, 443) + field(4, field(1, 1) + field(3, b"https"))
    read = protobuf.decode(body("Service", field(2, field(1, http) + field(1, tls) + field(20, 0))))
    assert read["spec"] == {
        "ports": [
            {"name": "http", "port": 80, "targetPort": 8080},
            {"name": "tls", "port": 443, "targetPort": "https"},
        ],
        "allocateLoadBalancerNodePorts": False,
    }


def test_data_of_a_secret_is_base64_as_in_json() -> None:
    assert protobuf.decode(body("Secret", field(2, field(1, b"a") + field(2, b"b"))))["data"] == {"a": "Yg=="}


def test_fields_that_are_not_known_are_passed_over() -> None:
    fixed = bytes((99 << 3 & 0x7F | 1 | 0x80, 99 >> 4)) + bytes(8)
    assert protobuf.decode(body("Namespace", fixed + field(88, b"x"))) == {
        "apiVersion": "v1",
        "kind": "Namespace",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        b"{}",
        protobuf.MAGIC + b"\x0a\xff",
        body("Deployment", b""),
        body("Namespace", b"\x0b"),
        body("Namespace", b"\x08\x01"),
        body("DeleteOptions", field(1, b"")),
        protobuf.MAGIC + b"\x80",
    ],
)
def test_what_cannot_be_read_is_refused(wrong: bytes) -> None:
    with pytest.raises(protobuf.UnreadableError):
        protobuf.decode(wrong)


@given(st.binary(max_size=60), st.sampled_from(["Namespace", "Service", "Secret", "DeleteOptions"]))
def test_any_bytes_are_read_or_refused(raw: bytes, kind: str) -> None:
    try:
        read: Any = protobuf.decode(body(kind, raw))
    except protobuf.UnreadableError:
        return
    assert read["kind"] == kind
