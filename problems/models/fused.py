"""GPT-2's c_attn computes query, key and value by one matrix. Where each is to have a rank of its
own it is split into three layers, and joined again before anything is exported:

        [ B_q  0   ]        [ A_q ]
    B = [ 0    0   ]    A = [ A_v ]    Delta_q = B_q A_q,  Delta_k = 0,  Delta_v = B_v A_v
        [ 0    B_v ]

so the exported adapter is a plain one of the stock model.
"""

from collections.abc import Iterable
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from autolora.problems.models.attach import ADAPTER, attach, factors, lora_layers
from autolora.problems.models.names import PARTS, matches, parts_of


class Split(nn.Module):
    """A fused layer as three; their weights are views of its own."""

    def __init__(self, fused: Conv1D) -> None:
        super().__init__()
        blocks = zip(
            fused.weight.chunk(len(PARTS), dim=1), fused.bias.chunk(len(PARTS)), strict=True
        )
        for part, (weight, bias) in zip(PARTS, blocks, strict=True):
            self.add_module(part, _conv(weight, bias))

    def forward(self, x: Tensor) -> Tensor:
        """x [.., inputs] -> [.., 3 inputs]"""
        return torch.cat([getattr(self, part)(x) for part in PARTS], dim=-1)


def _conv(weight: Tensor, bias: Tensor) -> Conv1D:
    inputs, outputs = weight.shape
    with torch.device("meta"):  # its own initialisation would draw random numbers
        conv = Conv1D(outputs, inputs)
    conv.weight = nn.Parameter(weight.detach(), False)
    conv.bias = nn.Parameter(bias.detach(), False)
    return conv


def split(model: nn.Module, targets: Iterable[str]) -> None:
    """Splits every c_attn of which a target names a part (`c_attn.q`, or a longer name).

    A c_attn of another kind has no parts: GPT-BigCode's is linear with other blocks, a
    cross-attention's has no query.
    """
    wanted = list(targets)
    for name, module in list(model.named_modules()):
        fused = isinstance(module, Conv1D) and name.rpartition(".")[2] == "c_attn"
        if not fused or module.weight.shape[1] != len(PARTS) * module.weight.shape[0]:
            continue
        if any(matches(part, target) for part in parts_of(name) for target in wanted):
            model.set_submodule(name, Split(module))


def is_split(model: nn.Module) -> bool:
    """Whether the model has a split layer."""
    return any(isinstance(module, Split) for module in model.modules())


@torch.no_grad()
def joined(model: PeftModel, config: LoraConfig) -> PeftModel:
    """The trained `model` on the stock base; `config`: its LoRA with the ranks of whole layers.
    `model` cannot be used afterwards."""
    layers = lora_layers(model)
    base: Any = model.unload()
    for name, module in list(base.named_modules()):
        if isinstance(module, Split):
            parts: list[Any] = [getattr(module, part) for part in PARTS]
            base.set_submodule(
                name,
                _conv(torch.cat([x.weight for x in parts], 1), torch.cat([x.bias for x in parts])),
            )
    stock = attach(base, config)
    for name, layer in lora_layers(stock).items():
        parts = [name] if name in layers else parts_of(name)
        own = [layers.get(part) for part in parts]
        a, b = factors(layer)
        empty = b.new_zeros(len(b) // len(own), 0)
        scale = layer.scaling[ADAPTER]
        a.copy_(torch.cat([factors(x)[0] for x in own if x is not None]))
        b.copy_(
            torch.block_diag(
                *(empty if x is None else factors(x)[1] * (x.scaling[ADAPTER] / scale) for x in own)
            )
        )
    return stock
