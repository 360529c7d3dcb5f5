"""Who is told what."""

from ipaddress import IPv4Address, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from lbipam.core.bgp import nlri
from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.exports import Exports
from lbipam.core.bgp.nlri import Prefix
from lbipam.core.bgp.peers import Peer, Policy, SpeakerState
from lbipam.core.bgp.routes import PLAIN, RouteAttributes

MARKED = RouteAttributes(communities=frozenset({1}))
PEER = Peer(address=ip_address("192.0.2.9"))
WEB, DNS, DNS6 = (ip_network(one) for one in ("192.0.2.1/32", "192.0.2.2/32", "2001:db8::2/128"))


def state(routes: dict[Prefix, str], **policies: dict[Family, Policy]) -> SpeakerState:
    return SpeakerState(
        local_asn=64512,
        router_id=IPv4Address("192.0.2.1"),
        peers=dict.fromkeys(policies, PEER),
        routes=routes,
        policies=policies,
    )


def test_each_peer_is_told_what_its_policy_says_about_the_keys_it_names() -> None:
    told = Exports().update(
        state(
            {WEB: "web", DNS: "dns", DNS6: "dns"},
            one={Family.IPV4: {"web": PLAIN, "dns": MARKED}},
            other={Family.IPV4: {"web": MARKED}, Family.IPV6: {"dns": PLAIN}},
            third={},
        )
    )
    assert told["one"][Family.IPV4].routes == {nlri.encode(WEB): PLAIN, nlri.encode(DNS): MARKED}
    assert told["one"][Family.IPV6].routes == {}
    assert told["other"][Family.IPV4].routes == {nlri.encode(WEB): MARKED}
    assert told["other"][Family.IPV6].routes == {nlri.encode(DNS6): PLAIN}
    assert not told["third"][Family.IPV4].routes


def test_peers_of_equal_policies_share_one_set_and_it_stays_the_same_while_nothing_changes() -> None:
    exports = Exports()
    policies: dict[Family, Policy] = {Family.IPV4: {"web": PLAIN}, Family.IPV6: {"dns": PLAIN}}
    before = exports.update(state({WEB: "web", DNS6: "dns"}, one=policies, other=dict(policies)))
    assert before["one"][Family.IPV4] is before["other"][Family.IPV4]
    after = exports.update(state({WEB: "web", DNS: "web", DNS6: "dns"}, one=policies))
    assert after["one"][Family.IPV6] is before["one"][Family.IPV6]
    assert after["one"][Family.IPV4] is not before["one"][Family.IPV4]
    assert set(after["one"][Family.IPV4].routes) == {nlri.encode(WEB), nlri.encode(DNS)}


_LASTING = tuple(ip_network(0x0A000000 + host) for host in range(20))
"""Prefixes that are the same objects in state after state, as those of a routing table are."""
_ROUTES = st.dictionaries(
    st.one_of(
        st.sampled_from(_LASTING),
        st.integers(0, 20).map(lambda host: ip_network(0x0A000000 + host)),
        st.integers(0, 20).map(lambda host: ip_network((0x20010DB8 << 96) + host)),
    ),
    st.sampled_from(["web", "dns", "other"]),
)


@given(st.lists(st.tuples(_ROUTES, st.sampled_from([PLAIN, MARKED])), max_size=6))
def test_whatever_came_before_the_newest_state_alone_counts(
    history: list[tuple[dict[Prefix, str], RouteAttributes]],
) -> None:
    exports = Exports()
    for routes, said in history:
        policies: dict[Family, Policy] = {family: {"web": said, "dns": PLAIN} for family in Family}
        newest = state(routes, tor=policies)
        told, afresh = exports.update(newest)["tor"], Exports().update(newest)["tor"]
        assert {family: one.routes for family, one in told.items()} == {
            family: one.routes for family, one in afresh.items()
        }
