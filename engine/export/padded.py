"""The adapter padded with zero components to one rank, for servers that read only r and lora_alpha."""

import json
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import pad

from autolora.engine.disk.files import read_json
from autolora.engine.export.adapter import lora_pair
from autolora.engine.export.beside import GENERATION_CONFIG
from autolora.engine.export.names import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from autolora.problems.models.layers import layer_shapes
from autolora.problems.models.parts import split

Shapes = Mapping[str, tuple[int, int]]
_README = """---
library_name: peft
---
The adapter in `adapter/` beside this folder, padded with zeros to rank {rank} in every layer, for servers that read no
rank but `r` and no scale but `lora_alpha`: vLLM, SGLang, TGI. It computes the same. PEFT and transformers take the
original, whose README.md is the model card.
"""
_OF_PEFT = re.compile(r"\.(?:lora_[AB]|modules_to_save|original_module)(?:\.|$)")


def save_padded(adapter: Path, folder: Path, shapes: Shapes | None = None, others: Collection[str] = ()) -> None:
    """Writes the adapter in `adapter` to `folder`, every layer padded by zero components to the largest rank.

    rank_pattern and alpha_pattern become empty, for servers that read only `r` and `lora_alpha`, and lora_alpha
    becomes a whole number, as some read no other. Where that changes a layer's scale, B is multiplied to make up for
    it, so that the adapter computes the same. `shapes`: name -> (outputs, inputs) of the base's layers; `others`:
    names of its other modules; a short target that would also match one of these is written as full names. A layer
    without LoRA gets an A and a B of zeros if layers of its kind in other blocks have LoRA, as some servers ignore a
    kind of layer in all blocks if one block lacks it.
    """
    config = read_json(adapter / ADAPTER_CONFIG)
    weights = load_file(adapter / ADAPTER_WEIGHTS)
    rank = max(config["rank_pattern"].values(), default=config["r"])
    alpha = max(1, round(config["lora_alpha"]))
    padded = {name: _padded(name, value, rank, alpha, config) for name, value in weights.items()}
    layers = sorted({pair[0] for pair in map(lora_pair, weights) if pair is not None})
    alike = _with_same_kinds(layers, shapes or {})
    for layer in set(alike) - set(layers):
        outputs, inputs = (shapes or {})[layer]
        padded[f"base_model.model.{layer}.lora_A.weight"] = torch.zeros(rank, inputs)
        padded[f"base_model.model.{layer}.lora_B.weight"] = torch.zeros(outputs, rank)
    config |= {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {},
        "alpha_pattern": {},
        "target_modules": _targets(alike, {*(shapes or ()), *others}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(padded, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_README.format(rank=rank), encoding="utf-8")
    if (adapter / GENERATION_CONFIG).exists():
        shutil.copyfile(adapter / GENERATION_CONFIG, folder / GENERATION_CONFIG)


def base_shapes(model: PeftModel) -> dict[str, tuple[int, int]]:
    """Name -> (outputs, inputs) of the base model's layers, of which some have LoRA."""
    base: Any = model.get_base_model()
    found = {name.removesuffix(".base_layer"): shape for name, shape in layer_shapes(base).items()}
    return {name: shape for name, shape in found.items() if not _OF_PEFT.search(name) and split(name)[1] is None}


def modules_of(model: PeftModel) -> set[str]:
    """Names of all modules of the base model, also those of towers for images and sound, which get no LoRA."""
    base: Any = model.get_base_model()
    return {name.removesuffix(".base_layer") for name, _ in base.named_modules() if not _OF_PEFT.search(name)}


def _padded(name: str, value: Tensor, rank: int, alpha: int, config: Mapping[str, Any]) -> Tensor:
    """A tensor of the adapter at the largest rank, and at the scale alpha / rank."""
    pair = lora_pair(name)
    if pair is None:
        return value
    layer, factor = pair
    own_rank = config["rank_pattern"].get(layer, config["r"])
    own_alpha = config["alpha_pattern"].get(layer, config["lora_alpha"])
    if factor == "A":
        return pad(value, (0, 0, 0, rank - own_rank))
    scale = (own_alpha / own_rank) / (alpha / rank)
    return pad(value * scale, (0, rank - own_rank))


def _kind(layer: str) -> str:
    """The part of a layer's name after the number of its block; the whole name outside the blocks."""
    return re.split(r"\.\d+\.", layer)[-1]


def _with_same_kinds(layers: list[str], shapes: Shapes) -> list[str]:
    """These layers and those of the same kinds in other blocks."""
    kinds = {_kind(layer) for layer in layers}
    return sorted({*layers, *(name for name in shapes if _kind(name) in kinds)})


def _targets(layers: list[str], known: Collection[str]) -> list[str]:
    """The last parts of the names, which every server can read, if no other `known` name ends in them; else the full
    names."""
    short = {layer.rpartition(".")[2] for layer in layers}
    meant = sorted(name for name in known if name.rpartition(".")[2] in short)
    return sorted(short) if meant == layers else layers
