"""What a cell takes from other cells."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig, StudyConfig
from autolora.engine.disk.files import write_json
from autolora.engine.study.between import reads, with_chosen_rate
from autolora.engine.study.cells import Cell, expand
from autolora.engine.study.folder import StudyFolder
from tests.helpers.finished import RESULT
from tests.helpers.studies import VARIANTS
from tests.helpers.tiny import MEASURED


def finish(cell: Cell, rate: float, *, chose: bool = True) -> None:
    """Writes the result of a cell at this rate, which it chose itself or took from another cell."""
    metrics = cell.folder.metrics
    metrics.parent.mkdir(parents=True)
    tried = cell.config.retrain.learning_rates if chose else []
    metrics.write_text(json.dumps(RESULT | {"learning_rate": rate, "learning_rates_tried": tried}))


def test_a_rate_whose_sweep_failed_is_reported(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config("--retrain.learning_rates", "[1e-3,3e-2]")
    cells = expand(dataclasses.replace(config, study=StudyConfig({"seed": [0, 1]})), StudyFolder(Path("nowhere")))
    assert with_chosen_rate(cells[0], cells) is cells[0]
    with pytest.raises(
        UserError, match=r"^--study\.sweep_once: cell seed-0, which chooses the learning rate, has not finished"
    ):
        with_chosen_rate(cells[1], cells)


def test_a_base_model_that_is_only_evaluated_needs_no_rate_of_the_first_seed(
    tiny_config: Callable[..., RunConfig],
) -> None:
    chat = ("--method", "head", "--task.type", "chat", "--task.path", "x.jsonl", "--lora.target_modules", "all-linear")
    config = tiny_config(*chat, "--retrain.learning_rates", "[1e-3,3e-2]")
    cells = expand(dataclasses.replace(config, study=StudyConfig({"seed": [0, 1]})), StudyFolder(Path("nowhere")))
    assert with_chosen_rate(cells[1], cells) is cells[1]


def rates(cells: Sequence[Cell]) -> list[tuple[float, list[float]]]:
    placed = [with_chosen_rate(cell, cells).config.retrain for cell in cells]
    return [(settings.learning_rate, settings.learning_rates) for settings in placed]


def test_a_seed_with_rates_of_its_own_chooses_itself(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = tiny_config("--retrain.learning_rates", "[1e-3,3e-2]", "--retrain.learning_rate", "0.5")
    where = {"seed": {"0": {"retrain.learning_rates": []}, "3": {"retrain.learning_rates": [1e-2, 1e-1]}}}
    study = StudyConfig({"seed": [0, 1, 2, 3]}, where=where)
    cells = expand(dataclasses.replace(config, study=study), StudyFolder(tmp_path))
    finish(cells[0], 0.5)
    finish(cells[1], 1e-3)
    assert rates(cells) == [(0.5, []), (0.5, [1e-3, 3e-2]), (1e-3, []), (0.5, [1e-2, 1e-1])]
    assert reads(cells[2], cells, sweep_once=True) == [cells[1]]
    assert reads(cells[3], cells, sweep_once=True) == []


def test_a_finished_seed_keeps_its_rate_when_the_first_is_run_again(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = tiny_config("--retrain.learning_rates", "[1e-3,3e-2]")
    cells = expand(dataclasses.replace(config, study=StudyConfig({"seed": [0, 1]})), StudyFolder(tmp_path))
    finish(cells[1], 3e-2, chose=False)
    assert rates(cells) == [(3e-2, []), (3e-2, [])]


@pytest.mark.parametrize("seeds", [[2], [0, 1, 2], [2, 3], [3, 2, 1]])
def test_the_seeds_of_a_study_may_change_after_one_has_chosen_the_rate(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, seeds: list[int]
) -> None:
    """Finished cells were refused, as if the rates had changed."""
    config = tiny_config("--retrain.learning_rates", "[1e-3,3e-2]", "--retrain.learning_rate", "0.5")

    def cells_of(seeds: list[int]) -> list[Cell]:
        return expand(dataclasses.replace(config, study=StudyConfig({"seed": seeds})), StudyFolder(tmp_path))

    first, second = cells_of([1, 2])
    finish(first, 3e-2)
    finish(second, 3e-2, chose=False)
    expected = [(0.5, [1e-3, 3e-2]) if seed == 1 else (3e-2, []) for seed in seeds]
    assert rates(cells_of(seeds)) == expected


def test_a_damaged_first_seed_is_one_that_has_not_finished(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = tiny_config("--retrain.learning_rates", "[1e-3,3e-2]")
    cells = expand(dataclasses.replace(config, study=StudyConfig({"seed": [0, 1]})), StudyFolder(tmp_path))
    finish(cells[0], 1e-3)
    cells[0].folder.metrics.write_text('{"learning_rate": "fast"}')
    with pytest.raises(
        UserError, match=r"^--study\.sweep_once: cell seed-0, which .* or its metrics\.json is damaged$"
    ):
        with_chosen_rate(cells[1], cells)
    finish(cells[1], 3e-2, chose=False)
    assert with_chosen_rate(cells[1], cells).config.retrain.learning_rate == 3e-2


@pytest.mark.parametrize("named_by", ["file", "folder"])
def test_a_cell_reads_the_ranks_and_the_rate_of_others(tiny_config: Callable[..., RunConfig], named_by: str) -> None:
    config = tiny_config("--retrain.learning_rates", "[1e-3,3e-2]")
    variants = VARIANTS
    if named_by == "folder":
        source = VARIANTS["shuffled"]["lora.ranks_from"].removesuffix("/ranks.json")
        variants = VARIANTS | {"shuffled": VARIANTS["shuffled"] | {"lora.ranks_from": source}}
    cells = expand(dataclasses.replace(config, study=StudyConfig({"seed": [0, 1]}, variants)), StudyFolder(Path("x")))
    found = {
        once: {c.config.name: [o.config.name for o in reads(c, cells, sweep_once=once)] for c in cells}
        for once in (False, True)
    }
    assert {name: others for name, others in found[False].items() if others} == {
        "seed-0_variant-shuffled": ["seed-0_variant-autolora"],
        "seed-1_variant-shuffled": ["seed-1_variant-autolora"],
    }
    assert found[True]["seed-0_variant-autolora"] == []
    assert found[True]["seed-1_variant-autolora"] == ["seed-0_variant-autolora"]
    assert found[True]["seed-1_variant-shuffled"] == ["seed-0_variant-shuffled", "seed-1_variant-autolora"]


def test_a_cell_reads_the_search_that_it_answers_again(tiny_config: Callable[..., RunConfig]) -> None:
    again = {"answer.from": "{runs}/seed-{seed}_variant-first", "answer.budget": 0.5}
    study = StudyConfig({"seed": [0, 1]}, {"again": again, "first": {"answer.rule": "shares"}})
    cells = expand(dataclasses.replace(tiny_config(*MEASURED), study=study), StudyFolder(Path("x")))
    found = {c.config.name: [o.config.name for o in reads(c, cells, sweep_once=False)] for c in cells}
    assert found == {
        "seed-0_variant-again": ["seed-0_variant-first"],
        "seed-0_variant-first": [],
        "seed-1_variant-again": ["seed-1_variant-first"],
        "seed-1_variant-first": [],
    }


def test_a_cell_reads_the_search_whose_components_it_starts_from(tiny_config: Callable[..., RunConfig]) -> None:
    again = {"method": "lora", "retrain.init": "search", "retrain.init_from": "{runs}/seed-{seed}_variant-first"}
    study = StudyConfig({"seed": [0, 1]}, {"first": {}, "again": again, "fresh": {"method": "lora"}})
    first, later, fresh, *_ = cells = expand(dataclasses.replace(tiny_config(), study=study), StudyFolder(Path("x")))
    assert reads(later, cells, sweep_once=False) == [first]
    assert reads(fresh, cells, sweep_once=False) == []


def test_a_method_that_chooses_ranks_keeps_the_rate_of_its_trials(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """The trials of the first seed had trained at another rate than those of the others."""
    given = ("--retrain.learning_rates", "[1e-3,3e-3]", "--retrain.learning_rate", "1e-3")
    config = dataclasses.replace(tiny_config("--method", "lora_grid", *given), study=StudyConfig({"seed": [0, 1]}))
    first, second = cells = expand(config, StudyFolder(tmp_path))
    write_json(first.folder.metrics, RESULT | {"learning_rate": 3e-3, "learning_rates_tried": [1e-3, 3e-3]})
    retrain = with_chosen_rate(second, cells).config.retrain
    assert (retrain.learning_rate, retrain.learning_rates) == (1e-3, [3e-3])


def test_a_rate_is_that_of_the_first_seed_at_the_same_place(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = tiny_config("--retrain.learning_rates", "[1e-3,3e-2]", "--retrain.learning_rate", "0.5")
    variants = {"a": {}, "b": {"method": "full", "retrain.learning_rates": [1e-5, 1e-4]}}
    study = StudyConfig({"seed": [0, 1]}, variants)
    cells = expand(dataclasses.replace(config, study=study), StudyFolder(tmp_path))
    finish(cells[0], 3e-2)
    finish(cells[1], 1e-5)
    assert rates(cells) == [(0.5, [1e-3, 3e-2]), (0.5, [1e-5, 1e-4]), (3e-2, []), (1e-5, [])]
