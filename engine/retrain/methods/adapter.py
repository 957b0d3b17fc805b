"""Houlsby's bottleneck adapters (ICML 2019, arXiv 1902.00751) for BERT and RoBERTa.

    x <- x + up(gelu(down(x)))

Each block gets two: after the attention's and after the feed-forward's projection, before the
residual sum. As in the paper, the bottlenecks, the blocks' layer norms and the task head are
trained. Forward hooks insert the bottlenecks; no layer of the model is rewritten. (The package
`adapters` would need transformers below 5.)
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from autolora.configs.errors import UserError
from autolora.engine.export.adapter import Export, save_tokenizer
from autolora.engine.retrain.prepared import Prepared, Training
from autolora.engine.world import World
from autolora.problems.models.layers import HEADS, modules_named
from autolora.problems.models.load import BaseModel

WEIGHTS = "bottleneck.safetensors"


class Bottleneck(nn.Module):
    """x + up(gelu(down(x))), nearly the identity at the start. [.., width] -> [.., width]"""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        for linear in (self.down, self.up):
            nn.init.trunc_normal_(linear.weight, std=1e-2, a=-2e-2, b=2e-2)  # as in the paper
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.up(nn.functional.gelu(self.down(x)))


@dataclass(frozen=True)
class Bottlenecks:
    """Two bottlenecks of `width` in each block of a frozen model. adapter/ gets the trained
    parameters, with what `load` needs to place them, and config.json."""

    width: int

    def prepare(self, base: BaseModel, training: Training, world: World) -> Prepared:
        """See Method. Raises UserError as `insert` does."""
        head = sorted({*base.trained_whole, *HEADS})
        insert(base.model, self.width, head)
        settings = {"bottleneck": str(self.width), "head": json.dumps(head)}
        return Prepared(base.model, save=partial(_save, base.model, settings))


def _save(model: PreTrainedModel, settings: dict[str, str], root: Path, export: Export) -> None:
    folder = root / "adapter"
    folder.mkdir(parents=True, exist_ok=True)
    trained = {
        name: p.detach().cpu().contiguous()
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    model.config.save_pretrained(str(folder))
    save_tokenizer(export.tokenizer, folder)
    metadata = {"format": "pt", **settings, "base_model": export.model.name}
    save_file(trained, folder / WEIGHTS, metadata=metadata)


def insert(model: PreTrainedModel, bottleneck: int, head: Sequence[str]) -> None:
    """Puts two bottlenecks into each block and freezes the rest, except layer norms and `head`
    (names or endings).

    Raises UserError for a model without blocks like BERT's.
    """
    model.requires_grad_(False)
    # BertSelfOutput and BertOutput of each block: projection, dropout, layer norm of the residual
    # sum.
    parts = [module for name, module in model.named_modules() if name.endswith(".output")]
    outputs: list[Any] = [module for module in parts if hasattr(module, "LayerNorm")]
    if not outputs:
        raise UserError(
            f"--method: adapter needs blocks like BERT's, which {model.config.model_type} has not"
        )
    for output in outputs:
        inner = Bottleneck(output.dense.out_features, bottleneck)
        output.add_module("bottleneck", inner)
        output.dropout.register_forward_hook(lambda module, inputs, x, inner=inner: inner(x))
        output.LayerNorm.requires_grad_(True)
    for name in head:
        for module in modules_named(model, name):
            model.get_submodule(module).requires_grad_(True)


@torch.no_grad()
def load(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Inserts the adapter in `folder` into `model`, a base model with the same head."""
    with safe_open(folder / WEIGHTS, "pt") as file:
        settings = file.metadata()
        insert(model, int(settings["bottleneck"]), json.loads(settings["head"]))
        parameters = dict(model.named_parameters())
        for name in file.keys():  # noqa: SIM118 - the file itself cannot be iterated
            parameters[name].copy_(file.get_tensor(name))
    return model
