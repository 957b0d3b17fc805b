"""Attach stock PEFT LoRA to a model."""

from collections.abc import Mapping, Sequence
from typing import Any

from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from autolora.configs.errors import UserError
from autolora.configs.training import LoraSettings, ScaledLora
from autolora.problems.models.layers import heads_of_peft, lora_layers_of, refuse_past_lora, target_layers
from autolora.problems.models.parts import layer_ranks, layout, lies_in
from autolora.problems.models.sparse import KeepSparse

ADAPTER = "default"


def lora_config(
    settings: ScaledLora, task_type: TaskType | None, trained_whole: Sequence[str], **more: Any
) -> LoraConfig:
    """PEFT's configuration; `trained_whole`: the modules that are trained and saved whole, such as the task head;
    `more`: ranks, target modules and other fields."""
    heads = heads_of_peft(task_type)  # listed here too, they would be there twice
    fields: dict[str, Any] = {
        "task_type": task_type,
        "lora_alpha": settings.lora_alpha,
        "lora_dropout": settings.dropout,
        "modules_to_save": [name for name in trained_whole if name not in heads] or None,
    }
    return LoraConfig(**(fields | more))


def attach_components(
    model: PreTrainedModel, settings: LoraSettings, task_type: TaskType | None, trained_whole: Sequence[str]
) -> PeftModel:
    """`model` with k components, each at the scale lora_alpha / k, in every layer or part that the targets name.

    Raises UserError as `target_layers` does.
    """
    groups = dict.fromkeys(lora_layers_of(model, settings), settings.k)
    ranks = layer_ranks(groups)
    larger = {name: rank for name, rank in ranks.items() if rank != settings.k}
    alphas = {name: settings.lora_alpha * rank / settings.k for name, rank in larger.items()}
    config = lora_config(
        settings, task_type, trained_whole, r=settings.k, target_modules=list(ranks), rank_pattern=larger,
        alpha_pattern=alphas,
    )  # fmt: skip
    peft_model = attach(model, config)
    keep_block_sparse(peft_model, groups)
    return peft_model


def keep_block_sparse(model: PeftModel, ranks: Mapping[str, int]) -> None:
    """Keeps B at 0 outside the output rows of each component's part, in all training that follows.

    A layer that has LoRA as a whole, not by parts, does not change.

    `ranks`: group -> rank.
    """
    groups = layout(ranks).values()
    for name, layer in lora_layers(model).items():
        inside = [group for group in groups if group.layer == name and group.part is not None]
        if inside:
            weight: Any = layer.lora_B[ADAPTER].weight
            weight.register_hook(KeepSparse(inside, weight))


def attach(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """`model` frozen, with LoRA and a trainable head.

    Raises UserError as `target_layers` does, and for layers that take no LoRA in this model or are trained whole.
    """
    modules = dict(model.named_modules())
    targets = target_layers(model, sorted(config.target_modules or []))  # PEFT keeps them as a set
    refuse_past_lora(model, targets)
    for target in targets:
        around = [name for name in config.modules_to_save or [] if lies_in(target, name)]
        if around:  # PEFT would leave such layers without LoRA and say nothing
            raise UserError(f"LoRA on {target} is not allowed: {around[0]} is trained whole (--lora.modules_to_save)")
    # PEFT would set this itself, with a warning.
    config.fan_in_fan_out = all(isinstance(modules[name], Conv1D) for name in targets)
    asked = set(targets)
    try:
        peft_model = get_peft_model(model, config)
    except ValueError as error:
        raise UserError(f"--lora.target_modules: PEFT refuses these layers: {' '.join(str(error).split())}") from error
    assert isinstance(peft_model, PeftModel)
    found = lora_layers(peft_model)
    if lost := [name for name in targets if name not in found]:
        rest = sorted({name.rpartition(".")[2] for name in asked} - {name.rpartition(".")[2] for name in lost})
        such = f', such as "[{",".join(rest)}]"' if rest else ""
        raise UserError(
            f"--lora.target_modules: {lost[0]}{f' and {len(lost) - 1} more' if lost[1:] else ''} cannot get LoRA: in "
            f"{model.config.model_type}, PEFT takes this name for the experts; allowed: layers of other names"
            f"{such}"
        )
    return peft_model


def lora_layers(model: PeftModel, adapter: str = ADAPTER) -> dict[str, LoraLayer]:
    """Name in the base model (without PEFT's prefix) -> layer with this adapter, in the model's order."""
    base: nn.Module = model.get_base_model()
    return {
        name: module
        for name, module in base.named_modules()
        if isinstance(module, LoraLayer) and adapter in module.lora_A
    }
