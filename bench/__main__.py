"""`python -m bench`: what lbipam's controller costs and reaches, as a table and as JSON."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import cluster, core
from tests import real_api


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller, in two or three minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    options = parser.parse_args()
    console = Console(width=120)

    with console.status("P1: the decision core"):
        rows = core.measure(quick=options.quick)
    table = Table(
        "P1, µs of CPU", *(f"{size:,}" for size in core.SIZES[: len(rows[0].microseconds)]), "limit"
    )
    for row in rows:
        table.add_row(row.operation, *(f"{value:.1f}" for value in row.microseconds), f"{row.limit:.0f}")
    console.print(table)

    figures: list[cluster.Figure] = []
    if real_api.assets() is None:
        console.print(f"P2, P4 left out: {real_api.WHY_NOT}")
    else:
        with console.status("P2, P4: a controller on a real API server"):
            figures = cluster.measure(quick=options.quick)
        table = Table("Controller on a real API server", "", "", "")
        for figure in figures:
            table.add_row(figure.name, f"{figure.value:,.1f}", figure.unit, figure.beside)
        console.print(table)
    if options.json is not None:
        told = {"core": [asdict(row) for row in rows], "cluster": [asdict(one) for one in figures]}
        options.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
