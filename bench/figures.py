"""What was measured, what it must reach, and what it was the last time that somebody saved it."""

import json
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing measured."""

    name: str
    """Begins with the letter and number under which documents speak of it."""
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    beside: str = ""
    """The limit measured in the same run, or what the value means."""

    @property
    def reached(self) -> bool | None:
        """Whether it is where it must be; None if it need not be anywhere."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return self.value >= self.at_least if self.at_least is not None else None

    @property
    def mark(self) -> str:
        """What it must reach."""
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return f"≥ {self.at_least:g}" if self.at_least is not None else ""


Tell: TypeAlias = Callable[[Sequence[Figure]], None]
"""Takes figures as soon as they are there: a run may take half an hour."""


def show(figures: Iterable[Figure], baseline: dict[str, float], console: Console) -> None:
    """Print a table, each figure beside its mark and its saved value."""
    table = Table("Measured", "Value", "", "Mark", "Saved", "Ratio", "Beside")
    for one in figures:
        saved = baseline.get(one.name)
        style = {True: "green", False: "red", None: ""}[one.reached]
        table.add_row(
            one.name,
            Text(_number(one.value), style=style),
            one.unit,
            one.mark,
            _number(saved) if saved is not None else "",
            f"{one.value / saved:.2f}" if saved else "",
            one.beside,
        )
    console.print(table)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def load(path: Path) -> dict[str, float]:
    """The values in a file that `save` wrote, by name; none if there is no file."""
    if not path.exists():
        return {}
    return {one["name"]: one["value"] for one in json.loads(path.read_text())["figures"]}


def save(figures: Sequence[Figure], path: Path) -> None:
    """Write figures, and on what machine they were taken, as JSON."""
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    told = {"on": machine, "figures": [asdict(one) for one in figures]}
    path.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
