"""The tests about the tree itself: what the documents say of it is so."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = [one for one in sorted((ROOT / "src" / "lbipam").rglob("*.py")) if one.name != "__init__.py"]

BANNED = {"utils", "helpers", "common", "misc", "base", "manager", "handler", "processor", "data", "info"}


def test_every_module_begins_with_its_question() -> None:
    first: dict[str, Path] = {}
    for module in MODULES:
        docstring = ast.get_docstring(ast.parse(module.read_text()))
        assert docstring, f"{module} has no docstring"
        sentence = docstring.split("\n\n")[0]
        assert sentence not in first, f"{module} and {first.get(sentence)} answer the same question"
        first[sentence] = module


def test_no_module_is_named_for_nothing() -> None:
    assert not [module for module in MODULES if module.stem in BANNED]


def test_packages_have_no_code_of_their_own() -> None:
    for package in (ROOT / "src" / "lbipam").rglob("__init__.py"):
        if package.parent != ROOT / "src" / "lbipam":
            assert package.read_text() == "", package


def test_the_only_double_is_the_one_that_keeps_promises() -> None:
    for test in (ROOT / "tests").rglob("*.py"):
        if test.name == "test_shape.py":
            continue
        assert "unittest.mock" not in test.read_text(), test


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda one: one.name)
def test_every_path_that_a_document_names_exists(document: Path) -> None:
    text = document.read_text()
    links = re.findall(r"\]\(([^)#]+)", text)
    named = re.findall(
        r"`((?:core|kube|controllers|adapters|localapi|commands|tests|docs|src)/[\w./-]+\.\w+)`", text
    )
    for link in links:
        if "://" not in link:
            assert (document.parent / link).exists(), f"{document.name} links to {link}"
    for path in named:
        places = (ROOT / path, ROOT / "src" / "lbipam" / path)
        assert any(place.exists() for place in places), f"{document.name} names {path}"


def test_every_row_of_the_compatibility_tables_names_a_test_that_exists() -> None:
    text = (ROOT / "docs" / "compatibility.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 30
    for path, name in named:
        functions = {
            node.name
            for node in ast.walk(ast.parse((ROOT / path).read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in functions, f"{path} has no {name}"


def test_each_deliberate_difference_has_a_row() -> None:
    text = (ROOT / "docs" / "compatibility.md").read_text()
    assert re.findall(r"^\| (D\d+) \|", text, re.MULTILINE) == [f"D{number}" for number in range(1, 14)]


def test_every_dependency_is_given_a_reason() -> None:
    text = (ROOT / "docs" / "decisions" / "0002-dependencies.md").read_text().lower()
    project = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert listed is not None
    for name in re.findall(r'"([a-z0-9-]+)', listed.group(1)):
        assert f"| {name} |" in text, f"{name} has no reason"
