"""Cells of a study: from axes, variants and places to configurations."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.configs.schema import RunConfig, StudyConfig
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
    assert all(not c.config.study.axes for c in cells)


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
    "study",
    [
        StudyConfig({"runs_folder": ["a", "b"]}),
        StudyConfig({"seed": [0]}, {"a": {"name": "x"}}),
        StudyConfig({"seed": [0]}, where={"seed": {"0": {"study.sweep_once": True}}}),
    ],
)
def test_what_a_study_itself_sets_is_no_axis(tiny_config: Callable[..., RunConfig], study: StudyConfig) -> None:
    with pytest.raises(UserError, match=r"^--study\.(axes|variants|where): .* is not allowed, as the study names and"):
        expand(dataclasses.replace(tiny_config(), study=study), StudyFolder(Path("x")))


@pytest.mark.parametrize(
    "study",
    [
        StudyConfig({"seed": [0, 1]}, {"a": {}, "b": {"seed": 5}}),
        StudyConfig({"seed": [0, 1]}, where={"seed": {"0": {"seed": 5}}}),
        StudyConfig({"seed": [0, 1], "lora.r": [2]}, where={"seed": {"0": {"lora.r": 3}}}),
    ],
)
def test_the_value_on_an_axis_is_not_set_again(tiny_config: Callable[..., RunConfig], study: StudyConfig) -> None:
    """The cell would be named, and stand in the table, by a value that it does not have."""
    with pytest.raises(UserError, match=r"^--study\.(variants|where): (seed|lora\.r) is an axis, which gives its"):
        expand(dataclasses.replace(tiny_config(), study=study), StudyFolder(Path("x")))


def test_variants_are_one_more_axis(tiny_config: Callable[..., RunConfig]) -> None:
    config = dataclasses.replace(tiny_config(), study=StudyConfig({"seed": [0, 1]}, VARIANTS))
    cells = expand(config, StudyFolder(Path("x")))
    assert [(c.values["seed"], c.values["variant"]) for c in cells] == [(s, v) for s in (0, 1) for v in VARIANTS]
    assert [c.config.answer.rule for c in cells[:3]] == ["threshold", "size", "threshold"]
    assert cells[1].config.name == "seed-0_variant-by-size"
    unknown = dataclasses.replace(config, study=StudyConfig({}, {"a": {"answer.rul": "size"}}))
    with pytest.raises(UserError, match=r"answer\.rule"):
        expand(unknown, StudyFolder(Path("x")))
    alike = dataclasses.replace(config, study=StudyConfig({"seed": [0, 0]}))
    with pytest.raises(UserError, match="two cells would be named seed-0"):
        expand(alike, StudyFolder(Path("x")))


def test_settings_can_hold_at_one_place(tiny_config: Callable[..., RunConfig]) -> None:
    study = StudyConfig({"seed": [0, 1]}, {"a": {}, "b": {"lora.r": 2}}, {"seed": {"1": {"search.steps": 9}}})
    cells = expand(dataclasses.replace(tiny_config(), study=study), StudyFolder(Path("x")))
    assert [(c.config.search.steps, c.config.lora.r) for c in cells] == [(6, 4), (6, 2), (9, 4), (9, 2)]
    twice = StudyConfig({"seed": [0, 1]}, {"a": {}, "b": {"search.steps": 3}}, {"seed": {"1": {"search.steps": 9}}})
    with pytest.raises(
        UserError, match=r"^--study\.where: search\.steps of seed 1 already has another value in the cell "
    ):
        expand(dataclasses.replace(tiny_config(), study=twice), StudyFolder(Path("x")))
    unknown = dataclasses.replace(study, where={"sed": {"1": {}}})
    with pytest.raises(UserError, match="'sed' is no axis; there are: seed, variant"):
        expand(dataclasses.replace(tiny_config(), study=unknown), StudyFolder(Path("x")))


EXCLUDED: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "one value": ([{"variant": "b"}], ["0 [q] a", "0 [q, v] a", "1 [q] a", "1 [q, v] a"]),
    "several values and axes": ([{"variant": "b", "seed": [1, "0"]}, {"seed": 1}], ["0 [q] a", "0 [q, v] a"]),
    "a value that is a list": ([{"variant": "b"}, {"lora.target_modules": ["q", "v"]}], ["0 [q] a", "1 [q] a"]),
}


@pytest.mark.parametrize("case", EXCLUDED)
def test_cells_can_be_left_out(tiny_config: Callable[..., RunConfig], case: str, log_lines: list[str]) -> None:
    exclude, left = EXCLUDED[case]
    axes = {"seed": [0, 1], "lora.target_modules": [["q"], ["q", "v"]]}
    study = StudyConfig(axes, {"a": {}, "b": {}}, exclude=exclude)
    cells = expand(dataclasses.replace(tiny_config(), study=study), StudyFolder(Path("x")))
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
    study = StudyConfig({"seed": [0, 1]}, exclude=exclude)
    with pytest.raises(UserError, match=rf"^--study\.exclude: {message}"):
        expand(dataclasses.replace(tiny_config(), study=study), StudyFolder(Path("x")))


def test_a_value_to_leave_out_that_there_is_not_is_told(
    tiny_config: Callable[..., RunConfig], log_lines: list[str]
) -> None:
    study = StudyConfig({"seed": [0, 1]}, exclude=[{"seed": [1, 2]}])
    assert len(expand(dataclasses.replace(tiny_config(), study=study), StudyFolder(Path("x")))) == 1
    assert log_lines == [], "the cells are made several times in a command"
    tell_unknown_values(study)
    assert log_lines == ["WARNING --study.exclude: the axis seed has no value 2; naming it has no effect"]


def test_an_axis_may_be_narrowed_without_its_places(
    tiny_config: Callable[..., RunConfig], caplog: pytest.LogCaptureFixture
) -> None:
    study = StudyConfig({"seed": [0, 1]}, where={"seed": {"2": {"search.steps": 9}, "1": {"search.steps": 5}}})
    cells = expand(dataclasses.replace(tiny_config(), study=study), StudyFolder(Path("x")))
    assert [c.config.search.steps for c in cells] == [6, 5]
    tell_unknown_values(study)
    assert [record.getMessage() for record in caplog.records] == [
        "--study.where: the axis seed has no value 2; naming it has no effect"
    ]


def test_places_are_meant_by_value_not_by_spelling(tiny_config: Callable[..., RunConfig]) -> None:
    axes = {"search.dropout": [True, False], "search.learning_rate": [1e-3, 0.5]}
    where = {"search.dropout": {"true": {"lora.r": 1}}, "search.learning_rate": {"1e-3": {"search.steps": 9}}}
    cells = expand(dataclasses.replace(tiny_config(), study=StudyConfig(axes, where=where)), StudyFolder(Path("x")))
    assert [(c.config.lora.r, c.config.search.steps) for c in cells] == [(1, 9), (1, 6), (4, 9), (4, 6)]
    with pytest.raises(UserError, match=r"'variant' is not allowed; named settings go into study\.variants"):
        expand(dataclasses.replace(tiny_config(), study=StudyConfig({"variant": ["a"]})), StudyFolder(Path("x")))


def test_damaged_losses_of_rows_are_damage(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = dataclasses.replace(tiny_config("--method", "lora"), study=StudyConfig({"seed": [0]}))
    (cell,) = expand(config, StudyFolder(tmp_path))
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
    assert {cell.config.tracking.group for cell in disabled} == {None}, (
        "a command on the cell would say it is not read"
    )


@pytest.mark.parametrize(
    "study",
    [
        ("--study.variants", "{a: {lora.ranks_from: a}, b: {lora.ranks_from: b}}"),
        ("--study.axes", "{lora.ranks_from: [a, b]}"),
        ("--study.axes", "{seed: [0]}", "--study.where", "{seed: {0: {lora.ranks_from: a}}}"),
    ],
)
def test_what_the_cells_of_a_study_give_may_be_missing_before(study: tuple[str, ...]) -> None:
    """With `--method lora_ranks` for all cells, the ranks of each cell were refused as missing."""
    config = parse(["--method", "lora_ranks", *study]).config
    cells = expand(config, StudyFolder(Path("x")))
    assert {cell.config.lora.ranks_from for cell in cells} <= {"a", "b"}


@pytest.mark.parametrize(
    "study",
    [
        ("--study.where", "{seed: {0: {task.path: a.csv}}}"),
        ("--study.axes", "{task.path: [a.csv, b.csv]}", "--study.probe.steps", "[2]"),
    ],
)
def test_what_is_missing_outside_the_cells_is_refused_if_it_is_used_there(study: tuple[str, ...]) -> None:
    """By a run that is no study, or by the comparison of hypergradients."""
    with pytest.raises(UserError, match=r"^--task\.path: null is not allowed for --task\.type text"):
        parse(["--task.type", "text", *study])


def test_a_cell_without_what_others_give_is_refused() -> None:
    config = parse(["--method", "lora_ranks", "--study.variants", "{a: {lora.ranks_from: a}, b: {seed: 1}}"]).config
    with pytest.raises(UserError, match=r"^--lora\.ranks_from: null is not allowed for --method lora_ranks"):
        expand(config, StudyFolder(Path("x")))
