"""The lora_alpha of each layer at recorded ranks, which gives its scale. Imports no torch, so that --show is quick."""

import math

from autolora.configs.schema import WithLora
from autolora.engine.ranks import RankRecord
from autolora.problems.models.parts import layer_ranks


def alpha_pattern(config: WithLora, record: RankRecord) -> dict[str, float]:
    """The lora_alpha of each layer that keeps LoRA; {} if `retrain.scale` is fixed, where all layers have the same."""
    if config.retrain.scale == "fixed":
        return {}
    mean = record.mean_kept_rank
    return {name: whole(alpha_of(config, rank, record.k, mean)) for name, rank in layer_ranks(record.kept).items()}


def alpha_of(config: WithLora, rank: int, k: int, mean: float) -> float:
    """The lora_alpha of a layer of this rank, which PEFT divides by the rank, under `retrain.scale`.

    mean_rank: one scale for all layers, lora_alpha / sqrt(k * mean), with `mean` the mean rank of the layers that keep
    LoRA; rsLoRA's law (arXiv 2312.03732), but equal to the search's scale at rank k. component: the search's scale
    lora_alpha / k on each component; fixed: lora_alpha as it is; rslora: the scale lora_alpha / sqrt(rank). rslora
    does not set PEFT's use_rslora, as programs that read only r and lora_alpha would not know it.
    """
    alpha = config.lora.lora_alpha
    return {
        "mean_rank": alpha * rank / math.sqrt(k * mean),
        "component": alpha * rank / k,
        "fixed": alpha,
        "rslora": alpha * math.sqrt(rank),
    }[config.retrain.scale]


def whole(alpha: float) -> float:
    """`alpha` as an int if it is a whole number, as some trainers accept no float."""
    return int(alpha) if alpha.is_integer() else alpha
