"""Check that a model's own loss is the mean log loss of its logits, from which shares and the curve are measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.answer.likelihood import Gaussian, Likelihood, likelihood_of
from problems.tasks.given import GivenKind, GivenRows

_ROWS, _LM_ROWS = 32, 4
"""How many rows are compared: a language model's row has many labels."""


@torch.no_grad()
def other_loss(model: nn.Module, kind: GivenKind, rows: GivenRows) -> str | None:
    """What tells that the loss of some rows is not the mean log loss of their labels under the model's logits (in a
    regression: the mean squared error), as with class weights, a focal loss or a CRF. None if it is, up to rounding.

    The rows are spread evenly over all, so that rows sorted by class show every class. A language model that adds the
    loss of a router to its loss (mixture of experts) is not told apart: what the logits lose is still measured.
    """
    likelihood = likelihood_of(kind)
    most = _LM_ROWS if getattr(likelihood, "shifted", False) else _ROWS
    numbers = np.unique(np.linspace(0, len(rows) - 1, most).round().astype(int))
    where = next(model.parameters()).device
    batch = {name: value.to(where) for name, value in rows.collate(rows.__getitems__(numbers)).items()}
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with _evaluating(model):
        found: Any = model(**inputs)
        logits = getattr(found, "logits", None)
        if not isinstance(logits, Tensor):
            return "the model's output has no logits"
        if getattr(found, "aux_loss", None) is not None:
            return None
        own = float(kind.loss(model, batch))
    plain = _plain(likelihood, logits, batch["labels"])
    if abs(own - plain) <= (1e-3 + 4 * torch.finfo(logits.dtype).eps) * abs(plain):
        return None
    name = "mean squared error" if isinstance(likelihood, Gaussian) else "mean log loss"
    return f"the loss of {len(numbers)} rows is {own:.4g}, but the {name} by the model's logits is {plain:.4g}"


def _plain(likelihood: Likelihood, logits: Tensor, labels: Tensor) -> float:
    """The mean log loss per label, or the mean squared error of numbers."""
    if isinstance(likelihood, Gaussian):
        return float(likelihood.statistics(logits, labels)[0].mean())
    return float(likelihood.loss(logits, labels, 1.0) / likelihood.weights(logits, labels).sum())


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, without dropout; afterwards each module is in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
