"""The head alone: what the base model reaches on D_val without LoRA, from which a gain is counted."""

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, set_seed

from engine.answer.sample import Sample
from engine.run.workbench import Workbench
from problems.data import Batch, EndlessLoader
from problems.models.whole import head_alone

CHECK_EVERY = 50
"""Steps between two looks at the loss on D_val."""
CHECK_ROWS = 256
"""Rows of D_val that such a look takes."""
PATIENCE = 3
"""The training ends when so many looks in a row found no lower loss."""


def train_head(run: Workbench, d_tr: Dataset, sample: Sample) -> tuple[PreTrainedModel, int]:
    """The base model with its head (and other modules that are trained whole) trained on D_tr without LoRA, and the
    number of steps; the untouched base where there is no such module, as in a causal language model.

    Trained as W is in the search, until the loss on D_val stops falling, for `search.steps` at most; the weights of
    the lowest loss are kept, which favours the head: the gain of LoRA is if anything counted too low.
    """
    search = run.config.search
    set_seed(run.config.seed)
    model, weights = head_alone(run.base())
    torch.nn.Module.to(model, run.compute.device)
    if not weights:
        return model, 0
    run.processes.same(weights)
    some = sample.some(CHECK_ROWS)
    rate, decay = search.learning_rate, search.weight_decay
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=decay, fused=run.compute.fused)
    size, parts = search.batch_size, search.gradient_accumulation
    loader = EndlessLoader(d_tr, size, run.data.collate, run.config.seed, run.processes, parts)
    batches = iter(loader)
    lowest, kept, failed, step = _loss(model, some), _copies(weights), 0, 0
    while step < search.steps and failed < PATIENCE:
        count = min(CHECK_EVERY, search.steps - step)
        model.train(search.dropout)
        for _ in range(count):
            _descend(run, model, weights, optimizer, next(batches), loader.shares)
        step += count
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
    batch: Batch, shares: list[float],
) -> None:  # fmt: skip
    """One step; `shares`: the weights in the mean loss of the batch's parts, here of this process's rows."""
    for part, share in zip(batch if isinstance(batch, tuple) else [batch], shares, strict=True):
        there = {name: values.to(run.compute.device) for name, values in part.items()}
        with run.compute.autocast():
            loss = run.kind.loss(model, there) * share
        loss.backward()
    used = [weight for weight in weights if weight.grad is not None]
    for weight, grad in zip(used, run.processes.summed([w.grad for w in used if w.grad is not None]), strict=True):
        weight.grad = grad
    if run.config.search.gradient_clipping > 0:
        torch.nn.utils.clip_grad_norm_(used, run.config.search.gradient_clipping)
    optimizer.step()
    optimizer.zero_grad()


def _loss(model: PreTrainedModel, sample: Sample) -> float:
    """The loss on D_val at the best temperature."""
    statistics, weights = sample.statistics(model)
    likelihood = sample.likelihood
    temperature = likelihood.fitted(statistics[0], weights)
    return float(likelihood.losses(statistics[0], temperature, weights).sum() / weights.sum())


def _copies(weights: list[torch.nn.Parameter]) -> list[Tensor]:
    return [weight.detach().clone() for weight in weights]
