"""Work that was stopped half-way and is resumed after something has changed: settings, data, ranks."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.files import load_config
from autolora.configs.schema import RunConfig
from autolora.engine.run.folder import RunFolder
from tests.helpers.half_done import (
    RATES,
    STAGES,
    HalfDone,
    content,
    edit,
    go_on,
    other_weights,
    own_model,
    stop_half_way,
    table_of,
    write_table,
)  # fmt: skip
from tests.helpers.retraining import RANKS

pytestmark = pytest.mark.trains

EDITS: dict[str, dict[str, Any]] = {
    "search": {
        "seed": 1, "method": "lora", "search.constraint": "sigmoid", "search.learning_rate": 0.5,
        "search.batch_size": 4, "lora.k": 2, "lora.target_modules": ["query"], "task.validation_share": 0.25,
        "hypergradient.eta": 1.0, "precision": "auto", "task.max_length": 64, "lora.modules_to_save": ["pooler"],
    },
    "retraining": {
        "seed": 1, "method": "full", "retrain.learning_rate": 0.5, "retrain.batch_size": 4, "lora.k": 2,
        "lora.target_modules": ["query"], "lora.r": 2, "retrain.learning_rates": [0.1, 0.2],
    },
    "sweep": {
        "seed": 1, "method": "full", "retrain.batch_size": 4, "retrain.learning_rates": [], "lora.k": 2,
        "lora.target_modules": ["query"], "task.validation_share": 0.25,
    },
    "grid": {
        "seed": 1, "method": "autolora", "retrain.learning_rate": 0.5, "retrain.batch_size": 4, "lora.grid": [1, 3],
        "lora.k": 2, "lora.target_modules": ["query"], "task.validation_share": 0.25,
    },
    "adalora": {
        "seed": 1, "method": "lora", "retrain.learning_rate": 0.5, "retrain.batch_size": 4, "retrain.max_steps": 12,
        "lora.k": 2, "lora.target_modules": ["query"], "lora.r": 2, "retrain.scale": "fixed",
    },
}  # fmt: skip
"""Half-done work -> keys that change its result, each with another value."""


@pytest.fixture(scope="module", params=STAGES)
def half(
    request: pytest.FixtureRequest, make_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory
) -> HalfDone:
    """A run whose search, retraining, sweep, grid or AdaLoRA was stopped after one step; each test leaves it so."""
    place = tmp_path_factory.mktemp("half")
    config = own_model(make_config(place, "bert", *table_of(place), *STAGES[request.param]), place / "model")
    return HalfDone(request.param, config, stop_half_way(config), place / "train.csv", place / "dev.csv")


def test_the_runs_own_config_edited_half_way_is_refused_by_key(half: HalfDone) -> None:
    """As the printed `next` command invites: what the checkpoint holds is compared, not the file that was edited."""
    before, path = content(half.folder.root), half.folder.config
    for key, value in EDITS[half.stage].items():
        written = path.read_bytes()
        edit(path, key, value)
        with pytest.raises(UserError, match=rf"^--{key}: .*tiny holds a half-done run with ") as caught:
            go_on(load_config(path))
        assert "\n" not in str(caught.value)
        path.write_bytes(written)
        assert content(half.folder.root) == before


def change_a_text(train: Path, dev: Path) -> None:
    train.write_text(train.read_text().replace("dull", "tasty", 1))


def add_rows(train: Path, dev: Path) -> None:
    write_table(train, rows=30)


def swap_two_rows(train: Path, dev: Path) -> None:
    head, *rows = train.read_text().splitlines()
    train.write_text("\n".join([head, rows[2], rows[1], rows[0], *rows[3:]]) + "\n")


def rename_a_class(train: Path, dev: Path) -> None:
    for path in (train, dev):
        path.write_text(path.read_text().replace(",good", ",great"))


def turn_a_label(train: Path, dev: Path) -> None:
    train.write_text(train.read_text().replace(",bad", ",good", 1))


def change_the_evaluation(train: Path, dev: Path) -> None:
    dev.write_text(dev.read_text().replace("dull", "tasty", 1))


TRAINING = r"^--task\.path: .*train\.csv no longer gives the training rows that "
CHANGES = {
    change_a_text: TRAINING,
    add_rows: rf"{TRAINING}.*\(24 then, 30 now\)",
    swap_two_rows: rf"{TRAINING}.*\(24, but not the same ones or in another order\)",
    turn_a_label: TRAINING,
    rename_a_class: r"^--task\.path: .*train\.csv no longer has the classes that .*\(bad, good then, bad, great now\)",
    change_the_evaluation: r"^--task\.validation_path: .*dev\.csv no longer gives the validation rows that ",
}


def test_data_that_changed_half_way_is_refused_by_file(half: HalfDone) -> None:
    before = content(half.folder.root)
    for change in CHANGES if half.stage == "search" else (add_rows, change_the_evaluation):
        with half.changed(change), pytest.raises(UserError, match=CHANGES[change]) as caught:
            go_on(half.config)
        assert f"the half-done run in {half.folder.root} began with" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert content(half.folder.root) == before
    stop_half_way(half.config)
    assert content(half.folder.root) != before, "with the old data back it resumes, for one step"


def test_a_base_model_that_changed_half_way_is_refused(half: HalfDone) -> None:
    """As when a hub's main branch has moved on, or a local folder was trained again."""
    before = content(half.folder.root)
    message = rf"^--model\.name: {half.config.model.name} no longer has the weights that the half-done run in "
    with other_weights(half.config), pytest.raises(UserError, match=message) as caught:
        go_on(half.config)
    assert "\n" not in str(caught.value)
    assert content(half.folder.root) == before
    stop_half_way(half.config)
    assert content(half.folder.root) != before, "with the old weights back it resumes, for one step"


@pytest.mark.parametrize("half", ["search"], indirect=True)
def test_other_rows_to_evaluate_by_a_setting_are_no_changed_data(half: HalfDone) -> None:
    fewer = dataclasses.replace(half.config.task, evaluation_rows=3)
    stop_half_way(dataclasses.replace(half.config, task=fewer))
    stop_half_way(half.config)  # what the other tests find must not depend on their order


def test_ranks_that_were_searched_in_another_base_model_are_retrained_only_by_stage_retrain(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, log_lines: list[str]
) -> None:
    config = own_model(tiny_config("--search.steps", "2", "--retrain.max_steps", "1"), tmp_path / "model")
    folder = go_on(config, "search")
    before = content(folder.root)
    with other_weights(config):
        with pytest.raises(UserError, match=r"ranks\.json were chosen with; .*--stage retrain to take those ranks"):
            go_on(config)
        assert content(folder.root) == before
        from_search = dataclasses.replace(config, retrain=dataclasses.replace(config.retrain, init="search"))
        with pytest.raises(UserError, match=r"ranks\.json were chosen with; .*--retrain\.init scratch"):
            go_on(from_search, "retrain")
        assert go_on(config, "retrain").metrics.exists()
    assert [line for line in log_lines if line.startswith("WARNING --model.name: ")] == [
        f"WARNING --model.name: {tmp_path}/model no longer has the weights that the ranks in {folder.ranks} were "
        f"chosen with; they are taken as they are"
    ]


def test_ranks_that_were_searched_on_other_rows_are_retrained_only_by_stage_retrain(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, log_lines: list[str]
) -> None:
    config = tiny_config(*table_of(tmp_path), "--search.steps", "2", "--retrain.max_steps", "1")
    folder = go_on(config, "search")
    before = content(folder.root)
    add_rows(tmp_path / "train.csv", tmp_path / "dev.csv")
    message = rf"{TRAINING}the ranks in .*ranks\.json were chosen on \(24 then, 30 now\); .*--stage retrain to take"
    with pytest.raises(UserError, match=message):
        go_on(config)
    assert content(folder.root) == before
    assert go_on(config, "retrain").metrics.exists()
    assert len([line for line in log_lines if line.startswith("WARNING --task.path: ")]) == 1


QUERY = RANKS["layers"][0]["name"]


def with_ranks(config: RunConfig, **ranks: int) -> RunFolder:
    """The run's folder with a ranks.json written by hand, in which some layers' ranks are others."""
    folder = RunFolder.of(config)
    folder.root.mkdir(parents=True, exist_ok=True)
    layers = [{"name": x["name"], "rank": ranks.get(f"layer{i}", x["rank"])} for i, x in enumerate(RANKS["layers"])]
    folder.ranks.write_text(json.dumps({"k": 4, "layers": layers}))
    return folder


@pytest.mark.parametrize("sweeps", [(), RATES], ids=["retraining", "sweep"])
def test_ranks_edited_half_way_are_refused(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, sweeps: tuple[str, ...]
) -> None:
    config = tiny_config(*table_of(tmp_path), *sweeps)
    folder = with_ranks(config)
    whole = folder.ranks.read_bytes()
    stop_half_way(config, "retrain")
    before = content(folder.root)
    with_ranks(config, layer0=4)
    with pytest.raises(UserError, match=rf"ranks\.json: .*{QUERY} \(2 then, 4 now\)") as caught:
        go_on(config, "retrain")
    line = str(caught.value)
    assert "half-done" in line
    assert "--stage retrain --overwrite" in line
    assert "\n" not in line
    folder.ranks.write_text(json.dumps({"layers": [{"name": "bert.encoder.layer.7.query", "rank": 2}]}))
    with pytest.raises(UserError, match=r"ranks\.json: .*half-done"):
        go_on(config, "retrain")
    folder.ranks.write_bytes(whole)
    assert content(folder.root) == before
    stop_half_way(config, "retrain")
    assert content(folder.root) != before, "with the old ranks back it resumes, for one step"


@pytest.mark.parametrize("method", ["lora_shuffled", "lora_random"])
def test_ranks_from_a_file_that_changed_half_way_are_refused(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, method: str
) -> None:
    source = tmp_path / "learned.json"
    source.write_text(json.dumps(RANKS))
    config = tiny_config(*table_of(tmp_path), "--method", method, "--lora.ranks_from", str(source))
    folder = stop_half_way(config)
    before = content(folder.root)
    source.write_text(json.dumps({"k": 3, "layers": [{**layer, "rank": 4} for layer in RANKS["layers"]]}))
    with pytest.raises(UserError, match=rf"^{source}: .*half-done retraining in .*now\)"):
        go_on(config)
    assert content(folder.root) == before


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [{"name": "bert.encoder.layer.9.attention.self.query", "rank": 2}],
            r"the model has no layer '.*9.*nearest is",
        ),
        ([{"name": "", "rank": 2}], r"the model has no layer ''"),
    ],
)
def test_ranks_by_hand_of_layers_that_do_not_exist_are_one_line(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, layers: list[dict[str, Any]], message: str
) -> None:
    config = tiny_config(*table_of(tmp_path))
    folder = with_ranks(config)
    folder.ranks.write_text(json.dumps({"layers": layers}))
    with pytest.raises(UserError, match=rf"^{folder.ranks}: {message}") as caught:
        go_on(config, "retrain")
    assert "\n" not in str(caught.value)
    assert set(content(folder.root)) == {"ranks.json"}
