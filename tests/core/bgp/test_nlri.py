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
def test_a_field_of_prefixes_is_split_as_it_was_put_together(prefixes: list[Prefix]) -> None:
    for family, version in ((Family.IPV4, 4), (Family.IPV6, 6)):
        ours = [one for one in prefixes if one.version == version]
        encoded = list(map(nlri.encode, ours))
        assert list(nlri.split(b"".join(encoded), family)) == encoded


@pytest.mark.parametrize("field", ["21c000020100", "20c00002", "18"])
def test_a_field_that_is_no_list_of_prefixes_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        tuple(nlri.split(bytes.fromhex(field), Family.IPV4))
