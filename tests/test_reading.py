"""Who wants to follow Algorithm 1 reads a dozen files at most."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.places import ROOT
from tests.helpers.tiny import tiny_arguments

PROGRAM = """
import json, sys
import run
code = run.main(json.loads(sys.argv[1]))
print()
files = {name: str(one.__file__) for name, one in sys.modules.items() if name.startswith("autolora.")}
print(json.dumps([code, [name[9:] for name, file in files.items() if not file.endswith("__init__.py")]]))
"""
PARTS = (
    "problems.bilevel", "problems.gates", "problems.hypergradients", "engine.search.", "engine.measure.",
    "engine.cut.", "engine.ranks.",
)  # fmt: skip
MOST = 12


@pytest.mark.trains
def test_a_search_imports_few_files_of_the_algorithm(tmp_path: Path, model_folder: Callable[..., Path]) -> None:
    argv = json.dumps([*tiny_arguments(model_folder("bert"), tmp_path), "--stage", "search"])
    words = [sys.executable, "-c", PROGRAM, argv]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    code, found = json.loads(done.stdout.splitlines()[-1])
    read = [name for name in found if name.startswith(PARTS)]
    assert code == 0
    assert "problems.bilevel" in read
    assert len(read) <= MOST, read
