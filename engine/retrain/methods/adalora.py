"""AdaLoRA (Zhang et al., ICLR 2023, arXiv 2303.10512) in PEFT's version, with a schedule for the run's steps."""

import math
from typing import Any

import torch
from peft import AdaLoraConfig, PeftModel
from torch import nn
from transformers import TrainerCallback

from autolora.configs.errors import UserError
from autolora.configs.schema import Adalora
from autolora.engine.export.lora_config import alpha_of
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.retrain.methods.base import length_of
from autolora.engine.retrain.methods.lora import as_plain_lora
from autolora.engine.retrain.prepared import Prepared
from autolora.engine.run.context import Context
from autolora.problems.models.attach import ADAPTER, attach, lora_config, lora_layers
from autolora.problems.models.layers import lora_layers_of
from autolora.problems.models.load import BaseModel

LEAST_STEPS = 10
"""Its three phases (warm-up, allocation, training at the final ranks) need some steps each."""


def schedule(steps: int) -> dict[str, int]:
    """PEFT's schedule in optimiser steps. As in AdaLoRA's GLUE runs, the ranks stay fixed in the first 1/8 of the
    steps and in the last 1/2.

    At least two steps come before the allocation: while the singular values are still 0, every importance is 0, too.
    Raises UserError when there are too few steps.
    """
    if steps < LEAST_STEPS:
        raise UserError(
            f"--retrain.epochs: gives {steps} optimiser steps, but --method adalora needs "
            f"{LEAST_STEPS} or more; give more epochs or --retrain.max_steps"
        )
    return {"total_step": steps, "tinit": max(2, steps // 8), "tfinal": steps // 2, "deltaT": max(1, steps // 500)}


def initial_rank(rank: int) -> int:
    """The rank before an allocation that leaves `rank` on average: 1.5 times as much, as in AdaLoRA's experiments."""
    return math.ceil(1.5 * rank)


def prepare(base: BaseModel, run: Context, rows: int) -> Prepared:
    """LoRA as B E A, with orthogonal A and B, at the initial rank; the callback drops the least important values in E
    during the training. B (E A) is then plain LoRA."""
    config = run.adapted
    like = lora_config(config.lora, run.task.peft_type, base.trained_whole)
    rank = initial_rank(config.lora.r)
    alike = ("task_type", "modules_to_save", "lora_dropout")
    fields: dict[str, Any] = {name: getattr(like, name) for name in alike}
    fields["target_modules"] = lora_layers_of(base.model, config.lora)
    # PEFT still divides lora_alpha by the initial rank after it has reduced the ranks.
    fields["lora_alpha"] = alpha_of(config, rank, config.lora.k, rank)
    fields |= schedule(length_of(config.retrain, rows).steps)
    model = attach(base.model, AdaLoraConfig(init_r=rank, target_r=config.lora.r, **fields))
    _regularise_in_training_only(model)
    return Prepared(model, callbacks=[Allocate(model)], finish=lambda: _plain(model, run), resumes=False)


@torch.no_grad()
def _plain(model: PeftModel, run: Context) -> Prepared:
    updates = {}
    for name, found in lora_layers(model).items():
        layer: Any = found
        # Boolean [r]: the components that are left. After every step the allocation sets E of the others to 0.
        kept = (layer.lora_E[ADAPTER] != 0).flatten()
        # PEFT's own forward pass divides by ranknum + 1e-5.
        scale = layer.scaling[ADAPTER] / (layer.ranknum[ADAPTER] + 1e-5)
        a = (layer.lora_A[ADAPTER] * layer.lora_E[ADAPTER])[kept]
        updates[name] = a, layer.lora_B[ADAPTER][:, kept] * scale
    left = tuple(LayerRank(name, len(a)) for name, (a, _) in updates.items())
    return as_plain_lora(model, RankRecord(run.adapted.lora.k, left, rule=Adalora.recorded_rule), updates, run)


def _regularise_in_training_only(model: PeftModel) -> None:
    """Turns PEFT's orthogonal regularisation off in evaluation, where it would be added to the reported loss."""
    settings: Any = model.peft_config[ADAPTER]
    weight = settings.orth_reg_weight

    def choose(module: nn.Module, inputs: Any) -> None:
        settings.orth_reg_weight = weight if module.training else 0.0

    model.register_forward_pre_hook(choose)


class Allocate(TrainerCallback):
    """Calls PEFT's update_and_allocate after each step, before gradients are cleared."""

    def __init__(self, model: PeftModel) -> None:
        self.tuner: Any = model.base_model
        self.settings: Any = model.peft_config[ADAPTER]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Sets the schedule for the real number of steps."""
        for name, value in schedule(state.max_steps).items():
            setattr(self.settings, name, value)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Trainer calls this between optimizer.step() and zero_grad(), and counts the step only after it."""
        self.tuner.update_and_allocate(state.global_step + 1)
