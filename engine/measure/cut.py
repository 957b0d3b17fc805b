"""Cut an adapter of PEFT's type LORA to its first components: stock PEFT in, stock PEFT out. It
neither merges nor trains."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from statistics import mode
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, PeftType, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import MultiheadAttention
from peft.tuners.lora.variants import DoraEmbeddingVariant, DoraLinearVariant
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from peft.utils.other import get_pattern_key
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import pad

from autolora.configs.errors import UserError
from autolora.engine.disk.files import remove, replacing, write_json
from autolora.engine.measure.bases import Basis
from autolora.engine.measure.lora import Lora
from autolora.problems.models.attach import PREFIX

_MOVE_THE_BASE = ("pissa", "corda", "olora", "lora_ga", "loftq")
"""Initial values that PEFT also takes from the base's weights, again whenever it loads the adapter:
with fewer ranks it would take less, and the model would be another one."""
_OF_PEFT = re.compile(r"\.(?:base_layer|lora_\w+|modules_to_save|original_module)(?:\.|$)")


def adapter_of(model: PeftModel) -> str:
    """The name of the one active adapter. Raises UserError, which names the reason, for an adapter
    that is not cut: one whose update of a layer is not B A times a scale."""
    name, *others = model.active_adapters
    reason = f"{len(others)} more are active (model.set_adapter)" if others else None
    reason = reason or _refusal(model.peft_config[name]) or _layer_refusal(model, name)
    if reason:
        raise UserError(
            f"the adapter {name} cannot be measured or cut: {reason}; allowed: one LoRA on "
            "linear layers, embeddings or stacked experts"
        )
    return name


def _refusal(config: PeftConfig) -> str | None:
    """Why an adapter with this configuration is not cut; None if it is."""
    if not isinstance(config, LoraConfig) or config.peft_type != PeftType.LORA:
        return (
            f"it is of PEFT's type {PeftType(config.peft_type).value}; convert it first "
            "(peft.convert_to_lora)"
        )
    if str(config.init_lora_weights).startswith(_MOVE_THE_BASE):
        return (
            f"its initial values ({config.init_lora_weights}) changed the base model; convert "
            "it first (model.save_pretrained with path_initial_model_for_weight_conversion)"
        )
    return None


def _layer_refusal(model: PeftModel, adapter: str) -> str | None:
    """Why an adapter with these layers is not cut; None if it is."""
    for name, layer in model.named_modules():
        if not isinstance(layer, LoraLayer) or adapter not in layer.r:
            continue
        if layer.merged:
            return "it is merged into the base model (model.unmerge_adapter())"
        if layer.disable_adapters:
            return "its layers are disabled (model.enable_adapter_layers())"
        if isinstance(layer, MultiheadAttention):
            return f"it has LoRA on torch's own attention ({name})"
        if adapter in layer.lora_A and not isinstance(layer.lora_A[adapter], nn.Linear):
            return f"it has LoRA on a convolution ({name})"
        variant = layer.lora_variant.get(adapter)
        if variant is not None and type(variant) not in (DoraLinearVariant, DoraEmbeddingVariant):
            return f"it is another kind of LoRA ({type(variant).__name__})"
    return None


def modules_of(model: PeftModel) -> set[str]:
    """Names of all modules of the base model, without those that PEFT put into it."""
    return {name for name, _ in model.get_base_model().named_modules() if not _OF_PEFT.search(name)}


def cut_adapter(
    lora: Lora, bases: Sequence[Basis], ranks: Sequence[int]
) -> tuple[LoraConfig, dict[str, Tensor]]:
    """The adapter's first components in these bases: a LoraConfig and a state dict, as
    peft.convert_to_lora returns.

    `bases`, `ranks`: one for each LoRA layer. Every layer keeps its scale and its dtype; what is
    trained beside A and B stays as it is. A layer of rank 0 is no longer a target. The tensors are
    copies on the CPU. Raises UserError if all ranks are 0.
    """
    state = {
        key: value.detach().to("cpu", copy=True)
        for key, value in get_peft_model_state_dict(lora.model, adapter_name=lora.adapter).items()
        # PEFT adds the frozen weight below LoRA on a head or an embedding.
        if not key.endswith(".base_layer.weight")
    }
    kept: dict[str, int] = {}
    scales: dict[str, float] = {}
    wrapped: Counter[str] = Counter()
    for layer, basis, asked in zip(lora.layers, bases, ranks, strict=True):
        keys = [layer.key(name, lora.adapter) for name in (layer.a, layer.b)]
        dtypes = [state.pop(key).dtype for key in keys]
        rank = min(asked, len(basis.size))
        if rank == 0:
            continue
        if layer.experts:
            # PEFT wraps the parameters of a module one around the other, so that the names in a
            # file depend on which of them are there.
            owner, _, _ = layer.name.rpartition(".")
            path = owner + ".base_layer" * wrapped[owner]
            keys = [f"{PREFIX}{path}.lora_{factor}.weight" for factor in "AB"]
            wrapped[owner] += 1
        first = _of_equal_norms(basis.a[..., :rank, :], basis.b[..., :rank])
        for key, value, dtype in zip(keys, layer.joined(*first), dtypes, strict=True):
            state[key] = value.to(dtype).contiguous()
        kept[layer.name] = rank
        scales[layer.name] = layer.scaling
    if not kept:
        raise UserError(
            "every layer would be cut to rank 0; allowed: a rank or a number of parameters "
            "that keeps one"
        )
    config = _with_ranks(lora.model.peft_config[lora.adapter], kept, scales)
    if len(kept) < len(lora.layers):
        _retarget(config, lora, kept)
    return config, state


def _retarget(config: LoraConfig, lora: Lora, kept: Mapping[str, int]) -> None:
    """Lets a configuration name the layers that are kept, and no others."""
    stacked = [layer.name for layer in lora.layers if layer.experts and layer.name in kept]
    modules = [name for name in kept if name not in stacked]
    config.target_modules = _targets(modules, modules_of(lora.model) - set(modules))
    config.target_parameters = stacked or None
    config.exclude_modules = config.layers_to_transform = config.layers_pattern = None


def save_adapter(config: LoraConfig, state_dict: Mapping[str, Tensor], folder: Path) -> None:
    """Writes adapter_config.json and adapter_model.safetensors, which
    PeftModel.from_pretrained(base, folder) loads.

    The configuration, without which nothing loads, is written last, so that a folder is never half
    written.
    """
    fields = config.to_dict() | {"inference_mode": True}
    fields = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in sorted(fields.items())
    }
    remove(folder / CONFIG_NAME)
    with replacing(folder / SAFETENSORS_WEIGHTS_NAME) as temporary:
        save_file(dict(state_dict), temporary, metadata={"format": "pt"})
    write_json(folder / CONFIG_NAME, fields)


def padded(
    config: LoraConfig, state_dict: Mapping[str, Tensor]
) -> tuple[LoraConfig, dict[str, Tensor]]:
    """The same adapter at its largest rank and one alpha in every layer, for servers that read only
    these two numbers.

    The layers get components of zeros. lora_alpha becomes a whole number, as some servers read no
    other. Where that changes a layer's scale, B is multiplied to make up for it. Why: vLLM, SGLang,
    TGI and llama.cpp ignore or refuse rank_pattern and alpha_pattern.
    """
    if config.target_parameters or any(".lora_embedding_" in key for key in state_dict):
        raise UserError("padded: servers that need one rank take LoRA on linear layers alone")
    pairs = {key: pair for key in state_dict if (pair := lora_pair(key))}
    ranks = {name: len(state_dict[key]) for key, (name, factor) in pairs.items() if factor == "A"}
    rank = max(ranks.values())
    alpha = max(1, round(config.lora_alpha))
    state = dict(state_dict)
    for key, (name, factor) in pairs.items():
        missing = rank - ranks[name]
        if factor == "A":
            state[key] = pad(state[key], (0, 0, 0, missing))
        else:
            scale = scale_of(config, name, ranks[name])
            state[key] = pad(state[key] * (scale / (alpha / rank)), (0, missing))
    config = deepcopy(config)
    config.r = rank
    config.lora_alpha = alpha
    config.use_rslora = False
    config.rank_pattern = {}
    config.alpha_pattern = {}
    return config, state


def scale_of(config: LoraConfig, name: str, rank: int) -> float:
    """The scale that PEFT gives the update of a layer of this rank."""
    alphas: Any = config.alpha_pattern
    alpha: float = alphas.get(get_pattern_key(alphas, name), config.lora_alpha)
    return alpha / (rank**0.5 if config.use_rslora else rank)


def lora_pair(key: str) -> tuple[str, str] | None:
    """A key of an adapter's state dict -> its layer and its factor, "A" or "B"; None for a module
    trained whole."""
    match = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", key)
    return None if match is None else (match[1], match[2])


def _of_equal_norms(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The same components with |A_j| about |B_j|, as training that goes on would move too much in
    the smaller factor.

    By powers of two, so that nothing is rounded. A component that is zero in A or B stays.
    """
    sizes = a.norm(dim=-1), b.norm(dim=-2)
    ratio = torch.where(
        (sizes[0] > 0) & (sizes[1] > 0), (sizes[1] / sizes[0]).log2().div(2).round().exp2(), 1.0
    )
    return a * ratio.unsqueeze(-1), b / ratio.unsqueeze(-2)


def _with_ranks(config: Any, ranks: Mapping[str, int], scales: Mapping[str, float]) -> LoraConfig:
    """`config` with these ranks, and with the alphas that give these scales by the plain rule alpha
    / rank.

    r is the largest rank, which servers allot memory by.
    """
    alphas = {name: _alpha(scales[name], rank) for name, rank in ranks.items()}
    config = deepcopy(config)
    config.r = max(ranks.values())
    config.lora_alpha = _alpha(mode(scales.values()), config.r)
    config.use_rslora = False
    config.rank_pattern = {
        _pattern(name, ranks): rank for name, rank in ranks.items() if rank != config.r
    }
    config.alpha_pattern = {
        _pattern(name, ranks): a for name, a in alphas.items() if a != config.lora_alpha
    }
    # The initial values are overwritten when the adapter is loaded; some allow only certain ranks.
    config.init_lora_weights = True
    config.eva_config = None
    return config


def _alpha(scale: float, rank: int) -> float:
    """scale * rank without the rounding of a division by the former rank, and an int if it is a
    whole number, as some trainers accept no float."""
    alpha = float(f"{scale * rank:.12g}")
    return int(alpha) if alpha.is_integer() else alpha


def _pattern(name: str, names: Iterable[str]) -> str:
    """A key for rank_pattern that matches this name alone: PEFT also takes names that end in the
    key."""
    return f"^{name}" if any(other.endswith(f".{name}") for other in names) else name


def _targets(names: list[str], others: Iterable[str]) -> list[str] | str:
    """target_modules that match these names and none of the `others`. PEFT also takes names that
    end in a name on the list; it takes a single text as a regex of whole names."""
    caught = any(other.endswith(f".{name}") for name in names for other in others)
    return "|".join(map(re.escape, names)) if caught else names
