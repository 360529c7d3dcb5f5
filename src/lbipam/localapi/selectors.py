"""Which objects does a label selector or a field selector of a request choose?

Label selectors follow the grammar of Kubernetes' query parameter (`a=b,c!=d,e in (f,g),!h,i,j>0`), field
selectors the one of `fields.ParseSelector` (`metadata.name=x,status.phase!=y`). Nothing here knows which
fields a kind offers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lbipam.localapi import formats, refusals
from lbipam.localapi.refusals import shown

_TOKEN = re.compile(r"\s*(==|!=|=|!|<|>|,|\(|\)|[^\s=!<>,()]+)")
_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One term of a label selector; `values` is empty for the operators `exists` and `!`."""

    key: str
    operator: str
    values: frozenset[str]

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "exists":
                return value is not None
            case "!":
                return value is None
            case "in":
                return value is not None and value in self.values
            case "<" | ">" if value is not None and _NUMBER.fullmatch(value):
                (limit,) = map(int, self.values)
                return int(value) < limit if self.operator == "<" else int(value) > limit
            case "<" | ">":
                return False
            case _:
                return value is None or value not in self.values


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """The terms of a label selector, all of which must hold."""

    requirements: tuple[Requirement, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)


@dataclass(frozen=True, slots=True)
class FieldTerm:
    """One comparison of a field with a value."""

    field: str
    equal: bool
    value: str


@dataclass(frozen=True, slots=True)
class FieldSelector:
    """The comparisons of a field selector, all of which must hold."""

    terms: tuple[FieldTerm, ...]

    def matches(self, fields: Mapping[str, str]) -> bool:
        return all((fields.get(term.field, "") == term.value) == term.equal for term in self.terms)

    def only(self, field: str) -> str:
        """The value that `field` must have, or the empty text when the selector does not fix it."""
        return next((term.value for term in self.terms if term.field == field and term.equal), "")


def label_selector(text: str) -> LabelSelector:
    """Read the `labelSelector` parameter; raises `ApiError` 400 when it does not follow the grammar."""
    tokens = _tokens(text)
    requirements = []
    while tokens:
        requirements.append(_checked(_requirement(tokens, text)))
        if tokens and (tokens.pop() != "," or not tokens):
            raise _unreadable(text)
    return LabelSelector(tuple(requirements))


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    stripped = text.rstrip()
    while at < len(stripped):
        match = _TOKEN.match(stripped, at)
        assert match is not None, "the pattern has a branch for every character"
        tokens.append(match.group(1))
        at = match.end()
    tokens.reverse()
    return tokens


def _requirement(tokens: list[str], text: str) -> Requirement:
    key = tokens.pop()
    if key == "!":
        if not tokens:
            raise _unreadable(text)
        return Requirement(_name(tokens.pop(), text), "!", frozenset())
    key = _name(key, text)
    if not tokens or tokens[-1] == ",":
        return Requirement(key, "exists", frozenset())
    operator = tokens.pop()
    if operator in ("=", "==", "!="):
        value = "" if not tokens or tokens[-1] == "," else _name(tokens.pop(), text)
        return Requirement(key, "notin" if operator == "!=" else "in", frozenset((value,)))
    if operator in ("<", ">") and tokens:
        return Requirement(key, operator, frozenset((_name(tokens.pop(), text),)))
    if operator in ("in", "notin"):
        return Requirement(key, operator, _values(tokens, text))
    raise _unreadable(text)


def _values(tokens: list[str], text: str) -> frozenset[str]:
    if not tokens or tokens.pop() != "(":
        raise _unreadable(text)
    values = set()
    while tokens and tokens[-1] != ")":
        word = tokens.pop()
        if word != ",":
            values.add(_name(word, text))
    if not tokens:
        raise _unreadable(text)
    tokens.pop()
    return frozenset(values or {""})


def _name(token: str, text: str) -> str:
    if token in ("=", "==", "!=", "!", "<", ">", ",", "(", ")"):
        raise _unreadable(text)
    return token


def _checked(requirement: Requirement) -> Requirement:
    """The requirement, if there can be a label that it speaks of."""
    if why := formats.why_not_qualified_name(requirement.key):
        raise refusals.bad_request(
            f"unable to parse requirement: invalid label key {shown(requirement.key)}: {why}"
        )
    for value in requirement.values:
        if requirement.operator in ("<", ">") and not _NUMBER.fullmatch(value):
            raise refusals.bad_request(
                "unable to parse requirement: for 'Gt', 'Lt' operators, the value must be an integer"
            )
        if why := formats.why_not_label_value(value):
            told = f"{shown(value)}: at key: {shown(requirement.key)}: {why}"
            raise refusals.bad_request(f"unable to parse requirement: invalid label value: {told}")
    return requirement


def _unreadable(text: str) -> refusals.ApiError:
    return refusals.bad_request(f"unable to parse requirement: found {text!r}, which is no label selector")


def field_selector(text: str) -> FieldSelector:
    """Read the `fieldSelector` parameter; raises `ApiError` 400 when it does not follow the grammar."""
    terms = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part)
        if match is None:
            raise refusals.bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        field, operator, value = match.groups()
        terms.append(FieldTerm(field, operator != "!=", value))
    return FieldSelector(tuple(terms))
