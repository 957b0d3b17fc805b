"""Gate the rank-1 components of stock PEFT LoRA by alpha (AutoLoRA Eq. 2).

    Delta_l x = scaling * B_l (gate_l * (A_l x)),   gate_l = alpha_l [k], times a constant (see problems/bilevel.py)

l is a group: a layer, or a part of a fused layer (see problems/models/parts.py). The gates of one layer's parts lie
side by side. The search and its answer call a group a layer.

A forward hook on `lora_A` multiplies its [.., k] output, which is Eq. 2 for PEFT's linear layers, quantised bases
included. Under bf16 autocast this output and the gates are rounded to bf16. No LoRA layer is written here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from autolora.problems.models.attach import ADAPTER, lora_layers
from autolora.problems.models.parts import groups_of, layer_ranks, layout, split


def factors(layer: LoraLayer, adapter: str = ADAPTER) -> tuple[Tensor, Tensor]:
    """A [k, inputs] and B [outputs, k] of a layer."""
    a: Any = layer.lora_A[adapter]
    b: Any = layer.lora_B[adapter]
    return a.weight, b.weight


class Gates:
    """The gates of all LoRA layers of one model: `values` [groups, k], applied by a hook in each layer; None: plain
    LoRA.

    They must stay until the backward pass, as gradient checkpointing then computes a block again. `targets` may name
    parts of fused layers; each such part is a group. Attributes: `names` of the groups, `ranks`, the number of
    components of each group, and k, the largest of them. Raises RuntimeError if the groups of a fused layer do not
    have equally many components.
    """

    def __init__(self, model: PeftModel, targets: Sequence[str] = (), adapter: str = ADAPTER) -> None:
        self.layers = lora_layers(model, adapter)
        self.adapter = adapter
        self.names = groups_of(self.layers, targets)
        counts = layer_ranks(dict.fromkeys(self.names, 1))
        found = {name: layer.r[adapter] for name, layer in self.layers.items()}
        own = {name: found[split(name)[0]] // counts[split(name)[0]] for name in self.names}
        if layer_ranks(own) != found:
            raise RuntimeError(f"LoRA of ranks {found} does not give the parts of a layer equally many components")
        self.ranks = list(own.values())
        self.k = max(self.ranks)
        self.groups = layout(own)
        self.values: Tensor | None = None
        self._hooks = [
            layer.lora_A[adapter].register_forward_hook(self._hook(slice(end - count, end)))
            for layer, count, end in zip(
                self.layers.values(), counts.values(), accumulate(counts.values()), strict=True
            )
        ]

    @contextmanager
    def open(self, values: Tensor) -> Iterator[None]:
        """Passes inside the context, backward ones included, use gate `values` [groups, k]."""
        before, self.values = self.values, values
        try:
            yield
        finally:
            self.values = before

    def parameters_per_rank(self) -> dict[str, int]:
        """Group -> how many numbers one of its rank-1 components trains: inputs of A + outputs of B.

        For a part of a fused layer, only the rows of its own block of B count; the exported B also stores the zeros of
        the other blocks.
        """
        sizes = {}
        for name in self.names:
            group = self.groups[name]
            a, b = factors(self.layers[group.layer], self.adapter)
            rows = group.rows(b.shape[0])
            sizes[name] = a.shape[1] + rows.stop - rows.start
        return sizes

    def factors(self) -> list[tuple[Tensor, Tensor]]:
        """A [k, inputs] and B [outputs, k] of every group: views, for a part of a fused layer of its own block."""
        found = []
        for name in self.names:
            group = self.groups[name]
            a, b = factors(self.layers[group.layer], self.adapter)
            found.append((a[group.components], b[group.rows(b.shape[0]), group.components]))
        return found

    @contextmanager
    def seen(self) -> Iterator[list[tuple[str, Tensor]]]:
        """Inside the `with` block a forward pass leaves h = A x of each layer here, at each call of it, with a
        gradient: pairs of the layer's name and h [.., k]."""
        found: list[tuple[str, Tensor]] = []

        def keep(name: str) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
                found.append((name, output if output.requires_grad else output.requires_grad_()))
                return output

            return hook

        hooks = [layer.lora_A[self.adapter].register_forward_hook(keep(name)) for name, layer in self.layers.items()]
        try:
            yield found
        finally:
            for one in hooks:
                one.remove()

    def moments(self, layer: str, h: Tensor, u: Tensor) -> Iterator[tuple[int, Tensor]]:
        """For each group of a layer its number and its moments, the sums of h h' and u u' over tokens [2, k, k].

        `h`, `u`: A x and a slope with respect to it [.., k]. Tokens at which the slope is 0 do not count."""
        h, u = (each.flatten(0, -2).to(torch.promote_types(each.dtype, torch.float32)) for each in (h, u))
        h = h * (u != 0).any(dim=-1, keepdim=True)
        for number, name in enumerate(self.names):
            if self.groups[name].layer == layer:
                own = [each[:, self.groups[name].components] for each in (h, u)]
                yield number, torch.stack([each.T @ each for each in own]).cpu().double()

    def remove(self) -> None:
        """Removes the hooks, so that the model is stock PEFT again."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def sizes(self) -> Tensor:
        """|B_j| |A_j| of every component: the Frobenius norm of B_j A_j, without alpha and scaling. [groups, k]"""
        sizes = []
        for layer in self.layers.values():
            a, b = factors(layer, self.adapter)
            sizes.append(a.float().norm(dim=1) * b.float().norm(dim=0))
        return torch.cat(sizes).view(-1, self.k).cpu()

    def _hook(self, rows: slice) -> Any:
        def gate(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            if self.values is None:
                return output
            return output * self.values[rows].flatten()[: output.shape[-1]].to(output.dtype)

        return gate
