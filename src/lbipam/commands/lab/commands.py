"""`lab`: the story, and going on by hand.

This file wires arguments to the lab's parts and turns failures into one line and an exit code.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from lbipam.commands import answers
from lbipam.commands.lab import machine, story, topology
from lbipam.commands.lab.namespaces import LabError

RealApiOption = Annotated[
    bool, typer.Option("--real-api", help="With etcd and kube-apiserver, in place of the embedded API.")
]

app = typer.Typer(invoke_without_command=True, epilog="Example: sudo lbipam lab")


@contextmanager
def _failing_in_one_line() -> Iterator[None]:
    try:
        yield
    except LabError as problem:
        typer.echo(f"lbipam: {problem}", err=True)
        raise typer.Exit(2 if isinstance(problem, machine.NotPossibleError) else 1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.callback()
def lab(context: typer.Context, real_api: RealApiOption = False) -> None:
    """The whole chain on this machine, as root, told as it happens.

    In network namespaces: address, BGP route, pod, failover.
    """
    if context.invoked_subcommand is not None:
        return
    console = answers.console()
    with _failing_in_one_line(), machine.alone():
        machine.remove()
        try:
            with machine.new_lab(real_api=real_api) as built:
                story.build(built, console)
                story.tell(built, machine.FOLDER, console)
        finally:
            machine.remove()
        console.print("\nEverything is taken down. To go on by hand: lbipam lab up")


@app.command(epilog="Example: sudo lbipam lab up")
def up(real_api: RealApiOption = False) -> None:
    """Build the lab and leave it running, in place of one that is up."""
    console = answers.console()
    with _failing_in_one_line(), machine.alone():
        machine.remove()
        try:
            with machine.new_lab(real_api=real_api) as built:
                story.build(built, console)
                built.let_be()
        except BaseException:
            machine.remove()
            raise
    console.print("\n  lbipam lab exec cp kubectl get ippools,svc,endpointslices")
    console.print(f"  lbipam lab exec client curl -s {story.URL}")
    console.print("  lbipam lab exec cp lbipam get peers")
    console.print("  lbipam lab status")
    console.print("  lbipam lab down")


@app.command(epilog="Example: sudo lbipam lab status")
def status() -> None:
    """What runs on each host. Exit code 1 if no lab is up."""
    with _failing_in_one_line():
        for host, commands in machine.running().items():
            typer.echo(f"{host}:")
            for command in commands:
                typer.echo(f"  {command}")


@app.command(
    "exec",
    epilog="Example: sudo lbipam lab exec cp kubectl get svc",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
def execute(
    host: Annotated[str, typer.Argument(help=f"One of {', '.join(topology.HOSTS)}.")],
    command: Annotated[list[str], typer.Argument(help="What to run there, with its arguments.")],
) -> None:
    """Run a command on a host, with kubectl and lbipam at hand.

    Its exit code is passed on.
    """
    with _failing_in_one_line():
        machine.running()
        if host not in topology.HOSTS:
            raise typer.BadParameter(f"'{host}' is none of {', '.join(topology.HOSTS)}")
        raise typer.Exit(machine.execute(host, command))


@app.command(epilog="Example: sudo lbipam lab down")
def down() -> None:
    """Remove the lab, and all that a former one has left behind."""
    with _failing_in_one_line(), machine.alone():
        for name in machine.remove():
            typer.echo(f"removed {name}")
