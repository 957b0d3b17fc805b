"""Turn PEFT's LoraConfig into the settings of a search: which layers of a given model get LoRA, and
k."""

import dataclasses
from typing import Any

from peft import LoraConfig
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers import PreTrainedModel

from autolora.configs.errors import UserError
from autolora.configs.layers import settings
from autolora.configs.section import ALL_LINEAR
from autolora.configs.training import LoraSettings
from autolora.problems.models.layers import (
    heads_of_peft,
    layer_shapes,
    name_of,
    with_modules_to_save,
    with_weights,
)
from autolora.problems.models.load import BaseModel
from autolora.problems.models.names import parts_of

# Fields that the search reads, or that do not change what it computes; every other field must have
# its default.
_READ = {
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "modules_to_save",
    "task_type",
    "peft_type",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "fan_in_fan_out",
    "peft_version",
    "runtime_config",
}


def refuse_other_configs(config: Any) -> None:
    """Raises UserError for another kind of adapter, and for a field that the search does not read
    (DoRA, rsLoRA, patterns): the ranks would be those of another adapter."""
    if type(config) is not LoraConfig:
        raise UserError(
            f"lora_config: {type(config).__name__} is not allowed; allowed: a peft.LoraConfig"
        )
    for name, default in vars(LoraConfig()).items():
        if name not in _READ and (value := getattr(config, name)) != default and (value or default):
            raise UserError(
                f"lora_config: {name} is not allowed in a search; allowed: its default, {default!r}"
            )


def lora_settings(config: LoraConfig, model: PreTrainedModel) -> LoraSettings:
    """The LoraSettings that a LoraConfig means for this model; its r is k.

    Raises UserError for a value of a wrong type, and for targets that match no layer.
    """
    heads = heads_of_peft(config.task_type)
    found = {
        "target_modules": _targets(config, model),
        "modules_to_save": [name for name in config.modules_to_save or [] if name not in heads],
        "k": config.r,
        "lora_alpha": config.lora_alpha,
        "dropout": config.lora_dropout,
    }
    run: Any = settings({"lora": found})
    lora: LoraSettings = run.lora
    return lora


def _targets(config: LoraConfig, model: nn.Module) -> list[str]:
    """The names of the layers that PEFT matches, or all-linear."""
    if config.target_modules == ALL_LINEAR:
        return [ALL_LINEAR]
    kind = getattr(getattr(model, "config", None), "model_type", "")
    targets: Any = config.target_modules or TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(
        kind, []
    )
    config = dataclasses.replace(config, target_modules=targets)
    names = list(layer_shapes(model))
    # a regular expression that matches a fused layer would match its parts, too
    if not isinstance(targets, str):
        names += [part for name in names if name.endswith("c_attn") for part in parts_of(name)]
    found = [name for name in names if check_target_module_exists(config, name)]
    if not found:
        raise UserError(
            f"lora_config: target_modules={targets!r} matches no linear layer that the rows "
            f"pass through in {name_of(model)}; there are: {', '.join(names)[:300]}"
        )
    return found


def trained_whole(model: PreTrainedModel, config: LoraConfig, settings: LoraSettings) -> BaseModel:
    """The model, with the names of the modules that PEFT trains whole beside LoRA.

    These are `modules_to_save`, and for a classifier the head modules that PEFT adds by itself:
    all, at any depth, whose names end in `classifier` or `score`, such as DistilBERT's
    pre_classifier. Raises UserError as `with_modules_to_save` does."""
    ends = heads_of_peft(config.task_type)
    found = [name for name in with_weights(model) if name.endswith(ends)]
    heads = [name for name in found if not any(name.startswith(f"{other}.") for other in found)]
    return with_modules_to_save(
        BaseModel(model, heads), settings.modules_to_save, settings.target_modules
    )
