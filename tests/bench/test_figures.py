"""Are figures told beside their marks, and compared with those that were saved?"""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench import figures
from bench.figures import Figure


@pytest.mark.parametrize(
    ("figure", "reached"),
    [
        (Figure(name="a", value=1.0, at_most=1), True),
        (Figure(name="a", value=1.1, at_most=1), False),
        (Figure(name="a", value=90.0, at_least=90), True),
        (Figure(name="a", value=89.0, at_least=90), False),
        (Figure(name="a", value=0.0, at_most=0), True),
        (Figure(name="a", value=5.0), None),
    ],
)
def test_a_figure_knows_whether_it_is_where_it_must_be(figure: Figure, reached: bool | None) -> None:
    assert figure.reached is reached


def test_what_is_saved_is_what_later_figures_are_compared_with(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    figures.save([Figure(name="P1 allocate", value=10.0, unit="µs")], file)
    console = Console(file=StringIO(), width=150)
    now = [Figure(name="P1 allocate", value=15.0, unit="µs", at_most=25), Figure(name="P9 new", value=3.0)]
    figures.show(now, figures.load(file), console)
    assert isinstance(console.file, StringIO)
    rows = console.file.getvalue().splitlines()
    (known,) = (row for row in rows if "P1 allocate" in row)
    (new,) = (row for row in rows if "P9 new" in row)
    assert "≤ 25" in known
    assert "1.50" in known
    assert "1.00" not in new


def test_without_a_saved_file_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    assert figures.load(tmp_path / "none.json") == {}
