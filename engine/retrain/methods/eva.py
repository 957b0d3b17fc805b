"""EVA (Paischer et al., arXiv 2410.07170) in PEFT's version: the principal components of each
layer's inputs, over the training rows, give the ranks and A."""

import time
from dataclasses import replace
from typing import Any

import torch
from peft import EvaConfig, get_eva_state_dict
from torch import Tensor
from torch.utils.data import DataLoader

from autolora.engine.retrain.controls import record_of
from autolora.engine.retrain.methods.lora import lora_at
from autolora.engine.retrain.prepared import Prepared
from autolora.engine.run.context import Context
from autolora.problems.batches import epoch_batches
from autolora.problems.models.attach import factors, lora_config, lora_layers
from autolora.problems.models.layers import lora_layers_of
from autolora.problems.models.load import BaseModel
from autolora.problems.tasks.chat import Conversations


@torch.no_grad()
def prepare(base: BaseModel, run: Context) -> Prepared:
    """Plain LoRA at the ranks that explain most of the variance of the layers' inputs; A starts as
    their principal components, B as 0."""
    began = time.perf_counter()
    found = run.processes.of_first(lambda: _components(base, run))
    record = record_of(
        {name: len(a) for name, a in found.items()}, run.adapted.lora.k, run.config.method
    )
    prepared = lora_at(record, base, run)
    model: Any = prepared.model
    for name, layer in lora_layers(model).items():
        factors(layer)[0].copy_(found[name])
    return replace(prepared, seconds=time.perf_counter() - began)


def _components(base: BaseModel, run: Context) -> dict[str, Tensor]:
    """Layer -> the rows of its A [rank, inputs], which are principal components; no rows for a
    layer of rank 0."""
    lora = run.adapted.lora
    size = run.config.retrain.batch_size
    rows = run.data.train
    layers = lora_layers_of(base.model, lora)
    settings = lora_config(
        lora,
        run.task.peft_type,
        base.trained_whole,
        r=lora.r,
        target_modules=layers,
        init_lora_weights="eva",
        eva_config=EvaConfig(rho=lora.rho),
    )
    batches = epoch_batches(rows.lengths, size, run.config.seed, 0, short_last=True)

    def collate(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        """PEFT leaves out padding and, where labels are given, what has none: the prompt. Those of
        classes are none of tokens."""
        batch = rows.collate(examples)
        return {
            name: batch[name]
            for name in batch
            if name != "labels" or isinstance(run.task, Conversations)
        }

    model: Any = base.model
    # PEFT needs fp64; 4 bits lie there
    if run.compute.device.type != "mps" and run.config.model.dtype != "nf4":
        model.to(run.compute.device)
    found = get_eva_state_dict(
        model,
        DataLoader(rows.examples, batch_sampler=batches, collate_fn=collate),
        settings,
        gather_distributed_inputs=False,
        show_progress_bar=False,
    )
    return {name: found[name].cpu() for name in layers}
