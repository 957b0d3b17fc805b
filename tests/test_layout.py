"""The layout: the package has one importable name, and what several test modules share lies in tests/helpers/."""

import ast
from collections.abc import Iterator

from tests.helpers.places import ROOT


def imported(tree: ast.AST) -> Iterator[str]:
    """The dotted name of everything that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_module_imports_from_a_test_module() -> None:
    files = sorted((ROOT / "tests").rglob("*.py"))
    names = {(path, name) for path in files for name in imported(ast.parse(path.read_text(encoding="utf-8")))}
    wrong = sorted(f"{path.relative_to(ROOT)}: {name}" for path, name in names
                   if any(word.startswith("test_") for word in name.split(".")))  # fmt: skip
    assert wrong == []


def test_the_program_is_imported_by_one_name() -> None:
    """A module that is imported by two names exists twice, with two sets of classes."""
    folders = ("autolora", "benchmarks", "tests")
    files = [ROOT / "run.py", *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    files += [path for folder in ("configs", "engine", "problems") for path in (ROOT / folder).rglob("*.py")]
    names = {(path, name) for path in files for name in imported(ast.parse(path.read_text(encoding="utf-8")))}
    wrong = sorted(f"{path.relative_to(ROOT)}: {name}" for path, name in names
                   if name.split(".")[0] in ("configs", "engine", "problems"))  # fmt: skip
    assert wrong == []
