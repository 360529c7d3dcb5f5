"""How does a node give its routes up, so that nobody's packets are lost?

    annotation ──▶ LEAVING: routes carry GRACEFUL_SHUTDOWN ──leave_seconds──▶ GONE: no routes
                                                                                  │
    annotation removed: SERVING again, from either ◀──────────────────────────────┘

Peers that know RFC 8326 move the traffic elsewhere while the routes still work. This file does not withdraw
anything.
"""

from dataclasses import replace
from enum import Enum
from typing import assert_never

from lbipam.core.bgp.codes import GRACEFUL_SHUTDOWN
from lbipam.core.bgp.routes import RouteAttributes


class Phase(Enum):
    """How far a node has come in giving its routes up."""

    SERVING = "serving"
    LEAVING = "leaving"
    GONE = "gone"


def phase(since_seconds: float | None, leave_seconds: float) -> Phase:
    """The phase that long after the drain began; None: there is no drain."""
    if since_seconds is None:
        return Phase.SERVING
    return Phase.LEAVING if since_seconds < leave_seconds else Phase.GONE


def carried(attributes: RouteAttributes, now: Phase) -> RouteAttributes | None:
    """What a route carries in a phase; None: it is withdrawn.

    Internal peers are told by the lowest preference too (RFC 8326 §4.1 has receivers set it).
    """
    match now:
        case Phase.SERVING:
            return attributes
        case Phase.LEAVING:
            communities = attributes.communities | {GRACEFUL_SHUTDOWN}
            return replace(attributes, communities=communities, local_preference=0)
        case Phase.GONE:
            return None
        case _:
            assert_never(now)
