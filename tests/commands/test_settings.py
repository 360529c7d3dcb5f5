"""Flags, in all the spellings that people bring along."""

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from lbipam.commands.settings import GoFlags, WithoutEndpointsOption

app = typer.Typer()


@app.command(cls=GoFlags)
def show(
    announce: WithoutEndpointsOption = True,
    alone: Annotated[bool, typer.Option("--alone")] = False,
    name: str = "",
) -> None:
    """Print what was understood."""
    typer.echo(f"{announce} {alone} {name}")


@pytest.mark.parametrize(
    ("args", "understood"),
    [
        ([], "True False "),
        (["--no-announce-without-endpoints"], "False False "),
        (["--announce-without-endpoints=false"], "False False "),
        (["--no-announce-without-endpoints", "--announce-without-endpoints=true"], "True False "),
        (["--enable-no-service-endpoints-routable=False"], "False False "),
        (["--disable-no-service-endpoints-routable"], "False False "),
        (["--alone=false"], "True False "),
        (["--alone=true"], "True True "),
        (["--name=false"], "True False false"),
    ],
)
def test_switches_may_be_spelled_as_kubernetes_does(args: list[str], understood: str) -> None:
    done = CliRunner().invoke(app, args)
    assert (done.exit_code, done.output) == (0, f"{understood}\n")


@pytest.mark.parametrize("arg", ["--alone=perhaps", "--announce-without-endpoints=maybe", "--unknown=false"])
def test_what_cannot_be_understood_is_wrong_use(arg: str) -> None:
    assert CliRunner().invoke(app, [arg]).exit_code == 2
