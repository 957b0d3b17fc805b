"""The row that study.reference names, and the cells of that row."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig, StudyConfig
from autolora.engine.study.cells import expand
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.reference import reference_cells, refuse_unknown_reference, with_reference
from autolora.engine.study.rows import REFERENCE

KIND = "hypergradient.type"
TYPES = {KIND: ["first_order", "darts", "sama"], "seed": [0, 1]}
LR_FOR_SAMA = {KIND: {"sama": {"hypergradient.eta": "lr"}}}

Chosen = Callable[..., set[str]]


@pytest.fixture
def chosen(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> Chosen:
    """chosen("darts", axes=..., variants=...): the cells of the row that this reference names."""

    def find(reference: str | None, **study: Any) -> set[str]:
        config = dataclasses.replace(tiny_config(), study=StudyConfig(**study, reference=reference))
        cells = expand(config, StudyFolder(tmp_path))
        refuse_unknown_reference(config.study, cells)
        return reference_cells(config.study, cells)

    return find


@pytest.mark.parametrize("name", ["darts", "darts (eta betty)"])
def test_a_row_is_named_by_its_value_or_as_the_tables_name_it(chosen: Chosen, name: str) -> None:
    assert chosen(name, axes=TYPES, where=LR_FOR_SAMA) == {"type-darts_seed-0", "type-darts_seed-1"}


@pytest.mark.parametrize("name", ["8", "train_rows 8"])
def test_a_number_on_an_axis_names_its_row(chosen: Chosen, name: str) -> None:
    assert chosen(name, axes={"task.train_rows": [8, 16]}) == {"train_rows-8"}


@pytest.mark.parametrize("name", ["learning_rate 1", "learning_rate 1.0", "1", "learning_rate 1e0"])
def test_a_number_may_be_spelled_as_the_user_likes(chosen: Chosen, name: str) -> None:
    axes = {"retrain.learning_rate": [1e-5, 0.001, 1]}
    assert chosen(name, axes=axes) == {"learning_rate-1"}
    assert chosen("learning_rate 1e-5", axes=axes) == {"learning_rate-1e-05"}


def test_a_list_may_be_spelled_without_blanks(chosen: Chosen) -> None:
    axes = {"lora.target_modules": [["query"], ["query", "value"]], "lora.k": [4]}
    assert chosen("target_modules [query,value], k 4.0", axes=axes) == {"target_modules-query-value_k-4"}


def test_the_paths_of_tasks_name_no_row(chosen: Chosen) -> None:
    axes = {"task.path": ["a.csv", "b.csv"], "method": ["lora", "full"]}
    found = chosen("lora", axes=axes, where={"method": {"lora": {"task.type": "text"}, "full": {"task.type": "text"}}})
    assert found == {"path-a.csv_method-lora", "path-b.csv_method-lora"}


def test_a_variant_and_a_method_name_the_rows_of_the_paired_tables(chosen: Chosen) -> None:
    axes, variants = {"seed": [0], KIND: ["darts", "exact"]}, {"small": {"lora.k": 2}, "big": {"lora.k": 8}}
    both = {f"seed-0_type-{kind}_variant-big" for kind in ("darts", "exact")}
    assert chosen("big", axes=axes, variants=variants) == both
    assert chosen("exact, big", axes=axes, variants=variants) == {"seed-0_type-exact_variant-big"}
    assert chosen("lora", axes={"method": ["autolora", "lora"]}) == {"method-lora"}
    assert chosen(None, axes=axes) == set()


def test_a_name_that_no_row_has_is_refused_with_those_there_are(chosen: Chosen) -> None:
    message = (
        r"^--study\.reference: no row of the study is named 'dart'; there are: 'first_order', 'darts \(eta betty\)', "
        r"'sama \(eta lr\)'$"
    )
    with pytest.raises(UserError, match=message):
        chosen("dart", axes=TYPES, where=LR_FOR_SAMA)


def test_the_only_row_as_a_reference_is_said_to_do_nothing(chosen: Chosen, log_lines: list[str]) -> None:
    chosen("darts", axes={KIND: ["darts"], "seed": [0, 1]})
    assert log_lines == ["WARNING --study.reference: does nothing, as the study has only the row darts"]


def test_the_runs_of_the_reference_are_marked() -> None:
    results = pd.DataFrame({"cell": ["a", "b"]})
    assert with_reference(results, {"b", "not finished"})[REFERENCE].to_list() == [False, True]
    assert REFERENCE not in with_reference(results, set())
