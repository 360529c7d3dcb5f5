import pytest

from lbipam.localapi import formats


@pytest.mark.parametrize(
    ("name", "text", "holds"),
    [
        ("cidr", "10.0.0.0/8", True),
        ("cidr", "10.0.0.1/8", True),
        ("cidr", "fd00::/64", True),
        ("cidr", "10.0.0.0", False),
        ("cidr", "10.0.0.0/33", False),
        ("cidr", "10.0.0.0/255.0.0.0", False),
        ("ipv4", "192.0.2.1", True),
        ("ipv4", "fd00::1", False),
        ("ipv6", "fd00::1", True),
        ("ipv6", "192.0.2.1", False),
        ("date-time", "2026-01-01T00:00:00Z", True),
        ("date-time", "2026-01-01T00:00:00.123456+01:00", True),
        ("date-time", "2026-02-30T00:00:00Z", False),
        ("date-time", "2026-01-01", False),
        ("date", "2026-01-01", True),
        ("date", "20260101", False),
        ("duration", "1h30m", True),
        ("duration", "soon", False),
        ("byte", "YQ==", True),
        ("byte", "a", False),
        ("uuid", "0e4b8f38-1111-2222-3333-444444444444", True),
        ("uuid", "0e4b8f38", False),
        ("mac", "00:11:22:33:44:55", True),
        ("mac", "00:11", False),
        ("hostname", "a.example", True),
        ("hostname", "-a", False),
        ("uri", "https://example.com/", True),
        ("uri", "example", False),
        ("email", "a@example.com", True),
        ("email", "a", False),
    ],
)
def test_formats(name: str, text: str, holds: bool) -> None:
    assert formats.CHECKS[name](text) is holds


@pytest.mark.parametrize("name", ["a", "a-b", "a" * 63, "0"])
def test_labels(name: str) -> None:
    assert formats.why_not_dns_label(name) == ""


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a" * 64, "a.b", "a\n"])
def test_what_is_no_label(name: str) -> None:
    assert formats.why_not_dns_label(name)


@pytest.mark.parametrize("name", ["a", "example.com/a", "example.com/A_b.c", "a" * 63])
def test_qualified_names(name: str) -> None:
    assert formats.why_not_qualified_name(name) == ""


@pytest.mark.parametrize("name", ["", "/a", "Example.com/a", "a/", "a/b/c", "-a", "a" * 64])
def test_what_is_no_qualified_name(name: str) -> None:
    assert formats.why_not_qualified_name(name)
