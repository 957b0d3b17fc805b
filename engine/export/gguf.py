"""A LoRA file for llama.cpp: pairs of matrices named after the tensors of the base's GGUF file, and one lora_alpha.

llama.cpp scales the product of each pair by the file's lora_alpha over the pair's own rank. If a layer has another
lora_alpha, its B is multiplied by the quotient of the two.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import read_json, replacing
from autolora.engine.export.adapter import lora_pair
from autolora.engine.export.names import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from autolora.problems.models.load import source_of

log = logging.getLogger("autolora")

# model_type of transformers -> llama.cpp's architecture. llama.cpp's converter leaves the matrices of these models as
# they are, except that for architecture llama it reorders the rows of query and key, as llama.cpp rotates neighbouring
# numbers.
ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma": "gemma", "gemma2": "gemma2",
    "gemma3_text": "gemma3", "phi3": "phi3", "gpt2": "gpt2",
}  # fmt: skip
_HEADS = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}


def refuse_without_gguf(config: RunConfig) -> None:
    """Raises UserError, before anything is trained, for a base model whose tensors have no known names in a GGUF
    file."""
    if not config.export.gguf:
        return
    with source_of(config.model) as (source, options):
        kind = AutoConfig.from_pretrained(source, **options).model_type
    if kind not in ARCHITECTURES:
        raise UserError(
            f"--export.gguf: true is not allowed for {config.model.name}, a model of type {kind}; allowed: false, or "
            f"a model of type {', '.join(ARCHITECTURES)}"
        )


def save_gguf(adapter: Path, path: Path, name: str) -> None:
    """Writes the adapter in `adapter` as a file for llama.cpp, in fp32; `name`: the name in the file's metadata.

    If a LoRA file of llama.cpp has no place for a tensor of the adapter, logs a warning and writes no file.
    """
    base, settings = AutoConfig.from_pretrained(adapter), read_json(adapter / ADAPTER_CONFIG)
    weights = load_file(adapter / ADAPTER_WEIGHTS)
    names = _names(base)
    named = {key: _named(key, base, names) for key in weights}
    misfit = next((key for key, found in named.items() if found is None), None)
    if misfit is not None:
        log.warning(
            "--export.gguf: %s is not written, as a LoRA file of llama.cpp has no place for %s; llama.cpp's "
            "converter takes merged/ (--export.merged true)", path.name, misfit,
        )  # fmt: skip
        return
    with replacing(path) as temporary:
        writer = gguf.GGUFWriter(temporary, ARCHITECTURES[base.model_type])
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_name(name)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(settings["lora_alpha"]))
        for key, tensor in _tensors(weights, base, settings):
            writer.add_tensor(f"{named[key]}", tensor.float().contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _named(key: str, base: PreTrainedConfig, names: gguf.TensorNameMap) -> str | None:
    """A tensor's name in the file; None where the base's GGUF file has no such tensor."""
    pair = lora_pair(key)
    if pair is None:
        return None
    layer, factor = pair
    if layer == "lm_head" and base.tie_word_embeddings:
        return None  # the base's GGUF file has one tensor for both, the embedding
    found = names.get_name(layer)
    return None if found is None else f"{found}.weight.lora_{factor.lower()}"


def _names(base: PreTrainedConfig) -> gguf.TensorNameMap:
    architectures = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}
    return gguf.get_tensor_name_map(architectures[ARCHITECTURES[base.model_type]], base.num_hidden_layers)


def _tensors(
    weights: Mapping[str, Tensor], base: PreTrainedConfig, settings: Mapping[str, Any]
) -> Iterator[tuple[str, Tensor]]:
    """The key of every tensor, and its values in the file: A [r, inputs], B [outputs, r]."""
    for key, value in weights.items():
        layer, factor = lora_pair(key) or ("", "")
        if factor == "B":
            value = value * (settings["alpha_pattern"].get(layer, settings["lora_alpha"]) / settings["lora_alpha"])
            heads = _HEADS.get(layer.rpartition(".")[2])
            if ARCHITECTURES[base.model_type] == "llama" and heads is not None:
                value = _neighbours(value, getattr(base, heads))
        yield key, value


def _neighbours(rows: Tensor, heads: int) -> Tensor:
    """Rows [outputs, r] in llama.cpp's order: within each head, rows of its first and of its second half alternate."""
    return rows.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
