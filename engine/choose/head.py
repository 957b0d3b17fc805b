"""Train the head without LoRA: LoRA's gain is the loss on D_val of this model minus that of the searched model."""

import logging
from dataclasses import replace

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, set_seed

from autolora.engine.measure.passes import Passes
from autolora.engine.run.workbench import Workbench
from autolora.engine.terminal.bar import Bar
from autolora.problems.data import Batch, Batches
from autolora.problems.models.whole import head_alone

log = logging.getLogger("autolora")

CHECK_EVERY = 50
"""Steps between two checks of the loss on D_val."""
CHECK_ROWS = 256
"""Rows of D_val that a check uses."""
PATIENCE = 3
"""The training ends after this many checks in a row without a lower loss."""


def train_head(run: Workbench, d_tr: Dataset, passes: Passes) -> tuple[PreTrainedModel, int]:
    """Trains the head, and other modules that are trained whole, on D_tr without LoRA; returns model and steps.

    The training uses the search's settings for W, but a constant learning rate without warmup. It ends when the loss
    on D_val stops falling, at the latest after `search.steps`, so that the head has no more steps than LoRA. The
    weights with the lowest loss on D_val are kept.
    """
    search = run.searched.search
    set_seed(run.config.seed)
    model, weights = head_alone(run.base())
    torch.nn.Module.to(model, run.compute.device)
    if not weights:  # a language model has no head to train
        return model, 0
    run.processes.same(weights)
    some = replace(passes, rows=passes.rows.some(CHECK_ROWS))
    rate, decay = search.learning_rate, search.weight_decay
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=decay, fused=run.compute.fused)
    size, parts = search.batch_size, search.gradient_accumulation
    batches = Batches(d_tr, size, run.data.collate, run.config.seed, run.compute.device, run.processes, parts)
    lowest, kept, failed, step = _loss(model, some), _copies(weights), 0, 0
    log.info("answer: training the head alone, to measure what LoRA gains: at most %d steps", search.steps)
    with Bar("head alone", search.steps) as bar:
        while step < search.steps and failed < PATIENCE:
            model.train(search.dropout)
            for _ in range(min(CHECK_EVERY, search.steps - step)):
                _descend(run, model, weights, optimizer, batches[step])
                step += 1
                bar.step(step)
            loss = _loss(model, some)
            failed = 0 if loss < lowest else failed + 1
            if loss < lowest:
                lowest, kept = loss, _copies(weights)
    with torch.no_grad():
        for weight, value in zip(weights, kept, strict=True):
            weight.copy_(value)
    return model, step


def _descend(
    run: Workbench, model: PreTrainedModel, weights: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer,
    batch: Batch,
) -> None:  # fmt: skip
    """Takes one optimiser step."""
    for part, share in batch.parts:
        with run.compute.autocast():
            loss = run.kind.loss(model, part) * share
        loss.backward()
    used = [weight for weight in weights if weight.grad is not None]
    for weight, grad in zip(used, run.processes.summed([w.grad for w in used if w.grad is not None]), strict=True):
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


def _copies(weights: list[torch.nn.Parameter]) -> list[Tensor]:
    return [weight.detach().clone() for weight in weights]
