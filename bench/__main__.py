"""`python -m bench`: what lbipam's controller costs and reaches, beside its marks and the saved figures."""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench import chart, controller, core, figures, local_api
from lbipam.adapters import telemetry
from tests import real_api

_BASELINE = Path(__file__).parent / "baseline.json"
_PARTS = ("core", "write", "hold", "api")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller, in two or three minutes")
    parser.add_argument(
        "--only",
        choices=_PARTS,
        action="append",
        help="core is P1, write P2 and P3, hold P4 to P7, api P8",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    parser.add_argument("--baseline", type=Path, metavar="FILE", default=_BASELINE, help="compare with these")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw P1 here, as SVG")
    options = parser.parse_args()
    telemetry.configure_logging("error")  # of the bench's own watches
    console = Console(width=150)
    wanted = options.only or _PARTS
    found: list[figures.Figure] = []
    saved = {} if options.quick else figures.load(options.baseline)

    def tell(more: Sequence[figures.Figure]) -> None:
        figures.show(more, saved, console)
        found.extend(more)
        if options.json is not None:
            options.json.parent.mkdir(exist_ok=True)
            figures.save(found, options.json)

    if "core" in wanted:
        with console.status("P1: the decision core"):
            measured, points = core.measure(quick=options.quick)
        tell(measured)
        if options.chart is not None:
            options.chart.write_text(chart.svg(points))
    if "write" in wanted:
        if real_api.assets() is None or shutil.which("wrk") is None:
            console.print(f"P2, P3 left out: {real_api.WHY_NOT}, and wrk")
        else:
            with console.status("P2, P3: a controller beside a real API server"):
                controller.write(tell, quick=options.quick)
    if "hold" in wanted:
        with console.status("P4 to P7: a controller beside the embedded API"):
            controller.hold(tell, quick=options.quick)
    if "api" in wanted:
        if shutil.which("wrk") is None:
            console.print("P8 left out: it needs wrk")
        else:
            with console.status("P8: the embedded API"):
                measured = local_api.measure(quick=options.quick)
            tell(measured)


if __name__ == "__main__":
    main()
