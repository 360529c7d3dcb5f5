import pytest

from lbipam.localapi import bodies
from lbipam.localapi.refusals import ApiError


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"a": "b"}', "application/json; charset=utf-8"),
        (b'{"a": "b"}', ""),
        (b'{"a": "b"}', "application/merge-patch+json"),
        (b"a: b", "application/yaml"),
        (b"a: b", "application/apply-patch+yaml"),
        (b'{"a": "b"}', "application/apply-patch+yaml"),
    ],
)
def test_bodies(body: bytes, kind: str) -> None:
    assert bodies.decode(body, kind) == {"a": "b"}


def test_dates_in_yaml_stay_texts() -> None:
    read = bodies.decode(b"t: 2026-01-01T00:00:00Z\nd: 2026-01-01", "application/yaml")
    assert read == {"t": "2026-01-01T00:00:00Z", "d": "2026-01-01"}


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b"{", "application/json", 400),
        (b"a: [", "application/yaml", 400),
        (b"k8s", "application/vnd.kubernetes.protobuf", 400),
        (b"{}", "text/html", 415),
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes, kind: str, code: int) -> None:
    with pytest.raises(ApiError) as refused:
        bodies.decode(body, kind)
    assert refused.value.code == code


def test_an_object_is_asked_for() -> None:
    assert bodies.decode_object(b"{}", "application/json") == {}
    for body in (b"", b"[]"):
        with pytest.raises(ApiError):
            bodies.decode_object(body, "application/json")
