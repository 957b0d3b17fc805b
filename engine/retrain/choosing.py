"""Methods lora_grid and optuna: train at several candidate ranks, and choose those that are best on D_val.

They write grid.json, ranks.json and lora_config/."""

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel

from autolora.configs.schema import LoraGrid, Optuna, RunConfig
from autolora.engine import ranks
from autolora.engine.export.lora_config import save_lora_config
from autolora.engine.ranks import LayerRank, RankRecord, controls
from autolora.engine.ranks.controls import Shapes
from autolora.engine.retrain.methods import Prepared
from autolora.engine.retrain.methods.base import budget_of
from autolora.engine.retrain.methods.lora import lora_at
from autolora.engine.retrain.tpe import Proposals
from autolora.engine.retrain.trials import Plan, Trial, Trials
from autolora.engine.run.context import Context
from autolora.problems.models.attach import ADAPTER
from autolora.problems.models.layers import layer_shapes, lora_layers_of

log = logging.getLogger("autolora")

Ranks = Callable[[Mapping[str, Any]], RankRecord]
"""Turns a candidate into the ranks of every layer."""


def choose_ranks(run: Context) -> None:
    """Chooses ranks by the run's method and writes them; does not repeat trials that an earlier command finished."""
    shapes = _shapes(run)
    plan, ranks_of, blame, most = _METHODS[type(run.config)](run, shapes)
    sizes = {name: sum(shape) for name, shape in shapes.items()}
    if len(run.config.retrain.rates) > 1:
        log.info(
            "%s: ranks are tried at learning rate %g, the first; the others are for the chosen ranks",
            run.config.method, run.config.retrain.rate,
        )  # fmt: skip
    trials = Trials(run, run.folder.grid, "--retrain.learning_rate", "all", run.config.method, sizes)

    def prepare(run: Context, tried: Mapping[str, Any]) -> tuple[Context, Prepared]:
        record = ranks_of(tried)
        # Candidates within one budget use it up more or less, which a reader who compares their scores must know.
        log.info("%s: %s LoRA parameters", run.config.method, f"{ranks.count_parameters(record.kept, sizes):,}")
        return run, lora_at(record, blame, run.base(), run)

    chosen = trials.best(plan, prepare, most)
    _, prepared = prepare(run, chosen.tried)
    assert prepared.record is not None
    assert isinstance(prepared.model, PeftModel)
    save_lora_config(prepared.model.peft_config[ADAPTER], prepared.record, run.folder.lora_config, run.adapted)
    ranks.save(prepared.record, run.folder.ranks)


def _shapes(run: Context) -> Shapes:
    """The shapes of every layer, or part of one, that the target modules match."""
    model = run.base().model
    found = layer_shapes(model)
    return {name: found[name] for name in lora_layers_of(model, run.adapted.lora)}


Choice = tuple[Plan, Ranks, Path, str]
"""What a method chooses from: the plan of candidates; the function that gives a candidate's ranks; the file or option
that an error names if these do not fit the model; and the number of trials as the log prints it."""


def _grid(run: Context, shapes: Shapes) -> Choice:
    """Every combination of `lora.grid` over the target modules.

    The paper compares with 16 rank configurations without naming them; two target modules and four ranks make 16.
    """
    lora = run.adapted.lora
    names = list(shapes)
    combinations = itertools.product(lora.grid, repeat=len(lora.target_modules))
    tried = [dict(zip(lora.target_modules, combination, strict=True)) for combination in combinations]
    return lambda done: tried, lambda one: controls.by_target(names, one, lora.k), Path("--lora.grid"), f"{len(tried)}"


def _tpe(run: Context, shapes: Shapes) -> Choice:
    """Ranks that TPE proposes from the earlier trials; each proposal spends the whole budget."""
    lora, seed = run.adapted.lora, run.config.seed
    sizes = {name: sum(shape) for name, shape in shapes.items()}
    budget = budget_of(lora, list(sizes.values()), least=min(sizes.values()))
    most = controls.highest_needed(shapes, budget, lora.k)
    cap = {name: min(most, *shape) for name, shape in shapes.items()}
    proposals = Proposals(sizes, budget, cap, lora.trials, seed)

    def plan(done: Sequence[Trial]) -> list[Mapping[str, Any]]:
        tried = [trial.tried for trial in done]
        if len(done) == lora.trials:
            return tried
        return [*tried, proposals.next([(trial.tried, _score(run, trial)) for trial in done])]

    def record(tried: Mapping[str, Any]) -> RankRecord:
        layers = tuple(LayerRank(name, int(tried[name])) for name in sizes)
        return RankRecord(lora.k, layers, rule=Optuna.recorded_rule)

    return plan, record, Path("--lora.k"), f"{lora.trials}"


_METHODS: Mapping[type[RunConfig], Callable[[Context, Shapes], Choice]] = {LoraGrid: _grid, Optuna: _tpe}


def _score(run: Context, trial: Trial) -> float | None:
    return run.task.score(trial.metrics) if trial.metrics else None
