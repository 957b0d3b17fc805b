"""Attach stock PEFT LoRA to a model."""

from collections.abc import Sequence
from typing import Any

from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from autolora.configs.errors import UserError
from autolora.configs.training import LoraSettings, ScaledLora
from autolora.problems.models.layers import heads_of_peft, lora_layers_of, name_of, target_layers

ADAPTER = "default"
PREFIX = "base_model.model."
"""What a PeftModel puts before the names of its base model."""


def lora_config(
    settings: ScaledLora, task_type: TaskType | None, trained_whole: Sequence[str], **more: Any
) -> LoraConfig:
    """PEFT's configuration; `trained_whole`: the modules that are trained and saved whole, such as
    the task head; `more`: ranks, target modules and other fields."""
    heads = heads_of_peft(task_type)  # listed here too, they would be there twice
    fields: dict[str, Any] = {
        "task_type": task_type,
        "lora_alpha": settings.lora_alpha,
        "lora_dropout": settings.dropout,
        "modules_to_save": [name for name in trained_whole if name not in heads] or None,
    }
    return LoraConfig(**(fields | more))


def attach_components(
    model: PreTrainedModel,
    settings: LoraSettings,
    task_type: TaskType | None,
    trained_whole: Sequence[str],
) -> PeftModel:
    """`model` with k components, each at the scale lora_alpha / k, in every layer that the targets
    name.

    Raises UserError as `target_layers` and `attach` do.
    """
    layers = lora_layers_of(model, settings)
    return attach(
        model, lora_config(settings, task_type, trained_whole, r=settings.k, target_modules=layers)
    )


def attach(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """`model` frozen, with LoRA and a trainable head.

    Raises UserError as `target_layers` does, for what PEFT refuses, and where it gives LoRA to
    other layers: it leaves out layers in modules that are trained whole, takes names such as
    `down_proj` for the experts of some models, and takes `fc` also for `block.fc`.
    """
    targets = target_layers(model, sorted(config.target_modules or []))  # PEFT keeps them as a set
    # PEFT would set this itself, with a warning.
    config.fan_in_fan_out = all(isinstance(model.get_submodule(name), Conv1D) for name in targets)
    try:
        peft_model = get_peft_model(model, config)
    except (ValueError, TypeError) as error:
        raise UserError(f"--lora.target_modules: {' '.join(str(error).split())}") from error
    assert isinstance(peft_model, PeftModel)
    if other := lora_layers(peft_model).keys() ^ set(targets):
        raise UserError(
            f"--lora.target_modules: PEFT takes {min(other)} of {name_of(model)} otherwise"
        )
    return peft_model


def lora_layers(model: PeftModel, adapter: str = ADAPTER) -> dict[str, LoraLayer]:
    """Name in the base model (without PEFT's prefix) -> layer with this adapter, in the model's
    order."""
    return {
        name: module
        for name, module in model.get_base_model().named_modules()
        if isinstance(module, LoraLayer) and adapter in module.lora_A
    }


def factors(layer: LoraLayer, adapter: str = ADAPTER) -> tuple[Tensor, Tensor]:
    """A [k, inputs] and B [outputs, k] of a layer."""
    a: Any = layer.lora_A[adapter]
    b: Any = layer.lora_B[adapter]
    return a.weight, b.weight
