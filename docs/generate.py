"""What of the documentation is made from the program itself?

Called from the cog blocks in ARCHITECTURE.md, docs/cli.md, docs/metrics.md and docs/performance.md, and for
docs/demo.svg (`make docs`). This file is not part of the package.
"""

import ast
import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer
import typer.main
from click import Command
from rich.console import Console

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "lbipam"
_BASELINE = ROOT / "bench" / "baseline.json"

LAYERS = ("core", "kube", "controllers", "adapters", "localapi", "commands")


def first_sentence(path: Path) -> str:
    """The first paragraph of a module's docstring: the question that the file answers."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def figures(*parts: str) -> str:
    """The saved figures whose names begin so, as a table; each beside what it must reach."""
    lines = ["| | | mark | beside |", "| --- | --- | --- | --- |"]
    for one in json.loads(_BASELINE.read_text(encoding="utf-8"))["figures"]:
        if not one["name"].startswith(parts):
            continue
        value = one["value"]
        number = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        at_most, at_least = one["at_most"], one["at_least"]
        mark = f"≤ {at_most:g}" if at_most is not None else f"≥ {at_least:g}" if at_least is not None else ""
        missed = (at_most is not None and value > at_most) or (at_least is not None and value < at_least)
        lines.append(
            f"| {one['name']} | {number} {one['unit']} | {mark}{', missed' if missed else ''} | {one['beside']} |"
        )
    return "\n".join(lines)


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


CILIUM = {
    "lbipam_bgp_session_up": "cilium_bgp_control_plane_session_state",
    "lbipam_bgp_routes_advertised": "cilium_bgp_control_plane_advertised_routes",
    "lbipam_bgp_routes_received": "cilium_bgp_control_plane_received_routes",
}
"""What Cilium calls what we count under names of our own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One family of metrics, as `/metrics` shows it."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


def metrics_table(process: str) -> str:
    """Every metric of `controller` or `agent`, as the calls that make them say in the source."""
    files = [*sorted((PACKAGE / "controllers").glob("*.py")), *sorted((PACKAGE / "commands").rglob("*.py"))]
    if process == "controller":
        files.append(PACKAGE / "adapters" / "telemetry.py")
    found = {each.name: each for path in files if process in _served_by(path) for each in _metrics_of(path)}
    lines = ["", "| Metric | Type | Labels | Meaning | In Cilium |", "| --- | --- | --- | --- | --- |"]
    for name in sorted(found):
        each = found[name]
        labels = ", ".join(f"`{label}`" for label in each.labels)
        theirs = name if name.startswith("cilium_") else CILIUM.get(name.removesuffix("_total"), "")
        shown = "the same name" if theirs == name else f"`{theirs}`" if theirs else ""
        lines.append(f"| `{name}` | {each.type} | {labels} | {each.help} | {shown} |")
    return "\n".join([*lines, ""])


def _served_by(path: Path) -> set[str]:
    """The processes that serve the metrics of a file: those whose own files name it."""
    agents = PACKAGE / "commands" / "agent"
    if path.is_relative_to(agents):
        return {"agent"}
    if path.is_relative_to(PACKAGE / "commands") or path.parent.name == "adapters":
        return {"controller"}
    users = {"controller": [PACKAGE / "commands" / "run.py"], "agent": sorted(agents.glob("*.py"))}
    return {
        process for process, paths in users.items() if any(path.stem in _imported(user) for user in paths)
    }


def _imported(path: Path) -> set[str]:
    """The names of all modules of ours, and of all that is imported from them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lbipam.controllers"):
            found |= {(node.module or "").rpartition(".")[2], *(one.name for one in node.names)}
    return found


def _metrics_of(path: Path) -> Iterator[Metric]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for function in functions:
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                if call.func.id == "Sample":
                    yield _sample(function, {one.arg or "": one.value for one in call.keywords})
                elif call.func.id in ("Counter", "Histogram") and len(call.args) == 3:
                    name, text, labels = (ast.literal_eval(one) for one in call.args)
                    yield _metric(name, call.func.id.lower(), labels, text)


def _sample(function: ast.FunctionDef, given: dict[str, ast.expr]) -> Metric:
    is_counter = "type" in given and ast.unparse(given["type"]) == "SampleType.COUNTER"
    labels = _keys(function, given["labels"]) if "labels" in given else []
    name, text = ast.literal_eval(given["name"]), ast.literal_eval(given["help"])
    return _metric(name, "counter" if is_counter else "gauge", labels, text)


def _metric(name: str, form: str, labels: list[str], text: str) -> Metric:
    shown = f"{name}_total" if form == "counter" else name
    return Metric(name=shown, type=form, labels=tuple(labels), help=text)


def _keys(function: ast.FunctionDef, labels: ast.expr) -> list[str]:
    """The keys of a dict that is written out, in place or where the function names it."""
    if isinstance(labels, ast.Dict):
        return [str(ast.literal_eval(key)) for key in labels.keys if key is not None]
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            pairs = [(node.targets[0], node.value)]
            if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(node.targets[0].elts, node.value.elts, strict=True))
            for target, value in pairs:
                if ast.unparse(target) == ast.unparse(labels) and isinstance(value, ast.Dict):
                    return _keys(function, value)
    raise ValueError(f"write the labels out in {function.name}, so that docs/metrics.md can tell them")


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
