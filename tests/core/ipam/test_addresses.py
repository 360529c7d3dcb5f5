"""Addresses, ranges and free runs, against plain integers and plain sets."""

import ipaddress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.core.ipam.addresses import (
    Address,
    Family,
    FreeRuns,
    Range,
    as_ipaddress,
    family_of,
    format_address,
    parse_address,
    parse_cidr,
    parse_range,
)
from tests.builders import ip, whole

any_ip = st.ip_addresses().filter(lambda one: one.version == 4 or one.ipv4_mapped is None)


@given(any_ip)
def test_reading_what_was_written_gives_the_same_address(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    parsed = parse_address(str(address))
    assert format_address(parsed) == str(address)
    assert as_ipaddress(parsed) == address
    assert family_of(parsed) is (Family.IPV4 if address.version == 4 else Family.IPV6)


@given(any_ip, any_ip)
def test_ipv4_comes_before_ipv6_and_each_in_its_own_order(
    one: ipaddress.IPv4Address | ipaddress.IPv6Address, two: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    expected = (one.version, int(one)) < (two.version, int(two))
    assert (ip(str(one)) < ip(str(two))) is expected


@pytest.mark.parametrize(
    "text", ["", "10.0.0.999", "10.0.0.1 ", "fe80::1%eth0", "::ffff:10.0.0.1", "one", "10"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("10.0.0.12/24", "10.0.0.0", "10.0.0.255"),
        ("192.168.100.200/28", "192.168.100.192", "192.168.100.207"),
        ("10.0.0.1/32", "10.0.0.1", "10.0.0.1"),
        ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
        ("fd00::5/126", "fd00::4", "fd00::7"),
        ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ],
)
def test_host_bits_of_a_cidr_are_masked_away(text: str, first: str, last: str) -> None:
    assert parse_cidr(text) == Range(ip(first), ip(last))


@pytest.mark.parametrize(
    "text",
    ["10.0.0.0", "10.0.0.0/255.0.0.0", "10.0.0.0/33", "x/24", "::ffff:10.0.0.0/120", "fe80::%1/64", "/24"],
)
def test_what_is_no_cidr_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_cidr(text)


def test_a_range_is_written_in_three_ways() -> None:
    assert (
        parse_range("10.0.0.0/31") == parse_range("10.0.0.0-10.0.0.1") == parse_range("10.0.0.0 - 10.0.0.1")
    )
    assert parse_range("10.0.0.7").size == 1
    assert str(parse_range("10.0.0.0/31")) == "10.0.0.0 - 10.0.0.1"


@pytest.mark.parametrize("text", ["10.0.0.9-10.0.0.1", "10.0.0.1-fd00::1", "10.0.0.1-", "-10.0.0.1"])
def test_a_range_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_range(text)


def test_sizes_are_exact_however_large() -> None:
    assert whole("fd00::/64").size == 18446744073709551616
    assert whole("::/0").size == 2**128


numbers = st.integers(min_value=0, max_value=63)


@given(numbers, numbers, numbers, numbers)
def test_ranges_overlap_when_they_share_an_address(a: int, b: int, c: int, d: int) -> None:
    one = Range(Address(min(a, b)), Address(max(a, b)))
    two = Range(Address(min(c, d)), Address(max(c, d)))
    shared = set(range(one.first, one.last + 1)) & set(range(two.first, two.last + 1))
    assert one.overlaps(two) is two.overlaps(one) is bool(shared)


@given(st.lists(st.tuples(st.sampled_from(["take", "put", "lowest"]), numbers), max_size=120))
def test_free_runs_are_a_set_of_integers(steps: list[tuple[str, int]]) -> None:
    runs, model = FreeRuns(Range(Address(0), Address(63))), set(range(64))
    for verb, number in steps:
        address = Address(number)
        if verb == "take":
            assert runs.take(address) is (number in model)
            model.discard(number)
        elif verb == "put" and number not in model:
            runs.put(address)
            model.add(number)
        elif verb == "lowest" and model:
            assert runs.lowest() == min(model)
            runs.take(runs.lowest())
            model.remove(min(model))
        assert runs.size == len(model)
        assert bool(runs) is bool(model)
        told = list(runs.runs())
        assert [number for run in told for number in range(run.first, run.last + 1)] == sorted(model)
        assert all(one.last + 1 < two.first for one, two in pairwise(told)), "runs are maximal"


def test_the_lowest_of_nothing_is_an_error() -> None:
    runs = FreeRuns(whole("10.0.0.1"))
    runs.take(ip("10.0.0.1"))
    with pytest.raises(IndexError):
        runs.lowest()


def test_an_address_that_is_not_free_cannot_be_taken() -> None:
    runs = FreeRuns(whole("10.0.0.4/30"))
    assert runs.take(ip("10.0.0.5"))
    assert not runs.take(ip("10.0.0.5"))
    assert not runs.take(ip("10.0.0.9"))
