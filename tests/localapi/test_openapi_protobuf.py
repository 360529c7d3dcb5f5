"""The bytes of a document; that kubectl reads them is told in test_kubectl.py."""

from typing import Any

from lbipam.localapi import openapi_protobuf

EMPTY: dict[str, Any] = {
    "swagger": "2.0",
    "info": {"title": "T", "version": "v"},
    "paths": {},
    "definitions": {},
}
HEAD = b"\x0a\x032.0" + b"\x12\x06\x0a\x01T\x12\x01v"


def test_a_document_without_kinds() -> None:
    assert openapi_protobuf.encode(EMPTY) == HEAD + b"\x42\x00" + b"\x4a\x00"


def test_a_definition_is_a_name_and_a_schema() -> None:
    schema = {"type": "object", "required": ["b"], "properties": {"b": {"$ref": "#/definitions/B"}}}
    reference = b"\x0a\x0f#/definitions/B"
    named = b"\x0a\x01b" + b"\x12\x11" + reference
    written = (
        b"\x9a\x01\x01b"  # 19: required
        b"\xb2\x01\x08\x0a\x06object"  # 22: type
        b"\xca\x01\x18" + (b"\x0a\x16" + named)  # 25: properties
    )
    definition = b"\x0a\x01A" + b"\x12" + bytes([len(written)]) + written
    definitions = b"\x0a" + bytes([len(definition)]) + definition
    assert (
        openapi_protobuf.encode({**EMPTY, "definitions": {"A": schema}})
        == HEAD + b"\x42\x00" + b"\x4a" + bytes([len(definitions)]) + definitions
    )


def test_lengths_above_127_take_more_than_one_byte() -> None:
    text = "t" * 300
    body = openapi_protobuf.encode({**EMPTY, "definitions": {"A": {"description": text}}})
    assert b"\x22\xac\x02" + text.encode() in body


def test_extensions_are_yaml_under_their_names() -> None:
    kind = [{"kind": "A"}]
    body = openapi_protobuf.encode({**EMPTY, "definitions": {"A": {"x-kind": kind}}})
    value = b'\x12\x0e[{"kind":"A"}]'
    assert b"\xfa\x01\x1a\x0a\x06x-kind\x12\x10" + value in body
