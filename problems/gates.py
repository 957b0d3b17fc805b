"""Gate the rank-1 components of stock PEFT LoRA by alpha (AutoLoRA Eq. 2).

    Delta_l x = scaling * B_l (gate_l * (A_l x))

gate_l [k] is alpha_l times a constant (problems/bilevel.py).

A forward hook on `lora_A` multiplies its [.., k] output, which is Eq. 2 for PEFT's linear layers,
quantised bases included. Under bf16 autocast this output and the gates are rounded to bf16. No LoRA
layer is written here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from autolora.problems.models.attach import ADAPTER, factors, lora_layers


class Gates:
    """The gates of all LoRA layers of one model: `values` [layers, k], applied by a hook in each
    layer; None: plain LoRA.

    They must stay until the backward pass, as gradient checkpointing then computes a block again.
    Attributes: `names` of the layers, `ranks`, the number of components of each layer, and k, the
    largest of them.
    """

    def __init__(self, model: PeftModel, adapter: str = ADAPTER) -> None:
        self.layers = lora_layers(model, adapter)
        self.adapter = adapter
        self.names = list(self.layers)
        self.ranks = [layer.r[adapter] for layer in self.layers.values()]
        self.k = max(self.ranks)
        self.values: Tensor | None = None
        self._hooks = []
        for number, layer in enumerate(self.layers.values()):
            hook = layer.lora_A[adapter].register_forward_hook(self._hook(number))
            self._hooks.append(hook)

    @contextmanager
    def open(self, values: Tensor) -> Iterator[None]:
        """Passes inside the context, backward ones included, use gate `values` [layers, k]."""
        before = self.values
        self.values = values
        try:
            yield
        finally:
            self.values = before

    def parameters_per_rank(self) -> dict[str, int]:
        """Layer -> how many numbers one of its rank-1 components trains: inputs of A + outputs of
        B."""
        return {
            name: a.shape[1] + b.shape[0]
            for name, (a, b) in zip(self.names, self.factors(), strict=True)
        }

    def factors(self) -> list[tuple[Tensor, Tensor]]:
        """A [k, inputs] and B [outputs, k] of every layer."""
        return [factors(layer, self.adapter) for layer in self.layers.values()]

    def remove(self) -> None:
        """Removes the hooks, so that the model is stock PEFT again."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def norms(self) -> Tensor:
        """|B_j| |A_j| of every component [layers, k]: the Frobenius norm of B_j A_j, without alpha
        and scaling."""
        return torch.stack(
            [a.float().norm(dim=1) * b.float().norm(dim=0) for a, b in self.factors()]
        ).cpu()

    def _hook(self, number: int) -> Any:
        def gate(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            if self.values is None:
                return output
            return output * self.values[number, : output.shape[-1]].to(output.dtype)

        return gate
