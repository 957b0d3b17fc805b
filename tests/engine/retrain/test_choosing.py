"""Ranks that are chosen on D_val by training at each of several: a grid, what TPE proposes."""

import dataclasses
import importlib.util
import json
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.files import to_yaml
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.retrain import choosing, stage, trials
from autolora.engine.retrain.fit import Fitted
from autolora.engine.retrain.tpe import Proposals, Scored
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.stages import run_stages

needs_optuna = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="optuna is not installed")
GRID = ("--method", "lora_grid", "--lora.grid", "[1,3]")
TARGETS = ("--lora.target_modules", "[query,key,intermediate.dense]")
SIZES = {"query": 64, "key": 64, "intermediate.dense": 96}  # LoRA parameters of a component; two blocks
OPTUNA = ("--method", "optuna", *TARGETS, "--lora.budget", "1.5", "--lora.trials", "4")


def finish(config: RunConfig, *, draw: bool = False) -> RunFolder:
    return run_stages(Request(config, "all", False, "test"), StopRequest(), draw=draw)


def tried_in(folder: RunFolder) -> list[dict[str, int]]:
    return [trial["tried"] for trial in json.loads(folder.grid.read_text())["trials"]]


@dataclass
class Whole:
    """A choice that nobody stopped, and the rows of D_tr of each of its trainings."""

    folder: RunFolder
    rows: list[int]


def whole_run(config: RunConfig) -> Whole:
    rows: list[int] = []
    original = trials.fit

    def fit(run: Any, prepared: Any, data: Any, folder: Path) -> Fitted:
        rows.append(len(data.train))
        return original(run, prepared, data, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "fit", fit)
        return Whole(finish(config, draw=True), rows)


@pytest.fixture(scope="module")
def grid(make_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return whole_run(make_config(tmp_path_factory.mktemp("grid"), "bert", *GRID))


@pytest.fixture(scope="module")
def proposed(make_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return whole_run(make_config(tmp_path_factory.mktemp("optuna"), "bert", *OPTUNA))


@pytest.mark.slow
def test_a_grid_that_diverges_everywhere_says_how_to_begin_again(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config(*GRID)
    folder = RunFolder(Path(config.runs_folder) / str(config.name))
    folder.root.mkdir(parents=True)
    folder.config.write_text(to_yaml(config))
    tried = [{"query": q, "value": v} for q in (1, 3) for v in (1, 3)]
    trials = [{"tried": each, "metrics": {}, "steps": 0, "seconds": 0.0} for each in tried]
    folder.grid.write_text(json.dumps({"trials": trials}))
    with pytest.raises(UserError) as caught:
        finish(config)
    line = str(caught.value)
    assert line.startswith(f"--retrain.learning_rate: all 4 trials of {folder.grid} diverged; lower the rate and add")
    assert "--stage all --overwrite" in line
    assert f"(for a cell of a study, remove {folder.root} and repeat the study's command)" in line
    assert "\n" not in line


@pytest.mark.slow
def test_a_grid_tries_every_combination_and_retrains_the_best(grid: Whole) -> None:
    folder = grid.folder
    chosen, result = json.loads(folder.grid.read_text()), json.loads(folder.metrics.read_text())
    assert [t["tried"] for t in chosen["trials"]] == [{"query": q, "value": v} for q in (1, 3) for v in (1, 3)]
    record = ranks.load(folder.ranks)
    assert record.rule == "grid"
    for layer in record.layers:
        assert layer.rank == chosen["chosen"][layer.name.rsplit(".", 1)[-1]]
    assert result["lora_parameters"] == sum(record.kept.values()) * 64
    assert result["steps"] == {"search": 4 * 4, "retrain": 4}
    assert result["seconds"]["search"] == pytest.approx(sum(t["seconds"] for t in chosen["trials"]))
    assert grid.rows == [32] * 4, "half of the training rows; the other half judges the ranks"
    assert (folder.adapter / "adapter_config.json").exists()
    assert "lora_grid" in folder.report.read_text()


@pytest.mark.slow
def test_an_interrupted_grid_goes_on_and_ends_alike(
    grid: Whole,
    tiny_config: Callable[..., RunConfig],
    fits: list[tuple[Any, RunConfig]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = json.loads(grid.folder.grid.read_text())
    config = tiny_config(*GRID)
    stop, kept = StopRequest(), trials.fit

    def fit(*arguments: Any) -> Any:
        if len(fits) == 2:
            stop.handle(signal.SIGTERM, None)
        return kept(*arguments)

    monkeypatch.setattr(trials, "fit", fit)
    with pytest.raises(Interrupted):
        run_stages(Request(config, "all", False, "test"), stop)
    monkeypatch.setattr(trials, "fit", kept)
    folder = RunFolder.of(config)
    assert len(json.loads(folder.grid.read_text())["trials"]) == 2
    assert not folder.ranks.exists()
    # A half-done grid does not resume under other settings.
    with pytest.raises(UserError, match=r"^--retrain\.learning_rate: .* half-done run"):
        finish(dataclasses.replace(config, retrain=dataclasses.replace(config.retrain, learning_rate=1.0)))
    again = json.loads(finish(config).grid.read_text())
    assert len(fits) == 3 + 2, "the two finished trials were not repeated"
    for one, other in zip(whole["trials"], again["trials"], strict=True):
        assert (one["tried"], one["metrics"], one["steps"]) == (other["tried"], other["metrics"], other["steps"])


@pytest.mark.slow
def test_a_rank_that_no_layer_can_have_is_refused(tiny_config: Callable[..., RunConfig]) -> None:
    config = tiny_config("--method", "lora_grid", "--lora.grid", "[99,1]")
    with pytest.raises(UserError, match=r"--lora\.grid: rank 99 of 'bert.*' is out of range; allowed: 0 to 32"):
        finish(config)
    assert not RunFolder.of(config).grid.exists(), "nothing that the corrected command would have to resume"
    assert finish(tiny_config("--method", "lora_grid", "--lora.grid", "[1,2]")).metrics.exists()


@needs_optuna
@pytest.mark.slow
def test_optuna_tries_ranks_at_one_cost_and_retrains_the_best(proposed: Whole) -> None:
    folder = proposed.folder
    grid, result = json.loads(folder.grid.read_text()), json.loads(folder.metrics.read_text())
    assert len(grid["trials"]) == 4
    budget = 1.5 * 2 * sum(SIZES.values())
    for tried in tried_in(folder):
        cost = sum(rank * (96 if "intermediate" in name else 64) for name, rank in tried.items())
        assert budget - 64 < cost <= budget
    assert len({tuple(tried.values()) for tried in tried_in(folder)}) > 1
    record = ranks.load(folder.ranks)
    assert {layer.name: layer.rank for layer in record.layers} == grid["chosen"]
    assert record.rule == "optuna"
    assert result["steps"] == {"search": 4 * 4, "retrain": 4}
    assert result["seconds"]["search"] == pytest.approx(sum(trial["seconds"] for trial in grid["trials"]))
    assert "optuna" in folder.report.read_text()


@needs_optuna
@pytest.mark.slow
def test_an_interrupted_choice_resumes_with_the_same_proposals(
    proposed: Whole, tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = proposed.folder
    config = tiny_config(*OPTUNA)
    stop, kept, seen = StopRequest(), trials.fit, []

    def fit(*arguments: Any) -> Any:
        seen.append(arguments)
        if len(seen) == 3:
            stop.handle(signal.SIGTERM, None)
        return kept(*arguments)

    monkeypatch.setattr(trials, "fit", fit)
    with pytest.raises(Interrupted):
        run_stages(Request(config, "all", False, "test"), stop)
    folder = finish(config)
    assert len(seen) == 3 + 2, "the two finished trials were not repeated"
    assert tried_in(folder) == tried_in(whole)
    assert folder.ranks.read_text() == whole.ranks.read_text()
    scores = [[trial["metrics"] for trial in json.loads(x.grid.read_text())["trials"]] for x in (folder, whole)]
    assert scores[0] == scores[1]


class Stopped(Exception):
    """Comes instead of the retraining."""


def stopped(*_: Any) -> Any:
    raise Stopped


@needs_optuna
@pytest.mark.trains
def test_optuna_maximises_the_score_within_ranks_that_the_budget_needs_by_the_run_s_seed(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of mse less is better; a budget of 5 needs ranks above k, which is 4."""
    errors, told = [0.9, 0.2, 0.4], []

    class Told(Proposals):
        def next(self, done: Sequence[Scored]) -> dict[str, int]:
            told.append((max(self.cap.values()), self.seed, self.trials, [score for _, score in done]))
            return dict.fromkeys(self.sizes, len(done) + 1)

    monkeypatch.setattr(choosing, "Proposals", Told)
    monkeypatch.setattr(trials, "fit", lambda run, *_: Fitted({"mse": errors.pop(0), "loss": 0.5}, 1.0, 1))
    monkeypatch.setattr(stage, "fit", stopped)
    config = tiny_config("--method", "optuna", *TARGETS, "--lora.budget", "5", "--lora.trials", "3", "--seed", "7")
    with pytest.raises(Stopped):
        finish(config)
    assert told == [(5, 7, 3, scores) for scores in ([], [-0.9], [-0.9, -0.2])]
    assert set(ranks.load(RunFolder.of(config).ranks).kept.values()) == {2}


@pytest.mark.trains
@pytest.mark.parametrize(("rates", "told"), [("[1e-3,1e-2]", True), ("[1e-3]", False), ("[]", False)])
def test_rates_that_ranks_are_not_tried_at_are_told(
    tiny_config: Callable[..., RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    log_lines: list[str],
    rates: str,
    told: bool,
) -> None:
    monkeypatch.setattr(trials, "fit", lambda *_: Fitted({"accuracy": 0.5, "loss": 0.5}, 1.0, 1))
    monkeypatch.setattr(stage, "fit", stopped)
    with pytest.raises(Stopped):
        finish(tiny_config(*GRID, "--retrain.learning_rate", "1e-3", "--retrain.learning_rates", rates))
    line = "INFO lora_grid: ranks are tried at --retrain.learning_rate 0.001; retrain.learning_rates are for the "
    assert (f"{line}chosen ranks" in log_lines) is told


@pytest.mark.trains
def test_a_budget_below_one_component_is_refused(tiny_config: Callable[..., RunConfig]) -> None:
    with pytest.raises(
        UserError, match=r"^--lora\.budget: 0\.1 is not allowed for this model; allowed: 0\.143 or more"
    ):
        finish(tiny_config(*OPTUNA[:-3], "0.1"))
