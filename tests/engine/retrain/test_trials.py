"""Choices on D_val: the learning-rate sweep; what a choice trains on, keeps and refuses."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json
from autolora.engine.retrain import stage, trials
from autolora.engine.retrain.callbacks import NotFinite
from autolora.engine.retrain.fit import Fitted
from autolora.engine.retrain.methods import Prepared
from autolora.engine.retrain.trials import Trials
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.search.stage import build_search
from autolora.engine.stages import run_stages
from autolora.problems.halves import split_indices
from tests.helpers.generation_toys import arguments, save_causal, write_e2e

SWEEP = ("--method", "lora", "--retrain.learning_rates", "[1e-6,3e-2]", "--retrain.max_steps", "12")
SWEPT = r".*sweep\.json diverged; lower the rate and add"


class Stopped(Exception):
    """Comes instead of the retraining."""


def finish(config: RunConfig, *, draw: bool = False) -> RunFolder:
    return run_stages(Request(config, "all", False, "test"), StopRequest(), draw=draw)


@pytest.mark.slow
def test_a_sweep_takes_the_rate_that_does_best_on_d_val(
    tiny_config: Callable[..., RunConfig], fits: list[tuple[Any, RunConfig]]
) -> None:
    folder = finish(tiny_config(*SWEEP))
    sweep, result = json.loads(folder.sweep.read_text()), json.loads(folder.metrics.read_text())
    scores = [trial["metrics"]["accuracy"] for trial in sweep["trials"]]
    assert scores[1] != scores[0], "at the lower rate nothing is learned"
    best = max(sweep["trials"], key=lambda trial: trial["metrics"]["accuracy"])
    assert sweep["chosen"] == best["tried"]
    assert result["learning_rate"] == best["tried"]["learning_rate"]
    assert result["learning_rates_tried"] == [1e-6, 3e-2]
    assert result["seconds_sweep"] > 0
    assert result["seconds"]["total"] == result["seconds"]["retrain"], "the sweep's seconds stand apart"
    assert [config.retrain.learning_rate for _, config in fits] == [1e-6, 3e-2]
    for data, _ in fits:  # D_tr and D_val: half of 64 rows each, and no row of the test split
        assert (len(data.train), {name: len(rows) for name, rows in data.evaluation.items()}) == (32, {"D_val": 32})
    assert not folder.trials.exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["adalora", "adapter", "head"])  # other tests sweep the other methods
def test_every_method_can_be_swept(tiny_config: Callable[..., RunConfig], method: str) -> None:
    config = tiny_config("--method", method, "--retrain.learning_rates", "[1e-3,1e-2]", "--retrain.max_steps", "10")
    result = json.loads(finish(config).metrics.read_text())
    assert result["learning_rate"] in (1e-3, 1e-2)


@pytest.mark.trains
@pytest.mark.parametrize(
    ("method", "steps", "passes", "of_a_trial"),
    [
        ("lora", "100", "0.25", 25), ("lora", "100", "0.5", 50), ("adalora", "12", "0.5", 10), ("lora", "3", "0.5", 3),
        ("lora", "null", "0.5", None), ("optuna", "100", "0.5", 50),
    ],
)  # fmt: skip
def test_a_trial_takes_as_many_passes_over_d_tr_as_the_retraining_over_all_rows(
    tiny_config: Callable[..., RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    steps: str,
    passes: str,
    of_a_trial: int | None,
) -> None:
    """With as many steps it took twice the passes, and a rate that is too low for the retraining was chosen."""
    seen = []

    def fit(run: Context, *_: Any) -> Fitted:
        seen.append(run.config.retrain.max_steps)
        return Fitted({"accuracy": 0.5, "loss": 0.5}, 1.0, 1)

    def stop(*_: Any) -> Fitted:
        raise Stopped

    monkeypatch.setattr(trials, "fit", fit)
    monkeypatch.setattr(stage, "fit", stop)
    two = ("--lora.trials", "2") if method == "optuna" else ("--retrain.learning_rates", "[1e-3,1e-2]")
    share = ("--task.validation_share", str(1 - float(passes)))
    with pytest.raises(Stopped):
        finish(tiny_config("--method", method, *two, *share, "--retrain.max_steps", steps))
    assert seen == [of_a_trial] * 2


@pytest.mark.trains
def test_of_equal_metrics_the_lower_loss_decides(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hard task whose short trainings all answer alike: CoLA, Matthews 0 at every rate."""
    losses = {1e-3: 0.6, 1e-2: 0.5, 1e-1: 0.7}

    def fit(run: Context, *_: Any) -> Fitted:
        return Fitted({"accuracy": 0.5, "loss": losses[run.config.retrain.learning_rate]}, 1.0, 1)

    monkeypatch.setattr(trials, "fit", fit)
    folder = finish(tiny_config("--method", "lora", "--retrain.learning_rates", "[1e-3,1e-2,1e-1]"))
    assert json.loads(folder.sweep.read_text())["chosen"] == {"learning_rate": 1e-2}


@pytest.mark.trains
def test_every_trial_draws_the_same_random_numbers(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a rate could win by the luck of its head, and a choice that was killed would resume with other trials."""
    drawn: list[torch.Tensor] = []

    def fit(run: Context, prepared: Prepared, *_: Any) -> Fitted:
        head = dict(prepared.model.named_parameters())["base_model.model.classifier.modules_to_save.default.weight"]
        drawn.append(torch.cat([head.detach().flatten(), torch.rand(3)]))
        return Fitted({"accuracy": 0.5, "loss": 0.5}, 1.0, 1)

    monkeypatch.setattr(trials, "fit", fit)
    finish(tiny_config("--method", "lora", "--retrain.learning_rates", "[1e-3,1e-2]"))
    assert torch.equal(*drawn)


def at_rates(config: RunConfig, *rates: float) -> RunConfig:
    """Also rates above what the command line takes, so that a training diverges for certain."""
    return dataclasses.replace(config, retrain=dataclasses.replace(config.retrain, learning_rates=list(rates)))


@pytest.mark.slow
def test_a_rate_that_diverges_loses_and_stops_nothing(tiny_config: Callable[..., RunConfig]) -> None:
    arguments = ("--method", "full", "--retrain.gradient_clipping", "0", "--retrain.max_steps", "20")
    folder = finish(at_rates(tiny_config(*arguments), 1e30, 1e-3))
    sweep = json.loads(folder.sweep.read_text())
    assert sweep["trials"][0]["metrics"] == {}
    assert sweep["trials"][0]["seconds"] > 0
    assert sweep["chosen"] == {"learning_rate": 1e-3}
    other = at_rates(tiny_config(*arguments, "--name", "other"), 1e30, 1e29)
    with pytest.raises(UserError, match=rf"^--retrain\.learning_rates: all 2 trials of {SWEPT} --stage retrain"):
        finish(other)
    lower = at_rates(other, 1e-3)
    assert run_stages(Request(lower, "retrain", True, "test"), StopRequest(), draw=False).metrics.exists(), (
        "as the line said"
    )


@pytest.mark.trains
def test_a_trial_that_diverges_after_a_stop_keeps_the_seconds_before_it(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny_config(*SWEEP))
    write_json(run.folder.trials / "sweep-0" / "checkpoint-3" / "sealed.json", {"seconds": 50.0})
    write_json(run.folder.sweep, {"trials": []})

    def fit(run: Context, *_: Any) -> Fitted:
        if run.config.retrain.learning_rate == 1e-6:
            raise NotFinite("it diverged")
        return Fitted({"accuracy": 0.5, "loss": 0.5}, 2.0, 1, seconds_evaluation=1.0)

    monkeypatch.setattr(trials, "fit", fit)
    assert trials.choose_learning_rate(run) == 3e-2
    diverged, finished = (trial.seconds for trial in trials.read_trials(run.folder.sweep))
    assert 50 < diverged < 60
    assert finished == 3.0, "with its evaluation on D_val"


def test_a_choice_that_is_refused_leaves_nothing_to_resume(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    """Its file would hold the settings under which alone a half-done choice resumes."""
    run = run_of(tiny_config(*SWEEP))

    def refused(run: Context, tried: object) -> Any:
        raise UserError("refused")

    with pytest.raises(UserError, match=r"^refused$"):
        trials.Trials(run, run.folder.sweep, "--x", "all", "sweep").best(lambda done: [{"rate": 1}], refused, "1")
    assert not run.folder.sweep.exists()


@pytest.mark.trains
def test_a_removed_file_takes_the_half_done_trials_along(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    """A trial of a new list of rates resumed the checkpoint of another rate."""
    run = run_of(tiny_config(*SWEEP))
    half_done, of_grid = (run.folder.trials / name / "checkpoint-3" for name in ("sweep-0", "grid-0"))
    for path in (half_done, of_grid):
        path.mkdir(parents=True)
    write_json(run.folder.sweep, {"trials": []})
    trials.Trials(run, run.folder.sweep, "--x", "all", "sweep")
    assert half_done.exists()
    run.folder.sweep.unlink()
    trials.Trials(run, run.folder.sweep, "--x", "all", "sweep")
    assert not half_done.parent.exists()
    assert of_grid.exists()


@pytest.mark.trains
@pytest.mark.parametrize("split_by", ["source", "row"])
def test_the_search_and_the_trials_split_alike(tmp_path: Path, run_of: Callable[..., Context], split_by: str) -> None:
    """Twelve sources of two texts each."""
    model, data = save_causal(tmp_path / "model", "gpt2"), write_e2e(tmp_path / "data")
    argv = [*arguments(model, data, tmp_path / "runs", "[c_attn]"), "--task.split_by", split_by]
    run = run_of(parse(argv).config)
    engine = build_search(run, second_order=False)
    problems: list[Any] = [engine.lora, engine.selection]
    searched = [problem.train_data_loader[0].rows["source"][:] for problem in problems]
    trials = Trials(run, run.folder.sweep, "--x", "retrain", "sweep").data
    tried = [trials.train["source"][:], trials.evaluation["D_val"]["source"][:]]
    assert tried == searched
    assert [len(half) for half in tried] == [12, 12]
    assert bool(set(tried[0]) & set(tried[1])) is (split_by == "row")


def test_other_tasks_go_by_row(tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]) -> None:
    run = run_of(tiny_config("--task.split_by", "source"))
    by_row = split_indices(64, 0.5, run.config.seed)
    trials = Trials(run, run.folder.sweep, "--x", "retrain", "sweep").data
    assert trials.train["input_ids"][:] == run.data.train.select(by_row[0])["input_ids"][:]
