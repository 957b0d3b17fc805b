"""What a study concludes from its rows: distance to the exact hypergradient."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from configs.schema import RunConfig, StudyConfig
from engine.study_folder import StudyFolder
from engine.study_report import closeness, markdown, paper_tables, write_study_report

KIND = "hypergradient.type"


def test_closeness_is_the_mean_with_the_lowest_cosine_beside_it() -> None:
    frame = pd.DataFrame(
        {
            "approximation": ["darts", "darts", "sama"],
            "eta": ["1", "1", "1"],
            "cosine": [0.9, 0.5, 0.25],
            "norm_ratio": [1.0, 3.0, 1.0],
            "total_cosine": 1.0,
            "implicit_to_direct": 0.5,
        }
    )
    table = closeness(frame)
    assert table.columns[:5].to_list() == ["approximation", "eta", "cosine", "lowest cosine", "norm ratio"]
    assert table.iloc[0, 2:5].to_list() == pytest.approx([0.7, 0.5, 2.0])
    assert table.iloc[1, 2:4].to_list() == [0.25, 0.25]


def test_a_study_of_approximations_has_none_of_the_papers_tables() -> None:
    assert paper_tables(pd.DataFrame({KIND: ["darts"], "seed": [0]}), [KIND, "seed"]) == {}


def test_markdown() -> None:
    assert markdown(pd.DataFrame({"a": ["x"], "n": [1000]})) == "| a | n |\n| --- | --- |\n| x | 1,000 |\n"


def test_the_page_names_every_task_of_the_study(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    axes = {"seed": [0], "task.name": ["sst2", "cola"], "method": ["lora"]}
    config = dataclasses.replace(tiny_config(), name="both", study=StudyConfig(axes))
    folder = StudyFolder(tmp_path)
    folder.figures.mkdir()
    folder.config.write_text("")
    rows = [
        {
            "seed": 0, "task.name": task, "method": "lora", "task": task, "main_metric": "accuracy", "score": 0.5,
            "metric.accuracy": 0.5, "mean_rank": 4.0, "ranks": [4], "lora_parameters": 8, "trainable_parameters": 8,
            "search_seconds": None, "total_seconds": 1.0, "cell": task,
        }
        for task in axes["task.name"]
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder.results)
    write_study_report(config, folder)
    assert "2 runs of" in (page := folder.report.read_text())
    assert " on sst2, cola." in page
