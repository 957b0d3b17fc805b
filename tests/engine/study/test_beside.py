"""The block about a study on the page of one of its cells."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.command import run_request
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.study.beside import beside

SCORES = [("autolora", 0, "sst2", 0.75), ("lora", 0, "sst2", 0.5), ("autolora", 1, "sst2", 0.875)]
SCORES += [("lora", 1, "sst2", 0.5), ("lora", 0, "cola", 0.25)]


def study_of(root: Path) -> Path:
    """The results of two methods and seeds on one task, and of one run on another."""
    common = {"mean_rank": 2.0, "ranks": [2], "lora_parameters": 8, "trainable_parameters": 9}
    common |= {
        "main_metric": "accuracy",
        "log_loss": 0.4,
        "search_seconds": 1.0,
        "total_seconds": 2.0,
        "search_steps": 3,
    }
    rows = [
        {"method": m, "seed": s, "task": t, **common, "score": v, "metric.accuracy": v, "cell": f"{m}_{s}_{t}"}
        for m, s, t, v in SCORES
    ]
    root.mkdir()
    pd.DataFrame(rows).to_parquet(root / "results.parquet")
    return root / "cells"


def test_a_cell_stands_beside_the_runs_of_its_task(tmp_path: Path) -> None:
    made = beside(RunFolder(study_of(tmp_path / "compare") / "autolora_1_sst2"))
    assert made is not None
    assert made.name == "compare"
    assert made.columns[:4] == ["method", "runs", "accuracy", "accuracy range"]
    assert [row[:4] for row in made.rows] == [
        ["autolora", "2", "0.812", "0.750 to 0.875"],
        ["lora", "2", "0.500", "0.500 to 0.500"],
    ]
    assert made.mine == 0
    assert list(made.charts) == ["metric-0"]


def test_a_run_that_the_results_do_not_know_stands_beside_all_and_is_not_marked(tmp_path: Path) -> None:
    made = beside(RunFolder(study_of(tmp_path / "compare") / "later"))
    assert made is not None
    assert made.mine is None
    assert [row[:2] for row in made.rows] == [["autolora", "2"], ["lora", "3"]]
    assert list(made.charts) == ["metric-0", "metric-1"]


def test_a_run_that_is_no_cell_has_no_such_block(tmp_path: Path) -> None:
    study_of(tmp_path / "compare")
    assert beside(RunFolder(tmp_path / "compare" / "other" / "run")) is None
    assert beside(RunFolder(tmp_path / "runs" / "cells" / "run")) is None, "a study without results"


@pytest.mark.trains
def test_the_page_of_a_cell_that_is_drawn_again_shows_its_study(
    finished_run: Callable[..., RunFolder], tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    folder = RunFolder(study_of(tmp_path / "compare") / "autolora_1_sst2")
    shutil.copytree(finished_run("bert").root, folder.root)
    config = tiny_config("--name", folder.root.name, "--runs_folder", str(folder.root.parent))
    run_request(Request(config, "report", False, "x"), StopRequest())
    page = folder.report.read_text(encoding="utf-8")
    assert "Beside the other runs of the study compare" in page
    (mine,) = re.findall(r'<tr class="mine">.*?</tr>', page, re.S)
    assert "0.750 to 0.875" in mine


def test_damaged_results_leave_the_block_out_with_a_warning(tmp_path: Path, log_lines: list[str]) -> None:
    cells = study_of(tmp_path / "compare")
    results = tmp_path / "compare" / "results.parquet"
    whole = results.read_bytes()
    missing, wrong = tmp_path / "missing", tmp_path / "wrong"
    pd.DataFrame({"method": ["lora"]}).to_parquet(missing)
    pd.read_parquet(results).assign(score="high").to_parquet(wrong)
    for content in (b"", whole[: len(whole) // 2], b"[]", missing.read_bytes(), wrong.read_bytes()):
        results.write_bytes(content)
        log_lines.clear()
        assert beside(RunFolder(cells / "autolora_1_sst2")) is None
        assert len(log_lines) == 1
        assert log_lines[0].startswith(f"WARNING the report leaves out the results of the study: {results}: ")
