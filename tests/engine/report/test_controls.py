"""Uniform and shuffled ranks beside a run: found among its neighbours, or made by commands that parse."""

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.files import to_yaml
from autolora.configs.parser import parse
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_text
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.report.controls import Controls, controls_of
from autolora.engine.retrain.components import components_from
from autolora.engine.run.folder import RunFolder
from tests.helpers.neighbours import RECORD, put, result_of

SIZES = dict.fromkeys(("0.query", "0.value", "1.query"), 100)


def beside(root: Path, result: dict[str, Any] | None = None, record: RankRecord | None = RECORD) -> Controls | None:
    return controls_of(root / "mine", result or result_of(), record, SIZES)


def found_beside(root: Path) -> list[str]:
    controls = beside(root)
    assert controls is not None
    return [run.name for run in controls.runs[1:]]


def test_the_controls_among_the_neighbours_are_found(tmp_path: Path) -> None:
    put(tmp_path, "s", result_of("lora_shuffled", 0.4, lora__ranks_from="x", search__steps=3), [4, 3, 1])
    put(tmp_path, "u", result_of("lora", 0.45, lora__r=3, hypergradient__type="sama", answer__rule="shares"))
    controls = beside(tmp_path)
    assert controls is not None
    assert controls.metric == "f1"
    assert [(run.what, run.name, run.score) for run in controls.runs] == [
        ("this run (autolora)", "mine", 0.5), ("uniform, rank 3", "u", 0.45), ("shuffled ranks", "s", 0.4),
    ]  # fmt: skip
    assert (controls.runs[1].parameters, controls.runs[1].loss, controls.runs[1].calibrated) == (800, 0.7, 0.6)
    assert controls.missing == []
    assert controls.note == ""


def test_runs_of_other_settings_methods_or_ranks_are_no_controls(tmp_path: Path) -> None:
    put(tmp_path, "other-seed", result_of("lora", seed=1))
    put(tmp_path, "other-rate", result_of("lora", retrain__learning_rate=0.2))
    put(tmp_path, "key-unknown", result_of("lora", more__key=1))
    put(tmp_path, "other-method", result_of("adalora"))
    put(tmp_path, "other-ranks", result_of("lora_shuffled"), [4, 4, 1])
    put(tmp_path, "without-ranks", result_of("lora_shuffled"))
    put(tmp_path, ".u.overwrite", result_of("lora"))
    put(tmp_path, "mine", result_of("lora"))
    put(tmp_path, "old", {"method": "lora", "metrics": {"f1": 1.0}})
    (tmp_path / "file").write_text("x")
    put(tmp_path, "damaged", {}).metrics.write_text("{")
    assert found_beside(tmp_path) == []
    assert found_beside(tmp_path / "nowhere") == []


def test_a_neighbour_without_permission_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost+found in the folder of the runs, which root alone may read, ended every report."""
    put(tmp_path, "lost+found", result_of("lora", lora__r=3))
    put(tmp_path, "u", result_of("lora", lora__r=3))
    stat, listed = Path.stat, Path.iterdir

    def refused(path: Path, **options: Any) -> Any:  # by the test itself, as no folder refuses root
        if "lost+found" in path.parent.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    def unlisted(path: Path) -> Any:
        if path == tmp_path:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "stat", refused)
    assert found_beside(tmp_path) == ["u"]
    monkeypatch.setattr(Path, "iterdir", unlisted)
    assert found_beside(tmp_path) == []


def test_a_control_of_a_run_that_starts_from_its_search_starts_from_the_same(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    mine = result_of(retrain__init="search")
    for name, source in (("same", "{runs}/me"), ("other", "{runs}/another")):
        folder = put(tmp_path, name, result_of("lora", retrain__init="search", retrain__init_from=source))
        options = ("--method", "lora", "--retrain.init", "search", "--retrain.init_from", source)
        write_text(folder.config, to_yaml(tiny_config(*options, "--runs_folder", str(tmp_path))))
    put(tmp_path, "fresh", result_of("lora"))
    controls = controls_of(tmp_path / "me", mine, RECORD)
    assert controls is not None
    assert [run.name for run in controls.runs] == ["me", "same"]


DATA: dict[str, Any] = {
    "classes": ["a", "b"], "training": {"rows": 4, "sha256": "x"}, "evaluation_rows": None,
    "evaluation": {"test": {"rows": 2, "sha256": "y"}}, "source": {"rows": 6, "sha256": "s"}, "weights": "w",
}  # fmt: skip
MADE = {"data": DATA, "base_weights": "w"}


def test_a_run_on_other_rows_or_from_another_base_model_is_left_out_and_named(tmp_path: Path) -> None:
    """Labels were changed over, or the base model was trained again, between the two runs."""
    rows = MADE | {"data": DATA | {"training": {"rows": 4, "sha256": "z"}}}
    put(tmp_path, "rows", result_of("lora", lora__r=3) | rows)
    put(
        tmp_path,
        "tested",
        result_of("lora") | MADE | {"data": DATA | {"evaluation": {"test": {"rows": 9, "sha256": ""}}}},
    )
    put(tmp_path, "model", result_of("lora_shuffled") | MADE | {"base_weights": "v"}, [4, 3, 1])
    put(tmp_path, "other-rate", result_of("lora", retrain__learning_rate=0.2) | rows)
    controls = beside(tmp_path, result_of() | MADE)
    assert controls is not None
    assert controls.runs[1:] == []
    assert [one.method for one in controls.missing] == ["lora", "lora_shuffled"]
    on_rows = "trained on other rows: the data changed in between"
    from_weights = "trained from other weights of the base model, which changed in between"
    assert controls.note == (
        f"Left out: rows ({on_rows}), tested ({on_rows}), model ({from_weights}). Only runs on the same data and base "
        "model can be compared."
    )


def test_the_command_trains_a_control_again_that_was_left_out(tmp_path: Path) -> None:
    """Without --overwrite it would find its run finished."""
    put(tmp_path, "mine-uniform", result_of("lora", lora__r=3) | MADE | {"base_weights": "v"})
    put(tmp_path, "mine-shuffled", result_of("lora_shuffled", retrain__learning_rate=0.2), [4, 3, 1])
    controls = beside(tmp_path, result_of() | MADE)
    assert controls is not None
    uniform, shuffled = (one.command for one in controls.missing)
    assert "--name mine-uniform" in uniform
    assert uniform.endswith("--lora.r 3 --overwrite")
    assert "--overwrite" not in shuffled, "another run has this name"


def test_what_only_one_of_two_runs_recorded_is_not_compared(tmp_path: Path) -> None:
    put(tmp_path, "old", result_of("lora"))
    unused = DATA | {"unused": {"rows": 1, "sha256": "u"}, "source": {"rows": 7, "sha256": "t"}}
    put(tmp_path, "same", result_of("lora") | {"data": unused, "base_weights": None})
    controls = beside(tmp_path, result_of() | MADE)
    assert controls is not None
    assert [run.name for run in controls.runs[1:]] == ["old", "same"]
    assert controls.note == ""


def test_a_uniform_run_of_another_rank_is_shown_and_the_one_of_this_cost_still_misses(tmp_path: Path) -> None:
    put(tmp_path, "u", result_of("lora", lora__r=8))
    controls = beside(tmp_path)
    assert controls is not None
    assert [run.what for run in controls.runs[1:]] == ["uniform, rank 8"]
    assert controls.missing[0].what == "uniform ranks: 3 in every layer (900 LoRA parameters, this run 800)"


@pytest.mark.parametrize("init", ["scratch", "search"])
def test_the_commands_for_what_is_missing_parse(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: str
) -> None:
    """They begin as this program was started."""
    monkeypatch.setattr("autolora.engine.run.places.program", lambda: "uv run 'my programs/run.py'")
    config = tiny_config("--retrain.init", init, "--runs_folder", str(tmp_path / "it's {mine}"), "--name", "n" * 100)
    folder = RunFolder.of(config)
    write_text(folder.config, to_yaml(config))
    controls = controls_of(folder.root, result_of(retrain__init=init), RECORD)
    assert controls is not None
    assert ("started from searched components" in controls.note) is (init == "search")
    runs = []
    for command in (one.command for one in controls.missing):
        *started, script = shlex.split(command)[:3]
        assert (started, script) == (["uv", "run"], "my programs/run.py")
        arguments = shlex.split(command)[3:]
        runs.append(parse(arguments).config)
    uniform, shuffled = runs
    assert (uniform.method, uniform.lora.r, uniform.name) == ("lora", 3, f"{'n' * 92}-uniform")
    assert (shuffled.method, shuffled.lora.ranks_from) == ("lora_shuffled", str(folder.ranks))
    for made in runs:
        assert made.retrain.init == init
        assert components_from(made) == (folder if init == "search" else None)
        wanted = dataclasses.replace(config, method=made.method, name=made.name, lora=made.lora)
        assert made == dataclasses.replace(wanted, retrain=made.retrain)


def test_a_cost_below_half_of_rank_1_asks_for_rank_1(tmp_path: Path) -> None:
    low = dataclasses.replace(RECORD, layers=tuple(LayerRank(str(i), int(i == 0)) for i in range(9)))
    controls = beside(tmp_path, result_of() | {"lora_parameters": 100}, low)
    assert controls is not None
    assert controls.missing[0].command.endswith("--lora.r 1")


def test_the_uniform_rank_is_that_of_equal_cost_where_layers_differ_in_size(tmp_path: Path) -> None:
    controls = beside(tmp_path, result_of() | {"lora_parameters": 1700})  # of 300 a rank; the mean rank is below 3
    assert controls is not None
    assert controls.missing[0].command.endswith("--lora.r 6")


def test_where_all_ranks_are_equal_no_control_differs(tmp_path: Path) -> None:
    controls = beside(tmp_path, record=RankRecord(8, (LayerRank("a", 2), LayerRank("b", 2))))
    assert controls is not None
    assert controls.missing == []
    assert controls.note.startswith("Every layer has rank 2")


def test_ranks_that_a_shuffle_cannot_change_are_not_to_be_shuffled(tmp_path: Path) -> None:
    """Layers of one size have equal ranks: the shuffled run had the same ranks."""
    found = controls_of(tmp_path / "mine", result_of(), RECORD, {"0.query": 1, "0.value": 2, "1.query": 3})
    assert found is not None
    assert [one.what[:13] for one in found.missing] == ["uniform ranks"]
    assert "a shuffle would change nothing" in found.note


def test_a_run_that_is_named_from_within_has_the_same_controls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "s", result_of("lora_shuffled", 0.4, lora__ranks_from="x"), [4, 3, 1])
    mine = put(tmp_path, "mine", result_of())
    monkeypatch.chdir(mine.root)
    assert controls_of(Path(), result_of(), RECORD, SIZES) == controls_of(mine.root, result_of(), RECORD, SIZES)


def test_a_cell_of_a_study_misses_nothing(tmp_path: Path) -> None:
    controls = controls_of(tmp_path / "cells" / "mine", result_of(), RECORD)
    assert controls is not None
    assert controls.missing == []


def test_only_the_result_of_a_search_has_controls(tmp_path: Path) -> None:
    assert beside(tmp_path, result_of("lora")) is None
    assert beside(tmp_path, record=None) is None
    assert controls_of(tmp_path / "mine", {}, RECORD) is None


def test_a_loss_that_is_not_known_is_left_out(tmp_path: Path) -> None:
    controls = beside(tmp_path, result_of() | {"loss": None, "calibrated_loss": None})
    assert controls is not None
    assert (controls.runs[0].loss, controls.runs[0].calibrated) == (None, None)


def test_a_language_models_run_stands_beside_the_base_model_alone(tmp_path: Path) -> None:
    """A perplexity alone does not say whether the training has helped."""
    chat = {"task__type": "chat"}
    put(tmp_path, "u", result_of("lora", lora__r=3, **chat))
    put(tmp_path, "s", result_of("lora_shuffled", **chat), [4, 3, 1])
    controls = beside(tmp_path, result_of(**chat))
    assert controls is not None
    (base,) = controls.missing
    assert (base.what, base.method) == ("no LoRA: the base model", "head")
    assert base.command.endswith("--name mine-base --method head")
    put(tmp_path, "mine-base", result_of("head", 0.1, **chat))
    controls = beside(tmp_path, result_of(**chat))
    assert controls is not None
    assert controls.missing == []
    assert ("no LoRA", "mine-base", 0.1) in [(run.what, run.name, run.score) for run in controls.runs]
    put(tmp_path, "head", result_of("head", 0.2))
    assert found_beside(tmp_path) == ["head"], "a classifier's head alone, if it was trained"
