"""Measure the searched model of a run on D_val, beside a head that was trained without LoRA."""

import logging
from dataclasses import replace
from functools import partial

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel, set_seed

from autolora.configs.errors import UserError
from autolora.configs.measure import LEAST_ROWS
from autolora.engine.cut.basis import Gated, heads_of
from autolora.engine.measure.likelihood import likelihood_of
from autolora.engine.measure.measure import Measured, NotFinite, Passes, Plan, measure
from autolora.engine.run.context import Context
from autolora.engine.search.trajectory import searched_model
from autolora.engine.terminal.bar import Bar
from autolora.problems.batches import Batch, Batches
from autolora.problems.machine.compute import seeded
from autolora.problems.machine.draws import seed_of
from autolora.problems.models.layers import head_alone
from autolora.problems.rows import Rows

log = logging.getLogger("autolora")

CHECK_EVERY = 50
"""Steps between two checks of the loss of the head alone on D_val."""
CHECK_ROWS = 256
"""Rows of D_val that a check uses."""
PATIENCE = 3
"""The training of the head alone ends after this many checks in a row without a lower loss."""


def measured_search(run: Context, singular_values: Tensor) -> Measured | None:
    """Evidence and shares on D_val; None, after a warning, if D_val has too few rows. All processes
    must call this.

    `singular_values` [layers, k]: those of the searched components. Raises UserError for a search
    that diverged."""
    config = run.searched
    d_tr, d_val = run.split()
    if len(d_val) < LEAST_ROWS:
        log.warning(
            "measure: D_val has %d rows; measuring needs %d, and is left out",
            len(d_val),
            LEAST_ROWS,
        )
        return None
    rows = d_val.drawn(config.measure.rows, config.seed)
    passes = passes_over(run, rows)
    size = config.search.batch_size
    plan = Plan(
        config.measure.curve_ranks,
        sorted(b for b in set(config.measure.curve_budgets) if b <= config.lora.k),
        "size" if config.choose.rule == "size" else "shares",
        batch=size,
    )
    try:
        alone, weights = _head_on(run, d_tr, passes)
        run.compute.let_go()
        set_seed(config.seed)
        model = searched_model(run)
        gated = Gated(model, heads=heads_of(model, weights))
        model.eval()
        # Here each process measures whole batches.
        run.try_longest_batch(model, rows, size * run.processes.size, partial(passes.loss, model))
        return with_bar(gated, passes, plan, singular_values, alone)
    except NotFinite as error:
        raise UserError(
            "--search.learning_rate: the searched model has losses on D_val that are not "
            "finite; search again with a lower one (--overwrite)"
        ) from error
    finally:
        run.compute.let_go()


def with_bar(
    gated: Gated,
    passes: Passes,
    plan: Plan,
    singular_values: Tensor | None = None,
    alone: Tensor | None = None,
) -> Measured:
    """`measure`, and a bar that shows how far it is."""
    with Bar("measure", plan.passes(gated.k, head=alone is not None) * len(passes.rows)) as bar:
        return measure(gated, passes.telling(bar.step, bar.grow), plan, singular_values, alone)


def passes_over(run: Context, rows: Rows) -> Passes:
    """How the run sends these rows through a model."""
    # several stop together, after the stage
    check = run.stop.check if run.processes.size == 1 else lambda: None
    likelihood = likelihood_of(run.kind)
    batch = run.config.evaluation_batch
    return Passes(rows, likelihood, run.compute, run.processes, batch, check)


def _head_on(run: Context, d_tr: Rows, passes: Passes) -> tuple[Tensor | None, dict[str, Tensor]]:
    """The statistics of the head alone on the rows, and its weights; None and no weights if the
    search trained nothing but LoRA."""
    if not any(".lora_" not in name for name in load_file(run.folder.search_weights)):
        return None, {}
    model, steps = train_head(run, d_tr, passes)
    log.info("measure: the head alone was trained for %d steps, to measure what LoRA gains", steps)
    # Copies, as a script's own model is then put back and searched again.
    weights = {
        name: weight.detach().clone()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }
    return passes.statistics(model)[0], weights


def train_head(run: Context, d_tr: Rows, passes: Passes) -> tuple[PreTrainedModel, int]:
    """Trains the head, and other modules that are trained whole, on D_tr without LoRA; returns
    model and steps.

    The training uses the search's settings for W, but a constant learning rate without warmup. It
    ends when the loss on D_val stops falling, at the latest after `search.steps`, so that the head
    has no more steps than LoRA. The weights with the lowest loss on D_val are kept.
    """
    search = run.searched.search
    set_seed(run.config.seed)
    model, weights = head_alone(run.base())
    torch.nn.Module.to(model, run.compute.device)
    if not weights:  # a language model has no head to train
        return model, 0
    run.processes.same(weights)
    first = range(min(CHECK_ROWS, len(passes.rows)))
    some = replace(passes, rows=passes.rows.select(first))
    rate = search.learning_rate
    decay = search.weight_decay
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=decay, fused=True)
    size = search.batch_size
    parts = search.gradient_accumulation
    batches = Batches(d_tr, size, run.config.seed, run.compute.device, run.processes, parts)
    step = 0
    failed = 0
    lowest = _loss(model, some)
    kept = [weight.detach().clone() for weight in weights]
    with Bar("head alone", search.steps) as bar:
        while step < search.steps and failed < PATIENCE:
            model.train(search.dropout)
            for _ in range(min(CHECK_EVERY, search.steps - step)):
                _descend(run, model, weights, optimizer, batches[step])
                step += 1
                bar.step(step)
            loss = _loss(model, some)
            failed = failed + 1
            if loss < lowest:
                lowest = loss
                kept = [weight.detach().clone() for weight in weights]
                failed = 0
    with torch.no_grad():
        for weight, value in zip(weights, kept, strict=True):
            weight.copy_(value)
    return model, step


def _descend(
    run: Context,
    model: PreTrainedModel,
    weights: list[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    batch: Batch,
) -> None:
    """Takes one optimiser step."""
    for number, (part, share) in enumerate(batch.parts):
        with (
            seeded(seed_of(batch.seed, "masks", number), run.compute.device),
            run.compute.autocast(),
        ):
            loss = run.kind.loss(model, part) * share
        loss.backward()
    used = [weight for weight in weights if weight.grad is not None]
    for weight, grad in zip(
        used, run.processes.summed([w.grad for w in used if w.grad is not None]), strict=True
    ):
        weight.grad = grad
    if run.searched.search.gradient_clipping > 0:
        torch.nn.utils.clip_grad_norm_(used, run.searched.search.gradient_clipping)
    optimizer.step()
    optimizer.zero_grad()


def _loss(model: PreTrainedModel, passes: Passes) -> float:
    """The loss of the rows at their best temperature, nats per label."""
    statistics, weights = passes.statistics(model)
    temperature = passes.likelihood.fitted(statistics, weights)
    return float(passes.likelihood.losses(statistics, temperature, weights).sum() / weights.sum())
