"""Sessions as they stand, in the status of a node's configuration."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from lbipam.core.bgp.codes import Cease, ErrorCode, Family
from lbipam.core.bgp.errors import Notification
from lbipam.core.bgp.fsm import State
from lbipam.core.bgp.peers import Ending, Peer, PeerStatus, Refusal
from lbipam.kube import bgp_forms
from lbipam.kube.bgp_status import Down, Observed, sessions_down, status_patch
from tests.builders_bgp import World, instance, peer
from tests.real_api import RealApi
from tests.real_apply import apply, define, patch, request

NOW = 1_800_000_000.0
TOR = ("main", "tor")
PEER = Peer(address=ip_address("10.0.0.1"), asn=64500)
ESTABLISHED = PeerStatus(
    state=State.ESTABLISHED,
    asn=64500,
    hold_seconds=9,
    keepalive_seconds=3.0,
    families=frozenset(Family),
    received={Family.IPV4: 2},
    advertised={Family.IPV4: 7},
    established_at=NOW + 0.2,
)
UP = Observed(peer=PEER, status=ESTABLISHED)
DOWN = Observed(peer=PEER, status=PeerStatus(state=State.OPEN_SENT))


def config(status: dict[str, Any] | None = None) -> bgp_forms.NodeConfig:
    body = {"bgpInstances": [instance("main", peer("tor"), peer("spare"))]}
    change = World().put(
        bgp_forms.V2.node_config, "n1", spec=body, status=status or {}, metadata={"generation": 3}
    )
    found = change.after
    assert isinstance(found, bgp_forms.NodeConfig)
    return found


def applied(
    written: bgp_forms.NodeConfig,
    sessions: Mapping[tuple[str, str], Observed],
    problems: Iterable[tuple[str, str]],
) -> dict[str, Any]:
    guard, replacement = status_patch(written, sessions, problems, NOW)
    assert guard == {"op": "test", "path": "/metadata/resourceVersion", "value": "1"}
    status: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(replacement["value"]))
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
        {"name": "tor", "peerAddress": "10.0.0.1", "peerASN": 64500, "peeringState": "open_sent"}
    ]


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (State.IDLE, "idle"),
        (State.CONNECT, "connect"),
        (State.ACTIVE, "active"),
        (State.OPEN_SENT, "open_sent"),
        (State.OPEN_CONFIRM, "open_confirm"),
        (State.ESTABLISHED, "established"),
    ],
)
def test_states_have_ciliums_words(state: State, word: str) -> None:
    seen = replace(UP, status=replace(ESTABLISHED, state=state))
    (told,) = applied(config(), {TOR: seen}, ())["bgpInstances"]
    assert told["peers"][0]["peeringState"] == word


def test_a_session_that_is_up_anew_tells_since_when() -> None:
    status = applied(config(), {TOR: UP}, ())
    anew = replace(UP, status=replace(ESTABLISHED, established_at=NOW + 1.5))
    assert applied(config(status), {TOR: anew}, ())["bgpInstances"][0]["peers"][0]["establishedTime"] == (
        "2027-01-15T08:00:01Z"
    )


def test_what_the_peer_says_it_is_stands_where_nothing_was_expected() -> None:
    anybody = replace(UP, peer=replace(PEER, asn=0))
    (told,) = applied(config(), {TOR: anybody}, ())["bgpInstances"]
    assert told["peers"][0]["peerASN"] == 64500


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
    _, condition, _ = applied(config(), seen, ())["conditions"]
    assert (condition["type"], condition["status"]) == ("lbipam.dev/BFDDown", "True")
    assert condition["message"] == "main/spare is down"


def test_sessions_that_are_down_are_told_with_since_when_and_why() -> None:
    refused = Ending(why="", notification=Notification(code=ErrorCode.CEASE, subcode=Cease.BFD_DOWN))
    down = replace(DOWN, status=replace(DOWN.status, last_ending=refused))
    status = applied(config(), {TOR: down, ("main", "spare"): DOWN}, ())
    _, condition = status["conditions"]
    assert (condition["type"], condition["status"]) == ("lbipam.dev/SessionsDown", "True")
    assert condition["message"] == (
        "main/spare: down since 2027-01-15T08:00:00Z\n"
        "main/tor: down since 2027-01-15T08:00:00Z: received Cease/Bfd Down (6/10)\n"
    )
    assert sessions_down(config(status)) == {
        TOR: Down(since="2027-01-15T08:00:00Z", why="received Cease/Bfd Down (6/10)"),
        ("main", "spare"): Down(since="2027-01-15T08:00:00Z", why=""),
    }


def test_a_session_that_stays_down_keeps_its_time_while_the_reason_changes() -> None:
    status = applied(config(), {TOR: DOWN}, ())
    later = replace(DOWN, status=replace(DOWN.status, last_ending=Ending(why="no\n answer")))
    _, replacement = status_patch(config(status), {TOR: later}, (), NOW + 60)
    told = replacement["value"]["conditions"][-1]["message"]
    assert told == "main/tor: down since 2027-01-15T08:00:00Z: no answer\n"


def test_an_attempt_that_fails_does_not_hide_the_last_notification() -> None:
    refused = Ending(why="", notification=Notification(code=ErrorCode.CEASE, subcode=Cease.BFD_DOWN))
    lost = Ending(why="the peer closed the connection")
    down = replace(DOWN, status=replace(DOWN.status, last_ending=lost, last_notification=refused))
    told = applied(config(), {TOR: down}, ())["conditions"][-1]["message"]
    assert told.endswith(": the peer closed the connection; before that received Cease/Bfd Down (6/10)\n")


def test_sessions_that_are_all_up_are_told_so() -> None:
    status = applied(config(), {TOR: UP}, ())
    assert status["conditions"][-1]["status"] == "False"
    assert sessions_down(config(status)) == {}


def test_families_that_cannot_be_announced_are_problems() -> None:
    mute = replace(UP, status=replace(ESTABLISHED, unspeakable={Family.IPV6: "no IPv6 address to lead to"}))
    condition, _ = applied(config(), {TOR: mute}, ())["conditions"]
    assert condition["message"] == (
        "main: peer tor: routes of ipv6 are not announced: no IPv6 address to lead to\n"
    )


def test_single_routes_that_cannot_be_announced_are_problems() -> None:
    refusal = Refusal(count=3, why="no room")
    mute = replace(UP, status=replace(ESTABLISHED, refused={Family.IPV4: refusal}))
    condition, _ = applied(config(), {TOR: mute}, ())["conditions"]
    assert condition["message"] == "main: peer tor: 3 routes of ipv4 are not announced: no room\n"


def test_what_is_already_told_is_not_told_again() -> None:
    status = applied(config(), {TOR: UP}, ())
    assert status_patch(config(status), {TOR: UP}, (), NOW + 5) == ()
    assert status_patch(config(status), {TOR: DOWN}, (), NOW + 5)


def test_a_definition_without_conditions_is_not_told_them_again() -> None:
    status = applied(config(), {TOR: UP}, (("main", "a"),))
    del status["conditions"]
    assert status_patch(config(status), {TOR: UP}, (("main", "a"),), NOW + 5) == ()
    assert status_patch(config(status), {TOR: DOWN}, (("main", "a"),), NOW + 5)


def test_conditions_of_others_stay() -> None:
    foreign = {
        "type": "example.dev/Seen",
        "status": "True",
        "reason": "said",
        "message": "hello",
        "lastTransitionTime": "2027-01-15T08:00:00Z",
    }
    told = applied(config({"conditions": [foreign]}), {}, ())["conditions"]
    assert {one["type"] for one in told} == {"example.dev/Seen", "cilium.io/BGPReconcileError"}
    assert foreign.items() <= told[0].items()


def test_a_real_server_takes_the_status_and_its_changes(real_api: RealApi) -> None:
    define(real_api)
    path = "/apis/cilium.io/v2/ciliumbgpnodeconfigs/for-status"
    written = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumBGPNodeConfig",
        "metadata": {"name": "for-status"},
        "spec": {"bgpInstances": [instance("main", peer("tor"), peer("spare"))]},
    }
    stored = apply(real_api, path, written, manager="tests")
    for sessions in ({TOR: UP}, {TOR: DOWN, ("main", "spare"): replace(UP, bfd="down")}):
        known = msgspec.convert(stored, bgp_forms.NodeConfig)
        stored = patch(real_api, f"{path}/status", status_patch(known, sessions, (), NOW))
        (told,) = stored["status"]["bgpInstances"]
        assert {one["name"] for one in told["peers"]} == {name for _, name in sessions}
        assert status_patch(msgspec.convert(stored, bgp_forms.NodeConfig), sessions, (), NOW) == ()
    request(real_api, "DELETE", path)
