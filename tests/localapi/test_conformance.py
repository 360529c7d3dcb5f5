"""One script of kubectl commands, against the embedded API and against a real API server."""

import asyncio
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lbipam.localapi.server import LocalApi
from tests.real_api import RealApi

SCRIPT = Path(__file__).with_name("conformance.yaml")

REASONS = {
    "one user": "the embedded API has one user who may do everything; RBAC lists the rules it was given",
    "explain": "the real server's v1.20 has no OpenAPI v3, from which newer servers explain",
    "field selectors": "kubectl prints the request, whose wording changed after v1.20",
    "wording": "the message of the same refusal was worded otherwise in v1.20",
    "diff": "diff prints temporary file names, and fields that v1.20 does not have",
    "strict validation": "v1.20 does not know fieldValidation; kubectl then validates by itself, in other words",
    "describe service": "describe prints fields that v1.20 does not have",
    "deduced types": "v1.20 applies custom objects without their schema, so lists have one owner",
    "go types": "the refusal names Go types of the decoder, which changed after v1.20",
    "unknown fields in apply": "v1.20 names the field alone, later servers its whole path",
    "namespace controller": "no controller empties the Namespace of the real server; its error may name either state",
}
"""Why what is printed cannot be the same at a step."""

MASKS = (
    (r"\d{4}-\d\d-\d\d(T| )\d\d:\d\d:\d\d(\.\d+)?Z?( \+0000 UTC)?", "<time>"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
    (r'([Rr]esource ?[Vv]ersion:\s+)"?\d+"?', r"\1<version>"),
    (r"\b10\.96\.\d+\.\d+\b", "<cluster address>"),
    (r"\bfd00:96::[0-9a-f:]+\b", "<cluster address>"),
    (r"\b3[0-2]\d{3}\b", "<node port>"),
    (r"(?<=\s)(\d+[smhdy])+(?=\s|$)", "<age>"),
    (r"\bmany-[a-z0-9]{5}\b", "many-<suffix>"),
    (r"[ \t]+", " "),
)
"""What is another at every run, and what stands for it."""

ONLY_NEWER = (
    (
        r"^ *(internalTrafficPolicy|f:internalTrafficPolicy|allocateLoadBalancerNodePorts|f:allocateLoadBalancerNodePorts)\b",
        "1.22",
    ),
    (r"^ *(selfLink|f:selfLink):", "v1.20 has it on request only"),
)
"""Lines that one of the servers cannot print, and since when."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    number: int
    run: str
    input: str
    exit: int
    differs: str

    def arguments(self) -> list[str]:
        """The words of the command line; a JSON patch or a path is one word."""
        words, _, patch = self.run.partition(" -p ")
        if not patch:
            return _words(words)
        patch, _, more = patch.partition(" --dry-run")
        return [*_words(words), "-p", patch, *([f"--dry-run{more}"] if more else [])]


def _words(text: str) -> list[str]:
    head, flag, selector = text.partition(" -l ")
    if flag and "(" in selector:
        return [*shlex.split(head), "-l", selector]
    return [word for word in text.split(" ") if word]


def script(namespace: str) -> Iterator[Step]:
    steps: list[dict[str, Any]] = yaml.safe_load(SCRIPT.read_text().replace("$NAMESPACE", namespace))
    for number, step in enumerate(steps):
        yield Step(
            number=number,
            run=step["run"],
            input=step.get("input", ""),
            exit=step.get("exit", 0),
            differs=step.get("differs", ""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    exit: int
    printed: str

    @property
    def shape(self) -> list[str]:
        """What was printed, without what is another at every run."""
        text = self.printed
        for pattern, mask in MASKS:
            text = re.sub(pattern, mask, text)
        lines = [line.rstrip() for line in text.splitlines()]
        return [line for line in lines if line and not any(re.search(each, line) for each, _ in ONLY_NEWER)]


OLDEST_MINOR = 27
"""kubectl before that explains in other words, shows managed fields, and lacks some commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubectl:
    """One release of kubectl, and the namespace that the script uses with it."""

    program: str
    namespace: str

    def why_not(self) -> str | None:
        """Why the tests cannot be run with it; None if they can."""
        needed = f"needs kubectl 1.{OLDEST_MINOR} or newer at {self.program}"
        if shutil.which(self.program) is None:
            return needed
        asked = (self.program, "version", "--client", "--output=json")
        told = json.loads(subprocess.run(asked, capture_output=True, check=True, timeout=30).stdout)
        minor = told["clientVersion"]["minor"].rstrip("+")
        return None if int(minor) >= OLDEST_MINOR else needed


KUBECTLS = {
    "from PyPI": Kubectl(
        program=str(Path(sys.executable).with_name("kubectl")), namespace="conformance-pypi"
    ),
    "of the system": Kubectl(program="/usr/bin/kubectl", namespace="conformance-system"),
}


async def outcome_of(step: Step, kubectl: Kubectl, kubeconfig: Path, cache: Path) -> Outcome:
    process = await asyncio.create_subprocess_exec(
        kubectl.program,
        f"--kubeconfig={kubeconfig}",
        f"--cache-dir={cache}",
        "--request-timeout=30s",
        *(() if " -n " in step.run else (f"--namespace={kubectl.namespace}",)),
        *step.arguments(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate(step.input.encode())
    assert process.returncode is not None
    return Outcome(exit=process.returncode, printed=printed.decode())


@pytest.fixture(params=list(KUBECTLS))
def kubectl(request: pytest.FixtureRequest) -> Kubectl:
    found = KUBECTLS[request.param]
    reason = found.why_not()
    if reason is not None:
        pytest.skip(reason)
    return found


@pytest.mark.slow
async def test_every_step_of_the_script_ends_as_it_says(kubectl: Kubectl, tmp_path: Path) -> None:
    wrong = []
    async with LocalApi() as api:
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(api.kubeconfig())
        for step in script(kubectl.namespace):
            outcome = await outcome_of(step, kubectl, kubeconfig, tmp_path / "cache")
            if outcome.exit != step.exit:
                wrong.append(f"{step.number}: kubectl {step.run}: exit {outcome.exit}\n{outcome.printed}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.real_api
async def test_the_embedded_api_answers_as_the_real_one(
    kubectl: Kubectl, tmp_path: Path, real_api: RealApi
) -> None:
    wrong = []
    async with LocalApi() as api:
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(api.kubeconfig())
        for step in script(kubectl.namespace):
            ours = await outcome_of(step, kubectl, kubeconfig, tmp_path / "ours")
            theirs = await outcome_of(step, kubectl, real_api.kubeconfig, tmp_path / "theirs")
            same = ours.exit == theirs.exit and (bool(step.differs) or ours.shape == theirs.shape)
            if not same:
                told = [f"{step.number}: kubectl {step.run}", f"  ours {ours.exit}:", *ours.shape]
                wrong.append("\n    ".join([*told, f"  theirs {theirs.exit}:", *theirs.shape]))
    assert not wrong, "\n".join(wrong)


def test_every_tolerated_difference_has_a_reason() -> None:
    named = {step.differs for step in script("any") if step.differs}
    assert named == set(REASONS)
