"""What is told of a process, and where it cannot be told."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import structlog
from lbipam.adapters.telemetry import configure_logging
configure_logging("info")
for _ in range(1000):
    structlog.get_logger().info("still here", why="x" * 100)
print("at the end")
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_for_logs_ends_no_process() -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=full, check=False, text=True
        )
    assert ended.stdout == "at the end\n"
