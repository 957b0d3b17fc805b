"""The layout: the package has one importable name, and few files hold Algorithm 1."""

import ast
import re
from collections.abc import Iterator

from tests.helpers.paths import ROOT


def imported(tree: ast.AST) -> Iterator[str]:
    """The dotted name of everything that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_program_is_imported_by_one_name() -> None:
    """A module that is imported by two names exists twice, with two sets of classes."""
    folders = ("autolora", "benchmarks", "tests", "configs", "engine", "problems")
    for path in (
        ROOT / "run.py",
        *(path for folder in folders for path in (ROOT / folder).rglob("*.py")),
    ):
        first = {
            name.partition(".")[0] for name in imported(ast.parse(path.read_text(encoding="utf-8")))
        }
        assert not first & {"configs", "engine", "problems"}, path


def test_the_contract_knows_only_the_command_line_the_api_and_the_files_of_a_run() -> None:
    """Neither by an import nor as `monkeypatch.setattr("autolora.engine.stages.search", ...)`
    would."""
    for path in sorted((ROOT / "tests" / "contract").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        parts = [
            name.split(".")[1:2]
            for name in imported(ast.parse(text))
            if name.startswith("autolora.")
        ]
        assert not {"engine", "problems", "configs"} & {part for (part,) in parts}, path
        assert re.findall(r"[\"']autolora\.\w+\.", text) == [], path


def test_who_follows_algorithm_1_reads_a_dozen_files() -> None:
    """Of all files that a search and its choice import. Measuring is a room of its own."""
    parts = (
        "problems/bilevel",
        "problems/gates",
        "problems/hypergradients",
        "engine/search/",
        "engine/ranks/",
    )
    waiting = {"autolora.engine.search.search", "autolora.engine.choose"}
    seen = set[str]()
    while waiting:
        name = waiting.pop().removeprefix("autolora.").replace(".", "/")
        file = ROOT / f"{name}.py"
        if name not in seen and file.exists():
            seen.add(name)
            names = set(imported(ast.parse(file.read_text(encoding="utf-8"))))
            waiting |= names | {name.rpartition(".")[0] for name in names}
    read = [name for name in seen if name.startswith(parts)]
    assert "problems/bilevel" in read
    assert len(read) <= 12, read
    assert len(list((ROOT / "engine" / "measure").glob("*.py"))) <= 12
