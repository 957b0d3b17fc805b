"""Turn PEFT's LoraConfig into the settings of a search: which layers of a given model get LoRA, and k."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from peft import LoraConfig, PeftConfig, PeftType, TaskType
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers import PreTrainedModel

from autolora.configs.errors import UserError
from autolora.configs.layers import validated
from autolora.configs.section import ALL_LINEAR
from autolora.configs.training import LoraSettings
from autolora.problems.models.layers import MATRICES, heads_of_peft, layer_shapes, lora_layers_of
from autolora.problems.models.load import BaseModel
from autolora.problems.models.parts import split
from autolora.problems.models.whole import with_modules_to_save

# Fields that the search reads, or that do not change what it computes; every other field must have its default.
_READ = {
    "r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save", "task_type", "peft_type", "auto_mapping",
    "base_model_name_or_path", "revision", "inference_mode", "fan_in_fan_out", "peft_version", "runtime_config",
}  # fmt: skip

_GENERATING = (TaskType.CAUSAL_LM, TaskType.SEQ_2_SEQ_LM)


def lora_settings(config: Any, model: PreTrainedModel) -> LoraSettings:
    """The LoraSettings that a LoraConfig means for this model; its r is k.

    Raises UserError for another kind of adapter, for a field that the search does not support (DoRA, rsLoRA,
    patterns) or whose type is wrong, for a task type that PEFT cannot give to this model, for targets that match no
    layer, and for layers that PEFT could not tell from others.
    """
    refuse_other_configs(config)
    _refuse_task_type(config, model)
    whole = [name for name in config.modules_to_save or [] if name not in heads_of_peft(config.task_type)]
    found = {
        "target_modules": _targets(config, model), "modules_to_save": whole, "k": config.r,
        "lora_alpha": _float(config.lora_alpha), "dropout": _float(config.lora_dropout),
    }  # fmt: skip
    settings: LoraSettings = validated(LoraSettings, "lora_config", found)
    _refuse_alike(model, lora_layers_of(model, settings))
    return settings


def trained_whole(model: PreTrainedModel, config: LoraConfig, settings: LoraSettings) -> BaseModel:
    """The model, with the names of the modules that PEFT trains whole beside LoRA.

    These are `modules_to_save`, and for a classifier the head modules that PEFT adds by itself: all, at any depth,
    whose names end in `classifier` or `score`, such as DistilBERT's pre_classifier. Raises UserError as
    `with_modules_to_save` does."""
    ends = heads_of_peft(config.task_type)
    heads: list[str] = []
    for name, module in model.named_modules():  # a module comes before those inside it
        inside = any(name.startswith(f"{head}.") for head in heads)
        if name.endswith(ends) and not inside and any(True for _ in module.parameters()):
            heads.append(name)
    return with_modules_to_save(BaseModel(model, heads), settings.modules_to_save, settings.target_modules)


def refuse_other_configs(config: Any) -> None:
    """Raises UserError for what is no LoraConfig that a search can read, whatever the model: another kind of adapter,
    a field that the search does not support, and names of modules in another form than PEFT's."""
    _refuse_others(config)
    targets = config.target_modules
    for name, value, allowed in (
        ("target_modules", None if isinstance(targets, str) else targets, f"names, {ALL_LINEAR!r}, or None"),
        ("modules_to_save", config.modules_to_save, "a list of names, or None"),
    ):
        if value is not None and not (isinstance(value, list | set | tuple) and all(type(x) is str for x in value)):
            raise UserError(f"lora_config: {name}={value!r} is not allowed; allowed: {allowed}")
    if isinstance(targets, str) and targets != ALL_LINEAR:
        _compiled(targets)


def _refuse_others(config: Any) -> None:
    if not isinstance(config, LoraConfig) or config.peft_type != PeftType.LORA:
        kind = type(config).__name__
        raise UserError(
            f"lora_config: {kind} is not allowed; allowed: a peft.LoraConfig, whose r is the largest rank of a layer"
        )
    plain = LoraConfig()
    for name in (field.name for field in dataclasses.fields(config)):
        value = getattr(config, name)
        if name in _READ or value == getattr(plain, name) or (not value and not getattr(plain, name)):
            continue
        value = f"{value:.40}" if isinstance(value, str) else type(value).__name__ if _large(value) else value
        raise UserError(
            f"lora_config: {name}={value!r} is not allowed in a search; allowed: its default, {getattr(plain, name)!r}"
        )


def _refuse_task_type(config: LoraConfig, model: nn.Module) -> None:
    """Raises UserError for a task type whose PeftModel needs more than this model has."""
    needs = "prepare_inputs_for_generation" if config.task_type in _GENERATING else "config"
    if config.task_type is not None and not hasattr(model, needs):
        kind = TaskType(config.task_type).value
        raise UserError(
            f"lora_config: task_type={kind!r} is not allowed for {type(model).__name__}, which has no {needs}; "
            f"allowed: None, or a task type that the model was made for"
        )


def _refuse_alike(model: nn.Module, layers: Sequence[str]) -> None:
    """Raises UserError for a layer whose name, read as PEFT reads the keys of its patterns, also matches another layer
    or the end of its name: the other one would get its rank."""
    others = [name for name, module in model.named_modules() if isinstance(module, MATRICES)]
    for layer in (split(name)[0] for name in layers):
        pattern = re.compile(rf"(.*\.)?({layer})")  # PEFT reads its keys so; a dot stands for any letter
        alike = next((name for name in others if name != layer and pattern.fullmatch(name)), None)
        if alike is not None:
            raise UserError(
                f"lora_config: target_modules: layer {layer!r} is not allowed, as PEFT would give its rank to "
                f"{alike!r} too, whose name ends like it; allowed: layers whose names are not the ending of others "
                f"(rename one, or leave {layer!r} out)"
            )


def _float(value: Any) -> Any:
    """A whole number as a float; any other value as it is."""
    return float(value) if type(value) is int else value


def _large(value: Any) -> bool:
    return isinstance(value, PeftConfig | dict | list) and len(repr(value)) > 80


def _targets(config: LoraConfig, model: nn.Module) -> list[str]:
    """Names, or endings of names, of the layers that get LoRA. Raises UserError for targets that match no layer."""
    targets: Any = config.target_modules
    if targets is None:
        kind = getattr(getattr(model, "config", None), "model_type", "")
        targets = TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind)
        if targets is None:
            raise UserError("lora_config: target_modules is None, and PEFT has no default for this model; give names")
    if isinstance(targets, str) and targets != ALL_LINEAR:
        pattern, targets = targets, [name for name in layer_shapes(model) if _compiled(targets).fullmatch(name)]
        if not targets:
            raise UserError(
                f"lora_config: target_modules={pattern!r} matches no linear layer of this model; a text is a regular "
                f"expression that must match whole names, such as {next(iter(layer_shapes(model)), '')!r}; also "
                f"allowed: a list of names or endings, {ALL_LINEAR!r}"
            )
    return [targets] if isinstance(targets, str) else sorted(targets)


def _compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression. Raises UserError for a text that is none."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"lora_config: target_modules={pattern!r} is no regular expression: {error}") from error
