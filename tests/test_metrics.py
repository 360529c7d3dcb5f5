"""docs/metrics.md tells every metric there is, as it is."""

import subprocess
import sys
import urllib.request
from pathlib import Path

from tests.metrics_document import DOCUMENT, MEND, shown, told
from tests.worlds import World, eventually, pool, service

COG = Path(sys.executable).parent / "cog"


def test_the_document_is_as_the_source_makes_it() -> None:
    done = subprocess.run(
        [COG, "--check", "--diff", DOCUMENT.relative_to(DOCUMENT.parent.parent)],
        cwd=DOCUMENT.parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{MEND}\n{done.stdout}{done.stderr}"


def test_a_controller_shows_what_the_document_tells(embedded_cluster: World) -> None:
    with embedded_cluster.clean() as world:
        process = world.controller("--metrics-bind", "127.0.0.1:0", "--enable-node-ipam")
        port = process.says(r"port[\"=: ]+(\d+)").group(1)
        world.apply(pool("p", "10.0.0.0/32") + service("has") + service("waits"))
        eventually(lambda: world.addresses("has") + world.addresses("waits"))

        def all_that_is_shown() -> set[tuple[str, str, frozenset[str]]]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                return shown(answer.read().decode())

        eventually(lambda: any(name == "lbipam_services_waiting" for name, _, _ in all_that_is_shown()))
        assert all_that_is_shown() - told("controller") == set(), MEND
