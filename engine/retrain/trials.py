"""Choose settings by trials: whole trainings on D_tr, measured on D_val. Learning rates, and the ranks of methods
lora_grid and optuna. A choice resumes with its finished trials."""

import dataclasses
import importlib.util
import itertools
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import set_seed

from autolora.configs.errors import UserError
from autolora.configs.schema import LoraGrid, Optuna, RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import remove, write_json
from autolora.engine.export.lora_config import save_lora_config
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.retrain import checkpoint, controls
from autolora.engine.retrain.controls import Shapes
from autolora.engine.retrain.evaluate import NotFinite, evaluate
from autolora.engine.retrain.fit import begin, fit
from autolora.engine.retrain.methods import METHODS
from autolora.engine.retrain.methods.adalora import LEAST_STEPS
from autolora.engine.retrain.methods.base import Prepared, budget_of
from autolora.engine.retrain.methods.lora import lora_at
from autolora.engine.run.context import Context
from autolora.engine.run.records import read_trials_file
from autolora.problems.data import Data, split_rows
from autolora.problems.machine.draws import seed_of
from autolora.problems.models.attach import ADAPTER
from autolora.problems.models.layers import layer_shapes, lora_layers_of
from autolora.problems.tasks import Task

log = logging.getLogger("autolora")

_LEAST_BEFORE, _MOST_BEFORE = 2, 10
"""TPE compares good trials with others: until half of the trials, but 2 to 10, have finished, it draws at random."""


@dataclass(frozen=True)
class Trial:
    """One finished training on D_tr: what was tried, the task's metrics on D_val (empty if it diverged), optimiser
    steps, and the seconds of the training and of its evaluation on D_val, those before a stop included."""

    tried: Mapping[str, Any]
    metrics: Mapping[str, float]
    steps: int
    seconds: float


Prepare = Callable[[Context, Mapping[str, Any]], tuple[Context, Prepared]]
"""Turns the run of a trial and a candidate into the run with the candidate's settings, and the model to train."""
Plan = Callable[[Sequence[Trial]], Sequence[Mapping[str, Any]]]
"""Gives, from the finished trials alone, all candidates that are known so far: the tried ones first."""


def choose_learning_rate(run: Context) -> float:
    """The rate of `retrain.learning_rate` that did best on D_val with this run's method; writes sweep.json."""
    rates = [{"learning_rate": rate} for rate in run.config.retrain.rates]

    def prepare(run: Context, tried: Mapping[str, Any]) -> tuple[Context, Prepared]:
        at_rate = run.under(with_rate(run.config, tried["learning_rate"]))
        return at_rate, METHODS[type(run.config)](run.base(), at_rate, len(run.data.train))

    return float(best_trial(run, "sweep", lambda done: rates, prepare).tried["learning_rate"])


def choose_ranks(run: Context) -> None:
    """Chooses ranks by the method lora_grid or optuna, and writes grid.json, ranks.json and lora_config/."""
    model, config = run.base().model, run.adapted
    found = layer_shapes(model)
    shapes = {name: found[name] for name in lora_layers_of(model, config.lora)}
    plan, ranks_of = _PLANS[type(run.config)](run, shapes)

    def prepare(run: Context, tried: Mapping[str, Any]) -> tuple[Context, Prepared]:
        return run, lora_at(ranks_of(tried), Path("--lora.k"), run.base(), run)

    sizes = {name: sum(shape) for name, shape in shapes.items()}
    _, prepared = prepare(run, best_trial(run, "grid", plan, prepare, sizes).tried)
    assert prepared.record is not None
    assert isinstance(prepared.model, PeftModel)
    save_lora_config(prepared.model.peft_config[ADAPTER], prepared.record, run.folder.lora_config, config)
    ranks.save(prepared.record, run.folder.ranks)


def best_trial(
    run: Context, stage: str, plan: Plan, prepare: Prepare, sizes: Mapping[str, int] | None = None
) -> Trial:
    """The trial with the best score on D_val; if scores are equal, the trial with the lower loss. Each finished trial
    is written to trials.json in the folder of the `stage`, and only those that are not there are run. `sizes`: layer
    -> LoRA parameters of one component, which are stored, too. Raises UserError when all trials diverged."""
    folder = run.folder.root / stage
    path = folder / "trials.json"
    stored = {} if sizes is None else {"parameters_per_rank": dict(sizes)}
    done = read_trials(path)

    def write(**more: Any) -> None:
        write_json(path, {**more, "trials": [dataclasses.asdict(trial) for trial in done], **stored})

    while len(done) < len(planned := plan(done)):
        tried, data = planned[len(done)], halves_of(run)
        log.info("%s: trial %d, %.200s", stage, len(done) + 1, tried)
        run.compute.let_go()
        set_seed(run.config.seed)
        half = run.under(_settings(run, data))
        half.data = data
        at, prepared = prepare(half, tried)
        begin(at, prepared, data, stage)
        done.append(_tried(at, prepared, data, folder / f"trial-{len(done)}", tried))
        write()
    chosen = max(done, key=partial(goodness, run.task))
    if not chosen.metrics:
        raise UserError(f"--retrain.learning_rate: all {len(done)} trials of {path} diverged; lower the rate (with "
                        f"--overwrite)")  # fmt: skip
    log.info("%s: chose %.200s", stage, chosen.tried)
    if run.processes.first:
        write(chosen=chosen.tried)
        for trial in folder.glob("trial-*"):
            remove(trial)
    run.compute.let_go()
    return chosen


def _tried(run: Context, prepared: Prepared, data: Data, folder: Path, tried: Mapping[str, Any]) -> Trial:
    """Trains a candidate in a folder of its own, as it must not resume from another trial's checkpoints."""
    began, before = time.perf_counter(), float(checkpoint.peek(folder).get("seconds", 0.0))
    try:
        fitted = fit(run, prepared, data, folder)
        batch = run.config.evaluation_batch
        evaluated = evaluate(fitted.model, run.task, data, run.compute, batch, run.processes, run.stop.check)
    except NotFinite as error:
        log.warning("%.200s diverged (%s)", tried, error)
        return Trial(tried, {}, 0, before + time.perf_counter() - began)
    return Trial(tried, evaluated.metrics, fitted.steps, fitted.seconds + evaluated.seconds)


def halves_of(run: Context) -> Data:
    """D_tr to train on, D_val to judge on."""
    rows = run.data
    d_tr, d_val = split_rows(rows.train, run.config)
    return Data(rows.train.select(d_tr), {"D_val": rows.train.select(d_val)}, rows.collate)


def _settings(run: Context, data: Data) -> RunConfig:
    """The settings of every trial: the run's, but with as many passes over D_tr as the retraining takes over all
    rows, instead of as many steps. With more passes, lower learning rates would look better than they are for the
    retraining."""
    steps = run.config.retrain.max_steps
    if steps is not None:
        steps = max(min(steps, LEAST_STEPS), math.ceil(steps * len(data.train) / len(run.data.train)))
    retrain = run.config.retrain.model_copy(update={"max_steps": steps})
    return run.config.model_copy(update={"retrain": retrain})


def read_trials(path: Path) -> list[Trial]:
    """The trials in a grid.json or sweep.json; none when there is no such file."""
    return [Trial(**trial) for trial in read_trials_file(path).get("trials", [])]


def goodness(task: Task, trial: Trial) -> tuple[float, float]:
    """The sort key of a trial, larger for a better one: its score, then its negative loss. A diverged trial is last.

    Short trainings on a hard task often end at one constant answer: the metrics are equal, but the losses differ.
    """
    if not trial.metrics:
        return -math.inf, -math.inf
    return task.score(trial.metrics), -trial.metrics.get("loss", 0.0)


def with_rate(config: RunConfig, rate: float) -> RunConfig:
    """`config` with `rate` as the learning rate of the retraining."""
    return config.model_copy(update={"retrain": config.retrain.model_copy(update={"learning_rate": rate})})


Planned = tuple[Plan, Callable[[Mapping[str, Any]], RankRecord]]
"""What a method chooses from: the plan of candidates, and the ranks of a candidate."""


def _grid(run: Context, shapes: Shapes) -> Planned:
    """Every combination of `lora.grid` over the target modules.

    The paper compares with 16 rank configurations without naming them; two target modules and four ranks make 16.
    """
    lora = run.adapted.lora
    combinations = itertools.product(lora.grid, repeat=len(lora.target_modules))
    tried = [dict(zip(lora.target_modules, combination, strict=True)) for combination in combinations]
    return lambda done: tried, lambda one: controls.by_target(list(shapes), one, lora.k)


def _tpe(run: Context, shapes: Shapes) -> Planned:
    """Ranks that TPE proposes from the earlier trials; each proposal spends the whole budget."""
    if importlib.util.find_spec("optuna") is None:
        raise UserError("--method: optuna is not installed; run: pip install 'optuna>=5.0', or take another method")
    lora, sizes = run.adapted.lora, {name: sum(shape) for name, shape in shapes.items()}
    budget = budget_of(lora, list(sizes.values()), least=min(sizes.values()))
    most = controls.highest_needed(shapes, budget, lora.k)
    cap = {name: min(most, *shape) for name, shape in shapes.items()}
    proposals = Proposals(sizes, budget, cap, lora.trials, run.config.seed)

    def plan(done: Sequence[Trial]) -> list[Mapping[str, Any]]:
        tried = [trial.tried for trial in done]
        scored = [(trial.tried, run.task.score(trial.metrics) if trial.metrics else None) for trial in done]
        return tried if len(done) == lora.trials else [*tried, proposals.next(scored)]

    def record(tried: Mapping[str, Any]) -> RankRecord:
        layers = tuple(LayerRank(name, int(tried[name])) for name in sizes)
        return RankRecord(lora.k, layers, rule=Optuna.recorded_rule)

    return plan, record


_PLANS: Mapping[type[RunConfig], Callable[[Context, Shapes], Planned]] = {LoraGrid: _grid, Optuna: _tpe}

Scored = tuple[Mapping[str, Any], float | None]
"""The ranks of a finished trial, and its score on D_val; None if it diverged."""


@dataclass(frozen=True)
class Proposals:
    """Proposes by Optuna's TPE (tree-structured Parzen estimator) the ranks of the next trial, which spend all of
    `budget` as far as the layers can.

    `sizes`: layer -> LoRA parameters of one component; `cap`: layer -> the most components that it may get. A proposal
    depends only on the seed and the earlier trials, so that these are all that an interrupted choice needs to resume.
    """

    sizes: Mapping[str, int]
    budget: int
    cap: Mapping[str, int]
    trials: int
    seed: int

    def next(self, done: Sequence[Scored]) -> dict[str, int]:
        """Layer -> rank: uniform in the first trial; in later trials as TPE proposes, scaled to spend the budget."""
        weights = self._asked(done) if done else dict.fromkeys(self.sizes, 1)
        return controls.apportioned(weights, self.sizes, self.budget, self.cap, (self.seed, len(done)))

    def _asked(self, done: Sequence[Scored]) -> dict[str, int]:
        import optuna  # a slow import of an optional package

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=min(max(self.trials // 2, _LEAST_BEFORE), _MOST_BEFORE),
            seed=seed_of(self.seed, "optuna", len(done)) % 2**32,
        )
        study = optuna.create_study(sampler=sampler, direction="maximize")
        space: dict[str, Any] = {name: optuna.distributions.IntDistribution(0, self.cap[name]) for name in self.sizes}
        for ranks_tried, score in done:
            state = optuna.trial.TrialState.FAIL if score is None else optuna.trial.TrialState.COMPLETE
            params = {name: int(ranks_tried[name]) for name in space}
            study.add_trial(optuna.trial.create_trial(state=state, params=params, distributions=space, value=score))
        return dict(study.ask(space).params)
