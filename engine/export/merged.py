"""The base model with the adapter merged into its weights."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autolora.engine.export.beside import save_beside
from autolora.problems.models.attach import lora_layers


def save_merged(model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path, ends: Sequence[int] = ()) -> None:
    """Writes the base model with the adapter merged in; `model` cannot be used afterwards.

    `ends`: see `save_beside`."""
    _untie(model)
    merged: Any = model.merge_and_unload()
    save_whole(merged, tokenizer, folder, ends)


def save_whole(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, ends: Sequence[int] = ()
) -> None:
    """Writes all weights of a model without LoRA, and its tokenizer. `ends`: see `save_beside`."""
    _in_own_dtype(model)
    if hasattr(model.config, "gguf_file"):
        del model.config.gguf_file  # the weights were read from a GGUF file, but are not written as one
    model.save_pretrained(str(folder))
    save_beside(model, tokenizer, folder, ends)


def _in_own_dtype(model: PreTrainedModel) -> None:
    """Casts what was trained, such as an embedding in fp32, to the dtype of most frozen weights.

    The first weight's dtype is declared for all, so that one such weight could make whoever loads a bf16 model load it
    in fp32. Frozen weights and buffers, of which a model may keep some in fp32, stay as they are."""
    frozen: Counter[torch.dtype] = Counter()
    for weight in model.parameters():
        if not weight.requires_grad and weight.is_floating_point():
            frozen[weight.dtype] += weight.numel()
    for weight in model.parameters() if frozen else ():  # with full fine-tuning, nothing is frozen
        if weight.requires_grad:
            weight.data = weight.data.to(frozen.most_common(1)[0][0])


def _untie(model: PeftModel) -> None:
    """Gives each layer with LoRA that shares its weight (an output layer with the embedding) a weight of its own: PEFT
    would add the update to both."""
    base: Any = model.get_base_model()
    for name, lora in lora_layers(model).items():
        layer: Any = lora.get_base_layer()
        owners = [x for x, weight in base.named_parameters(remove_duplicate=False) if weight is layer.weight]
        if any(not owner.startswith(f"{name}.") for owner in owners):
            layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
            for config in (base.config, base.config.get_text_config()):
                config.tie_word_embeddings = False
