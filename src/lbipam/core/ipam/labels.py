"""Label selectors: does this selector match these labels, and if not, which requirement fails?

A selector is compiled once; matching never fails. This file does not know where labels come from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Operator(Enum):
    """`metav1.LabelSelectorOperator`, and the two that only selectors written as text have."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GREATER = "Gt"
    LESS = "Lt"


_NUMERIC = (Operator.GREATER, Operator.LESS)


def _number(text: str) -> int | None:
    """A whole number of 64 bits; None if it is none."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 20):
        return None
    return int(text)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on the labels; a selector is the conjunction of its requirements."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises `ValueError` where Kubernetes' selector compiler does."""
        if not self.key:
            raise ValueError("a requirement has no key")
        takes_values = self.operator not in (Operator.EXISTS, Operator.DOES_NOT_EXIST)
        if takes_values and not self.values:
            raise ValueError(f"'{self.key}' {self.operator.value} needs values")
        if not takes_values and self.values:
            raise ValueError(f"'{self.key}' {self.operator.value} takes no values")
        if self.operator in _NUMERIC and (len(self.values) != 1 or _number(self.values[0]) is None):
            raise ValueError(f"'{self.key}' {self.operator.value} needs one whole number")

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet it; an absent key meets `NotIn`, as in Kubernetes."""
        value = labels.get(self.key)
        if self.operator is Operator.IN:
            return value in self.values
        if self.operator is Operator.NOT_IN:
            return value not in self.values
        if self.operator in _NUMERIC:
            return self._compares(value)
        return (value is not None) is (self.operator is Operator.EXISTS)

    def _compares(self, value: str | None) -> bool:
        bound, number = _number(self.values[0]), _number(value or "")
        if bound is None or number is None:
            return False
        return number > bound if self.operator is Operator.GREATER else number < bound

    def __str__(self) -> str:
        if self.operator in _NUMERIC:
            return f"{self.key}{'>' if self.operator is Operator.GREATER else '<'}{self.values[0]}"
        if self.operator is Operator.IN and len(self.values) == 1:
            return f"{self.key}={self.values[0]}"
        if self.values:
            word = "in" if self.operator is Operator.IN else "notin"
            return f"{self.key} {word} ({','.join(self.values)})"
        return self.key if self.operator is Operator.EXISTS else f"!{self.key}"


@dataclass(frozen=True, slots=True)
class Selector:
    """A compiled label selector; without requirements it matches everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.holds(labels) for requirement in self.requirements)

    def why_not(self, labels: Mapping[str, str]) -> str | None:
        """The first requirement that the labels do not meet and what they say instead; None if all are met."""
        for requirement in self.requirements:
            if not requirement.holds(labels):
                value = labels.get(requirement.key)
                found = f"it is {value!r}" if value is not None else "there is no such label"
                return f"it wants {requirement}, but {found}"
        return None

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements) or "everything"


EVERYTHING = Selector()
