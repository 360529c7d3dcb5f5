"""What does a JSONPath of a printer column find in an object?

It reads the part of Kubernetes' JSONPath that CRDs may use in `additionalPrinterColumns` and
`selectableFields`: names, indices, `[*]`, and filters that compare one field with one value. It does no
arithmetic and no recursive descent.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

_STEP = re.compile(
    r"""\.?(?:
        (?P<name>(?:[A-Za-z0-9_\-/]|\\.)+)
      | \[\s*(?P<index>-?\d+)\s*\]
      | (?P<all>\[\s*\*\s*\]|\*)
      | \[\s*(?P<quote>['"])(?P<quoted>.*?)(?P=quote)\s*\]
      | \[\?\(\s*@\.?(?P<field>[^=!<>\s)]+)\s*(?P<operator>==|!=)\s*(?P<value>"[^"]*"|'[^']*'|[^)\s]+)\s*\)\]
    )""",
    re.VERBOSE,
)

_Step = Callable[[Any], Iterable[Any]]


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A path, ready to be followed."""

    steps: tuple[_Step, ...]

    def find(self, value: Any) -> list[Any]:
        """Every value at the end of the path; empty when there is none."""
        found = [value]
        for step in self.steps:
            found = [inner for each in found for inner in step(each)]
        return found


def parse(text: str) -> JsonPath:
    """Read a path such as `.status.conditions[?(@.type=="Ready")].status`; raises `ValueError`."""
    body = text.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    steps: list[_Step] = []
    at = 0
    while at < len(body):
        match = _STEP.match(body, at)
        if match is None or match.end() == at:
            raise ValueError(f"is not a JSONPath that can be followed: {text}")
        steps.append(_step(match))
        at = match.end()
    return JsonPath(tuple(steps))


def _step(match: re.Match[str]) -> _Step:
    if match["name"] is not None:
        return _member(re.sub(r"\\(.)", r"\1", match["name"]))
    if match["quoted"] is not None:
        return _member(match["quoted"].replace("\\.", "."))
    if match["index"] is not None:
        return _index(int(match["index"]))
    if match["all"] is not None:
        return _every
    return _filter(parse("." + match["field"]), match["operator"] == "==", match["value"])


def _member(name: str) -> _Step:
    return lambda value: (value[name],) if isinstance(value, dict) and name in value else ()


def _index(index: int) -> _Step:
    return lambda value: (
        (value[index],) if isinstance(value, list) and -len(value) <= index < len(value) else ()
    )


def _every(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return tuple(value.values())
    return tuple(value) if isinstance(value, list) else ()


def _filter(path: JsonPath, equal: bool, text: str) -> _Step:  # noqa: FBT001 - one of two operators
    try:
        wanted = msgspec.json.decode(text if text[0] != "'" else f'"{text[1:-1]}"')
    except msgspec.DecodeError:
        wanted = text

    def chosen(value: Any) -> Iterator[Any]:
        for each in _every(value):
            found = path.find(each)
            if found and (found[0] == wanted) is equal:
                yield each

    return chosen
