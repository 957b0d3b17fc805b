"""Choose a learning rate, or the ranks of methods lora_grid and optuna, by trials: whole trainings
on D_tr, measured on D_val. A choice resumes with its finished trials."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from autolora.configs.errors import UserError
from autolora.configs.layers import with_values
from autolora.configs.schema import LoraGrid, RunConfig
from autolora.engine import ranks
from autolora.engine.cut.basis import parameters_of, uneven_ranks
from autolora.engine.disk.files import read_json, remove, write_json
from autolora.engine.export.lora_config import save_lora_config
from autolora.engine.retrain.controls import Shapes, record_of
from autolora.engine.retrain.evaluate import NotFinite, evaluate
from autolora.engine.retrain.fit import begin, fit, search_splits, seconds_of
from autolora.engine.retrain.methods import METHODS
from autolora.engine.retrain.methods.lora import lora_at
from autolora.engine.retrain.prepared import Prepared
from autolora.engine.run.context import Context
from autolora.problems.machine.draws import seed_of
from autolora.problems.models.attach import ADAPTER
from autolora.problems.models.layers import layer_shapes, lora_layers_of
from autolora.problems.models.names import matches
from autolora.problems.rows import Rows, Splits
from autolora.problems.tasks import Task

log = logging.getLogger("autolora")

Trial = Mapping[str, Any]
"""One finished training on D_tr, as trials.json has it: what was `tried`, the task's `metrics` on
D_val (empty if it diverged), the optimiser `steps`, and the `seconds` of the training and of its
evaluation."""
Propose = Callable[[Sequence[Trial]], Mapping[str, Any] | None]
"""Gives the next candidate from the finished trials alone; None if there are no more."""
Prepare = Callable[[Context, Mapping[str, Any]], tuple[Context, Prepared]]
"""Turns the run of a trial and a candidate into the run with the candidate's settings, and the
model to train."""

_RANDOM = 10
"""TPE compares good trials with others: the first half of the trials, at most so many, have random
ranks."""
_LEAST_WEIGHT = 1e-3
"""Stands in for a weight of 0: such a layer gets components only when no other layer can take
more."""


def choose_learning_rate(run: Context) -> float:
    """The rate of `retrain.learning_rate` that did best on D_val with this run's method."""
    rates = [{"learning_rate": rate} for rate in run.config.retrain.rates]

    def prepare(half: Context, tried: Mapping[str, Any]) -> tuple[Context, Prepared]:
        at_rate = half.under(
            with_values(half.config, {"retrain.learning_rate": tried["learning_rate"]})
        )
        return at_rate, METHODS[type(run.config)](half.base(), at_rate)

    return float(best_trial(run, "sweep", one_by_one(rates), prepare)["tried"]["learning_rate"])


def choose_ranks(run: Context) -> None:
    """Chooses ranks by the method lora_grid or optuna, and writes ranks.json and lora_config/."""
    model = run.base().model
    config = run.adapted
    found = layer_shapes(model)
    shapes = {name: found[name] for name in lora_layers_of(model, config.lora)}
    sizes = {name: sum(shape) for name, shape in shapes.items()}
    grid = isinstance(config, LoraGrid)
    propose = one_by_one(combinations(config.lora, list(shapes))) if grid else _by_tpe(run, shapes)

    def prepare(half: Context, tried: Mapping[str, Any]) -> tuple[Context, Prepared]:
        return half, lora_at(record_of(tried, config.lora.k, config.method), half.base(), half)

    prepared: Any = prepare(
        run, best_trial(run, "grid", propose, prepare, parameters_per_rank=sizes)["tried"]
    )[1]
    save_lora_config(
        prepared.model.peft_config[ADAPTER], prepared.record, run.folder.lora_config, config
    )
    ranks.save(prepared.record, run.folder.ranks)


def best_trial(run: Context, stage: str, propose: Propose, prepare: Prepare, **known: Any) -> Trial:
    """The trial with the best score on D_val; if scores are equal, the trial with the lower loss.

    The folder of the `stage` gets trials.json, with what is `known`, after each trial; those that
    are there are not run again. Raises UserError when all trials diverged."""
    folder = run.folder.root / stage
    path = folder / "trials.json"
    data = search_splits(run)
    done: list[Trial] = list(read_json(path).get("trials", []))
    while (tried := propose(done)) is not None:
        log.info("%s: trial %d, %.200s", stage, len(done) + 1, tried)
        run.compute.let_go()
        set_seed(run.config.seed)
        half = run.under(_settings(run, data))
        half.data = data
        at, prepared = prepare(half, tried)
        begin(at, prepared, data, stage)
        # In a folder of its own, as it must not resume from another trial's checkpoints.
        done.append(
            {"tried": tried, **_outcome(at, prepared, data, folder / f"trial-{len(done) + 1}")}
        )
        write_json(path, {"trials": done, **known})
    chosen = max(done, key=lambda trial: goodness(run.task, trial["metrics"]))
    if not chosen["metrics"]:
        raise UserError(
            f"--retrain.learning_rate: all {len(done)} trials of {path} diverged; lower the "
            "rate (with --overwrite)"
        )
    log.info("%s: chose %.200s", stage, chosen["tried"])
    write_json(path, {"chosen": chosen["tried"], "trials": done, **known})
    for trial in folder.glob("trial-*"):
        remove(trial)
    run.compute.let_go()
    return chosen


def _outcome(run: Context, prepared: Prepared, data: Splits[Rows], folder: Path) -> Trial:
    """What came of a trial."""
    began = time.perf_counter()
    try:
        trained, state = fit(run, prepared, data, folder)
        ended = time.perf_counter()
        evaluated = evaluate(trained.model, run, data)
    except NotFinite as error:
        log.warning("the trial diverged (%s)", error)
        return {"metrics": {}, "steps": 0, "seconds": time.perf_counter() - began}
    seconds = seconds_of(state) + time.perf_counter() - ended
    return {"metrics": evaluated.metrics, "steps": state.global_step, "seconds": seconds}


def _settings(run: Context, data: Splits[Rows]) -> RunConfig:
    """The settings of every trial: the run's, but with as many passes over D_tr as the retraining
    takes over all rows, instead of as many steps. With more passes, lower learning rates would look
    better than they are for the retraining."""
    steps = run.config.retrain.max_steps
    if steps is not None:
        steps = math.ceil(steps * len(data.train) / len(run.data.train))
    return with_values(run.config, {"retrain.max_steps": steps})


def goodness(task: Task, metrics: Mapping[str, float]) -> tuple[float, float]:
    """The sort key of a trial, larger for a better one: its score, then its negative loss. A
    diverged trial is last.

    Short trainings on a hard task often end at one constant answer: the metrics are equal, but the
    losses differ.
    """
    if not metrics:
        return -math.inf, -math.inf
    return task.score(metrics), -metrics.get("loss", 0.0)


def one_by_one(candidates: Sequence[Mapping[str, Any]]) -> Propose:
    """Proposes the candidates in their order."""
    return lambda done: candidates[len(done)] if len(done) < len(candidates) else None


def combinations(lora: Any, names: Sequence[str]) -> list[dict[str, int]]:
    """Layer -> rank, for every combination of `lora.grid` over the target modules.

    The paper compares with 16 rank configurations without naming them; two target modules and four
    ranks make 16.
    """
    # if two match a layer, the longer one decides
    targets = sorted(lora.target_modules, key=len, reverse=True)
    of_layers = {name: next((t for t in targets if matches(name, t)), targets[0]) for name in names}
    found = []
    for combination in itertools.product(lora.grid, repeat=len(targets)):
        rank = dict(zip(lora.target_modules, combination, strict=True))
        found.append({name: rank[target] for name, target in of_layers.items()})
    return found


def _by_tpe(run: Context, shapes: Shapes) -> Propose:
    """Ranks that TPE proposes from the earlier trials; each proposal spends the whole budget."""
    import optuna  # noqa: F401 - where it is missing, this is told before the first trial

    lora = run.adapted.lora
    seed = run.config.seed
    sizes = {name: sum(shape) for name, shape in shapes.items()}
    budget = parameters_of(lora.budget, sizes.values())
    most = max(lora.k, math.ceil(lora.budget))
    cap = {name: min(most, *shape) for name, shape in shapes.items()}

    def propose(done: Sequence[Trial]) -> Mapping[str, int] | None:
        if len(done) == lora.trials:
            return None
        scored = [
            (one["tried"], run.task.score(one["metrics"]) if one["metrics"] else None)
            for one in done
        ]
        weights = asked(scored, cap, lora.trials, seed) if done else dict.fromkeys(sizes, 1)
        return apportioned(weights, sizes, budget, cap)

    return propose


def asked(
    done: Sequence[tuple[Mapping[str, int], float | None]],
    cap: Mapping[str, int],
    trials: int,
    seed: int,
) -> dict[str, int]:
    """Layer -> rank, as Optuna's TPE (tree-structured Parzen estimator) proposes it after the ranks
    and scores of `done` (score None: it diverged). It follows from these and the seed alone, so
    that an interrupted choice resumes.

    `cap`: layer -> the highest rank. `trials`: how many there will be."""
    import optuna  # a slow import of an optional package

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=max(2, min(trials // 2, _RANDOM)),
        seed=seed_of(seed, "optuna", len(done)) % 2**32,
    )
    study = optuna.create_study(sampler=sampler, direction="maximize")
    space: dict[str, Any] = {
        name: optuna.distributions.IntDistribution(0, most) for name, most in cap.items()
    }
    for tried, score in done:
        state = optuna.trial.TrialState.FAIL if score is None else optuna.trial.TrialState.COMPLETE
        params = {name: int(tried[name]) for name in space}
        study.add_trial(
            optuna.trial.create_trial(state=state, params=params, distributions=space, value=score)
        )
    return dict(study.ask(space).params)


def apportioned(
    weights: Mapping[str, int], sizes: Mapping[str, int], budget: int, cap: Mapping[str, int]
) -> dict[str, int]:
    """Layer -> rank, as nearly proportional to `weights` as `budget` LoRA parameters allow, by the
    method of highest averages (D'Hondt): each next component goes to the layer whose weight,
    divided by the components that it would then have, is the largest. `sizes`: layer -> parameters
    of one component; `cap`: layer -> its highest rank.
    """
    falling = [
        (
            max(weights[name], _LEAST_WEIGHT)
            * size
            / torch.arange(1, cap[name] + 1, dtype=torch.float64)
        ).sqrt()
        for name, size in sizes.items()
    ]  # uneven_ranks compares the squares per parameter
    return dict(zip(sizes, uneven_ranks(falling, list(sizes.values()), budget), strict=True))
