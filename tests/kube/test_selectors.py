"""Selectors as objects and as text compile to the same, and only what Kubernetes compiles does."""

from typing import Any

import msgspec
import pytest

from lbipam.core.ipam.labels import Operator, Requirement
from lbipam.kube.forms import LabelSelector
from lbipam.kube.selectors import compile_selector, parse_selector, service_labels


def written(**spec: Any) -> LabelSelector:
    return msgspec.convert(spec, LabelSelector)


def test_labels_and_expressions_all_count() -> None:
    selector = compile_selector(
        written(
            matchLabels={"b": "2", "a": "1"},
            matchExpressions=[
                {"key": "c", "operator": "In", "values": ["x", "y"]},
                {"key": "d", "operator": "NotIn", "values": ["z"]},
                {"key": "e", "operator": "Exists"},
                {"key": "f", "operator": "DoesNotExist", "values": []},
            ],
        )
    )
    assert str(selector) == "a=1,b=2,c in (x,y),d notin (z),e,!f"


@pytest.mark.parametrize("spec", [{}, {"matchLabels": {}, "matchExpressions": []}, {"matchLabels": None}])
def test_an_empty_selector_matches_everything(spec: dict[str, Any]) -> None:
    assert compile_selector(written(**spec)).matches({})


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ({"key": "a", "operator": "Gt", "values": ["1"]}, "'Gt' is not an operator of a label selector"),
        ({"key": "a", "operator": "in", "values": ["1"]}, "'in' is not an operator of a label selector"),
        ({"key": "a", "operator": "In"}, "'a' In needs values"),
        ({"key": "a", "operator": "NotIn", "values": []}, "'a' NotIn needs values"),
        ({"key": "a", "operator": "Exists", "values": ["1"]}, "'a' Exists takes no values"),
        ({"operator": "Exists"}, "a requirement has no key"),
    ],
)
def test_an_expression_that_does_not_compile_says_why(expression: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        compile_selector(written(matchExpressions=[expression]))


@pytest.mark.parametrize(
    ("text", "requirements"),
    [
        ("", ()),
        ("  ", ()),
        ("a=b", (Requirement("a", Operator.IN, ("b",)),)),
        (" a == b ", (Requirement("a", Operator.IN, ("b",)),)),
        ("a=", (Requirement("a", Operator.IN, ("",)),)),
        ("a!=b", (Requirement("a", Operator.NOT_IN, ("b",)),)),
        ("a in (b)", (Requirement("a", Operator.IN, ("b",)),)),
        ("a in (b, c,)", (Requirement("a", Operator.IN, ("b", "c", "")),)),
        ("a notin ()", (Requirement("a", Operator.NOT_IN, ("",)),)),
        ("a", (Requirement("a", Operator.EXISTS),)),
        ("in", (Requirement("in", Operator.EXISTS),)),
        ("! a", (Requirement("a", Operator.DOES_NOT_EXIST),)),
        ("a>1", (Requirement("a", Operator.GREATER, ("1",)),)),
        ("a < 10", (Requirement("a", Operator.LESS, ("10",)),)),
        (
            "node.kubernetes.io/edge,zone in (a,b),!x",
            (
                Requirement("node.kubernetes.io/edge", Operator.EXISTS),
                Requirement("zone", Operator.IN, ("a", "b")),
                Requirement("x", Operator.DOES_NOT_EXIST),
            ),
        ),
    ],
)
def test_text_compiles_as_it_does_for_kubectl(text: str, requirements: tuple[Requirement, ...]) -> None:
    assert parse_selector(text).requirements == requirements


@pytest.mark.parametrize(
    "text",
    [
        "a,",
        ",a",
        "a,,b",
        "a b",
        "a=b c",
        "a in b",
        "a in (b",
        "a in (b c)",
        "a=b=c",
        "!a=b",
        "-a",
        "a=-b",
        "a=" + "b" * 64,
        "A/b",
        "a/b/c",
        "a>b",
        "a>",
        "ä=b",
        "a=b\x00",
    ],
)
def test_text_that_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_selector(text)


def test_nobody_can_forge_the_labels_that_name_a_service() -> None:
    forged = {"io.kubernetes.service.name": "other", "io.kubernetes.service.namespace": "other", "a": "b"}
    assert service_labels(forged, "default", "web") == {
        "a": "b",
        "io.kubernetes.service.name": "web",
        "io.kubernetes.service.namespace": "default",
    }
