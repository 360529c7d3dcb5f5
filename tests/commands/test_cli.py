"""What holds for every command."""

import os
import re
import subprocess
from pathlib import Path

import msgspec
import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from lbipam.commands import answers
from lbipam.commands.agent.settings import START, Start
from lbipam.commands.cli import app
from lbipam.kube.crds import catalog
from tests.real_api import RealApi
from tests.worlds import KUBECTL, LBIPAM

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LBIPAM, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_an_example(name: str) -> None:
    done = _run(name, "--help")
    assert done.returncode == 0
    assert re.search(rf"Example: (sudo )?lbipam {name}", done.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_flag_is_wrong_use(name: str) -> None:
    assert _run(name, "--no-such-flag").returncode == 2


def test_the_help_names_every_command_and_flag_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in ([], ["controller"], ["agent"], ["get"], ["lab"]):
        told = _run(*words, "--help").stdout
        assert not re.search(r"\w\.\.\.\n|…", told), told


def test_without_a_command_the_help_is_shown() -> None:
    done = _run()
    assert "sandbox" in done.stdout + done.stderr


def test_the_version_is_told() -> None:
    assert _run("--version").stdout.startswith("lbipam ")


def test_crds_prints_definitions_that_kubectl_takes() -> None:
    documents = list(yaml.safe_load_all(_run("crds").stdout))
    names = {document["metadata"]["name"] for document in documents}
    assert {"ciliumloadbalancerippools.cilium.io", "ipreservations.lbipam.dev"} <= names
    assert {document["kind"] for document in documents} == {"CustomResourceDefinition"}


def test_old_servers_take_the_definitions_without_cel_as_they_are(real_api: RealApi) -> None:
    """Kubernetes before 1.25 does not know the field, and kubectl then refuses it."""

    def apply(printed: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [KUBECTL, "--kubeconfig", real_api.kubeconfig, "apply", "--dry-run=server", "-f", "-"],
            input=printed,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    refused = apply(_run("crds").stdout)
    assert "x-kubernetes-validations" in refused.stderr
    taken = apply(_run("crds", "--without-cel").stdout)
    assert taken.returncode == 0, taken.stderr
    assert len(taken.stdout.splitlines()) == len(catalog.all_crds())


@pytest.mark.parametrize(
    "arguments",
    [
        ("controller", "--metrics-bind", "nonsense"),
        ("controller", "--log-level", "nonsense"),
        ("agent", "--node-name", "n1", "--log-level", "nonsense"),
        ("sandbox", "--port", "-1"),
        ("controller", "--disable-ipv4", "--disable-ipv6"),
        ("controller", "--lease-duration", "1", "--renew-deadline", "2"),
        ("explain", "service/default/app", "--state", "/dev/null"),
        ("plan", "--delete", "teapot/x", "--state", "/dev/null"),
        ("agent",),
        ("agent", "--node-name", "n1", "--cluster-cidr", "nonsense"),
    ],
)
def test_wrong_use_is_told_without_a_traceback(arguments: tuple[str, ...]) -> None:
    done = _run(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


_NOBODY = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {token: t}}]
current-context: c
"""


def test_a_server_that_cannot_be_reached_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(_NOBODY)
    done = _run("status", "--kubeconfig", str(tmp_path / "kubeconfig"))
    assert done.returncode == 1
    assert re.fullmatch(r"lbipam: the API server cannot be reached: .*127\.0\.0\.1.*\n", done.stderr)


@pytest.mark.parametrize("flags", [("--kubeconfig-out", "/none/kubeconfig"), ("--host", "none.invalid")])
def test_what_the_system_refuses_is_told_without_its_number(flags: tuple[str, ...]) -> None:
    done = _run("sandbox", *flags)
    assert done.returncode == 1
    assert re.fullmatch(r"lbipam: (/none/kubeconfig: )?[A-Z][a-z ]+\n", done.stderr)


def test_a_process_whose_part_fails_as_expected_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise ExceptionGroup("of a process", [ExceptionGroup("of a part", [OSError("the port is taken")])])

    with pytest.raises(typer.Exit) as ended:
        answers.in_one_line(work)
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err == "lbipam: the port is taken\n"


def test_a_bug_beside_a_failure_is_not_hidden() -> None:
    def work() -> None:
        raise ExceptionGroup("of a process", [OSError("the port is taken"), ZeroDivisionError()])

    with pytest.raises(ExceptionGroup):
        answers.in_one_line(work)


def test_who_reads_no_further_is_told_nothing() -> None:
    with subprocess.Popen(
        [LBIPAM, "sandbox"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == ""
    assert run.returncode == 1


def test_the_agent_is_told_every_block_of_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, str] = {}
    monkeypatch.setattr(os, "execve", lambda _, __, environment: told.update(environment))
    flags = ["--cluster-cidr", "10.1.0.0/16,fd00:1::/64", "--cluster-cidr=10.2.0.0/16"]
    CliRunner().invoke(app, ["agent", "--node-name", "n1", *flags], catch_exceptions=False)
    start = msgspec.json.decode(told[START], type=Start)
    assert start.settings.cluster_cidrs == ("10.1.0.0/16", "fd00:1::/64", "10.2.0.0/16")
