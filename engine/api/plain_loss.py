"""Check whether a model's loss is the mean log loss of its logits, from which shares and the curve are measured."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import TaskType
from torch import Tensor, nn

from autolora.engine.measure.likelihood import Gaussian, likelihood_of
from autolora.problems.machine.compute import holds_bf16, on_device
from autolora.problems.tasks.evenly import evenly
from autolora.problems.tasks.given import GivenKind, GivenRows

_ROWS, _LM_ROWS, _LOOKED_AT = 32, 4, 1000
"""How many rows are compared (a language model's row has many labels), and among how many these are chosen."""
_SPREAD = 2.0
"""Standard deviation of the noise that is added to the logits: a fresh head gives all classes about the same logit,
at which losses with class weights or label smoothing would hardly differ from the plain one."""


@torch.no_grad()
def other_loss(model: nn.Module, kind: GivenKind, rows: GivenRows, batch_size: int) -> str | None:
    """Compares the loss of some rows with the mean log loss of their labels (in a regression: the mean squared error).

    The two differ with class weights, a focal loss or a CRF. Returns a clause that says by how much, for a message;
    None if they agree up to rounding.

    A classifier's are computed in fp32, with fixed noise on the logits, if its loss follows from these. A language
    model gets at most `batch_size` rows. A mixture of experts, which adds a router's loss, is not told apart: what the
    logits lose is still measured.
    """
    is_lm = kind.peft_type == TaskType.CAUSAL_LM
    numbers = evenly(len(rows), min(_LM_ROWS, batch_size)).tolist() if is_lm else _by_label(rows, kind)
    where = next(model.parameters()).device
    batch = on_device(rows.collate(rows.__getitems__(numbers)), where)
    inputs, told = (
        {name: value for name, value in batch.items() if name != "labels"},
        f"the loss of {len(numbers)} rows",
    )
    with _evaluating(model):
        with _recorded(model) as called:
            found: Any = model(**inputs)
        logits = getattr(found, "logits", None)
        if not isinstance(logits, Tensor):
            return "the model's output has no logits"
        if getattr(found, "aux_loss", None) is not None:
            return None
        own, plain = float(kind.loss(model, batch)), _plain(kind, logits, batch["labels"])
        rounding = 4 * torch.finfo(logits.dtype).eps * max(1.0, abs(plain))
        last = next((module for module in reversed(called) if module.out_features == logits.shape[-1]), None)
        if last is not None and not is_lm:  # a language model's logits are many, and its head is no fresh one
            with _noisy(last):
                noisy = float(kind.loss(model, batch))
                if noisy != own:  # else the loss is computed past the module's output
                    own, plain, rounding = noisy, _plain(kind, model(**inputs).logits, batch["labels"]), 0.0
                    told = f"with noise on the logits, {told}"
    if not math.isfinite(own + plain) or abs(own - plain) <= 1e-4 * abs(plain) + rounding:
        return None
    name = "mean squared error" if kind.regression else "mean log loss"
    return f"{told} is {own:.6g}, but the {name} by the logits is {plain:.6g}"


def _plain(kind: GivenKind, logits: Tensor, labels: Tensor) -> float:
    """The mean log loss per label, or the mean squared error of numbers."""
    likelihood = likelihood_of(kind)
    if isinstance(likelihood, Gaussian):
        return float(likelihood.statistics(logits, labels)[0].mean())
    return float(likelihood.loss(logits, labels, 1.0) / likelihood.weights(logits, labels).sum())


def _by_label(rows: GivenRows, kind: GivenKind) -> list[int]:
    """The numbers of at most 32 rows, with rows of every class that is found: in rows of one class alone, class
    weights cancel."""
    numbers = evenly(len(rows), _LOOKED_AT).tolist()
    if kind.regression or kind.peft_type != TaskType.SEQ_CLS:
        return evenly(len(rows), _ROWS).tolist()
    labels: Sequence[Any] = [int(label[0]) for label in rows[numbers]["labels"]]
    turn: dict[int, int] = {}
    order = []
    for number, label in zip(numbers, labels, strict=True):
        turn[label] = turn.get(label, -1) + 1
        order.append((turn[label], number))
    return sorted(number for _, number in sorted(order)[:_ROWS])


@contextmanager
def _recorded(model: nn.Module) -> Iterator[list[Any]]:
    """Collects the linear layers in the order in which they are called."""
    called: list[Any] = []
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: called.append(module))
        for module in model.modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _noisy(module: nn.Module) -> Iterator[None]:
    """Adds the same noise to every output of `module`, in fp32."""

    def add(_: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(0))
        return output.float() + _SPREAD * noise.to(output.device)

    hook = module.register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, without dropout; afterwards each module is in the mode in which it was.

    A model with weights in bf16 runs under autocast, as some of its weights, such as a head's, may be in fp32."""
    modes = [(module, module.training) for module in model.modules()]
    where = next(model.parameters()).device
    model.eval()
    try:
        with torch.autocast(where.type, dtype=torch.bfloat16, enabled=holds_bf16(model)):
            yield
    finally:
        for module, training in modes:
            module.training = training
