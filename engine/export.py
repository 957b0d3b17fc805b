"""The result in forms that others load: a plain PEFT adapter, merged weights, an adapter padded to one rank."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from configs.schema import RunConfig
from engine.run_folder import RunFolder, write_text
from problems.gates import ADAPTER, lora_layers

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"

# Plain `from_pretrained` of a GGUF base needs the file's name; PEFT's own card has no place for it.
_GGUF_CARD = """---
library_name: peft
---
A PEFT LoRA adapter of the GGUF file `{file}` in `{base}`, dequantised when loaded (packages peft, transformers, gguf):

```python
from peft import PeftConfig, PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

adapter = "."  # this folder
settings = PeftConfig.from_pretrained(adapter)
base = AutoModelForCausalLM.from_pretrained(
    settings.base_model_name_or_path,
    revision=settings.revision or "main",
    gguf_file=AutoConfig.from_pretrained(adapter).gguf_file,
)
model = PeftModel.from_pretrained(base, adapter)
tokenizer = AutoTokenizer.from_pretrained(adapter)
```
"""


def save_all(model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: RunFolder, config: RunConfig) -> None:
    """adapter/, and adapter_padded/ and merged/ where `config` asks for them; merging consumes `model`."""
    save_adapter(model, tokenizer, folder.adapter, config.model.revision)
    if config.export.padded:
        save_padded(folder.adapter, folder.padded)
    if config.export.merged:
        save_merged(model, tokenizer, folder.merged)


def save_adapter(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path, revision: str | None = None
) -> None:
    """A plain PEFT adapter, with the tokenizer and the base's config.json (which knows the classes) beside it.

    `revision`: that of the base on the hub; PEFT itself does not know which one was loaded.
    """
    model.peft_config[ADAPTER].revision = revision
    model.save_pretrained(str(folder))
    _sort_targets(folder / ADAPTER_CONFIG)
    base: Any = model.get_base_model()
    base.config.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    file = getattr(base.config, "gguf_file", None)
    if file is not None:
        write_text(folder / "README.md", _GGUF_CARD.format(base=base.config.name_or_path, file=file))


def _sort_targets(path: Path) -> None:
    """PEFT holds target_modules in a set, whose order in the file differs from process to process."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def save_merged(model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """The base model with the adapter merged in; `model` is consumed."""
    _untie(model)
    merged: Any = model.merge_and_unload()
    if hasattr(merged.config, "gguf_file"):
        del merged.config.gguf_file  # what is written now is no such file
    merged.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


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


def save_padded(adapter: Path, folder: Path) -> None:
    """The adapter in `adapter` with every layer padded by zero components to the largest rank.

    rank_pattern and alpha_pattern become empty: for servers that read only `r` and `lora_alpha`. Where layers differ
    in scale, the difference is folded into B, so the function stays the same.
    """
    config = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    weights = load_file(adapter / ADAPTER_WEIGHTS)
    rank = max([config["r"] if not config["rank_pattern"] else 0, *config["rank_pattern"].values()])
    padded: dict[str, Tensor] = {}
    for name, value in weights.items():
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", name)
        if match is None:
            padded[name] = value
            continue
        layer, factor = match.groups()
        own_rank = config["rank_pattern"].get(layer, config["r"])
        own_alpha = config["alpha_pattern"].get(layer, config["lora_alpha"])
        if factor == "A":
            padded[name] = _pad(value, 0, rank)
        else:
            padded[name] = _pad(value * ((own_alpha / own_rank) / (config["lora_alpha"] / rank)), 1, rank)
    config |= {"r": rank, "rank_pattern": {}, "alpha_pattern": {}}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(padded, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _pad(value: Tensor, dim: int, rank: int) -> Tensor:
    shape = list(value.shape)
    shape[dim] = rank - shape[dim]
    return torch.cat([value, value.new_zeros(shape)], dim=dim).contiguous()
