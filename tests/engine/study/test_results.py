"""The rows of a study's finished cells."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.study.cells import expand
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.results import collect, finished
from tests.helpers.evidence import evidence_of
from tests.helpers.studies import finish, with_study

KIND = "hypergradient.type"


def test_an_unfinished_and_a_damaged_cell_are_not_among_the_finished_ones(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = with_study(tiny_config("--method", "full"), {"seed": [0, 1, 2]})
    whole, damaged, _ = cells = expand(config, StudyFolder(tmp_path))
    finish(whole, 0.5)
    write_text(damaged.folder.metrics, "{")
    intact, lines = finished(cells)
    assert intact == [whole]
    assert [line.split(":")[0] for line in lines] == [damaged.config.name]


def test_a_cell_that_copies_a_search_adds_none_of_its_measurements(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    axes = {"seed": [0], "variant": {"first": {}, "again": {"answer.from": "runs/x"}}}
    cells = expand(with_study(tiny_config(), axes), StudyFolder(tmp_path))
    for cell in cells:
        finish(cell, 0.5)
        layers = (LayerRank("a.0.query", 1, layer_share=0.1),)
        ranks.save(RankRecord(4, layers, evidence=evidence_of(loss=0.25)), cell.folder.ranks)
    table = collect(cells).set_index("variant")
    assert (table.loc["first", "shares"], table.loc["again", "shares"]) == ([0.1], None)
    assert table.loc["first", "outer_loss"] == 0.25
    assert pd.isna(table.loc["again", "outer_loss"])
    assert table.loc["again", "ranks"] == [1]
    assert table["searched_by"].fillna("no search").to_list() == ["darts", "no search"]


def test_the_hypergradient_of_a_run_is_that_of_its_own_search_or_of_the_axis(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    axes = {KIND: ["sama"], "variant": {"own": {}, "copy": {"answer.from": "runs/x"}}}
    cells = expand(with_study(tiny_config(), axes), StudyFolder(tmp_path))
    for cell in cells:
        finish(cell, 0.5)
    assert collect(cells)["searched_by"].to_list() == ["sama", "sama"]


def test_a_search_has_its_eta_its_passes_and_its_memory(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    types = {"darts": {"hypergradient.eta": 0.5}, "first_order": {}}
    axes = {"seed": [0], KIND: types, "variant": {"own": {}, "copy": {"answer.from": "runs/x"}}}
    cells = expand(with_study(tiny_config(), axes), StudyFolder(tmp_path))
    for cell in cells:
        finish(cell, 0.5)
        cost = {"passes": {"forward": 3, "backward": 4}, "peak_memory_mib": 5.0}
        write_json(cell.folder.search_summary, {"parameters_per_rank": {}, **cost})
    table = collect(cells).set_index("cell")
    columns = ["eta", "search_forward_passes", "search_backward_passes", "search_memory_mib"]
    found = {name: table.loc[name, columns].tolist() for name in table.index}
    (darts,) = [row for name, row in found.items() if "own" in name and "darts" in name]
    (first,) = [row for name, row in found.items() if "own" in name and "first_order" in name]
    (copied,) = [row for name, row in found.items() if "copy" in name and "darts" in name]
    assert darts == ["0.5", 3, 4, 5.0]
    assert first[1:] == [3, 4, 5.0]
    assert pd.isna(first[0]), "first_order reads no eta"
    assert copied[0] == "0.5"
    assert all(map(pd.isna, copied[1:]))


def test_tasks_of_files_with_one_name_are_told_apart_by_their_folders(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Two data sets had been one column of the tables, and pairs of the tests."""
    paths = ["data/de/train.csv", "data/en/train.csv", "other.csv"]
    config = tiny_config("--method", "full", "--task.type", "text", "--task.path", "train.csv")
    axes = {"seed": [0], "variant": {path: {"task.path": path} for path in paths}}
    cells = expand(with_study(config, axes), StudyFolder(tmp_path))
    for cell in cells:
        finish(cell, 0.5, task=Path(str(cell.config.task.path)).stem)
    assert collect(cells)["task"].to_list() == ["train (de/train.csv)", "train (en/train.csv)", "other"]
