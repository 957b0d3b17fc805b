"""Choices on D_val: the learning-rate sweep, and what a choice trains on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from torch import nn
from transformers import TrainerState

from autolora.engine.recipe import trial_of
from autolora.engine.retrain import retrain, trials
from autolora.engine.retrain.judge import Judgement
from autolora.engine.retrain.prepared import Prepared, Training
from autolora.engine.retrain.trials import goodness
from autolora.engine.store.folder import RunFolder
from autolora.engine.world import World
from autolora.problems.rows import Rows, Splits
from autolora.problems.tasks import make_task
from tests.contract.inputs import E2E, language_arguments
from tests.helpers.command import parse
from tests.helpers.generation_toys import save_causal, write_e2e
from tests.helpers.stages import Stages

SWEEP = ("--method", "lora", "--retrain.learning_rate", "[1e-6,3e-2]", "--retrain.max_steps", "12")


@pytest.mark.slow
def test_a_sweep_takes_the_rate_that_does_best_on_d_val(
    run_all: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[tuple[int, float]] = []
    judged: list[dict[str, int]] = []
    fit_of = trials.fit
    judge_of = trials.judge

    def fit(prepared: Prepared, training: Training, world: World) -> Any:
        fits.append((len(training.rows), training.settings.rates[0]))
        return fit_of(prepared, training, world)

    def judge(model: Any, splits: Splits[Rows], *rest: Any, **options: Any) -> Any:
        judged.append({name: len(rows) for name, rows in splits.evaluation.items()})
        return judge_of(model, splits, *rest, **options)

    monkeypatch.setattr(trials, "fit", fit)
    monkeypatch.setattr(trials, "judge", judge)
    folder = run_all(*SWEEP)
    sweep = json.loads(folder.sweep_trials.read_text())
    result = json.loads(folder.metrics.read_text())
    scores = [
        (trial["metrics"]["accuracy"], -trial["metrics"]["loss"]) for trial in sweep["trials"]
    ]
    assert scores[1] != scores[0], "at the lower rate nothing is learned"
    best = sweep["trials"][scores.index(max(scores))]
    assert sweep["chosen"] == best["tried"]
    assert result["learning_rate"] == best["tried"]["learning_rate"]
    # D_tr and D_val: half of 64 rows each, and no row of the test split
    assert fits == [(32, 1e-6), (32, 3e-2)]
    assert judged == [{"D_val": 32}] * 2
    assert not list(folder.sweep.glob("trial-*"))


@pytest.mark.trains
@pytest.mark.parametrize(
    ("method", "steps", "passes", "of_a_trial"),
    [("lora", "3", "0.5", 2), ("lora", "null", "0.5", None), ("optuna", "100", "0.25", 25)],
)
def test_a_trial_takes_as_many_passes_over_d_tr_as_the_retraining_over_all_rows(
    run_all: Callable[..., RunFolder],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    steps: str,
    passes: str,
    of_a_trial: int | None,
) -> None:
    """With as many steps it took twice the passes, and a rate that is too low for the retraining
    was chosen."""
    seen = []

    def fit(prepared: Prepared, training: Training, *_: Any) -> tuple[Prepared, TrainerState]:
        seen.append(training.settings.max_steps)
        return Prepared(nn.Linear(1, 1)), TrainerState()

    def judge(*_: Any, **options: Any) -> Judgement:
        return Judgement({"accuracy": 0.5, "loss": 0.5})

    monkeypatch.setattr(trials, "fit", fit)
    monkeypatch.setattr(trials, "judge", judge)
    monkeypatch.setattr(retrain, "fit", Mock(side_effect=AssertionError("the retraining")))
    two = (
        ("--lora.trials", "2") if method == "optuna" else ("--retrain.learning_rate", "[1e-3,1e-2]")
    )
    share = ("--task.validation_share", str(1 - float(passes)))
    with pytest.raises(AssertionError, match="the retraining"):
        run_all("--method", method, *two, *share, "--retrain.max_steps", steps)
    assert seen == [of_a_trial] * 2


def test_of_equal_metrics_the_lower_loss_decides() -> None:
    """A hard task whose short trainings all answer alike: CoLA, Matthews 0 at every rate."""
    task = make_task(parse([]).config.task, 0)
    found = [goodness(task, {"accuracy": 0.5, "loss": loss}) for loss in (0.6, 0.5, 0.7)]
    assert max(found) == found[1]
    assert goodness(task, {}) < min(found), "a trial that diverged"


@pytest.mark.trains
@pytest.mark.parametrize("split_by", ["source", "row"])
def test_the_search_and_the_trials_split_alike(
    tmp_path: Path, run_of: Callable[..., Stages], split_by: str
) -> None:
    """Twelve sources of two texts each."""
    model = save_causal(tmp_path / "model", "gpt2")
    data = write_e2e(tmp_path / "data")
    more = {**E2E, "lora__target_modules": "[c_attn]", "task__split_by": split_by}
    run = run_of(parse(language_arguments(model, data, tmp_path / "runs", **more)).config)
    engine = run.engine()
    problems: list[Any] = [engine.lora, engine.selection]
    searched = [problem.batches.rows.examples["source"][:] for problem in problems]
    trial, d_val = trial_of(run.config, run.inputs)
    parts = [trial.rows, d_val]
    tried = [rows.examples["source"][:] for rows in parts]
    assert tried == searched
    assert [len(half) for half in tried] == [12, 12]
    assert bool(set(tried[0]) & set(tried[1])) is (split_by == "row")
