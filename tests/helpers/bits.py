"""A quantised model beside the same one in fp32."""

from copy import deepcopy
from typing import Any

from peft.utils.integrations import dequantize_module_weight
from torch import nn


def dequantised(model: Any) -> Any:
    """A model in fp32 with the weights that the quantised `model` stands for. Biases, which are not
    quantised, are not copied."""
    config = deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    found = type(model)(config)
    for name, module in found.named_modules():
        if getattr(module, "weight", None) is not None:
            other = model.get_submodule(name)
            of_layer = isinstance(other, nn.Linear)
            weight = dequantize_module_weight(other) if of_layer else other.weight
            module.weight.data = weight.detach().float().clone()
    return found.float()
