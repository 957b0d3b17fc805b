"""Every --method from the command to its result: which ranks it takes, and a result that plain
libraries load."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.conftest import CURVE, LEARNING, Chat, Tiny
from tests.contract.program import refused, succeed
from tests.contract.readers import adapter_weights, loaded, predicted_by, ranks_of, read
from tests.helpers.shell import words

SIZE = 64
"""Parameters of a component of a layer that is 32 wide."""
HEAD = 66
"""Parameters of the head."""
NAMES = [
    f"bert.encoder.layer.{i}.attention.self.{part}" for i in (0, 1) for part in ("query", "value")
]
LEARNED = [1, 4, 2, 3]
MORE: dict[str, tuple[str, ...]] = {
    "lora": ("--lora.r", "2"),
    "lora_grid": ("--lora.grid", "[1,3]"),
    "lora_ranks": ("--lora.ranks_from", "{here}/learned.json"),
    "lora_shuffled": ("--lora.ranks_from", "{here}/learned.json"),
    "lora_random": ("--lora.ranks_from", "{here}/learned.json"),
    "lora_random in a budget": ("--lora.budget", "2"),
    "wide": ("--lora.keep", "0.9", "--retrain.extra_steps", "3", "--task.train_rows", "100"),
    "wide in a budget": words("--lora.budget 1.5 --retrain.extra_steps 3 --task.train_rows 100"),
    "adalora": ("--lora.r", "2", "--retrain.max_steps", "12"),
    "eva": ("--lora.r", "2"),
    "para": ("--lora.budget", "2", "--lora.modules_to_save", "[pooler]"),
    "optuna": ("--lora.budget", "2", "--lora.trials", "2"),
    "adapter": ("--lora.modules_to_save", "null"),
    "head": (),
    "full": (),
}
LORA = [name for name in MORE if name not in ("adapter", "head", "full")]


Train = Callable[..., Path]


@pytest.fixture
def train(tiny: Tiny, tmp_path: Path, folder: Path) -> Train:
    """train("eva"): the folder of a run by that method."""
    layers = [{"name": name, "rank": rank} for name, rank in zip(NAMES, LEARNED, strict=True)]
    (tmp_path / "learned.json").write_text(json.dumps({"k": 4, "layers": layers}))

    def run(method: str, *more: str) -> Path:
        given = [word.replace("{here}", str(tmp_path)) for word in (*MORE[method], *more)]
        succeed(*tiny("--method", method.split()[0], "--retrain.learning_rate", "3e-2", *given))
        return folder

    return run


@pytest.mark.parametrize("method", LORA)
def test_lora_of_any_kind_is_plain_peft_at_its_ranks(train: Train, method: str) -> None:
    folder = train(method)
    result = read(folder / "metrics.json")
    ranks = ranks_of(folder)
    assert result["method"] == method.split()[0]
    assert predicted_by(loaded(folder / "adapter"), folder)
    assert any("pooler" in name for name in adapter_weights(folder / "adapter")) == (
        method == "para"
    )
    assert result["lora_parameters"] == SIZE * sum(ranks.values())
    assert list(ranks) == NAMES
    values = list(ranks.values())
    if method == "lora":
        assert values == [2, 2, 2, 2]
    elif method == "lora_grid":
        assert set(values) <= {1, 3}
        assert values[:2] == values[2:], "one rank for each target module"
    elif method == "lora_ranks":
        assert values == LEARNED
    elif method == "lora_shuffled":
        assert sorted(values) == sorted(LEARNED)
        assert values != LEARNED
    elif method == "lora_random":
        assert sum(values) == sum(LEARNED)
    elif method == "wide":
        assert len(set(values)) == 1, "one rank in every layer"
        assert result["steps"]["retrain"] == 3, "after the cut"
    else:
        most = 1.5 if method.startswith("wide") else 2
        assert 0 < sum(values) <= most * len(NAMES), "lora.r and lora.budget are average ranks"


@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_learning_rates_are_tried_on_d_val_and_one_is_chosen(train: Train, method: str) -> None:
    folder = train(method, "--retrain.learning_rate", "[1e-9,3e-2]")
    result = read(folder / "metrics.json")
    assert result["learning_rates_tried"] == [1e-9, 3e-2]
    assert result["learning_rate"] == 3e-2, "at the other one nothing is learned"
    # Stopped after the first trial, it takes the best one, too.
    found = read(folder / "sweep" / "trials.json")["trials"]
    (folder / "sweep" / "trials.json").write_text(json.dumps({"trials": found[:1]}))
    shutil.rmtree(folder / "retrain")
    (folder / "metrics.json").unlink()
    again = read(train(method, "--retrain.learning_rate", "[1e-9,3e-2]") / "metrics.json")
    assert (again["learning_rate"], again["loss"]) == (3e-2, result["loss"])


def test_a_retraining_may_start_from_the_searched_components(
    chat: Chat, searched: Path, folder: Path
) -> None:
    """At a rate of nearly nothing it is then the searched model that is left, which has learned
    something."""
    loss = {}
    given = {
        **LEARNING,
        **dict.fromkeys(CURVE),
        "stage": "all",
        "measure__from": searched,
        "choose__rule": "threshold",
    }
    given |= {
        "retrain__learning_rate": 1e-9,
        "retrain__max_steps": 1,
        "retrain__scale": "component",
    }
    for init in ("search", "scratch"):
        succeed(*chat(**given, name=init, retrain__init=init))
        loss[init] = read(folder.with_name(init) / "metrics.json")["loss"]
    assert loss["search"] < loss["scratch"] - 0.1


def test_what_cannot_be_is_one_line(tiny: Tiny, tmp_path: Path) -> None:
    for more, named in (
        (("--method", "lora", "--stage", "search"), "--stage"),
        (("--method", "lora", "--lora.r", "99"), "99"),
        (("--method", "lora_shuffled"), "--lora.ranks_from"),
    ):
        assert named in refused(*tiny(*more))
    assert not (tmp_path / "runs").exists()
