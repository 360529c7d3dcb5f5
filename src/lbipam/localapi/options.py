"""What do the options of a request say, and may they be so?

Those of lists and watches are in its query, those of writes too, those of deletions in its query or its body.
They are judged before anything is looked up or done. Selectors are read in `selectors`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lbipam.localapi import decoding, refusals
from lbipam.localapi.declarations import declared
from lbipam.localapi.refusals import Problem
from lbipam.localapi.resources import Object

Query = Mapping[str, str]

_POLICIES = ("Foreground", "Background", "Orphan")
_NOT_OLDER = "NotOlderThan"
_MATCHES = ("Exact", _NOT_OLDER, "")
_VALIDATIONS = ("Ignore", "Warn", "Strict")
_LONGEST_MANAGER = 128

_INTEGER = re.compile(r"[-+]?[0-9]+")
_NATURAL = re.compile(r"[0-9]+")


def flag(query: Query, name: str) -> bool:
    """A parameter that is true or false: as Go reads it, true is whatever is neither absent nor `0` nor `false`."""
    return name in query and query[name].lower() not in ("0", "false")


def number(query: Query, name: str) -> int:
    """A parameter that is a number, where one below 0 is as good as none (0); raises `ApiError` 400."""
    return max(_whole(query, name, _INTEGER), 0)


def version(query: Query) -> int:
    """The resourceVersion; 0 when there is none; raises `ApiError` 400."""
    return _whole(query, "resourceVersion", _NATURAL)


def _whole(query: Query, name: str, form: re.Pattern[str]) -> int:
    text = query.get(name) or "0"
    if not form.fullmatch(text):
        raise refusals.bad_request(f"{name}: Invalid value: {refusals.shown(text)}: invalid syntax")
    return int(text)


def refuse_list(query: Query) -> None:
    """Raise `ApiError` 422 when the options of a list or a watch contradict each other."""
    problems = _watch_problems(query) if flag(query, "watch") else _list_problems(query)
    _refuse("ListOptions", problems)


def _list_problems(query: Query) -> Iterator[Problem]:
    match = query.get("resourceVersionMatch", "")
    if match:
        yield from _match_problems(query, _MATCHES)
        if not query.get("resourceVersion"):
            yield _no_match("is forbidden unless resourceVersion is provided")
        if (match, query.get("resourceVersion")) == ("Exact", "0"):
            yield _no_match('"exact" is forbidden for resourceVersion "0"')
    if "sendInitialEvents" in query:
        yield refusals.forbidden_field("sendInitialEvents", "sendInitialEvents is forbidden for list")


def _watch_problems(query: Query) -> Iterator[Problem]:
    initial, match = "sendInitialEvents" in query, query.get("resourceVersionMatch", "")
    if initial and match != _NOT_OLDER:
        why = f"sendInitialEvents requires setting resourceVersionMatch to {_NOT_OLDER}"
        yield refusals.forbidden_field("resourceVersionMatch", why)
    if match:
        yield from _match_problems(query, (_NOT_OLDER,))
        if not initial:
            yield _no_match("is forbidden for watch unless sendInitialEvents is provided")


def _match_problems(query: Query, supported: Sequence[str]) -> Iterator[Problem]:
    match = query["resourceVersionMatch"]
    if match not in supported:
        yield refusals.unsupported("resourceVersionMatch", match, supported)
    if query.get("continue"):
        yield _no_match("is forbidden when continue is provided")


def _no_match(why: str) -> Problem:
    return refusals.forbidden_field("resourceVersionMatch", f"resourceVersionMatch {why}")


def refuse_write(query: Query, *, kind: str, apply: bool = False) -> None:
    """Raise `ApiError` 422 when the options of a write, which are of the given kind, may not be so."""
    _refuse(kind, _write_problems(query, kind, apply=apply))


def _write_problems(query: Query, kind: str, *, apply: bool) -> Iterator[Problem]:
    if kind == "PatchOptions" and not apply and "force" in query:
        yield refusals.forbidden_field("force", "may not be specified for non-apply patch")
    manager = query.get("fieldManager", "")
    if apply and not manager:
        yield refusals.required("fieldManager", "is required for apply patch")
    if len(manager.encode()) > _LONGEST_MANAGER:
        yield refusals.too_long("fieldManager", _LONGEST_MANAGER)
    for at, character in enumerate(manager):
        if not character.isprintable():
            why = f"invalid character U+{ord(character):04X} (at position {at})"
            yield refusals.invalid_value("fieldManager", manager, why)
    if query.get("dryRun"):
        yield from _dry_run_problems([query["dryRun"]])
    validation = query.get("fieldValidation", "")
    if validation not in ("", *_VALIDATIONS):
        yield refusals.unsupported("fieldValidation", validation, _VALIDATIONS)


def _dry_run_problems(asked: Sequence[str]) -> Iterator[Problem]:
    if any(each != "All" for each in asked):
        yield refusals.unsupported("dryRun", list(asked), ["All"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """How a client wants something to be deleted."""

    preconditions: Mapping[str, str]
    dry_run: bool


def deletion(query: Query, body: Object) -> Deletion:
    """What a request says of its deletion; raises `ApiError` 400 or 422."""
    if (body.get("kind") or "DeleteOptions") != "DeleteOptions":
        raise refusals.bad_request(f'no kind "{body["kind"]}" is registered for options of a deletion')
    number(query, "gracePeriodSeconds")
    in_query: Object = {"dryRun": [query["dryRun"]]} if query.get("dryRun") else {}
    in_query |= {"propagationPolicy": query["propagationPolicy"]} if query.get("propagationPolicy") else {}
    try:
        said = decoding.read({**in_query, **body}, declared("meta.v1.DeleteOptions"), "", "DeleteOptions", [])
    except decoding.WrongTypeError as wrong:
        raise refusals.bad_request(str(wrong)) from wrong
    _refuse("DeleteOptions", _deletion_problems(said))
    return Deletion(preconditions=said.get("preconditions", {}), dry_run="dryRun" in said)


def _deletion_problems(said: Object) -> Iterator[Problem]:
    policy = said.get("propagationPolicy")
    if policy and "orphanDependents" in said:
        why = "orphanDependents and deletionPropagation cannot be both set"
        yield refusals.invalid_value("propagationPolicy", policy, why)
    if policy and policy not in _POLICIES:
        yield refusals.unsupported("propagationPolicy", policy, (*_POLICIES, "nil"))
    yield from _dry_run_problems(said.get("dryRun", ()))


def _refuse(kind: str, problems: Iterator[Problem]) -> None:
    found = list(problems)
    if found:
        raise refusals.invalid(refusals.Subject(group="meta.k8s.io", resource="", kind=kind), found)
