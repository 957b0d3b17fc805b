"""Write the trained model in the forms that other programs load: a plain PEFT adapter, an adapter padded to one rank,
merged weights, and the ranks without weights; beside the weights lie the tokenizer and generation_config.json."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autolora.configs.schema import WithLora
from autolora.engine import ranks
from autolora.engine.disk.files import write_json
from autolora.engine.export.lora_config import save_lora_config, stock_config
from autolora.engine.export.padded import GENERATION_CONFIG, base_shapes, modules_of, save_padded
from autolora.engine.run.folder import RunFolder
from autolora.problems.models.attach import ADAPTER, lora_layers
from autolora.problems.models.fused import is_split, joined
from autolora.problems.tasks.base import for_batches

log = logging.getLogger("autolora")


def save_all(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: RunFolder, config: WithLora, ends: Sequence[int] = ()
) -> None:
    """Writes adapter/, and adapter_padded/ and merged/ if `config` asks for them.

    For a method that searches, also writes lora_config/ again, because the user may have edited the ranks. Merging
    makes `model` unusable. `ends`: the tokens that end a language model's answer.
    """
    settings, record = model.peft_config[ADAPTER], ranks.load(folder.ranks)
    assert isinstance(settings, LoraConfig)
    if is_split(model):
        model = joined(model, stock_config(settings, record, config))
    save_adapter(model, tokenizer, folder.adapter, config.model.revision, ends)
    if config.searches:
        save_lora_config(settings, record, folder.lora_config, config)
    if config.writes_padded:
        save_padded(folder.adapter, folder.padded, base_shapes(model), modules_of(model))
        if settings.modules_to_save:
            log.warning("export: %s also holds modules trained whole, which vLLM refuses and TGI ignores; merged/ "
                        "(--export.merged true) works in both", folder.padded)  # fmt: skip
    if config.export.merged:
        save_merged(model, tokenizer, folder.merged, ends)


def save_adapter(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path, revision: str | None = None,
    ends: Sequence[int] = (),
) -> None:  # fmt: skip
    """Writes a plain PEFT adapter, with the tokenizer and the base's config.json (which names the classes) beside it.

    `revision`: the base model's revision on the hub; PEFT itself does not know which one was loaded. `ends`: see
    `save_beside`.
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
    if hasattr(settings, "quantization_config"):  # of a base in 4 bits; the adapter fits the plain base, too
        del settings.quantization_config
    settings.save_pretrained(str(folder))
    save_beside(base, tokenizer, folder, ends)


def save_beside(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, ends: Sequence[int] = ()
) -> None:
    """Writes the tokenizer as `save_tokenizer` does and, for a language model, generation_config.json.

    `ends`: the tokens that end an answer, at which programs that read that file then stop; empty: the base's own.
    """
    # What reads whole rows pads on the side on which it was trained; what writes texts keeps the tokenizer's own side.
    save_tokenizer(tokenizer if model.can_generate() else for_batches(tokenizer), folder)
    if ends:
        settings: Any = model.generation_config
        # Not by save_pretrained: in a changed configuration it would refuse what it accepts in an unchanged one, such
        # as a temperature without sampling.
        text = settings.to_json_string(use_diff=True, keys_to_pop=["compile_config"])
        stops = ends[0] if len(ends) == 1 else list(ends)
        write_json(folder / GENERATION_CONFIG, json.loads(text) | {"eos_token_id": stops})


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes the tokenizer without the truncation and padding of its last call; the tokenizer itself keeps them.

    tokenizer.json would have them, and programs that read this file alone would cut and pad their texts by them.
    """
    plain: Any = tokenizer
    if tokenizer.is_fast:
        plain = deepcopy(tokenizer)
        plain.backend_tokenizer.no_truncation()
        plain.backend_tokenizer.no_padding()
    plain.save_pretrained(str(folder))


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
