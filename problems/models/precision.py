"""The precision of the frozen weights: fp32, or bf16 with everything that is trained in fp32."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import recursively_apply
from torch import nn
from transformers import AutoModelForCausalLM

from autolora.configs.schema import RunConfig
from autolora.problems.machine.compute import Compute, multiplying_in_bf16
from autolora.problems.models.body import bodies_of, in_body
from autolora.problems.models.load import BaseModel, load_settings, source_of
from autolora.problems.models.parts import matches

log = logging.getLogger("autolora.inputs")

LARGE = 300_000_000
"""With this many parameters or more, `model.dtype: auto` keeps the weights of a causal model in bf16."""


def weights_dtype(config: RunConfig, auto_class: Any, compute: Compute) -> torch.dtype:
    """The dtype of the frozen weights that `model.dtype` asks for.

    auto: bf16 for causal models of LARGE parameters or more, where the run computes in bf16 and does not train every
    weight; else fp32. Raises UserError when the model's configuration cannot be loaded.
    """
    model = config.model
    if model.dtype in ("fp32", "bf16"):
        return torch.bfloat16 if model.dtype == "bf16" else torch.float32
    if auto_class is not AutoModelForCausalLM or not compute.bf16 or config.trains == "all" or model.dtype == "nf4":
        return torch.float32
    if count_parameters(config, auto_class) < LARGE:
        return torch.float32
    log.info("the frozen weights are in bf16, those that are trained in fp32 (--model.dtype)")
    return torch.bfloat16


def count_parameters(config: RunConfig, auto_class: Any) -> int:
    """The number of parameters of the base model, from its configuration alone; shared ones count once.

    Raises UserError when the configuration cannot be loaded.
    """
    return sum(parameter.numel() for parameter in _without_weights(config, auto_class).parameters())


def _without_weights(config: RunConfig, auto_class: Any) -> Any:
    """The base model of the configuration on the device meta, where weights have shapes and no numbers."""
    settings = load_settings(config.model)
    with source_of(config.model), torch.device("meta"):
        return auto_class.from_config(settings, trust_remote_code=config.model.trust_remote_code)


def train_in_fp32(base: BaseModel, dtype: torch.dtype) -> BaseModel:
    """Keeps the modules that are trained whole (the task head) in fp32 where the frozen weights are in half precision.

    Such a module casts its inputs to fp32. What it passes on to frozen modules is cast back to their `dtype`.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return base
    named = base.model.named_modules()
    trained = {name: module for name, module in named if any(matches(name, whole) for whole in base.trained_whole)}
    for module in trained.values():
        module.to(torch.float32)
        module.register_forward_pre_hook(_to(torch.float32), with_kwargs=True)
    # Found after these casts: the first weight of a model, its embeddings, may be one of those that are trained.
    frozen = next((weight for weight in base.model.parameters() if weight.dtype == dtype), torch.empty(0, dtype=dtype))
    for name, module in trained.items():
        if _passes_on(base.model, name):
            # Inside weights_in_fp32 the frozen modules compute in fp32.
            module.register_forward_hook(lambda module, inputs, output: _cast(output, frozen.dtype))
    return base


def _passes_on(model: nn.Module, name: str) -> bool:
    """Whether frozen modules read the output of this module. In a model without a head, they read that of every module
    but the last one: models define their modules in the order in which they call them."""
    if bodies_of(model):
        return in_body(model, name)
    *_, (last, _) = model.named_parameters()
    return not last.startswith(f"{name}.")


@contextmanager
def weights_in_fp32(model: nn.Module) -> Iterator[None]:
    """Inside the `with` block, frozen bf16 weights are replaced by fp32 copies of the same numbers, and products with
    weights in 4 bits are taken in fp32."""
    kept = [(weight, weight.data) for weight in model.parameters() if weight.dtype == torch.bfloat16]
    in_4bit = multiplying_in_bf16(model)
    try:
        for weight, numbers in kept:
            weight.data = numbers.float()
        for module in in_4bit:
            module.compute_dtype = torch.float32
        yield
    finally:
        for weight, numbers in kept:
            weight.data = numbers
        for module in in_4bit:
            module.compute_dtype = torch.bfloat16


def _to(dtype: torch.dtype) -> Any:
    def cast(module: nn.Module, inputs: Any, options: Any) -> Any:
        return _cast(inputs, dtype), _cast(options, dtype)

    return cast


def _cast(values: Any, dtype: torch.dtype) -> Any:
    """Casts a tensor of floating point numbers, and all of them in tuples, lists and mappings: attention returns a
    tuple."""
    return recursively_apply(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, values)
