"""Warn of a causal model that computes its loss by itself, so that the loss of the task has no say.

Most models call their `loss_function`, which the task replaces; the code in some repositories does not.
"""

import logging
from typing import Any

import torch

from autolora.problems.models.next_token import probe_rows

log = logging.getLogger("autolora.inputs")


def tell_of_own_loss(model: Any, smoothing: float, name: str) -> None:
    """Warns, with the model's `name`, if label smoothing of this size is asked for and the model leaves it out."""
    if smoothing and not _calls_loss_function(model):
        log.warning(
            "--task.label_smoothing: %g has no effect, as %s (%s) computes its loss by itself; it is trained without "
            "smoothing", smoothing, name, type(model).__name__,
        )  # fmt: skip


@torch.no_grad()
def _calls_loss_function(model: Any) -> bool:
    """Whether the model calls its `loss_function` when it is given labels."""
    calls, training, kept = [], model.training, model.loss_function

    def counted(*given: Any, **options: Any) -> Any:
        calls.append(1)
        return kept(*given, **options)

    rows = probe_rows(model)
    model.eval()
    model.loss_function = counted
    try:
        model(input_ids=rows, attention_mask=torch.ones_like(rows), labels=rows)
    finally:
        model.loss_function = kept
        model.train(training)
    return bool(calls)
