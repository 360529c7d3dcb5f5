"""What of the documentation is made from the program itself?

Called from the cog blocks in ARCHITECTURE.md and docs/cli.md (`make docs`), and from `make picture`. This
file is not part of the package.
"""

import ast
import asyncio
import os
import sys
from pathlib import Path

import typer
import typer.main
from click import Command
from rich.console import Console

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "lbipam"

LAYERS = ("core", "kube", "controllers", "adapters", "localapi", "commands")


def first_sentence(path: Path) -> str:
    """The first paragraph of a module's docstring: the question that the file answers."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def module_map() -> str:
    """Every file of the package with the question that it answers."""
    lines: list[str] = []
    for layer in LAYERS:
        for folder in [PACKAGE / layer, *sorted(one for one in (PACKAGE / layer).rglob("*") if one.is_dir())]:
            files = sorted(one for one in folder.glob("*.py") if one.name != "__init__.py")
            if not files or folder.name == "__pycache__":
                continue
            name = folder.relative_to(PACKAGE).as_posix()
            lines += ["", f"#### `{name}/`", "", "| File | Its question |", "| --- | --- |"]
            lines += [f"| `{one.name}` | {first_sentence(one)} |" for one in files]
    return "\n".join([*lines, ""])


def command_reference() -> str:
    """The help of every command, as it is printed."""
    os.environ["TERMINAL_WIDTH"] = "100"
    os.environ["NO_COLOR"] = "1"
    os.environ["TERM"] = "dumb"
    from lbipam.commands.cli import app  # noqa: PLC0415 -- after the environment is set

    group = typer.main.get_command(app)
    commands = _commands_of(group)
    parts: list[str] = []
    for name in sorted(commands):
        context = group.make_context("lbipam", [], resilient_parsing=True)
        command = commands[name]
        lines = [f"## lbipam {name}", "", (command.help or "").strip(), "", f"    {command.epilog}", ""]
        if command.params:
            lines += ["| Option | Default | Meaning |", "| --- | --- | --- |"]
        for parameter in command.params:
            names = ", ".join(f"`{one}`" for one in (*parameter.opts, *parameter.secondary_opts))
            if parameter.name == "help":
                continue
            default = parameter.get_default(context)
            shown = "" if default in (None, False) or callable(default) else f"`{default}`"
            meaning = getattr(parameter, "help", "") or ""
            lines.append(f"| {names} | {shown} | {meaning} |")
        parts.append("\n".join(lines))
    return "\n" + "\n\n".join(parts) + "\n"


def _commands_of(group: Command) -> dict[str, Command]:
    """By name, and those of groups below them."""
    below: dict[str, Command] = getattr(group, "commands", {})
    inner = {f"{name} {one}": command for name in below for one, command in _commands_of(below[name]).items()}
    return {**below, **inner}


def demo_picture(path: Path) -> None:
    """The demo as a picture of a terminal."""
    from lbipam.adapters import telemetry  # noqa: PLC0415 -- only for this picture
    from lbipam.commands.sandbox import run_demo  # noqa: PLC0415

    telemetry.configure_logging("error")
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=128, highlight=False, file=nowhere)
        asyncio.run(run_demo(console))
    console.save_svg(str(path), title="lbipam demo", unique_id="demo")


if __name__ == "__main__":
    demo_picture(Path(sys.argv[1]))
