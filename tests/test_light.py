"""What looks at files alone waits for no library that takes seconds to load: --show, --help, cheap
refusals."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.engine.disk.files import write_text
from tests.helpers.paths import ROOT

HEAVY = (
    "torch",
    "transformers",
    "peft",
    "datasets",
    "pandas",
    "scipy",
    "sklearn",
    "betty",
    "wandb",
    "matplotlib",
)
PROGRAM = f"""
import json, sys
import run
found = []
for argv in json.loads(sys.argv[1]):
    try:
        code = run.main(argv)
    except SystemExit as ended:  # after --help
        code = ended.code
    found.append([code, [name for name in {HEAVY} if name in sys.modules]])
print()
print(json.dumps(found))
"""


def commands(root: Path, done: Path) -> list[tuple[list[str], int, str]]:
    """Command lines, the exit code of each, and a word of what it says; `done`: a finished run."""
    going = root / "going"
    study = root / "study"
    config = (done / "config.yaml").read_text(encoding="utf-8")
    for folder in (going, study):
        write_text(folder / "config.yaml", config)
    write_text(
        going / "search" / "metrics.jsonl", '{"step": 7, "train_loss": 0.5, "val_loss": 0.25}\n'
    )
    write_text(study / "cells" / "seed-0" / "metrics.json", "{}")
    write_text(
        study / "config.yaml", config.replace("study: null", "study: {axes: {seed: [0, 1]}}")
    )
    run = ["--runs_folder", str(root), "--tracking.wandb", "disabled"]
    table = ["--task.type", "text", "--task.path", str(root / "nosuch.csv")]
    return [
        (["--help"], 0, "--config"),
        (["--show", str(done)], 0, "sample, test: accuracy "),
        (["--show", str(going)], 0, "search: step 7 of 6   L_tr 0.500   L_val 0.250"),
        (["--show", str(study)], 0, "1 of 2 cells have finished"),
        (["--config", "nosuch.yaml"], 2, "no file 'nosuch.yaml'"),
        (["--config", str(done / "config.yaml")], 0, "was finished before, and nothing is done"),
        ([*run, "--name", "a", *table], 2, "--task.path: no file"),
        (
            [*run, "--name", "a", *table, "--task.metrics", "[f1]"],
            2,
            "--task.metrics: 'f1' is not allowed",
        ),
        ([*run, "--name", "a", "--task.type", "foo"], 2, "--task.type: 'foo' is not allowed"),
    ]


@pytest.mark.trains
def test_what_needs_no_library_loads_none(
    tmp_path: Path, finished: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    asked = commands(tmp_path / "runs", finished())
    argv = json.dumps([words for words, _, _ in asked])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, argv],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for (words, code, said), (ended, loaded) in zip(asked, found, strict=True):
        assert (ended, loaded) == (code, []), words
        assert said in done.stdout + done.stderr, words
    assert not (tmp_path / "runs" / "a").exists()
