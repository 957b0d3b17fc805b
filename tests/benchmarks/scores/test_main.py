"""The command: every score of a finished search, which the study of places can read."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autolora.configs.parser import parse
from autolora.engine import ranks
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages
from benchmarks.command import main
from benchmarks.places.scores import measured_scores
from benchmarks.scores.__main__ import ScoresSettings, measure_scores
from tests.helpers.chat_toys import chat_arguments, chat_rows, save_chat_model


def run(*arguments: str) -> int:
    return main(ScoresSettings, measure_scores, arguments)


@pytest.mark.trains
def test_every_layer_of_a_finished_search_gets_every_score(
    finished_run: Callable[..., RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_run()
    assert run("--searched", f"[{folder.root},{folder.root}]", "--json", str(tmp_path / "made.json")) == 0
    layers = [layer.name for layer in ranks.load(folder.ranks).layers]
    scores = measured_scores(tmp_path / "made.json", layers)
    assert len(scores) == 3
    assert all(len(set(values.tolist())) > 1 for values in scores.values())
    assert "share on D_tr" in capsys.readouterr().out


@pytest.mark.trains
def test_a_language_model_without_a_head_gets_every_score(tmp_path: Path) -> None:
    model, data = save_chat_model(tmp_path / "model"), tmp_path / "messages.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in chat_rows()))
    searching = ("--answer.rule", "shares", "--answer.curve_ranks", "[1]", "--stage", "search")
    folder = run_stages(parse([*chat_arguments(model, data, tmp_path / "runs"), *searching]), StopRequest())
    assert run("--searched", f"[{folder.root}]", "--json", str(tmp_path / "made.json")) == 0
    scores = measured_scores(tmp_path / "made.json", [layer.name for layer in ranks.load(folder.ranks).layers])
    assert len(scores) == 3
    assert all(np.isfinite(values).all() for values in scores.values())


def test_a_folder_without_a_finished_search_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--searched", f"[{tmp_path}]") == 2
    assert "has no finished search" in capsys.readouterr().err
    assert run() == 2
    assert "--searched: [] is not allowed" in capsys.readouterr().err


@pytest.mark.trains
def test_a_run_that_measured_nothing_is_one_line(
    finished_run: Callable[..., RunFolder], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished_run("bert", "--answer.rows", "0", "--answer.rule", "threshold")
    assert run("--searched", f"[{folder.root}]") == 2
    assert "has --answer.rows 0" in capsys.readouterr().err
