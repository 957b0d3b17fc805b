"""Gate the rank-1 components of stock PEFT LoRA by alpha (AutoLoRA Eq. 2).

    Delta_l x = scaling * B_l (gate_l * (A_l x)),   gate_l = alpha_l [k], times a constant (see problems/selection.py)

A forward hook on `lora_A` multiplies its [.., k] output, which is exactly Eq. 2 for every model and layer kind that
PEFT knows, quantised bases included. No LoRA layer is written here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

ADAPTER = "default"


def lora_layers(model: PeftModel) -> dict[str, LoraLayer]:
    """Name in the base model (without PEFT's prefix) -> LoRA layer, in the model's order."""
    base: nn.Module = model.get_base_model()
    return {
        name: module
        for name, module in base.named_modules()
        if isinstance(module, LoraLayer) and ADAPTER in module.lora_A
    }


def _factors(layer: LoraLayer) -> tuple[Tensor, Tensor]:
    """A [k, inputs] and B [outputs, k] of a layer."""
    a: Any = layer.lora_A[ADAPTER]
    b: Any = layer.lora_B[ADAPTER]
    return a.weight, b.weight


class Gates:
    """The gates of all LoRA layers of one model: set once a forward pass, read by a hook in each layer."""

    def __init__(self, model: PeftModel) -> None:
        self.layers = lora_layers(model)
        self.names = list(self.layers)
        self._values: Tensor | None = None
        self._hooks = [
            layer.lora_A[ADAPTER].register_forward_hook(self._hook(index))
            for index, layer in enumerate(self.layers.values())
        ]

    @property
    def k(self) -> int:
        """Rank-1 components per layer."""
        return next(iter(self.layers.values())).r[ADAPTER]

    @contextmanager
    def open(self, values: Tensor) -> Iterator[None]:
        """Forward passes inside use gate `values` [layers, k]; outside, the layers are plain LoRA."""
        self._values = values
        try:
            yield
        finally:
            self._values = None

    def parameters_per_rank(self) -> dict[str, int]:
        """Name -> numbers in one rank-1 component of the layer: inputs of A + outputs of B."""
        sizes = {}
        for name, layer in self.layers.items():
            a, b = _factors(layer)
            sizes[name] = a.shape[1] + b.shape[0]
        return sizes

    def remove(self) -> None:
        """Takes the hooks off: the model is stock PEFT again."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def sizes(self) -> Tensor:
        """|B_j| |A_j| of every component, Frobenius norm of B_j A_j without alpha and scaling. [layers, k]"""
        rows = []
        for layer in self.layers.values():
            a, b = _factors(layer)
            rows.append(a.float().norm(dim=1) * b.float().norm(dim=0))
        return torch.stack(rows).cpu()

    def _hook(self, index: int) -> Any:
        def gate(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            if self._values is None:
                return output
            return output * self._values[index].to(output.dtype)

        return gate
