"""Every key is always read or stands in the table of when not, which says what the stages and methods declare."""

import dataclasses
from typing import get_args

import pytest
import torch

from autolora.configs.conditions import BUDGETED
from autolora.configs.hypergradients import BUILT_IN
from autolora.configs.keys import known_keys
from autolora.configs.recipe import evaluation_split
from autolora.configs.schema import Constraint, RunConfig, TaskConfig
from autolora.configs.unread import TABLE, reason
from autolora.configs.values import with_values
from autolora.engine.retrain.methods import METHODS
from autolora.engine.retrain.owners import READ_RANKS
from autolora.engine.retrain.settings import FINISHED, RETRAINING
from autolora.engine.search.settings import UNFINISHED
from autolora.engine.study.comparison import COMPARED
from autolora.problems.hypergradients import HYPERGRADIENTS
from autolora.problems.selection import SelectionVariables
from autolora.problems.tasks.readers.splits import evaluation_source
from tests.helpers.bilevel_toys import implicit, lora_toy, random_vector

# Every run reads these, whatever the others are.
ALWAYS = {
    "name", "runs_folder", "method", "seed", "precision", "device",
    "model.name", "model.trust_remote_code", "model.attention", "model.load_in_4bit", "model.dtype",
    "task.seed", "retrain.row_losses",
    "task.type", "task.metrics", "task.evaluation_split", "task.max_length", "task.train_rows",
    "task.evaluation_rows", "retrain.torch_compile", "retrain.eval_batch_size", "export.padded",
    "tracking.wandb",
    "study.axes", "study.variants",
}  # fmt: skip
# Keys that change no result of a stage, so that no stage declares them: where a run lies, who is told of it, files
# beside the result, how its cells are started, and what several processes share.
ELSEWHERE = (
    "name", "runs_folder", "export", "tracking", "verdict", "study.axes",
    "study.variants", "study.where", "study.exclude", "study.sweep_once", "study.reference", "study.launcher",
    "study.ray",
)  # fmt: skip


def test_every_key_is_always_read_or_stands_in_the_table() -> None:
    covered = {key for key in known_keys() if any(row.covers(key) for row in TABLE)}
    assert covered | ALWAYS == set(known_keys())
    assert not covered & ALWAYS
    assert all(name in known_keys() or any(key.startswith(f"{name}.") for key in known_keys())
               for row in TABLE for name in row.keys)  # fmt: skip


def test_what_no_stage_declares_is_known_to_be_read_elsewhere() -> None:
    declared = {name for stage in (UNFINISHED, RETRAINING, FINISHED, COMPARED) for name in stage.read}
    for key in known_keys():
        inside = any(key == name or key.startswith(f"{name}.") for name in declared)
        assert inside != any(key == name or key.startswith(f"{name}.") for name in ELSEWHERE), key


@pytest.mark.parametrize("kind", sorted(HYPERGRADIENTS))
@pytest.mark.usefixtures("float64")
def test_an_approximation_reads_what_the_table_says(kind: str) -> None:
    """By its own numbers: another value of a key changes the term, or does not."""
    config = with_values(RunConfig(name="a"), {"hypergradient.type": kind})
    values = {"eta": 0.5, "darts_alpha": 0.01, "neumann_iterations": 1, "cg_iterations": 1}
    changes = {"hypergradient.eta": {"eta": 0.25}, "hypergradient.radius": {"darts_alpha": 0.5},
               "hypergradient.terms": {"neumann_iterations": 3, "cg_iterations": 3}}  # fmt: skip

    def term(**others: float) -> torch.Tensor:
        toy = lora_toy(kind, **values | others)
        torch.manual_seed(3)
        return implicit(toy, random_vector(toy))

    for key, change in changes.items():
        assert torch.equal(term(), term(**change)) == (reason(key, config) is not None), key
    assert BUILT_IN[kind].difference == (reason("hypergradient.radius", config) is None)


@pytest.mark.parametrize("constraint", get_args(Constraint))
@pytest.mark.parametrize("k", [1, 4])
def test_a_constraint_reads_what_the_table_says(k: int, constraint: Constraint) -> None:
    """By its own numbers: whether both scales give the same gates, and whether the gates change with beta."""
    config = with_values(RunConfig(name="a"), {"lora.k": k, "search.constraint": constraint})
    start, paper = SelectionVariables(2, k, constraint, "start"), SelectionVariables(2, k, constraint, "paper")
    before = start()
    for variables in start, paper:
        variables.beta.data += torch.linspace(0, 1, 2 * k).view(2, k)
    assert torch.equal(start(), paper()) == (reason("search.scale", config) is not None)
    for key in ("search.selection_learning_rate", "hypergradient.type", "hypergradient.eta"):
        assert torch.equal(start(), before) == (reason(key, config) is not None), key
    without = with_values(config, {"hypergradient.type": "none"})
    assert reason("hypergradient.type", without) is None, "it saves the outer steps"


@pytest.mark.parametrize("method", METHODS)
def test_a_method_reads_what_the_table_says(method: str) -> None:
    config = dataclasses.replace(RunConfig(name="a"), method=method)
    assert (reason("lora.ranks_from", config) is None) == (method in READ_RANKS)
    assert (reason("lora.budget", config) is None) == (method in BUDGETED)
    assert (reason("lora.trials", config) is None) == (method == "optuna")
    assert (reason("lora.rho", config) is None) == (method == "eva")
    assert (reason("lora.grid", config) is None) == (method == "lora_grid")
    assert (reason("adapter.bottleneck", config) is None) == (method == "adapter")
    searched = {key for key in known_keys() if key.startswith(("search.", "hypergradient.", "answer."))}
    unread = {key for key in searched if reason(key, config)}
    assert (unread == searched) == (method != "autolora")


@pytest.mark.parametrize(
    ("arguments", "read"),
    [([], True), (["validation_path"], False), (["test_path"], False), (["test_path", "validation"], True)],
)
def test_rows_are_held_out_unless_a_file_of_the_evaluated_split_is_given(arguments: list[str], read: bool) -> None:
    paths = {name: "a.csv" for name in arguments if name.endswith("_path")}
    split = "validation" if "validation" in arguments else None
    config = RunConfig(task=TaskConfig(type="text", path="t.csv", evaluation_split=split, **paths))
    assert (reason("task.holdout_share", config) is None) == read
    assert evaluation_source(config.task, evaluation_split(config.task)).held_out == read


@pytest.mark.parametrize("split", ["test_sft", "validation", "test"])
def test_a_file_of_another_split_than_the_evaluated_one_is_not_read(split: str) -> None:
    """Of a split of the hub's own, such as test_sft, this was not said."""
    for key in ("validation", "test"):
        task = TaskConfig(type="chat", path="org/data", evaluation_split=split, **{f"{key}_path": "a.jsonl"})
        assert (reason(f"task.{key}_path", RunConfig(task=task)) is None) == (split == key)
