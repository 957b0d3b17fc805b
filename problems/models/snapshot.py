"""Prepare a model that a script gives for a search: record its state, restore it later, and remove
its adapters."""

from collections.abc import Iterable
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from autolora.configs.errors import UserError


class Snapshot:
    """The state of a model: modules, hooks, modes, configurations, gradients, flags, buffers, and
    the device and dtype of its weights.

    Frozen weights are not copied, as a search does not change them. `whole`: full names of the
    modules that are trained whole; their weights are copied.
    """

    def __init__(self, model: nn.Module, whole: Iterable[str] = ()) -> None:
        both = ((module, vars(module).get("config")) for module in model.modules())
        owners: list[Any] = [owner for pair in both for owner in pair if hasattr(owner, "__dict__")]
        self._attributes = [(owner, dict(vars(owner))) for owner in owners]
        values = (value for _, attributes in self._attributes for value in attributes.values())
        self._inside = [(value, value.copy()) for value in values if isinstance(value, dict | set)]
        self._parameters = [(p, p.data, p.requires_grad, p.grad) for p in model.parameters()]
        trained = {p for name in whole for p in model.get_submodule(name).parameters()}
        self._copies = [
            (tensor, tensor.detach().clone()) for tensor in (*model.buffers(), *trained)
        ]

    @torch.no_grad()
    def restore(self) -> None:
        """Restores the recorded state, bit for bit."""
        for owner, values in self._attributes:
            vars(owner).clear()
            vars(owner).update(values)
        # Handles of hooks refer to these mappings, so the objects stay and only their content is
        # replaced.
        for mapping, content in self._inside:
            mapping.clear()
            mapping.update(content)
        for parameter, data, trained, grad in self._parameters:
            parameter.data = data
            parameter.requires_grad_(trained)
            parameter.grad = grad
        for tensor, value in self._copies:
            tensor.copy_(value)


def take_adapters_off(model: nn.Module) -> None:
    """Replaces PEFT's layers, and modules that an adapter trains whole, by the base model's own.

    The adapter's weights do not change. Raises UserError for a merged adapter, as the base model's
    weights would hold what it learned.
    """
    if any(isinstance(module, BaseTunerLayer) and module.merged for module in model.modules()):
        raise UserError(
            "model: an adapter is merged into its weights; call model.unmerge_adapter() before"
        )
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BaseTunerLayer):
                setattr(module, name, child.get_base_layer())
            elif isinstance(child, AuxiliaryTrainingWrapper):
                setattr(module, name, child.original_module)
    for name in ("peft_config", "_hf_peft_config_loaded"):
        vars(model).pop(name, None)
