"""EVA (Paischer et al., arXiv 2410.07170) in PEFT's version: the principal components of each layer's inputs, over
the training rows, give the ranks and A."""

import dataclasses
import logging
import time
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from peft import EvaConfig, PeftModel
from peft.tuners.lora.eva import get_eva_state_dict
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from autolora.configs import schema
from autolora.configs.errors import UserError
from autolora.engine.export.outputs import save_all
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.retrain.methods.base import Method, Prepared
from autolora.engine.retrain.methods.lora import recorded_lora
from autolora.engine.run.context import Context
from autolora.problems.data import LengthGroupedOrder
from autolora.problems.models.attach import ADAPTER, lora_config, lora_layers
from autolora.problems.models.layers import layer_shapes, lora_layers_of
from autolora.problems.models.load import BaseModel
from autolora.problems.tasks.causal import Causal
from autolora.problems.tasks.labels import IGNORED

log = logging.getLogger("autolora")

_RULE = schema.Eva.recorded_rule
"""Of its ranks.json; also the key under which a run keeps what was found."""

MOST_BATCHES = 1000
"""PEFT repeats the rows until the components converge; if that takes more batches, an error ends the run."""


class Eva(Method):
    """Plain LoRA at the ranks that explain most of the variance of the layers' inputs; A starts as their principal
    components, B as 0."""

    def prepare(self, base: BaseModel, run: Context, rows: int) -> Prepared:
        """Finds the ranks from the inputs of all training rows, also those of D_val, so that all trials of a sweep
        have the same ranks and need them only once. Labels are read only to leave out the prompts of a language
        model."""
        if _RULE not in run.found:
            began = time.perf_counter()
            components = run.processes.of_first(lambda: _Inputs(base, run).components())
            run.found[_RULE] = components, time.perf_counter() - began
        found, seconds = run.found[_RULE]
        record = RankRecord(run.adapted.lora.k, tuple(LayerRank(n, len(x)) for n, x in found.items()), rule=_RULE)
        prepared = recorded_lora(record, Path("--lora.rho"), base, run)
        assert isinstance(prepared.model, PeftModel)
        with torch.no_grad():
            for name, layer in lora_layers(prepared.model).items():
                weight: Any = layer.lora_A[ADAPTER].weight
                weight.copy_(found[name])
        return dataclasses.replace(prepared, seconds=seconds)

    def save(self, prepared: Prepared, run: Context) -> RankRecord | None:
        """Writes adapter/ and the other exports that the run asks for."""
        assert isinstance(prepared.model, PeftModel)
        save_all(prepared.model, run.tokenizer, run.folder, run.adapted, run.ends)
        return prepared.record


class _Inputs:
    """Runs the base model on the training rows, while PEFT's hooks read the inputs of its layers."""

    def __init__(self, base: BaseModel, run: Context) -> None:
        self.base = base
        self.run = run
        self.passes = 0
        self.causal = isinstance(run.task, Causal)
        lora = run.adapted.lora
        self.layers = lora_layers_of(base.model, lora)
        self.most = round(lora.r * lora.rho)
        """The most components that a layer may get."""
        self._refuse_narrow()

    def components(self) -> dict[str, Tensor]:
        """Layer -> the rows of its A [rank, inputs], which are principal components; no rows for a layer of rank 0."""
        run, lora = self.run, self.run.adapted.lora
        model: Any = self.base.model
        settings = lora_config(
            lora, run.task.peft_type, self.base.trained_whole, r=lora.r, target_modules=self.layers,
            init_lora_weights="eva", eva_config=EvaConfig(rho=lora.rho),
        )  # fmt: skip
        self._place()
        found = get_eva_state_dict(
            model, self._batches(), settings, forward_fn=self._forward, prepare_model_inputs_fn=self._places,
            prepare_layer_inputs_fn=_tokens, gather_distributed_inputs=False, show_progress_bar=False,
        )  # fmt: skip
        log.info("eva: found the ranks from the inputs of the layers in %d batches", self.passes)
        return {name: found[name].cpu() for name in self.layers}

    def _place(self) -> None:
        """Moves the model to the run's device, if PEFT can compute the components there."""
        device = self.run.compute.device
        if device.type == "mps":
            log.info("eva: reads the inputs of the layers on the CPU, as PEFT needs fp64, which mps does not have")
        elif self.run.config.model.dtype != "nf4":  # 4-bit weights are on the device already, and cannot be moved
            model: Any = self.base.model
            model.to(device)

    def _batches(self) -> DataLoader[Any]:
        rows: Any = self.run.data.train
        size = self.run.config.retrain.batch_size
        order = LengthGroupedOrder(rows["length"], size, self.run.config.seed)
        return DataLoader(rows, batch_size=size, sampler=order, collate_fn=self.run.data.collate)

    def _places(self, batch: Mapping[str, Tensor], settings: Any) -> Tensor:
        """Which tokens count, boolean [rows, tokens]: not padding nor, for language models, the prompt; as in PEFT."""
        places = batch["attention_mask"].bool()
        return places & (batch["labels"] != IGNORED) if self.causal else places

    def _forward(self, model: PreTrainedModel, batch: Mapping[str, Tensor]) -> None:
        """Runs one batch while PEFT's hooks read; skips a batch with fewer tokens than `most` components.

        Raises UserError when the components do not converge, Interrupted when a signal asked to stop.
        """
        if self.run.processes.size == 1:
            self.run.stop.check()
        self.passes += 1
        if self.passes > MOST_BATCHES:
            size = self.run.config.retrain.batch_size
            raise UserError(
                f"--lora.rho: up to {self.most} principal components of a layer do not converge in {MOST_BATCHES} "
                f"batches of {size} rows; allowed: a lower --lora.rho or --lora.r, or a larger --retrain.batch_size"
            )
        first = self.passes == 1  # in the first pass PEFT only looks for layers with the same inputs
        if not first and int(self._places(batch, None).sum()) < self.most:
            return
        inputs: dict[str, Any] = {name: value for name, value in batch.items() if name != "labels"}
        # The logits are not read, and those of a large vocabulary would fill the memory. logits_to_keep is given as a
        # position: given a count, Gemma 4 would also cut the inputs of some layers to that many tokens.
        if "logits_to_keep" in signature(model.forward).parameters:
            inputs["logits_to_keep"] = torch.zeros(1, dtype=torch.long, device=batch["input_ids"].device)
        model(**inputs)

    def _refuse_narrow(self) -> None:
        """Raises UserError if a layer is too narrow for the `most` components that it may get."""
        shapes = layer_shapes(self.base.model)
        narrow = min(self.layers, key=lambda name: min(shapes[name]))
        if self.most > min(shapes[narrow]):
            raise UserError(
                f"--lora.rho: {self.run.adapted.lora.rho:g} with --lora.r {self.run.adapted.lora.r} lets a layer have "
                f"rank {self.most}, but {narrow} has at most {min(shapes[narrow])}; allowed: a lower "
                f"--lora.rho or --lora.r"
            )


def _tokens(inputs: Any, places: Tensor, name: str) -> Tensor:
    """The inputs of a layer at the tokens that count, [tokens, inputs]; at all tokens if the layer has other rows or
    tokens than the batch (a decoder, a pooler). Experts get the tokens of all rows in one list."""
    found: Tensor = inputs[0] if isinstance(inputs, tuple | list) else inputs
    if found.dim() == 2 and len(found) == places.numel():
        return found[places.flatten()]
    return found[places] if found.shape[:2] == places.shape else found.reshape(-1, found.shape[-1])
