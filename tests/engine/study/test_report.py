"""The table of a study's cells, and its report: table.md and the page."""

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.disk.tables import write_parquet
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.study import tables
from autolora.engine.study.cells import Cell, expand
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.paired import gains_of
from autolora.engine.study.report import write_study_report
from autolora.engine.study.results import collect, with_others
from tests.helpers.evidence import evidence_of
from tests.helpers.studies import finish, with_study

KIND = "hypergradient.type"
Config = Callable[..., RunConfig]


def drawn(config: RunConfig, folder: StudyFolder, end: Callable[[int, Cell], None]) -> pd.DataFrame:
    """Results of the study's runs, with its report drawn; `end` makes the files of a run that has ended."""
    cells = expand(config, folder)
    for number, cell in enumerate(cells):
        end(number, cell)
    write_text(folder.config, "")
    results, damaged = collect(cells)
    assert not damaged
    write_parquet(folder.results, results)
    write_study_report(config, folder)
    return pd.read_parquet(folder.results)


def section(folder: StudyFolder, title: str) -> list[list[str]]:
    """The cells of a table in table.md, without its head."""
    text = folder.table.read_text().split(f"## {title}")[1].split("##")[0]
    rows = [row for row in text.splitlines() if row.startswith("|")]
    return [row[2:-2].split(" | ") for row in rows[2:]]


def with_ranks(cell: Cell, *values: int, **more: Any) -> None:
    """Ends a cell whose layers got these ranks."""
    finish(cell, 0.5, **more)
    ranks.save(
        RankRecord(4, tuple(LayerRank(f"a.{i}.query", rank) for i, rank in enumerate(values))), cell.folder.ranks
    )


def test_null_truth_rates_and_lists_on_the_axes_are_told_apart(tiny_config: Config, tmp_path: Path) -> None:
    axes = {
        "task.train_rows": [None, 500],
        "retrain.learning_rate": [1e-4, 1e-5],
        "lora.target_modules": [["query"], ["value"]],
        "task.path": ["w", "x"],
        "seed": [0, 1],
    }
    config = with_study(tiny_config("--method", "lora", "--task.type", "text", "--task.path", "w"), axes)
    results = drawn(config, StudyFolder(tmp_path), lambda number, cell: with_ranks(cell, 1))
    assert results["retrain.learning_rate"].dtype == float
    assert set(results["task.train_rows"]) == {"null", "500"}
    assert set(results["task"]) == {"sample (w)", "sample (x)"}, "each path is a task of its own"
    names = [row[0] for row in section(StudyFolder(tmp_path), "Metric by task")]
    assert names[0] == "train_rows null, learning_rate 0.0001, target_modules [query]"
    assert len(names) == len(set(names)) == 8


def test_pairs_that_are_one_run_are_left_out_and_counted(tiny_config: Config, tmp_path: Path) -> None:
    """The search learned rank 1 everywhere, so that the shuffled run was the same, bit for bit."""
    variants = {"autolora": {}, "shuffled": {"method": "lora_shuffled", "lora.ranks_from": "x"}}
    config, folder = with_study(tiny_config(), {"seed": [0, 1], "variant": variants}), StudyFolder(tmp_path)
    drawn(config, folder, lambda number, cell: with_ranks(cell, 1, 1))
    assert section(folder, "Paired differences") == [["shuffled", "0", "2", "", "", "0", "0", "0", "", ""]]
    assert "left out, equal ranks" in folder.report.read_text()


def test_the_log_loss_of_a_cell_is_that_of_all_its_held_out_rows(tiny_config: Config, tmp_path: Path) -> None:
    """Whatever other cells have."""
    axes = {"seed": [0, 1], "variant": {"autolora": {}, "lora": {"method": "lora"}}}

    def finished(number: int, cell: Cell) -> None:
        with_ranks(cell, 1, calibrated_loss=0.5)
        if cell.config.method == "lora":
            write_parquet(cell.folder.row_losses, pd.DataFrame({"loss": [0.25, 1.75], "weight": [1.0, 1.0]}))

    found = drawn(with_study(tiny_config(), axes), StudyFolder(tmp_path), finished)
    assert found.groupby("method")["log_loss"].first().to_dict() == {"autolora": 0.5, "lora": 1.0}
    assert section(StudyFolder(tmp_path), "Log loss by task")[1][1] == "1.0000 (1.0000 to 1.0000)"


def test_a_cell_that_copies_a_search_adds_none_of_its_measurements(tiny_config: Config, tmp_path: Path) -> None:
    axes = {
        KIND: {"sama": {"hypergradient.eta": 0.5}},
        "variant": {"own": {}, "copy": {"answer.from": {"variant": "own"}}},
    }
    cells = expand(with_study(tiny_config(), axes), StudyFolder(tmp_path))
    for cell in cells:
        finish(cell, 0.5)
        layers = (LayerRank("a.0.query", 1, layer_share=0.1),)
        ranks.save(RankRecord(4, layers, evidence=evidence_of(loss=0.25)), cell.folder.ranks)
        cost = {"passes": {"forward": 3, "backward": 4}, "peak_memory_mib": 5.0}
        write_json(cell.folder.search_summary, {"parameters_per_rank": {}, **cost})
    own, copy = collect(cells)[0].to_dict("records")
    columns = ["shares", "outer_loss", "searched_by", "eta", "search_forward_passes", "search_memory_mib"]
    assert [own[name] for name in columns] == [[0.1], 0.25, "sama", "0.5", 3, 5.0]
    assert all(pd.isna(copy[name]) for name in columns)
    assert own["ranks"] == copy["ranks"] == [1]


def test_a_damaged_cell_is_left_out_and_named(tiny_config: Config, tmp_path: Path) -> None:
    cells = expand(with_study(tiny_config("--method", "lora"), {"seed": [0, 1, 2, 3]}), StudyFolder(tmp_path))
    with_ranks(cells[0], 1)
    finish(cells[1], 0.5)
    write_text(cells[2].folder.metrics, "{")
    table, damaged = collect(cells)
    assert list(table["cell"]) == ["seed-0"]
    assert "ranks.json: does not exist" in damaged[0], "its ranks are gone"
    assert [line.partition(":")[0] for line in damaged] == ["seed-1", "seed-2"]


def test_a_variant_of_any_name_is_shown_as_it_is(tiny_config: Config, tmp_path: Path) -> None:
    """In the table, on the page, and in the pictures, where `$` would begin a formula."""
    name = r"<script>alert(1)</script>|$\frac"
    config = with_study(tiny_config("--method", "full"), {"seed": [0, 1], "variant": {name: {}, "plain": {}}})
    folder = StudyFolder(tmp_path)
    drawn(config, folder, lambda number, cell: finish(cell, number / 10))
    page = folder.report.read_text()
    assert "<script>alert(1)" not in page
    assert html.escape(name) in page
    rows = [row for title in ("Metric by task", "Results") for row in section(folder, title)]
    assert [row[0] for row in rows].count(name.replace("|", "\\|")) == 2


def test_tasks_of_other_metrics_share_a_table_and_what_differs_is_said(tiny_config: Config, tmp_path: Path) -> None:
    config = tiny_config("--method", "full", "--task.type", "glue", "--task.glue", "cola")
    axes = {"task.glue": ["cola", "stsb"], "method": ["full", "adapter"], "seed": [0, 1]}
    config, folder = with_study(config, axes), StudyFolder(tmp_path)

    def finished(number: int, cell: Cell) -> None:
        rows = 40 if number < 7 else 41
        if number != 1:
            finish(cell, number / 10, task=cell.config.task.result_name, commit="a1" if number < 4 else None,
                   evaluated_rows=rows)  # fmt: skip

    drawn(config, folder, finished)
    text = folder.table.read_text()
    assert "\n7 of 8 runs of " in text
    assert " on cola, stsb. " in text
    assert "made at 2 commits of this program" in text
    assert "The cells of stsb were evaluated on other rows." in text
    rows = section(folder, "Metric by task")
    assert [row[:3] for row in rows] == [
        ["full", "0.000, 1 run", "0.450 (0.400 to 0.500)"],
        ["adapter", "0.250 (0.200 to 0.300)", "0.650 (0.600 to 0.700)"],
    ]  # fmt: skip


def test_the_cells_of_other_studies_stand_in_the_table(tiny_config: Config, tmp_path: Path) -> None:
    """Of the same row, task and seed the first counts."""
    for name, seeds in (("one", [0, 1]), ("two", [1, 2])):
        config = with_study(tiny_config("--method", "full"), {"seed": seeds})
        drawn(
            config, StudyFolder(tmp_path / name), lambda number, cell, name=name: finish(cell, len(name + str(number)))
        )
    other = str(tmp_path / "two" / "results.parquet")
    table = with_others(tmp_path / "one" / "results.parquet", [other])
    assert list(table["seed"]) == [0, 1, 2]
    assert table["cell"].to_list()[1:] == ["seed-1", str(tmp_path / "two" / "cells" / "seed-2")]
    write_study_report(with_study(config, {"seed": [0, 1]}, results=[other]), StudyFolder(tmp_path / "one"))
    assert "\n3 runs" in StudyFolder(tmp_path / "one").table.read_text()


def test_the_cost_is_that_of_an_outer_step_with_all_its_inner_steps(tiny_config: Config, tmp_path: Path) -> None:
    config = with_study(tiny_config("--search.unroll_steps", "3"), {KIND: ["darts"]})
    folder = StudyFolder(tmp_path)
    numbers = dict.fromkeys(("cosine", "step_cosine", "norm_ratio", "total_cosine", "implicit_to_direct"), 1.0)
    write_parquet(folder.probe, pd.DataFrame([{"step": 3, "eta": "lr", "approximation": "darts", **numbers}]))
    costs = {"seconds": [3.0, 6.0], "ratio_to_lora": [1.0, 2.0], "memory_mib": [80.0, 120.55]}
    write_parquet(folder.cost, pd.DataFrame({"approximation": ["lora", "darts"], **costs}))
    drawn(config, folder, lambda number, cell: with_ranks(cell, 1))
    title, note = "Cost of one outer step with its inner steps", "The row lora is as many plain LoRA steps as "
    assert f"## {title}\n\n{note}" in folder.table.read_text()
    assert section(folder, title) == [["lora", "3.000", "1.000", "80"], ["darts", "6.000", "2.000", "121"]]


def test_gain_and_cost_are_those_of_the_cells_that_differ_on_the_fewest_axes() -> None:
    """With a further axis, the cells of its other values had been counted, too."""
    rows = [
        (f"train_rows {size}, {method}", method, seed, size / 100 * number, size / 10)
        for size in (10, 100)
        for seed in (0, 1)
        for number, method in enumerate(("head", "autolora", "adalora"))
    ]
    results = pd.DataFrame(rows, columns=["row", "method", "seed", "score", "total_seconds"])
    results = results.assign(task="t", main_metric="accuracy", search_seconds=0.0)
    assert gains_of(results, "train_rows 100, autolora", "score")["t"] == pytest.approx(1.0)
    table = tables.cost(results).set_index("")
    assert set(table["total time / adalora's"]) == {"1.00 (1.00 to 1.00)"}
