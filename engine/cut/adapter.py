"""Which adapters are cut: those of PEFT's type LORA whose update of every layer is B A, times a scale."""

import re

from peft import LoraConfig, PeftConfig, PeftModel, PeftType
from peft.tuners.lora import LoraLayer
from torch import nn

from autolora.configs.errors import UserError
from autolora.problems.models.attach import lora_layers

_MOVE_THE_BASE = ("pissa", "corda", "olora", "lora_ga", "loftq")
"""Initial values that PEFT also takes from the base's weights, again whenever it loads the adapter: with fewer ranks
it would take less, and the model would be another one."""
_OF_PEFT = re.compile(r"\.(?:base_layer|lora_\w+|modules_to_save|original_module)(?:\.|$)")


def adapter_of(model: PeftModel) -> str:
    """The name of the one active adapter. Raises UserError, which names the reason, for an adapter that is not cut."""
    active = model.active_adapters
    if len(active) != 1:
        raise UserError(f"the adapters {', '.join(active)} are active at once; allowed: one (model.set_adapter)")
    if reason := _refusal(model.peft_config[active[0]]) or _layer_refusal(model, active[0]):
        raise UserError(f"the adapter {active[0]} cannot be measured or cut: {reason}; allowed: LoRA on linear layers")
    return active[0]


def modules_of(model: PeftModel) -> set[str]:
    """Names of all modules of the base model, without those that PEFT put into it."""
    return {name for name, _ in model.get_base_model().named_modules() if not _OF_PEFT.search(name)}


def _refusal(config: PeftConfig) -> str | None:
    """Why an adapter with this configuration is not cut; None if it is."""
    if config.peft_type == PeftType.ADALORA:
        return "it is of PEFT's type ADALORA; convert it first, to LoRA with diag(E) A in the place of A"
    if not isinstance(config, LoraConfig):
        return f"it is of PEFT's type {PeftType(config.peft_type).value}; convert it first (peft.convert_to_lora)"
    if config.use_dora:
        return "it is DoRA (use_dora)"
    if config.target_parameters:
        return f"it has LoRA on expert parameters (target_parameters: {', '.join(config.target_parameters)})"
    if config.lora_bias or config.bias != "none":
        return f"it trained biases ({'lora_bias' if config.lora_bias else f'bias: {config.bias}'})"
    if str(config.init_lora_weights).startswith(_MOVE_THE_BASE):
        return (
            f"its initial values ({config.init_lora_weights}) changed the base model; convert it first "
            f"(model.save_pretrained with path_initial_model_for_weight_conversion)"
        )
    return None


def _layer_refusal(model: PeftModel, adapter: str) -> str | None:
    """Why an adapter with these layers is not cut; None if it is."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    for name, layer in layers.items():
        if adapter in layer.lora_embedding_A:
            return f"it has LoRA on an embedding ({name})"
        if adapter in layer.lora_A and not isinstance(layer.lora_A[adapter], nn.Linear):
            return f"it has LoRA on a convolution ({name})"
        if adapter in layer.lora_variant:
            return f"it is another kind of LoRA ({type(layer.lora_variant[adapter]).__name__})"
    return None


__all__ = ["adapter_of", "lora_layers", "modules_of"]
