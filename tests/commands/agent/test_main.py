"""The process in which an agent lives."""

import subprocess
import sys
from pathlib import Path

from tests.worlds import LBIPAM

FOR_COMMANDS = {"pydantic", "rich", "typer"}
"""What commands need and an agent does not, though a library may take it along."""


def test_an_agent_holds_nothing_in_memory_that_only_commands_need() -> None:
    program = (
        "import sys, lbipam.commands.agent.__main__ as _; print(*(k for k, v in sys.modules.items() if v))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "lbipam.commands.agent.run" in done.stdout.split()
    assert {name.partition(".")[0] for name in done.stdout.split()} & FOR_COMMANDS == set()


def test_an_agent_without_a_cluster_says_so_in_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    words = [str(LBIPAM), "agent", "--node-name", "n1", "--kubeconfig", str(missing)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (2, f"lbipam: kubeconfig {missing} does not exist\n")
