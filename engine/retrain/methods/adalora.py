"""AdaLoRA (Zhang et al., ICLR 2023, arXiv 2303.10512) as PEFT has it, its schedule derived from the run's steps."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from peft import AdaLoraConfig, PeftModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback

from configs.errors import UserError
from configs.rules import ADALORA_LEAST_STEPS
from engine import ranks
from engine.export.lora_config import alpha_of
from engine.export.outputs import save_all
from engine.ranks import LayerRank, RankRecord
from engine.retrain import checkpoint as retrain_checkpoint
from engine.retrain.length import length_of
from engine.retrain.methods.base import Method, Prepared
from engine.retrain.methods.lora import as_plain_lora
from engine.retrain.owners import ADALORA
from engine.run.context import Context
from problems.models.attach import ADAPTER, attach, lora_config, lora_layers
from problems.models.layers import lora_layers_of
from problems.models.load import BaseModel

_TENSORS, _PATTERN = "adalora.safetensors", "adalora.json"


def schedule(steps: int) -> dict[str, int]:
    """Phases in optimiser steps, in the proportions of AdaLoRA's GLUE runs: 1/8 before, 1/2 after the allocation.

    At least two steps come first: until the singular values have left 0, every importance is 0. Raises UserError when
    there are too few steps.
    """
    if steps < ADALORA_LEAST_STEPS:
        raise UserError(
            f"--retrain.epochs: they make {steps} optimiser steps, --method adalora needs {ADALORA_LEAST_STEPS} or "
            f"more; give more epochs or --retrain.max_steps"
        )
    return {"total_step": steps, "tinit": max(2, steps // 8), "tfinal": steps // 2, "deltaT": max(1, steps // 500)}


def initial_rank(rank: int) -> int:
    """Rank before the allocation, for `rank` on average after it: half as much again, as in AdaLoRA's experiments."""
    return math.ceil(1.5 * rank)


class AdaLora(Method):
    """B E A with orthogonal A and B; the least important of all singular values E are dropped during the training."""

    def prepare(self, base: BaseModel, run: Context, rows: int) -> Prepared:
        """PEFT's AdaLoRA at the initial rank; the callback allocates."""
        config = run.config
        like = lora_config(config.lora, run.task.peft_type, base.trained_whole)
        rank = initial_rank(config.lora.r)
        alike = ("task_type", "modules_to_save", "lora_dropout")
        fields: dict[str, Any] = {name: getattr(like, name) for name in alike}
        fields["target_modules"] = lora_layers_of(base.model, config.lora)
        # PEFT divides by the initial rank, for good.
        fields["lora_alpha"] = alpha_of(config, rank, config.lora.k)
        fields |= schedule(length_of(config.retrain, rows).steps)
        model = attach(base.model, AdaLoraConfig(init_r=rank, target_r=config.lora.r, **fields))
        _regularise_in_training_only(model)
        return Prepared(model, callbacks=[Allocate(model)])

    def save(self, prepared: Prepared, run: Context) -> RankRecord | None:
        """ranks.json and the model as plain LoRA at the allocated ranks: B (E A) is one; the function is the same."""
        config, trained = run.config, prepared.model
        assert isinstance(trained, PeftModel)
        layers: dict[str, Any] = dict(lora_layers(trained))
        # Which components are left, boolean [r]: the allocation sets the others' singular value to 0 after every step.
        kept = {name: (layer.lora_E[ADAPTER] != 0).flatten() for name, layer in layers.items()}
        record = RankRecord(config.lora.k, tuple(LayerRank(n, int(x.sum())) for n, x in kept.items()), rule=ADALORA)
        plain, record = as_plain_lora(trained, record, run)
        for name, layer in lora_layers(plain).items():
            _copy(layers[name], kept[name], layer)
        ranks.save(record, run.folder.ranks)
        save_all(plain, run.tokenizer, run.folder, config)
        return record


@torch.no_grad()
def _copy(source: Any, kept: torch.Tensor, target: Any) -> None:
    """The kept components of an AdaLoRA layer as those of a LoRA layer: E goes into A, the scales' quotient into B."""
    # PEFT's own forward pass divides by ranknum + 1e-5.
    scale = source.scaling[ADAPTER] / (source.ranknum[ADAPTER] + 1e-5) / target.scaling[ADAPTER]
    target.lora_A[ADAPTER].weight.copy_((source.lora_A[ADAPTER] * source.lora_E[ADAPTER])[kept])
    target.lora_B[ADAPTER].weight.copy_(source.lora_B[ADAPTER][:, kept] * scale)


def _regularise_in_training_only(model: PeftModel) -> None:
    """PEFT adds the orthogonal regularisation to every loss, also to the one that is reported."""
    settings: Any = model.peft_config[ADAPTER]
    weight = settings.orth_reg_weight

    def choose(module: nn.Module, inputs: Any) -> None:
        settings.orth_reg_weight = weight if module.training else 0.0

    model.register_forward_pre_hook(choose)


class Allocate(TrainerCallback):
    """Calls PEFT's update_and_allocate after each step while the gradients are there; its state is checkpointed."""

    def __init__(self, model: PeftModel) -> None:
        self.tuner: Any = model.base_model
        self.settings: Any = model.peft_config[ADAPTER]
        # If PEFT saw the pattern, it would cut a checkpoint's tensors to the ranks, and they could not be resumed.
        self.pattern: dict[str, list[bool]] | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Takes the real number of steps, and on resuming the state in the checkpoint."""
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
        """Runs before the checkpoint is sealed."""
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
