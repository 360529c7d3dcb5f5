"""Sessions as they stand, in the status of a node's configuration."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from lbipam.core.ipam.addresses import Family
from lbipam.kube import bgp_forms
from lbipam.kube.bgp_status import Observed, RouteCounts, nothing_apply, status_apply
from tests.builders_bgp import World, instance, peer

NOW = 1_800_000_000.0
TOR = ("main", "tor")
UP = Observed(
    address="10.0.0.1",
    asn=64500,
    state="established",
    hold_seconds=9,
    keepalive_seconds=3,
    established_at=NOW,
    routes={Family.IPV6: RouteCounts(), Family.IPV4: RouteCounts(received=2, advertised=7)},
)
DOWN = Observed(address="10.0.0.1", asn=64500, state="active")


def config(status: dict[str, Any] | None = None) -> bgp_forms.NodeConfig:
    body = {"bgpInstances": [instance("main", peer("tor"), peer("spare"))]}
    change = World().put(
        bgp_forms.NODE_CONFIG, "n1", spec=body, status=status or {}, metadata={"generation": 3}
    )
    found = change.after
    assert isinstance(found, bgp_forms.NodeConfig)
    return found


def applied(
    written: bgp_forms.NodeConfig,
    observed: Mapping[tuple[str, str], Observed],
    problems: Iterable[tuple[str, str]],
) -> dict[str, Any]:
    body = status_apply(written, observed, problems, NOW)
    assert body is not None
    status: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(body["status"]))
    return status


def test_an_established_session_is_told_with_timers_and_counts() -> None:
    (told,) = applied(config(), {TOR: UP}, ())["bgpInstances"]
    assert told == {
        "name": "main",
        "localASN": 64512,
        "peers": [
            {
                "name": "tor",
                "peerAddress": "10.0.0.1",
                "peerASN": 64500,
                "peeringState": "established",
                "timers": {"appliedHoldTimeSeconds": 9, "appliedKeepaliveSeconds": 3},
                "establishedTime": "2027-01-15T08:00:00Z",
                "routeCount": [
                    {"afi": "ipv4", "safi": "unicast", "received": 2, "advertised": 7},
                    {"afi": "ipv6", "safi": "unicast", "received": 0, "advertised": 0},
                ],
            }
        ],
    }


def test_a_session_that_is_not_up_tells_its_state_only() -> None:
    (told,) = applied(config(), {TOR: DOWN}, ())["bgpInstances"]
    assert told["peers"] == [
        {"name": "tor", "peerAddress": "10.0.0.1", "peerASN": 64500, "peeringState": "active"}
    ]


def test_problems_are_one_line_each_and_without_any_the_condition_is_false() -> None:
    (condition,) = applied(config(), {}, (("main", "b"), ("main", "a")))["conditions"]
    assert condition == {
        "type": "cilium.io/BGPReconcileError",
        "status": "True",
        "reason": "BGPReconcileError",
        "message": "main: a\nmain: b\n",
        "lastTransitionTime": "2027-01-15T08:00:00Z",
        "observedGeneration": 3,
    }
    (condition,) = applied(config(), {}, ())["conditions"]
    assert (condition["status"], condition["message"]) == ("False", "")


def test_a_very_long_list_of_problems_fits_the_definition() -> None:
    (condition,) = applied(config(), {}, [("main", "x" * 1000)] * 100)["conditions"]
    assert len(condition["message"]) == 32768


def test_dead_paths_are_told_where_bfd_is_used() -> None:
    seen = {TOR: replace(UP, bfd="up"), ("main", "spare"): replace(DOWN, bfd="down")}
    _, condition = applied(config(), seen, ())["conditions"]
    assert (condition["type"], condition["status"]) == ("lbipam.dev/BFDDown", "True")
    assert condition["message"] == "spare is down"


def test_what_is_already_told_is_not_told_again() -> None:
    status = applied(config(), {TOR: UP}, ())
    assert status_apply(config(status), {TOR: UP}, (), NOW + 5) is None
    assert status_apply(config(status), {TOR: DOWN}, (), NOW + 5) is not None


def test_without_reports_the_status_is_taken_away_once() -> None:
    status = applied(config(), {TOR: UP}, ())
    body = nothing_apply(config(status))
    assert body is not None
    assert body["status"] == {}
    assert nothing_apply(config()) is None
