"""What the loss feels of LoRA's components: second moments, from which balanced bases follow."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autolora.engine.measure.bases import Basis, balanced_basis, plain_basis
from autolora.engine.measure.lora import Cut, Lora, call_with, evaluating
from autolora.engine.measure.passes import WITH_GRADIENT, Loaded, Passes


@dataclass(frozen=True)
class Moments:
    """The second moments of LoRA in each fold: sums over tokens of h h' and of u u' [folds,
    layers, k, k].

    h = A x are a layer's inputs as A shows them, and u is the slope of the loss with respect to h.
    On an embedding h is a column of A, and each token that occurs in a batch counts once there.
    Stacked experts show no h: `inputs` has the number of tokens on its diagonal, and `slopes` the
    sums of squares of the slopes with respect to the gates of the plain components, so that their
    product estimates the same as it does in other layers.
    """

    inputs: Tensor
    slopes: Tensor

    def bases(self, lora: Lora, without: int | None = None) -> list[Basis]:
        """The basis of each layer by the rows of all folds but `without` (None: by all rows).

        It is the balanced one; for stacked experts the plain one, in the order in which the loss
        feels its components."""
        used = [fold for fold in range(len(self.inputs)) if fold != without] or [0]
        inputs = self.inputs[used].sum(dim=0)
        slopes = self.slopes[used].sum(dim=0)
        bases = []
        for number, (layer, (a, b)) in enumerate(zip(lora.layers, lora.factors(), strict=True)):
            of_inputs = inputs[number, : layer.rank, : layer.rank]
            of_slopes = slopes[number, : layer.rank, : layer.rank]
            if layer.experts:
                felt = (of_inputs.diagonal() * of_slopes.diagonal()).sqrt()
                bases.append(plain_basis(a, b).ordered_by(felt))
            else:
                bases.append(balanced_basis(a, b, of_inputs, of_slopes))
        return bases


def measure_moments(
    lora: Lora, passes: Passes, folds: np.ndarray, temperature: float, batch: int
) -> Moments:
    """The moments of the whole model's LoRA, as it lies, `batch` rows at a time.

    u is drawn so that its moment is that of the Gauss-Newton matrix of the loss (`drawn_slope`).
    Tokens that the loss does not depend on, such as padding, do not count: there u is 0."""
    count = int(folds.max()) + 1
    sums = torch.zeros(2, count, len(lora.layers), lora.k, lora.k, dtype=torch.float64)
    batches = [
        rows
        for fold in range(count)
        for rows in passes.rows.by_length(np.flatnonzero(folds == fold), batch)
    ]
    # The plain components of experts have gates, to take slopes with respect to them.
    plain = [
        plain_basis(a, b) if layer.experts else None
        for layer, (a, b) in zip(lora.layers, lora.factors(), strict=True)
    ]
    with evaluating(lora.model):
        for loaded in passes.batches(batches):
            fold = folds[loaded.rows[0]]
            sums[:, fold] += _of_batch(lora, passes, loaded, temperature, plain)
            passes.advance(len(loaded.rows) * WITH_GRADIENT)
    return Moments(*passes.processes.summed(list(sums)))


def moments(h: Tensor, u: Tensor) -> Tensor:
    """The sums of h h' and u u' over tokens [2, r, r] on the CPU; `h`, `u`: A x of a layer and a
    slope with respect to it [.., r]. Tokens at which the slope is 0 do not count."""
    h = h.flatten(0, -2).to(torch.promote_types(h.dtype, torch.float32))
    u = u.flatten(0, -2).to(torch.promote_types(u.dtype, torch.float32))
    h = h * (u != 0).any(dim=-1, keepdim=True)
    return torch.stack([each.T @ each for each in (h, u)]).cpu().double()


def _of_batch(
    lora: Lora,
    passes: Passes,
    loaded: Loaded,
    temperature: float,
    plain: Sequence[Basis | None],
) -> Tensor:
    """The moments of one batch [2, layers, k, k]. `plain`: the bases of the stacked experts."""
    gates = torch.ones(len(lora.layers), lora.k, requires_grad=any(plain))
    overrides = lora.overrides(Cut(gates, plain))
    embeddings = {
        number: overrides[layer.a].requires_grad_()
        for number, layer in enumerate(lora.layers)
        if layer.is_embedding
    }

    def slopes() -> tuple[list[tuple[int, Tensor]], Sequence[Tensor | None]]:
        with _seen(lora) as seen:
            with passes.compute.autocast():
                logits, labels = passes.labelled_logits(lora.model, loaded.inputs, loaded.labels)
            generator = torch.Generator().manual_seed(loaded.number)
            value = passes.likelihood.drawn_slope(logits, labels, temperature, generator)
            # a block that is computed again in the backward pass is seen once more
            shown = list(seen)
            leaves = [h for _, h in shown] + list(embeddings.values()) + [gates] * any(plain)
            return shown, torch.autograd.grad(value, leaves, allow_unused=True)

    shown, found = call_with(lora.model, overrides, slopes)
    sums = torch.zeros(2, len(lora.layers), lora.k, lora.k, dtype=torch.float64)
    tokens = len(loaded.rows)
    for (number, h), u in zip(shown, found, strict=False):
        if u is not None:
            r = h.shape[-1]
            sums[:, number, :r, :r] += moments(h.detach(), u)
            tokens = max(tokens, int((u != 0).any(dim=-1).sum()))
    for (number, a), u in zip(embeddings.items(), found[len(shown) :], strict=False):
        if u is not None:
            sums[:, number, : len(a), : len(a)] += moments(a.detach().T, u.T)
    if any(plain):
        by_gates = torch.zeros_like(gates) if found[-1] is None else found[-1].double()
        for number, layer in enumerate(lora.layers):
            if layer.experts:
                r = layer.rank
                sums[0, number, :r, :r] += tokens * torch.eye(r)
                sums[1, number, :r, :r] += by_gates[number, :r].square().diag()
    return sums


@contextmanager
def _seen(lora: Lora) -> Iterator[list[tuple[int, Tensor]]]:
    """Inside the `with` block a forward pass leaves h = A x of each linear layer here, at each call
    of it, with a gradient: pairs of the layer's number and h [.., r]."""
    seen: list[tuple[int, Tensor]] = []

    def keep(number: int) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            seen.append((number, output if output.requires_grad else output.requires_grad_()))
            return output

        return hook

    handles = []
    for number, layer in enumerate(lora.layers):
        if not layer.is_embedding and not layer.experts:
            module: Any = layer.module.lora_A[lora.adapter]
            handles.append(module.register_forward_hook(keep(number)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
