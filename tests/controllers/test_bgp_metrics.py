"""The sessions of a node as numbers."""

from lbipam.controllers import bgp_metrics
from lbipam.core.bgp.codes import Family
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.peers import PeerStatus, Refusal


def numbers(status: PeerStatus) -> dict[str, float]:
    """By the name of a metric, and the family where it has one."""
    found = bgp_metrics.samples("main", {"tor": status})
    return {
        " ".join(filter(None, (one.name.removeprefix("lbipam_bgp_"), one.labels.get("family")))): one.value
        for one in found
    }


def test_an_established_session_tells_of_each_family_that_was_agreed_on() -> None:
    status = PeerStatus(
        state=State.ESTABLISHED,
        families=frozenset(Family),
        advertised={Family.IPV4: 7, Family.IPV6: 2},
        received={Family.IPV6: 3},
        refused={Family.IPV4: Refusal(count=1, why="too many communities")},
        pending=4,
        flaps=5,
    )
    assert numbers(status) == {
        "session_up": 1,
        "session_losses": 5,
        "routes_pending": 4,
        "routes_advertised ipv4": 7,
        "routes_advertised ipv6": 2,
        "routes_received ipv4": 0,
        "routes_received ipv6": 3,
        "routes_refused ipv4": 1,
        "routes_refused ipv6": 0,
    }


def test_a_session_that_is_down_has_no_families() -> None:
    down = PeerStatus(state=State.ACTIVE)
    assert numbers(down) == {"session_up": 0, "session_losses": 0, "routes_pending": 0}
