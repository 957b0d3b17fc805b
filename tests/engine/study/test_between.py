"""What a cell takes from other cells."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.study.between import reads, with_chosen_rate
from autolora.engine.study.cells import Cell, expand
from autolora.engine.study.folder import StudyFolder
from tests.helpers.finished import RESULT
from tests.helpers.studies import VARIANTS, with_study
from tests.helpers.tiny import MEASURED


def finish(cell: Cell, rate: float, *, chose: bool = True) -> None:
    """Writes the result of a cell at this rate, which it chose itself or took from another cell."""
    metrics = cell.folder.metrics
    metrics.parent.mkdir(parents=True)
    tried = cell.config.retrain.rates if chose else []
    metrics.write_text(json.dumps(RESULT | {"learning_rate": rate, "learning_rates_tried": tried}))


def test_a_rate_whose_sweep_failed_is_reported(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config("--retrain.learning_rate", "[1e-3,3e-2]")
    cells = expand(with_study(config, {"seed": [0, 1]}), StudyFolder(Path("nowhere")))
    assert with_chosen_rate(cells[0], cells) is cells[0]
    with pytest.raises(
        UserError, match=r"^--study\.sweep_once: cell seed-0, which chooses the learning rate, has not finished"
    ):
        with_chosen_rate(cells[1], cells)


def test_a_base_model_that_is_only_evaluated_needs_no_rate_of_the_first_seed(
    tiny_config: Callable[..., RunConfig],
) -> None:
    chat = ("--method", "head", "--task.type", "chat", "--task.path", "x.jsonl")
    config = tiny_config(*chat, "--retrain.learning_rate", "[1e-3,3e-2]")
    cells = expand(with_study(config, {"seed": [0, 1]}), StudyFolder(Path("nowhere")))
    assert with_chosen_rate(cells[1], cells) is cells[1]


def rates(cells: Sequence[Cell]) -> list[list[float]]:
    return [with_chosen_rate(cell, cells).config.retrain.rates for cell in cells]


def test_a_seed_with_rates_of_its_own_chooses_itself(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = tiny_config("--retrain.learning_rate", "[1e-3,3e-2]")
    own = {"0": {"retrain.learning_rate": 0.5}, "3": {"retrain.learning_rate": [1e-2, 1e-1]}}
    cells = expand(with_study(config, {"seed": {"0": {}, "1": {}, "2": {}} | own}), StudyFolder(tmp_path))
    finish(cells[0], 0.5)
    finish(cells[1], 1e-3)
    assert rates(cells) == [[0.5], [1e-3, 3e-2], [1e-3], [1e-2, 1e-1]]
    assert reads(cells[2], cells, sweep_once=True) == [cells[1]]
    assert reads(cells[3], cells, sweep_once=True) == []


def test_a_finished_seed_keeps_its_rate_when_the_first_is_run_again(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = tiny_config("--retrain.learning_rate", "[1e-3,3e-2]")
    cells = expand(with_study(config, {"seed": [0, 1]}), StudyFolder(tmp_path))
    finish(cells[1], 3e-2, chose=False)
    assert rates(cells) == [[3e-2], [3e-2]]


@pytest.mark.parametrize("seeds", [[2], [0, 1, 2], [2, 3], [3, 2, 1]])
def test_the_seeds_of_a_study_may_change_after_one_has_chosen_the_rate(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, seeds: list[int]
) -> None:
    """Finished cells were refused, as if the rates had changed."""
    config = tiny_config("--retrain.learning_rate", "[1e-3,3e-2]")

    def cells_of(seeds: list[int]) -> list[Cell]:
        return expand(with_study(config, {"seed": seeds}), StudyFolder(tmp_path))

    first, second = cells_of([1, 2])
    finish(first, 3e-2)
    finish(second, 3e-2, chose=False)
    expected = [[1e-3, 3e-2] if seed == 1 else [3e-2] for seed in seeds]
    assert rates(cells_of(seeds)) == expected


def test_a_damaged_first_seed_is_one_that_has_not_finished(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = tiny_config("--retrain.learning_rate", "[1e-3,3e-2]")
    cells = expand(with_study(config, {"seed": [0, 1]}), StudyFolder(tmp_path))
    finish(cells[0], 1e-3)
    cells[0].folder.metrics.write_text('{"learning_rate": "fast"}')
    with pytest.raises(
        UserError, match=r"^--study\.sweep_once: cell seed-0, which .* or its metrics\.json is damaged$"
    ):
        with_chosen_rate(cells[1], cells)
    finish(cells[1], 3e-2, chose=False)
    assert with_chosen_rate(cells[1], cells).config.retrain.rate == 3e-2


@pytest.mark.parametrize("named_by", ["file", "folder"])
def test_a_cell_reads_the_ranks_and_the_rate_of_others(tiny_config: Callable[..., RunConfig], named_by: str) -> None:
    config = tiny_config("--retrain.learning_rate", "[1e-3,3e-2]")
    variants = VARIANTS
    if named_by == "folder":
        source = VARIANTS["shuffled"]["lora.ranks_from"].removesuffix("/ranks.json")
        variants = VARIANTS | {"shuffled": VARIANTS["shuffled"] | {"lora.ranks_from": source}}
    cells = expand(with_study(config, {"seed": [0, 1], "variant": variants}), StudyFolder(Path("x")))
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
    again = {"answer.rule": "shares", "answer.from": "{runs}/seed-{seed}_variant-first", "answer.budget": 0.5}
    axes = {"seed": [0, 1], "variant": {"again": again, "first": {"answer.rule": "shares"}}}
    cells = expand(with_study(tiny_config(*MEASURED), axes), StudyFolder(Path("x")))
    found = {c.config.name: [o.config.name for o in reads(c, cells, sweep_once=False)] for c in cells}
    assert found == {
        "seed-0_variant-again": ["seed-0_variant-first"],
        "seed-0_variant-first": [],
        "seed-1_variant-again": ["seed-1_variant-first"],
        "seed-1_variant-first": [],
    }


def test_a_cell_reads_the_search_whose_components_it_starts_from(tiny_config: Callable[..., RunConfig]) -> None:
    again = {"method": "lora", "retrain.init": "{runs}/seed-{seed}_variant-first"}
    axes = {"seed": [0, 1], "variant": {"first": {}, "again": again, "fresh": {"method": "lora"}}}
    first, later, fresh, *_ = cells = expand(with_study(tiny_config(), axes), StudyFolder(Path("x")))
    assert reads(later, cells, sweep_once=False) == [first]
    assert reads(fresh, cells, sweep_once=False) == []


def test_a_rate_is_that_of_the_first_seed_at_the_same_place(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = tiny_config("--retrain.learning_rate", "[1e-3,3e-2]")
    variants = {"a": {}, "b": {"method": "full", "retrain.learning_rate": [1e-5, 1e-4]}}
    cells = expand(with_study(config, {"seed": [0, 1], "variant": variants}), StudyFolder(tmp_path))
    finish(cells[0], 3e-2)
    finish(cells[1], 1e-5)
    assert rates(cells) == [[1e-3, 3e-2], [1e-5, 1e-4], [3e-2], [1e-5]]
