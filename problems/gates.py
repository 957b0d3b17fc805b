"""Gate the rank-1 components of stock PEFT LoRA by alpha (AutoLoRA Eq. 2).

    Delta_l x = scaling * B_l (gate_l * (A_l x)),   gate_l = alpha_l [k], times a constant (see problems/selection.py)

l is a group: a layer, or a part of a fused layer (see problems/models/parts.py). The gates of one layer's parts lie
side by side. The search and its answer call a group a layer.

A forward hook on `lora_A` multiplies its [.., k] output, which is Eq. 2 for PEFT's linear layers, quantised bases
included. Under bf16 autocast this output and the gates are rounded to bf16. No LoRA layer is written here.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import accumulate
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from autolora.problems.models.attach import ADAPTER, lora_layers
from autolora.problems.models.parts import groups_of, layer_ranks, layout


def factors(layer: LoraLayer) -> tuple[Tensor, Tensor]:
    """A [k, inputs] and B [outputs, k] of a layer."""
    a: Any = layer.lora_A[ADAPTER]
    b: Any = layer.lora_B[ADAPTER]
    return a.weight, b.weight


_TOKENS_FIRST = ("xlnet", "longformer", "led")
"""Types of models whose layers get [tokens, rows, ..] instead of [rows, tokens, ..]."""


class NotByRow(RuntimeError):
    """Raised when rows cannot have different gates, as a layer does not get them one after the other.

    An expert in a mixture of experts gets the tokens of all rows in one list; the layers of XLNet, Longformer and
    LED get tokens before rows.
    """


class Gates:
    """The gates of all LoRA layers of one model: set for a forward pass, and applied by a hook in each layer.

    `targets` may name parts of fused layers; each such part is a group. Attributes: `names` of the groups, and `k`,
    the number of components of each. Raises RuntimeError unless each layer's LoRA has k components for each group.
    """

    def __init__(self, model: PeftModel, targets: Sequence[str] = ()) -> None:
        self.layers = lora_layers(model)
        self.names = groups_of(self.layers, targets)
        counts = list(layer_ranks(dict.fromkeys(self.names, 1)).values())
        ranks = [layer.r[ADAPTER] for layer in self.layers.values()]
        self.k = ranks[0] // counts[0]
        if ranks != [self.k * count for count in counts]:
            raise RuntimeError(f"LoRA of ranks {ranks} does not give each of {self.names} {self.k} components")
        self.groups = layout(dict.fromkeys(self.names, self.k))
        self._by_row = getattr(getattr(model, "config", None), "model_type", None) not in _TOKENS_FIRST
        self._values: Tensor | None = None
        self._hooks = [
            layer.lora_A[ADAPTER].register_forward_hook(self._hook(slice(end - count, end)))
            for layer, count, end in zip(self.layers.values(), counts, accumulate(counts), strict=True)
        ]

    @contextmanager
    def open(self, values: Tensor) -> Iterator[None]:
        """Forward passes inside the context use gate `values` [groups, k]; outside, the layers are plain LoRA.

        `values` [rows, groups, k] gives each row of the batch its own gates. A forward pass then raises NotByRow when
        a layer does not get the rows separately.
        """
        before, self._values = self._values, values
        try:
            yield
        finally:
            self._values = before

    def again(self) -> AbstractContextManager[None]:
        """A context for later, in which a forward pass is repeated with the gates that are open now."""
        return nullcontext() if self._values is None else self.open(self._values)

    def parameters_per_rank(self) -> dict[str, int]:
        """Group -> how many numbers one of its rank-1 components trains: inputs of A + outputs of B.

        For a part of a fused layer, only the rows of its own block of B count; the exported B also stores the zeros of
        the other blocks.
        """
        sizes = {}
        for name in self.names:
            group = self.groups[name]
            a, b = factors(self.layers[group.layer])
            rows = group.rows(b.shape[0])
            sizes[name] = a.shape[1] + rows.stop - rows.start
        return sizes

    def remove(self) -> None:
        """Removes the hooks, so that the model is stock PEFT again."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def sizes(self) -> Tensor:
        """|B_j| |A_j| of every component: the Frobenius norm of B_j A_j, without alpha and scaling. [groups, k]"""
        sizes = []
        for layer in self.layers.values():
            a, b = factors(layer)
            sizes.append(a.float().norm(dim=1) * b.float().norm(dim=0))
        return torch.cat(sizes).view(-1, self.k).cpu()

    def _hook(self, rows: slice) -> Any:
        def gate(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            if self._values is None:
                return output
            values = self._values[..., rows, :].flatten(-2).to(output.dtype)
            if values.dim() == 1:
                return output * values
            if not self._by_row or output.dim() < 2 or len(output) != len(values):
                raise NotByRow("a layer does not get the rows one after the other")
            return output * values.view(len(values), *[1] * (output.dim() - 2), -1)

        return gate
