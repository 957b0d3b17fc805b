"""Choose a learning rate, or the ranks of methods lora_grid and optuna, by trials: whole trainings
on D_tr, measured on D_val. A choice resumes with its finished trials."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from autolora.configs.errors import UserError
from autolora.configs.training import LoraOfGrid, LoraOfTrials, RetrainConfig
from autolora.engine.choose import Ranks
from autolora.engine.disk.files import read_json, remove, write_json
from autolora.engine.export.lora_config import config_for_trainers
from autolora.engine.measure.bases import parameters_of, uneven_ranks
from autolora.engine.retrain.controls import Shapes
from autolora.engine.retrain.fit import begin, fit, seconds_of
from autolora.engine.retrain.judge import NotFinite, judge
from autolora.engine.retrain.methods.lora import AtRanks, PlainLora
from autolora.engine.retrain.prepared import Method, Training
from autolora.engine.world import Nowhere, World
from autolora.problems.machine.draws import seed_of
from autolora.problems.models.attach import ADAPTER
from autolora.problems.models.base import Base
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
Candidate = Callable[[Mapping[str, Any]], tuple[Method, RetrainConfig]]
"""Turns what is tried into the method of the trial, and the settings of its training."""

_RANDOM = 10
"""TPE compares good trials with others: the first half of the trials, at most so many, have random
ranks."""
_LEAST_WEIGHT = 1e-3
"""Stands in for a weight of 0: such a layer gets components only when no other layer can take
more."""


@dataclass(frozen=True)
class Trials:
    """Finished trials, and the one that was chosen. `what`: sweep (of learning rates) or grid (of
    ranks). `sizes`: layer -> LoRA parameters of one component, where ranks were tried."""

    what: str
    done: Sequence[Trial]
    chosen: Mapping[str, Any]
    sizes: Mapping[str, int] | None = None

    def save(self, root: Path) -> None:
        """Writes trials.json into sweep/ or grid/, and removes the trainings."""
        folder = root / self.what
        _write(folder, self.done, self.sizes, self.chosen)
        for trial in folder.glob("trial-*"):
            remove(trial)


def try_rates(
    base: Base,
    method: Method,
    d_tr: Training,
    d_val: Rows,
    rates: Sequence[float],
    world: World,
    *,
    batch: int,
) -> Trials:
    """Chooses the learning rate that does best on D_val with this method. `d_tr`: a training on
    D_tr."""
    candidates = [{"learning_rate": rate} for rate in rates]

    def candidate(tried: Mapping[str, Any]) -> tuple[Method, RetrainConfig]:
        return method, d_tr.settings.model_copy(update=dict(tried))

    return _try("sweep", base, one_by_one(candidates), candidate, d_tr, d_val, world, batch=batch)


@dataclass(frozen=True)
class TriedRanks:
    """The ranks that did best in trials."""

    trials: Trials
    ranks: Ranks

    def save(self, root: Path) -> None:
        """Writes grid/trials.json, lora_config/ and, last, ranks.json."""
        self.trials.save(root)
        self.ranks.save(root)


def try_ranks(
    base: Base,
    lora: LoraOfGrid | LoraOfTrials,
    form: PlainLora,
    d_tr: Training,
    d_val: Rows,
    world: World,
    *,
    batch: int,
) -> TriedRanks:
    """Chooses ranks by the method lora_grid or optuna."""
    set_seed(d_tr.seed)  # a new head is drawn when the base is loaded, once for all trials
    model = base.lend().model
    all_shapes = layer_shapes(model)
    shapes = {name: all_shapes[name] for name in lora_layers_of(model, lora)}
    sizes = {name: sum(shape) for name, shape in shapes.items()}
    if isinstance(lora, LoraOfGrid):
        propose = one_by_one(combinations(lora, list(shapes)))
    else:
        propose = _by_tpe(lora, shapes, d_tr)

    def at(tried: Mapping[str, Any]) -> Method:
        record = form.named(tried, lora.k)
        return AtRanks(form, lambda model: record)

    def candidate(tried: Mapping[str, Any]) -> tuple[Method, RetrainConfig]:
        return at(tried), d_tr.settings

    trials = _try("grid", base, propose, candidate, d_tr, d_val, world, sizes, batch=batch)
    best = at(trials.chosen).prepare(base.lend(), d_tr, world)
    attached: Any = best.model
    assert best.record is not None
    config = config_for_trainers(attached.peft_config[ADAPTER], best.record, form.model)
    return TriedRanks(trials, Ranks(best.record, config))


def _try(
    what: str,
    base: Base,
    propose: Propose,
    candidate: Candidate,
    d_tr: Training,
    d_val: Rows,
    world: World,
    sizes: Mapping[str, int] | None = None,
    *,
    batch: int,
) -> Trials:
    """The trial with the best score on D_val; if scores are equal, the trial with the lower loss.

    `world.work` gets trials.json after each trial; those that are there are not run again. Raises
    UserError when all trials diverged."""
    folder = world.work
    assert folder is not None
    task = d_tr.scoring.task
    assert task is not None
    done: list[Trial] = list(read_json(folder / "trials.json").get("trials", []))
    splits = Splits(d_tr.rows, {"D_val": d_val})
    while (tried := propose(done)) is not None:
        log.info("%s: trial %d, %.200s", what, len(done) + 1, tried)
        method, settings = candidate(tried)
        training = replace(d_tr, settings=settings)
        # Of its own, as a trial must not resume from another one's checkpoints.
        work = folder / f"trial-{len(done) + 1}"
        outcome = _trial(base, method, training, splits, world, work, batch=batch)
        world.compute.let_go()
        done.append({"tried": tried, **outcome})
        _write(folder, done, sizes)
    best = max(done, key=lambda trial: goodness(task, trial["metrics"]))
    if not best["metrics"]:
        raise UserError(
            f"--retrain.learning_rate: all {len(done)} trials of {folder / 'trials.json'} "
            "diverged; lower the rate (with --overwrite)"
        )
    log.info("%s: chose %.200s", what, best["tried"])
    return Trials(what, done, best["tried"], sizes)


def _write(
    folder: Path,
    done: Sequence[Trial],
    sizes: Mapping[str, int] | None,
    chosen: Mapping[str, Any] | None = None,
) -> None:
    content: dict[str, Any] = {} if chosen is None else {"chosen": chosen}
    content |= {"trials": done}
    content |= {} if sizes is None else {"parameters_per_rank": sizes}
    write_json(folder / "trials.json", content)


def _trial(
    base: Base,
    method: Method,
    training: Training,
    splits: Splits[Rows],
    world: World,
    work: Path,
    *,
    batch: int,
) -> Trial:
    """One training, and what came of it. Its model is gone afterwards."""
    set_seed(training.seed)
    prepared = method.prepare(base.lend(), training, world)
    begin(prepared, training, world)
    own = replace(world, work=work, tracker=Nowhere())
    began = time.perf_counter()
    try:
        trained, state = fit(prepared, training, own)
        ended = time.perf_counter()
        judgement = judge(trained.model, splits, training.scoring, own, batch=batch)
    except NotFinite as error:
        log.warning("the trial diverged (%s)", error)
        return {"metrics": {}, "steps": 0, "seconds": time.perf_counter() - began}
    seconds = seconds_of(state) + time.perf_counter() - ended
    return {"metrics": judgement.metrics, "steps": state.global_step, "seconds": seconds}


def of_a_trial(settings: RetrainConfig, d_tr: Rows, rows: Rows) -> RetrainConfig:
    """The settings of every trial: as many passes over D_tr as the retraining takes over all rows,
    instead of as many steps. With more passes, lower learning rates would look better than they are
    for the retraining."""
    steps = settings.max_steps
    if steps is None:
        return settings
    return settings.model_copy(update={"max_steps": math.ceil(steps * len(d_tr) / len(rows))})


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


def _by_tpe(lora: LoraOfTrials, shapes: Shapes, training: Training) -> Propose:
    """Ranks that TPE proposes from the earlier trials; each proposal spends the whole budget."""
    import optuna  # noqa: F401 - where it is missing, this is told before the first trial

    task = training.scoring.task
    assert task is not None
    sizes = {name: sum(shape) for name, shape in shapes.items()}
    budget = parameters_of(lora.budget, sizes.values())
    most = max(lora.k, math.ceil(lora.budget))
    cap = {name: min(most, *shape) for name, shape in shapes.items()}

    def propose(done: Sequence[Trial]) -> Mapping[str, int] | None:
        if len(done) == lora.trials:
            return None
        scored = [
            (trial["tried"], task.score(trial["metrics"]) if trial["metrics"] else None)
            for trial in done
        ]
        weights = dict.fromkeys(sizes, 1)
        if done:
            weights = asked(scored, cap, lora.trials, training.seed)
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
