"""Houlsby's bottleneck adapters (ICML 2019, arXiv 1902.00751) for BERT and RoBERTa.

    x <- x + up(gelu(down(x)))   after the attention's and the feed-forward's projection, before the residual sum

Each block gets two. As in the paper, the bottlenecks, the blocks' layer norms and the task head are trained. Forward
hooks insert the bottlenecks; no layer of the model is rewritten. (The package `adapters` would need transformers
below 5.)
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from autolora.configs.errors import UserError
from autolora.problems.models.parts import matches

MODEL_TYPES = ("bert", "roberta")
WEIGHTS, SETTINGS = "bottleneck.safetensors", "bottleneck.json"
_NAME = "bottleneck"


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


def insert(model: PreTrainedModel, bottleneck: int, head: Sequence[str]) -> list[str]:
    """Puts two bottlenecks into each block and freezes the rest, except layer norms and `head` (names or endings).

    Returns the names of the trained parameters. Raises UserError for a model that is neither BERT nor RoBERTa.
    """
    kind = model.config.model_type
    if kind not in MODEL_TYPES:
        raise UserError(
            f"--method: 'adapter' is not allowed for a model of type {kind}; allowed: models of type "
            f"{' or '.join(MODEL_TYPES)}"
        )
    model.requires_grad_(False)
    for output in _outputs(model):
        output.add_module(_NAME, Bottleneck(output.dense.out_features, bottleneck))
        output.dropout.register_forward_hook(lambda module, inputs, x, inner=output.bottleneck: inner(x))
        output.bottleneck.requires_grad_(True)
        output.LayerNorm.requires_grad_(True)
    for name, module in model.named_modules():
        if any(matches(name, part) for part in head):
            module.requires_grad_(True)
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def _outputs(model: PreTrainedModel) -> list[Any]:
    """The BertSelfOutput and the BertOutput of every block: projection, dropout, layer norm of the residual sum."""
    parts = ("dense", "dropout", "LayerNorm")
    return [
        module
        for name, module in model.named_modules()
        if name.endswith(".output") and all(hasattr(module, part) for part in parts)
    ]


def save(model: PreTrainedModel, bottleneck: int, head: Sequence[str], folder: Path) -> None:
    """Writes the trained parameters, the settings that `load` needs to place them, and the model's config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    trained = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    save_file(trained, folder / WEIGHTS, metadata={"format": "pt"})
    settings = {"bottleneck": bottleneck, "head": list(head), "base_model": model.config.name_or_path}
    (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    model.config.save_pretrained(str(folder))


@torch.no_grad()
def load(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Inserts the adapter in `folder` into `model`, a base model with the same head."""
    settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    insert(model, settings["bottleneck"], settings["head"])
    parameters = dict(model.named_parameters())
    for name, value in load_file(folder / WEIGHTS).items():
        parameters[name].copy_(value)
    return model
