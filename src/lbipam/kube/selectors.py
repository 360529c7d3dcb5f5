"""A label selector as written in an object or as text, into one that can be asked.

Cilium compiles selectors when it meets them and fails whoever asked; here a selector that does not compile
is a reported problem. This file does not match anything.
"""

import re
from collections.abc import Iterator

from lbipam.core.ipam.labels import Operator, Requirement, Selector
from lbipam.kube.forms import LabelSelector

NAME_LABEL = "io.kubernetes.service.name"
NAMESPACE_LABEL = "io.kubernetes.service.namespace"

_OPERATORS = {
    one.value: one for one in (Operator.IN, Operator.NOT_IN, Operator.EXISTS, Operator.DOES_NOT_EXIST)
}


def compile_selector(selector: LabelSelector) -> Selector:
    """Compile `matchLabels` and `matchExpressions`; an empty selector matches everything.

    Raises:
        ValueError: an operator is unknown, or takes other values than are given.
    """
    requirements = [
        Requirement(key, Operator.IN, (value,))
        for key, value in sorted((selector.match_labels or {}).items())
    ]
    for expression in selector.match_expressions or ():
        operator = _OPERATORS.get(expression.operator)
        if operator is None:
            raise ValueError(f"'{expression.operator}' is not an operator of a label selector")
        requirements.append(Requirement(expression.key, operator, expression.values or ()))
    return Selector(tuple(requirements))


_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_KEY = rf"(?:[a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_NAME}"
_VALUE = rf"(?:{_NAME})?"
_REQUIREMENT = re.compile(
    rf"""\s*(?:
        !\s*(?P<absent>{_KEY})
      | (?P<listed>{_KEY})\s+(?P<word>in|notin)\s*\((?P<values>[^()]*)\)
      | (?P<compared>{_KEY})\s*(?P<sign>==|!=|=|>|<)\s*(?P<value>{_VALUE})
      | (?P<present>{_KEY})
    )\s*""",
    re.VERBOSE,
)
_SIGNS = {
    "=": Operator.IN,
    "==": Operator.IN,
    "!=": Operator.NOT_IN,
    ">": Operator.GREATER,
    "<": Operator.LESS,
    "in": Operator.IN,
    "notin": Operator.NOT_IN,
}


def parse_selector(text: str) -> Selector:
    """Compile a selector as `kubectl -l` takes it: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>5`.

    Raises:
        ValueError: it is none.
    """
    return Selector(tuple(_requirements(text))) if text.strip() else Selector()


def _requirements(text: str) -> Iterator[Requirement]:
    at = 0
    while True:
        found = _REQUIREMENT.match(text, at)
        if found is None or text[found.end() : found.end() + 1] not in ("", ","):
            raise ValueError(f"'{text}' is not a label selector: '{text[at:]}' is no requirement")
        yield _requirement(found)
        at = found.end() + 1
        if found.end() == len(text):
            return


def _requirement(found: re.Match[str]) -> Requirement:
    match found.lastgroup:
        case "absent":
            return Requirement(found["absent"], Operator.DOES_NOT_EXIST)
        case "present":
            return Requirement(found["present"], Operator.EXISTS)
        case "value":
            return Requirement(found["compared"], _SIGNS[found["sign"]], (found["value"],))
        case _:
            values = tuple(value.strip() for value in found["values"].split(","))
            for value in values:
                if re.fullmatch(_VALUE, value) is None:
                    raise ValueError(f"'{value}' is not the value of a label")
            return Requirement(found["listed"], _SIGNS[found["word"]], values)


def service_labels(labels: dict[str, str] | None, namespace: str, name: str) -> dict[str, str]:
    """A Service's labels with Cilium's synthetic ones laid over them, so that nobody can forge these."""
    return {**(labels or {}), NAME_LABEL: name, NAMESPACE_LABEL: namespace}
