"""AdaLoRA (Zhang et al., ICLR 2023, arXiv 2303.10512) in PEFT's version, with a schedule for the
run's steps."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from peft import AdaLoraConfig, PeftModel
from transformers import TrainerCallback

from autolora.configs.training import LoraAtRank
from autolora.engine.export.lora_config import alpha_of
from autolora.engine.retrain.methods.lora import PlainLora, as_plain_lora
from autolora.engine.retrain.prepared import Prepared, Training
from autolora.engine.world import World
from autolora.problems.models.attach import ADAPTER, attach, lora_config, lora_layers
from autolora.problems.models.layers import lora_layers_of
from autolora.problems.models.load import BaseModel


def schedule(steps: int) -> dict[str, Any]:
    """PEFT's schedule in optimiser steps. As in AdaLoRA's GLUE runs, the ranks stay fixed in the
    first 1/8 of the steps and in the last 1/2.

    At least two steps come before the allocation: while the singular values are still 0, every
    importance is 0, too.
    """
    return {
        "total_step": steps,
        "tinit": max(2, steps // 8),
        "tfinal": steps // 2,
        "deltaT": max(1, steps // 500),
    }


def initial_rank(rank: int) -> int:
    """The rank before an allocation that leaves `rank` on average: 1.5 times as much, as in
    AdaLoRA's experiments."""
    return math.ceil(1.5 * rank)


@dataclass(frozen=True)
class AdaLora:
    """LoRA as B E A, with orthogonal A and B, at the initial rank; the callback drops the least
    important values in E during the training. B (E A) is then plain LoRA."""

    lora: LoraAtRank
    form: PlainLora

    def prepare(self, base: BaseModel, training: Training, world: World) -> Prepared:
        """See Method."""
        lora = self.lora
        like = lora_config(lora, training.scoring.peft_type, base.trained_whole)
        rank = initial_rank(lora.r)
        # PEFT still divides lora_alpha by the initial rank after it has reduced the ranks.
        alpha: Any = alpha_of(lora.lora_alpha, self.form.scale, rank, lora.k, rank)
        settings = AdaLoraConfig(
            init_r=rank,
            target_r=lora.r,
            target_modules=lora_layers_of(base.model, lora),
            task_type=like.task_type,
            modules_to_save=like.modules_to_save,
            lora_dropout=like.lora_dropout,
            lora_alpha=alpha,
            **schedule(100),  # PEFT asks for one here; Allocate gives that of the training's steps
        )
        model = attach(base.model, settings)
        return Prepared(
            model, callbacks=[Allocate(model)], finish=lambda: self._plain(model, training)
        )

    @torch.no_grad()
    def _plain(self, model: PeftModel, training: Training) -> Prepared:
        updates = {}
        for name, found in lora_layers(model).items():
            layer: Any = found
            # Boolean [r]: the components that are left. After every step the allocation sets E of
            # the others to 0.
            kept = (layer.lora_E[ADAPTER] != 0).flatten()
            # PEFT's own forward pass divides by ranknum + 1e-5.
            scale = layer.scaling[ADAPTER] / (layer.ranknum[ADAPTER] + 1e-5)
            a = (layer.lora_A[ADAPTER] * layer.lora_E[ADAPTER])[kept]
            updates[name] = a, layer.lora_B[ADAPTER][:, kept] * scale
        left = {name: len(a) for name, (a, _) in updates.items()}
        record = self.form.named(left, self.lora.k)
        return as_plain_lora(model, record, updates, self.form, training)


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
        """Trainer calls this between optimizer.step() and zero_grad(), and counts the step only
        after it."""
        self.tuner.update_and_allocate(state.global_step + 1)
