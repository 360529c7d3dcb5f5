"""How is the path to a BGP peer watched by BFD, and what is an administrator told of it?

Configuration says which peers are watched; this file watches nobody.
"""

from lbipam.controllers.bgp_sessions import PeerId
from lbipam.controllers.host import Host
from lbipam.controllers.ports import EmitEvent, Severity
from lbipam.core.bfd.packets import State
from lbipam.core.bfd.session import Change
from lbipam.core.bgp.peers import Peer
from lbipam.kube import bgp_forms
from lbipam.kube.kinds import Key, Kind


def is_many_hops(peer: Peer, local_asn: int, host: Host) -> bool:
    """Whether packets go by RFC 5883, as FRR decides it: internal peers may be anywhere without being told so.

    A peer of unknown ASN counts as internal, as it does for its session.
    """
    if peer.secure_hops is None and peer.asn in (0, local_asn):
        return not host.is_next_to(peer.address)
    return (peer.secure_hops or peer.hops) > 1


def is_failure(change: Change) -> bool:
    """Whether a path is dead; BFD that is switched off on purpose says nothing of it (RFC 5882 §3.2)."""
    return change.state is not State.UP and not change.is_on_purpose


def told(peer: PeerId, change: Change, kind: Kind, config: bgp_forms.NodeConfig) -> EmitEvent:
    """What is said of a path where its node's configuration is read."""
    if change.state is State.UP:
        what = "is alive"
    elif change.is_on_purpose:
        what = "is watched no longer: the peer has switched BFD off"
    else:
        what = f"is dead: {change.diagnostic.name.lower().replace('_', ' ')}"
    return EmitEvent(
        kind=kind,
        key=Key("", config.metadata.name),
        uid=config.metadata.uid,
        severity=Severity.WARNING if is_failure(change) else Severity.NORMAL,
        reason="BFDUp" if change.state is State.UP else "BFDDown",
        message=f"{peer.instance}: the path to {peer.name} {what}",
    )
