"""Shares and the curve are measured from the mean log loss of a model's logits: whether that is a script's loss."""

import math
from typing import Any

import torch
from peft import TaskType
from torch import Tensor, nn
from transformers import PreTrainedModel

from autolora.engine.measure.likelihood import Gaussian, likelihood_of
from autolora.problems.machine.compute import Compute, on_device
from autolora.problems.rows import evenly
from autolora.problems.tasks.given import GivenKind, GivenRows

_ROWS, _LM_ROWS = 64, 4
"""How many rows are compared; a language model's row has many labels."""
_TASK_OF = {
    "ForCausalLM": TaskType.CAUSAL_LM,
    "LMHeadModel": TaskType.CAUSAL_LM,
    "ForSequenceClassification": TaskType.SEQ_CLS,
    "ForTokenClassification": TaskType.TOKEN_CLS,
}
"""How the name of a model's class ends -> the task type that it was made for."""
NEEDS = (
    "this needs a lora_config with task_type SEQ_CLS, TOKEN_CLS or CAUSAL_LM, and batches that have a row of labels "
    "for each example (without packing)"
)


def made_for(model: Any) -> TaskType | None:
    """The task type that a model of transformers was made for; None if its class does not tell."""
    if not isinstance(model, PreTrainedModel):
        return None
    return next((task for end, task in _TASK_OF.items() if type(model).__name__.endswith(end)), None)


@torch.no_grad()
def unmeasured(model: nn.Module, kind: GivenKind, rows: GivenRows, compute: Compute) -> str:
    """Why the log loss of each row is not known; "" if it is.

    The script's loss of some rows is compared with the mean log loss of their labels (in a regression: the mean
    squared error) by the searched `model`: the two differ with class weights, label smoothing, a focal loss or a CRF.
    What a mixture of experts adds for its router is not told apart.
    """
    if not kind.tells_rows:
        return NEEDS
    is_lm = kind.peft_type == TaskType.CAUSAL_LM
    batch = on_device(rows.collate(rows.__getitems__(evenly(len(rows), _LM_ROWS if is_lm else _ROWS))), compute.device)
    model.eval()
    with compute.autocast():
        found: Any = model(**{name: value for name, value in batch.items() if name != "labels"})
        logits = getattr(found, "logits", None)
        if not isinstance(logits, Tensor):
            return "the model's output has no logits"
        if getattr(found, "aux_loss", None) is not None:
            return ""
        own, plain = float(kind.loss(model, batch)), _mean_log_loss(kind, logits, batch["labels"])
    if not math.isfinite(own + plain):  # no row has a label
        return ""
    if abs(own - plain) <= 1e-4 * abs(plain) + 4 * torch.finfo(logits.dtype).eps * max(1.0, abs(plain)):
        return ""
    name = "mean squared error" if kind.regression else "mean log loss"
    return f"the loss of {len(batch['labels'])} rows is {own:.6g}, but the {name} by the logits is {plain:.6g}"


def _mean_log_loss(kind: GivenKind, logits: Tensor, labels: Tensor) -> float:
    """The mean log loss per label, or the mean squared error of numbers."""
    likelihood = likelihood_of(kind)
    if isinstance(likelihood, Gaussian):
        return float(likelihood.statistics(logits, labels)[0].mean())
    return float(likelihood.loss(logits, labels, 1.0) / likelihood.weights(logits, labels).sum())
