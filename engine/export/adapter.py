"""Write the trained model in the forms that other programs load: a plain PEFT adapter, an adapter
padded to one rank, merged weights, and the ranks without weights; beside the weights lie the
tokenizer and generation_config.json."""

import json
import re
import shutil
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autolora.configs.training import ModelConfig
from autolora.engine.disk.files import write_json
from autolora.engine.export.lora_config import (
    config_for_trainers,
    save_lora_config,
    stock_config,
)
from autolora.engine.measure import cut
from autolora.engine.ranks import RankRecord
from autolora.problems.models.attach import ADAPTER, lora_layers
from autolora.problems.models.fused import is_split, joined
from autolora.problems.models.layers import layer_shapes
from autolora.problems.tasks.base import for_batches

GENERATION_CONFIG = "generation_config.json"
_README = """---
library_name: peft
---
The adapter in `adapter/` beside this folder, padded with zeros to rank {rank} in every layer, for
servers that read no rank but `r` and no scale but `lora_alpha`: vLLM, SGLang, TGI. It computes the
same. PEFT and transformers take the original, whose README.md is the model card.
"""


@dataclass(frozen=True)
class Export:
    """In which forms a trained model is written, and what lies beside its weights.

    `model`: names the base. `ends`: the tokens that end a language model's answer. `padded`,
    `merged`: also adapter_padded/ and merged/; `for_trainers`: also lora_config/, as the user may
    have edited the ranks that a search has found.
    """

    model: ModelConfig
    tokenizer: PreTrainedTokenizerBase
    ends: Sequence[int] = ()
    padded: bool = False
    merged: bool = False
    for_trainers: bool = False


def save_all(model: PeftModel, record: RankRecord, root: Path, export: Export) -> None:
    """Writes adapter/, and what else `export` asks for. Merging makes `model` unusable."""
    settings = model.peft_config[ADAPTER]
    assert isinstance(settings, LoraConfig)
    if is_split(model):
        model = joined(model, stock_config(settings, record))
    adapter = root / "adapter"
    save_adapter(model, export.tokenizer, adapter, export.model.revision, export.ends)
    if export.for_trainers:
        elsewhere = config_for_trainers(settings, record, export.model)
        save_lora_config(elsewhere, root / "lora_config")
    if export.padded:
        save_padded(adapter, root / "adapter_padded", model)
    if export.merged:
        save_merged(model, export.tokenizer, root / "merged", export.ends)


def save_adapter(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    revision: str | None = None,
    ends: Sequence[int] = (),
) -> None:
    """Writes a plain PEFT adapter, with the tokenizer and the base's config.json (which names the
    classes) beside it.

    `revision`: the base model's revision on the hub; PEFT itself does not know which one was
    loaded. `ends`: see `save_beside`.
    """
    settings: Any = model.peft_config[ADAPTER]
    settings.revision = revision
    # PEFT keeps them as a set, whose order in the file differs from process to process.
    settings.target_modules = sorted(settings.target_modules)
    # The adapter is loaded from other folders than the one in which the run was started.
    base_folder = Path(settings.base_model_name_or_path or "")
    if settings.base_model_name_or_path and base_folder.exists():
        settings.base_model_name_or_path = str(base_folder.resolve())
    # By default PEFT would add the frozen weight of an output embedding that has LoRA.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    base: Any = model.get_base_model()
    settings = copy(base.config)
    # of a base in 4 bits; the adapter fits the plain base, too
    if hasattr(settings, "quantization_config"):
        del settings.quantization_config
    settings.save_pretrained(str(folder))
    save_beside(base, tokenizer, folder, ends)


def save_beside(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    ends: Sequence[int] = (),
) -> None:
    """Writes the tokenizer as `save_tokenizer` does and, for a language model,
    generation_config.json.

    `ends`: the tokens that end an answer, at which programs that read that file then stop; empty:
    the base's own.
    """
    # What reads whole rows pads on the side on which it was trained; what writes texts keeps the
    # tokenizer's own side.
    save_tokenizer(tokenizer if model.can_generate() else for_batches(tokenizer), folder)
    if ends:
        settings: Any = model.generation_config
        # Not by save_pretrained: in a changed configuration it would refuse what it accepts in an
        # unchanged one, such as a temperature without sampling.
        text = settings.to_json_string(use_diff=True, keys_to_pop=["compile_config"])
        stops = ends[0] if len(ends) == 1 else list(ends)
        write_json(folder / GENERATION_CONFIG, json.loads(text) | {"eos_token_id": stops})


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes the tokenizer without the truncation and padding of its last call, by which programs
    that read tokenizer.json alone would cut and pad their texts."""
    if tokenizer.is_fast:
        plain: Any = tokenizer
        plain.backend_tokenizer.no_truncation()
        plain.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(str(folder))


def save_padded(adapter: Path, folder: Path, model: PeftModel) -> None:
    """Writes the adapter in `adapter`, which is that of `model`, to `folder`, every layer padded by
    zero components to the largest rank (see `padded` of engine/measure/cut.py).

    A layer without LoRA gets an A and a B of zeros if layers of its kind in other blocks have LoRA,
    as some servers ignore a kind of layer in all blocks if one block lacks it. target_modules are
    the last parts of the layers' names, which every server can read, unless another layer's name
    ends in one of them, too.
    """
    settings = LoraConfig.from_pretrained(str(adapter))
    config, weights = cut.padded(settings, load_file(adapter / SAFETENSORS_WEIGHTS_NAME))
    base: Any = model.get_base_model()
    shapes = {name.removesuffix(".base_layer"): shape for name, shape in layer_shapes(base).items()}
    layers = set(lora_layers(model))
    kinds = {_kind(layer) for layer in layers}
    alike = layers | {name for name in shapes if _kind(name) in kinds}
    for layer in alike - layers:
        outputs, inputs = shapes[layer]
        weights[f"base_model.model.{layer}.lora_A.weight"] = torch.zeros(config.r, inputs)
        weights[f"base_model.model.{layer}.lora_B.weight"] = torch.zeros(outputs, config.r)
    short = {layer.rpartition(".")[2] for layer in alike}
    meant = {name for name in shapes if name.rpartition(".")[2] in short}
    config.target_modules = sorted(short if meant == alike else alike)
    cut.save_adapter(config, weights, folder)
    (folder / "README.md").write_text(_README.format(rank=config.r), encoding="utf-8")
    if (adapter / GENERATION_CONFIG).exists():
        shutil.copyfile(adapter / GENERATION_CONFIG, folder / GENERATION_CONFIG)


def _kind(layer: str) -> str:
    """The part of a layer's name after the number of its block; the whole name outside the
    blocks."""
    return re.split(r"\.\d+\.", layer)[-1]


def save_merged(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path, ends: Sequence[int] = ()
) -> None:
    """Writes the base model with the adapter merged in; `model` cannot be used afterwards.

    `ends`: see `save_beside`."""
    _untie(model)
    merged: Any = model.merge_and_unload()
    save_whole(merged, tokenizer, folder, ends)


def save_whole(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    ends: Sequence[int] = (),
) -> None:
    """Writes all weights of a model without LoRA, and its tokenizer. `ends`: see `save_beside`."""
    if hasattr(model.config, "gguf_file"):
        # the weights were read from a GGUF file, but are not written as one
        del model.config.gguf_file
    model.save_pretrained(str(folder))
    save_beside(model, tokenizer, folder, ends)


def _untie(model: PeftModel) -> None:
    """Gives each layer with LoRA that shares its weight (an output layer with the embedding) a
    weight of its own: PEFT would add the update to both."""
    base: Any = model.get_base_model()
    for name, lora in lora_layers(model).items():
        layer: Any = lora.get_base_layer()
        owners = [
            x
            for x, weight in base.named_parameters(remove_duplicate=False)
            if weight is layer.weight
        ]
        if any(not owner.startswith(f"{name}.") for owner in owners):
            layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
            for config in (base.config, base.config.get_text_config()):
                config.tie_word_embeddings = False
