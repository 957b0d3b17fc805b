"""PEFT's LoRA at recorded ranks: its configuration, a model with it, and lora_config/ for trainers
elsewhere."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel, TaskType
from transformers import PreTrainedModel

from autolora.configs.locations import GGUF, PACKAGE, portable_name
from autolora.configs.training import ModelConfig, ScaledLora
from autolora.engine.disk.files import write_json
from autolora.engine.ranks import RankRecord
from autolora.problems.models.attach import ADAPTER, attach, lora_config, lora_layers
from autolora.problems.models.layers import heads_of_peft
from autolora.problems.models.names import joined_ranks

ADAPTER_CONFIG = "adapter_config.json"


def adapter_config(
    record: RankRecord, lora: ScaledLora, task_type: TaskType | None, head: list[str]
) -> LoraConfig:
    """PEFT's configuration for the recorded ranks, at the scale of the record.

    Layers of rank 0 are left out of target_modules, as PEFT refuses r = 0.
    """
    return lora_config(lora, task_type, head, **_at_ranks(record, record.kept))


def stock_config(settings: LoraConfig, record: RankRecord) -> LoraConfig:
    """The configuration for the stock model, where the parts of a fused layer share one LoRA, whose
    rank is their sum."""
    whole_modules = _trained_whole(settings) or None
    fields = _at_ranks(record, joined_ranks(record.kept))
    return dataclasses.replace(settings, modules_to_save=whole_modules, **fields)


def _at_ranks(record: RankRecord, ranks: Mapping[str, int]) -> dict[str, Any]:
    mean = record.mean_kept_rank
    largest = max(ranks.values())
    alpha, scale = record.lora_alpha, record.scale
    assert alpha is not None
    assert scale is not None
    alphas = {name: alpha_of(alpha, scale, rank, record.k, mean) for name, rank in ranks.items()}
    return {
        "r": largest,
        "lora_alpha": alpha_of(alpha, scale, largest, record.k, mean),
        "target_modules": list(ranks),
        "rank_pattern": dict(ranks),
        # then one for all layers
        "alpha_pattern": {} if scale == "fixed" else alphas,
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


def config_for_trainers(settings: PeftConfig, record: RankRecord, model: ModelConfig) -> LoraConfig:
    """`settings` for a training by other programs, without any path of this machine.

    The parts of GPT-2's c_attn share one LoRA there: no LoraConfig can express ranks of their
    own."""
    assert isinstance(settings, LoraConfig)
    return dataclasses.replace(
        stock_config(settings, record),
        base_model_name_or_path=hub_name(model),
        revision=model.revision,
        inference_mode=False,
    )


def save_lora_config(settings: LoraConfig, folder: Path) -> None:
    """Writes lora_config/, in an order that is the same in each process: PEFT keeps some lists as
    sets, target_parameters when it attaches LoRA to a mixture of experts."""
    fields = settings.to_dict() | {
        "target_modules": sorted(settings.target_modules or []),
        "target_parameters": sorted(settings.target_parameters or []) or None,
        "modules_to_save": _trained_whole(settings) or None,
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


def alpha_of(lora_alpha: float, scale: str, rank: int, k: int, mean: float) -> float:
    """The lora_alpha of a layer of this rank, which PEFT divides by the rank, under a
    `retrain.scale`; an int if it is a whole number, as some trainers accept no float.

    mean_rank: one scale for all layers, lora_alpha / sqrt(k * mean), with `mean` the mean rank of
    the layers that keep LoRA; rsLoRA's law (arXiv 2312.03732), but equal to the search's scale at
    rank k. component: the search's scale lora_alpha / k on each component; fixed: lora_alpha as it
    is; rslora: the scale lora_alpha / sqrt(rank). rslora does not set PEFT's use_rslora, as
    programs that read only r and lora_alpha would not know it.
    """
    found: float = {
        "mean_rank": lora_alpha * rank / math.sqrt(k * mean),
        "component": lora_alpha * rank / k,
        "fixed": lora_alpha,
        "rslora": lora_alpha * math.sqrt(rank),
    }[scale]
    return int(found) if found.is_integer() else found
