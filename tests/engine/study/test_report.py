"""The report of a study: its table.md and its page."""

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.configs.study import StudyConfig
from autolora.engine import ranks
from autolora.engine.disk.tables import write_parquet
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.study.cells import Cell, expand
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.report import reference_cells, write_study_report
from autolora.engine.study.results import write_results
from tests.helpers.studies import finish, with_study

KIND = "hypergradient.type"


def test_the_page_names_every_task_of_the_study(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    axes = {"seed": [0], "task.glue": ["sst2", "cola"], "method": ["lora"]}
    config = with_study(tiny_config("--name", "both", "--task.type", "glue", "--task.glue", "cola"), axes)
    folder = StudyFolder(tmp_path)
    folder.figures.mkdir()
    folder.config.write_text("")
    rows = [
        {
            "seed": 0, "task.glue": task, "method": "lora", "task": task, "main_metric": "accuracy", "score": 0.5,
            "log_loss": None, "metric.accuracy": 0.5, "mean_rank": 4.0, "ranks": [4], "lora_parameters": 8,
            "trainable_parameters": 8, "search_seconds": None, "total_seconds": 1.0, "cell": task,
        }
        for task in axes["task.glue"]
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(folder.results)
    write_study_report(config, folder)
    assert "2 runs of" in (page := folder.report.read_text())
    assert " on sst2, cola." in page


def drawn(config: RunConfig, folder: StudyFolder, end: Callable[[int, Cell], None]) -> pd.DataFrame:
    """Results of the study's runs, with its report drawn; `end` makes the files of a run that has ended."""
    cells = expand(config, folder)
    for number, cell in enumerate(cells):
        end(number, cell)
    folder.config.write_text("")
    write_results(folder, [cell for cell in cells if cell.folder.metrics.exists()])
    write_study_report(config, folder)
    return pd.read_parquet(folder.results)


def section(folder: StudyFolder, title: str) -> list[list[str]]:
    """The cells of a table in table.md, without its head."""
    text = folder.table.read_text().split(f"## {title}")[1].split("##")[0]
    rows = [row for row in text.splitlines() if row.startswith("|")]
    return [row[2:-2].split(" | ") for row in rows[2:]]


def test_null_truth_rates_and_lists_on_the_axes_are_told_apart(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    axes = {
        "task.train_rows": [None, 500],
        "export.merged": [True, False],
        "retrain.learning_rate": [1e-4, 1e-5],
        "lora.target_modules": [["query"], ["value"]],
        "task.path": ["w", "x"],
        "seed": [0, 1],
    }
    config = with_study(tiny_config("--method", "lora", "--task.type", "text", "--task.path", "w"), axes)
    folder = StudyFolder(tmp_path)
    results = drawn(config, folder, lambda number, cell: finish(cell, number / 100))
    assert results["retrain.learning_rate"].dtype == float
    assert set(results["task.train_rows"]) == {"null", "500"}
    places = [row[:5] for row in section(folder, "Results")]
    assert places[0] == ["null", "true", "0.0001", "[query]", "w"]
    assert places[-1] == ["500", "false", "1e-05", "[value]", "x"]
    assert len(places) == len({tuple(place) for place in places}) == 32
    names = [row[0] for row in section(folder, "Metric by task")]
    assert names[0] == "train_rows null, merged true, learning_rate 0.0001, target_modules [query]"
    assert len(set(names)) == 16, "each path is a task of its own"


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_note_of_the_paired_table_says_how_many_pairs_are_one_run(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, seeds: int
) -> None:
    """The search learned rank 1 everywhere, so that the shuffled run was the same, bit for bit."""
    variants = {"autolora": {}, "shuffled": {"method": "lora_shuffled", "lora.ranks_from": "x"}}
    config = with_study(tiny_config(), {"seed": list(range(seeds)), "variant": variants})
    folder = StudyFolder(tmp_path)

    def finished(number: int, cell: Cell) -> None:
        finish(cell, 0.5)
        ranks.save(RankRecord(4, (LayerRank("a.query", 1), LayerRank("a.value", 1))), cell.folder.ranks)

    drawn(config, folder, finished)
    (row,) = section(folder, "Paired differences")
    assert row == ["shuffled", "0", str(seeds), "", "", "0", "0", "0", "", ""]
    note = "1 pair is left out: both runs have" if seeds == 1 else "2 pairs are left out: both runs have"
    assert note in folder.table.read_text()
    assert note in folder.report.read_text()


def test_the_log_loss_of_a_cell_is_that_of_all_its_held_out_rows_whatever_other_cells_have(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    axes = {"seed": [0, 1], "variant": {"autolora": {}, "lora": {"method": "lora"}}}
    config = with_study(tiny_config(), axes)

    def report(folder: StudyFolder, losses: dict[str, list[float]]) -> pd.DataFrame:
        def finished(number: int, cell: Cell) -> None:
            finish(cell, number / 10, calibrated_loss=0.5)
            if cell.config.method in losses:
                table = pd.DataFrame({"loss": losses[cell.config.method], "weight": [1.0, 1.0]})
                write_parquet(cell.folder.row_losses, table)
            rank = 2 if cell.config.method == "lora" else 1
            ranks.save(RankRecord(4, (LayerRank("a.0.query", rank),)), cell.folder.ranks)

        return drawn(config, folder, finished).groupby("method")["log_loss"].first()

    everywhere = StudyFolder(tmp_path / "everywhere")
    found = report(everywhere, {"autolora": [0.5, 1.499], "lora": [0.25, 1.75]})
    assert found.to_dict() == pytest.approx({"autolora": 0.9995, "lora": 1.0})
    assert section(everywhere, "Log loss by task")[1][1] == "1.0000 (1.0000 to 1.0000)"
    (row,) = section(everywhere, "Paired differences of the log loss")
    assert row[1:5] == ["2", "0.0005", "0.000", "2"]
    some = report(StudyFolder(tmp_path / "some"), {"lora": [0.25, 1.75]})
    assert some.to_dict() == {"autolora": 0.5, "lora": 1.0}


def test_a_variant_of_any_name_is_shown_as_it_is(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    """In the table, on the page, and in the pictures, where `$` would begin a formula."""
    name = r"<script>alert(1)</script> | $\frac *[b](c)*"
    axes = {"seed": [0, 1], "variant": {name: {}, "plain": {}}}
    config = with_study(tiny_config("--method", "lora"), axes)
    folder = StudyFolder(tmp_path)
    drawn(config, folder, lambda number, cell: finish(cell, number / 10))
    page = folder.report.read_text()
    assert "<script>alert(1)" not in page
    assert html.escape(name) in page
    tokens = MarkdownIt("commonmark").enable("table").parse(folder.table.read_text())
    inlines = [token.children or [] for token in tokens if token.type == "inline"]
    shown = ["".join(child.content for child in children) for children in inlines]
    assert shown.count(name) == 2, "in the tables by task and of all results"
    assert all(child.type in ("text", "text_special") for children in inlines for child in children)


def test_tasks_of_other_metrics_share_a_table_and_a_failed_run_is_counted(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = tiny_config("--method", "full", "--task.type", "glue", "--task.glue", "cola")
    axes = {"task.glue": ["cola", "stsb"], "method": ["full", "adapter"], "seed": [0, 1]}
    config, folder = with_study(config, axes), StudyFolder(tmp_path)

    def finished(number: int, cell: Cell) -> None:
        if number != 1:
            finish(cell, number / 10, task=cell.config.task.result_name, commit="a1" if number < 4 else None)

    drawn(config, folder, finished)
    assert "\n7 of 8 runs of " in (text := folder.table.read_text())
    assert " on cola, stsb. " in text
    assert "made at 2 commits of this program" in text
    assert "their settings: a1 (3 runs), unknown (4 runs)." in text
    rows = section(folder, "Results")
    assert rows[0][:5] == ["cola", "full", "1", "0.000", "0.000 to 0.000"]
    assert rows[2][:9] == ["stsb", "full", "2", "", "", "0.450", "0.400 to 0.500", "0.450", "0.400 to 0.500"]


def test_a_study_killed_between_comparison_and_cost_is_drawn_without(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = with_study(tiny_config(), {KIND: ["darts"]})
    folder = StudyFolder(tmp_path)
    write_parquet(folder.probe, pd.DataFrame({"step": [1], "eta": ["lr"], "approximation": ["darts"]}))
    drawn(config, folder, lambda number, cell: finish(cell, 0.5))
    assert "## Cost" not in folder.table.read_text()
    assert "\n1 run of " in folder.table.read_text()


def test_the_cost_is_that_of_an_outer_step_with_all_its_inner_steps(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """It had been called that of one step, also where an outer step has several inner steps."""
    config = with_study(tiny_config("--search.unroll_steps", "3"), {KIND: ["darts"]})
    folder = StudyFolder(tmp_path)
    numbers = dict.fromkeys(("cosine", "step_cosine", "norm_ratio", "total_cosine", "implicit_to_direct"), 1.0)
    write_parquet(folder.probe, pd.DataFrame([{"step": 3, "eta": "lr", "approximation": "darts", **numbers}]))
    costs = {"seconds": [3.0, 6.0], "ratio_to_lora": [1.0, 2.0], "memory_mib": [80.0, 120.55]}
    write_parquet(folder.cost, pd.DataFrame({"approximation": ["lora", "darts"], **costs}))
    drawn(config, folder, lambda number, cell: finish(cell, 0.5))
    title, note = "Cost of one outer step with its inner steps", "The row lora is as many plain LoRA steps as "
    assert f"## {title}\n\n{note}" in folder.table.read_text()
    assert "| memory MiB |" in folder.table.read_text()
    assert section(folder, title) == [["lora", "3.000", "1.000", "80"], ["darts", "6.000", "2.000", "121"]]


ETAS: dict[str, Any] = {KIND: {"darts": {}, "sama": {"hypergradient.eta": "lr"}}}


@pytest.mark.parametrize(
    ("name", "axes", "cells"),
    [
        ("darts (eta betty)", ETAS | {"seed": [0, 1]}, ["darts", "darts"]),
        ("train_rows 8", {"task.train_rows": [8, 16], "seed": [0]}, ["8"]),
        ("lora", {"method": ["lora", "eva"], "lora.k": [4, 8]}, ["lora_k-4", "lora_k-8"]),
    ],
)
def test_the_reference_is_a_row_named_as_the_paired_tables_name_it(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, name: str, axes: dict, cells: list[str]
) -> None:
    every = expand(with_study(tiny_config(), axes), StudyFolder(tmp_path))
    found = reference_cells(StudyConfig(axes=axes, reference=name), every)
    assert len(found) == len(cells)
    assert all(any(part in cell for part in cells) for cell in found)
    other = StudyConfig(axes=axes, reference="nosuch")
    with pytest.raises(UserError, match=r"^--study\.reference: no row is named 'nosuch'; there are: .*" + name[:5]):
        reference_cells(other, every)
