"""`lbipam lab`, as a user runs it."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lbipam.commands.lab import machine, namespaces, picture, topology
from tests import real_api
from tests.worlds import LBIPAM, eventually

pytestmark = pytest.mark.lab


@pytest.fixture(autouse=True)
def _machine() -> Iterator[None]:
    """A machine that can hold a lab, and holds none; nor does it afterwards."""
    reason = namespaces.why_not(topology.PROGRAMS)
    if reason is not None:
        pytest.skip(reason)
    if namespaces.existing(namespaces.PREFIX):
        pytest.skip("needs a machine without a lab: `lbipam lab down`")
    yield
    machine.remove()


def lab(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LBIPAM, "lab", *words], capture_output=True, text=True, timeout=150, check=False)


def assert_nothing_is_left() -> None:
    assert namespaces.existing(namespaces.PREFIX) == []
    assert not machine.FOLDER.exists()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        assert str(machine.FOLDER) not in words, words


@pytest.mark.parametrize("flags", [(), pytest.param(("--real-api",), marks=pytest.mark.real_api)])
def test_the_lab_shows_the_whole_chain_and_leaves_nothing_behind(flags: tuple[str, ...]) -> None:
    if flags and real_api.assets() is None:
        pytest.skip(real_api.WHY_NOT)
    done = lab(*flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^red-pool +ready +256 +1 ", done.stdout, re.MULTILINE)
    assert re.search(r"^default/app +30\.0\.10\.0 +red-pool +satisfied", done.stdout, re.MULTILINE)
    for worker in topology.WORKERS:
        assert re.search(rf"via {re.escape(worker)}, eth0", done.stdout)
    for who in ("a pod", "a node", "the client outside"):
        spread = rf"from {who}: pod-1 on worker-1 \d+ times, pod-2 on worker-2 \d+ times\n"
        assert re.search(spread, done.stdout)
    assert re.search(r"dropped the route by worker-2 after \d+\.\d\d s", done.stdout)
    assert re.search(r"worker-1, too, sent nobody to pod-2 any more after \d+\.\d\d s", done.stdout)
    assert re.search(r"the last one sent \d+\.\d\d s after the cut, none later\n", done.stdout)
    assert re.search(r"longest time in which the client heard nothing: \d+\.\d\d s", done.stdout)
    assert "both pods answer\n" in done.stdout
    assert "Everything is taken down." in done.stdout
    assert_nothing_is_left()


def test_the_picture_in_the_readme_is_of_this_lab() -> None:
    assert picture.svg() == (Path(__file__).parents[3] / "docs" / "topology.svg").read_text(), (
        "run 'make docs'"
    )


def test_endpoints_that_somebody_deletes_are_written_again_and_go_with_their_service() -> None:
    def slices() -> str:
        return lab("exec", "cp", "kubectl", "get", "endpointslices", "-o", "name").stdout

    begun = lab("up")
    assert begun.returncode == 0, begun.stdout + begun.stderr
    lab("exec", "cp", "kubectl", "delete", "endpointslice", "app-1")
    eventually(lambda: "app-1" in slices())
    lab("exec", "cp", "kubectl", "delete", "service", "app")
    eventually(lambda: "app-1" not in slices())


def test_going_on_by_hand() -> None:
    assert lab("status").returncode == 1
    begun = lab("up")
    assert begun.returncode == 0, begun.stdout + begun.stderr
    told = lab("status").stdout
    assert re.search(r"^worker-1:\n  .*lbipam.* agent --node-name worker-1 ", told, re.MULTILINE)
    service = lab("exec", "cp", "kubectl", "get", "service", "app", "-o", "wide")
    assert "30.0.10.0" in service.stdout, service.stderr
    answer = lab("exec", "client", "curl", "-s", "http://30.0.10.0:8080/")
    assert re.match(r"pod-\d on worker-\d sees ", answer.stdout), answer.stderr
    peers = lab("exec", "cp", "lbipam", "get", "peers")
    assert peers.stdout.count("established") == len(topology.WORKERS), peers.stderr
    assert lab("exec", "client", "sh", "-c", "exit 7").returncode == 7
    assert lab("exec", "nowhere", "true").returncode == 2
    ended = lab("down")
    assert ended.stdout.splitlines() == sorted(
        f"removed {namespaces.PREFIX}{host}" for host in topology.HOSTS
    )
    assert_nothing_is_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_story_broken_off_leaves_nothing_behind(number: signal.Signals) -> None:
    # Programs that a shell runs in the background ignore Ctrl-C, and so do those that they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen([LBIPAM, "lab"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as story:
        eventually((machine.FOLDER / "kubeconfig").exists)
        second = lab()
        assert (second.returncode, second.stderr) == (
            1,
            "lbipam: another lbipam lab is at work on this machine\n",
        )
        story.send_signal(number)
        told, _ = story.communicate(timeout=30)
        assert story.returncode == 130, told
    assert_nothing_is_left()


def test_what_a_crash_has_left_behind_is_removed() -> None:
    with subprocess.Popen([LBIPAM, "lab"], stdout=subprocess.DEVNULL) as story:
        eventually((machine.FOLDER / "kubeconfig").exists)
        story.kill()
    assert namespaces.existing(namespaces.PREFIX)
    assert lab("down").returncode == 0
    assert_nothing_is_left()


def test_without_root_it_says_so_in_one_line() -> None:
    # The capability is for reading: the program may lie in a folder of root's.
    may_read = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", *may_read, LBIPAM, "lab"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "lbipam: network namespaces need root\n"


def test_a_missing_program_is_named_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [LBIPAM, "lab"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert done.returncode == 2
    assert re.fullmatch(r"lbipam: these programs are missing: .*vtysh.*\n", done.stderr)


def test_a_lab_with_a_real_api_tells_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    done = lab("--real-api")
    assert done.returncode == 1
    assert "--real-api needs etcd and kube-apiserver" in done.stderr
    assert_nothing_is_left()
