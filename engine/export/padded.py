"""The adapter padded with zero components to one rank, for servers that read only r and lora_alpha."""

import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file

from autolora.engine.cut.adapter import modules_of
from autolora.engine.cut.cut import lora_pair, padded, save_adapter
from autolora.problems.models.layers import layer_shapes

GENERATION_CONFIG = "generation_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
Shapes = Mapping[str, tuple[int, int]]
_README = """---
library_name: peft
---
The adapter in `adapter/` beside this folder, padded with zeros to rank {rank} in every layer, for servers that read no
rank but `r` and no scale but `lora_alpha`: vLLM, SGLang, TGI. It computes the same. PEFT and transformers take the
original, whose README.md is the model card.
"""


def save_padded(adapter: Path, folder: Path, shapes: Shapes | None = None, others: Collection[str] = ()) -> None:
    """Writes the adapter in `adapter` to `folder`, every layer padded by zero components to the largest rank.

    See `padded` of engine/cut/cut.py. `shapes`: name -> (outputs, inputs) of the base's layers; `others`:
    names of its other modules; a short target that would also match one of these is written as full names. A layer
    without LoRA gets an A and a B of zeros if layers of its kind in other blocks have LoRA, as some servers ignore a
    kind of layer in all blocks if one block lacks it.
    """
    config, weights = padded(LoraConfig.from_pretrained(str(adapter)), load_file(adapter / ADAPTER_WEIGHTS))
    layers = sorted({pair[0] for pair in map(lora_pair, weights) if pair is not None})
    alike = _with_same_kinds(layers, shapes or {})
    for layer in set(alike) - set(layers):
        outputs, inputs = (shapes or {})[layer]
        weights[f"base_model.model.{layer}.lora_A.weight"] = torch.zeros(config.r, inputs)
        weights[f"base_model.model.{layer}.lora_B.weight"] = torch.zeros(outputs, config.r)
    config.target_modules = _targets(alike, {*(shapes or ()), *others})
    save_adapter(config, weights, folder)
    (folder / "README.md").write_text(_README.format(rank=config.r), encoding="utf-8")
    if (adapter / GENERATION_CONFIG).exists():
        shutil.copyfile(adapter / GENERATION_CONFIG, folder / GENERATION_CONFIG)


def base_shapes(model: PeftModel) -> dict[str, tuple[int, int]]:
    """Name -> (outputs, inputs) of the base model's layers, of which some have LoRA."""
    base: Any = model.get_base_model()
    found = {name.removesuffix(".base_layer"): shape for name, shape in layer_shapes(base).items()}
    known = modules_of(model)
    return {name: shape for name, shape in found.items() if name in known}


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
