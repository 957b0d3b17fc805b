"""What the README says is done as written: its commands parse, the quickstart runs, its Python loads the adapter."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from configs.parser import parse_command
from tests.helpers.places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def run_commands() -> list[list[str]]:
    """Arguments of every run.py command in the README's shell blocks."""
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line.split("run.py", 1)[1], comments=True) for line in lines if "run.py" in line]


def test_the_two_commands_stand_in_the_readme() -> None:
    shell = "\n".join(blocks("bash"))
    assert "uv run run.py --config quickstart.yaml" in shell
    assert "uv run pytest" in shell


@pytest.mark.parametrize("arguments", run_commands(), ids=" ".join)
def test_commands_parse(arguments: list[str]) -> None:
    parse_command(arguments)


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
    (code,) = blocks("python")
    check = "\nassert model.config.id2label == {0: 'negative', 1: 'positive'}\nprint(type(model).__name__)\n"
    loaded = subprocess.run(
        [sys.executable, "-c", code + check], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert loaded.returncode == 0, loaded.stderr
    assert "PeftModelForSequenceClassification" in loaded.stdout
