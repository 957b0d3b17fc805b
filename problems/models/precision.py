"""The precision of the frozen weights: fp32, or fewer bits with everything that is trained in
fp32."""

import logging
from functools import partial
from typing import Any

import torch
from accelerate.utils import recursively_apply
from transformers import AutoModelForCausalLM

from autolora.configs.errors import UserError
from autolora.configs.training import ModelConfig
from autolora.problems.machine.compute import Compute
from autolora.problems.models.load import BaseModel, in_body, without_weights

log = logging.getLogger("autolora.inputs")

LARGE = 300_000_000
"""With this many parameters or more, `model.dtype: auto` keeps the weights of a causal model in
bf16."""


def weights_dtype(
    model: ModelConfig, auto_class: Any, compute: Compute, *, trains_all: bool = False
) -> torch.dtype:
    """The dtype of the frozen weights that `model.dtype` asks for.

    auto: bf16 for causal models of LARGE parameters or more, where the run computes in bf16 and not
    every weight is trained; else fp32. Raises UserError when the model's configuration cannot
    be loaded.
    """
    named = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if model.dtype in named:
        return named[model.dtype]
    if (
        auto_class is not AutoModelForCausalLM
        or not compute.bf16
        or trains_all
        or model.dtype == "nf4"
    ):
        return torch.float32
    if without_weights(model, auto_class).num_parameters() < LARGE:
        return torch.float32
    log.info("the frozen weights are in bf16, those that are trained in fp32 (--model.dtype)")
    return torch.bfloat16


def train_in_fp32(base: BaseModel, dtype: torch.dtype) -> BaseModel:
    """Keeps the modules that are trained whole (the task head) in fp32 where the frozen weights are
    in half precision.

    Such a module casts its inputs to fp32. What one inside the base model passes on is cast back to
    the dtype of the frozen weights.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return base
    model = base.model
    for name in base.trained_whole:
        module = model.get_submodule(name).to(torch.float32)
        module.register_forward_pre_hook(
            lambda module, inputs, options: (
                _cast(inputs, torch.float32),
                _cast(options, torch.float32),
            ),
            with_kwargs=True,
        )
    for name in filter(partial(in_body, model), base.trained_whole):
        model.get_submodule(name).register_forward_hook(
            lambda module, inputs, output: _cast(output, dtype)
        )
    return base


def keep_unpacked(model: Any) -> None:
    """Keeps bitsandbytes from packing the weights in 4 bits of a model that lies on a CPU.

    Where the processor has AVX512-BF16, it does so in the first pass in evaluation mode, for good:
    through packed weights flows no slope, and their scales are rounded. Raises UserError if they
    are packed."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if getattr(state, "packing_format_for_cpu", False):
            raise UserError(
                "model: a pass in evaluation mode has packed its weights in 4 bits, and no slope "
                "flows through them any more; give a model that was loaded anew"
            )


def _cast(values: Any, dtype: torch.dtype) -> Any:
    """Casts a tensor of floating point numbers, and all of them in tuples, lists and mappings:
    attention returns a tuple."""
    return recursively_apply(
        lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, values
    )
