"""The table of a study's cells, and its report: table.md and the page."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_text
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.study.cells import Cell, expand
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.stage import study_sections, write_study_report
from autolora.engine.study.tables import collect
from tests.helpers.evidence import evidence_of
from tests.helpers.finished import finish, with_study
from tests.helpers.study_results import results

Config = Callable[..., RunConfig]


def drawn(config: RunConfig, folder: StudyFolder, end: Callable[[int, Cell], None]) -> pd.DataFrame:
    """Results of the study's runs, with its report drawn; `end` makes the files of a run that has
    ended."""
    cells = expand(config, folder)
    for number, cell in enumerate(cells):
        end(number, cell)
    write_text(folder.config, "")
    write_study_report(config, folder, cells)
    return pd.read_parquet(folder.results)


def section(folder: StudyFolder, title: str) -> list[list[str]]:
    """The cells of a table in table.md, without its head."""
    text = folder.table.read_text().split(f"## {title}")[1].split("##")[0]
    rows = [row for row in text.splitlines() if row.startswith("|")]
    return [row[2:-2].split(" | ") for row in rows[2:]]


def with_ranks(number: int, cell: Cell) -> None:
    """Ends a cell that has found ranks."""
    finish(cell, 0.5)
    ranks.save(RankRecord(4, (LayerRank("a.0.query", 1),)), cell.folder.ranks)


def test_null_truth_rates_and_lists_on_the_axes_are_told_apart(
    tiny_config: Config, tmp_path: Path
) -> None:
    axes = {
        "task.train_rows": [None, 500],
        "retrain.learning_rate": [1e-4, 1e-5],
        "task.path": ["w", "x"],
        "lora.target_modules": [["query"], ["value"]],
        "seed": [0, 1],
    }
    config = with_study(
        tiny_config("--method", "lora", "--task.type", "text", "--task.path", "w"), axes
    )
    found = drawn(config, StudyFolder(tmp_path), with_ranks)
    assert found["retrain.learning_rate"].dtype == float
    assert set(found["task.train_rows"]) == {"null", "500"}
    assert set(found["task"]) == {"sample (w)", "sample (x)"}, "each path is a task of its own"
    names = [row[0] for row in section(StudyFolder(tmp_path), "Metric by task")]
    assert names[0] == "train_rows null, learning_rate 0.0001, target_modules [query]"
    assert len(names) == len(set(names)) == 8


def test_a_cell_that_copies_a_search_adds_none_of_its_measurements(
    tiny_config: Config, tmp_path: Path
) -> None:
    axes = {"variant": {"own": {}, "copy": {"measure.from": {"variant": "own"}}}}
    cells = expand(with_study(tiny_config(), axes), StudyFolder(tmp_path))
    for cell in cells:
        finish(cell, 0.5)
        layers = (LayerRank("a.0.query", 1, layer_share=0.1),)
        ranks.save(RankRecord(4, layers, evidence=evidence_of(loss=0.25)), cell.folder.ranks)
    own, copy = collect(cells).to_dict("records")
    assert (own["shares"], own["outer_loss"]) == ([0.1], 0.25)
    assert pd.isna(copy["shares"])
    assert pd.isna(copy["outer_loss"])
    assert own["ranks"] == copy["ranks"] == [1]


def test_tasks_of_other_metrics_share_a_table_and_what_differs_is_said(
    tiny_config: Config, tmp_path: Path
) -> None:
    config = tiny_config("--method", "full")
    axes = {"task.name": ["cola", "stsb"], "method": ["full", "adapter"], "seed": [0, 1]}
    config = with_study(config, axes)
    folder = StudyFolder(tmp_path)

    def finished(number: int, cell: Cell) -> None:
        if number != 1:
            read = {"rows": 40, "sha256": "a" if number < 7 else "b"}
            finish(
                cell,
                number / 10,
                task=cell.config.task.result_name,
                base_weights="a" if number != 2 else "b",
                data={
                    "classes": [],
                    "training": read,
                    "evaluation_rows": 40,
                    "evaluation": {"validation": read},
                },
            )

    drawn(config, folder, finished)
    text = folder.table.read_text()
    assert "\n7 of 8 runs on " in text
    assert " on cola, stsb. " in text
    assert (
        "The cells of stsb were evaluated on other rows. The cells of cola began from several "
        "base models." in text
    )
    rows = section(folder, "Metric by task")
    assert [row[:3] for row in rows] == [
        ["full", "0.000", "0.450 (0.400 to 0.500)"],
        ["adapter", "0.250 (0.200 to 0.300)", "0.650 (0.600 to 0.700)"],
    ]


def test_paired_tables_name_a_chosen_reference_and_compare_learned_ranks_alone() -> None:
    frame = results().assign(shares=None, outer_loss=None)
    frame["layers"] = [["a", "b"]] * len(frame)
    frame["ranks"] = [[1, 2]] * len(frame)
    found = {section.title: section for section in study_sections(frame, "lora")}
    of_loss = found["Log loss: paired differences, same task and seed: lora"]
    assert of_loss.table["lora against"].to_list() == ["autolora", "adalora"]
    assert "Wilcoxon" in found["Metric: paired differences, same task and seed: lora"].note
    agreement = found["Agreement of ranks"].table
    assert agreement[""].to_list() == ["autolora"], "other methods read no hypergradient"
    assert not [title for title in found if "L_val" in title]
