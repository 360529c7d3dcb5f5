"""How does a command answer: in which form, and with which exit code?

Exit codes: 0 good, 1 the answer is "no" or the work could not be done, 2 wrong use. Expected failures become
one line. This file does no work of its own.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn, TypeVar

import msgspec
import typer
import yaml
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

from lbipam.adapters.kube_client import ApiError, UnreachableError
from lbipam.adapters.kube_config import ConfigError
from lbipam.commands.cluster import ManifestError
from lbipam.commands.settings import Output

_T = TypeVar("_T")

_WIDE = 10_000
"""Wide enough to fold nothing."""


class FailedError(Exception):
    """The work could not be done; the message is one line for the user."""


_EXPECTED = (ConfigError, ManifestError, FailedError, ApiError, UnreachableError, OSError)


def carry_out(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run a command to its end; expected failures become one line and an exit code."""
    return in_one_line(lambda: asyncio.run(work()))


def in_one_line(work: Callable[[], _T]) -> _T:
    """Do something of which expected failures, alone or in groups, end the program with one line and an exit code."""
    try:
        return work()
    except (ExceptionGroup, *_EXPECTED) as problem:
        failures = tuple(_leaves(problem))
        if not all(isinstance(one, _EXPECTED) for one in failures):
            raise
        _end_with(failures[0])
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _leaves(problem: Exception) -> Iterator[Exception]:
    if isinstance(problem, ExceptionGroup):
        for one in problem.exceptions:
            yield from _leaves(one)
    else:
        yield problem


def _end_with(failure: Exception) -> NoReturn:
    match failure:
        case BrokenPipeError():
            # Nobody reads on, as with `| head`: there is nothing to say to anybody.
            raise typer.Exit(1)
        case ConfigError() | ManifestError():
            end(str(failure), 2)
        case ApiError():
            end(f"the API server says: {failure}", 1)
        case UnreachableError():
            end(f"the API server cannot be reached: {failure}", 1)
        case OSError(strerror=str() as reason):
            end(f"{failure.filename}: {reason}" if failure.filename else reason, 1)
        case _:
            end(str(failure), 1)


def end(message: str, code: int) -> NoReturn:
    """End with one line on standard error."""
    typer.echo(f"lbipam: {message}", err=True)
    raise typer.Exit(code)


def console() -> Console:
    """Lines for people, folded by nobody but their terminal, so that they can be searched and copied."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)


class _Table(Table):
    """Names stay whole, too, where a terminal is too narrow for them: it folds the row, not each of its cells."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        needed = self.__rich_measure__(console, options.update(width=_WIDE)).minimum
        yield from super().__rich_console__(console, options.update(width=max(options.max_width, needed)))


def table(*columns: str) -> Table:
    """A table without lines, for people and for `grep`. What does not fit is folded in the last column alone."""
    made = _Table(box=None, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column != columns[-1])
    return made


def emit(report: Any, output: Output, as_table: Callable[[], None]) -> None:
    """Print a report as it was asked for."""
    match output:
        case Output.TABLE:
            as_table()
        case Output.JSON:
            typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        case Output.YAML:
            plain = msgspec.to_builtins(report)
            typer.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).rstrip())
