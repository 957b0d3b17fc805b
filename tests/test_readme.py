"""What the README says is done as written: the quickstart runs, its Python loads the adapter."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.markdown import blocks, text_of
from tests.helpers.places import ROOT

README = text_of(ROOT / "README.md")


def test_the_two_commands_stand_in_the_readme() -> None:
    shell = "\n".join(blocks(README, "bash"))
    assert "uv run run.py --config quickstart.yaml" in shell
    assert "uv run --group dev --all-extras pytest" in shell


def test_both_ways_to_install_read_one_list() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dependencies = { file = ["requirements.txt"] }' in project
    assert "pip install -r requirements.txt" in README


@pytest.mark.slow
def test_quickstart_runs_and_the_python_block_loads_its_adapter(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "run.py"), "--config", "quickstart.yaml"]
    fewer = [
        "--search.steps",
        "3",
        "--retrain.max_steps",
        "2",
        "--task.train_rows",
        "100",
        "--task.evaluation_rows",
        "50",
        "--answer.rows",
        "16",
    ]
    done = subprocess.run([*command, *fewer], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert "runs/quickstart/report.html" in done.stdout
    (code,) = blocks(README, "python")
    check = "\nassert len(labels) == 2 and set(labels) <= {'negative', 'positive'}\nprint(type(model).__name__)\n"
    loaded = subprocess.run(
        [sys.executable, "-c", code + check], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert loaded.returncode == 0, loaded.stderr
    assert "PeftModelForSequenceClassification" in loaded.stdout
