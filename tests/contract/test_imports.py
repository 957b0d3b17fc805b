"""What the contract may know of the program: its command line, the API for scripts, and the files of a run."""

import ast
import re
from pathlib import Path

HERE = Path(__file__).parent
PROGRAM = r"\b(autolora|engine|problems|configs)(\.\w+)+"


def imported(path: Path) -> list[str]:
    """The modules that a file imports."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
    return found


def test_the_contract_imports_nothing_of_the_program_but_its_api() -> None:
    for path in HERE.glob("*.py"):
        assert [name for name in imported(path) if re.match(PROGRAM, name)] == [], path


def test_the_contract_reaches_into_no_module_by_its_name() -> None:
    """As `monkeypatch.setattr("autolora.engine.stages.search", ...)` would."""
    for path in HERE.glob("*.py"):
        if path.name != Path(__file__).name:
            text = path.read_text(encoding="utf-8")
            assert [m[0] for m in re.finditer(rf"[\"']{PROGRAM}", text)] == [], path
