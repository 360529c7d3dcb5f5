"""Prefixes as bytes."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbipam.core.bgp import nlri
from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.nlri import Prefix

_NETWORKS = st.one_of(
    st.tuples(st.binary(min_size=4, max_size=4), st.integers(0, 32)),
    st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 128)),
).map(lambda pair: ip_network(pair, strict=False))


@pytest.mark.parametrize(
    ("prefix", "bytes_"),
    [
        ("192.0.2.1/32", "20c0000201"),
        ("198.51.100.0/22", "16c63364"),
        ("0.0.0.0/0", "00"),
        ("2001:db8::/33", "2120010db800"),
        ("2001:db8::1/128", "8020010db8000000000000000000000001"),
    ],
)
def test_only_as_many_octets_are_sent_as_the_length_takes(prefix: str, bytes_: str) -> None:
    assert nlri.encode(ip_network(prefix)).hex() == bytes_


@given(st.lists(_NETWORKS))
def test_a_field_of_prefixes_is_read_as_it_is_written(prefixes: list[Prefix]) -> None:
    for family, version in ((Family.IPV4, 4), (Family.IPV6, 6)):
        ours = [one for one in prefixes if one.version == version]
        field = b"".join(map(nlri.encode, ours))
        assert [nlri.decode(one, family) for one in nlri.split(field, family)] == ours


@pytest.mark.parametrize("field", ["21c000020100", "20c00002", "18"])
def test_a_field_that_is_no_list_of_prefixes_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        tuple(nlri.split(bytes.fromhex(field), Family.IPV4))


def test_host_bits_of_a_sloppy_peer_are_cleared() -> None:
    (one,) = nlri.split(bytes.fromhex("17c00003"), Family.IPV4)
    assert nlri.decode(one, Family.IPV4) == ip_network("192.0.2.0/23")
