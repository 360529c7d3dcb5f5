"""Patterns and bounds that several BGP kinds share."""

import re

import pytest

from lbipam.kube.crds import bgp_parts


def accepts(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


@pytest.mark.parametrize(
    "text", ["0", "4294967295", "4294967199", "65535:65535", "0:1", "999999999", "4100000000"]
)
def test_a_standard_community_is_a_number_or_two(text: str) -> None:
    pattern = bgp_parts.communities()["properties"]["standard"]["items"]["pattern"]
    assert accepts(pattern, text)


@pytest.mark.parametrize("text", ["4294967296", "65536:1", "1:65536", "01:1", "a:b", "1:2:3", "", "-1"])
def test_what_does_not_fit_a_standard_community_is_refused(text: str) -> None:
    pattern = bgp_parts.communities()["properties"]["standard"]["items"]["pattern"]
    assert not accepts(pattern, text)


def test_the_number_patterns_end_exactly_at_their_bounds() -> None:
    pattern = bgp_parts.communities()["properties"]["standard"]["items"]["pattern"]
    for power in range(33):
        for number in (2**power - 1, 2**power, 2**power + 1):
            assert accepts(pattern, str(number)) == (number < 2**32)
            assert accepts(pattern, f"{number}:0") == (number < 2**16)


def test_a_large_community_is_three_numbers() -> None:
    pattern = bgp_parts.communities()["properties"]["large"]["items"]["pattern"]
    assert accepts(pattern, "4294967295:0:1")
    assert not accepts(pattern, "4294967296:0:1")
    assert not accepts(pattern, "1:2")


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "255.255.255.255", "fd00::1", "::", "fe80::1%eth0", "::ffff:1.2.3.4"]
)
def test_addresses_of_both_families_are_accepted(text: str) -> None:
    assert accepts(bgp_parts.address("")["pattern"], text)


@pytest.mark.parametrize("text", ["10.0.0.256", "10.0.0", "10.0.0.0/24", "router", "fe80::1%", ""])
def test_what_is_no_address_is_refused(text: str) -> None:
    assert not accepts(bgp_parts.address("")["pattern"], text)


def test_the_fourteen_well_known_communities_are_known() -> None:
    names = bgp_parts.communities()["properties"]["wellKnown"]["items"]["enum"]
    assert len(set(names)) == 14
