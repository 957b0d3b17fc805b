"""A study as a wandb run: which tables, pictures and files it is sent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest

from autolora.configs.schema import RunConfig
from autolora.engine.study import tracking as study_tracking
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.tracking import track_study


class Kept:
    """A wandb run that keeps what it is sent."""

    def __init__(self, config: RunConfig, folder: Path, **options: Any) -> None:
        self.config, self.folder, self.options = config, folder, options
        self.sent: list[tuple[Any, ...]] = []

    def table(self, *values: Any) -> None:
        self.sent.append(("table", *values))

    def image(self, *values: Any) -> None:
        self.sent.append(("image", *values))

    def keep(self, *values: Any) -> None:
        self.sent.append(("keep", *values))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.sent.append(("finish",))


@pytest.fixture
def track(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_config: Callable[..., RunConfig]
) -> Callable[..., Kept]:
    """track(results, "--tracking.group", "x"): the run of a study with these results."""
    made: list[Kept] = []

    def start(*arguments: Any, **options: Any) -> Self:
        made.append(Kept(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(study_tracking, "open_tracker", start)

    def run(results: pd.DataFrame, *arguments: str) -> Self:
        folder = StudyFolder(tmp_path)
        results.to_parquet(folder.results)
        pd.DataFrame({"method": ["lora"], "f1": [0.5]}).to_parquet(folder.summary)
        track_study(tiny_config(*arguments), folder, {"metric": tmp_path / "metric.png"})
        return made[-1]

    return run


def test_tables_figures_and_results_are_sent_and_the_run_is_closed(track: Callable[..., Kept], tmp_path: Path) -> None:
    run = track(pd.DataFrame({"seed": [0]}))
    assert run.sent == [
        ("table", "study/summary", ["method", "f1"], [["lora", 0.5]]),
        ("table", "study/results", ["seed"], [[0]]),
        ("image", "figures/metric", tmp_path / "metric.png"),
        ("keep", "tiny-results", "study", tmp_path / "results.parquet"),
        ("finish",),
    ]
    assert (run.folder, run.options) == (tmp_path, {"job": "study", "tags": ["study"]})


def test_the_tables_of_a_comparison_are_sent_too(track: Callable[..., Kept], tmp_path: Path) -> None:
    folder, names = StudyFolder(tmp_path), ["darts", "cg"]
    columns = ("cosine", "step_cosine", "norm_ratio", "total_cosine", "implicit_to_direct")
    numbers = pd.DataFrame([dict.fromkeys(columns, 1.0), dict.fromkeys(columns)])
    numbers.assign(approximation=names, eta="lr", step=[10, 20]).to_parquet(folder.probe)
    half_done = track(pd.DataFrame({"seed": [0]}))
    assert [sent[1] for sent in half_done.sent if sent[0] == "table"] == ["study/summary", "study/results"]
    pd.DataFrame({"approximation": names, "ratio_to_lora": [3.5, 8.25]}).to_parquet(folder.cost)
    _, _, probe, cost, *_ = track(pd.DataFrame({"seed": [0]})).sent
    assert probe[:2] == ("table", "study/probe")
    assert [dict(zip(probe[2], row, strict=True))["cosine"] for row in probe[3]] == [1.0, None]
    assert cost == ("table", "study/cost", ["approximation", "ratio_to_lora"], [["darts", 3.5], ["cg", 8.25]])


def test_it_stands_in_the_group_of_its_cells(track: Callable[..., Kept]) -> None:
    frame = pd.DataFrame({"seed": [0]})
    assert track(frame).config.tracking.group == "tiny"
    run = track(frame, "--tracking.group", "mine")
    assert run.config.tracking.group == "mine"


def test_a_cell_holds_a_number_a_word_or_nothing(track: Callable[..., Kept]) -> None:
    ranks = list(range(1200))
    frame = pd.DataFrame(
        {"cell": ["a", "b"], "score": [0.5, np.nan], "steps": [None, 7.0], "ok": [True, False], "ranks": [ranks, None]}
    )
    (_, _, columns, rows) = track(frame).sent[1]
    assert columns == list(frame.columns)
    assert rows == [["a", 0.5, None, True, str(ranks)], ["b", None, 7.0, False, None]], "no rank is left out"
    assert {type(value) for row in rows for value in row} == {str, float, bool, type(None)}
