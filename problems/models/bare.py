"""A model of somebody else: everything that a search changes of it, put back as it was, and its adapters taken off."""

from collections.abc import Iterable
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from transformers import PreTrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer


class Snapshot:
    """A model as it is now: modules, hooks, modes, gradients, flags, buffers, and the place and dtype of its weights.

    The weights themselves are not copied, as nobody changes those that are frozen; `whole` names the modules (in full)
    that are trained, whose weights are.
    """

    def __init__(self, model: nn.Module, whole: Iterable[str] = ()) -> None:
        configs = _configs(model)
        self._attributes = [(owner, _contents(owner)) for owner in (*model.modules(), *configs)]
        self._parameters = [(p, p.data, p.requires_grad, p.grad) for p in model.parameters()]
        self._copies = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
        trained = {id(p): p for name in whole for p in model.get_submodule(name).parameters()}
        self._copies += [(p, p.detach().clone()) for p in trained.values()]

    @torch.no_grad()
    def restore(self) -> None:
        """Makes the model what it was, bit for bit."""
        for owner, (values, inside) in self._attributes:
            vars(owner).clear()
            vars(owner).update(values)
            # Handles of hooks know the mapping itself, so that it stays the same object.
            for mapping, content in inside:
                mapping.clear()
                mapping.update(content)
        for parameter, data, trained, grad in self._parameters:
            parameter.data = data
            parameter.requires_grad_(trained)
            parameter.grad = grad
        for tensor, value in self._copies:
            tensor.copy_(value)


def take_adapters_off(model: nn.Module) -> None:
    """Puts the layers of the base model in the place of PEFT's, whose weights stay as they are.

    Modules that an adapter trains whole are again those of the base model.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BaseTunerLayer):
                setattr(module, name, child.get_base_layer())
            elif isinstance(child, AuxiliaryTrainingWrapper):
                setattr(module, name, child.original_module)
    for name in ("peft_config", "_hf_peft_config_loaded"):
        vars(model).pop(name, None)


def stop_recomputing(model: nn.Module) -> bool:
    """Switches transformers' gradient checkpointing off, which would compute a block again without its gates; whether
    it was on in blocks for which `recompute_blocks` can stand in."""
    on: list[Any] = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False) is True]
    for module in on:
        module.gradient_checkpointing = False
    return any(isinstance(module, GradientCheckpointingLayer) for module in on)


def _contents(owner: Any) -> tuple[dict[str, Any], list[tuple[Any, Any]]]:
    """The attributes of a module or a configuration, and what lies in those that are dicts or sets."""
    values = dict(vars(owner))
    return values, [(value, value.copy()) for value in values.values() if isinstance(value, dict | set)]


def _configs(model: nn.Module) -> list[PreTrainedConfig]:
    """The configurations of all modules, and those inside them."""
    waiting = [vars(module).get("config") for module in model.modules()]
    found: dict[int, PreTrainedConfig] = {}
    while waiting:
        config = waiting.pop()
        if isinstance(config, PreTrainedConfig) and id(config) not in found:
            found[id(config)] = config
            waiting += vars(config).values()
    return list(found.values())
