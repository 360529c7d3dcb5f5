"""How does a command answer: in which form, and with which exit code?

Exit codes: 0 good, 1 the answer is "no" or the work could not be done, 2 wrong use. Expected failures become
one line. This file does no work of its own.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import msgspec
import typer
import yaml
from rich.console import Console
from rich.table import Table

from lbipam.adapters.kube_client import ApiError, UnreachableError
from lbipam.adapters.kube_config import ConfigError
from lbipam.commands.cluster import ManifestError
from lbipam.commands.settings import Output

_T = TypeVar("_T")


class FailedError(Exception):
    """The work could not be done; the message is one line for the user."""


def carry_out(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run a command to its end; expected failures become one line and an exit code."""
    try:
        return asyncio.run(work())
    except (ConfigError, ManifestError) as problem:
        end(str(problem), 2)
    except ApiError as problem:
        end(f"the API server says: {problem}", 1)
    except (FailedError, UnreachableError, OSError) as problem:
        end(str(problem), 1)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def end(message: str, code: int) -> NoReturn:
    """End with one line on standard error."""
    typer.echo(f"lbipam: {message}", err=True)
    raise typer.Exit(code)


def console() -> Console:
    """Tables for people; where the output is no terminal, wide enough to fold nothing."""
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=200)


def table(*columns: str) -> Table:
    """A table without lines, for people and for `grep`."""
    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold")
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
