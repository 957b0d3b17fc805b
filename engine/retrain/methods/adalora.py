"""AdaLoRA (Zhang et al., ICLR 2023, arXiv 2303.10512) in PEFT's version, with a schedule for the run's steps."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from peft import AdaLoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback

from autolora.configs.errors import UserError
from autolora.configs.schema import Adalora
from autolora.engine import ranks
from autolora.engine.export.outputs import save_all
from autolora.engine.export.scale import alpha_of
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.retrain import checkpoint as retrain_checkpoint
from autolora.engine.retrain.length import length_of
from autolora.engine.retrain.methods.base import Method, Prepared
from autolora.engine.retrain.methods.lora import as_plain_lora
from autolora.engine.run.context import Context
from autolora.problems.models.attach import ADAPTER, attach, lora_config, lora_layers
from autolora.problems.models.layers import lora_layers_of
from autolora.problems.models.load import BaseModel

_TENSORS, _PATTERN = "adalora.safetensors", "adalora.json"


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


class AdaLora(Method):
    """LoRA as B E A, with orthogonal A and B. The training drops the least important values in E."""

    def prepare(self, base: BaseModel, run: Context, rows: int) -> Prepared:
        """PEFT's AdaLoRA at the initial rank; the callback Allocate reduces the ranks during the training."""
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
        return Prepared(model, callbacks=[Allocate(model)])

    def save(self, prepared: Prepared, run: Context) -> RankRecord | None:
        """Writes ranks.json and the model as plain LoRA at the allocated ranks: B (E A) computes the same function."""
        config, trained = run.adapted, prepared.model
        assert isinstance(trained, PeftModel)
        layers: dict[str, Any] = dict(lora_layers(trained))
        # Boolean [r]: the components that are left. After every step the allocation sets E of the others to 0.
        kept = {name: (layer.lora_E[ADAPTER] != 0).flatten() for name, layer in layers.items()}
        left = tuple(LayerRank(name, int(components.sum())) for name, components in kept.items())
        record = RankRecord(config.lora.k, left, rule=Adalora.recorded_rule)
        plain, record = as_plain_lora(trained, record, run)
        for name, layer in lora_layers(plain).items():
            _copy(layers[name], kept[name], layer)
        ranks.save(record, run.folder.ranks)
        save_all(plain, run.tokenizer, run.folder, config, run.ends)
        return record


@torch.no_grad()
def _copy(source: Any, kept: torch.Tensor, target: Any) -> None:
    """Copies the kept components of an AdaLoRA layer to a LoRA layer; multiplies E into A, and the scales' quotient
    into B."""
    # PEFT's own forward pass divides by ranknum + 1e-5.
    scale = source.scaling[ADAPTER] / (source.ranknum[ADAPTER] + 1e-5) / target.scaling[ADAPTER]
    target.lora_A[ADAPTER].weight.copy_((source.lora_A[ADAPTER] * source.lora_E[ADAPTER])[kept])
    target.lora_B[ADAPTER].weight.copy_(source.lora_B[ADAPTER][:, kept] * scale)


def _regularise_in_training_only(model: PeftModel) -> None:
    """Turns PEFT's orthogonal regularisation off in evaluation, where it would be added to the reported loss."""
    settings: Any = model.peft_config[ADAPTER]
    weight = settings.orth_reg_weight

    def choose(module: nn.Module, inputs: Any) -> None:
        settings.orth_reg_weight = weight if module.training else 0.0

    model.register_forward_pre_hook(choose)


class Allocate(TrainerCallback):
    """Calls PEFT's update_and_allocate after each step, before gradients are cleared; checkpoints hold its state."""

    def __init__(self, model: PeftModel) -> None:
        self.tuner: Any = model.base_model
        self.settings: Any = model.peft_config[ADAPTER]
        # Not kept in PEFT's settings: PEFT would then cut the tensors of a checkpoint to these ranks, and no run could
        # resume from it.
        self.pattern: dict[str, list[bool]] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Sets the schedule for the real number of steps; on resuming, also loads the state from the checkpoint."""
        for name, value in schedule(state.max_steps).items():
            setattr(self.settings, name, value)
        if state.global_step > 0:
            self._load(retrain_checkpoint.place(Path(args.output_dir), state.global_step))

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Trainer calls this between optimizer.step() and zero_grad(), and counts the step only after it."""
        self.settings.rank_pattern = self.pattern
        self.tuner.update_and_allocate(state.global_step + 1)
        self.pattern, self.settings.rank_pattern = self.settings.rank_pattern, None

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Adds the state to the checkpoint, before the callback Seal seals it."""
        if not state.is_world_process_zero:
            return
        folder = retrain_checkpoint.place(Path(args.output_dir), state.global_step)
        averages = self._averages.items()
        save_file({f"{k}/{n}": t.contiguous() for k, found in averages for n, t in found.items()}, folder / _TENSORS)
        (folder / _PATTERN).write_text(json.dumps(self.pattern), encoding="utf-8")

    def _load(self, folder: Path) -> None:
        self.pattern = json.loads((folder / _PATTERN).read_text(encoding="utf-8"))
        for name, value in load_file(folder / _TENSORS).items():
            kind, parameter = name.split("/")
            value = value.to(next(self.tuner.parameters()).device)
            self._averages[kind][parameter] = value
            self.tuner.rankallocator.ipt[parameter] = torch.zeros_like(value)

    @property
    def _averages(self) -> dict[str, dict[str, torch.Tensor]]:
        allocator = self.tuner.rankallocator
        return {"sensitivity": allocator.exp_avg_ipt, "uncertainty": allocator.exp_avg_unc}
