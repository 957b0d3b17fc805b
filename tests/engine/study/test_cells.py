"""Cells of a study: from axes to configurations."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.layers import settings
from autolora.configs.parser import parse
from autolora.configs.schema import RunConfig, Shuffled
from autolora.configs.search import Size, Threshold
from autolora.configs.study import StudyConfig
from autolora.configs.tasks import Table
from autolora.engine import ranks
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.study.cells import damage, expand, tell_unknown_values
from autolora.engine.study.folder import StudyFolder
from tests.helpers.finished import RESULT
from tests.helpers.studies import AXES, VARIANTS, with_study


def test_axes_expand_to_every_combination(tiny_config: Callable[..., RunConfig]) -> None:
    cells = expand(with_study(tiny_config(), AXES), StudyFolder(Path("x")))
    places = [(c.config.hypergradient.type, c.config.seed) for c in cells]
    assert places == [("first_order", 0), ("first_order", 1), ("exact", 0), ("exact", 1)]
    assert len({c.config.name for c in cells}) == 4
    assert not any(c.config.is_study for c in cells)


@pytest.mark.parametrize(
    ("axes", "named"),
    [
        ({"hypergradient.typ": ["darts"]}, "hypergradient.type"),
        ({"search.steps": [0]}, "search.steps"),
        ({"hypergradient.type": ["newton"]}, "hypergradient.type"),
        ({"seed": []}, "seed"),
        ({"search.steps": [None]}, "search.steps"),
    ],
)
def test_bad_axes_name_the_key(tiny_config: Callable[..., RunConfig], axes: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        expand(with_study(tiny_config(), axes), StudyFolder(Path("x")))


@pytest.mark.parametrize(
    "axes",
    [{"runs_folder": ["a", "b"]}, {"variant": {"a": {"name": "x"}}}, {"seed": {"0": {"study.sweep_once": True}}}],
)
def test_what_a_study_itself_sets_is_no_axis(tiny_config: Callable[..., RunConfig], axes: dict) -> None:
    with pytest.raises(UserError, match=r"^--study\.axes: .* is not allowed in .*, as the study names and places"):
        expand(with_study(tiny_config(), axes), StudyFolder(Path("x")))


@pytest.mark.parametrize(
    "axes",
    [
        {"seed": [0, 1], "variant": {"a": {}, "b": {"seed": 5}}},
        {"seed": {"0": {"seed": 5}}},
        {"seed": {"0": {"lora.k": 3}, "1": {}}, "lora.k": [2]},
    ],
)
def test_the_value_on_an_axis_is_not_set_again(tiny_config: Callable[..., RunConfig], axes: dict) -> None:
    """The cell would be named, and stand in the table, by a value that it does not have."""
    with pytest.raises(UserError, match=r"^--study\.axes: '(seed|lora\.k)' is not allowed in .*, as it is an axis"):
        expand(with_study(tiny_config(), axes), StudyFolder(Path("x")))


def test_an_axis_may_have_named_settings(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config()
    cells = expand(with_study(config, {"seed": [0, 1], "variant": VARIANTS}), StudyFolder(Path("x")))
    assert [(c.values["seed"], c.values["variant"]) for c in cells] == [(s, v) for s in (0, 1) for v in VARIANTS]
    assert [type(c.config.answer) for c in cells[:2]] == [Threshold, Size]
    assert isinstance(cells[2].config, Shuffled), "which has no answer"
    assert cells[1].config.name == "seed-0_variant-by-size"
    with pytest.raises(UserError, match=r"answer\.rule"):
        expand(with_study(config, {"variant": {"a": {"answer.rul": "size"}}}), StudyFolder(Path("x")))
    with pytest.raises(UserError, match="two cells would be named seed-0"):
        expand(with_study(config, {"seed": [0, 0]}), StudyFolder(Path("x")))


def test_a_value_of_a_key_may_have_settings_too(tiny_config: Callable[..., RunConfig]) -> None:
    axes = {"seed": {"0": {}, "1": {"search.steps": 9}}, "variant": {"a": {}, "b": {"lora.k": 2}}}
    cells = expand(with_study(tiny_config(), axes), StudyFolder(Path("x")))
    found = [(c.config.seed, c.config.search.steps, c.config.lora.k) for c in cells]
    assert found == [(0, 6, 4), (0, 6, 2), (1, 9, 4), (1, 9, 2)]
    axes["variant"]["b"] = {"search.steps": 3}
    with pytest.raises(UserError, match=r"^--study\.axes: search\.steps of variant b already has another value in"):
        expand(with_study(tiny_config(), axes), StudyFolder(Path("x")))


EXCLUDED: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "one value": ([{"variant": "b"}], ["0 [q] a", "0 [q, v] a", "1 [q] a", "1 [q, v] a"]),
    "several values and axes": ([{"variant": "b", "seed": [1, "0"]}, {"seed": 1}], ["0 [q] a", "0 [q, v] a"]),
    "a value that is a list": ([{"variant": "b"}, {"lora.target_modules": ["q", "v"]}], ["0 [q] a", "1 [q] a"]),
}


@pytest.mark.parametrize("case", EXCLUDED)
def test_cells_can_be_left_out(tiny_config: Callable[..., RunConfig], case: str, log_lines: list[str]) -> None:
    exclude, left = EXCLUDED[case]
    axes = {"seed": [0, 1], "lora.target_modules": [["q"], ["q", "v"]], "variant": {"a": {}, "b": {}}}
    study = StudyConfig(axes=axes, exclude=exclude)
    cells = expand(tiny_config().model_copy(update={"study": study}), StudyFolder(Path("x")))
    found = [(c.config.seed, c.config.lora.target_modules, c.values["variant"]) for c in cells]
    assert [f"{seed} [{', '.join(targets)}] {variant}" for seed, targets, variant in found] == left
    assert not log_lines


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        ([{"seed": 0}, {"seed": 1}], "leaves out every cell"),
        ([{"sed": 0}], "'sed' is no axis; there are: seed"),
    ],
)
def test_what_cannot_be_left_out_is_refused(
    tiny_config: Callable[..., RunConfig], exclude: list[dict[str, Any]], message: str
) -> None:
    study = StudyConfig(axes={"seed": [0, 1]}, exclude=exclude)
    with pytest.raises(UserError, match=rf"^--study\.exclude: {message}"):
        expand(tiny_config().model_copy(update={"study": study}), StudyFolder(Path("x")))


def test_a_value_to_leave_out_that_there_is_not_is_told(
    tiny_config: Callable[..., RunConfig], log_lines: list[str]
) -> None:
    study = StudyConfig(axes={"seed": [0, 1]}, exclude=[{"seed": [1, 2]}])
    assert len(expand(tiny_config().model_copy(update={"study": study}), StudyFolder(Path("x")))) == 1
    assert log_lines == [], "the cells are made several times in a command"
    tell_unknown_values(study)
    assert log_lines == ["WARNING --study.exclude: the axis seed has no value 2; naming it has no effect"]


def test_damaged_losses_of_rows_are_damage(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    (cell,) = expand(with_study(tiny_config("--method", "lora"), {"seed": [0]}), StudyFolder(tmp_path))
    cell.folder.root.mkdir(parents=True)
    cell.folder.metrics.write_text(json.dumps(RESULT))
    assert damage(cell) == (
        f"seed-0: {cell.folder.ranks}: does not exist; to train the cell again, remove {cell.folder.root}"
    ), "the cell had counted without its ranks, or the maps of ranks had failed"
    ranks.save(RankRecord(4, (LayerRank("a", 1),)), cell.folder.ranks)
    assert damage(cell) == ""
    cell.folder.row_losses.write_text("no table")
    assert "row_losses.parquet: not readable as parquet" in damage(cell)


def test_the_cells_are_grouped_by_the_name_of_the_study_unless_a_group_is_given(
    tiny_config: Callable[..., RunConfig],
) -> None:
    for given, group in (((), "tiny"), (("--tracking.group", "mine"), "mine")):
        cells = expand(with_study(tiny_config(*given, "--tracking.wandb", "offline"), AXES), StudyFolder(Path("x")))
        assert {cell.config.tracking.group for cell in cells} == {group}
    disabled = expand(with_study(tiny_config("--tracking.wandb", "disabled"), AXES), StudyFolder(Path("x")))
    assert {cell.config.tracking.group for cell in disabled} == {None}


@pytest.mark.parametrize(
    ("given", "axes"),
    [(("--method", "lora_ranks"), "{lora.ranks_from: [a, b]}"), (("--task.type", "text"), "{task.path: [a, b]}")],
)
def test_what_the_cells_of_a_study_give_may_be_missing_before(given: tuple[str, ...], axes: str) -> None:
    """With `--method lora_ranks` for all cells, the ranks of each cell were refused as missing."""
    cells = expand(parse([*given, "--study.axes", axes]).config, StudyFolder(Path("x")))
    assert [list(cell.values.values()) for cell in cells] == [["a"], ["b"]]


def test_an_axis_of_paths_has_the_columns_of_each(tmp_path: Path) -> None:
    """The columns of one file were read from the defaults, as another layer gave the path."""
    axes = {"task.path": {"a.csv": {"task.label_column": "y"}, "b.csv": {"task.text_columns": ["s"]}}}
    config = settings({"task.type": "text", "task.path": "z.csv", "study.axes": axes})
    first, second = (cell.config.task for cell in expand(config, StudyFolder(tmp_path)))
    assert isinstance(first, Table)
    assert isinstance(second, Table)
    assert (first.path, first.label_column, second.path, second.text_columns) == ("a.csv", "y", "b.csv", ["s"])


def test_the_columns_of_a_file_hold_for_all_paths_of_an_axis(tmp_path: Path) -> None:
    axes = {"task.path": ["a.csv", "b.csv"]}
    config = settings({"task.type": "text", "task.text_columns": ["s"], "study.axes": axes})
    for cell in expand(config, StudyFolder(tmp_path)):
        assert isinstance(cell.config.task, Table)
        assert cell.config.task.text_columns == ["s"]
