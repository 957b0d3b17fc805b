"""EVA (Paischer et al., arXiv 2410.07170) in PEFT's version: the principal components of each
layer's inputs, over the training rows, give the ranks and A."""

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import EvaConfig, TaskType, get_eva_state_dict
from torch import Tensor
from torch.utils.data import DataLoader

from autolora.configs.training import LoraOfEva
from autolora.engine.retrain.methods.lora import PlainLora
from autolora.engine.retrain.prepared import Prepared, Training
from autolora.engine.world import World
from autolora.problems.batches import epoch_batches
from autolora.problems.models.attach import factors, lora_config, lora_layers
from autolora.problems.models.layers import lora_layers_of
from autolora.problems.models.load import BaseModel


@dataclass(frozen=True)
class EvaLora:
    """Plain LoRA at the ranks that explain most of the variance of the layers' inputs; A starts as
    their principal components, B as 0."""

    lora: LoraOfEva
    form: PlainLora

    @torch.no_grad()
    def prepare(self, base: BaseModel, training: Training, world: World) -> Prepared:
        """See Method."""
        began = time.perf_counter()
        found = world.processes.of_first(lambda: self._components(base, training, world))
        record = self.form.named({name: len(a) for name, a in found.items()}, self.lora.k)
        prepared = self.form.at(record, base, training)
        model: Any = prepared.model
        for name, layer in lora_layers(model).items():
            factors(layer)[0].copy_(found[name])
        return replace(prepared, seconds=time.perf_counter() - began)

    def _components(self, base: BaseModel, training: Training, world: World) -> dict[str, Tensor]:
        """Layer -> the rows of its A [rank, inputs], which are principal components; no rows for a
        layer of rank 0."""
        lora = self.lora
        rows = training.rows
        task_type = training.scoring.peft_type
        layers = lora_layers_of(base.model, lora)
        settings = lora_config(
            lora,
            task_type,
            base.trained_whole,
            r=lora.r,
            target_modules=layers,
            init_lora_weights="eva",
            eva_config=EvaConfig(rho=lora.rho),
        )
        size = training.settings.batch_size
        batches = epoch_batches(rows.lengths, size, training.seed, 0, short_last=True)

        def collate(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
            """PEFT leaves out padding and, where labels are given, what has none: the prompt. Those
            of classes are none of tokens."""
            batch = rows.collate(examples)
            return {
                name: batch[name]
                for name in batch
                if name != "labels" or task_type == TaskType.CAUSAL_LM
            }

        model: Any = base.model
        # PEFT needs fp64; 4 bits lie there
        in_4bit = getattr(model, "is_loaded_in_4bit", False)
        if world.compute.device.type != "mps" and not in_4bit:
            model.to(world.compute.device)
        found = get_eva_state_dict(
            model,
            DataLoader(rows.examples, batch_sampler=batches, collate_fn=collate),
            settings,
            gather_distributed_inputs=False,
            show_progress_bar=False,
        )
        return {name: found[name].cpu() for name in layers}
