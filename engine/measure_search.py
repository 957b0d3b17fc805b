"""Measure the searched model on D_val, beside a head that was trained without LoRA."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers import PreTrainedModel, set_seed

from autolora.configs.errors import UserError
from autolora.configs.measure import LEAST_ROWS, MeasureConfig
from autolora.engine import ranks
from autolora.engine.disk.files import read_json, write_json
from autolora.engine.measure.lora import Lora, heads_off
from autolora.engine.measure.measure import Measured, NotFinite, Plan, measure
from autolora.engine.measure.passes import Passes
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.search.searched import NUMBERS, Algorithm, Searched
from autolora.engine.world import World
from autolora.problems.batches import Batches, descend, loss_and_gradient, losses
from autolora.problems.models.base import Base
from autolora.problems.models.dry_run import try_longest_batch
from autolora.problems.models.layers import head_alone
from autolora.problems.models.recompute import recompute_blocks
from autolora.problems.rows import Rows
from autolora.problems.tasks.scoring import Scoring

log = logging.getLogger("autolora")

CHECK_EVERY = 50
"""Steps between two checks of the loss of the head alone on D_val."""
CHECK_ROWS = 256
"""Rows of D_val that a check uses."""
PATIENCE = 3
"""The training of the head alone ends after this many checks in a row without a lower loss."""


@dataclass(frozen=True)
class MeasuredSearch:
    """What is known of a search before ranks are chosen.

    `record`: ranks.json without ranks: alpha, singular values and, where it was measured, the
    evidence."""

    record: RankRecord
    seconds: float

    def save(self, root: Path) -> None:
        """Writes evidence.json and, last, summary.json into measure/."""
        folder = root / "measure"
        ranks.save(self.record, folder / "evidence.json")
        write_json(folder / "summary.json", {"seconds": self.seconds})

    @classmethod
    def load(cls, root: Path) -> Self:
        """Reads what `save` has written."""
        folder = root / "measure"
        seconds = read_json(folder / "summary.json")["seconds"]
        return cls(ranks.load(folder / "evidence.json"), seconds)


def measure_search(
    base: Base,
    searched: Searched,
    d_tr: Rows,
    d_val: Rows,
    scoring: Scoring,
    algorithm: Algorithm,
    settings: MeasureConfig,
    world: World,
    *,
    batch: int,
) -> MeasuredSearch:
    """Measures a finished search on D_val. All processes must call this.

    `batch`: rows at a time where no gradient is taken. A measurement that was interrupted starts
    again. Raises Interrupted if a signal asked to stop, UserError for a search that diverged.
    """
    began = time.perf_counter()
    world.begin()
    measured = None
    if settings.rows and len(d_val) < LEAST_ROWS:
        log.warning(
            "measure: D_val has %d rows; measuring needs %d, and is left out",
            len(d_val),
            LEAST_ROWS,
        )
    elif settings.rows:
        rows = d_val.drawn(settings.rows, algorithm.seed)
        passes = Passes.of(rows, scoring, world, batch)
        plan = _plan(settings, algorithm)
        measured = _measured(base, searched, d_tr, passes, scoring, algorithm, plan, world)
    record = _without_ranks(searched, algorithm, measured)
    return MeasuredSearch(record, time.perf_counter() - began)


def _plan(settings: MeasureConfig, algorithm: Algorithm) -> Plan:
    """Which cuts are measured: budgets above k would keep everything."""
    k = algorithm.lora.k
    budgets = sorted(budget for budget in set(settings.curve_budgets) if budget <= k)
    placed_by = "size" if algorithm.rule.rule == "size" else "shares"
    return Plan(settings.curve_ranks, budgets, placed_by, batch=algorithm.search.batch_size)


def _measured(
    base: Base,
    searched: Searched,
    d_tr: Rows,
    passes: Passes,
    scoring: Scoring,
    algorithm: Algorithm,
    plan: Plan,
    world: World,
) -> Measured:
    """Evidence and shares of the searched model on the rows of `passes`."""
    try:
        alone = None
        weights: Mapping[str, Tensor] = {}
        if searched.trains_head:
            alone, weights = _head_alone(base, d_tr, passes, scoring, algorithm, world)
        world.compute.let_go()
        set_seed(algorithm.seed)
        model = searched.model(base.lend(), algorithm.lora, scoring)
        model.to(world.compute.device)
        if algorithm.recompute:
            recompute_blocks(model)
        lora = Lora(model, off=heads_off(model, weights))
        model.eval()
        try_longest_batch(
            model,
            passes.rows,
            plan.batch * world.processes.size,  # here each process measures whole batches
            partial(passes.loss, model),
            world.compute,
            world.processes,
        )
        singular_values = searched.numbers["singular_values"]
        return measure(lora, passes, plan, singular_values, alone, world.progress)
    except NotFinite as error:
        raise UserError(
            "--search.learning_rate: the searched model has losses on D_val that are not "
            "finite; search again with a lower one (--overwrite)"
        ) from error
    finally:
        world.compute.let_go()


def _head_alone(
    base: Base,
    d_tr: Rows,
    passes: Passes,
    scoring: Scoring,
    algorithm: Algorithm,
    world: World,
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The statistics of the head alone on the rows of `passes`, and its weights."""
    model, steps = train_head(base, d_tr, passes, scoring, algorithm, world)
    log.info("measure: the head alone was trained for %d steps, to measure what LoRA gains", steps)
    # Copies, as the model is then put back and borrowed again.
    weights = {
        name: weight.detach().clone()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }
    return passes.statistics(model)[0], weights


def train_head(
    base: Base,
    d_tr: Rows,
    passes: Passes,
    scoring: Scoring,
    algorithm: Algorithm,
    world: World,
) -> tuple[PreTrainedModel, int]:
    """Trains the head, and other modules that are trained whole, on D_tr without LoRA; returns
    model and steps.

    The training uses the search's settings for W, but a constant learning rate without warmup. It
    ends when the loss on D_val stops falling, at the latest after `search.steps`, so that the head
    has no more steps than LoRA. The weights with the lowest loss on D_val are kept.
    """
    settings = algorithm.search
    compute = world.compute
    set_seed(algorithm.seed)
    model, weights = head_alone(base.lend())
    torch.nn.Module.to(model, compute.device)
    if not weights:  # a language model has no head to train
        return model, 0
    world.processes.same(weights)
    first = range(min(CHECK_ROWS, len(passes.rows)))
    some = replace(passes, rows=passes.rows.select(first))
    optimizer = torch.optim.AdamW(
        weights, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    batches = Batches(
        d_tr,
        settings.batch_size,
        algorithm.seed,
        compute.device,
        world.processes,
        settings.gradient_accumulation,
    )
    step = 0
    failed = 0
    lowest = _loss(model, some)
    best = [weight.detach().clone() for weight in weights]
    with world.progress("head alone", settings.steps) as bar:
        while step < settings.steps and failed < PATIENCE:
            model.train(settings.dropout)
            for _ in range(min(CHECK_EVERY, settings.steps - step)):
                parts = losses(batches[step], partial(scoring.loss, model), compute)
                _, gradient = loss_and_gradient(parts, weights, world.processes)
                descend(optimizer, weights, gradient, settings.gradient_clipping)
                step += 1
                bar.step(step)
            loss = _loss(model, some)
            failed = failed + 1
            if loss < lowest:
                lowest = loss
                best = [weight.detach().clone() for weight in weights]
                failed = 0
    with torch.no_grad():
        for weight, value in zip(weights, best, strict=True):
            weight.copy_(value)
    return model, step


def _loss(model: PreTrainedModel, passes: Passes) -> float:
    """The loss of the rows at their best temperature, nats per label."""
    statistics, weights = passes.statistics(model)
    temperature = passes.likelihood.fitted(statistics, weights)
    return float(passes.likelihood.losses(statistics, temperature, weights).sum() / weights.sum())


def _without_ranks(
    searched: Searched, algorithm: Algorithm, measured: Measured | None
) -> RankRecord:
    """The record of the search and of what was measured of it."""
    columns = {name: searched.numbers[name].double() for name in NUMBERS}
    if measured is not None:
        columns |= measured.shares.columns()
    fields: dict[str, list[Any]] = {
        key: [tuple(row) if isinstance(row, list) else row for row in values.tolist()]
        for key, values in columns.items()
    }
    layers = tuple(
        LayerRank(name, 0, **{key: rows[place] for key, rows in fields.items()})
        for place, name in enumerate(searched.sizes)
    )
    evidence = None if measured is None else measured.evidence
    k = searched.numbers["alpha"].shape[1]
    return RankRecord(k, layers, algorithm.search.constraint, evidence=evidence)
