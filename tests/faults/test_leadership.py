"""Two controllers that both believe they lead, and the moments between one leader and the next."""

import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from tests.faults.gate import Gate
from tests.worlds import LBIPAM, PATIENCE, Process, World, eventually, pool, service

_LEASE = 3.0
_ELECTION = (
    *("--leader-elect", "--lease-duration", str(_LEASE)),
    *("--renew-deadline", "2", "--retry-period", "0.5"),
)

_LEADS = r"takeover[\"=: ]+([Tt]rue|[Ff]alse)"
_TAKEOVER = r"takeover[\"=: ]+[Tt]rue"


@pytest.fixture
def gate(world: World) -> Iterator[Gate]:
    """A gate before the world's API server."""
    with Gate(world.kubeconfig).open() as gate:
        yield gate


def _candidate(
    world: World, kubeconfig: Path | None = None, *, program: Sequence[str | Path] = (LBIPAM,)
) -> Process:
    log = world.folder / f"{world.namespace}-{len(world.processes)}.log"
    reached = str(kubeconfig or world.kubeconfig)
    arguments = ["controller", *_ELECTION, "--namespace", world.namespace, "--kubeconfig", reached]
    process = Process(arguments, log=log, program=program)
    world.processes.append(process)
    return process


def _gated_leader(world: World, gate: Gate, tmp_path: Path) -> Process:
    leader = _candidate(world, gate.write_kubeconfig(tmp_path / "gated"))
    leader.says("leading")
    return leader


def _decide_but_hold(world: World, gate: Gate) -> None:
    """The leader grants 10.0.0.0 to `red`, and its write lies in the gate."""
    world.apply(pool("p", "10.0.0.0/32", color="red"))
    # The leader knows the pool, so that what it writes next to a Service grants something.
    eventually(lambda: world.get("ippool", "p").get("status"))
    gate.hold_status_writes()
    world.apply(service("red", color="red"))
    eventually(lambda: any(b"/services/red/status" in line for line in gate.held))


def _offer_to_another(world: World) -> None:
    """Nothing about `red` changes, but its address is now for `blue` alone."""
    world.apply(pool("p", "10.0.0.0/32", color="blue") + service("blue", color="blue"))


def _let_the_late_write_arrive(world: World, gate: Gate) -> None:
    eventually(lambda: world.addresses("blue") == ["10.0.0.0"])
    gate.let_through()
    answer = eventually(lambda: gate.late_answers)[0]
    assert b" 409 " in answer
    assert world.addresses("red") == []
    assert world.addresses("blue") == ["10.0.0.0"]


def test_the_write_of_a_leader_stopped_between_decision_and_arrival_is_refused(
    world: World, gate: Gate, tmp_path: Path
) -> None:
    old = _gated_leader(world, gate, tmp_path)
    _decide_but_hold(world, gate)
    old.popen.send_signal(signal.SIGSTOP)
    try:
        new = _candidate(world)
        _offer_to_another(world)
        new.says(_TAKEOVER)
        _let_the_late_write_arrive(world, gate)
    finally:
        old.popen.send_signal(signal.SIGCONT)
    old.says("no longer leading")
    assert world.addresses("red") == []
    assert world.addresses("blue") == ["10.0.0.0"]


def test_a_leader_suspended_between_its_check_and_its_write_gives_nothing_twice(
    world: World, gate: Gate, tmp_path: Path
) -> None:
    program = (sys.executable, "-m", "tests.faults.stopping")
    old = _candidate(world, gate.write_kubeconfig(tmp_path / "gated"), program=program)
    old.says("leading")
    world.apply(pool("p", "10.0.0.0/32", color="red") + service("red", color="red"))
    eventually(lambda: _is_stopped(old))
    try:
        assert gate.passed == [], "it has sent nothing yet"
        new = _candidate(world)
        new.says(_TAKEOVER)
        _offer_to_another(world)
        eventually(lambda: world.addresses("blue") == ["10.0.0.0"])
    finally:
        old.popen.send_signal(signal.SIGCONT)
    old.says("no longer leading")
    eventually(lambda: gate.passed)
    assert world.addresses("red") == []
    assert world.addresses("blue") == ["10.0.0.0"]


def _is_stopped(process: Process) -> bool:
    stat = Path(f"/proc/{process.popen.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


def test_a_leader_that_cannot_reach_the_api_server_stops_before_another_leads(
    world: World, gate: Gate, tmp_path: Path
) -> None:
    old = _gated_leader(world, gate, tmp_path)
    _decide_but_hold(world, gate)
    new = _candidate(world)
    new.says("controller starts")
    gate.hold_everything()
    new.says(_TAKEOVER)
    assert "no longer leading" in old.output()
    _offer_to_another(world)
    _let_the_late_write_arrive(world, gate)


def test_a_leader_that_cannot_renew_has_sent_its_last_write_before_another_leads(
    world: World, gate: Gate, tmp_path: Path
) -> None:
    """Nothing hinders it but the fence: all but its renewals arrives."""
    _gated_leader(world, gate, tmp_path)
    new = _candidate(world)
    new.says("controller starts")
    world.apply(pool("p", "10.0.0.0/16"))
    gate.hold_renewals()
    held_since = time.time()
    names: list[str] = []
    while not re.search(_LEADS, new.output()):
        names += (f"s{len(names) + more}" for more in range(5))
        world.apply("".join(service(name) for name in names[-5:]))
        assert time.time() < held_since + PATIENCE
    took_over = datetime.fromisoformat(world.get("lease", "lbipam-controller")["spec"]["acquireTime"])
    written = [at for at, _ in gate.passed]
    assert written[-1] > held_since, "it went on writing as long as it might"
    assert written[-1] < took_over.timestamp()
    print(f"{world.name}: last write {took_over.timestamp() - written[-1]:.2f} s before another leads")
    eventually(lambda: all(world.addresses(name) for name in names))
    assert len({address for name in names for address in world.addresses(name)}) == len(names)


def test_a_leader_that_ends_with_a_write_unanswered_does_not_hand_its_lease_over(
    world: World, gate: Gate, tmp_path: Path
) -> None:
    old = _gated_leader(world, gate, tmp_path)
    _decide_but_hold(world, gate)
    holder = world.get("lease", "lbipam-controller")["spec"]["holderIdentity"]
    assert holder
    assert old.stop(signal.SIGTERM) == 0
    assert world.get("lease", "lbipam-controller")["spec"]["holderIdentity"] == holder
    new = _candidate(world)
    new.says(_TAKEOVER)
    _offer_to_another(world)
    _let_the_late_write_arrive(world, gate)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_follower_takes_over_from_a_leader_that_ends(world: World, end: signal.Signals) -> None:
    leader = _candidate(world)
    leader.says("leading")
    follower = _candidate(world)
    follower.says("controller starts")
    world.apply(pool("p", "10.0.0.0/24") + service("one"))
    eventually(lambda: world.addresses("one") == ["10.0.0.0"])
    began = time.monotonic()
    leader.popen.send_signal(end)
    told = follower.says(_LEADS)
    print(f"{world.name}: {end.name} to new leader: {time.monotonic() - began:.2f} s")
    assert (told.group(1).lower() == "true") is (end is signal.SIGKILL)
    world.apply(service("two"))
    eventually(lambda: world.addresses("two") == ["10.0.0.1"])
    assert world.addresses("one") == ["10.0.0.0"]
