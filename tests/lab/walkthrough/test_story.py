"""`lbipam lab`, as a user runs it."""

import re
import subprocess

import pytest

from lbipam.commands.lab import namespaces, topology
from tests.worlds import LBIPAM

pytestmark = pytest.mark.lab


@pytest.fixture(autouse=True)
def _machine() -> None:
    reason = namespaces.why_not(topology.PROGRAMS)
    if reason is not None:
        pytest.skip(reason)


def _lab(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LBIPAM, "lab", *flags], capture_output=True, text=True, timeout=150, check=False)


def _places() -> list[str]:
    return [
        line for line in namespaces.run("ip", "netns", "list").split() if line.startswith(namespaces.PREFIX)
    ]


def test_the_lab_shows_the_whole_chain_and_leaves_nothing_behind() -> None:
    done = _lab()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "it has 30.0.10.0 of red-pool" in done.stdout
    for worker in topology.WORKERS:
        assert f"via {worker}" in done.stdout
    for who in ("a pod", "a node", "the client outside"):
        assert re.search(rf"from {who}: pod-1 \d+ times, pod-2 \d+ times", done.stdout)
    assert re.search(r"longest wait was \d+\.\d\d s", done.stdout)
    assert "Everything is taken down." in done.stdout
    assert _places() == []


def test_what_a_crash_has_left_behind_is_removed() -> None:
    namespaces.run("ip", "netns", "add", f"{namespaces.PREFIX}leftover")
    done = _lab("--down")
    assert (done.returncode, done.stdout) == (0, f"removed {namespaces.PREFIX}leftover\n")
    assert _places() == []
