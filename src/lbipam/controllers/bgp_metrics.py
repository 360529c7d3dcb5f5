"""How do the BGP sessions of a node stand, as numbers?

This file serves nothing; it only counts.
"""

from collections.abc import Iterator, Mapping

from lbipam.controllers.ports import Sample, SampleType
from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.peers import PeerStatus


def samples(instance: str, peers: Mapping[str, PeerStatus]) -> Iterator[Sample]:
    """The sessions of one instance, by the names of their peers."""
    for name, status in peers.items():
        labels = {"instance": instance, "peer": name}
        yield Sample(
            name="lbipam_bgp_session_up",
            help="1 while the session with a peer is established.",
            value=float(status.state is State.ESTABLISHED),
            labels=labels,
        )
        yield Sample(
            name="lbipam_bgp_session_losses",
            help="How often an established session with a peer was lost.",
            value=status.flaps,
            labels=labels,
            type=SampleType.COUNTER,
        )
        yield Sample(
            name="lbipam_bgp_routes_pending",
            help="Routes still to be announced to a peer, or withdrawn.",
            value=status.pending,
            labels=labels,
        )
        for family in sorted(status.families, key=lambda one: one.name):
            yield from _routes(instance, name, family, status)


def _routes(instance: str, peer: str, family: Family, status: PeerStatus) -> Iterator[Sample]:
    labels = {"instance": instance, "peer": peer, "family": family.name.lower()}
    refusal = status.refused.get(family)
    yield Sample(
        name="lbipam_bgp_routes_advertised",
        help="Routes that a peer has been told of.",
        value=status.advertised.get(family, 0),
        labels=labels,
    )
    yield Sample(
        name="lbipam_bgp_routes_received",
        help="Routes that a peer has told of; they are counted and dropped.",
        value=status.received.get(family, 0),
        labels=labels,
    )
    yield Sample(
        name="lbipam_bgp_routes_refused",
        help="Routes that cannot be announced to a peer: `lbipam get routes` tells why.",
        value=refusal.count if refusal is not None else 0,
        labels=labels,
    )
