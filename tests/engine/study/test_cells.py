"""Cells of a study: from axes to configurations, in the order of what they read from each other."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.files import shipped_configs
from autolora.configs.measure import Size, Threshold
from autolora.configs.schema import RunConfig, Shuffled
from autolora.configs.study import word
from autolora.engine.store.sources import filled_in
from autolora.engine.study.cells import Cell, cell_name, expand, in_order
from autolora.engine.study.folder import StudyFolder
from tests.helpers.command import parse
from tests.helpers.finished import RESULT, with_study

VARIANTS = {
    "shuffled": {"method": "lora_shuffled", "lora.ranks_from": {"variant": "autolora"}},
    "autolora": {},
    "by size": {"choose.rule": "size", "choose.budget": 2, "measure.from": {"variant": "autolora"}},
    "goes on": {"method": "lora", "retrain.init": {"variant": "autolora", "seed": 0}},
}
Config = Callable[..., RunConfig]


def cells_of(
    config: RunConfig, axes: dict[str, Any], root: Path = Path("x"), **more: Any
) -> list[Cell]:
    return expand(with_study(config, axes, **more), StudyFolder(root))


def test_axes_expand_to_every_combination(tiny_config: Config) -> None:
    cells = cells_of(
        tiny_config(), {"hypergradient.type": ["first_order", "exact"], "seed": [0, 1]}
    )
    places = [(c.config.hypergradient.type, c.config.seed) for c in cells]
    assert places == [("first_order", 0), ("first_order", 1), ("exact", 0), ("exact", 1)]
    assert [c.name for c in cells][:2] == ["type-first_order_seed-0", "type-first_order_seed-1"]
    assert [c.row for c in cells][::2] == ["first_order", "exact"]
    assert not any(c.config.is_study for c in cells)


def test_a_label_is_the_sibling_with_the_same_values_on_all_other_axes(tiny_config: Config) -> None:
    cells = cells_of(tiny_config(), {"seed": [0, 1], "variant": VARIANTS})
    shuffled, learned, by_size, goes_on = cells[4:]
    assert isinstance(shuffled.config, Shuffled)
    assert [type(c.config.choose) for c in (learned, by_size)] == [Threshold, Size]
    assert filled_in(shuffled.config.lora.ranks_from, shuffled.config) == learned.folder.ranks
    assert filled_in(str(by_size.config.measure.from_run), by_size.config) == learned.folder.root
    assert filled_in(goes_on.config.retrain.start, goes_on.config) == cells[1].folder.root, (
        "at seed 0"
    )
    assert [c.needs for c in cells[4:]] == [(learned.name,), (), (learned.name,), (cells[1].name,)]
    order = [c.name for c in in_order(cells)]
    assert sorted(order) == sorted(c.name for c in cells)
    assert all(order.index(need) < order.index(c.name) for c in cells for need in c.needs)


def test_cells_that_read_each_other_are_refused(tiny_config: Config) -> None:
    circle = {
        one: {"method": "lora_ranks", "lora.ranks_from": {"variant": other}}
        for one, other in ("ab", "ba")
    }
    with pytest.raises(UserError, match=r"variant-a.* read each other in a circle"):
        in_order(cells_of(tiny_config(), {"variant": {"c": {}, **circle}}))


def test_an_axis_may_have_named_settings(tiny_config: Config) -> None:
    axes = {"seed": {"0": {}, "1": {"search.steps": 9}}, "variant": {"a": {}, "b": {"lora.k": 2}}}
    found = [
        (c.config.seed, c.config.search.steps, c.config.lora.k)
        for c in cells_of(tiny_config(), axes)
    ]
    assert found == [(0, 6, 4), (0, 6, 2), (1, 9, 4), (1, 9, 2)]
    methods = {
        "variant": {"lora": {"method": "lora"}, "own": {}},
        "lora.dropout": {"0.1": {"search.steps": 9}},
    }
    assert len(cells_of(tiny_config(), methods)) == 2, "LoRA lacks what another axis sets"


MISTAKES: dict[str, dict[str, Any]] = {
    "--hypergradient.typ: there is no such key": {"hypergradient.typ": ["darts"]},
    "--search.steps: 0 is not allowed": {"search.steps": [0]},
    "has two values of seed": {"seed": {"0": {"seed": 5}}},
    "has two values of lora.k": {"seed": {"0": {"lora.k": 3}, "1": {}}, "lora.k": [2]},
    "no cell of the study has this key (study.axes, variant a)": {
        "variant": {"a": {"method": "lora", "search.steps": 5}}
    },
    "two cells would have one folder": {"variant": {"Wide": {}, "wide": {}}},
    "no cell {seed: 0, variant: c}": {
        "seed": [0],
        "variant": {"a": {"method": "lora_ranks", "lora.ranks_from": {"variant": "c"}}, "b": {}},
    },
}


@pytest.mark.parametrize("named", MISTAKES)
def test_a_mistake_is_named(tiny_config: Config, named: str) -> None:
    with pytest.raises(UserError, match=re.escape(named)):
        cells_of(tiny_config(), MISTAKES[named])


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ([{"variant": "b"}], ["0 [q] a", "0 [q, v] a", "1 [q] a", "1 [q, v] a"]),
        ([{"variant": "b", "seed": [1, "0"]}, {"seed": 1}], ["0 [q] a", "0 [q, v] a"]),
        ([{"variant": "b"}, {"lora.target_modules": ["q", "v"]}], ["0 [q] a", "1 [q] a"]),
    ],
)
def test_cells_can_be_left_out(
    tiny_config: Config, exclude: list[dict[str, Any]], left: list[str]
) -> None:
    axes = {
        "seed": [0, 1],
        "lora.target_modules": [["q"], ["q", "v"]],
        "variant": {"a": {}, "b": {}},
    }
    cells = cells_of(tiny_config(), axes, exclude=exclude)
    assert [" ".join(word(value) for value in c.values.values()) for c in cells] == left
    with pytest.raises(UserError, match="'sed' is no axis; there are: seed, lora"):
        cells_of(tiny_config(), axes, exclude=[{"sed": 0}])


def test_the_learning_rate_that_one_cell_chose_is_that_of_the_others(
    tiny_config: Config, tmp_path: Path
) -> None:
    variants = {
        "a": {},
        "b": {"method": "full", "retrain.learning_rate": [1e-5, 1e-4]},
        "c": {"retrain.learning_rate": 1},
    }
    config = tiny_config("--retrain.learning_rate", "[1e-3,3e-2]")
    first, _, one, second, full, own = cells_of(
        config, {"seed": [0, 1], "variant": variants}, tmp_path, rate_from={"seed": 0}
    )
    assert [c.needs for c in (first, second, full, own)] == [
        (),
        (first.name,),
        ("seed-0_variant-b",),
        (),
    ]
    assert (first.placed().retrain.rates, one.placed().retrain.rates) == ([1e-3, 3e-2], [1])
    with pytest.raises(UserError, match=r"^--study\.rate_from: .*seed-0_variant-a, which chooses"):
        second.placed()
    for cell, rate in ((second, 1e-3), (first, 3e-2)):
        cell.folder.root.mkdir(parents=True)
        cell.folder.metrics.write_text(json.dumps(RESULT | {"learning_rate": rate}))
        assert second.placed().retrain.rates == [rate], (
            "while the chooser is gone, a finished cell keeps its own"
        )


def test_the_shipped_studies_have_their_cells() -> None:
    found = {}
    for name in shipped_configs():
        config = parse(["--config", name]).config
        if config.is_study:
            cells = expand(config, StudyFolder.of(config))
            assert len(in_order(cells)) == len(cells)
            found[name.removesuffix(".yaml")] = len(cells)
    assert found == {
        "beta": 32,
        "bionlp_minilm": 8,
        "e2e_smollm2": 2,
        "figure2_roberta_large": 120,
        "figure3_ranks": 6,
        "study_hypergradients": 16,
        "table1_glue": 168,
        "table1_minilm": 388,
        "table4_ablations": 120,
        "table5_cost": 20,
        "ways": 90,
        "ways_e2e": 28,
    }


def test_cell_names_are_folder_names() -> None:
    assert cell_name({"hypergradient.eta": "lr", "model.name": "a/b: c"}) == "eta-lr_name-a-b-c"
    values = {
        "task.train_rows": None,
        "search.dropout": True,
        "retrain.learning_rate": [1e-3, 3e-3],
    }
    assert cell_name(values) == "train_rows-null_dropout-true_learning_rate-0.001-0.003"
    alike = {"search.learning_rate": 1e-3, "seed": 0, "retrain.learning_rate": 1e-5}
    assert cell_name(alike) == "search.learning_rate-0.001_seed-0_retrain.learning_rate-1e-05"


def test_long_names_and_names_of_letters_that_a_folder_lacks_end_in_digits() -> None:
    long = [{"task.path": "/data/" + "x" * 200, "seed": seed} for seed in (0, 1)]
    names = {cell_name(values) for values in (*long, {"variant": "日本"}, {"variant": "中国"})}
    assert len(names) == 4
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) for name in names)
