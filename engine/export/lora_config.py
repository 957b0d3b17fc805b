"""PEFT's LoRA at recorded ranks: its configuration, a model with it, and lora_config/ for trainers
elsewhere."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel
from transformers import PreTrainedModel

from autolora.configs.locations import GGUF, PACKAGE, portable_name
from autolora.configs.schema import WithLora
from autolora.configs.training import ModelConfig
from autolora.engine.disk.files import write_json
from autolora.engine.ranks import RankRecord
from autolora.problems.models.attach import ADAPTER, attach, lora_config, lora_layers
from autolora.problems.models.layers import heads_of_peft
from autolora.problems.models.names import joined_ranks
from autolora.problems.tasks.kinds import Kind

ADAPTER_CONFIG = "adapter_config.json"


def adapter_config(config: WithLora, record: RankRecord, kind: Kind, head: list[str]) -> LoraConfig:
    """PEFT's configuration for the recorded ranks.

    Layers of rank 0 are left out of target_modules, as PEFT refuses r = 0.
    """
    return lora_config(config.lora, kind.peft_type, head, **_at_ranks(config, record, record.kept))


def stock_config(settings: LoraConfig, record: RankRecord, config: WithLora) -> LoraConfig:
    """The configuration for the stock model, where the parts of a fused layer share one LoRA, whose
    rank is their sum."""
    whole_modules = _trained_whole(settings) or None
    fields = _at_ranks(config, record, joined_ranks(record.kept))
    return dataclasses.replace(settings, modules_to_save=whole_modules, **fields)


def _at_ranks(config: WithLora, record: RankRecord, ranks: Mapping[str, int]) -> dict[str, Any]:
    mean = record.mean_kept_rank
    largest = max(ranks.values())
    alphas = {name: alpha_of(config, rank, record.k, mean) for name, rank in ranks.items()}
    return {
        "r": largest,
        "lora_alpha": alpha_of(config, largest, record.k, mean),
        "target_modules": list(ranks),
        "rank_pattern": dict(ranks),
        # then one for all layers
        "alpha_pattern": {} if config.retrain.scale == "fixed" else alphas,
    }


def attach_ranks(model: PreTrainedModel, config: LoraConfig, record: RankRecord) -> PeftModel:
    """`model` with LoRA at the recorded ranks.

    Raises RuntimeError if PEFT gave a layer another rank: PEFT itself only warns of a pattern that
    matches no layer.
    """
    peft_model = attach(model, config)
    found = {name: layer.r[ADAPTER] for name, layer in lora_layers(peft_model).items()}
    if found != record.kept:
        wrong = sorted(set(found.items()) ^ set(record.kept.items()))
        raise RuntimeError(f"PEFT did not apply the recorded ranks: {wrong[:4]}")
    return peft_model


def of_the_model(settings: LoraConfig) -> dict[str, Any]:
    """The fields of PEFT's configuration that only a loaded base model gives; a search stores
    them."""
    return {"modules_to_save": _trained_whole(settings), "fan_in_fan_out": settings.fan_in_fan_out}


def save_lora_config(
    settings: PeftConfig, record: RankRecord, folder: Path, config: WithLora
) -> None:
    """Writes lora_config/: `settings` for a training by other programs, without any path of this
    machine.

    The parts of GPT-2's c_attn share one LoRA there: no LoraConfig can express ranks of their
    own."""
    assert isinstance(settings, LoraConfig)
    settings = stock_config(settings, record, config)
    fields = settings.to_dict() | {
        "target_modules": sorted(settings.target_modules or []),
        # PEFT makes this a set when it attaches LoRA to a mixture of experts.
        "target_parameters": sorted(settings.target_parameters or []) or None,
        "modules_to_save": _trained_whole(settings) or None,
        "base_model_name_or_path": hub_name(config.model),
        "revision": config.model.revision,
        "inference_mode": False,
    }
    write_json(folder / ADAPTER_CONFIG, fields)


def _trained_whole(settings: LoraConfig) -> list[str]:
    """Modules trained whole, without those that PEFT adds by itself for a class head."""
    return sorted(set(settings.modules_to_save or []) - set(heads_of_peft(settings.task_type)))


def hub_name(model: ModelConfig) -> str | None:
    """The repository on the hub that a model comes from; None for a folder or a package of this
    machine."""
    name = portable_name(model.name)
    if name is None or name.startswith(PACKAGE):
        return None
    return name.rpartition("/")[0] if name.endswith(GGUF) else name


def alpha_of(config: WithLora, rank: int, k: int, mean: float) -> float:
    """The lora_alpha of a layer of this rank, which PEFT divides by the rank, under
    `retrain.scale`; an int if it is a whole number, as some trainers accept no float.

    mean_rank: one scale for all layers, lora_alpha / sqrt(k * mean), with `mean` the mean rank of
    the layers that keep LoRA; rsLoRA's law (arXiv 2312.03732), but equal to the search's scale at
    rank k. component: the search's scale lora_alpha / k on each component; fixed: lora_alpha as it
    is; rslora: the scale lora_alpha / sqrt(rank). rslora does not set PEFT's use_rslora, as
    programs that read only r and lora_alpha would not know it.
    """
    alpha = config.lora.lora_alpha
    found: float = {
        "mean_rank": alpha * rank / math.sqrt(k * mean),
        "component": alpha * rank / k,
        "fixed": alpha,
        "rslora": alpha * math.sqrt(rank),
    }[config.retrain.scale]
    return int(found) if found.is_integer() else found
